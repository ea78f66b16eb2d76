"""The checks of the exercises on initialization memory know right answers from usual mistakes."""

import numpy as np
import pytest

from descent.exercises import check

NAME = "initialization-memory/{}".format


def by_hand(accuracy):
    return 100 * (accuracy.mean(axis=0).max() - accuracy.mean(axis=0).min())


@pytest.mark.parametrize(
    "n, answer, verdict",
    [
        (1, "It stays about the same", True), (1, "it doubles", False), (1, "who knows", False),
        (2, 11512, True), (2, 5000, False), (2, 527, False), (2, "soon", False),
        (3, by_hand, True), (3, lambda a: by_hand(a) / 100, False), (3, lambda a: 100 * np.ptp(a, axis=1).mean(), False),
        (3, lambda a: 100 * (a.mean(0)[2] - a.mean(0)[0]), False), (3, lambda a: a.nonsense, False), (3, 4.0, False),
        (4, 0.36, True), (4, 1.0, False), (4, 40.0, False), (4, 0.2, False),
        *[(n, ..., None) for n in (1, 2, 3, 4)],
    ],
)  # fmt: skip
def test_verdicts(n, answer, verdict):
    assert check(NAME(n), answer).right is verdict


def test_a_function_that_assumes_three_scales_is_caught():
    def fixed(accuracy):
        mean = accuracy.mean(0)
        return 100 * (np.array([*mean, 0.94])[:3].max() - np.array([*mean, 0.0])[:3].min())

    assert check(NAME(3), fixed).right is False
