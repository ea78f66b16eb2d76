"""The deep-zoom figure: a map of two learning rates into which the reader zooms, every point of it a trained network.

`zoom(dataset, ...)` shows the map that `trainability.survey` trained. In a page without a kernel a smaller window is
trained in the page, network by network, by the module that the slider figures use (`descent.browser`), on several
workers; with a kernel it is trained by `sweep`, in float64. Nothing is interpolated.
"""

from __future__ import annotations

import base64
import html
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import torch
import traitlets
import xarray as xr

from descent import quantities
from descent.plots import Figure, Mix, Panel, number
from descent.sweep import recipe, sweep
from descent.trainability import TAIL, Window, converged

_HERE = Path(__file__).parent
_SCRIPT = (_HERE / "zoom.js").read_text(encoding="utf-8")
_CORE = "\n".join([*((_HERE / name).read_text(encoding="utf-8") for name in ("tone.js", "training.js")), _SCRIPT])

#: points a side of the pictures trained on request, coarse to fine
LEVELS = (16, 32, 64, 128)
#: decades of the smallest window: there a point is at least eight units in the last place of a learning rate wide
DEEPEST = {"float32": 1e-4, "float64": 1e-12}
#: what a training is coded as: -(1 + the step at which it diverged), or this many thousandths of a decade above 10^-26
_SLOWEST, _UNIT = 6.0, 1000


def codes(ds: xr.Dataset) -> np.ndarray:
    """Each training as a whole number, (lr, readout_lr) as int16.

    Negative where it did not converge: -(1 + the step at which it diverged, or the last one). Positive where it did,
    larger for faster: 1000 times the decades by which its mean recorded loss lies below 10^6 times its first one.

    Raises:
        ValueError: not a map over lr and readout_lr of one seed.
    """
    if "seed" in ds.dims and ds.sizes["seed"] == 1:
        ds = ds.isel(seed=0)
    if ds.diverged_at.dims != ("lr", "readout_lr"):
        raise ValueError(f"the map has the dimensions {ds.diverged_at.dims}; allowed: lr and readout_lr, and one seed")
    loss, slow = ds.loss.transpose("lr", "readout_lr", "step").values.astype(float), ds.diverged_at.fillna(ds.attrs["steps"]).values
    with np.errstate(divide="ignore", invalid="ignore"):
        decades = np.nan_to_num(_SLOWEST - np.log10(loss.mean(-1) / loss[..., 0]), nan=0.0, posinf=32.0)
    fast = np.clip(np.round(_UNIT * decades), 1, 32767)
    return np.where(converged(ds).values, fast, -1 - slow).astype("<i2")


def _style() -> str:
    """The style sheet; the palette's values stand in where the page defines no `--d-<role>`."""

    roles = " ".join(f"--x-{role}: var(--d-{role}, {light});" for role, (light, _) in quantities.COLORS.items())
    return f"{quantities.css()}.descent-zoom {{ {roles} }}\n" + (_HERE / "zoom.css").read_text(encoding="utf-8")


def static_assets() -> dict[str, str]:
    """What a page with such a figure needs besides `explore.static_assets()`, as `{file name: text}`."""
    return {"zoom.js": _SCRIPT + "\nDescentZoom.start();\n", "zoom.css": _style()}


