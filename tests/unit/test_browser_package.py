"""What a package holds, what it refuses, and that no setting and no data make its module fail or leave its memory."""

import base64
import gzip
import hashlib
import importlib
import json
import math
import random

import numpy as np
import pytest
import torch
import wasmtime

from descent import Task, browser, cache, data, landscapes, models, sweep
from descent.browser import Unsupported
from descent.browser.package import check
from descent.browser.trace import trace

engine = importlib.import_module("descent.sweep")


TASK = Task(models.MLP((64, 8, 10)), data.digits(train=50, test=20), "mse")
ARGUMENTS = dict(
    lr=[0.05, 0.2], batch_size=[8, None], init_scale=[0.5, 1.0], optimizer=["sgd", "adam"], seed=[0, 1], steps=30,
    record=["loss", "sharpness", "test_accuracy"], record_every=10,
)  # fmt: skip


def compiled(task, **arguments):
    return browser.compile(*engine._recipes[sweep(task, **arguments).attrs["recipe_id"]])


@pytest.fixture(scope="module")
def package():
    return compiled(TASK, **ARGUMENTS)


SETTING = {"lr": 0.1, "batch_size": 7, "init_scale": 1.0, "optimizer": "adam", "seeds": [3, 4]}


def test_describes_itself(package):
    d = package.description
    assert d["hyperparameters"] == {
        "lr": {"min": 0.005, "max": 2.0, "integer": False},
        "batch_size": {"min": 1, "max": 50, "integer": True},
        "init_scale": {"min": 0.05, "max": 10.0, "integer": False},
        "optimizer": {"choices": ["sgd", "adam"]},
    }
    assert (d["seeds"], d["steps"], d["record_steps"]) == (2, 30, [0, 10, 20, 30])
    assert sorted(d["record"]) == ["loss", "sharpness", "test_accuracy"]
    assert d["seed"] == {"min": 0, "max": 2**32 - 1, "integer": True}


def test_json_is_what_the_page_carries(package):
    carried = json.loads(json.dumps(package.json()))
    assert gzip.decompress(base64.b64decode(carried["module"])) == package.module
    assert gzip.decompress(base64.b64decode(carried["data"])) == package.data
    assert "onmessage" in carried["worker"] and carried["description"] == package.description


def test_fits_the_budget():
    """Module and data of the digits network with its test set: at most 150 kB, gzipped."""
    carried = compiled(
        Task(models.MLP((64, 64, 10)), data.digits(train=1000)), lr=[0.1, 0.2], batch_size=[32, None], init_scale=[0.5, 1.0], seed=[0, 1, 2],
        steps=1, record=["loss", "test_accuracy", "sharpness"],
    ).json()  # fmt: skip
    assert sum(len(base64.b64decode(carried[part])) for part in ("module", "data")) < 150e3


def test_module_imports_nothing_and_its_memory_does_not_grow(package):
    module = wasmtime.Module(wasmtime.Engine(), package.module)
    assert list(module.imports) == []
    assert b"memory.grow" not in package.module
    functions = {e.name for e in module.exports if isinstance(e.type, wasmtime.FuncType)}
    assert functions == {"begin", "step", "measure"}


def test_a_compiled_module_is_kept(package, tmp_path, monkeypatch):
    monkeypatch.setenv("DESCENT_CACHE", str(tmp_path))
    task, arguments = engine._recipes[sweep(TASK, cache=False, **ARGUMENTS).attrs["recipe_id"]]
    assert browser.compile(task, arguments).module == package.module  # the same bytes every time
    (kept,) = (tmp_path / "modules").iterdir()
    whole = kept.read_bytes()
    assert whole.endswith(package.module)
    kept.write_bytes(hashlib.sha256(b"kept").digest() + b"kept")
    assert browser.compile(task, arguments).module == b"kept"
    for torn in (whole[:-1], b"", b"kept"):
        kept.write_bytes(torn)
        assert browser.compile(task, arguments).module == package.module
    cache.clear()
    assert not kept.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"lr": math.nan}, {"lr": math.inf}, {"lr": -0.1}, {"lr": 1e9}, {"batch_size": 0}, {"batch_size": 51}, {"batch_size": 2**40},
        {"batch_size": 2.5}, {"batch_size": math.nan}, {"optimizer": "lion"}, {"seeds": [1]}, {"seeds": [0, 2**32]}, {"seeds": [0, -1]},
        {"seeds": [0, 0.5]}, {"momentum": 0.5},
    ],
)  # fmt: skip
def test_refuses_settings_out_of_range(package, change):
    (name,) = change
    with pytest.raises(ValueError, match="seed" if name == "seeds" else name):
        package.run(SETTING | change)


