"""The deep-zoom figure on this side of the page: codes, refusals, windows trained on request, pictures."""

import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
import xarray as xr

from descent import zoom as zooming
from descent.plots import Figure
from descent.sweep import sweep
from descent.trainability import STEPS, Window, converged, network, survey
from descent.zoom import DEEPEST, codes, picture, row, static_assets, zoom

TEXT = {"alt": "A map of two learning rates.", "caption": "A caption that states the finding."}
WINDOW = Window(300.0, 100.0, 1.0)


@pytest.fixture(scope="module")
def ds():
    return survey(network(0), WINDOW, 9, [0], steps=60)


@pytest.fixture(scope="module")
def figure(ds):
    return zoom(ds, places={"A": Window(200.0, 120.0, 0.05)}, browser=False, **TEXT)


def test_codes_by_hand(ds):
    found = codes(ds)
    assert found.shape == (9, 9) and found.dtype == np.int16 and (found != 0).all()
    for i, j in np.ndindex(9, 9):
        one = ds.isel(lr=i, readout_lr=j, seed=0)
        if bool(converged(one)):
            assert found[i, j] == round(1000 * (6 - np.log10(float(one.loss.mean()) / float(one.loss[0]))))
        else:
            assert found[i, j] == -1 - (60 if np.isnan(one.diverged_at) else int(one.diverged_at))
    assert 0 < (found > 0).sum() < 81


def test_a_perfect_training_has_a_code(ds):
    perfect = ds.isel(lr=[0], readout_lr=[0]).copy(deep=True)
    perfect["loss"] = perfect.loss * 0 + xr.where(perfect.step == 0, 1e-300, 0.0)
    assert codes(perfect) == round(1000 * (6 + np.log10(perfect.step.size))), "the first loss is one of the records"
    perfect["loss"] = perfect.loss * 0
    assert codes(perfect) == -61, "a loss that was zero has nothing to fall below"


def test_static_assets_are_complete():
    assets = static_assets()
    assert set(assets) == {"zoom.js", "zoom.css"}
    assert "export default" not in assets["zoom.js"] and "--x-loss: var(--d-loss, #" in assets["zoom.css"]
    assert not re.search(r"https?://(?!www\.w3\.org)", "".join(assets.values()))


def test_the_page_gets_the_map(figure, ds):
    page = figure.to_html()
    spec = figure._spec
    assert 'class="descent-zoom"' in page and TEXT["caption"] in page and f'aria-label="{TEXT["alt"]}"' in page and "data-package" not in page
    assert spec["steps"] == 60 and spec["places"][0] == {"name": "A", "lr": 200.0, "readout_lr": 120.0, "decades": 0.05}
    assert spec["home"] == {"lr": pytest.approx(300), "readout_lr": pytest.approx(100), "decades": pytest.approx(9 / 8)}
    json.dumps(spec, allow_nan=False)
    assert repr(figure) == "Zoom(9 × 9 networks of 60 steps)"


def test_windows_are_trained_in_float64_at_the_middles_of_their_points(figure):
    run = figure.train_here(Window(300.0, 100.0, 9 / 8), 9)
    assert run.attrs["dtype"] == "float64"
    np.testing.assert_allclose(run.lr.values, WINDOW.rates(9)[0], rtol=1e-9)
    direct = sweep(network(0), lr=run.lr.values, readout_lr=run.readout_lr.values, seed=0, steps=60, record_every=run.step.values.tolist(), dtype=torch.float64, cache=False)
    np.testing.assert_array_equal(codes(run), codes(direct))