class Zoom(anywidget.AnyWidget):
    """The widget that `zoom` returns.

    Attributes:
        package: dict, what the page trains with (`descent.browser.Package.json`); empty if it does not train.
    """

    _esm = _CORE + "\nexport default DescentZoom.widget;\n"
    _css = _style()
    _spec = traitlets.Dict().tag(sync=True)
    _grid = traitlets.Bytes().tag(sync=True)
    _live = traitlets.Bool(False).tag(sync=True)

    def __init__(self, ds: xr.Dataset, spec: dict, package: dict):
        self.package = package
        try:
            self._recipe = recipe(ds)
        except (LookupError, ValueError):
            self._recipe = None
        super().__init__(_spec=spec, _grid=codes(ds).tobytes(), _live=self._recipe is not None)
        self.on_msg(self._receive)

    def _receive(self, _, message: dict, buffers) -> None:
        if message.get("type") != "train":
            return
        serial = message.get("serial")
        try:
            window = self.window(message["lr"], message["readout_lr"], message["decades"])
            for level in LEVELS[1:]:
                ds = self.train_here(window, level)
                done = {"type": "level", "serial": serial, "points": level, "ms": 1000 * ds.attrs["seconds"]}
                self.send(done, [codes(ds).tobytes()])
        except Exception as error:  # the figure shows it where it was asked for
            self.send({"type": "error", "serial": serial, "message": f"{type(error).__name__}: {error}"})

    def window(self, lr: float, readout_lr: float, decades: float) -> Window:
        """A window, if the arithmetic resolves it.

        Raises:
            ValueError: not a number, or smaller than float64 tells its points apart.
        """
        values = [float(v) for v in (lr, readout_lr, decades)]
        if not values[2] >= DEEPEST["float64"]:
            raise ValueError(f"{values[2]:g} decades; allowed: {DEEPEST['float64']:g} or more, or points would be less than 8 units of float64's last place apart")
        return Window(*values)

    def train_here(self, window: Window, points: int, dtype: torch.dtype = torch.float64) -> xr.Dataset:
        """Train a window of so many points a side, at the middles of its cells, with the recipe of the figure's Dataset.

        Raises:
            LookupError: the recipe is not in this process.
        """
        if self._recipe is None:
            raise LookupError("this Dataset was not made by sweep() in this process; run its sweep again first")
        task, arguments = self._recipe
        steps = 10 ** (window.decades * ((np.arange(points) + 0.5) / points - 0.5))
        return sweep(task, **(arguments | {"lr": window.lr * steps, "readout_lr": window.readout_lr * steps, "dtype": dtype, "cache": False}))

    def to_html(self) -> str:
        """The figure for a page without a kernel: the map, caption and a sentence for readers without scripts."""
        spec = json.dumps(self._spec, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        caption, alt = html.escape(self._spec["caption"]), html.escape(self._spec["alt"])
        package = f' data-package="{html.escape(json.dumps(self.package, sort_keys=True))}"' if self.package else ""
        return (
            f'<figure class="descent-zoom" data-spec="{html.escape(spec)}" data-grid="{base64.b64encode(self._grid).decode()}"{package}>\n'
            f'<p class="dz-fallback" role="img" aria-label="{alt}">{alt} (The map needs JavaScript, or a kernel that runs this cell.)</p>\n'
            f"<figcaption>{caption}</figcaption>\n</figure>"
        )

    def __repr__(self) -> str:
        return f"Zoom({self._spec['points']} × {self._spec['points']} networks of {self._spec['steps']} steps)"

    def _repr_mimebundle_(self, **kwargs):
        bundle = super()._repr_mimebundle_(**kwargs) or ({}, {})
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        return {**data, "text/plain": repr(self), "text/html": self.to_html()}, metadata


def zoom(ds: xr.Dataset, *, caption: str, alt: str, places: Mapping[str, Window] | None = None, browser: bool | None = None) -> Zoom:
    """A map of the learning rates `lr` and `readout_lr` that the reader can enter.

    Blue where training converged, red where it did not; within each colour the ranks of the speed in the window that is
    shown, faint for the fast ones, so that what hesitated stands out (Sohl-Dickstein 2024 colours by ranks, too).

    Args:
        ds: from `trainability.survey`: a square grid, logarithmic and of equal decades in both rates; one seed.
        caption, alt: as for every figure.
        places: windows that get a button, by name.
        browser: whether the page trains windows itself. None: if that is possible. True: an error says why it is not.

    Raises:
        ValueError: another kind of Dataset, or a text is missing; the message names what is allowed.
        descent.browser.Unsupported, ImportError: with `browser=True`, the page cannot train this.
    """
    for name, text in {"caption": caption, "alt": alt}.items():
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{name} = {text!r}; every figure needs one: a non-empty string")
    if ds.sizes.get("seed", 1) != 1 or not {"lr", "readout_lr"} <= set(ds.dims) or ds.sizes["lr"] != ds.sizes["readout_lr"]:
        raise ValueError(f"zoom draws a square map over lr and readout_lr of one seed; this Dataset has {dict(ds.sizes)}")
    ends = {name: np.log10(ds[name].values[[0, -1]]) for name in ("lr", "readout_lr")}
    sides = [float(b - a) for a, b in ends.values()]
    if not math.isclose(*sides, rel_tol=1e-6):
        raise ValueError(f"the map is {sides[0]:g} decades wide and {sides[1]:g} high; allowed: a square")
    points = ds.sizes["lr"]
    # the points of the survey are the middles of the map's cells: the window is half a cell wider on every side
    home = {name: float(10 ** ((a + b) / 2)) for name, (a, b) in ends.items()} | {"decades": sides[0] * points / (points - 1)}
    spec: dict[str, Any] = {
        "caption": caption, "alt": alt, "home": home, "points": points, "steps": int(ds.attrs["steps"]), "levels": LEVELS, "tail": TAIL,
        "slowest": _SLOWEST, "unit": _UNIT, "deepest": DEEPEST, "dtype": ds.attrs["dtype"], "seconds": ds.attrs["seconds"],
        "places": [{"name": name, **vars(window)} for name, window in (places or {}).items()],
        "axes": {name: {"label": q.label, "symbol": q.symbol} for name in ("lr", "readout_lr") for q in [quantities.HYPERPARAMETERS[name]]},
    }  # fmt: skip
    package = {}
    if browser is not False:
        from descent.browser import Unsupported
        from descent.browser import compile as compiled

        try:
            try:
                task, arguments = recipe(ds)
            except (LookupError, ValueError) as error:
                raise Unsupported("a Dataset that sweep() has not made in this process, or not with these values,") from error
            rates = {name: ds[name].values[[0, -1]].tolist() for name in ("lr", "readout_lr")}
            made = compiled(task, arguments | rates | {"seed": np.atleast_1d(ds.seed.values).astype(int).tolist()})
        except (Unsupported, ImportError):
            if browser:
                raise
        else:
            package, spec["seeds"] = made.json(), np.atleast_1d(ds.seed.values).astype(int).tolist()
            spec["reach"] = {name: [rule["min"], rule["max"]] for name, rule in made.description["hyperparameters"].items()}
    return Zoom(ds, json.loads(json.dumps(spec)), package)


# -- pictures that stay ------------------------------------------------------------------


def picture(
    inside: xr.DataArray,
    *,
    alt: str,
    caption: str,
    theory: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None,
    width: int = 330,
) -> Figure:
    """Two kinds of points of a window, one in blue and one in pale red, with dashed lines of theory on it.

    Args:
        inside: booleans over (lr, readout_lr), both logarithmic.
        theory: {label: (learning rates, learning rates of the last layer)}.

    Raises:
        ValueError: other dimensions, or a text is missing.
    """
    Figure("", alt, caption)
    if inside.dims != ("lr", "readout_lr"):
        raise ValueError(f"inside has the dimensions {inside.dims}; allowed: ('lr', 'readout_lr')")
    points, left, bottom, top = inside.sizes["lr"], 52, 40, 6
    side = width - left - 18
    rows, cell = inside.values.T[::-1], side / points  # the first row on top
    runs = []
    for i, row in enumerate(rows):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(int), [0]])))
        runs += [f"M{a} {i}h{b - a}v1h{a - b}z" for a, b in zip(edges[::2], edges[1::2])]
    x, y = (np.log10(inside[name].values) for name in inside.dims)

    def place(values: np.ndarray, axis: np.ndarray) -> np.ndarray:
        return ((np.log10(values) - axis[0]) / (axis[-1] - axis[0]) * (points - 1) + 0.5) * cell

    outside, within = Mix("divergence", "paper", 0.30).css, Mix("loss", "paper", 0.85).css
    parts = [
        f'<rect x="{left}" y="{top}" width="{side}" height="{side}" style="fill:{outside}"/>',
        f'<path transform="translate({left} {top}) scale({cell:.5f})" d="{"".join(runs)}" style="fill:{within}" shape-rendering="crispEdges"/>',
    ]
    for label, (across, up) in (theory or {}).items():
        h, v = left + place(np.asarray(across), x), top + side - place(np.asarray(up), y)
        seen = np.flatnonzero(np.isfinite(h + v) & (h >= left) & (h <= left + side) & (v >= top) & (v <= top + side))
        line = " ".join(f"{h[k]:.1f},{v[k]:.1f}" for k in seen)
        parts.append(f'<polyline points="{line}" style="fill:none;stroke:var(--d-theory);stroke-width:1.6;stroke-dasharray:6 4"/>')
        k = seen[len(seen) // 3]
        parts.append(f'<text x="{h[k] + 8:.0f}" y="{v[k] - 8:.0f}" style="fill:var(--d-theory);font-size:13px">{html.escape(label)}</text>')
    words = 'style="fill:var(--d-muted);font-size:12px"'
    # ticks at the ends: between them the axes are too short to say more
    for value, axis in ((t, x) for t in _ticks(x)):
        h = left + place(np.array(value), axis)
        parts.append(f'<text x="{h:.0f}" y="{top + side + 16}" text-anchor="middle" {words}>{number(value)}</text>')
    for value, axis in ((t, y) for t in _ticks(y)):
        v = top + side - place(np.array(value), axis)
        parts.append(f'<text x="{left - 5}" y="{v + 4:.0f}" text-anchor="end" {words}>{number(value)}</text>')
    parts.append(f'<text x="{left + side / 2}" y="{top + side + 33}" text-anchor="middle" style="fill:var(--d-ink);font-size:13px">learning rate η</text>')
    parts.append(f'<text transform="translate(12 {top + side / 2}) rotate(-90)" text-anchor="middle" style="fill:var(--d-ink);font-size:13px">of the last layer, η₂</text>')
    height = top + side + bottom
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(alt)}" width="100%" '
        f'style="max-width:{width}px"><title>{html.escape(alt, quote=False)}</title>{"".join(parts)}</svg>'
    )
    return Figure(svg, alt, caption)


