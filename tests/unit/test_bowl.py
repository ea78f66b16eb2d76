"""Closed forms of the quadratic bowl against simulation and against roots of polynomials."""

import numpy as np
import pytest
import torch

from descent import Task, bowl, data, models, sweep


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_expected_loss_is_exact_without_noise(momentum):
    task = Task(models.Quadratic((1.0, 0.1), start=(1.0, -2.0)), data.nothing(2), loss="output")
    ds = sweep(task, lr=1.3, optimizer="heavy_ball", momentum=momentum, steps=60, record_every=5, dtype=torch.float64, cache=False)
    predicted = bowl.expected_loss(ds.step, (1.0, 0.1), (1.0, -2.0), 1.3, momentum)
    np.testing.assert_allclose(ds.loss.squeeze().values, predicted, rtol=1e-9)


def test_expected_loss_with_noise_is_the_mean_over_many_runs():
    task = Task(models.Quadratic((1.0, 0.2), start=(1.0, 1.0)), data.tilts(512, (0.5, 1.0)), loss="output")
    ds = sweep(task, lr=0.5, batch_size=4, optimizer="heavy_ball", momentum=0.5, seed=range(2000), steps=40,
               record_every=[5, 20, 40], sampling="replacement", cache=False)  # fmt: skip
    predicted = bowl.expected_loss(ds.step, (1.0, 0.2), 1.0, 0.5, 0.5, (0.5, 1.0), 4)
    standard_error = ds.loss.std("seed") / 2000**0.5
    assert (np.abs(ds.loss.mean("seed") - predicted) < 4 * standard_error).all()


def test_expected_loss_beyond_the_range_of_floats_is_infinite():
    assert bowl.expected_loss([0, 5000], 1.0, 1.0, lr=10.0)[1] == np.inf
    with pytest.raises(ValueError, match="step=-1"):
        bowl.expected_loss([-1], 1.0, 1.0, lr=0.1)


def test_rate_is_the_largest_root():
    for lr in (0.1, 1.0, 1.9, 3.5):
        for momentum in (0.0, 0.3, 0.9):
            roots = [np.abs(np.roots([1, -(1 + momentum - lr * c), momentum])).max() for c in (1.0, 0.05)]
            np.testing.assert_allclose(bowl.rate((1.0, 0.05), lr, momentum), max(roots), rtol=1e-6)
    assert bowl.rate((1.0, 0.05), np.array([0.1, 2.0])).shape == (2,)
