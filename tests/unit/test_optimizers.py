"""Each rule against `torch.optim` driving one network, and against plain numpy where torch has none."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from descent import Task, data, models, optimizers, schedules, sweep

STEPS = 40
TASK = Task(models.MLP((3, 8, 2)), data.gaussian(64, 3), loss="cross_entropy")

ORACLES = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "sgd, l2": lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.05),
    "heavy_ball": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.8),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.8, nesterov=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, alpha=0.95),
    "adam": lambda p: torch.optim.Adam(p, lr=0.02, betas=(0.8, 0.95)),
    "adam, l2": lambda p: torch.optim.Adam(p, lr=0.02, betas=(0.8, 0.95), weight_decay=0.05),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.02, betas=(0.8, 0.95), weight_decay=0.3),
}
SETTINGS = {
    "sgd": dict(lr=0.1),
    "sgd, l2": dict(lr=0.1, l2=0.05),
    "heavy_ball": dict(lr=0.1, momentum=0.8),
    "nesterov": dict(lr=0.1, momentum=0.8),
    "adagrad": dict(lr=0.1),
    "rmsprop": dict(lr=0.01, beta2=0.95),
    "adam": dict(lr=0.02, beta1=0.8, beta2=0.95),
    "adam, l2": dict(lr=0.02, beta1=0.8, beta2=0.95, l2=0.05),
    "adamw": dict(lr=0.02, beta1=0.8, beta2=0.95, weight_decay=0.3),
}


def ours(**settings):
    """Weights after each step, (STEPS + 1, P), of one network trained by the engine in float64."""
    return sweep(TASK, steps=STEPS, record="weights", record_every=1, dtype=torch.float64, cache=False, **settings).weights.squeeze().values


def theirs(make, clip=math.inf, schedule=None):
    """The same by a hand-written loop around a `torch.optim` optimizer."""
    generator_free = TASK.unflatten(torch.tensor(ours(lr=0.1)[0]))
    leaves = [p.clone().requires_grad_() for p in generator_free.values()]
    optimizer, part = make(leaves), TASK.part("train", dtype=torch.float64)
    base, path = optimizer.param_groups[0]["lr"], []
    for t in range(STEPS + 1):
        path.append(torch.cat([p.detach().flatten() for p in leaves]).numpy().copy())
        if schedule:
            optimizer.param_groups[0]["lr"] = base * schedule(t, STEPS)
        optimizer.zero_grad()
        TASK.losses(dict(zip(TASK.layout, leaves)), part.x, part.y).backward()
        if clip < math.inf:
            torch.nn.utils.clip_grad_norm_(leaves, clip)
        optimizer.step()
    return np.array(path)


@pytest.mark.parametrize("name", ORACLES)
def test_matches_torch(name):
    mine = ours(optimizer=name.split(",")[0], **SETTINGS[name])
    np.testing.assert_allclose(mine, theirs(ORACLES[name]), rtol=1e-6, atol=1e-9)
    assert np.abs(mine[-1] - mine[0]).max() > 1e-2


ADAPTIVE = ["adagrad", "rmsprop", "adam", "adamw"]
#: one weight of which has gradient zero
FLAT = Task(models.Quadratic((1.0, 0.0), start=(1.0, 1.0)), data.nothing(2), "output")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ADAPTIVE)
def test_without_an_offset_a_weight_without_gradient_stays(name, dtype):
    """The other weight is trained as torch trains it, alone and without an offset."""
    decay = {"weight_decay": 0.0} if name == "adamw" else {}
    ds = sweep(FLAT, optimizer=name, eps=0.0, lr=0.01, steps=5, record="weights", dtype=dtype, cache=False, **decay)
    makers = {"adagrad": torch.optim.Adagrad, "rmsprop": torch.optim.RMSprop, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    w = torch.tensor([1.0], dtype=dtype, requires_grad=True)
    oracle = makers[name]([w], lr=0.01, eps=0.0, **decay)
    for _ in range(5):
        oracle.zero_grad()
        (w * w / 2).sum().backward()
        oracle.step()
    np.testing.assert_allclose(ds.weights.values[0, -1], [w.item(), 1.0], rtol=1e-5 if dtype == torch.float32 else 1e-12)
    assert np.isnan(ds.diverged_at).all()


@pytest.mark.parametrize("name", ADAPTIVE)
def test_without_an_offset_networks_do_not_disturb_each_other(name):
    """A gradient whose square rounds to zero, a gradient that begins after a while, and ordinary ones with offsets of their own."""
    tiny = Task(models.Quadratic((1.0, 1e-30), start=(1.0, 1.0)), data.nothing(2), "output")
    found = sweep(tiny, optimizer=name, eps=[0.0, 1e-8], weight_decay=0.0, lr=0.01, steps=5, record="weights", cache=False)
    assert np.isfinite(found.weights).all() and (found.weights.isel(parameter=1, step=-1).sel(eps=0.0) == 1).all()
    late = Task(models.Function(lambda w, x: (w * (w - 1).relu()).sum(-2) + w.sum(-2) * x.sum(-2), 1, start=(0.0,), features=1),
                data.Data("late", torch.tensor([[0.0], [1.0]]), torch.zeros(2)), "output")  # fmt: skip
    ds = sweep(late, optimizer=name, eps=0.0, lr=0.01, batch_size=1, steps=40, seed=range(4), record="weights", cache=False)
    assert np.isfinite(ds.weights).all() and (ds.weights.isel(step=-1) < 0).all()


def test_adam_without_memory_and_offset_stays_finite():
    """beta2 = 0 forgets at once: where the last gradient is zero, and the mean of all is not, the weight waits."""
    late = Task(models.Function(lambda w, x: w.sum(-2) * x.sum(-2), 1, start=(0.0,), features=1),
                data.Data("late", torch.tensor([[0.0], [1.0]]), torch.zeros(2)), "output")  # fmt: skip
    ds = sweep(late, optimizer="adam", eps=0.0, beta2=0.0, lr=0.01, batch_size=1, steps=40, record="weights", cache=False)
    assert np.isfinite(ds.weights).all()


def test_proximal_point_waits_while_the_learning_rate_is_zero():
    f = models.Function(lambda w, x: (1.5 * w * w).sum(-2), 2, start=(1.0, -2.0), prox=lambda w, x, lr: w / (1 + 3 * lr))
    task, pause = Task(f, data.nothing(2), "output"), schedules.Schedule("pause", lambda step, steps: float(step != 1))
    ds = sweep(task, lr=0.7, optimizer="proximal_point", schedule=pause, steps=3, record="weights", record_every=1, cache=False)
    np.testing.assert_allclose(ds.weights.values[0], np.array([1.0, -2.0]) / (3.1 ** np.array([0, 1, 1, 2]))[:, None], rtol=1e-6)


@pytest.mark.parametrize("name, value", [("beta1", 1 - 1e-9), ("beta2", 1 - 1e-9), ("lr", 1e-50), ("lr", 1e-39), ("lr", 1e39)])
def test_hyperparameters_are_checked_as_they_are_held(name, value):
    """beta = 1 in float32 makes 0/0 of Adam's averages; in float64 it is another number."""
    with pytest.raises(ValueError, match=f"^{name}=.* in torch.float32; allowed"):
        sweep(TASK, optimizer="adam", steps=1, cache=False, **{name: value})
    if name != "lr":
        ds = sweep(TASK, optimizer="adam", steps=1, dtype=torch.float64, cache=False, **{name: value})
        assert np.isfinite(ds.loss).all()


