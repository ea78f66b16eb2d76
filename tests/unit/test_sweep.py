"""The engine: labels, independence of networks, refusals, interrupts, the cache."""

import importlib
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from descent import Task, backprop, cache, data, explore, models, optimizers, probes, retrain, schedules, seeds, sweep
from descent.seeding import Generator, key
from descent.sweep import REPORT, WORKING_SET, _initial, _plan, _Run, _Training, recipe

DIGITS = data.digits(200, val=50)
TASK = Task(models.MLP((64, 16, 10)), DIGITS)
BOWL = Task(models.Quadratic((1.0, 4.0), start=(1.0, 1.0)), data.nothing(2), loss="output")


def train(task=TASK, **arguments):
    return sweep(task, **{"steps": 20, "cache": False} | arguments)


def test_dimensions_coordinates_and_attributes():
    ds = train(lr=[0.1, 0.2], batch_size=[20, None], optimizer=["sgd", "adam"], seed=[3, 5], l2=[0.0, 0.1, 0.2],
               init_scale=1.5, record=["loss", "val_accuracy", "weights"], record_every=10)  # fmt: skip
    assert ds.loss.dims == ("lr", "batch_size", "optimizer", "l2", "seed", "step")
    assert ds.weights.dims == (*ds.loss.dims, "parameter") and ds.sizes["parameter"] == TASK.parameters
    assert ds.diverged_at.dims == ds.loss.dims[:-1] and ds.diverged_at.isnull().all()
    assert ds.batch_size.values.tolist() == [20, 200] and ds.step.values.tolist() == [0, 10, 20]
    assert ds.optimizer.values.tolist() == ["sgd", "adam"] and ds.init_scale.item() == 1.5
    assert ds.loss.attrs["long_name"] == "training loss" and ds.lr.attrs["symbol"] == "η"
    recipe = json.loads(ds.attrs["recipe"])
    assert recipe["model"]["widths"] == [64, 16, 10] and recipe["lr"] == [0.1, 0.2] and ds.attrs["seconds"] > 0


def test_values_lie_where_their_labels_say():
    """On a bowl each network has a closed form: lr and init scale can be read off the result."""
    ds = train(BOWL, lr=[0.1, 0.3, 0.45], init_scale=[1.0, 2.0], steps=7, record=["loss", "weights"], record_every=1, dtype=torch.float64)
    w = ds.init_scale * xr.DataArray([1.0, 1.0], dims="parameter") * (1 - ds.lr * xr.DataArray([1.0, 4.0], dims="parameter")) ** ds.step
    loss = (w**2 * xr.DataArray([1.0, 4.0], dims="parameter")).sum("parameter") / 2
    np.testing.assert_allclose(ds.weights.squeeze("seed").transpose(*w.dims), w, atol=1e-12)
    np.testing.assert_allclose(ds.loss.squeeze("seed").transpose(*loss.dims), loss, atol=1e-12)


@pytest.mark.parametrize("model", [models.MLP((64, 16, 10)), models.CNN((1, 8, 8), (4, 4)), models.CNN((1, 8, 8), (4,), batch_norm=True)], ids=["MLP", "CNN", "CNN-BN"])
@pytest.mark.parametrize("sampling", ["shuffle", "replacement"])
def test_alone_and_in_a_grid_are_the_same(model, sampling):
    task = Task(model, DIGITS)
    grid = dict(lr=[0.01, 0.05], batch_size=[16, 64], init_scale=[0.5, 1.0], seed=[0, 1, 2])
    together = train(task, **grid, sampling=sampling)
    for point in [(0, 0, 0, 0), (1, 1, 1, 2), (1, 0, 1, 1)]:
        single = {k: v[i] for (k, v), i in zip(grid.items(), point)}
        alone = train(task, **single, sampling=sampling)
        np.testing.assert_allclose(together.loss.sel(single), alone.loss.squeeze("seed"), rtol=2e-4)