def test_a_message_of_the_page_is_answered_level_by_level(figure, monkeypatch):
    sent = []
    monkeypatch.setattr(zooming, "LEVELS", (4, 8, 16))
    monkeypatch.setattr(figure, "send", lambda content, buffers=None: sent.append((content, buffers)))
    figure._receive(figure, {"type": "train", "serial": 3, "lr": 300.0, "readout_lr": 100.0, "decades": 0.1}, None)
    assert [(m["type"], m["serial"], m["points"], len(b[0])) for m, b in sent] == [("level", 3, 8, 128), ("level", 3, 16, 512)]
    del sent[:]
    figure._receive(figure, {"type": "train", "serial": 4, "lr": 300.0, "readout_lr": 100.0, "decades": 1e-13}, None)
    assert sent[0][0]["type"] == "error" and "1e-12 or more" in sent[0][0]["message"]
    del sent[:]
    figure._receive(figure, {"type": "train", "serial": 5, "lr": -1, "readout_lr": 100.0, "decades": 0.1}, None)
    assert sent[0][0]["type"] == "error" and "lr=-1" in sent[0][0]["message"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_deepest_window_still_tells_its_points_apart(dtype):
    """Neighbouring points are eight units in the last place apart, or more."""
    name = str(dtype).removeprefix("torch.")
    rates = 10 ** (DEEPEST[name] * (np.arange(128) + 0.5) / 128) * 999.0
    units = np.diff(rates) / (torch.finfo(dtype).eps * 999)
    assert units.min() > 8


def test_what_it_cannot_draw_is_refused(ds):
    with pytest.raises(ValueError, match="caption"):
        zoom(ds, alt="words", caption="")
    with pytest.raises(ValueError, match="square map"):
        zoom(ds.isel(lr=slice(5)), **TEXT)
    with pytest.raises(ValueError, match="square map"):
        zoom(ds.isel(lr=0), **TEXT)
    with pytest.raises(ValueError, match="decades wide"):
        zoom(ds.assign_coords(lr=ds.lr.values**2), **TEXT)
    with pytest.raises(ValueError, match="dimensions"):
        codes(xr.concat([ds, ds.assign_coords(seed=[1])], dim="seed"))


def test_a_dataset_from_disk_has_a_map_but_trains_nothing(ds):
    stored = ds.assign_attrs(recipe_id="unknown")
    figure = zoom(stored, **TEXT)
    assert not figure._live and figure.package == {}
    with pytest.raises(LookupError, match="run its sweep again"):
        figure.train_here(WINDOW, 4)


def test_the_package_trains_what_the_map_holds(ds):
    pytest.importorskip("wasmtime")
    pytest.importorskip("ziglang")
    from descent.browser import compile as compiled
    from descent.sweep import _recipes

    task, arguments = _recipes[ds.attrs["recipe_id"]]
    package = compiled(task, arguments | {"lr": [30.0, 3000.0], "readout_lr": [10.0, 1000.0]})
    here = converged(ds).isel(seed=0).values
    found = np.empty((9, 9), bool)
    for i, j in np.ndindex(9, 9):
        run = package.run({"lr": float(ds.lr[i]), "readout_lr": float(ds.readout_lr[j]), "seeds": [0]})
        found[i, j] = run["loss"][0, -20:].mean() < run["loss"][0, 0]
    assert (found != here).mean() < 0.05


def test_a_picture_is_a_small_drawing():
    inside = xr.DataArray(np.add.outer(np.arange(12), np.arange(12)) < 11, dims=("lr", "readout_lr"), coords=dict(zip(("lr", "readout_lr"), WINDOW.rates(12))))
    drawn = picture(inside, theory={"theory": (inside.lr.values, inside.readout_lr.values)}, **TEXT)
    root = ElementTree.fromstring(drawn.svg)
    path = next(e.get("d") for e in root.iter("{http://www.w3.org/2000/svg}path"))
    covered = sum(int(width) for width in re.findall(r"h(\d+)v1", path))
    assert covered == inside.sum() and "theory" in drawn.svg
    both = row(drawn, drawn, caption="Two of them, side by side.")
    assert isinstance(both, Figure) and both.html().count("<svg") == 2 and "d-row" in both.html()
    with pytest.raises(ValueError, match="allowed: \\('lr', 'readout_lr'\\)"):
        picture(inside.T, **TEXT)
    with pytest.raises(ValueError, match="alt"):
        picture(inside, alt="", caption="words")


def test_the_book_trains_five_hundred_steps():
    assert STEPS == 500
