"""The Moreau envelope against a general-purpose constrained solver."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from descent import moreau


def oracle(a, b, w, t):
    """Proximal point of the mean of |(a v)^2 - b|: each absolute value is a slack between two constraints."""
    n, d = a.shape

    def objective(z):
        return z[d:].mean() + ((z[:d] - w) ** 2).sum() / (2 * t)

    def slope(z):
        return np.r_[(z[:d] - w) / t, np.full(n, 1 / n)]

    def side(sign):
        return {
            "type": "ineq",
            "fun": lambda z: z[d:] - sign * ((a @ z[:d]) ** 2 - b),
            "jac": lambda z: np.c_[-sign * 2 * (a @ z[:d])[:, None] * a, np.eye(n)],
        }

    start = np.r_[w, np.abs((a @ w) ** 2 - b)]
    options = {"ftol": 1e-14, "maxiter": 500}
    return minimize(objective, start, jac=slope, constraints=[side(1), side(-1)], method="SLSQP", options=options).x[:d]


def test_envelope_gradient_agrees_with_a_constrained_solver():
    task = moreau.phase_retrieval(40, 5, outliers=0.2, seed=3)
    a, b = task.data.x[:, :-1].numpy(), task.data.x[:, -1].numpy()
    t = 0.25 / np.linalg.eigvalsh(a.T @ a / len(a))[-1]
    w = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = moreau.envelope_gradient(task, w, t, steps=3000)
    for row, point in zip(found.numpy(), w.numpy()):
        np.testing.assert_allclose(row, (point - oracle(a, b, point, t)) / t, atol=1e-4)
    quick = moreau.envelope_gradient(task, w, t, steps=50)
    assert (quick - found).norm() < 1e-2 * found.norm()


def test_prox_of_one_example_beats_a_fine_grid():
    model = moreau.phase_retrieval(10, 1, seed=1).model
    grid = torch.linspace(-4, 4, 400_001, dtype=torch.float64)
    for w, b, lr in [(0.7, 1.0, 0.1), (-2.0, 0.5, 0.3), (0.01, 2.0, 0.7), (1.0, 1.0, 5.0), (0.3, 0.2, 0.5)]:
        x = torch.tensor([[1.5], [b]], dtype=torch.float64)
        found = model.prox(torch.tensor([[w]], dtype=torch.float64), x, torch.tensor([[lr]], dtype=torch.float64))
        values = ((1.5 * grid) ** 2 - b).abs() + (grid - w) ** 2 / (2 * lr)
        value = ((1.5 * found) ** 2 - b).abs() + (found - w) ** 2 / (2 * lr)
        assert value.item() <= values.min().item() + 1e-9


def test_the_prox_linear_step_beats_a_fine_grid_on_its_model():
    model = moreau.phase_retrieval(10, 1, seed=1, model="linear").model
    grid = torch.linspace(-6, 6, 600_001, dtype=torch.float64)
    for w, b, lr in [(0.7, 1.0, 0.1), (-2.0, 0.5, 0.3), (0.01, 2.0, 0.7), (1.0, 1.0, 5.0), (0.3, 0.2, 0.5)]:
        x = torch.tensor([[1.5], [b]], dtype=torch.float64)
        found = model.prox(torch.tensor([[w]], dtype=torch.float64), x, torch.tensor([[lr]], dtype=torch.float64))

        def modelled(v, w=w, b=b, lr=lr):
            return ((1.5 * w) ** 2 - b + 2 * 1.5**2 * w * (v - w)).abs() + (v - w) ** 2 / (2 * lr)

        assert modelled(found).item() <= modelled(grid).min().item() + 1e-9
    with pytest.raises(ValueError, match="one of exact, linear, got 'cubic'"):
        moreau.phase_retrieval(10, 1, model="cubic")


def test_gradient_is_zero_at_a_solution_without_outliers():
    task = moreau.phase_retrieval(60, 4, seed=2)
    a, b = task.data.x[:, :-1], task.data.x[:, -1]
    # the solution is the leading direction of sum_i b_i a_i a_i^T, refined by proximal steps of all examples
    w = torch.linalg.eigh((b[:, None] * a).T @ a)[1][:, -1]
    for _ in range(200):
        w = w - 0.05 * moreau.envelope_gradient(task, w, 0.05)
    assert moreau.envelope_gradient(task, w, 0.05).norm() < 1e-3
    torch.testing.assert_close((a @ w) ** 2, b, atol=1e-3, rtol=0)


@pytest.mark.parametrize("t", [-1.0, 0.0, 10.0, float("nan")])
def test_parameters_outside_the_theory_are_refused(t):
    task = moreau.phase_retrieval(60, 4)
    with pytest.raises(ValueError, match="must lie between 0 and"):
        moreau.envelope_gradient(task, torch.zeros(4), t)


@pytest.mark.parametrize("bad", [{"n": 0, "dim": 3}, {"n": 5, "dim": 0}, {"n": 5, "dim": 3, "outliers": 1.5}])
def test_impossible_problems_are_refused(bad):
    with pytest.raises(ValueError, match="phase_retrieval"):
        moreau.phase_retrieval(**bad)


def test_stationarity_falls_with_the_steps_and_says_where_runs_diverged():
    task = moreau.phase_retrieval(60, 4, outliers=0.1)
    found = moreau.stationarity(task, [30, 1000], [0.1, 100.0], ["sgd", "proximal_point"], [0, 1, 2])
    assert found.dims == ("K", "scale", "optimizer")
    assert (found.sel(K=1000, scale=0.1) < 0.5 * found.sel(K=30, scale=0.1)).all()
    assert np.isnan(found.sel(K=1000, scale=100.0, optimizer="sgd"))
    assert np.isfinite(found.sel(optimizer="proximal_point")).all()
