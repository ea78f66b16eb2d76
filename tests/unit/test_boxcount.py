"""The box-counting dimension, held to sets whose dimension is known and to counting by hand."""

import numpy as np
import pytest

from descent.boxcount import SAMPLING, box_dimension, held_out, known_sets, mixed_squares, scales


@pytest.mark.parametrize("points", [97, 129, 193])
@pytest.mark.parametrize("name", ["line", "circle", "Koch snowflake", "Sierpinski triangle", "Sierpinski carpet", "noise"])
def test_known_dimensions(name, points):
    inside, true = known_sets(points)[name]
    found = box_dimension(inside)
    assert found.value == pytest.approx(true, abs=0.13)  # so many points see no more
    assert abs(found.value - true) < found.error


def test_the_sampling_error_is_the_largest_miss_of_a_small_picture():
    misses = [abs(box_dimension(points).value - true) for points, true in known_sets(49).values()]
    assert 0.9 * SAMPLING < max(misses) < SAMPLING


@pytest.mark.parametrize("points", [49, 97, 145])
def test_a_set_that_fixed_nothing_is_within_its_error(points):
    inside, true = held_out(points)
    found = box_dimension(inside)
    assert abs(found.value - true) < 1.2 * found.error
    assert inside.mean() == pytest.approx(0.4, abs=0.3) and not inside[0].any() and not inside[:, -1].any()


def test_a_sierpinski_triangle_of_the_right_size_is_exact():
    """On 2^k points a side 3^k are inside; every square of side 2^j is met by itself scaled: N falls by 3 where s doubles."""
    found = box_dimension(known_sets(257)["Sierpinski triangle"][0])
    assert found.value == pytest.approx(np.log(3) / np.log(2), abs=0.03)


@pytest.mark.parametrize("side", [1, 2, 3, 8])
def test_mixed_squares_by_hand(side):
    inside = np.random.default_rng(1).random((25, 25)) < 0.9
    expected = [[0 < inside[i : i + side + 1, j : j + side + 1].mean() < 1 for j in range(0, 24, side)] for i in range(0, 24, side)]
    np.testing.assert_array_equal(mixed_squares(inside, side), expected)


def test_the_range_depends_on_the_size_alone():
    assert scales(97).tolist() == [2, 3, 4, 6, 8, 12]
    assert scales(257).tolist() == [2, 4, 8, 16, 32]
    found = box_dimension(known_sets(97)["noise"][0])
    assert found.sides.tolist() == scales(97).tolist() and found.mixed[0] == mixed_squares(known_sets(97)["noise"][0], 2).sum()


def test_it_does_not_matter_which_side_is_inside_nor_how_the_picture_lies():
    inside = known_sets(97)["Koch snowflake"][0]
    value = box_dimension(inside).value
    assert box_dimension(~inside).value == pytest.approx(value, rel=1e-12) == pytest.approx(box_dimension(inside.T).value, rel=1e-12)
    assert box_dimension(inside[::-1]).value == pytest.approx(value, abs=1e-9)


def test_the_error_covers_the_scatter_of_random_lines():
    """Of straight lines in random directions most estimates are within two errors of one."""
    generator, i = np.random.default_rng(2), np.arange(97)
    angles = generator.uniform(0, 2 * np.pi, 40)
    found = [box_dimension((i[:, None] - 48) * np.cos(a) + (i[None] - 48) * np.sin(a) > generator.uniform(-20, 20)) for a in angles]
    assert np.mean([abs(f.value - 1) <= 2 * f.error for f in found]) > 0.85
    assert np.mean([f.value for f in found]) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    "inside, words",
    [
        (np.zeros((97, 97)), "booleans"), (np.zeros((97, 96), bool), r"\(n, n\)"), (np.zeros(97, bool), "shape"),
        (np.ones((97, 97), bool), "no border"), (np.zeros((97, 97), bool), "no border"), (np.eye(12, dtype=bool), "allowed: four"),
    ],
)  # fmt: skip
def test_what_is_no_picture_is_refused(inside, words):
    with pytest.raises(ValueError, match=words):
        box_dimension(inside)