def test_check_names_value_and_range(package):
    with pytest.raises(ValueError, match=r"batch_size=51; allowed: whole numbers from 1 to 50"):
        check(package.description, SETTING | {"batch_size": 51})


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 5, 7, 8, 9, 16, 25, 26, 49, 50])
def test_every_batch_size(package, batch_size):
    """None is baked in, one that does not divide the data leaves the rest of an epoch out."""
    setting = {"lr": 0.05, "batch_size": batch_size, "init_scale": 1.0, "optimizer": "sgd"}
    here = package.run(setting | {"seeds": [0, 1]})
    there = sweep(TASK, **(ARGUMENTS | setting))
    np.testing.assert_allclose(here["loss"], there.loss.values, rtol=1e-4)


def test_what_does_not_vary_is_inside_the_module():
    """No slider at all, one seed, and the sharpness alone."""
    arguments = dict(lr=0.2, batch_size=16, init_scale=0.7, optimizer="heavy_ball", momentum=0.5, steps=20, record=["sharpness"], record_every=5)
    package = compiled(TASK, **arguments)
    assert package.description["hyperparameters"] == {} and package.description["seeds"] == 1
    here = package.run({"seeds": [0]})["sharpness"]
    np.testing.assert_allclose(here, sweep(TASK, **arguments).sharpness.values.reshape(here.shape), rtol=1e-3)


def test_divergence_is_data(package):
    """A network that diverges does so at the step at which it does in `sweep`, and is NaN from there on."""
    task = landscapes.bowl([1.0, 0.1])
    arguments = dict(lr=[1.0, 3.0], init_scale=[1.0, 2.0], steps=60, record=["loss", "weight_norm"], record_every=1)
    here = compiled(task, **arguments).run({"lr": 4.5, "init_scale": 1.5, "seeds": [0]})
    there = sweep(task, **(arguments | {"lr": 4.5, "init_scale": 1.5}))
    assert here["diverged_at"] == there.diverged_at.values and 0 < here["diverged_at"][0] < 60
    np.testing.assert_allclose(here["loss"], there.loss.values, rtol=1e-4)
    assert np.isnan(here["weight_norm"][0, -1])


def test_refuses_what_has_no_form_in_the_page():
    for arguments, message in (
        ({"dtype": torch.float64}, "float64"),
        ({"record": ["weights"]}, "weights"),
        ({"record": ["ntk_eigenvalue"]}, "ntk_eigenvalue"),
    ):
        with pytest.raises(Unsupported, match=message):
            compiled(TASK, lr=[0.1, 0.2], steps=2, **arguments)
    erf = models.Function(lambda w, x: (torch.special.erfinv(w / 9) - x * w).sum(-2), 2)
    with pytest.raises(Unsupported, match="erfinv.*test_browser_package"):
        compiled(Task(erf, data.nothing(2), "output"), lr=[0.1, 0.2], steps=2)


def test_refuses_a_batch_size_that_freezes():
    """A model that looks at the number of examples works for one batch size only."""

    def frozen(w, x):
        scale = 1.0 if x.shape[-1] == 999_983 else 2.0
        return scale * (w - x).square().sum(-2)

    with pytest.raises(Unsupported, match="batch size"):
        compiled(Task(models.Function(frozen, 2), data.tilts(50, 1.0, dim=2), "output"), lr=[0.1, 0.2], batch_size=[2, 4], steps=2)


