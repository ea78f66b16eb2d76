"""The slider figure's Python side: what it accepts, refuses, stores and sends."""

import base64
import html
import importlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import ipywidgets
import numpy as np
import pytest
import traitlets
import xarray as xr
from explorer_data import TEXT, retrained, runs
from hypothesis import given, settings
from hypothesis import strategies as st

from descent import quantities
from descent.browser import Unsupported
from descent.explore import MAX_POINTS, Explorer, explore, static_assets


def arrays_of(figure: Explorer) -> dict[str, np.ndarray]:
    """Decodes the stored HTML as the page does."""
    text = figure.to_html()
    spec = json.loads(html.unescape(re.search(r'data-spec="([^"]*)"', text)[1]))
    grid = np.frombuffer(base64.b64decode(re.search(r'data-grid="([^"]*)"', text)[1]), "<f4")
    return {
        a["name"]: xr.DataArray(grid[a["offset"] : a["offset"] + int(np.prod(a["shape"]))].reshape(a["shape"]), dims=a["dims"])
        for a in spec["arrays"]
    }


def test_the_page_holds_every_run_exactly():
    ds = runs()
    stored = arrays_of(explore(ds, ["loss", "sharpness"], **TEXT))
    for name in ["loss", "sharpness", "diverged_at"]:
        expected = ds[name].transpose(*stored[name].dims).values.astype("f4")
        np.testing.assert_array_equal(stored[name].values, expected)
    assert np.isnan(stored["loss"]).any(), "the fixture must hold a diverged run"


def test_output_is_deterministic_and_complete():
    first, second = (explore(runs(), **TEXT)._repr_mimebundle_()[0] for _ in range(2))
    assert first["text/html"] == second["text/html"] and first["text/plain"] == second["text/plain"]
    assert "application/vnd.jupyter.widget-view+json" in first
    assert first["text/plain"] == "Explorer(loss over step; sliders: lr 6 × batch_size 3 × init_scale 3 × optimizer 2; seeds: 3)"
    assert "<script" not in first["text/html"] and TEXT["alt"] in first["text/html"]


def test_caption_and_alt_are_text_and_not_markup():
    figure = explore(runs(), caption="loss < 1 & \"falling\"", alt="a <b> 'c'")
    assert "loss &lt; 1 &amp;" in figure.to_html() and "<b>" not in figure.to_html()


def test_static_assets_are_complete():
    assets = static_assets()
    assert set(assets) == {"explore.js", "explore.css"}
    assert "export default" not in assets["explore.js"] and "--x-loss: var(--d-loss, #" in assets["explore.css"]
    assert not re.search(r"https?://(?!www\.w3\.org)", "".join(assets.values()))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"y": "los"}, "'los'.*loss, sharpness"),
        ({"y": []}, "loss, sharpness"),
        ({"x": "steps"}, "'steps'.*step"),
        ({"x": "optimizer"}, "text"),
        ({"kind": "surface"}, "'surface'.*curves, heatmap"),
        ({"sliders": ["learning_rate"]}, "'learning_rate'.*lr"),
        ({"sliders": ["lr"]}, r"'batch_size' has 3 values.*ds.sel"),
        ({"caption": ""}, "caption = ''"),
        ({"alt": None}, "alt = None"),
        ({"alt": "  "}, "alt"),
        ({"color": "loss"}, "heat map"),
        ({"kind": "heatmap", "x": "lr", "y": "lr", "color": "loss"}, "y = 'lr'"),
        ({"kind": "heatmap", "x": "lr", "y": "init_scale"}, "color = None.*loss"),
        ({"theory": {"accuracy": lambda lr: lr}}, "'accuracy'.*loss"),
        ({"theory": {"loss": lambda lr: 1 / 0}}, "'loss' failed at .*ZeroDivisionError"),
        ({"theory": {"loss": lambda width: width}}, "TypeError.*width"),
        ({"theory": {"loss": lambda step: step[:3]}}, r"shape \(3,\).*200 values of 'step'"),
        ({"scales": {"loss": "sqrt"}}, "'sqrt'.*log, linear"),
        ({"scales": {"width": "log"}}, "'width'"),
        ({"limits": {"loss": (0, 1)}}, "positive on a log axis"),
        ({"start": {"lr": 0.3}}, "0.3.*0.05"),
        ({"controls": {"width": ipywidgets.Dropdown()}}, "'width'"),
    ],
)
def test_wrong_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        explore(runs(), **(TEXT | arguments))


