"""What the exercises on signal propagation take for right agrees with a computation of another kind, and predictions with any run."""

import numpy as np
import pytest
import xarray as xr

from descent import chaos, theory
from descent.exercises import check

NAME = "signal-propagation/{}".format


def sizes(ratio):
    """A run in which halving the weights makes the gradient of the first matrix smaller by `ratio`."""
    values = np.array([[[[1.0, 7.0]]], [[[1 / ratio, 7.0]]]])
    return {"layer_gradient_size": xr.DataArray(values, {"init_scale": [1.0, 0.5]}, ["init_scale", "seed", "step", "layer"])}


@pytest.mark.parametrize("shown, ratio", [("1/2", 2.1), ("1/128", 120.0), ("1/256", 256.0), ("1/512", 500.0)])
def test_halving_is_read_off_the_run(shown, ratio):
    assert check(NAME(1), shown, lambda: xr.Dataset(sizes(ratio)))
    assert not check(NAME(1), "1/2" if shown != "1/2" else "1/256", lambda: xr.Dataset(sizes(ratio)))


def test_the_factor_per_layer_is_that_of_random_matrices():
    rng, z, change = np.random.default_rng(0), np.ones(2000), np.random.default_rng(1).normal(size=2000)
    lengths = []
    for _ in range(12):
        W = 2.5 * rng.normal(size=(2000, 2000)) / 2000**0.5
        z, change = W @ np.tanh(z), W @ (change / np.cosh(z) ** 2)
        lengths.append(np.log(np.mean(change**2)))
    assert check(NAME(2), np.exp((lengths[-1] - lengths[3]) / 8))


def test_the_edge_is_where_correlations_begin_to_fall():
    low, high = 1.0, 3.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if theory.correlation_fixed_point(middle, 0.5) > 1 - 1e-6 else (low, middle)
    assert check(NAME(3), low)


def test_the_depth_scale_is_that_of_the_iteration():
    weight, bias = 2.0, 0.3
    q, c = theory.variance_fixed_point(weight, bias), [0.7]
    for _ in range(120):
        c.append(float(theory.correlation_map(c[-1], q, weight, bias)))
    away = np.array(c) - c[-1]
    assert check(NAME(4), -1 / np.log(away[41] / away[40]))


CLIPPINGS = {
    "nothing changes": [0.1, 0.2],
    "it is set to zero": [0.0, 0.0],
    "it is multiplied up to norm 1": [3.0, 6.0],
    "its direction changes and its norm stays": [0.2, -0.1],
}


@pytest.mark.parametrize("shown", CLIPPINGS)
def test_clipping_is_read_off_the_run(shown):
    weights = np.zeros((2, 1, 2, 2))
    weights[:, 0, 1] = CLIPPINGS[shown], CLIPPINGS["nothing changes"]
    norms = np.full((2, 1, 2), 0.2)
    run = xr.Dataset(
        {"weights": (("clip", "seed", "step", "parameter"), weights), "gradient_norm": (("clip", "seed", "step"), norms)},
        {"clip": [1.0, np.inf]},
    )
    for option in CLIPPINGS:
        assert check(NAME(5), option, lambda: run).right is (option == shown)


def test_an_exponent_of_other_starts_is_right_and_its_sum_is_named():
    growth = chaos.logistic(np.linspace(0.2, 0.8, 50), 3.8, 1000)[1].mean(1)[-1]
    assert check(NAME(6), growth / 1000)
    assert "the whole computation" in str(check(NAME(6), growth)) and check(NAME(6), growth).share == check(NAME(6), 1e6).share == 0
    assert check(NAME(6), -growth / 1000).share == 0
