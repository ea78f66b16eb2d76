"""The exercises on diagonal networks accept what integration finds, and their predictions what any run shows."""

import numpy as np
import pytest
import xarray as xr
from scipy.integrate import solve_ivp

from descent import data, highdim
from descent.exercises import check

NAME = "diagonal-networks/{}".format


def test_the_norm_by_gradient_flow():
    d = data.sparse_regression(40, 100, 5, seed=3)
    x, y = d.x.double().numpy(), d.y.double().numpy().ravel()
    beta = lambda nu: 2 * 0.05**2 * np.sinh(x.T @ nu)  # noqa: E731
    flow = solve_ivp(lambda t, nu: -4 * (x @ beta(nu) - y) / 40, (0, 400), np.zeros(40), method="LSODA", rtol=1e-8, atol=1e-8)
    assert np.abs(x @ beta(flow.y[:, -1]) - y).max() < 1e-3
    assert check(NAME(3), abs(beta(flow.y[:, -1])).sum())


def test_the_late_rate_by_integration():
    c, h = 0.5, np.sqrt(np.array([0.0, 1.0]) + 4 * 0.2**4)
    risk = lambda m: (0.9 * m[0] + 0.1 * m[1]) / 2  # noqa: E731
    m = solve_ivp(lambda t, m: -8 * c * h * m + 32 * c**2 * h**2 * risk(m), (0, 40), [1.0, 1.0], t_eval=[30, 40], rtol=1e-10, atol=1e-16).y
    assert check(NAME(5), np.log(risk(m[:, 0]) / risk(m[:, 1])) / 10)


def test_twice_the_step_takes_about_twice_as_much_wherever_the_noise_is_weak():
    """Not an accident of a level or a time: the right option stays the same for other targets, scales and end times."""
    for zeros, scale, last in ((0.95, 0.1, 10), (0.9, 0.1, 20), (0.9, 0.05, 10)):
        ends = [highdim.limit(c, scale, 1 - zeros, np.linspace(0, last, 41)) for c in (0.25, 0.5)]
        assert check(NAME(6), "about twice as much", lambda ends=ends: ends)


def step(up, down):
    """One step after which log a has changed by `up` where beta grew, by `down` where it fell."""
    scale = np.exp([[[0, 0, 0, 0], [up, up, down, down]]])
    return xr.Dataset({"effective_scale": (("seed", "step", "coordinate"), scale), "coefficients": (("seed", "step", "coordinate"), [[[0] * 4, [1, 2, -1, -2]]])})


def ends(small, large):
    return [xr.Dataset({"truth_error": (("lr", "seed", "step"), [[[a]], [[b]]])}) for a, b in zip(small, large)]


def passes(factor):
    """Scales whose logarithm falls by 0.1 in the first run, and by so many times as much in the second."""
    return [xr.Dataset({"scale": ("time", 0.1 * np.exp([0.0, -0.05 * f, -0.1 * f]))}) for f in (1.0, factor)]


@pytest.mark.parametrize(
    "n, run, shown",
    [
        (1, step(0.0, 0.0), "uv stays the same"), (1, step(-1e-3, -1e-3), "uv shrinks"), (1, step(1e-3, 2e-3), "uv grows"),
        (1, step(1e-3, -1e-3), "it depends on the sign of the gradient"),
        (4, ends([1, 2, 3], [0.8, 1.7, 2.5]), "it ends closer to the truth"), (4, ends([1, 2, 3], [1.2, 2.1, 3.3]), "it ends farther from the truth"),
        (4, ends([1, 2, 3], [1.001, 2, 2.999]), "it ends at the same place"), (4, ends([1, 2, 3], [np.nan, np.nan, 3.3]), "it diverges"),
        (6, passes(0.5), "about half as much"), (6, passes(1.1), "about as much"), (6, passes(2.1), "about twice as much"), (6, passes(4.0), "about four times as much"),
    ],
)  # fmt: skip
def test_a_prediction_is_held_to_the_run(n, run, shown):
    assert check(NAME(n), shown, lambda: run)
