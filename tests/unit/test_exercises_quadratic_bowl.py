"""The bowl's exercises accept what simulation or brute force finds, and its judges can say every option."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr

from descent import Task, data, landscapes, models, sweep
from descent.exercises import check

FACTORS = ["it falls to a tenth", "it stays where it is", "it grows by the factor 1.9", "it grows tenfold"]


def test_steps_of_a_trained_bowl_are_accepted():
    run = sweep(landscapes.bowl((3.0, 0.5)), lr=2 / 3.5, steps=60, record="weight_norm", record_every=1, cache=False)
    norm = run.weight_norm[0]
    assert check("quadratic-bowl/2", int((norm < 1e-6 * norm[0]).argmax("step")))


def test_the_batch_that_keeps_the_floor_is_accepted():
    walk = sweep(landscapes.bowl((1.0,), start=0.0, noise=1.0), lr=[0.2, 0.8], batch_size=[8, 48], seed=range(400), steps=300,
                 record="weights", record_every=range(100, 301, 20), sampling="replacement", cache=False)  # fmt: skip
    floor = (walk.weights**2).mean(["seed", "step", "parameter"])
    assert float(floor.sel(lr=0.8, batch_size=48)) == pytest.approx(float(floor.sel(lr=0.2, batch_size=8)), rel=0.1)
    assert check("quadratic-bowl/3", 48)


def test_the_learning_rate_that_contracts_best_in_training_is_accepted():
    task = Task(models.MLP((64, 10), activation="linear"), data.digits(train=1000), loss="mse")
    rates = list(np.linspace(0.9, 1.1, 101) * 0.0546)
    run = sweep(task, lr=rates, l2=2.0, steps=151, record="weights", record_every=[149, 150, 151], dtype=torch.float64, cache=False)
    step = np.sqrt((run.weights.isel(seed=0).diff("step") ** 2).sum("parameter"))
    best = float(run.lr[(step[:, 1] / step[:, 0]).argmin("lr")])
    assert check("quadratic-bowl/5", best)
    assert not check("quadratic-bowl/5", 1.03 * best)


def test_a_coordinate_step_is_exact_and_touches_one_coordinate():
    def best_of(values, F, x, j):
        return min((np.r_[x[:j], value, x[j + 1 :]] for value in values), key=F)

    def grid(F, x, j, low, high):
        return best_of(np.r_[0.0, np.linspace(low, high, 501)], F, x, j)

    def outside(F, x, j, low, high):
        return np.where(np.arange(len(x)) == j, high + 1, x)

    assert check("quadratic-bowl/7", lambda F, x, j, low, high: best_of((low, 0.0, high), F, x, j))
    assert check("quadratic-bowl/7", grid).share == 0 and "evaluates F 502 times" in check("quadratic-bowl/7", grid).message
    assert "only entry j" in check("quadratic-bowl/7", lambda F, x, j, low, high: 0 * x).message
    assert "between low and high" in check("quadratic-bowl/7", outside).message
    assert check("quadratic-bowl/7", lambda F, x, j, low, high: best_of((low / 2, 0.0, high / 2), F, x, j)).share < 1


def wall(factor):
    lr = xr.DataArray([0.1, 1.0, 1.9, 10.0, 20.0], dims="lr")
    lr = lr.assign_coords(lr=lr)
    lost = lr.where(lr > xr.DataArray([1.0, factor], {"momentum": [0.0, 0.9]}, "momentum")).expand_dims(seed=[0])
    return SimpleNamespace(lr=lr.lr, diverged_at=lost)


def floor(factor):
    return xr.Dataset({"loss": (("momentum", "seed", "step"), [[[2.0]], [[2.0 * factor]]])}, {"momentum": [0.0, 0.9]})


@pytest.mark.parametrize(("option", "factor"), list(zip(FACTORS, [0.1, 1.0, 1.9, 10.0], strict=True)))
def test_the_judges_of_momentum_can_say_every_option(option, factor):
    assert check("quadratic-bowl/1", option, lambda: wall(factor))
    assert check("quadratic-bowl/4", option, lambda: floor(1.1 * factor))


def test_the_judge_of_the_paths_can_say_every_option():
    up = np.arange(20.0)
    assert check("quadratic-bowl/6", "longer paths come with larger gaps", lambda: (up, up))
    assert check("quadratic-bowl/6", "longer paths come with smaller gaps", lambda: (up, -up))
    assert check("quadratic-bowl/6", "the two have nothing to do with each other", lambda: (up, np.abs(up - 9.5)))