def _ticks(axis: np.ndarray) -> list[float]:
    """Round values inside a logarithmic axis, two to five of them."""
    low, high = 10 ** axis[0], 10 ** axis[-1]
    for factors in ((1,), (1, 3), (1, 2, 5)):
        found = [f * 10.0**e for e in range(math.floor(axis[0]), math.ceil(axis[-1]) + 1) for f in factors]
        found = [v for v in found if low <= v * (1 + 1e-9) and v <= high * (1 + 1e-9)]
        if len(found) >= 3:
            return found[:: math.ceil(len(found) / 5)]
    # a narrow window: round steps of a linear scale
    step = 10 ** math.floor(math.log10((high - low) / 2))
    step *= max(1, math.floor((high - low) / 2 / step))
    return [round(k * step, 12) for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def row(*figures: Figure, caption: str) -> Figure:
    """Pictures side by side under one caption, each with its own below it; one below the other on a phone."""
    return _Row("".join(f.svg for f in figures), " ".join(f.alt for f in figures), caption, figures=figures)


class _Row(Panel):
    """A panel of pictures, which may be narrower than the drawings of other panels."""

    def html(self) -> str:
        width = f"flex:1 1 {38 // len(self.figures)}rem" if len(self.figures) < 3 else "flex:1 1 10.5rem"
        return super().html().replace("<div><svg", f'<div style="{width}"><svg')