@pytest.mark.parametrize("optimizer", ["sgd", "heavy_ball", "nesterov", "adagrad", "rmsprop", "adam", "adamw"])
@pytest.mark.parametrize("batch_size", [16, None])
def test_gradients_written_out_train_as_autograd_does(optimizer, batch_size):
    arguments = dict(lr=[0.001, 0.01], optimizer=optimizer, batch_size=batch_size, seed=[0, 1], dtype=torch.float64, record=["loss", "weights"], record_every=5)
    ours, autograd = (train(**arguments, autograd=choice) for choice in (False, True))
    np.testing.assert_allclose(ours.weights, autograd.weights, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(ours.loss, autograd.loss, rtol=1e-9)


@pytest.mark.parametrize("model", [models.MLP((64, 16, 10)), models.CNN((1, 8, 8), (4, 4))], ids=["MLP", "CNN"])
def test_the_last_layer_can_have_its_own_learning_rate(model):
    task = Task(model, DIGITS)
    ds = train(task, lr=[0.05, 0.1], readout_lr=[0.0125, 0.2], seed=3, steps=8, schedule=schedules.linear(), record="weights", record_every=[8], dtype=torch.float64)
    part, last = task.part("train", dtype=torch.float64), list(task.layout)[-2:]
    assert set(last) == set(task.readout)
    w0 = torch.from_numpy(train(task, seed=3, steps=1, record="weights", record_every=[0], dtype=torch.float64).weights.values.reshape(1, -1))
    for lr in ds.lr.values:
        for readout_lr in ds.readout_lr.values:
            params = {name: p[0].clone() for name, p in task.unflatten(w0).items()}
            for step in range(8):
                leaves = {name: p.requires_grad_() for name, p in params.items()}
                gradients = torch.autograd.grad(task.losses(leaves, part.x, part.y), list(leaves.values()))
                rate = {name: (readout_lr if name in last else lr) * schedules.linear()(step, 8) for name in params}
                params = {name: (p - rate[name] * g).detach() for (name, p), g in zip(params.items(), gradients)}
            expected = task.flatten(params, 0)
            np.testing.assert_allclose(ds.weights.sel(lr=lr, readout_lr=readout_lr).values.ravel(), expected, rtol=1e-9, atol=1e-12)


def test_a_model_without_a_last_layer_refuses_a_learning_rate_for_it():
    with pytest.raises(ValueError, match="Quadratic has none"):
        train(BOWL, readout_lr=0.1)
    with pytest.raises(ValueError, match="readout_lr=-1"):
        train(readout_lr=-1.0)


@pytest.mark.parametrize("batch_size", [16, None])
def test_every_step_uses_the_same_memory(batch_size):
    """What lets a GPU launch a step as one recorded graph: nothing it reads or writes moves."""
    plan = _plan(TASK, dict(lr=[0.1, 1e9], batch_size=batch_size, init_scale=1.0, optimizer="adam", schedule=schedules.linear(), seed=[0, 1], steps=9,
                            record="loss", record_every=9, sampling="shuffle", autograd=False, dtype=torch.float32, device="cpu"))  # fmt: skip
    training = _Training(_Run(plan), plan.jobs[0])

    def places():
        tensors = [training.w, training.alive, training.diverged_at, training.h.lr, training.h.step, training.batches.index,
                   *training.state.values(), *training.batches.batch]  # fmt: skip
        return [t.data_ptr() for t in tensors]

    before = places()
    for t in range(9):
        training.step(t)
    assert places() == before and training.h.step == 9
    assert training.h.lr.flatten()[0].item() == pytest.approx(0.1 * schedules.linear()(8, 9))


@pytest.mark.parametrize("model", [
    models.Quadratic((1.0, 4.0)), models.Quadratic((1.0, 4.0), start=(0.1, 0.7)), models.MLP((3, 4, 2), bias=False), models.Pathways(3, 5, product=0.1, noise=0.0),
    models.DiagonalLinear(4), models.LazyMLP((3, 4, 2), bias=False), models.StartedMLP((3, 4, 2), bias=False, first=lambda g: g.normal(4, 3) / 3**0.5),
    models.Mirrored(models.MLP((3, 4, 2), bias=False)), models.ScalarNetwork(3, noise=0.0),
], ids=str)  # fmt: skip
@pytest.mark.parametrize("seeds", [[0], range(20)], ids=len)  # one after another, or together
def test_a_float64_run_starts_in_float64(model, seeds):
    single = isinstance(model, models.Function | models.Quadratic | models.Pathways | models.DiagonalLinear)
    task = Task(model, data.gaussian(4, *model.input_shape), "output" if single else "cross_entropy")
    one, scaled, short = (_initial(task, list(seeds), np.full(len(seeds), s), t) for s, t in ((1.0, torch.float64), (0.3, torch.float64), (0.3, torch.float32)))
    torch.testing.assert_close(scaled, torch.where(one == scaled, one, 0.3 * one), rtol=2e-15, atol=0)
    torch.testing.assert_close(scaled.float(), short, rtol=2e-6, atol=1e-7)
    assert (scaled != scaled.float())[scaled != 0].double().mean() > 0.4  # what was rounded would be float32's


def test_float64_runs_meet_nothing_that_was_rounded():
    """Start, init scale, learning rate, schedule and fresh examples: all of them to 15 digits."""
    bowl = Task(models.Quadratic((1.0,), start=(0.1,)), data.nothing(1), "output")
    ds = train(bowl, lr=0.1, init_scale=[0.3, 1.0], schedule=schedules.linear(), dtype=torch.float64, record="weights", record_every=1)
    right = 0.1 * np.array([[0.3], [1.0]]) * np.cumprod([1.0, *(1 - 0.1 * (1 - np.arange(20) / 20))])
    np.testing.assert_allclose(ds.weights.squeeze(), right, rtol=1e-14)
    assert models.Pathways(3, 1, product=0.1, noise=0.0).init(Generator(key(0, "init"), dtype=torch.float64))["w"][0, 0].item() == pytest.approx(0.1 ** (1 / 3), rel=1e-15)
    law = data.linear_regression(64, (1.0, 0.3, 0.1))
    fresh = Task(models.MLP((3, 1), bias=False), law, "mse")
    ds = train(fresh, lr=0.5, steps=2000, batch_size=8, sampling="fresh", dtype=torch.float64, record=["loss"])
    assert ds.loss[..., -1].item() < 1e-28  # targets of float32 would leave about 1e-15
    x, y = (t.squeeze() for t in fresh.fresh(torch.tensor(0), torch.tensor(0), 16, torch.float64))
    torch.testing.assert_close(y, law.truth @ x, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("how", [{}, {"batch_size": 4}, {"batch_size": 4, "sampling": "replacement"}, {"batch_size": 4, "sampling": "fresh"}], ids=str)
def test_the_last_step_diverges_like_any_other(how, dtype):
    """A run of n steps finds what a longer one finds in its first n, wherever it records."""
    task = Task(models.MLP((3, 4, 1)), data.linear_regression(16, (1.0, 1.0, 1.0)), "mse")
    arguments = {"lr": [0.01, 1e3, 1e10, 1e30], "seed": [0, 1], "record": ["loss", "weights"], "dtype": dtype} | how
    long = train(task, **arguments, steps=12).diverged_at
    assert set(np.unique(long)) > {1.0} and long.sel(lr=0.01).isnull().all()
    for steps in (1, 2, 3, 7):
        for every in (1, steps, [0]):
            ds = train(task, **arguments, steps=steps, record_every=every)
            xr.testing.assert_equal(ds.diverged_at, long.where(long <= steps))
            lost = ds.weights.isnull().any("parameter") & (ds.step == steps)
            assert (lost.any("step") <= ds.diverged_at.notnull()).all()


def test_a_start_without_a_finite_loss_has_diverged():
    ds = train(BOWL, init_scale=[1.0, 1e30], lr=0.1, steps=3, record_every=1)
    assert ds.loss.sel(init_scale=1e30).isnull().all()
    np.testing.assert_array_equal(ds.diverged_at, [[np.nan], [0]])


def test_a_diverging_neighbour_is_harmless():
    calm = train(BOWL, lr=[0.1, 0.2], steps=400, record=["loss", "weights"])
    mixed = train(BOWL, lr=[0.1, 0.2, 0.6, 3.0], steps=400, record=["loss", "weights"])
    assert np.array_equal(calm.weights, mixed.weights.sel(lr=[0.1, 0.2]))
    assert mixed.diverged_at.squeeze().isnull().values.tolist() == [True, True, False, False]
    # |1 - 0.6 * 4| = 1.4: the loss 2 * 1.4^(2t) passes 1e6 times its first value 2.5 at t = 21
    t = np.arange(100)
    first = int(np.argmax((0.4 ** (2 * t) + 4 * 1.4 ** (2 * t)) / 2 > 1e6 * 2.5))
    assert mixed.diverged_at.sel(lr=0.6).item() == first
    after = mixed.loss.sel(lr=3.0).where(mixed.step > mixed.diverged_at.sel(lr=3.0), drop=True)
    assert after.isnull().all() and after.size > 0


@pytest.mark.parametrize("arguments", [
    dict(batch_size=16, seed=[0, 1, 2]), dict(batch_size=16), dict(optimizer="adam", schedule=schedules.linear()), dict(momentum=0.5, optimizer="heavy_ball", clip=1e9),
], ids=["own batches", "shared batches", "adam", "momentum"])  # fmt: skip
def test_going_on_without_the_lost_changes_nothing(arguments, monkeypatch):
    """Most networks diverge at once; the rest, and what is recorded of them, do not notice that these are left out."""
    adam = arguments.get("optimizer") == "adam"
    lr = [0.001, 1e15, 0.002, 2e15, 3e15, 4e15] if adam else [0.01, 1e6, 0.02, 2e6, 3e6, 4e6]
    arguments = dict(lr=lr, steps=100, record=["loss", "distance", "overlap", "val_accuracy"], record_every=10) | arguments
    dropped = train(**arguments)
    lost = dropped.diverged_at.notnull()
    assert lost.mean() == 4 / 6 and (lost == (dropped.lr > 1)).all() and dropped.diverged_at.max() < REPORT
    monkeypatch.setattr(_Training, "drop_the_lost", lambda training: None)
    kept = train(**arguments)
    for name in dropped.data_vars:
        np.testing.assert_array_equal(kept[name], dropped[name])
    alone = train(**arguments | {"lr": [0.001, 0.002] if adam else [0.01, 0.02]})
    xr.testing.assert_allclose(alone, dropped.sel(lr=alone.lr), rtol=2e-4)


@pytest.mark.timeout(20)
def test_when_all_are_lost_the_rest_is_skipped():
    ds = train(lr=[1e9, 2e9], batch_size=16, steps=10**5, record_every=[0, 10**5])
    assert ds.diverged_at.notnull().all() and ds.loss[:, :, 1].isnull().all()


def test_nan_in_the_loss_freezes_only_its_network():
    task = Task(models.Function(lambda w, x: (w * w + torch.sqrt(w)).sum(-2), 1, start=(1.0,)), data.nothing(1), "output")
    ds = train(task, lr=[0.01, 1.0], steps=5, record="loss", record_every=1)
    assert np.isfinite(ds.loss.sel(lr=0.01)).all() and ds.diverged_at.sel(lr=1.0).item() == 1


def test_each_epoch_visits_every_example_once():
    """With f = -x . w and lr 1, w sums the examples seen: after an epoch, all of them."""
    x = torch.arange(12.0)[:, None]
    task = Task(models.Function(lambda w, x: (-x * w).sum(-2), 1, start=(0.0,)), data.Data("count", x, torch.zeros(12)), "output")
    ds = train(task, lr=3.0, batch_size=3, steps=8, seed=[0, 1], record="weights", record_every=[4, 8])
    assert ds.weights.squeeze().values.tolist() == [[66, 132], [66, 132]]


def test_replacement_draws_are_independent():
    x = torch.arange(4.0)[:, None]
    task = Task(models.Function(lambda w, x: (-x * w).sum(-2), 1, start=(0.0,)), data.Data("count", x, torch.zeros(4)), "output")
    ds = train(task, lr=1.0, batch_size=1, steps=2000, record="weights", record_every=1, sampling="replacement")
    draws = np.diff(ds.weights.squeeze().values)
    assert np.bincount(draws.astype(int), minlength=4).min() > 400
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.1


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(["lr", "init_scale", "batch_size", "seed", "l2", "weight_decay", "clip", "momentum", "steps", "record_every"]),
    value=st.one_of(st.floats(max_value=-1e-9), st.just(float("nan")), st.text(max_size=3), st.just([]), st.booleans(), st.just(10**9), st.just(None)),
    listed=st.booleans(),
)
def test_nonsense_is_refused_by_name_before_training(name, value, listed):
    sensible = {("batch_size", None), ("record_every", None)}
    sensible |= {(n, 10**9) for n in ("lr", "init_scale", "seed", "l2", "weight_decay", "clip", "steps")}
    if not isinstance(value, list) and (name, value) in sensible:
        return
    wrong = [value] if listed and not isinstance(value, list) and name not in ("steps", "record_every") else value
    with pytest.raises((ValueError, TypeError), match=name):
        train(optimizer="heavy_ball", **{name: wrong})


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(lr=-0.1), r"lr=-0.1; allowed: a positive number"),
        (dict(batch_size=201), r"batch_size=201; allowed: None or an integer from 1 to 200"),
        (dict(optimizer="proximal_point", lr=-1.0), r"needs a models.Function with prox"),
        (dict(optimizer="lion"), r"unknown optimizer 'lion'; choose from"),
        (dict(momentum=0.9), r"'momentum' is no hyperparameter of \['sgd'\]"),
        (dict(learning_rate=0.1), r"no argument 'learning_rate'"),
        (dict(record="accuracy"), r"record='accuracy' is no known quantity"),
        (dict(record=["loss", "loss"]), r"twice"),
        (dict(record="test_loss", steps=0), r"steps=0 must be a positive integer"),
        (dict(lr=[0.1, 0.1]), r"names a value twice"),
        (dict(record_every=[30]), r"between 0 and steps=20"),
        (dict(sampling="sorted"), r"choose 'shuffle', 'replacement' or 'fresh'"),
        (dict(dtype=torch.float16), r"choose torch.float32 or torch.float64"),
        (dict(schedule="cosine"), r"a Schedule from descent.schedules"),
        (dict(device="cuda"), r"no CUDA device") if not torch.cuda.is_available() else (dict(lr=0), r"lr=0"),
    ],
)
def test_messages_name_the_value_and_what_is_allowed(arguments, message):
    with pytest.raises(ValueError, match=message):
        train(**arguments)


