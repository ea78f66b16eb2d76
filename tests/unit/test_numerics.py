"""Precision and divergence: what float32 costs, and that a network which diverges does so at the right step, alone."""

import math

import numpy as np
import pytest
import torch

from descent import Task, data, models, schedules, sweep
from descent.seeding import generator

DIGITS = data.digits(200, val=50)
MLP = Task(models.MLP((64, 16, 10)), DIGITS, "mse")
CNN = Task(models.CNN((1, 8, 8), (4, 4)), DIGITS, "mse")
NORMALIZED = Task(models.CNN((1, 8, 8), (4,), batch_norm=True), DIGITS, "mse")
VALLEY = Task(models.ScalarNetwork(4, noise=0.0), data.nothing(1), "output")


def train(task, **arguments):
    return sweep(task, **{"steps": 100, "record": ["loss", "weights"], "record_every": 1, "cache": False} | arguments)


def apart(a, b):
    """|a - b| / |b| of the weights of two sweeps, per network and step."""
    difference, size = ((w**2).sum("parameter", skipna=False) ** 0.5 for w in (a.weights.astype(float) - b.weights, b.weights))
    return difference / size


# -- divergence --------------------------------------------------------------------------

#: learning rates of networks that survive, of some that do not, and of as many that could stand in their place
CALM, WILD, STAND_IN = [0.01, 0.02], [1e3, 3e3, 1e4], [0.012, 0.015, 0.018]


@pytest.mark.parametrize("lost", [1, 3], ids=["", "most lost"])
@pytest.mark.parametrize("rule", ["sgd", "heavy_ball", "nesterov", "rmsprop", "adam"])
@pytest.mark.parametrize("task, batch_size", [(MLP, None), (MLP, 16), (CNN, 16), (NORMALIZED, 16)], ids=["MLP", "MLP-16", "CNN-16", "CNN-BN-16"])
def test_the_neighbours_of_a_diverging_network_do_not_notice(task, batch_size, rule, lost):
    """Bit by bit: they are the same as beside a network that behaves."""
    settings = dict(optimizer=rule, batch_size=batch_size, clip=[1e6, math.inf], seed=[0, 1], steps=60, record_every=20)
    beside_wild, beside_calm = (train(task, lr=[CALM[0], *others[:lost], CALM[1]], **settings) for others in (WILD, STAND_IN))
    assert (beside_wild.diverged_at.sel(lr=WILD[:lost]) < 60).all() and beside_calm.diverged_at.isnull().all()
    for name in ("loss", "weights"):
        assert np.array_equal(beside_wild[name].sel(lr=CALM), beside_calm[name].sel(lr=CALM))


def by_hand(task, lr, seed, steps, make, clip=None, batch_size=None, rise=1):
    """Losses at each step of one network in float64, by a plain loop with torch.optim, and the step at which it
    diverged: the first at which its minibatch loss exceeds 10^6 times its first one, or 10^6, or is no number. After the
    last update the minibatch that would come next decides.

    The learning rate rises linearly to `lr` over the first `rise` steps."""
    start = task.model.init(generator(seed, "init"), 1.0)
    params = {name: p.double().requires_grad_() for name, p in start.items()}
    part = task.part("train", dtype=torch.float64)
    order, seen, visits = generator(seed, "batches"), [], []
    optimizer = make(list(params.values()), lr)
    for t in range(steps + 1):
        if batch_size is None:
            batch = slice(None)
        else:
            if not visits:
                visits = list(order.permutation(len(part))[: len(part) - len(part) % batch_size].split(batch_size))
            batch = visits.pop(0)
        optimizer.param_groups[0]["lr"] = lr * min(1.0, (t + 1) / rise)
        optimizer.zero_grad()
        y = part.y[..., batch]
        loss = task.losses(params, part.x[..., batch], y)
        if t < steps:
            seen.append(loss.item())
        if not loss.item() <= 1e6 * max(1.0, abs(seen[0])):
            return seen, float(t)
        if t == steps:
            break
        loss.backward()
        if clip is not None:  # torch's own adds 10^-6 to the norm
            norm = math.sqrt(sum(p.grad.square().sum().item() for p in params.values()))
            for p in params.values():
                p.grad.mul_(min(1.0, clip / norm))
        optimizer.step()
    return seen, math.nan


HANDS = {
    "sgd": lambda p, lr: torch.optim.SGD(p, lr),
    "heavy_ball": lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9),
    "nesterov": lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9, nesterov=True),
    "rmsprop": lambda p, lr: torch.optim.RMSprop(p, lr, alpha=0.99),
    "adam": lambda p, lr: torch.optim.Adam(p, lr),
}
#: rising to these over the run, the learning rate passes the bound of stability early, late or never
LADDER = {"sgd": [0.1, 0.5, 1.0, 2.0, 5.0, 20.0, 100.0], "rmsprop": [1.0, 50.0, 70.0, 100.0, 150.0, 200.0, 1000.0],
          "adam": [100.0, 1000.0, 1500.0, 1900.0, 3000.0]}  # fmt: skip
LADDER |= {"heavy_ball": LADDER["sgd"], "nesterov": LADDER["sgd"]}


