"""The judges of the exercises on initialization memory can say every option, and a memory is read off the reader's own runs."""

from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from descent import Task, data, models, sweep
from descent.exercises import check

NAME = "initialization-memory/{}".format


@pytest.mark.parametrize(
    ("option", "after"), [("it falls below half", 0.03), ("it stays about the same", 0.09), ("it doubles", 0.2)]
)
def test_the_judge_of_waiting_can_say_every_option(option, after):
    accuracy = xr.DataArray([[[0.9, 0.9]], [[0.8, 0.9 - after]]], dims=("init_scale", "seed", "step"))
    run = xr.Dataset({"test_accuracy": accuracy, "train_accuracy": xr.ones_like(accuracy)})
    assert check(NAME(1), option, lambda: run)


@pytest.mark.parametrize(
    ("option", "last"),
    [
        ("it is still there, to the last digit", [3.0, 4.0]),
        ("it has changed, but is not much shorter", [4.0, 3.0]),
        ("most of it is gone", [0.3, 0.4]),
    ],
)
def test_the_judge_of_adam_can_say_every_option(option, last):
    parts = [[[[3.0, 4.0], [3.0, 4.0]]], [[[3.0, 4.0], last]]]
    run = xr.DataArray(parts, {"optimizer": ["heavy_ball", "adam"]}, ("optimizer", "seed", "step", "component"))
    assert check(NAME(2), option, lambda: run)


def test_the_time_of_a_trained_line_is_accepted():
    regression = data.linear_regression(n=5, spectrum=[1.0] * 8)
    task = Task(models.MLP((8, 1), activation="linear", bias=False), regression, loss="mse")
    run = sweep(task, lr=0.05, batch_size=2, l2=0.02, init_scale=3.0, seed=7, steps=2500, record="weights", record_every=1, cache=False)
    unseen = np.linalg.svd(regression.x.numpy())[2][5:]
    length = np.linalg.norm(run.weights[0].values @ unseen.T, axis=-1)
    assert check(NAME(3), int((length < 0.1 * length[0]).argmax()))


@pytest.mark.parametrize(
    ("option", "adam", "adamw"),
    [
        ("Adam with the penalty has lost more of it", 0.3, 0.9),
        ("AdamW has lost more of it", 0.9, 0.3),
        ("both have lost the same share", 0.9, 0.9),
    ],
)
def test_the_judge_of_penalty_and_decay_can_say_every_option(option, adam, adamw):
    first, second = (SimpleNamespace(overlap=xr.DataArray([[1.0, left]], dims=("seed", "step"))) for left in (adam, adamw))
    assert check(NAME(5), option, lambda: (first, second, 0.94))


def test_a_memory_is_judged_by_the_runs_that_it_is_read_off():
    # two scales, two seeds, three steps; validation selects the middle step everywhere, and the seeds disagree about the order of the scales
    test = [[[0.5, 0.90, 0.7], [0.5, 0.96, 0.99]], [[0.5, 0.94, 0.8], [0.5, 0.90, 0.5]]]
    chosen = np.broadcast_to([0.1, 0.9, 0.2], (2, 2, 3))
    dims = ("init_scale", "seed", "step")
    runs = xr.Dataset({"test_accuracy": (dims, test), "val_accuracy": (dims, chosen)}, {"step": [0, 1, 2]})
    assert check(NAME(6), 1.0, runs)
    for mistake, message in {5: "spread for each seed", 0.01: "fractions", 2.5: "by the test accuracy", 19.5: "at the last step"}.items():
        feedback = check(NAME(6), mistake, runs)
        assert feedback.share == 0.5 and message in feedback.message


def test_mistakes_that_lead_to_the_same_memory_by_chance_are_not_held_against_it():
    accuracy = (("init_scale", "seed", "step"), [[[0.9, 0.9]] * 2, [[0.8, 0.8]] * 2])
    runs = xr.Dataset({"test_accuracy": accuracy, "val_accuracy": accuracy}, {"step": [0, 1]})
    assert check(NAME(6), 10, runs)