def test_a_task_is_checked_when_it_is_made():
    with pytest.raises(ValueError, match="inputs of shape"):
        Task(models.MLP((63, 10)), DIGITS)
    with pytest.raises(ValueError, match="unknown loss 'huber'"):
        Task(models.MLP((64, 10)), DIGITS, "huber")
    with pytest.raises(ValueError, match="hinge tells two classes apart; .* has 10"):
        Task(models.MLP((64, 1)), DIGITS, "hinge")
    with pytest.raises(ValueError, match="logistic needs targets -1 and 1"):
        Task(models.MLP((3, 1)), data.teacher_student(10, 3), "logistic")
    with pytest.raises(ValueError, match="single output, not 2"):
        Task(models.MLP((3, 2)), data.gaussian(10, 3), "logistic")
    with pytest.raises(ValueError, match="needs class labels"):
        Task(models.MLP((3, 1)), data.teacher_student(10, 3))
    with pytest.raises(ValueError, match="mse on .* needs a model with 10 outputs, one for each class; this one has 1"):
        Task(models.MLP((64, 1)), DIGITS, "mse")
    with pytest.raises(ValueError, match="mse on .* needs a model with 1 output, one for each target; this one has 2"):
        Task(models.MLP((3, 2)), data.teacher_student(10, 3), "mse")
    with pytest.raises(ValueError, match="NaN or infinity"):
        Task(models.MLP((1, 1)), data.Data("bad", torch.tensor([[float("nan")]]), torch.zeros(1, 1)), "mse")
    with pytest.raises(TypeError, match="sweep trains a Task"):
        sweep(models.MLP((64, 10)))
    with pytest.raises(ValueError, match="no val part"):
        sweep(Task(models.MLP((64, 10)), data.digits(100)), record="val_loss")