@pytest.mark.parametrize(
    ("ds", "arguments"),
    [(runs().to_array(), {}), ({"loss": [1]}, {}), (runs(), {"theory": {"loss": 2.0}}), (runs(), {"controls": {"lr": "slider"}})],
)
def test_wrong_types_are_refused(ds, arguments):
    with pytest.raises(TypeError):
        explore(ds, **(TEXT | arguments))


def test_a_coordinate_without_end_is_refused():
    with pytest.raises(ValueError, match="finite"):
        explore(runs(lr=(0.1, np.inf)), **TEXT)


def test_a_missing_variable_dimension_is_named():
    ds = runs().assign(final=runs().loss.isel(step=-1))
    with pytest.raises(ValueError, match="'final' has no dimension 'step'"):
        explore(ds, "final", **TEXT)


def test_theory_is_evaluated_over_the_whole_grid():
    ds = runs()
    theory = {"sharpness": [("2/η", lambda lr: 2 / lr), ("line", lambda lr, step, **rest: rest["init_scale"] * lr * step)]}
    stored = arrays_of(explore(ds, "sharpness", theory=theory, **TEXT))
    constant, curve = stored["theory:sharpness:0"], stored["theory:sharpness:1"]
    assert "step" not in constant.dims
    np.testing.assert_allclose(constant.isel(batch_size=0, init_scale=0, optimizer=0), 2 / ds.lr, rtol=1e-6)
    np.testing.assert_allclose(curve.isel(lr=1, init_scale=2, batch_size=0, optimizer=1), 2.0 * 0.1 * ds.step, rtol=1e-6)


def test_fixed_hyperparameters_reach_the_theory():
    ds = runs(init_scale=(2.0,)).sel(optimizer="sgd")
    seen = []
    figure = explore(ds, theory={"loss": lambda **setting: seen.append(setting) or 1.0}, **TEXT)
    assert [d["name"] for d in figure._spec["dims"]] == ["lr", "batch_size"]
    assert all(s["init_scale"] == 2.0 and s["optimizer"] == "sgd" for s in seen)


def test_values_are_sorted_for_the_slider():
    ds = runs(lr=(0.5, 0.05, 0.1))
    figure = explore(ds, **TEXT)
    assert figure._spec["dims"][0]["values"] == [0.05, 0.1, 0.5]
    np.testing.assert_array_equal(arrays_of(figure)["loss"].isel(lr=2), ds.loss.sel(lr=0.5).astype("f4"))


def test_axes_do_not_follow_a_few_wild_values():
    ds = runs()
    ds["sharpness"][{"lr": 5, "step": 59, "seed": 0, "optimizer": 0, "batch_size": 0, "init_scale": 0}] = 1e9
    low, high = explore(ds, "sharpness", **TEXT)._spec["panels"][0]["domain"]
    assert low <= 0.8 and 40 < high < 200
    assert explore(ds, "sharpness", limits={"sharpness": (0, 60)}, **TEXT)._spec["panels"][0]["domain"] == [0, 60]


def test_a_variable_that_is_never_finite_still_draws():
    ds = runs().assign(loss=runs().loss * np.nan)
    assert explore(ds, **TEXT)._spec["panels"][0]["domain"] == [0.1, 1.0]


def test_long_curves_are_thinned_and_say_so():
    figure = explore(runs(lr=(0.1, 0.2), batch_size=(8,), init_scale=(1.0,), optimizer=("sgd",), steps=1000), **TEXT)
    points = len(figure._spec["axes"][0]["values"])
    assert points <= MAX_POINTS and figure._spec["axes"][0]["values"][1] == 3
    assert "one in 3 of the 1000" in figure._spec["note"]
    assert explore(runs(), **TEXT)._spec["note"] == ""


@settings(max_examples=40, deadline=None)
@given(n=st.integers(2, 5000))
def test_a_thinned_curve_keeps_its_ends(n):
    loss = np.arange(n, dtype=float)[None] + 1
    figure = explore(xr.Dataset({"loss": (("seed", "step"), loss)}, {"seed": [0], "step": np.arange(n)}), **TEXT)
    drawn = figure._spec["axes"][0]["values"]
    assert drawn[0] == 0 and drawn[-1] == n - 1 and len(drawn) == min(n, len(drawn)) <= MAX_POINTS
    assert len(set(np.diff(drawn)[:-1])) <= 1 and (n <= MAX_POINTS or len(drawn) > MAX_POINTS / 2)