def test_an_ascent_that_is_zero_in_float32_is_refused():
    with pytest.raises(ValueError, match="ascent=1e-42 is 0 in torch.float32; allowed: a positive number"):
        sweep(TASK, optimizer="gradient_penalty", ascent=1e-42, steps=1, cache=False)
    with pytest.raises(ValueError, match="momentum=0.9999999999 is 1"):
        sweep(TASK, optimizer="heavy_ball", momentum=0.9999999999, steps=1, cache=False)


def test_clipping_matches_torch():
    mine = ours(lr=0.1, clip=0.05)
    np.testing.assert_allclose(mine, theirs(ORACLES["sgd"], clip=0.05), rtol=1e-4, atol=1e-7)
    assert np.linalg.norm(np.diff(mine, axis=0), axis=1).max() <= 0.1 * 0.05 * (1 + 1e-9)


def test_schedule_multiplies_the_learning_rate():
    schedule = schedules.warmup(10) * schedules.cosine()
    mine = ours(lr=0.1, schedule=schedule)
    np.testing.assert_allclose(mine, theirs(ORACLES["sgd"], schedule=schedule), rtol=1e-6, atol=1e-9)


def test_l1_is_the_proximal_step():
    """One step from w on a bowl, against the soft threshold written out."""
    task = Task(models.Quadratic((1.0, 2.0, 3.0), start=(1.0, 0.1, -1.0)), data.nothing(3), loss="output")
    w = sweep(task, lr=0.1, l1=2.0, steps=1, record="weights", dtype=torch.float64, cache=False).weights.squeeze().values
    moved = w[0] * (1 - 0.1 * np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(w[1], np.sign(moved) * np.maximum(np.abs(moved) - 0.2, 0), atol=1e-12)
    assert w[1][1] == 0


def test_proximal_point_on_a_bowl():
    """prox of lambda v^2 / 2 is w / (1 + lr lambda): the implicit Euler step."""
    f = models.Function(lambda w, x: (1.5 * w * w).sum(-2), 2, start=(1.0, -2.0), prox=lambda w, x, lr: w / (1 + 3 * lr))
    w = sweep(Task(f, data.nothing(2), "output"), lr=0.7, optimizer="proximal_point", steps=5, record="weights",
              record_every=1, dtype=torch.float64, cache=False).weights.squeeze().values  # fmt: skip
    np.testing.assert_allclose(w, np.array([1.0, -2.0]) / (1 + 2.1) ** np.arange(6)[:, None], rtol=1e-12)


def test_every_hyperparameter_differs_between_networks():
    """A grid over momentum, decay and clipping equals the networks trained one by one."""
    grid = dict(momentum=[0.0, 0.9], weight_decay=[0.0, 0.2], clip=[0.1, 10.0])
    together = sweep(TASK, lr=0.1, optimizer="heavy_ball", steps=20, record="weights", dtype=torch.float64, cache=False, **grid)
    for point in np.ndindex(2, 2, 2):
        single = {k: v[i] for (k, v), i in zip(grid.items(), point)}
        alone = sweep(TASK, lr=0.1, optimizer="heavy_ball", steps=20, record="weights", dtype=torch.float64, cache=False, **single)
        np.testing.assert_allclose(together.weights.sel(single).values, alone.weights.values, rtol=1e-12)


def test_other_defaults_and_unknown_names():
    assert optimizers.adamw(weight_decay=0.3).hyperparameters["weight_decay"] == 0.3
    assert optimizers.adamw(weight_decay=0.3, label="AdamW").name == "AdamW"
    with pytest.raises(ValueError, match="takes no hyperparameter 'momentum'"):
        optimizers.adam(momentum=0.9)
    with pytest.raises(ValueError, match="unknown optimizer 'lion'"):
        optimizers.get("lion")


def test_one_cycle_matches_torch():
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    oracle = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=100, cycle_momentum=False)
    schedule, factors = schedules.one_cycle(), []
    for _ in range(100):
        factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        oracle.step() if len(factors) < 100 else None
    np.testing.assert_allclose([schedule(t, 100) for t in range(100)], factors, rtol=1e-6)


