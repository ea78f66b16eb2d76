"""The exercises on critical periods accept what integration finds, and their predictions what any run shows."""

import numpy as np
import pytest
import xarray as xr
from scipy.integrate import quad
from scipy.optimize import brentq

from descent import competition
from descent.exercises import check

NAME = "critical-periods/{}".format


def test_the_outcome_of_a_race_by_a_root_finder():
    assert check(NAME(2), brentq(lambda a: a ** (-1 / 3) - (1 - a) ** (-1 / 3) - (0.1 ** (-1 / 3) - 0.5 ** (-1 / 3)), 1e-6, 0.5))


def test_the_growth_of_a_difference_by_integration():
    a, b = competition.penalized([100.0, 200.0], 5, l2=0.004, first=(0.5001, 0.4999))
    assert check(NAME(3), np.log(10) / np.log((a - b)[1] / (a - b)[0]) * 100 / 0.05)


def test_the_end_of_the_critical_period_by_quadrature():
    assert check(NAME(5), quad(lambda a: 1 / (2 * a * (1 - a)), 0.01, 0.5)[0] / 0.02)


def late(end):
    """A's share after a deficit at whose end the strengths were 0.5 and 1."""
    return xr.Dataset({"strengths": (("seed", "step", "path"), [[[0.5, 1.0], [end, 1 - end]]])}, coords={"step": [1600, 2000]})


def drift(end):
    return xr.Dataset({"share": (("seed", "step"), [[0.08, end]])}, coords={"step": [500, 4000]})


def alone(*pairs):
    """Chains of one, two and three layers that reach a half after these steps."""
    step = np.arange(50)
    strength = lambda pair: np.where(step >= np.array(pair)[:, None, None], 0.6, 0.1)[..., None]  # noqa: E731
    return {depth: xr.Dataset({"strengths": (("init_scale", "seed", "step", "path"), strength(pair))}, coords={"step": step}) for depth, pair in enumerate(pairs, 1)}


@pytest.mark.parametrize(
    "n, run, shown",
    [
        (1, late(0.01), "zero"), (1, late(0.25), "1/4"), (1, late(0.335), "1/3"), (1, late(0.5), "1/2"),
        (4, drift(0.4), "it heals the share of A"), (4, drift(0.081), "it leaves the share of A as it is"), (4, drift(0.003), "it takes from A what is left"),
        (6, alone((10, 30), (10, 20), (10, 11)), "one layer"), (6, alone((10, 11), (10, 20), (10, 11)), "two layers"),
        (6, alone((10, 11), (10, 20), (10, 30)), "three layers"), (6, alone((10, 20), (10, 20), (20, 41)), "the factor is the same for all"),
    ],
)  # fmt: skip
def test_a_prediction_is_held_to_the_run(n, run, shown):
    assert check(NAME(n), shown, lambda: run)