@pytest.mark.skipif(shutil.which("node") is None, reason="no Node")
def test_values_that_are_close_are_told_apart():
    dims = [[0.99, 0.999, 0.9999], [0.9, 0.9995, 0.99995], [1.0, 1.0005], [0.1, 0.1001], [2**21, 2**21 + 1], [1e-4, 1.0001e-4], [0.0, 0.5, 0.9, 0.99]]
    calls = f"""
const I = DescentExplorer.internals, dims = {json.dumps(dims)}.map((values) => ({{values, kind: "number", log: false, integer: Number.isInteger(values[1])}}));
const at = (dim, p) => I.valueAt(dim, p);
console.log(JSON.stringify(dims.map((dim) => [dim.values.map((v) => I.told(dim, v)), [0.2, 0.5, 0.8].map((p) => [at(dim, p), I.told(dim, at(dim, p))])])));
console.log(JSON.stringify([0.9995, 0.123456, 1, 1.23456, 0.9, 0.999999999].map((v) => I.format(v))));
"""
    code = "\n".join((Path(quantities.__file__).parent / name).read_text(encoding="utf-8") for name in ("training.js", "explore.js"))
    done = subprocess.run(["node", "-e", "globalThis.window = {};" + code + calls], capture_output=True, text=True, check=True)
    found, single = map(json.loads, done.stdout.splitlines())
    for values, (words, between) in zip(dims, found):
        assert len(set(words)) == len(values) and ("1" not in words or 1.0 in values), words
        if not isinstance(values[0], int):
            assert all(values[0] < value < values[1] for value, _ in between), between
            assert len({*words, *(word for _, word in between)}) == len(words) + 3, between
    assert single == ["0.9995", "0.123", "1", "1.23", "0.9", "1"]


def test_selection_is_checked_and_completed():
    figure = explore(runs(), **TEXT)
    assert figure.selection == {"lr": 0.2, "batch_size": 32, "init_scale": 1.0, "optimizer": "sgd"}
    figure.selection = {"optimizer": "adamw"}
    figure.selection = {"lr": np.float64(0.1 + 1e-14)}
    assert figure.selection == {"lr": 0.1, "batch_size": 32, "init_scale": 1.0, "optimizer": "adamw"}
    for bad, named in [
        ({"lr": 0.3}, r"lr = 0.3; allowed: 0.05, 0.1"),
        ({"lr": "0.1"}, "lr = '0.1'"),
        ({"lr": float("nan")}, "nan"),
        ({"optimizer": "lion"}, "'lion'; allowed: 'sgd', 'adamw'"),
        ({"width": 3}, "no slider 'width'; allowed: lr, batch_size"),
    ]:
        with pytest.raises(traitlets.TraitError, match=named):
            figure.selection = bad
    assert figure.selection["lr"] == 0.1


def test_two_figures_can_be_linked_and_sit_in_a_box():
    first, second = explore(runs(), **TEXT), explore(runs(), "sharpness", **TEXT)
    ipywidgets.link((first, "selection"), (second, "selection"))
    first.selection = {"lr": 1.0}
    assert second.selection["lr"] == 1.0
    assert ipywidgets.HBox([first, second]).children == (first, second)


def test_a_control_replaces_a_choice_and_is_linked_both_ways():
    buttons = ipywidgets.ToggleButtons(options=["adamw", "sgd"])
    figure = explore(runs(), controls={"optimizer": buttons}, **TEXT)
    assert buttons.value == "sgd"
    buttons.value = "adamw"
    assert figure.selection["optimizer"] == "adamw"
    figure.selection = {"optimizer": "sgd"}
    assert buttons.value == "sgd"
    assert figure.get_state(["_slots"])["_slots"]["optimizer"] == f"IPY_MODEL_{buttons.model_id}"


