"""The limit of many dimensions against particles, against an ordinary differential equation, against networks."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from descent import Task, data, highdim, models, sweep

TIME = np.arange(0, 4.5, 0.5)


def test_against_independent_particles():
    """u and v themselves, by the Euler-Maruyama scheme, share no variable with the solver."""
    c, scale, sparsity, n, dt = 1.0, 0.3, 0.2, 40_000, 1 / 200
    rng, truth = np.random.default_rng(0), (np.arange(n) < sparsity * n).astype(float)
    u, v, risks, scales = np.full(n, scale), np.full(n, scale), [], []
    for k in range(int(TIME[-1] / dt) + 1):
        e = u**2 - v**2 - truth
        R = (e @ e) / (2 * n)
        if k % int(0.5 / dt) == 0:
            risks.append(R), scales.append(np.exp(np.log(u * v).mean() / 2))
        z = 2 * c * (e * dt + np.sqrt(2 * R * dt) * rng.normal(size=n))
        u, v = u * (1 - z), v * (1 + z)
    found = highdim.limit(c, scale, sparsity, TIME)
    np.testing.assert_allclose(found.risk, risks, rtol=0.05)
    np.testing.assert_allclose(found.scale, scales, rtol=0.01)


def test_without_noise_it_is_gradient_flow():
    """For c to zero at fixed c t the noise vanishes, and both kinds of coordinates follow dbeta = -4 sqrt(beta^2 + 4 a^4) (beta - beta*)."""
    c, scale, time = 0.01, 0.3, np.linspace(0, 200, 5)
    found = highdim.limit(c, scale, 1.0, time, step=0.1)
    flow = solve_ivp(lambda t, b: -4 * c * np.sqrt(b**2 + 4 * scale**4) * (b - 1), (0, 200), [0.0], t_eval=time, rtol=1e-9)
    np.testing.assert_allclose(found.risk, (flow.y[0] - 1) ** 2 / 2, atol=5e-3)
    assert abs(found.scale / scale - 1).max() < 0.02


def test_without_shrinking_the_scale_stays_and_the_risk_is_that_of_particles():
    """The Euler-Maruyama scheme in xi at a fixed scale."""
    c, a, sparsity, n, dt = 1.0, 0.3, 0.2, 40_000, 1 / 400
    rng, truth, xi, risks = np.random.default_rng(1), (np.arange(40_000) < 0.2 * n).astype(float), np.zeros(40_000), []
    for k in range(int(2 / dt) + 1):
        e = 2 * a**2 * np.sinh(xi) - truth
        R = (e @ e) / (2 * n)
        if k % int(0.5 / dt) == 0:
            risks.append(R)
        xi = xi - 4 * c * e * dt + 4 * c * np.sqrt(2 * R * dt) * rng.normal(size=n)
    found = highdim.limit(c, a, sparsity, TIME[:5], shrinking=False)
    np.testing.assert_allclose(found.risk, risks, rtol=0.1)
    np.testing.assert_array_equal(found.scale, a)


def test_it_converges_in_cells_and_steps():
    coarse, fine = (highdim.limit(1.0, 0.3, 0.2, TIME, **k) for k in (dict(cells=1600), dict(cells=3200, step=0.0025)))
    np.testing.assert_allclose(coarse.risk, fine.risk, rtol=0.01)
    density = fine.density.sum("xi") * (2 * highdim.REACH / 3200)
    np.testing.assert_allclose(density, 1.0, rtol=1e-6)


def test_against_networks():
    d = 1600
    task = Task(models.DiagonalLinear(d), data.sparse_regression(2, d, d // 5), loss="mse")
    run = sweep(task, lr=1 / d, init_scale=0.3, batch_size=1, sampling="fresh", seed=[0, 1, 2, 3], steps=2 * d, record="truth_error", record_every=d // 2)
    limit = highdim.limit(1.0, 0.3, 0.2, TIME[:5])
    np.testing.assert_allclose(run.truth_error.mean("seed") / (2 * d), limit.risk, rtol=0.08)


def test_the_linear_case_has_a_closed_form():
    d, c = 800, 0.5
    task = Task(models.DiagonalLinear(d, depth=1), data.sparse_regression(2, d, d // 5), loss="mse")
    run = sweep(task, lr=c / d, batch_size=1, sampling="fresh", seed=[0, 1, 2, 3], steps=2 * d, record="truth_error", record_every=d // 2)
    np.testing.assert_allclose(run.truth_error.mean("seed") / (2 * d), highdim.linear_risk(c, 0.1, TIME[:5]), rtol=0.12)


def test_the_late_rate_is_the_slope_of_the_limit():
    found = highdim.limit(1.0, 0.3, 0.2, np.array([0.0, 6.0, 8.0]), cells=4800)
    slope = float(np.log(found.risk[1] / found.risk[2])) / 2
    assert slope == pytest.approx(highdim.late_rate(1.0, float(found.scale[-1]), 0.2), rel=0.1)
    assert highdim.late_rate(6.0, 1.0, 1.0) < 0 < highdim.late_rate(0.01, 1.0, 1.0)


@pytest.mark.parametrize(
    "changed, words",
    [(dict(c=0.0), "c=0.0"), (dict(init_scale=-1.0), "init_scale=-1.0"), (dict(sparsity=1.5), "sparsity=1.5"),
     (dict(time=[1.0, 2.0]), "begin at 0"), (dict(time=[0.0, 0.0073]), "multiples of step"), (dict(time=[0.0, 1.0, 0.5]), "increasing")],
)  # fmt: skip
def test_bad_input_is_refused(changed, words):
    with pytest.raises(ValueError, match=words):
        highdim.limit(**(dict(c=1.0, init_scale=0.3, sparsity=0.2, time=[0.0, 1.0]) | changed))