class Instance:
    """A module with what the page writes into it, behind the back of all checks."""

    def __init__(self, package):
        self.store = wasmtime.Store()
        self.exports = wasmtime.Instance(self.store, wasmtime.Module(self.store.engine, package.module), []).exports(self.store)
        start = 0
        for name, size in package.description["variables"]:
            self.write(name, package.data[start : start + size])
            start += size

    def write(self, name, content):
        self.exports["memory"].write(self.store, content, self.exports[name].value(self.store))

    def read(self, name, size):
        start = self.exports[name].value(self.store)
        return bytes(self.exports["memory"].read(self.store, start, start + size))

    def train(self, steps):
        self.exports["begin"](self.store)
        for _ in range(steps):
            self.exports["measure"](self.store)
            self.exports["step"](self.store)


def test_no_content_of_its_variables_makes_the_module_trap(package):
    """Random bits in every variable that a page writes: NaN, infinities, labels and batch sizes far outside."""
    rng = random.Random(0)
    sizes = dict(package.description["variables"]) | {"seeds": 16, "batch_size": 4, "optimizer": 4, "h_lr": 4, "h_init_scale": 4}
    for _ in range(25):
        instance = Instance(package)
        for name in rng.sample(list(sizes), rng.randint(1, len(sizes))):
            instance.write(name, rng.randbytes(sizes[name]))
        before = instance.exports["memory"].data_len(instance.store)
        instance.train(5)
        assert instance.exports["memory"].data_len(instance.store) == before


@pytest.mark.parametrize("batch_size, used", [(51, 50), (2**31 - 1, 50), (0, 1), (-(2**31), 1)])
def test_the_module_itself_bounds_the_batch_size(package, batch_size, used):
    instance = Instance(package)
    instance.write("batch_size", np.int32(batch_size).tobytes())
    instance.train(1)
    assert np.frombuffer(instance.read("batch_size", 4), np.int32) == used


@pytest.mark.parametrize("optimizer", [2, -1, 2**31 - 1])
def test_the_module_itself_bounds_the_choice_of_optimizer(package, optimizer):
    instance = Instance(package)
    instance.write("optimizer", np.int32(optimizer).tobytes())
    instance.train(1)
    assert np.frombuffer(instance.read("optimizer", 4), np.int32) == 0


def test_what_was_trained_before_leaves_no_trace(package):
    """The same setting after another one, in the same memory, gives the same bits."""

    def trained(instance, batch_size, lr):
        instance.write("batch_size", np.int32(batch_size).tobytes())
        instance.write("h_lr", np.float32(lr).tobytes())
        instance.write("h_init_scale", np.float32(1).tobytes())
        instance.train(10)
        return instance.read("w", 4 * 2 * TASK.parameters) + instance.read("recorded", 4 * 2 * 3) + instance.read("diverged_at", 8)

    used = Instance(package)
    trained(used, 50, 1e6)  # diverges
    assert trained(used, 7, 0.1) == trained(Instance(package), 7, 0.1)


def test_random_numbers_are_drawn_in_the_module_and_not_stored_there():
    plan = engine._plan(TASK, {"autograd": False, "schedule": None} | engine._recipes[sweep(
        TASK, cache=False, lr=0.1, seed=[0, 1], steps=2, record=["loss", "sharpness"]).attrs["recipe_id"]][1])  # fmt: skip
    program = trace(TASK, plan)
    assert {"init", "start"} <= {f.name for f in program.functions}
    for f in program.functions:
        stored = [getattr(f.graph, node.target) for node in f.graph.graph.find_nodes(op="get_attr")]
        assert all(tensor.numel() == 1 for tensor in stored), (f.name, [tuple(tensor.shape) for tensor in stored])


def test_the_last_step_diverges_like_any_other():
    task = Task(models.MLP((64, 8, 10)), data.digits(train=50), "mse")
    for steps in (1, 2, 3):
        ds = sweep(task, lr=[1e3, 1e20], batch_size=[8, 16], seed=[0, 1], steps=steps, record_every=1, cache=False)
        package = browser.compile(*engine._recipes[ds.attrs["recipe_id"]])
        run = package.run({"lr": 1e3, "batch_size": 8, "seeds": [0, 1]})
        np.testing.assert_array_equal(run["diverged_at"], ds.diverged_at.sel(lr=1e3, batch_size=8))
        assert steps > 1 or (run["diverged_at"] == 1).any()
