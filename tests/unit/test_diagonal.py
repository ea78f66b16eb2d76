"""What a diagonal network's path says of its program: against networks, by hand, and where the answer is known."""

import numpy as np
import pytest
import torch
import xarray as xr

from descent import Task, data, diagonal, models, sweep, theory


def ends(scale, beta):
    shape = {"seed": [3], "lr": [0.1]}
    dims = ("seed", "lr", "coordinate")
    return xr.Dataset({"coefficients": (dims, beta[None, None]), "effective_scale": (dims, scale[None, None])}, coords=shape)


def test_the_program_with_a_runs_own_scales_is_found():
    x, y, truth = diagonal.problem(3)
    scale = np.exp(np.random.default_rng(0).normal(-2, 0.7, 100))
    run = ends(scale, theory.min_hyperbolic_entropy(x, y, scale))
    gaps = diagonal.program_gaps(run, 0.1).sel(seed=3, lr=0.1)
    assert list(gaps.scale.values) == list(diagonal.SCALES) and gaps[3] < 1e-9 < 0.05 < gaps[:3].min()
    other = theory.min_hyperbolic_entropy(x, y, np.r_[scale[50:], scale[:50]])
    assert float(gaps[2]) == pytest.approx(np.linalg.norm(run.coefficients[0, 0] - other) / np.linalg.norm(run.coefficients))
    own, even = diagonal.program_errors(run.sel(lr=0.1), 0.1)
    error = [np.square(theory.min_hyperbolic_entropy(x, y, a) - truth).sum() for a in (scale, np.exp(np.log(scale).mean()), 0.1)]
    np.testing.assert_allclose((own[0], even[0]), (error[0] / error[2], error[1] / error[2]), rtol=1e-9)


def test_unevenness_by_hand():
    scale = xr.DataArray(np.exp([-3.0, -1.0, -1.0, 0.0]), dims="coordinate")
    assert float(diagonal.unevenness(scale, 1.0, support=2)) == pytest.approx((-2 + 0.5) / 1.25)


def test_the_exponent_of_the_error_is_that_of_the_dual():
    slope, dual = diagonal.exponents(*diagonal.problem(1))
    assert slope == pytest.approx(dual, rel=0.02) and dual < 4


def test_steps_outside_the_identities_are_counted():
    x, y, _ = diagonal.problem(2)
    paths = xr.Dataset({"coefficients": (("seed", "lr", "step", "coordinate"), np.zeros((1, 2, 2, 100)))}, coords={"seed": [2], "lr": [1e-6, 0.05], "step": [0, 10]})
    share = np.mean([(2 * 0.05 * abs(label * row) > 1).any() for row, label in zip(x, y)])
    np.testing.assert_allclose(diagonal.steps_outside(paths).sel(seed=2), [0.0, 10 * share])


@pytest.mark.parametrize("ascent", [0.001, 0.5])
def test_the_penalty_shrinks_the_scale_as_its_rate_says(ascent):
    runs = [
        sweep(Task(models.DiagonalLinear(100), data.sparse_regression(40, 100, 5, seed=s), loss="mse"), lr=0.0005, init_scale=0.3, optimizer="gradient_penalty", penalty=[0.1, 0.5],
              ascent=[ascent], seed=[s], steps=1200, record=["coefficients", "effective_scale", "scale_change"], record_every=10, dtype=torch.float64)
        for s in (0, 1)
    ]  # fmt: skip
    run = xr.concat(runs, dim="seed")
    law, exact = diagonal.penalty_shrinking(run, 0.0005)
    np.testing.assert_allclose(run.scale_change.isel(step=-1) / law, 1.0, rtol=0.01)
    assert (abs(exact / law - 1) > 0.2).all() == (ascent == 0.5)
