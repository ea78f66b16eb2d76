"""Landscapes, and what is read off curves, against what is known of them."""

import numpy as np
import pytest
import torch
import xarray as xr

from descent import Task, data, landscapes, models, rates, sweep
from descent.probes.curvature import hessian


def value(task, *w):
    part = task.part("train", dtype=torch.float64)
    return task.losses_and_gradients(torch.tensor([w], dtype=torch.float64), part.x, part.y)


@pytest.mark.parametrize(
    ("task", "w", "loss", "gradient"),
    [
        (landscapes.bowl((4.0, 1.0), noise=0.5), (1.0, -2.0), 4.0, (4.0, -2.0)),
        (landscapes.kink(2, noise=1.0), (0.5, -2.0), 2.5, (1.0, -1.0)),
        (landscapes.quartic(), (2.0,), 4.0, (8.0,)),
        (landscapes.ripples(), (np.pi / 2,), np.pi**2 / 4 + 3, (np.pi,)),
        (landscapes.hyperbola((1.0, 1.0), noise=0.3), (2.0, 1.0), 0.5, (1.0, 2.0)),
        (landscapes.crooked(), (-2.0, 1.0), 2.0, (-2.0, -1.0)),
    ],
)
def test_noise_leaves_the_landscape_alone(task, w, loss, gradient):
    found, slope = value(task, *w)
    assert found.item() == pytest.approx(loss, abs=1e-9)
    np.testing.assert_allclose(slope[0], gradient, atol=1e-9)


def test_the_curve_of_minima_has_the_curvature_it_says():
    task = landscapes.hyperbola((2.0, 0.5))
    eigenvalues = torch.linalg.eigvalsh(hessian(task, torch.tensor([2.0, 0.5], dtype=torch.float64)))
    np.testing.assert_allclose(eigenvalues, [0, 4.25], atol=1e-6)


def test_contraction_of_a_geometric_curve():
    t = np.arange(0, 200, 5)
    loss = xr.DataArray([0.9**t, 0.5**t, np.full(t.size, np.nan)], dims=("lr", "step"), coords={"step": t})
    np.testing.assert_allclose(rates.contraction(loss)[:2], [0.9, 0.5])
    np.testing.assert_allclose(rates.contraction(loss, low=1e-6, high=0.5)[:2], [0.9, 0.5])
    assert np.isnan(rates.contraction(loss)[2])
    bump = xr.DataArray([1e-3, 1e-9, 1e-3, 1e-4], dims="step", coords={"step": range(4)})
    assert np.isnan(rates.contraction(bump, low=1e-6)), "nothing counts after the window was left"


def test_the_rates_of_the_axes_are_those_of_the_dense_hessian_at_zero_loss():
    few = data.linear_regression(4, [1.0] * 6, noise=1.0, seed=1)
    task = Task(models.MLP((6, 32, 1), activation="tanh"), few, "mse")
    run = sweep(task, lr=[0.05, 0.15], seed=[0, 1], steps=2000, record=["loss", "weights"], record_every=[2000], dtype=torch.float64)
    assert float(run.loss.max()) < 1e-20
    found = rates.axis_rates(task, run.weights.isel(step=-1))

    def loss(w):
        return ((task.model.apply(task.unflatten(w[None]), few.x.double().T)[0] - few.y.double().T) ** 2).sum() / 2 / 4

    for lr, seed in [(0.05, 0), (0.15, 1)]:
        w = torch.tensor(run.weights.sel(lr=lr, seed=seed).isel(step=-1).values)
        curvatures = torch.linalg.eigvalsh(torch.func.hessian(loss)(w))[-4:]
        np.testing.assert_allclose(found.sel(lr=lr, seed=seed), 2 * np.log(np.abs(1 - lr * curvatures.numpy())), rtol=1e-6)
    with pytest.raises(ValueError, match="needs the loss 'mse'"):
        rates.axis_rates(landscapes.bowl((1.0,)), run.weights)


def test_path_length_is_the_distance_on_a_straight_line():
    run = sweep(landscapes.bowl((1.0,), start=2.0), lr=0.1, steps=400, record=["gradient_norm", "distance"], record_every=1, cache=False)
    assert float(rates.path_length(run.gradient_norm, run.lr)[0]) == pytest.approx(float(run.distance[0, -1]), rel=1e-4)
    thin = run.gradient_norm.isel(step=slice(None, None, 10))
    assert float(rates.path_length(thin, run.lr)[0]) > float(run.distance[0, -1])


def test_running_average_counts_iterates_from_one():
    weights = xr.DataArray([9.0, 1.0, 2.0, 6.0], dims="step", coords={"step": range(4)})
    np.testing.assert_allclose(rates.running_average(weights), [1.0, 1.5, 3.0])
    with pytest.raises(ValueError, match="every step"):
        rates.running_average(weights.isel(step=[0, 2]))