INTERRUPTED = """
import os, signal
from descent import Task, data, models, probes, sweep

# whoever started the tests in the background may have left the signal ignored
signal.signal(signal.SIGINT, signal.default_int_handler)

def later(networks):
    if networks.step == 50:
        os.kill(os.getpid(), signal.SIGINT)
    return networks.w[:, 0]

task = Task(models.MLP((64, 16, 10)), data.digits(200))
slow = probes.probe("first_weight", needs=())(later)
ds = sweep(task, steps=2_000_000, record=["loss", slow], record_every=list(range(0, 101, 10)))
print(ds.attrs["interrupted"], int(ds.loss.sel(step=slice(0, 50)).notnull().all()), ds.sizes["step"])
"""


def test_an_interrupt_keeps_what_is_done(stored):
    """Ctrl-C while training: the steps before it are there, nothing is cached.

    In a process of its own, because the signal's handler belongs to the whole process.
    """
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=200)
    assert done.stdout.split() == ["1", "1", "11"], done.stderr
    assert not list(stored.iterdir())


@pytest.mark.parametrize("autograd", [False, True])
def test_evaluation_in_slices_is_the_whole(monkeypatch, autograd):
    whole = train(record=["loss", "val_accuracy"], dtype=torch.float64, autograd=autograd)
    monkeypatch.setattr(backprop, "SLICE", 7)
    monkeypatch.setattr(backprop, "EVALUATED", 70)
    sliced = train(record=["loss", "val_accuracy"], dtype=torch.float64, autograd=autograd)
    xr.testing.assert_allclose(whole, sliced, rtol=1e-12)


