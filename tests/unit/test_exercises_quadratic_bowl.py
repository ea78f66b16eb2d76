"""The bowl's exercises accept what simulation or brute force finds, and name the usual mistakes."""

import numpy as np
import pytest

from descent import data, landscapes, sweep
from descent.exercises import check
from descent.regression import LeastSquares


def test_steps_of_a_trained_bowl_are_accepted():
    run = sweep(landscapes.bowl((3.0, 0.5)), lr=2 / 3.5, steps=60, record="weight_norm", record_every=1, cache=False)
    norm = run.weight_norm[0]
    assert check("quadratic-bowl/2", int((norm < 1e-6 * norm[0]).argmax("step")))
    assert not check("quadratic-bowl/2", 76)


def test_the_batch_that_keeps_the_floor_is_accepted():
    walk = sweep(landscapes.bowl((1.0,), start=0.0, noise=1.0), lr=[0.2, 0.8], batch_size=8, seed=range(400), steps=300,
                 record="weights", record_every=range(100, 301, 20), sampling="replacement", cache=False)  # fmt: skip
    floor = (walk.weights**2).mean(["seed", "step", "parameter"])
    assert float(8 * floor[1] / floor[0]) == pytest.approx(48, rel=0.1)
    assert check("quadratic-bowl/3", 48)
    assert "η/B" in str(check("quadratic-bowl/3", 32))


def test_the_best_learning_rate_of_penalized_digits():
    top = LeastSquares(data.digits(train=1000)).eigenvalues[0]
    assert check("quadratic-bowl/4", 2 / (top + 0.2))
    assert not check("quadratic-bowl/4", 1 / top)


def test_the_sign_of_the_correlation_decides():
    assert check("quadratic-bowl/5", -0.8)
    assert not check("quadratic-bowl/5", 0.7)
    assert not check("quadratic-bowl/5", -3)


def test_a_coordinate_step_must_be_exact_and_touch_one_coordinate():
    def brute(x, j, A, c):
        line = np.linspace(-10, 10, 200_001)
        rest = np.abs(np.delete(x, j)).sum() + c
        x[j] = 0.0
        x[j] = line[((rest + np.abs(line)) / np.linalg.norm((A @ x)[:, None] + A[:, [j]] * line, axis=0)).argmin()]
        return x

    assert check("quadratic-bowl/6", brute)
    assert not check("quadratic-bowl/6", lambda x, j, A, c: x)
    assert not check("quadratic-bowl/6", lambda x, j, A, c: 0 * brute(x, j, A, c))
    assert not check("quadratic-bowl/6", 3)
