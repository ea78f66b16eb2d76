"""What the exercises on the fractal boundary take for right agrees with brute force, and predictions with any run."""

import numpy as np
import pytest
import xarray as xr

from descent.boxcount import box_dimension, known_sets
from descent.exercises import check
from descent.trainability import cubic_orbit

NAME = "fractal-boundary/{}".format
DIMENSIONS = {name: box_dimension(points) for name, (points, _) in known_sets(97).items()}


@pytest.mark.parametrize(
    "shown, piece",
    [("stays close to one", "circle"), ("rises clearly above one", "Sierpinski triangle"), ("falls clearly below one", None)],
)
def test_the_magnified_border_is_read_off_the_run(shown, piece):
    dots = np.zeros((97, 97), dtype=bool)
    dots[13, 55] = dots[70, 20] = True
    found = DIMENSIONS[piece] if piece else box_dimension(dots)
    assert check(NAME(1), shown, lambda: (DIMENSIONS["line"], found))


@pytest.mark.parametrize("shown, slower", [("about as long", 1), ("about twice as long", 2), ("about a thousand times as long", 900), ("for ever", np.inf)])
def test_the_time_to_part_is_read_off_the_run(shown, slower):
    t = np.arange(20_000)[:, None] + np.zeros(5)
    run = {1e-7: (t > 15).astype(float), 1e-14: (t > 15 * slower).astype(float)}
    assert check(NAME(3), shown, lambda: run)


def test_above_the_bound_no_minimum_is_stable_and_below_it_one_is():
    a = np.geomspace(0.01, 100, 100_001)
    sharpest = lambda readout_lr: (0.04 / a**2 + readout_lr * a**2).min()  # noqa: E731
    low, high = 0.1, 1000.0
    for _ in range(60):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if sharpest(middle) < 2 else (low, middle)
    assert check(NAME(4), low)


def test_the_border_by_bisection_is_right():
    def bisected(first, last, lr):
        low, high = 0.0, 1e3
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if np.linalg.eigvalsh(lr * first + middle * last)[-1] < 2 else (low, middle)
        return low

    assert check(NAME(5), bisected)
    assert not check(NAME(5), 1.92)


def verdicts(name, escaped):
    shape = (97, 97)
    diverged = np.where(np.zeros(shape, dtype=bool) if escaped is None else known_sets(97)[escaped][0], 7.0, np.nan)
    return xr.Dataset({"inside": (("lr", "readout_lr"), known_sets(97)[name][0]), "diverged_at": (("lr", "readout_lr"), diverged)})


@pytest.mark.parametrize(
    "shown, escaped",
    [("a smooth curve", "circle"), ("as rough as that of the first verdict", "Sierpinski carpet"), ("missing: no orbit diverges", None)],
)
def test_the_border_of_divergence_is_read_off_the_run(shown, escaped):
    assert check(NAME(7), shown, lambda: verdicts("noise", escaped))


def test_at_the_last_stable_rate_the_cubic_map_keeps_its_orbits():
    assert np.isfinite(cubic_orbit(np.linspace(-1.4, 1.4, 101), 2.0, 20_000)).all()  # so that the runs of the exercise part and do not escape
