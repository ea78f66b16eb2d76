"""The exercises on saddles accept what training finds, and their judges can see every option."""

import numpy as np
import pytest
import torch
import xarray as xr

from descent import Task, data, low_rank, models, sweep
from descent.exercises import check

NAME = "saddle-to-saddle/{}".format


def test_the_curvature_at_the_rest_of_a_run_is_accepted():
    teacher = torch.tensor(np.random.default_rng(2).normal(size=(5, 5)))
    values = torch.linalg.svdvals(teacher)
    task = Task(models.DeepLinear((5, 6, 5)), data.linear_map(teacher), "mse")
    run = sweep(task, lr=0.02, init_scale=1e-6, steps=700, record=["gradient_norm", "lowest_curvature", "matrix"], record_every=10, dtype=torch.float64, cache=False)
    strengths = low_rank.mode_strengths(run.matrix, teacher, 2)
    reached = low_rank.first_time(strengths, xr.DataArray(values[:2] / 2, dims="mode", coords={"mode": strengths.mode}))
    rests = low_rank.plateaus(run, reached).lowest_curvature
    assert check(NAME(2), float(rests.sel(rank=1).squeeze()))
    assert "origin" in str(check(NAME(2), float(rests.sel(rank=0).squeeze())))


def test_the_stopwatch_at_a_smaller_step():
    matrix = torch.tensor(np.random.default_rng(12).normal(size=(6, 6)))
    task = Task(models.DeepLinear((6, 12, 6)), data.linear_map(matrix), "mse")
    run = sweep(task, lr=0.002, init_scale=[1e-4, 1e-5], steps=2000, record="loss", record_every=2, cache=False, dtype=torch.float64)
    wait = low_rank.first_time(-run.loss, -0.85 * float(run.loss[0, 0, 0]))
    value = np.log(10) / float((wait[1] - wait[0]).squeeze())
    assert value == pytest.approx(float(torch.linalg.matrix_norm(matrix, 2)), rel=0.01)
    assert check(NAME(4), value)


def test_the_rate_of_the_output_is_twice_that_of_the_neurons():
    pair = Task(models.MLP((64, 50, 1), activation="relu", bias=False), data.digit_pair(0, 1), "logistic")
    run = sweep(pair, lr=0.1, init_scale=1e-6, seed=[0, 1, 2], steps=700, record="loss", record_every=[500, 700], cache=False, dtype=torch.float64)
    growth = float(np.log((np.log(2) - run.loss[:, 1]) / (np.log(2) - run.loss[:, 0])).mean()) / (0.1 * 200)
    assert check(NAME(7), growth / 2)
    assert "that of the output" in str(check(NAME(7), growth))


@pytest.mark.parametrize(
    "after, option",
    [
        ((4.0, 8.0, 16.0), "every wait gets twice as long"), ((3.0, 5.0, 9.0), "every wait gets longer by the same time"),
        ((2.6, 5.2, 10.4), "each wait gets longer by a time inversely proportional to its singular value"),
        ((2.0, 4.0, 8.0), "the waits stay as they are, the steps get lower"),
    ],
)  # fmt: skip
def test_the_law_of_the_waits_is_read_off_the_run(after, option):
    waits = xr.DataArray(np.array([[2.0, 4.0, 8.0], after])[..., None], dims=("init_scale", "mode", "seed"))
    assert check(NAME(1), option, lambda: waits)


@pytest.mark.parametrize(
    "corner, option",
    [
        (5.9, "the number that makes the rank one"), (2.1, "the number that makes the nuclear norm least"),
        (0.1, "zero, since the loss does not contain this entry"), (3.1, "the mean of the three known entries"),
    ],
)  # fmt: skip
def test_the_corner_is_read_off_the_run(corner, option):
    matrix = np.array([[2.0, 3.0], [4.0, corner]])[None, None]
    assert check(NAME(3), option, lambda: xr.Dataset({"matrix": (("seed", "step", "row", "column"), matrix)}))


def falling(times, lr=0.5, level=np.log(2)):
    """A loss that stays at `level` and is zero from each of the times on."""
    step = np.arange(0, 40001, 10)
    loss = np.where(lr * step < np.array(times)[:, None], level, 0.0)[:, None]
    return xr.Dataset({"loss": (("init_scale", "seed", "step"), loss)}, {"step": step, "lr": lr})


@pytest.mark.parametrize(
    "after, option",
    [(14, "by the same time as with two layers"), (100, "by a factor of 10"), (1000, "by a factor of 100"), (10000, "by a factor of 1,000"), (1e6, "by a factor of 1,000")],
)
def test_the_wait_of_four_layers_is_read_off_the_run(after, option):
    assert check(NAME(5), option, lambda: falling((10, after), lr=0.4, level=0.5))


@pytest.mark.parametrize(
    "turned, fallen, option",
    [
        ((30, 60), (50, 80), "both come later"), ((30, 60), (70, 70), "only the neurons turn later"),
        ((30, 30), (50, 80), "only the loss falls later"), ((30, 30), (50, 50), "neither changes"),
    ],
)  # fmt: skip
def test_what_comes_later_is_read_off_the_run(turned, fallen, option):
    run = falling(fallen)
    run["neuron_alignment"] = 1 - falling(turned, level=1.0).loss
    assert check(NAME(6), option, lambda: run)
