"""The exercises on saddles accept what training finds, and name the usual mistakes."""

import numpy as np
import pytest
import torch

from descent import Task, data, low_rank, models, sweep
from descent.exercises import check
from descent.probes.curvature import lowest_eigenvalue


def test_the_choices():
    assert check("saddle-to-saddle/1", "each wait gets longer by a time inversely proportional to its singular value")
    assert not check("saddle-to-saddle/1", "every wait gets twice as long")
    assert check("saddle-to-saddle/5", "by a factor of 100")
    assert not check("saddle-to-saddle/5", "by a factor of 10")


def test_the_probe_at_the_saddle_is_accepted():
    teacher = data.low_rank_matrix([3.0, 1.5, 0.5], 5)
    task = Task(models.DeepLinear((5, 6, 5)), data.linear_map(teacher), "mse")
    U, s, Vt = np.linalg.svd(teacher)
    first, second = np.zeros((6, 5)), np.zeros((5, 6))
    origin = torch.tensor(np.concatenate([first.ravel(), second.ravel()]))[None]
    assert "origin" in str(check("saddle-to-saddle/2", float(lowest_eigenvalue(task, origin))))
    first[0], second[:, 0] = s[0] ** 0.5 * Vt[0], s[0] ** 0.5 * U[:, 0]
    saddle = torch.tensor(np.concatenate([first.ravel(), second.ravel()]))[None]
    assert check("saddle-to-saddle/2", float(lowest_eigenvalue(task, saddle)))
    assert "sign" in str(check("saddle-to-saddle/2", 1.5))


def test_greedy_learning_fills_the_corner():
    seen = data.matrix_completion(torch.tensor([[2.0, 3.0], [4.0, 0.0]]), torch.tensor([[True, True], [True, False]]))
    filled = low_rank.greedy_low_rank(seen, 2).matrix.isel(rank=-1)
    assert check("saddle-to-saddle/3", float(filled[1, 1]))
    assert not check("saddle-to-saddle/3", 1.0)


def test_the_stopwatch():
    assert check("saddle-to-saddle/4", np.log(10) / 1.15)
    assert "product of two weights" in str(check("saddle-to-saddle/4", np.log(10) / 2.3))
    task = Task(models.DeepLinear((6, 12, 6)), data.linear_map(data.low_rank_matrix([2.0], 6)), "mse")
    run = sweep(task, lr=0.01, init_scale=[1e-4, 1e-5], steps=1000, record="singular_values", record_every=5, cache=False)
    wait = low_rank.first_time(run.singular_values.isel(mode=0), 1.0)
    assert float((wait[1] - wait[0]).squeeze()) == pytest.approx(1.15, rel=0.03)


def test_two_plateaus_give_the_rate():
    pair = Task(models.MLP((64, 50, 1), activation="relu", bias=False), data.digit_pair(0, 1), "logistic")
    run = sweep(pair, lr=0.1, init_scale=[1e-5, 1e-4], seed=[0, 1], steps=900, record="loss", record_every=2, cache=False)
    ends = low_rank.first_time(-run.loss, -0.95 * np.log(2)).mean("seed")
    rate = np.log(10) / float(ends[0] - ends[1])
    assert check("saddle-to-saddle/6", rate)
    assert not check("saddle-to-saddle/6", 2 * rate)
    assert not check("saddle-to-saddle/6", rate / np.log(10))