def test_training_here_adds_the_exact_run():
    asked = []
    figure = explore(
        runs(), "sharpness", theory={"sharpness": lambda lr: 2 / lr},
        train=lambda ds, **setting: asked.append(setting) or retrained(ds, **setting), **TEXT,
    )  # fmt: skip
    figure.selection = {"lr": 0.3, "batch_size": 47.6}
    assert figure.selection["batch_size"] == 48, "a batch has whole examples"
    np.testing.assert_allclose(np.frombuffer(figure._theory["grid"], "<f4"), 2 / 0.3, rtol=1e-6)
    states = []
    figure.observe(lambda change: states.append(change["new"]["state"]), "_status")
    figure._receive(figure, {"type": "train", "setting": figure.selection}, [])
    assert asked == [{"lr": 0.3, "batch_size": 48, "init_scale": 1.0, "optimizer": "sgd"}]
    assert states == ["training", "idle"] and len(figure.runs) == 1
    (run,) = figure._runs
    assert run["setting"] == asked[0] and run["arrays"][0]["shape"] == [3, 200]
    expected = figure.runs[0].sharpness.squeeze().astype("f4")
    np.testing.assert_array_equal(np.frombuffer(run["grid"], "<f4")[:600].reshape(3, 200), expected)


def test_training_knows_dimensions_of_one_value_and_the_original_dataset():
    ds, asked = runs(init_scale=(2.0,), steps=1000), []
    figure = explore(ds, train=lambda given, **setting: asked.append((given, setting)) or retrained(given, **setting), **TEXT)
    figure.train_here({"lr": 0.3})
    assert asked[0][0] is ds and asked[0][1]["init_scale"] == 2.0
    assert figure._runs[0]["arrays"][0]["shape"] == [3, len(figure._spec["axes"][0]["values"])]


def test_errors_in_training_are_shown_and_leave_the_figure_usable():
    def broken(ds, **setting):
        raise LookupError("this Dataset has no recipe here")

    figure = explore(runs(), train=broken, **TEXT)
    figure._receive(figure, {"type": "train", "setting": {"lr": 0.3}}, [])
    assert figure._status == {"state": "error", "message": "LookupError: this Dataset has no recipe here"}
    figure._receive(figure, {"type": "train", "setting": {"lr": 30}}, [])
    assert "lr = 30; allowed: 0.05 to 2.5" in figure._status["message"]
    with pytest.raises(LookupError):
        figure.train_here({"lr": 0.3})


def test_a_variable_that_training_does_not_record_is_named():
    figure = explore(runs().assign(gap=runs().loss + 1), "gap", train=retrained, **TEXT)
    with pytest.raises(ValueError, match="does not record 'gap'.*train="):
        figure.train_here({"lr": 0.3})


def test_without_a_recipe_nothing_can_be_trained():
    figure = explore(runs(), **TEXT)
    assert not figure._live
    with pytest.raises(RuntimeError, match="recipe"):
        figure.train_here()


def test_a_sweep_can_be_explored_and_extended():
    from descent import Task, data, models, sweep

    task = Task(models.MLP((64, 8, 10)), data.digits(train=60))
    ds = sweep(task, lr=[0.1, 0.4], batch_size=[20, None], seed=[0, 1], steps=6, record=["loss"], record_every=2)
    figure = explore(ds, **TEXT)
    run = figure.train_here({"lr": 0.2, "batch_size": 30})
    assert float(run.lr.squeeze()) == 0.2 and len(figure._runs) == 1
    same = figure._train_function(ds, lr=0.1, batch_size=20)
    np.testing.assert_allclose(same.loss.squeeze(), ds.loss.sel(lr=0.1, batch_size=20), rtol=1e-4)


def test_a_heat_map_holds_axes_last_and_steps_as_a_slider():
    ds = runs(steps=20)
    line = {"init_scale": ("edge", lambda lr: 1 / lr)}
    figure = explore(ds, x="lr", y="init_scale", color="test_accuracy", kind="heatmap", theory=line, train=retrained, **TEXT)
    stored = arrays_of(figure)
    assert stored["test_accuracy"].dims == ("batch_size", "step", "optimizer", "seed", "init_scale", "lr")
    assert stored["diverged_at"].dims == ("batch_size", "optimizer", "seed", "init_scale", "lr")
    assert figure.selection["step"] == 19 and not figure._live
    np.testing.assert_allclose(stored["theory:init_scale:0"].isel(batch_size=0, optimizer=0, step=0), 1 / ds.lr, rtol=1e-6)


# -- training in the page ----------------------------------------------------------------


@pytest.fixture(scope="module")
def swept():
    from descent import Task, data, models, sweep

    task = Task(models.MLP((64, 8, 10)), data.digits(train=60, test=20))
    return sweep(task, lr=[0.1, 0.4], batch_size=[20, None], seed=[3, 8], steps=20, record=["loss", "test_loss"], record_every=2)


