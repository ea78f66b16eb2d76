"""The exercises on critical periods accept what integration and training find, and name the usual mistakes."""

import numpy as np
from scipy.integrate import quad
from scipy.optimize import brentq

from descent.exercises import check


def test_a_late_deficit():
    assert check("critical-periods/1", "1/3")
    assert not check("critical-periods/1", "1/4")


def test_the_outcome_of_a_race_by_a_root_finder():
    end = brentq(lambda a: a ** (-1 / 3) - (1 - a) ** (-1 / 3) - (0.1 ** (-1 / 3) - 0.5 ** (-1 / 3)), 1e-6, 0.5)
    assert check("critical-periods/2", end)
    assert "ratio" in str(check("critical-periods/2", 1 / 6))
    assert "difference" in str(check("critical-periods/2", 0.3))


def test_the_growth_of_a_difference():
    assert check("critical-periods/3", np.log(10) / (0.05 * 0.004 * 3))
    assert "steps" in str(check("critical-periods/3", np.log(10) / (0.004 * 3)))


def test_a_penalty_on_two_layers_is_neutral():
    assert check("critical-periods/4", "it leaves the share of A as it is")
    assert not check("critical-periods/4", "it heals the share of A")


def test_the_end_of_the_critical_period():
    assert check("critical-periods/5", quad(lambda a: 1 / (2 * a * (1 - a)), 0.01, 0.5)[0] / 0.02)
    assert "factor" in str(check("critical-periods/5", np.log(99) / 0.02))
