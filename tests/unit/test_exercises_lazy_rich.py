"""The exercises on lazy and rich training accept what training and simulation find, and name the usual mistakes."""

import numpy as np
import pytest
import torch

from descent import Task, data, models, sweep
from descent.exercises import check
from descent.laziness import pair_flow, relative_distance

NAME = "lazy-rich/{}".format


@pytest.mark.parametrize(
    "n, answer, verdict",
    [
        (1, "The same loss curve, and a tenth of the distance", True), (1, "the same loss curve, and the same distance", False), (1, "who knows", False),
        (2, 0.005, True), (2, 0.02, False), (2, 0.02 / 16, False), (2, "small", False),
        (3, 2 / 3**0.5, True), (3, 2.0, False), (3, 2 * 3**0.5, False),
        (4, -1.02, True), (4, 1.0, False), (4, -2.0, False),
        (5, "it stays about the same", True), (5, "it doubles", False),
        (6, 0.04, True), (6, 0.2, False), (6, 0.01, False),
        *[(n, ..., None) for n in (1, 2, 3, 4, 5, 6)],
    ],
)  # fmt: skip
def test_verdicts(n, answer, verdict):
    assert check(NAME(n), answer).right is verdict


def test_the_learning_rate_that_makes_both_the_same():
    odd, words = data.parity(data.digits(train=50), signs=True), dict(steps=20, dtype=torch.float64, cache=False)
    network = dict(widths=(64, 12, 12, 12, 1), activation="relu", bias=False)
    large = sweep(Task(models.MLP(**network), odd, loss="mse"), lr=0.002, init_scale=2.0, **words)
    scaled = sweep(Task(models.MLP(**network, output_scale=16.0), odd, loss="mse"), lr=0.002 * 0.005 / 0.02, **words)
    np.testing.assert_allclose(large.loss, scaled.loss, rtol=1e-5)


def test_the_kernel_that_doubles():
    kernel = pair_flow(np.array([1e3]), 2 / 3**0.5)[1]
    assert kernel / (2 / 3**0.5) == pytest.approx(2)


def test_the_exponent_of_the_distance():
    task = Task(models.LazyMLP((64, 32, 1)), data.parity(data.digits(train=50), signs=True), loss="mse")
    run = sweep(task, lr=0.02, init_scale=[10.0, 30.0, 100.0], steps=100, record=relative_distance, record_every=100, cache=False)
    moved = run.relative_distance.isel(seed=0, step=-1)
    assert check(NAME(4), np.polyfit(np.log(moved.init_scale), np.log(moved), 1)[0])


def test_the_perceptron_feels_the_temperature_alone():
    points, words = data.half_space(40, 5), dict(init_scale=0.0, seed=range(40), sampling="replacement", steps=4000, record="weight_norm", record_every=4000, cache=False)
    line = Task(models.MLP((5, 1), activation="linear", bias=False), points, loss="hinge")
    two, four, hot = (
        float(sweep(line, lr=lr, batch_size=B, **words).weight_norm.isel(step=-1).median()) for lr, B in ((1.0, 2), (2.0, 4), (4.0, 2))
    )
    assert four == pytest.approx(two, rel=0.15)
    assert hot > 2 * two
