"""The exercises on lazy and rich training accept what training and simulation find, and their judges can see every option."""

import numpy as np
import pytest
import torch
import xarray as xr

from descent import Task, data, models, seeds, sweep
from descent.exercises import check
from descent.laziness import pair_flow, projection, relative_distance
from descent.seeding import generator

NAME = "lazy-rich/{}".format


def test_the_learning_rate_that_makes_both_the_same():
    odd, words = data.parity(data.digits(train=50), signs=True), dict(steps=20, dtype=torch.float64, cache=False)
    network = dict(widths=(64, 12, 12, 12, 1), activation="relu", bias=False)
    large = sweep(Task(models.MLP(**network), odd, loss="mse"), lr=0.002, init_scale=2.0, **words)
    candidates = [0.002 * 2.0**k for k in range(-5, 3)]
    scaled = sweep(Task(models.MLP(**network, output_scale=16.0), odd, loss="mse"), lr=candidates, **words)
    same = [bool(np.allclose(large.loss, scaled.loss.sel(lr=lr), rtol=1e-5)) for lr in candidates]
    assert same == [bool(check(NAME(2), lr)) for lr in candidates] and sum(same) == 1


def test_the_kernel_that_doubles():
    growth = {k: pair_flow(np.array([1e3]), k)[1][0] / k for k in np.linspace(0.5, 3, 200)}
    assert check(NAME(3), min(growth, key=lambda k: abs(growth[k] - 2)))


def test_the_scale_at_which_training_moves_the_weights_so_little():
    task = Task(models.LazyMLP((64, 64, 1), activation="tanh"), data.parity(data.digits(train=100), signs=True), loss="mse")
    words = dict(lr=0.02, seed=seeds(1), record=relative_distance, cache=False)
    scales = [4900.0, 5100.0, 5300.0]
    moved = sweep(task, init_scale=scales, steps=200, record_every=200, **words).relative_distance.isel(seed=0, step=-1)
    assert check(NAME(4), np.interp(-2e-5, -moved, scales))
    assert not check(NAME(4), 1 / np.interp(-2e-5, -moved, scales))
    for steps in (1, 100):  # a shorter run has the same exponent, and is not right
        brief = sweep(task, init_scale=10.0, steps=steps, record_every=steps, **words).relative_distance.squeeze()
        assert not check(NAME(4), 10 * brief[-1] / 2e-5)


def test_the_share_of_a_matrix():
    random, draw = generator(0, "init"), projection(4, 20, 4)
    beta = random.normal(20, 1)
    shares = [float((torch.linalg.pinv(w) @ w @ beta).norm() ** 2 / beta.norm() ** 2) for w in (draw(random) for _ in range(500))]
    assert check(NAME(5), np.mean(shares))


@pytest.mark.parametrize(
    "speed, way, option",
    [
        (1, 0.1, "the same loss curve, and a tenth of the distance"), (1, 1, "the same loss curve, and the same distance"),
        (0.1, 0.1, "a ten times slower loss curve, and a tenth of the distance"), (10, 10, "a ten times faster loss curve, and ten times the distance"),
    ],
)  # fmt: skip
def test_the_scale_is_read_off_the_run(speed, way, option):
    step = np.arange(0, 200, 10)
    loss = np.exp(-0.01 * np.outer([1, speed], step))[:, None]
    moved = np.array([0.01, 0.01 * way])[:, None, None] * (1 - loss)
    run = xr.Dataset({"loss": (("init_scale", "seed", "step"), loss), "relative_distance": (("init_scale", "seed", "step"), moved)})
    assert check(NAME(1), option, lambda: run)


@pytest.mark.parametrize("after, option", [(6.7, "it stays about the same"), (12.0, "it doubles"), (3.0, "it halves"), (30.0, "it grows fourfold")])
def test_the_heat_is_read_off_the_runs(after, option):
    runs = [xr.Dataset({"weight_norm": (("seed", "step"), np.full((3, 2), norm))}) for norm in (6.5, after, 9.0)]
    assert check(NAME(6), option, lambda: runs)


@pytest.mark.parametrize(
    "change, option",
    [(0.05, "a tenth of the change"), (0.45, "about the same change"), (4.0, "ten times the change"), (np.nan, "training diverges")],
)
def test_what_is_beyond_the_limit_is_read_off_the_run(change, option):
    run = xr.Dataset({"kernel_change": (("lr", "init_scale", "seed", "step"), np.array([[0.02, 0.002], [0.5, change]])[..., None, None])})
    assert check(NAME(7), option, lambda: run)
