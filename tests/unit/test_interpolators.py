"""Which interpolator: the hyperbolic entropy and its minimizer against optimality conditions, limits and a solver."""

import numpy as np
import pytest
import torch
from scipy import optimize

from descent import Task, data, models, sweep, theory


def problem(seed=0, n=12, dim=30):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, dim))
    return x, x @ np.r_[1.0, -1.0, np.zeros(dim - 2)]


def test_its_gradient_is_arsinh():
    beta, scale, h = np.array([0.3, -1.2, 0.0]), np.array([0.1, 0.5, 2.0]), 1e-6
    steps = h * np.eye(3)
    slope = (theory.hyperbolic_entropy(beta + steps, scale) - theory.hyperbolic_entropy(beta - steps, scale)) / (2 * h)
    np.testing.assert_allclose(slope, np.arcsinh(beta / (2 * scale**2)), atol=1e-7)
    assert theory.hyperbolic_entropy(np.zeros(3), scale) == 0


def test_its_limits_are_the_norms():
    beta = np.array([1.0, -2.0, 0.5])
    np.testing.assert_allclose(theory.hyperbolic_entropy(beta, 100.0), (beta**2).sum() / (4 * 100.0**2), rtol=1e-6)
    # |beta|_1 log(1 / scale^2) + sum |beta| (log |beta| - 1), up to scale^2
    small = abs(beta).sum() * np.log(1e12) + (abs(beta) * (np.log(abs(beta)) - 1)).sum()
    np.testing.assert_allclose(theory.hyperbolic_entropy(beta, 1e-6), small, rtol=1e-9)


@pytest.mark.parametrize("scale", [1e-8, 1e-4, 0.01, 0.1, 1.0, 50.0, "each its own"])
def test_the_minimizer_fits_and_satisfies_the_optimality_conditions(scale):
    x, y = problem()
    scale = np.exp(np.random.default_rng(1).normal(-3, 1.5, 30)) if scale == "each its own" else scale
    beta = theory.min_hyperbolic_entropy(x, y, scale)
    np.testing.assert_allclose(x @ beta, y, atol=1e-10)
    slope = np.arcsinh(beta / (2 * np.asarray(scale) ** 2))
    outside = slope - x.T @ np.linalg.lstsq(x.T, slope, rcond=None)[0]
    assert abs(outside).max() < 1e-9 * abs(slope).max()


def test_the_minimizer_is_that_of_a_general_solver():
    x, y = problem(n=4, dim=8)
    found = optimize.minimize(
        theory.hyperbolic_entropy, theory.min_l2(x, y), args=(0.2,), jac=lambda b, s: np.arcsinh(b / (2 * s**2)), method="SLSQP",
        constraints={"type": "eq", "fun": lambda b: x @ b - y, "jac": lambda b: x}, options={"ftol": 1e-14, "maxiter": 1000},
    )  # fmt: skip
    np.testing.assert_allclose(theory.min_hyperbolic_entropy(x, y, 0.2), found.x, atol=1e-5)


def test_between_the_minimum_norms():
    x, y = problem()
    l1, l2 = theory.min_l1(x, y), theory.min_l2(x, y)
    np.testing.assert_allclose(x @ l1, y, atol=1e-9)
    np.testing.assert_allclose(l1, np.r_[1.0, -1.0, np.zeros(28)], atol=1e-9)
    np.testing.assert_allclose(l2, x.T @ np.linalg.solve(x @ x.T, y), atol=1e-10)
    np.testing.assert_allclose(theory.min_hyperbolic_entropy(x, y, 1e-7), l1, atol=1e-5)
    np.testing.assert_allclose(theory.min_hyperbolic_entropy(x, y, 100.0), l2, atol=1e-7)
    norms = [abs(theory.min_hyperbolic_entropy(x, y, a)).sum() for a in (1e-3, 1e-2, 0.1, 1.0)]
    assert (np.diff(norms) > 0).all() and abs(l1).sum() < norms[0]


def test_the_dual_margin_decides_whether_basis_pursuit_recovers():
    """The same minimum by a descent over the null space of the support, and the recovery that it predicts."""
    recovered, below = [], []
    for seed, n in ((0, 12), (1, 8), (2, 6), (3, 4), (4, 5), (5, 10)):
        x, y = problem(seed, n)
        truth = np.r_[1.0, -1.0, np.zeros(28)]
        start, free = np.linalg.lstsq(x[:, :2].T, truth[:2], rcond=None)[0], np.linalg.svd(x[:, :2].T)[2][2:]
        smooth = lambda z, p: np.linalg.norm((start + z @ free) @ x[:, 2:], p)  # noqa: B023
        z = np.zeros(len(free))
        for p in (4, 16, 64, 256):
            z = optimize.minimize(smooth, z, args=(p,), method="Powell", options={"maxiter": 20_000, "xtol": 1e-9, "ftol": 1e-12}).x
        mu = theory.dual_margin(x, truth)
        assert mu <= smooth(z, np.inf) + 1e-9 and mu == pytest.approx(smooth(z, np.inf), rel=0.03)
        recovered.append(np.allclose(theory.min_l1(x, y), truth, atol=1e-7)), below.append(mu < 1)
    assert recovered == below and len(set(below)) == 2


@pytest.mark.parametrize("truth, words", [(np.ones(3), "with a zero"), (np.zeros(2), r"\(2,\)")])
def test_a_truth_without_a_dual_is_refused(truth, words):
    with pytest.raises(ValueError, match=words):
        theory.dual_margin(np.eye(3)[:2], truth)


def test_gradient_descent_with_small_steps_ends_there():
    d = data.sparse_regression(12, 30, 2, seed=1)
    run = sweep(Task(models.DiagonalLinear(30), d, loss="mse"), lr=0.002, init_scale=0.2, steps=20000, record="coefficients", record_every=[20000], dtype=torch.float64)
    exact = theory.min_hyperbolic_entropy(d.x.double().numpy(), d.y.double().numpy(), 0.2)
    assert abs(run.coefficients.values.ravel() - exact).max() < 2e-3


@pytest.mark.parametrize(
    "x, y, scale, words",
    [
        (np.eye(3)[:2], np.ones(2), 0.0, "scale=0.0 must be positive"), (np.eye(3)[:2], np.ones(3), 1.0, r"\(3,\)"),
        (np.ones((2, 3)), np.ones(2), 1.0, "not linearly independent"), (np.ones((3, 2)), np.ones(3), 1.0, "not linearly independent"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(x, y, scale, words):
    with pytest.raises(ValueError, match=words):
        theory.min_hyperbolic_entropy(x, y, scale)