def test_a_failing_probe_stops_the_sweep_with_its_own_error():
    def broken(networks):
        raise RuntimeError("this probe fails")

    with pytest.raises(RuntimeError, match="this probe fails"):
        train(record=probes.probe("broken")(broken), seed=[0, 1, 2])


def test_retrain_uses_the_recipe():
    ds = train(lr=[0.1, 0.2], optimizer=["sgd", optimizers.adam(label="Adam")], seed=[0, 1], schedule=schedules.cosine())
    new = retrain(ds, lr=0.15, optimizer="Adam")
    assert new.lr.item() == 0.15 and new.seed.values.tolist() == [0, 1] and new.schedule.item() == "cosine"
    np.testing.assert_array_equal(retrain(ds, lr=0.2, optimizer="sgd").loss, ds.loss.sel(lr=0.2, optimizer="sgd"))
    assert retrain(ds.sel(optimizer="Adam"), lr=0.1).optimizer.item() == "Adam"
    assert retrain(train(l1=[0.0, 0.1], clip=[1.0, 2.0]), l1=0.05, clip=1.5).l1.item() == 0.05
    with pytest.raises(ValueError, match="one value for each of"):
        retrain(ds, lr=0.1)
    with pytest.raises(LookupError, match="not made by sweep"):
        retrain(ds.assign_attrs(recipe_id="elsewhere"), lr=0.1, optimizer="sgd")


