"""The checks of the exercises on diagonal networks know right answers from usual mistakes."""

import numpy as np
import pytest
import torch

from descent import Task, data, models, sweep, theory
from descent.exercises import check

NAME = "diagonal-networks/{}".format
D = data.sparse_regression(40, 100, 5, seed=3)
X, Y = D.x.double().numpy(), D.y.double().numpy()


@pytest.mark.parametrize(
    "n, answer, verdict",
    [
        (1, "uv shrinks", True), (1, "uv grows", False), (1, "who knows", False),
        (2, 0.1 * np.exp(-2), True), (2, 0.1 * np.exp(-4), False), (2, 0.1, False), (2, "little", False),
        (3, abs(theory.min_hyperbolic_entropy(X, Y, 0.05)).sum(), True), (3, abs(theory.min_l1(X, Y)).sum(), False),
        (3, abs(theory.min_l2(X, Y)).sum(), False), (3, 100.0, False),
        (4, "it ends farther from the truth", True), (4, "it diverges", False),
        (5, -np.linalg.eigvals(np.array([[-0.32 + 16 * 0.25 * 0.08**2 * 0.9, 16 * 0.25 * 0.08**2 * 0.1],
                                         [16 * 0.25 * 1.0064 * 0.9, -4 * 1.0064**0.5 + 16 * 0.25 * 1.0064 * 0.1]])).max(), True),
        (5, 0.32, False), (5, 4.0, False), (5, 1.0, False),
        *[(n, ..., None) for n in range(1, 6)],
    ],
)  # fmt: skip
def test_verdicts(n, answer, verdict):
    assert check(NAME(n), answer).right is verdict


def test_the_third_can_be_measured():
    run = sweep(Task(models.DiagonalLinear(100), D, loss="mse"), lr=0.01, init_scale=0.05, steps=12000, record="coefficients", record_every=[12000], dtype=torch.float64)
    assert check(NAME(3), float(abs(run.coefficients).sum())).right
