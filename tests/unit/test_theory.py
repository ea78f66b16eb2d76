"""Closed forms against training, and against numerical integration."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad, solve_ivp

from descent import Task, data, models, sweep, theory
from descent.probes.curvature import hessian

EIGENVALUES, START = (4.0, 1.0, 0.25), (1.0, -2.0, 3.0)
BOWL = Task(models.Quadratic(EIGENVALUES, start=START), data.nothing(3), loss="output")


def train(task, **arguments):
    return sweep(task, **{"cache": False, "dtype": torch.float64} | arguments)


def test_gradient_descent_on_a_quadratic_step_by_step():
    lr = np.array([0.05, 0.3, 0.49, 0.52])
    run = train(BOWL, lr=lr, steps=40, record="loss", record_every=1)
    expected = theory.gd_loss(EIGENVALUES, START, lr, np.arange(41))
    np.testing.assert_allclose(run["loss"][:, 0], expected, rtol=1e-9)
    ratios = np.abs(theory.gd_contraction(lr, EIGENVALUES[0]))
    np.testing.assert_allclose((expected[:, 1] - theory.gd_loss(EIGENVALUES[1:], START[1:], lr, 1)[:, 0]) / 2, ratios**2)


@pytest.mark.parametrize("optimizer, threshold", [("sgd", theory.gd_threshold), ("heavy_ball", lambda lr: theory.heavy_ball_threshold(lr, 0.9))])
def test_stability_thresholds(optimizer, threshold):
    critical = threshold(1.0) / EIGENVALUES[0]  # the lr at which threshold(lr) = largest eigenvalue
    run = train(BOWL, lr=[0.98 * critical, 1.02 * critical], optimizer=optimizer, steps=1000, record_every=1000)
    loss = run["loss"].values[:, 0, -1]
    assert loss[0] < 1e-6 and not loss[1] < 1e6


def test_heavy_ball_contraction_is_the_observed_one():
    task = Task(models.Quadratic((1.0,), start=(1.0,)), data.nothing(1), loss="output")
    lr, momentum = [0.005, 0.5, 3.5, 3.9], [0.5, 0.8]
    run = train(task, lr=lr, momentum=momentum, optimizer="heavy_ball", steps=300, record="weights", record_every=1)
    w = run["weights"].values[:, :, 0, :, 0]
    stable = theory.heavy_ball_contraction(np.array(lr)[:, None], momentum, 1.0)
    for i, j in np.ndindex(stable.shape):
        if stable[i, j] < 1:  # the largest over a window absorbs the rotation of complex roots
            early, late = np.abs(w[i, j, 20:61]).max(), np.abs(w[i, j, 100:141]).max()
            assert (late / early) ** (1 / 80) == pytest.approx(stable[i, j], rel=0.01)
    np.testing.assert_array_equal(stable > 1, theory.heavy_ball_threshold(np.array(lr)[:, None], momentum) < 1)
    assert (stable > 1).sum() == 3


def test_optimal_rates():
    small, large = EIGENVALUES[-1], EIGENVALUES[0]
    lrs = np.linspace(0.01, 0.499, 4000)
    worst = np.maximum(theory.gd_contraction(lrs, small), theory.gd_contraction(lrs, large))
    assert lrs[worst.argmin()] == pytest.approx(theory.optimal_lr(small, large), abs=2e-4)
    assert worst.min() == pytest.approx(theory.optimal_rate(large / small), abs=1e-3)
    lr, momentum, rate = theory.optimal_heavy_ball(small, large)
    at = lambda lr, m: np.maximum(*(theory.heavy_ball_contraction(lr, m, c) for c in (small, large)))
    assert at(lr, momentum) == pytest.approx(rate, abs=1e-6)
    grid = at(np.linspace(0.01, 2, 400)[:, None], np.linspace(0, 0.99, 400))
    assert rate - 1e-6 < grid.min() < rate + 0.02


def test_bounds_hold_and_can_be_tight():
    lam, w0 = np.array(EIGENVALUES), np.array(START)
    t = np.arange(1, 60)
    loss = theory.gd_loss(lam, w0, 1 / 4, t)
    assert (loss <= theory.convex_bound(4, np.linalg.norm(w0), t)).all()
    assert (loss <= theory.pl_bound(0.25, 4, theory.gd_loss(lam, w0, 0.25, 0), t)).all()
    # the worst quadratic for 50 steps comes within a factor of the convex bound
    hard = [theory.gd_loss([a], [1.0], 1.0, 50)[0] / theory.convex_bound(1.0, 1.0, 50) for a in np.linspace(1e-3, 1, 2000)]
    assert 0.15 < max(hard) <= 1
    bound = theory.sgd_bound(0.25, 0.2, 6 / 5, np.linalg.norm(w0), t)
    exact = sum(2 * theory.sgd_expected_loss([a], [b], 0.2, [c], 5, t) / a for a, b, c in zip(lam, w0, [1, 2, 3]))
    assert (exact <= bound).all() and exact[-1] > 0.05 * bound[-1]


def test_stationary_variance_of_sgd():
    deviations, lr, batches = (2.0, 1.0, 0.5), [0.1, 0.3], [2, 8]
    task = Task(models.Quadratic(EIGENVALUES, start=(0.0, 0.0, 0.0)), data.tilts(500, deviations), loss="output")
    run = train(task, lr=lr, batch_size=batches, seed=range(100), steps=800, record=["weights", "loss"],
                record_every=range(200, 801, 40), sampling="replacement")  # fmt: skip
    shape = np.array(lr)[:, None, None], np.array(batches)[:, None]
    expected = theory.sgd_variance(shape[0], EIGENVALUES, np.square(deviations), shape[1])
    measured = run["weights"].values
    np.testing.assert_allclose(np.square(measured).mean((2, 3)), expected, rtol=0.15)
    expected = theory.sgd_loss(np.array(lr)[:, None], EIGENVALUES, np.square(deviations), batches)
    np.testing.assert_allclose(run["loss"].mean(("seed", "step")), expected, rtol=0.1)
    assert np.isnan(theory.sgd_variance(0.5, 4.0, 1.0))


def test_mean_loss_of_sgd_on_its_way_and_variance_of_the_average():
    """Against the recursions of mean and covariance, iterated."""
    lr, lam, noise, b, w0 = 0.3, 1.7, 2.0, 4, 1.5
    r, second, average, cross = 1 - lr * lam, w0**2, 0.0, 0.0
    moments, v, sums = [second], 0.0, []
    for t in range(1, 80):
        second = r**2 * second + lr**2 * noise / b
        moments.append(second)
        # from zero: s_t = s_{t-1} + w_t; E s_t w_t = r E s_{t-1} w_{t-1} + E w_t^2
        v = r**2 * v + lr**2 * noise / b
        before = r * cross
        cross = before + v
        average += 2 * before + v
        sums.append(average / t**2)
    t = np.arange(80)
    np.testing.assert_allclose(theory.sgd_expected_loss([lam], [w0], lr, [noise], b, t), lam * np.array(moments) / 2, rtol=1e-10)
    np.testing.assert_allclose(theory.average_variance_exact(lr, lam, noise, t[1:], b), sums, rtol=1e-10)
    assert theory.average_variance_exact(lr, lam, noise, 1e5, b) == pytest.approx(theory.average_variance(lam, noise, 1e5, b), rel=1e-4)
    # with lr lam = 1 nothing of the past remains, and lr lam = 2 never forgets
    assert theory.sgd_expected_loss([1.0], [1.0], 2.0, [1.0], 1, 3)[0] == pytest.approx((1 + 3 * 4) / 2)


@pytest.mark.parametrize("start, target", [((2.0, 0.3), 1.0), ((-1.5, -0.2, 0.7), 1.0), ((0.5, 1.2, -0.9, 3.0), -2.0), ((2.0, 2.0, 2.0), 0.5)])
def test_gradient_flow_solution_of_scalar_networks(start, target):
    flow = lambda t, w: -(np.prod(w) - target) * np.prod(w) / w
    end = solve_ivp(flow, (0, 300), start, rtol=1e-11, atol=1e-13).y[:, -1]
    solution = theory.scalar_flow_solution(start, target)
    np.testing.assert_allclose(solution, end, rtol=1e-7)
    task = Task(
        models.Function(lambda w, x: (w.prod(-2) - target) ** 2 / 2 + 0 * x[..., 0, :], len(start)), data.nothing(len(start)), "output"
    )
    dense = np.linalg.eigvalsh(hessian(task, torch.tensor(end)))[-1]
    assert theory.gfs_sharpness(start, target) == pytest.approx(dense, rel=1e-6)
    assert theory.gfs_sharpness([start, start], target).shape == (2,)


def test_gradient_flow_solution_refuses_the_wrong_side():
    with pytest.raises(ValueError, match="must have the sign of target=1.0"):
        theory.gfs_sharpness([[1.0, 1.0], [1.0, -1.0]])


def test_second_order_regression_step_and_limit():
    eps, lr, target = 0.1, 0.2, 0.3
    task = Task(
        models.Function(lambda w, x: (w[..., 0, :] ** 2 - eps * w[..., 1, :] ** 2) / 2 + 0 * x[..., 0, :], 2, start=(2.0, -1.5)),
        data.Data("point", torch.zeros(1, 2, dtype=torch.float64), torch.full((1, 1), target, dtype=torch.float64)),
        loss="mse",
    )
    run = train(task, lr=lr, steps=15, record=["loss", "ntk_eigenvalue", "weights"], record_every=1)
    w = run["weights"].values[0]
    z, kernel = lr * ((w[:, 0] ** 2 - eps * w[:, 1] ** 2) / 2 - target), lr * run["ntk_eigenvalue"].values[0]
    after = theory.second_order_step(z[:-1], kernel[:-1], eps, lr * target)
    np.testing.assert_allclose(after, (z[1:], kernel[1:]), rtol=1e-8)
    for eps, tolerance in ((0.02, 4e-4), (0.01, 1e-4)):
        z, kernel = np.full(2, 0.02), np.array([2.2, 2.5])
        for _ in range(6000):
            z, kernel = theory.second_order_step(z, kernel, eps)
        np.testing.assert_allclose(kernel, theory.second_order_limit(eps), atol=tolerance)


def test_gradient_flow_on_a_quadratic():
    times = np.array([0.0, 0.3, 2.0, 50.0])
    lam, w0 = np.array(EIGENVALUES), np.array(START)
    np.testing.assert_allclose(theory.gd_loss(lam, w0, 1e-4, times / 1e-4), theory.flow_loss(lam, w0, times), rtol=2e-2)
    speed = lambda s: np.linalg.norm(lam * np.exp(-lam * s) * w0)
    lengths = [quad(speed, 0, t, epsabs=1e-12, limit=200)[0] for t in times]
    np.testing.assert_allclose(theory.flow_path_length(lam, w0, times), lengths, rtol=1e-8, atol=1e-12)
    assert theory.flow_path_length([2.0], [3.0], 100.0)[0] == pytest.approx(3.0)


# -- momentum with noise -----------------------------------------------------------------


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_heavy_ball_expected_loss_is_exact_without_noise(momentum):
    task = Task(models.Quadratic((1.0, 0.1), start=(1.0, -2.0)), data.nothing(2), loss="output")
    ds = sweep(task, lr=1.3, optimizer="heavy_ball", momentum=momentum, steps=60, record_every=5, dtype=torch.float64, cache=False)
    predicted = theory.heavy_ball_expected_loss((1.0, 0.1), (1.0, -2.0), 1.3, momentum, 0.0, 1, ds.step)
    np.testing.assert_allclose(ds.loss.squeeze().values, predicted, rtol=1e-9)


def test_heavy_ball_expected_loss_without_momentum_is_that_of_sgd():
    t = np.arange(30)
    ours = theory.heavy_ball_expected_loss((1.0, 0.2), (1.0, -2.0), 0.7, 0.0, (0.3, 0.5), 4, t)
    np.testing.assert_allclose(ours, theory.sgd_expected_loss((1.0, 0.2), (1.0, -2.0), 0.7, (0.3, 0.5), 4, t), rtol=1e-10)


def test_heavy_ball_expected_loss_is_the_mean_over_many_runs():
    task = Task(models.Quadratic((1.0, 0.2), start=(1.0, 1.0)), data.tilts(512, (0.5, 1.0)), loss="output")
    ds = sweep(task, lr=0.5, batch_size=4, optimizer="heavy_ball", momentum=0.5, seed=range(2000), steps=40,
               record_every=[5, 20, 40], sampling="replacement", cache=False)  # fmt: skip
    predicted = theory.heavy_ball_expected_loss((1.0, 0.2), 1.0, 0.5, 0.5, (0.25, 1.0), 4, ds.step)
    assert (np.abs(ds.loss.mean("seed") - predicted) < 4 * ds.loss.std("seed") / 2000**0.5).all()


def test_heavy_ball_expected_loss_at_the_ends():
    assert theory.heavy_ball_expected_loss(1.0, 1.0, 10.0, 0.0, 0.0, 1, [0, 5000])[1] == np.inf
    with pytest.raises(ValueError, match="t=-1"):
        theory.heavy_ball_expected_loss(1.0, 1.0, 0.1, 0.0, 0.0, 1, [-1])