def test_the_recipe_names_a_model_inside_another():
    task = Task(models.Mirrored(models.MLP((64, 3, 10))), DIGITS)
    model = json.loads(train(task, steps=1).attrs["recipe"])["model"]
    assert model["name"] == "Mirrored" and model["model"] | {"name": "MLP", "widths": [64, 3, 10]} == model["model"]


def test_seeds_can_be_shifted(monkeypatch):
    assert seeds(3) == [0, 1, 2]
    monkeypatch.setenv("DESCENT_SEED_SHIFT", "100")
    assert seeds(2) == [100, 101]
    with pytest.raises(ValueError, match=r"seeds\(0\)"):
        seeds(0)


@pytest.mark.parametrize("networks", [1, 2, 37, 5000])
def test_jobs_cover_the_grid_and_stay_small(networks):
    """Every network is in one job, jobs share optimizer and batch size, and no job outgrows the cache."""
    batch_sizes, rules = [8, None], ["sgd", "adam"]
    arguments = dict(lr=np.linspace(0.1, 1, networks), batch_size=batch_sizes, init_scale=1.0, optimizer=rules, schedule=None,
                     seed=0, steps=5, record="loss", record_every=5, sampling="shuffle", autograd=False, dtype=torch.float32, device="cpu")  # fmt: skip
    plan = _plan(TASK, arguments)
    assert sorted(np.concatenate([job.rows for job in plan.jobs]).tolist()) == list(range(4 * networks))
    for job in plan.jobs:
        assert set(plan.columns["batch_size"][job.rows]) == {job.batch_size}
        assert {rules[i] for i in plan.columns["optimizer"][job.rows]} == {job.optimizer.name}
        activations = 4 * job.batch_size * (64 + 16 + 16 + 10 + 10)
        assert len(job.rows) * (4 * TASK.parameters + activations) < 3 * WORKING_SET


# -- the cache ---------------------------------------------------------------------------