def test_a_sweep_brings_its_package(swept):
    figure = explore(swept, browser=True, start={"lr": 0.4}, **TEXT)
    page = figure._spec["page"]
    assert page["seeds"] == [3, 8] and page["fixed"] == {} and page["last_seed"] == 2**32 - 2
    assert [dim["range"] for dim in figure._spec["dims"]] == [[0.05, 0.8], [12, 60]]
    figure.selection = {"lr": 0.77, "batch_size": 12}
    for bad in ({"lr": 0.81}, {"batch_size": 11}):
        with pytest.raises(traitlets.TraitError, match="allowed: "):
            figure.selection = bad
    text = figure.to_html()
    package = json.loads(html.unescape(re.search(r'data-package="([^"]*)"', text)[1]))
    assert package == figure.package and package["description"]["record"] == ["loss", "test_loss"]
    assert text == explore(swept, browser=True, start={"lr": 0.4}, **TEXT).to_html()
    grid = explore(swept, browser=False, **TEXT)
    assert "data-package" not in grid.to_html() and grid.package == {}


def test_a_part_of_a_sweep_brings_the_rest_of_its_setting(swept):
    page = explore(swept.sel(batch_size=20, seed=8), browser=True, **TEXT)._spec["page"]
    assert page["fixed"] == {"batch_size": 20} and page["seeds"] == [8]


@pytest.mark.parametrize(
    ("change", "arguments", "named"),
    [
        (lambda ds: runs(), {}, "has not made"),
        (lambda ds: ds, {"kind": "heatmap", "x": "lr", "y": "batch_size", "color": "loss"}, "curves over steps"),
        (lambda ds: ds, {"x": "lr"}, "curves over steps"),
        (lambda ds: ds.assign(gap=ds.test_loss - ds.loss), {"y": "gap"}, "'gap'"),
        (lambda ds: ds.assign(loss=2 * ds.loss), {}, "loss: its values"),
        (lambda ds: ds.assign(loss=ds.test_loss), {}, "loss: its values"),
        (lambda ds: ds.assign_coords(lr=[0.1, 0.5]), {}, r"lr = \[0.1, 0.5\]"),
        (lambda ds: xr.concat([ds, ds], dim="width").assign_coords(width=[8, 9]), {}, "width"),
        (lambda ds: ds.assign_coords(step=ds.step + 1), {}, "steps"),
        (lambda ds: ds.median("seed", keep_attrs=True), {}, "seeds"),
    ],
)
def test_what_the_page_cannot_train_stays_on_its_grid(swept, change, arguments, named):
    ds = change(swept)
    assert "page" not in explore(ds, **(TEXT | arguments))._spec
    with pytest.raises(Unsupported, match=named):
        explore(ds, browser=True, **(TEXT | arguments))


def test_without_the_compiler_the_figure_stays_on_its_grid(swept, monkeypatch):
    def missing(*_):
        raise ImportError("the C compiler is not installed")

    monkeypatch.setattr("descent.browser.compile", missing)
    monkeypatch.setattr(importlib.import_module("descent.explore"), "_packages", {})
    assert "page" not in explore(swept, **TEXT)._spec
    with pytest.raises(ImportError, match="compiler"):
        explore(swept, browser=True, **TEXT)


def test_theory_is_tabulated_only_where_interpolation_is_good(swept):
    lines = [("2/η", lambda lr: 2 / lr), ("jump", lambda lr: 1.0 + (lr > 0.2)), ("decay", lambda lr, step: np.exp(-lr * step / 10))]
    lines.append(("both", lambda lr, batch_size: lr / batch_size))
    figure = explore(swept, theory={"loss": lines}, browser=True, **TEXT)
    tables, stored = figure._spec["page"]["tables"], arrays_of(figure)
    assert list(tables) == [f"table:loss:{k}" for k in (0, 2, 3)], "the jump has none"
    lr, batch = np.array(tables["table:loss:3"]["nodes"]["lr"]), np.array(tables["table:loss:3"]["nodes"]["batch_size"])
    assert lr[0] == 0.05 and lr[-1] == 0.8 and batch[0] == 12 and batch[-1] == 60
    np.testing.assert_allclose(stored["table:loss:3"], lr[:, None] / batch, rtol=1e-6)
    np.testing.assert_allclose(stored["table:loss:0"], 2 / lr, rtol=1e-6)
    assert stored["table:loss:2"].dims == ("lr", "step")
