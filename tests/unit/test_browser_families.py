"""What the page trains is what `sweep` trains: the compiled module against PyTorch, off the grid."""

import importlib

import numpy as np
import pytest

from descent import Task, browser, data, models, sweep

engine = importlib.import_module("descent.sweep")


def compared(task, setting, rel=1e-4, **arguments):
    """Compile a sweep, train one setting both ways, hold the curves to `rel`."""
    dataset = sweep(task, **arguments)
    package = browser.compile(*engine._recipes[dataset.attrs["recipe_id"]])
    seeds = np.atleast_1d(arguments.get("seed", 0)).tolist()
    here = package.run(setting | {"seeds": seeds})
    there = sweep(task, **(arguments | setting))
    for name in package.description["record"]:
        np.testing.assert_allclose(here[name], there[name].values, rtol=rel, err_msg=name)
    return here, there


def test_digits_mlp():
    compared(
        Task(models.MLP((64, 64, 10)), data.digits(train=1000)), {"lr": 0.123, "batch_size": 48},
        lr=[0.1, 0.2], batch_size=[32, 64], seed=[0, 1], steps=500, record=["loss", "test_accuracy"],
    )  # fmt: skip


def test_sharpness_of_gradient_descent():
    """Also where training goes to the edge of stability, before it becomes chaotic."""
    here, _ = compared(
        Task(models.MLP((64, 32, 32, 10)), data.digits(train=500), loss="mse"), {"lr": 0.07, "batch_size": 500, "init_scale": 0.6},
        lr=[0.05, 0.1], batch_size=[16, None], init_scale=[0.5, 1.0], seed=[3], steps=300, record=["loss", "sharpness"],
        record_every=20, rel=1e-3,
    )  # fmt: skip