@pytest.mark.parametrize("clip, batch_size", [(None, None), (None, 50), (300.0, None)], ids=["", "minibatch", "clip"])
@pytest.mark.parametrize("rule", HANDS)
def test_divergence_is_found_at_the_step_of_a_plain_loop(rule, clip, batch_size):
    expected, nudged = ([by_hand(MLP, nudge * lr, 3, 60, HANDS[rule], clip, batch_size, rise=60)[1] for lr in LADDER[rule]] for nudge in (1, 1 + 1e-9))
    np.testing.assert_array_equal(expected, nudged)  # else the step is a matter of rounding: Adam at lr = 700 to 800
    several = {step for step in expected if not math.isnan(step)}
    assert len(several) >= 3 and max(several) >= 10 and math.isnan(expected[0])  # so that there is something to find
    settings = dict(lr=LADDER[rule], optimizer=rule, batch_size=batch_size, seed=3, steps=60, schedule=schedules.warmup(60))
    found = train(MLP, dtype=torch.float64, **settings | ({} if clip is None else {"clip": clip})).squeeze("seed")
    np.testing.assert_array_equal(found.diverged_at, expected)
    # what was measured up to that step is there, what comes later is not
    last = found.diverged_at.fillna(60)
    assert found.weights.where(found.step <= last, 0.0).notnull().all()
    assert found.loss.where(found.step > last).isnull().all() and found.weights.where(found.step > last).isnull().all()
    if rule in ("sgd", "heavy_ball", "nesterov") and clip is None:  # losses that grow by factors: rounding does not decide
        np.testing.assert_array_equal(train(MLP, **settings).diverged_at.squeeze("seed"), expected)


def test_a_loss_that_is_no_number_at_the_first_step():
    task = Task(models.Function(lambda w, x: torch.log(w).sum(-2), 1, start=(-1.0,)), data.nothing(1), "output")
    found = train(task, lr=[0.1, 0.2], steps=5)
    assert (found.diverged_at == 0).all() and found.loss.isnull().all()


def test_the_bound_is_relative_to_the_first_loss():
    """A network that starts at a loss of 10^4 may reach 10^10, one that starts at 10^-4 only 10^6."""
    task = Task(models.Quadratic((1.0,), start=(1.0,)), data.nothing(1), "output")
    for scale in (0.02, 140.0):
        found = train(task, lr=3.0, init_scale=scale, steps=40, dtype=torch.float64)  # |1 - 3| = 2: the loss grows by 4
        first = scale**2 / 2
        assert found.diverged_at.item() == math.ceil(math.log(1e6 * max(1.0, first) / first, 4))


# -- precision ---------------------------------------------------------------------------


@pytest.mark.parametrize("task", [MLP, CNN], ids=["MLP", "CNN"])
@pytest.mark.parametrize("rule, lr", [("sgd", [0.01, 0.05]), ("heavy_ball", [0.002, 0.01]), ("adam", [1e-3, 1e-2])])
def test_both_precisions_agree_where_training_is_stable(task, rule, lr):
    """To 0.1 % as `sweep` says, at every step, and most of the way to 0.001 %."""
    single, double = (train(task, lr=lr, optimizer=rule, batch_size=[20, None], seed=[0, 1], steps=50, dtype=d) for d in (torch.float32, torch.float64))
    assert single.loss.dtype == np.float32 and double.loss.dtype == np.float64
    np.testing.assert_allclose(single.loss, double.loss, rtol=1e-3)
    assert apart(single, double).max() < 1e-3 and apart(single, double).median() < 1e-5
    assert apart(single, double).sel(step=50).min() > 1e-10  # they are two precisions


def test_float64_is_a_plain_loop_to_the_last_digits():
    losses, _ = by_hand(MLP, 0.01, 0, 100, HANDS["heavy_ball"])
    found = train(MLP, lr=0.01, optimizer="heavy_ball", dtype=torch.float64)
    np.testing.assert_allclose(found.loss.squeeze("seed")[:-1], losses, rtol=1e-9)


def rate(distance):
    """Growth of the logarithm of a distance per step, where it is between 10^-6 and 10^-2."""
    inside = np.flatnonzero((distance > 1e-6) & (distance < 1e-2))
    assert len(inside) >= 6
    return np.polyfit(inside, np.log(distance[inside]), 1)[0]


def test_beyond_the_edge_of_stability_trajectories_part():
    """At lr = 0.5 this loss is chaotic: rounding grows by a factor per step until nothing is left in common.

    The factor is the dynamics' own: two float64 runs that start 10^-7 apart part at the same
    rate. At a stable learning rate none of this happens.
    """
    single, double, moved = (train(VALLEY, lr=[0.05, 0.5], dtype=d, init_scale=s, steps=200) for d, s in ((torch.float32, 1.0), (torch.float64, 1.0), (torch.float64, 1 + 1e-7)))
    by_rounding, by_moving = (apart(other, double).sel(lr=0.5).squeeze().values for other in (single, moved))
    assert by_rounding[1:5].max() < 1e-6 and np.median(by_rounding[-50:]) > 0.1
    assert 0.05 < rate(by_rounding) and rate(by_moving) / 2 < rate(by_rounding) < 2 * rate(by_moving)
    assert apart(single, double).sel(lr=0.05).max() < 1e-6


def test_a_network_at_too_large_a_learning_rate_parts_too():
    task = Task(models.MLP((64, 32, 32, 10)), DIGITS)
    single, double = (train(task, lr=[0.3, 2.0], dtype=d) for d in (torch.float32, torch.float64))
    distance = apart(single, double).sel(step=100).squeeze()
    assert distance.sel(lr=0.3) < 1e-5 and distance.sel(lr=2.0) > 0.1
    assert single.diverged_at.isnull().all()