@pytest.fixture
def stored(monkeypatch, tmp_path):
    monkeypatch.setenv("DESCENT_CACHE", str(tmp_path))
    return tmp_path


ARGUMENTS = dict(lr=[0.1, 0.2], optimizer=["sgd", "adam"], steps=10, record=["loss", "val_accuracy"], cache=True)


def test_the_second_time_comes_from_disk(stored):
    first, second = train(**ARGUMENTS), train(**ARGUMENTS)
    xr.testing.assert_identical(first, second)
    assert first.attrs["seconds"] == second.attrs["seconds"] and len(list(stored.iterdir())) == 1


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:-1] + b"x", lambda b: b"hello"], ids=["torn", "empty", "flipped", "foreign"])
def test_a_damaged_file_is_recomputed(stored, damage, monkeypatch):
    engine, trained = importlib.import_module("descent.sweep"), []
    run = engine._run
    monkeypatch.setattr(engine, "_run", lambda *arguments: trained.append(1) or run(*arguments))
    first = train(**ARGUMENTS)
    (file,) = stored.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    again = train(**ARGUMENTS)
    assert len(trained) == 2
    np.testing.assert_array_equal(again.loss, first.loss)
    xr.testing.assert_identical(train(**ARGUMENTS), again)
    assert len(trained) == 2


def test_what_changes_the_result_changes_the_key(stored):
    def bowl(curvature):
        return Task(models.Function(lambda w, x: (curvature * w * w).sum(-2), 2, start=(1.0, 1.0)), data.nothing(2), "output")

    one, two = (train(bowl(c), lr=0.1, steps=5, cache=True) for c in (1.0, 2.0))
    assert one.attrs["recipe_id"] != two.attrs["recipe_id"] and one.loss[0, -1] > two.loss[0, -1]
    keys = {train(**ARGUMENTS | change).attrs["recipe_id"] for change in (
        {}, {"steps": 11}, {"seed": 1}, {"l2": 0.1}, {"schedule": schedules.linear()}, {"sampling": "replacement"},
        {"dtype": torch.float64}, {"optimizer": ["sgd", optimizers.adam(eps=1e-3, label="adam")]},
    )}  # fmt: skip
    assert len(keys) == 8


def test_off_means_off(monkeypatch, tmp_path):
    monkeypatch.setenv("DESCENT_CACHE", "off")
    assert cache.folder() is None
    assert train(**ARGUMENTS).attrs["interrupted"] == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cpu_and_gpu_agree():
    cpu, gpu = (train(lr=[0.01, 0.1], device=d, dtype=torch.float64, record=["loss", "weights"]) for d in ("cpu", "cuda"))
    np.testing.assert_allclose(cpu.weights, gpu.weights, rtol=1e-8, atol=1e-10)


# -- a recipe is that of its values ----------------------------------------------------------

CUTS = {
    "whole": lambda d: d, "part of a dimension": lambda d: d.isel(lr=[2, 0]), "steps": lambda d: d.isel(step=slice(None, None, 3)), "a seed": lambda d: d.isel(seed=1),
    "a seed without its label": lambda d: d.isel(seed=1, drop=True), "an eigenvalue": lambda d: d.isel(eigenvalue=0), "some weights": lambda d: d.isel(parameter=slice(0, 20, 3)),
    "a variable": lambda d: d[["loss"]], "transposed": lambda d: d.transpose(), "cut and joined": lambda d: xr.concat([d.isel(lr=[0]), d.isel(lr=[2])], "lr"),
    "with another": lambda d: d.assign(gap=2 * d.loss), "float64": lambda d: d.astype(float), "copied": lambda d: d.copy(deep=True),
}  # fmt: skip
CHANGES = {
    "times 100": lambda d: 100 * d, "one curve": lambda d: d.assign(loss=d.loss.where(d.lr != 0.2, 1.001 * d.loss)), "mean": lambda d: d.mean("seed"),
    "mean of weights": lambda d: d.mean("parameter"), "masked": lambda d: d.where(d.lr > 0.1), "exchanged": lambda d: d.assign_coords(lr=d.lr.values[::-1]),
    "other labels": lambda d: d.assign_coords(lr=[1.0, 2.0, 3.0]), "shifted": lambda d: d.shift(step=1), "scaled, then cut": lambda d: (2 * d).isel(eigenvalue=0),
    "stacked": lambda d: d.stack(run=("lr", "seed")), "another's name": lambda d: d.assign(loss=d.weights[..., 0]), "epochs": lambda d: d.assign_coords(step=d.step / 4),
    "log": lambda d: np.log10(abs(d)), "text": lambda d: d.assign(loss=d.loss.astype(str)),
}  # fmt: skip
MIXED = dict(lr=[0.1, 0.2, 0.4], seed=[0, 1], record=["loss", "weights", probes.curvature.eigenvalues(2)], steps=10)


