"""Probes of diagonal networks against the definitions, and the two identities of a step, written out."""

import numpy as np
import pytest
import torch

from descent import Task, data, models, sweep

DATA = data.sparse_regression(20, 30, 3, seed=0)
TASK = Task(models.DiagonalLinear(30), DATA, loss="mse")
PROBES = ["weights", "coefficients", "truth_error", "support_size", "effective_scale", "scale_change"]


def test_against_the_definitions():
    run = sweep(TASK, lr=0.05, batch_size=4, init_scale=[0.1, 0.5], seed=[0, 1], steps=40, record=PROBES, record_every=20, dtype=torch.float64)
    u, v = np.split(run.weights.values, 2, axis=-1)
    beta = u**2 - v**2
    np.testing.assert_allclose(run.coefficients, beta)
    np.testing.assert_allclose(run.truth_error, ((beta - DATA.truth.numpy()) ** 2).sum(-1))
    np.testing.assert_array_equal(run.support_size, (abs(beta) > 0.1).sum(-1))
    np.testing.assert_allclose(run.effective_scale, np.sqrt(abs(u * v)))
    start = run.init_scale.values[:, None, None]
    np.testing.assert_allclose(run.scale_change, np.log(np.sqrt(abs(u * v)) / start[..., None]).mean(-1), atol=1e-7)


@pytest.mark.parametrize("penalty", [None, (0.3, 0.2)])
def test_every_step_obeys_the_identities(penalty):
    extra = {} if penalty is None else dict(optimizer="gradient_penalty", penalty=penalty[0], ascent=penalty[1])
    run = sweep(TASK, lr=0.03, init_scale=0.3, steps=30, record="weights", record_every=1, dtype=torch.float64, **extra)
    x, y = DATA.x.double().numpy(), DATA.y.double().numpy().ravel()
    u, v = np.split(run.weights.values[0], 2, axis=-1)

    def gradient(u, v):
        return ((u**2 - v**2) @ x.T - y) @ x / len(y)

    g = gradient(u, v)[:-1]
    if penalty is None:
        h, common = g, 0.0
    else:
        gamma, rho = penalty
        ahead = gradient(u[:-1] * (1 + 2 * rho * g), v[:-1] * (1 - 2 * rho * g))
        h, common = g + gamma / rho * (ahead - g), 4 * 0.03 * gamma * g * ahead
    np.testing.assert_allclose(u[1:] / u[:-1], 1 - 2 * 0.03 * h - common, rtol=1e-9)
    np.testing.assert_allclose(v[1:] / v[:-1], 1 + 2 * 0.03 * h - common, rtol=1e-9)


def test_the_error_is_twice_the_loss_on_new_examples():
    d = data.sparse_regression(20, 30, 3, test=100_000, seed=0)
    run = sweep(Task(models.DiagonalLinear(30), d, loss="mse"), lr=0.05, init_scale=0.3, steps=50, record=["truth_error", "test_loss"], record_every=[10, 50])
    np.testing.assert_allclose(run.truth_error, 2 * run.test_loss, rtol=0.02)


def test_what_has_no_truth_or_no_coefficients_is_refused():
    unknown = Task(models.DiagonalLinear(1), data.targets([1.0]), loss="mse")
    with pytest.raises(ValueError, match="no true coefficients"):
        sweep(unknown, steps=1, record="truth_error")
    with pytest.raises(ValueError, match="DiagonalLinear, not MLP"):
        sweep(Task(models.MLP((30, 1)), DATA, loss="mse"), steps=1, record="coefficients")