@pytest.mark.parametrize(
    "schedule, start, end",
    [
        (schedules.constant(), 1, 1),
        (schedules.linear(0.1), 1, 0.1),
        (schedules.cosine(0.2), 1, 0.2),
        (schedules.warmup(10), 0.1, 1),
        (schedules.step_decay(30, 0.1), 1, 1e-3),
    ],
)
def test_schedules_begin_and_end_where_they_say(schedule, start, end):
    assert schedule(0, 100) == pytest.approx(start) and schedule(100, 100) == pytest.approx(end)


@pytest.mark.parametrize("peak, steps", [(0.1, 10), (0.25, 4), (0.2, 5), (0.5, 2), (1.0, 1), (0.3, 1), (0.3, 2), (0.0, 7), (np.float32(0.1), 10)])
def test_one_cycle_without_a_leg_upwards_begins_at_the_top(peak, steps):
    factors = [schedules.one_cycle(peak)(t, steps) for t in range(steps + 1)]
    assert factors[0] == pytest.approx(1) and (np.diff(factors) <= 0).all()
    assert factors[-1] == pytest.approx(4e-6)  # a leg downwards without width has come down at the end of the run


@given(st.floats(0, 1), st.integers(1, 60), st.booleans())
def test_every_schedule_has_a_factor_at_every_step(peak, steps, whole):
    peak = round(peak * steps) / steps if whole else peak  # tops that lie on a step
    made = [schedules.one_cycle(peak), schedules.linear(), schedules.cosine(), schedules.warmup(7), schedules.step_decay(3, 0.0)]
    for schedule in [*made, made[0] * made[1]]:
        factors = [schedule(t, steps) for t in range(steps + 1)]
        assert all(0 <= f <= 1 for f in factors), (schedule.name, factors)


def test_one_cycle_stays_at_the_top_if_that_is_the_end():
    assert [schedules.one_cycle(1.0)(t, 5) for t in (0, 4)] == pytest.approx([0.04, 1])


def test_a_schedule_that_divides_by_zero_is_refused_by_name():
    late = schedules.Schedule("late", lambda step, steps: 1 / (step - 3))
    with pytest.raises(ValueError, match="schedule 'late' has no factor at step 3 of 5"):
        sweep(TASK, schedule=late, steps=5, cache=False)


@pytest.mark.parametrize(
    "make",
    [
        lambda: schedules.warmup(0), lambda: schedules.linear(2), lambda: schedules.step_decay(0), lambda: schedules.warmup(math.nan),
        lambda: schedules.warmup(math.inf), lambda: schedules.step_decay(math.nan), lambda: schedules.one_cycle(math.nan),
    ],
)  # fmt: skip
def test_schedules_refuse_nonsense(make):
    with pytest.raises(ValueError, match="must"):
        make()