@pytest.fixture(scope="module")
def mixed():
    return train(Task(models.MLP((3, 4, 2)), data.gaussian(64, 3)), **MIXED)


@pytest.mark.parametrize("name", CUTS)
def test_a_cut_dataset_keeps_its_recipe(mixed, name):
    assert recipe(CUTS[name](mixed))[1]["steps"] == 10


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_dataset_has_lost_its_recipe(mixed, name):
    changed = CHANGES[name](mixed.assign_attrs()).assign_attrs(mixed.attrs)
    for ask in (recipe, lambda d: retrain(d, lr=0.3), lambda d: explore(d.drop_vars("weights"), caption="c", alt="a", browser=False).train_here({}) if name == "one curve" else recipe(d)):
        with pytest.raises(ValueError, match="joined to another or calculated with"):
            ask(changed)


def test_values_changed_in_place_have_lost_their_recipe():
    for change in (lambda v: np.multiply(v, 2, out=v), lambda v: v.sort(), lambda v: v.__setitem__((0, 0, -1), 0)):
        ds = train(lr=[0.1, 0.2], steps=5)
        change(ds.loss.values)
        with pytest.raises(ValueError, match="values of 'loss' that its sweep did not record"):
            retrain(ds, lr=0.3)


@pytest.mark.parametrize("join", [
    lambda a, b: xr.concat([a, b], "run", data_vars="all", coords="different", compat="equals", combine_attrs="override").isel(run=1),
    lambda a, b: xr.concat([a, b], "run", data_vars="all", coords="different", compat="equals", combine_attrs="override"),
    lambda a, b: xr.concat([a.expand_dims("batch_size"), b.expand_dims("batch_size")], "batch_size", combine_attrs="override"),
    lambda a, b: xr.merge([a[["weights"]], b[["loss"]]], compat="override", combine_attrs="override"),
    lambda a, b: xr.combine_nested([a, b], "run", data_vars="all", coords="different", compat="equals", combine_attrs="override").isel(run=1, drop=True),
], ids=["one of two", "both", "a dimension", "merge", "combine"])  # fmt: skip
def test_joined_datasets_have_lost_their_recipe(join):
    a, b = (train(lr=[0.1, 0.2], steps=5, batch_size=size, record=["loss", "weights"]) for size in (8, 32))
    with pytest.raises(ValueError, match="joined to another or calculated with"):
        retrain(join(a, b), lr=0.15)


# -- files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [
    dict(seed=[2**32 - 1, 0]), dict(seed=2**32 - 1), dict(seed=[0, 1], batch_size=[8, None], optimizer=["sgd", "adam"], clip=[1.0, 2.0], record=["loss", "weights"]),
    dict(schedule=[schedules.constant(), schedules.warmup(3) * schedules.cosine()], dtype=torch.float64), dict(lr=[0.1, 1e30]),
], ids=str)  # fmt: skip
@pytest.mark.parametrize("cached", [False, True])
def test_a_result_survives_a_file(arguments, cached, tmp_path, monkeypatch):
    monkeypatch.setenv("DESCENT_CACHE", str(tmp_path))
    task = Task(models.MLP((3, 4, 2)), data.gaussian(64, 3), name="η “task” 1")
    for _ in range(1 + cached):
        ds = sweep(task, **{"lr": [0.1, 0.2], "steps": 5} | arguments)
    for part in (ds, ds.isel(seed=-1), ds.isel(lr=0)):
        part.to_netcdf(tmp_path / "runs.nc")
        back = xr.load_dataset(tmp_path / "runs.nc")
        assert back.identical(part)
        figure = explore(back.drop_vars("weights", errors="ignore"), caption="c", alt="a", start={})
        assert figure.to_html() and recipe(back) is recipe(part)
