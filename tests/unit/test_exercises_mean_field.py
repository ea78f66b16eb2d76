"""The checks of the mean-field exercises accept what the library computes and help with what is wrong."""

import re

import numpy as np
import pytest

from descent import meanfield as mf
from descent.exercises import check


def test_right_answers():
    assert check("mean-field/1", "the same path, at half the speed")
    assert check("mean-field/2", (400, 2.5e-5, 1.25e-7))
    points = np.random.default_rng(0).normal(size=(20, 2))
    gates = mf.gates_of(points, np.random.default_rng(1).normal(size=(50_000, 2)))
    assert check("mean-field/3", len(np.unique(gates, axis=0)))
    x = np.array([[1.2, 1.6]])
    v = mf.convex_program(x, np.array([3.0]), np.array([[True]]), 0.5, iterations=5000)
    assert check("mean-field/4", (v[0] - v[1]).sum(0) @ x[0])
    assert check("mean-field/5", "it has left the line of pull one")


@pytest.mark.parametrize(
    ("number", "answer", "hint"),
    [
        (1, "the same path, at the same speed", "factor|gradient"),
        (2, (100, 2.5e-5, 1.25e-7), "lr"),
        (2, (400, 1e-4, 5e-7), "l2, temperature"),
        (2, 400, "three numbers"),
        (3, 20, "sign"),
        (3, 2**20, "subsets"),
        (4, 2.5, "length"),
        (4, 3, "Without"),
        (5, "two knots have merged", "pull"),
    ],
)
def test_wrong_answers_get_a_hint(number, answer, hint):
    feedback = check(f"mean-field/{number}", answer)
    assert feedback.right is False
    assert re.search(hint, feedback.message)
