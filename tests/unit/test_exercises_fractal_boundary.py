"""The checks of the exercises on the fractal boundary know right answers from usual mistakes."""

import numpy as np
import pytest

from descent.exercises import check
from descent.trainability import Window, converged, network, survey


def bisected(first, last, lr):
    low, high = 0.0, 1e3
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if np.linalg.eigvalsh(lr * first + middle * last)[-1] < 2 else (low, middle)
    return low


def apart(first, last, lr):
    return (2 - lr * np.linalg.eigvalsh(first)[-1]) / np.linalg.eigvalsh(last)[-1]


@pytest.mark.parametrize(
    "n, answer, verdict",
    [
        (1, "It rises", True), (1, "it stays the same", False), (1, "perhaps", False),
        (2, np.log(24) / np.log(8), True), (2, -np.log(24) / np.log(8), False), (2, 3.0, False), (2, "two", False),
        (3, 25.0, True), (3, 50, False), (3, 1, False), (3, None, None),
        (4, bisected, True), (4, apart, False), (4, lambda a, b, lr: 2 / np.linalg.eigvalsh(b)[-1], False),
        (4, lambda a, b, lr: min((2 - lr * np.diag(a)) / np.diag(b)), False), (4, lambda a: 1.0, False), (4, 1.92, False),
        (5, 0.585, True), (5, 0.415, False), (5, 637, False), (5, ..., None),
    ],
)  # fmt: skip
def test_verdicts(n, answer, verdict):
    assert check(f"fractal-boundary/{n}", answer).right is verdict


def test_the_share_is_what_the_survey_finds():
    share = float(converged(survey(network(0), Window(lr=100.0, readout_lr=100.0, decades=2.0), 33, 0)).mean())
    assert check("fractal-boundary/5", share)
