"""The checks of the exercises on signal propagation know right answers from usual mistakes."""

import numpy as np
import pytest

from descent import chaos, theory
from descent.exercises import check

NAME = "signal-propagation/{}".format


def by_iteration():
    weight, bias = 2.0, 0.3
    q, c = theory.variance_fixed_point(weight, bias), [0.9]
    for _ in range(120):
        c.append(float(theory.correlation_map(c[-1], q, weight, bias)))
    away = np.array(c) - c[-1]
    return -1 / np.log(away[41] / away[40])


def by_rows(gradients, norm):
    return gradients * np.minimum(1, norm / np.linalg.norm(gradients, axis=1, keepdims=True))


@pytest.mark.parametrize(
    "n, answer, verdict",
    [
        (1, 1 / 256, True), (1, 1 / 512, False), (1, 0.5, False), (1, 256, False), (1, "small", False),
        (2, by_iteration, True), (2, 100.0, False), (2, float(theory.depth_scales(2.0, 0.3)[0]), False),
        (3, lambda: chaos.logistic(np.linspace(0.2, 0.8, 50), 3.8, 1000)[1].mean(1)[-1] / 1000, True), (3, np.log(2), False), (3, -0.4, False),
        (4, "Nothing changes", True), (4, "it is set to zero", False), (4, "perhaps", False),
        *[(n, ..., None) for n in (1, 2, 3, 4, 5)],
    ],
)  # fmt: skip
def test_verdicts(n, answer, verdict):
    assert check(NAME(n), answer() if callable(answer) else answer).right is verdict


@pytest.mark.parametrize(
    "function, verdict",
    [
        (by_rows, True), (lambda g, c: np.clip(g, -c, c), False), (lambda g, c: g / np.linalg.norm(g), False),
        (lambda g, c: g / np.linalg.norm(g, axis=1, keepdims=True), False), (lambda g, c: g, False), (lambda g, c: g[0], False), (lambda g: g, False),
    ],
)  # fmt: skip
def test_clipping(function, verdict):
    assert check(NAME(5), function).right is verdict
