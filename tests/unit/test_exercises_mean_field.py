"""What the mean-field exercises take for right agrees with simulations, and predictions with any run."""

import numpy as np
import pytest
import xarray as xr

from descent import meanfield as mf
from descent.exercises import check

NAME = "mean-field/{}".format


@pytest.mark.parametrize(
    "shown, speed",
    [("the same path, at half the speed", 0.5), ("the same path, at the same speed", 1.0), ("the same path, at twice the speed", 2.0), ("another path", None)],
)
def test_the_speed_is_read_off_the_run(shown, speed):
    step = np.arange(0, 801, 10)
    loss = lambda t: xr.DataArray(1 / (1 + (t / 100) ** 2) ** 2, {"step": step}, ["step"])  # noqa: E731
    wide = loss(step * speed) if speed else loss(0 * step) + 1
    assert check(NAME(1), shown, lambda: {500: loss(step), 1000: wide})


def test_the_rescaled_constants_follow_the_step_of_a_neuron():
    width, lr, l2, temperature = 200, 100, 1e-4, 5e-7
    per_neuron = lr / width, l2 * width, temperature * width
    rescaled = per_neuron[0] * 800, per_neuron[1] / 800, per_neuron[2] / 800
    assert check(NAME(2), rescaled)
    assert check(NAME(2), (lr, l2, temperature)).share == 0


@pytest.mark.parametrize(
    "shown, ratio",
    [("is ten times smaller", 9.0), ("is about three times smaller", 3.0), ("is hardly smaller", 1.1), ("is about three times larger", 0.3)],
)
def test_the_distance_is_read_off_the_run(shown, ratio):
    assert check(NAME(3), shown, lambda: {100: ratio, 1000: 1.0})


def test_gates_are_as_many_as_random_vectors_find():
    points = np.random.default_rng(5).normal(size=(20, 2))
    assert check(NAME(4), len(np.unique(mf.gates_of(points, np.random.default_rng(1).normal(size=(200_000, 2))), axis=0)))


def test_a_single_example_is_what_the_convex_program_finds():
    x = np.array([[0.7, 2.4]])  # of length 2.5
    v = mf.convex_program(x, np.array([3.0]), np.array([[True]]), 0.6, iterations=5000)
    assert check(NAME(5), (v[0] - v[1]).sum(0) @ x[0])


OTHERS = {
    "there are hardly any: the kinks have moved to the knots": (1.0, 1.0),
    "they have shrunk": (0.4, 0.1),
    "they are as large as before, and their slopes cancel": (0.4, 1.0),
    "they have grown": (0.4, 3.0),
}


@pytest.mark.parametrize("shown", OTHERS)
def test_the_fate_of_the_other_neurons_is_read_off_the_run(shown):
    width, (moved, factor) = 50, OTHERS[shown]
    places = np.linspace(-0.9, 0.9, width)
    late = np.where(np.arange(width) < moved * width, 0.2, np.where(abs(places - 0.2) < 0.1, 0.9, places))

    def weights(kinks, size):  # (a, w, b) with the kink at -b / w
        return np.concatenate([np.stack([np.full(width, size), -size * kinks], 1).ravel(), np.full(width, size)])

    run = np.array([[weights(places, 1.0)], [weights(late, factor)]]), np.array([0.2])
    for option in OTHERS:
        assert check(NAME(6), option, lambda: run).right is (option == shown)


def test_the_silencing_penalty_is_where_the_cold_law_goes_out():
    x = np.array([-1.0, -0.8, -0.5, -0.1, 0.2, 0.5, 0.8, 1.0])
    y = 1.5 * abs(x) - 0.8
    low, high = 0.01, 1.0
    for _ in range(12):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if abs(mf.gibbs(x, y, middle, 1e-7)(x)).max() > 1e-4 else (low, middle)
    assert check(NAME(7), low)
