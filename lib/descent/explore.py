"""The slider figure: move a hyperparameter, see the network that was trained with it.

`explore(dataset, ...)` returns an ipywidgets widget. Beside the widget its output carries the
whole grid as base64 float32 in plain HTML, so that the page built from a stored notebook moves
the same sliders with no kernel behind it. One script, `explore.js`, draws both. Where
`descent.browser` can compile what the Dataset's sweep trained, the output carries that as well, and
the page trains any setting by itself (`training.js`).
"""

from __future__ import annotations

import base64
import html
import inspect
import itertools
import json
import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import anywidget
import ipywidgets
import numpy as np
import traitlets
import xarray as xr

from . import quantities

if TYPE_CHECKING:  # a figure that is only drawn does without the compiler's libraries
    from .browser import Package, Unsupported

#: Curves with more points than this are thinned, and the figure says so.
MAX_POINTS = 400
#: Theory with more values than this in its table is drawn at the grid's positions only.
MAX_TABLE = 30_000

_HERE = Path(__file__).parent
_CORE = "\n".join((_HERE / name).read_text(encoding="utf-8") for name in ("tone.js", "training.js", "explore.js"))


def _style() -> str:
    """The style sheet; the palette's values stand in where the page defines no `--d-<role>`."""

    roles = " ".join(f"--x-{role}: var(--d-{role}, {light});" for role, (light, _) in quantities.COLORS.items())
    return f"{quantities.css()}.descent-explorer {{ {roles} }}\n" + (_HERE / "explore.css").read_text(encoding="utf-8")


def static_assets() -> dict[str, str]:
    """The files a page without a kernel needs, as `{file name: text}`.

    The script is a classic one, so it also runs from `file://`; it mounts every
    `figure.descent-explorer` of the page once the document is parsed.
    """
    return {"explore.js": _CORE + "\nDescentExplorer.start();\n", "explore.css": _style()}


@dataclass
class _Plan:
    """What one figure shows: which variables, along which axes, with which sliders."""

    kind: str
    variables: list[str]
    axes: list[str]  # trailing dimensions of every array: [x] for curves, [y, x] for a heat map
    sliders: list[str]
    fixed: dict  # dimensions of one value and scalar coordinates: part of every setting
    hyper: list[str]  # the Dataset's hyperparameters, those of one value included
    theory: dict[str, list] = field(default_factory=dict)  # name -> [(label, function), ...]
    keep: np.ndarray | None = None  # values of x that are drawn, where curves are thinned

    def pack(self, ds: xr.Dataset, tables: dict[str, xr.DataArray] | None = None) -> tuple[list[dict], bytes]:
        """`_join` of all arrays of `ds`, each of dimensions (sliders it depends on ..., seed, axes ...), and of `tables`."""
        arrays = {name: ds[name] for name in self.variables}
        if "diverged_at" in ds:
            arrays["diverged_at"] = ds["diverged_at"]
        arrays = {name: self._arrange(array) for name, array in arrays.items()}
        free = {dim: ds[dim].values.tolist() for dim in self.sliders if dim in ds.dims}
        return _join(arrays | self.evaluate_theory(free, np.asarray(ds[self.axes[-1]].values)) | (tables or {}))

    def _arrange(self, array: xr.DataArray) -> xr.DataArray:
        if "seed" not in array.dims:
            array = array.expand_dims("seed")
        order = [*self.sliders, "seed", *self.axes]
        return array.transpose(*[dim for dim in order if dim in array.dims])

    def evaluate_theory(self, free: dict[str, list], x: np.ndarray) -> dict[str, xr.DataArray]:
        """Every theory line at every combination of `free`: one value each, or one curve over `x`."""
        return {f"theory:{name}:{number}": self._line(name, pair, free, x) for name, number, pair in self._lines()}

    def _lines(self):
        return [(name, number, pair) for name, pairs in self.theory.items() for number, pair in enumerate(pairs)]

    def _line(self, name: str, pair: tuple, free: dict[str, list], x: np.ndarray) -> xr.DataArray:
        points = [self.fixed | dict(zip(free, point)) for point in itertools.product(*free.values())]
        values = [_evaluate(name, *pair, point, self.axes[-1], x) for point in points]
        curve = any(value.ndim for value in values)
        stacked = np.stack([np.broadcast_to(v, x.shape) if curve else v for v in values])
        shape = [len(v) for v in free.values()] + ([x.size] if curve else [])
        return xr.DataArray(stacked.reshape(shape), dims=[*free, self.axes[-1]] if curve else [*free])

    def tabulate_theory(self, dims: list[dict], panels: list[dict], x: np.ndarray) -> tuple[dict[str, xr.DataArray], dict]:
        """Tables from which the page draws theory lines between the values of the grid.

        A line has a table only if interpolation between the neighbours of each value gives that value, within 0.4 % of
        the panel's range for curves, within 0.2 % for single values, which are also written out. Between the
        values themselves the error is a quarter of that.

        Returns:
            Tables "table:<variable>:<number>" over the sliders that the line names, and x for a curve; and of each its
            `nodes`, a list of values for each of these sliders, and whether to interpolate its logarithm (`log`).
        """
        tables, notes = {}, {}
        start = {dim["name"]: [dim["values"][dim["start"]]] for dim in dims}
        for name, number, pair in self._lines():
            parameters = inspect.signature(pair[1]).parameters.values()
            every = any(p.kind is p.VAR_KEYWORD for p in parameters)
            named = [dim for dim in dims if every or dim["name"] in [p.name for p in parameters]]
            free = [dim for dim in named if "range" in dim]
            domain, log = next((panel["domain"], panel["log"]) for panel in panels if panel["name"] == name)
            for steps in (4, 16, 64):
                nodes = {dim["name"]: _nodes(dim, steps) if dim in free else dim["values"] for dim in named}
                if math.prod(map(len, nodes.values())) * x.size > MAX_TABLE:
                    break
                table = self._line(name, pair, start | nodes, x).isel({n: 0 for n in start if n not in nodes})
                curve, logs = table.dims[-1:] == (self.axes[-1],), bool((table > 0).all())
                scaled, limits = np.log(table) if logs else table, [-np.inf, np.inf]
                within = 2e-3 * (1.0 if logs else float(np.abs(table).max()))
                if curve and log == logs:  # what lies beyond the panel is not seen
                    limits = np.log(domain) if log else np.array(domain)
                    within = 4e-3 * (limits[1] - limits[0])
                if all(_smooth(dim, nodes[dim["name"]], scaled, limits, within) for dim in free):
                    tables[f"table:{name}:{number}"] = table
                    notes[f"table:{name}:{number}"] = {"nodes": nodes, "log": logs}
                    break
        return tables, notes


def _nodes(dim: dict, steps: int) -> list:
    """Values of a slider at which theory is tabulated: its grid, so many steps between, the ends of its range."""
    low, high = dim["range"]
    grid, values = dim["values"], [low]
    for a, b in itertools.pairwise(grid):
        between = np.geomspace(a, b, steps + 1) if dim["log"] and a > 0 else np.linspace(a, b, steps + 1)
        values += [a, *between[1:-1].tolist()]
    values += [grid[-1], high]
    return sorted({round(v) for v in values} if dim["integer"] else set(values))


def _smooth(dim: dict, nodes: list, table: xr.DataArray, limits, within: float) -> bool:
    """Whether each value of a table inside some limits is what linear interpolation along a slider makes of its neighbours."""
    at = np.log(nodes) if dim["log"] and nodes[0] > 0 else np.array(nodes, float)
    values = np.moveaxis(table.values, table.dims.index(dim["name"]), -1)
    t = (at[1:-1] - at[:-2]) / (at[2:] - at[:-2])
    found = values[..., :-2] * (1 - t) + values[..., 2:] * t
    seen = (limits[0] <= values[..., 1:-1]) & (values[..., 1:-1] <= limits[1])
    return bool((~seen | (np.abs(found - values[..., 1:-1]) <= within)).all())


def _join(arrays: dict[str, xr.DataArray]) -> tuple[list[dict], bytes]:
    """The arrays one after another as little-endian float32, and where each begins."""
    index, offset = [], 0
    for name, array in arrays.items():
        index.append({"name": name, "dims": list(array.dims), "shape": list(array.shape), "offset": offset})
        offset += array.size
    return index, b"".join(np.ascontiguousarray(array.values, dtype="<f4").tobytes() for array in arrays.values())


def _evaluate(name: str, label: str, function, setting: dict, x_name: str, x: np.ndarray) -> np.ndarray:
    arguments = setting | {x_name: x}
    parameters = inspect.signature(function).parameters.values()
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        arguments = {p.name: arguments[p.name] for p in parameters if p.name in arguments}
    try:
        value = np.asarray(function(**arguments), dtype=float)
    except Exception as error:
        raise ValueError(f"theory {label!r} of {name!r} failed at {setting}: {type(error).__name__}: {error}") from error
    if value.shape not in [(), x.shape]:
        raise ValueError(
            f"theory {label!r} of {name!r} returned shape {value.shape} at {setting}; "
            f"allowed: a number, or one value for each of the {x.size} values of {x_name!r}"
        )
    return value


class Explorer(anywidget.AnyWidget):
    """The widget that `explore` returns.

    Attributes:
        selection: dict, slider's dimension -> value; observable, linkable, settable. A dict
            with some of the dimensions leaves the others where they are. A number may lie
            between trained values if the figure can train (`traitlets.TraitError` otherwise).
        runs: list of Datasets trained on request, in the order in which they were trained.
        package: dict, what the page trains with (`descent.browser.Package.json`); empty if it does not train.
    """

    _esm = _CORE + "\nexport default DescentExplorer.widget;\n"
    _css = _style()
    _spec = traitlets.Dict().tag(sync=True)
    _package = traitlets.Dict().tag(sync=True)
    _grid = traitlets.Bytes().tag(sync=True)
    _live = traitlets.Bool(False).tag(sync=True)
    _runs = traitlets.List().tag(sync=True)
    _status = traitlets.Dict().tag(sync=True)
    _theory = traitlets.Dict().tag(sync=True)
    _slots = traitlets.Dict().tag(sync=True, **ipywidgets.widget_serialization)
    selection = traitlets.Dict().tag(sync=True)

    def __init__(self, source: xr.Dataset, ds: xr.Dataset, plan: _Plan, spec: dict, train, controls: dict, package: dict):
        tables = {}
        if package:
            tables, spec["page"]["tables"] = plan.tabulate_theory(spec["dims"], spec["panels"], np.asarray(ds[plan.axes[-1]].values))
        arrays, grid = plan.pack(ds, tables)
        self._source, self._ds, self._plan, self._train_function, self.runs = source, ds, plan, train, []
        self._dims = {dim["name"]: dim for dim in spec["dims"]}
        start = {name: dim["values"][dim["start"]] for name, dim in self._dims.items()}
        live = train is not None and any(dim["fine"] for dim in spec["dims"])
        layout = ipywidgets.Layout(flex="1 1 auto", min_width="280px")  # fills what a box leaves it
        super().__init__(
            _spec=spec | {"arrays": arrays}, _grid=grid, _package=package, _live=live, selection=start, layout=layout
        )
        self.on_msg(self._receive)
        self.observe(self._follow_theory, "selection")
        for name, control in controls.items():
            self._adopt(name, control)

    @property
    def package(self) -> dict:
        return self._package

    @traitlets.validate("selection")
    def _check_selection(self, proposal):
        if not isinstance(proposal["value"], dict):
            raise traitlets.TraitError(f"selection is a dict, got {proposal['value']!r}")
        return {**self.selection, **{name: self._check(name, v) for name, v in proposal["value"].items()}}

    def _check(self, name: str, value):
        """`value` as the grid writes it, or an error that says what is allowed."""
        if name not in self._dims:
            raise traitlets.TraitError(f"no slider {name!r}; allowed: {', '.join(self._dims) or 'none'}")
        dim, allowed = self._dims[name], self._dims[name]["values"]
        between = dim.get("range") or ((allowed[0], allowed[-1]) if dim["fine"] and self._live else None)
        if dim["kind"] == "choice":
            if value in allowed:
                return value
            raise traitlets.TraitError(f"{name} = {value!r}; allowed: {', '.join(map(repr, allowed))}")
        if isinstance(value, numbers.Real) and not isinstance(value, bool):
            for known in allowed:
                if math.isclose(value, known, rel_tol=1e-9):
                    return known
            if between and between[0] <= value <= between[1]:
                return int(round(value)) if dim["integer"] else float(value)
        between = f"{between[0]} to {between[1]}" if between else ", ".join(map(str, allowed))
        raise traitlets.TraitError(f"{name} = {value!r}; allowed: {between}")

    def _off_grid(self, setting: dict) -> bool:
        return any(value not in self._dims[name]["values"] for name, value in setting.items())

    def _follow_theory(self, change):
        """A theory line is exact between the trained values, too."""
        if self._plan.theory and self._off_grid(change["new"]):
            x = np.asarray(self._ds[self._plan.axes[-1]].values)
            lines = self._plan.evaluate_theory({name: [value] for name, value in change["new"].items()}, x)
            arrays, grid = _join({name: line.squeeze(list(change["new"])) for name, line in lines.items()})
            self._theory = {"setting": change["new"], "arrays": arrays, "grid": grid}

    def _adopt(self, name: str, control):
        """Puts an ipywidgets control in the place of the built-in one, linked both ways."""
        control.value = self.selection[name]
        control.observe(lambda change: setattr(self, "selection", {name: change["new"]}), "value")
        self.observe(lambda change: setattr(control, "value", change["new"][name]), "selection")
        self._slots = {**self._slots, name: control}

    def _receive(self, _, message: dict, buffers):
        if message.get("type") == "train":
            try:
                self.train_here(message["setting"])
            except Exception:
                pass  # train_here has written the error into the figure, where it was asked for

    def train_here(self, setting: dict | None = None) -> xr.Dataset:
        """Trains the exact `setting` (default: the selection), draws it and keeps it in `runs`.

        Raises:
            RuntimeError: the figure has no recipe to train with.
            ValueError: its Dataset has other values than its recipe gives (`descent.sweep.recipe`).
            Whatever training raises; the figure shows it as well.
        """
        if not self._live:
            raise RuntimeError("this figure cannot train: its Dataset has no recipe and no train= was given")
        try:
            setting = {**self.selection, **{name: self._check(name, v) for name, v in (setting or {}).items()}}
            setting = {name: value for name, value in setting.items() if name in self._plan.hyper}
            self._status = {"state": "training", "setting": setting}
            plan = replace(self._plan, fixed=self._plan.fixed | setting)
            run = self._train_function(self._source, **{dim: plan.fixed[dim] for dim in plan.hyper})
            if missing := [name for name in plan.variables if name not in run]:
                raise ValueError(f"training does not record {missing[0]!r}: give explore a train= that computes it")
            curves = run.sel({dim: value for dim, value in plan.fixed.items() if dim in run.dims})
            arrays, grid = plan.pack(curves if plan.keep is None else curves.reindex(step=plan.keep))
        except BaseException as error:  # an interrupt, too, must not leave the button waiting
            self._status = {"state": "error", "message": f"{type(error).__name__}: {error}"}
            raise
        self.runs.append(run)
        self._runs = [*self._runs, {"setting": setting, "arrays": arrays, "grid": grid}]
        self._status = {"state": "idle"}
        return run

    def to_html(self) -> str:
        """The figure for a page without a kernel: data, caption and a sentence for readers without scripts."""
        spec = json.dumps(self._spec, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        grid = base64.b64encode(self._grid).decode("ascii")
        caption, alt = html.escape(self._spec["caption"]), html.escape(self._spec["alt"])
        package = f' data-package="{html.escape(json.dumps(self._package, sort_keys=True))}"' if self._package else ""
        return (
            f'<figure class="descent-explorer" data-spec="{html.escape(spec)}" data-grid="{grid}"{package}>\n'
            f'<p class="dx-fallback" role="img" aria-label="{alt}">{alt} '
            "(The sliders need JavaScript, or a kernel that runs this cell.)</p>\n"
            f"<figcaption>{caption}</figcaption>\n</figure>"
        )

    def __repr__(self) -> str:
        spec = self._spec
        sizes = " × ".join(f"{d['name']} {len(d['values'])}" for d in spec["dims"])
        shown = ", ".join(self._plan.variables)
        return f"Explorer({shown} over {', '.join(reversed(self._plan.axes))}; sliders: {sizes or 'none'}; seeds: {spec['seeds']})"

    def _repr_mimebundle_(self, **kwargs):
        bundle = super()._repr_mimebundle_(**kwargs) or ({}, {})
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        return {**data, "text/plain": repr(self), "text/html": self.to_html()}, metadata


def explore(
    ds: xr.Dataset,
    y: str | list[str] = "loss",
    x: str = "step",
    sliders: list[str] | None = None,
    theory: dict | None = None,
    caption: str = "",
    alt: str = "",
    kind: str = "curves",
    color: str | None = None,
    controls: dict | None = None,
    scales: dict[str, str] | None = None,
    limits: dict[str, tuple[float, float]] | None = None,
    start: dict | None = None,
    train=None,
    browser: bool | None = None,
) -> Explorer:
    """A figure of `ds` with a slider for each swept hyperparameter.

    Args:
        ds: what `sweep` returned: swept dimensions, `seed`, `step`; `diverged_at` if known.
        y: curves: the variable, or variables, drawn one panel each. Heat map: the vertical dimension.
        x: the horizontal dimension. With "step", figures that can train accept values off the grid.
        sliders: the dimensions that get a slider, in this order; default: all with more than one
            value that are not an axis. Text-valued dimensions become a row of choices, last.
        theory: `{name: function}`, `{name: (label, function)}` or a list of such pairs; name is a
            variable of `y` (heat map: `y` itself, the line's height over x). A function is called with
            the hyperparameters it names and x's values, e.g. `lambda lr: 2 / lr` or
            `lambda lr, step: ...`, and returns a number (a thin labelled threshold) or one value for
            each x (a dashed curve).
        caption: the finding, one or two sentences, plain text. Required.
        alt: what the figure shows, for those who do not see it. Required.
        kind: "curves" or "heatmap".
        color: the variable a heat map shows.
        controls: `{dimension: ipywidgets control}` to use instead of the built-in slider or choice.
        scales: `{variable or x: "log" | "linear"}` where the quantity's own scale is not wanted.
        limits: `{variable: (low, high)}` where the grid's own range is not wanted.
        start: `{dimension: value}` to begin with; default: the middle of each, the last step.
        train: `train(ds, **setting) -> Dataset` for values off the grid; default `descent.retrain`,
            if `ds` has a recipe. A `ds` that was joined to others or calculated with has none of its own:
            `train` then trains with the Datasets that it was made of.

        browser: whether the page trains settings off the grid itself, with what `descent.browser`
            compiles of `ds`'s sweep. None: if that is possible. True: an error says why it is not.

    The page says of each run that it trains whether it is the notebook's: it trains the setting once more
    with one hyperparameter changed by a millionth, and where the loss then differs by more than 2e-5 of itself
    anywhere, training amplifies rounding, the notebook would draw another curve, and the page says "this run".
    Elsewhere the two curves agree to 1e-4.

    Curves of more than `MAX_POINTS` points keep every k-th and the last, and the figure says so. Axes are
    the same at all positions of the sliders; values beyond them are cut off.

    Raises:
        TypeError: `ds` is not a Dataset, a theory cannot be called, a control is not a widget.
        ValueError: an unknown variable or dimension, a missing caption or alt text, a theory
            that fails; the message names the value and what is allowed.
        descent.browser.Unsupported, ImportError: with `browser=True`, the page cannot train this.
    """
    if not isinstance(ds, xr.Dataset):
        raise TypeError(f"explore() draws an xarray.Dataset, got {type(ds).__name__}")
    for name, text in {"caption": caption, "alt": alt}.items():
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{name} = {text!r}; every figure needs one: a non-empty string")
    _among("kind", kind, ["curves", "heatmap"])
    measured = [name for name in ds.data_vars if name != "diverged_at"]
    dims = [str(dim) for dim in ds.dims if dim != "seed"]
    _among("x", x, dims)
    if kind == "curves":
        if color is not None:
            raise ValueError(f"color = {color!r}; only a heat map is coloured by a variable")
        variables, axes = [y] if isinstance(y, str) else list(y), [x]
        if not variables:
            raise ValueError(f"y = {y!r}; allowed: one or more of {', '.join(measured)}")
    else:
        _among("y", y, [dim for dim in dims if dim != x])
        variables, axes = [color], [y, x]
    for name in variables:
        _among("y" if kind == "curves" else "color", name, measured)
        for axis in axes:
            if axis not in ds[name].dims:
                raise ValueError(f"variable {name!r} has no dimension {axis!r}; it has {', '.join(map(str, ds[name].dims))}")
    drawn = [*variables, *(["diverged_at"] if "diverged_at" in ds else [])]
    used = [str(d) for d in dict.fromkeys(d for name in drawn for d in ds[name].dims) if d != "seed" and d not in axes]
    swept = [dim for dim in used if ds.sizes[dim] > 1]
    swept.sort(key=lambda dim: dim in ds.coords and ds[dim].dtype.kind not in "iuf")  # sliders, then choices
    for dim in [] if sliders is None else sliders:
        _among("sliders", dim, used)
    chosen = swept if sliders is None else list(sliders)
    if left := [dim for dim in swept if dim not in chosen]:
        raise ValueError(f"{left[0]!r} has {ds.sizes[left[0]]} values: give it a slider or choose one with ds.sel({left[0]}=...)")

    source, ds = ds, ds[drawn]
    for dim in [*chosen, *axes]:
        if dim not in ds.coords:
            ds = ds.assign_coords({dim: np.arange(ds.sizes[dim])})
        if ds[dim].dtype.kind in "iuf":
            ds = ds.sortby(dim)
        elif kind == "curves" and dim == x:
            raise ValueError(f"x = {x!r} holds text; a curve needs numbers")
    hyper = [str(d) for d in (ds["diverged_at"].dims if "diverged_at" in ds else ds.dims) if d not in ("seed", "step")]
    ds = ds.squeeze([dim for dim in ds.dims if dim in dims and dim not in chosen and dim not in axes])
    fixed = {str(name): value.item() for name, value in ds.coords.items() if value.ndim == 0 and name not in ("seed", "step")}
    plan = _Plan(kind, variables, axes, chosen, fixed, hyper)
    plan.theory = _theory_lines(theory or {}, variables if kind == "curves" else [y])
    note = ""
    if kind == "curves" and ds.sizes[x] > MAX_POINTS:
        last = ds.sizes[x] - 1  # always drawn: the figure reads "final" values off it
        every = math.ceil(last / (MAX_POINTS - 1))
        ds = ds.isel({x: sorted({*range(0, last, every), last})})
        plan.keep = ds[x].values if x == "step" else None
        note = f"Drawn: one in {every} of the {last + 1} recorded points" + (", and the last." if last % every else ".")

    fine = kind == "curves" and x == "step"
    spec = {
        "kind": kind,
        "caption": caption,
        "alt": alt,
        "note": note,
        "seeds": ds.sizes.get("seed", 1),
        "dims": [_describe_dim(ds[dim], (start or {}).get(dim), fine and dim in hyper) for dim in chosen],
        "axes": [_describe_axis(ds[axis], (scales or {}).get(axis)) for axis in axes],
        "panels": [
            _describe_panel(ds[name], (scales or {}).get(name), (limits or {}).get(name))
            | {"theory": [label for label, _ in plan.theory.get(name if kind == "curves" else y, [])]}
            for name in variables
        ],
    }
    for argument, given, allowed in [
        ("scales", scales, [*variables, *axes]),
        ("limits", limits, variables),
        ("start", start, chosen),
        ("controls", controls, chosen),
    ]:
        for name in given or {}:
            _among(argument, name, allowed)
    for name, control in (controls or {}).items():
        if not isinstance(control, ipywidgets.Widget) or not control.has_trait("value"):
            raise TypeError(f"controls[{name!r}] = {control!r}; allowed: an ipywidgets control with a value")
    if train is None and "recipe_id" in ds.attrs:
        from .sweep import retrain as train
    package = {}
    if browser is not False and ("recipe_id" in ds.attrs or browser):
        from .browser import Unsupported

        try:
            compiled = _compile(source, plan)
        except (Unsupported, ImportError):
            if browser:
                raise
        else:
            package, spec["page"] = compiled.json(), _page(source, plan, compiled.description)
            for dim in spec["dims"]:
                if "min" in (rule := compiled.description["hyperparameters"][dim["name"]]):
                    dim["range"] = _reach(dim, rule)
    return Explorer(source, ds, plan, spec, train, controls or {}, package)


# -- training in the page ----------------------------------------------------------------

#: (recipe, seeds) -> what was compiled of it, or why it was not
_packages: dict[tuple, Package | Unsupported] = {}


def _compile(ds: xr.Dataset, plan: _Plan) -> Package:
    """What trains the networks of `ds` in a page, checked against `ds`.

    Raises:
        Unsupported: the page cannot train it, or would draw something else than `ds` holds.
        ImportError: the C compiler is not installed.
    """
    from . import browser
    from .browser import Unsupported
    from .sweep import _recipes, recipe

    if plan.kind != "curves" or plan.axes != ["step"]:
        raise Unsupported("another figure than curves over steps")
    if ds.attrs.get("recipe_id") not in _recipes:
        raise Unsupported("a Dataset that sweep() has not made in this process")
    if "seed" not in ds.coords:
        raise Unsupported("a Dataset without its seeds")
    task, arguments = _recipes[ds.attrs["recipe_id"]]
    key = ds.attrs["recipe_id"], tuple(_seeds(ds))
    if key not in _packages:
        try:
            _packages[key] = browser.compile(task, arguments | {"seed": list(key[1])})
        except Unsupported as error:
            _packages[key] = error
    if isinstance(_packages[key], Unsupported):
        raise _packages[key]
    _compare(ds, plan, _packages[key])
    try:
        recipe(ds)
    except ValueError as error:
        raise Unsupported("a Dataset with other values than those of its recipe") from error
    return _packages[key]


def _compare(ds: xr.Dataset, plan: _Plan, package: Package) -> None:
    """Hold a package to the Dataset: the same grid, and the same values at the first two records of one run.

    A Dataset keeps its recipe when it is cut, joined to others or calculated with.

    Raises:
        Unsupported: they differ.
    """
    from .browser import Unsupported

    recipe, d = json.loads(ds.attrs["recipe"]), package.description
    allowed = {name: recipe[name] if isinstance(recipe[name], list) else [recipe[name]] for name in recipe}
    for name in {*plan.sliders, *plan.fixed}:
        values = np.atleast_1d(ds[name].values).tolist()
        if name not in recipe or not all(_listed(value, allowed[name]) for value in values):
            raise Unsupported(f"{name} = {values}, which the Dataset's recipe does not have")
    for name, found in {"hyperparameter": [*plan.sliders], "quantity": plan.variables}.items():
        known = [*d["hyperparameters"]] if name == "hyperparameter" else d["record"]
        if missing := [each for each in found if each not in known]:
            raise Unsupported(f"the {name} {missing[0]!r}")
    steps = ds.step.values.tolist()
    if not set(steps) <= set(d["record_steps"]):
        raise Unsupported("steps at which the sweep did not record")
    first = ds.isel({str(dim): 0 for dim in ds.dims if dim in d["hyperparameters"]})
    setting = {name: first[name].item() for name in d["hyperparameters"]} | {"seeds": _seeds(ds)}
    few = [t for t in d["record_steps"] if t <= steps[:2][-1]]
    run = replace(package, description=d | {"steps": few[-1], "record_steps": few}).run(setting)
    for name in plan.variables:
        here = run[name][:, [few.index(t) for t in steps[:2]]]
        there = plan._arrange(first[name]).values[:, :2]
        if not np.allclose(here, there, rtol=1e-3, atol=1e-6 * np.nanmax(np.abs(there), initial=0), equal_nan=True):
            raise Unsupported(f"{name}: its values are not those that the sweep recorded")


def _seeds(ds: xr.Dataset) -> list[int]:
    """The seeds, which a file may hold as real numbers: netCDF 3 has no whole ones so large."""
    return np.atleast_1d(ds.seed.values).astype(np.int64).tolist()


def _listed(value, values: list) -> bool:
    return any(value == each or isinstance(each, Mapping) and value == each["name"] for each in values)


def _page(ds: xr.Dataset, plan: _Plan, description: dict) -> dict:
    """What the page has to add to the sliders' values: the seeds, and what has been chosen with `ds.sel`."""
    fixed = {name: plan.fixed[name] for name in description["hyperparameters"] if name not in plan.sliders}
    chosen = _seeds(ds)
    return {"seeds": chosen, "fixed": fixed, "last_seed": description["seed"]["max"] - len(chosen) + 1}


def _reach(dim: dict, rule: dict) -> list[float]:
    """The range of a slider that is not bound to its grid: half an interval more at either end, if that is allowed."""
    values, log = dim["values"], dim["log"] and dim["values"][0] > 0

    def beyond(end: float, inner: float) -> float:
        return end * (end / inner) ** 0.5 if log else end + (end - inner) / 2

    low, high = beyond(*values[:2]), beyond(*values[:-3:-1])
    if dim["integer"]:
        low, high = math.ceil(low), math.floor(high)
    else:
        low, high = float(f"{low:.2g}"), float(f"{high:.2g}")
    return [min(values[0], max(low, rule["min"])), max(values[-1], min(high, rule["max"]))]


def _among(argument: str, value, allowed) -> None:
    if value not in list(allowed):
        raise ValueError(f"{argument} = {value!r}; allowed: {', '.join(map(str, allowed)) or 'none'}")


def _theory_lines(theory: dict, allowed: list[str]) -> dict[str, list]:
    lines = {}
    for name, given in theory.items():
        _among("theory", name, allowed)
        pairs = given if isinstance(given, list) else [given]
        lines[name] = [pair if isinstance(pair, tuple) else ("theory", pair) for pair in pairs]
        for pair in lines[name]:
            if len(pair) != 2 or not isinstance(pair[0], str) or not callable(pair[1]):
                raise TypeError(f"theory[{name!r}] = {given!r}; allowed: a function, (label, function) or a list of these")
    return lines


def _words(array: xr.DataArray) -> dict[str, str]:
    known = quantities.describe(str(array.name))
    return {
        "name": str(array.name),
        "label": array.attrs.get("long_name", known.label),
        "symbol": array.attrs.get("symbol", known.symbol),
        "unit": array.attrs.get("units", known.unit),
    }


def _log(array: xr.DataArray, wanted: str | None) -> bool:
    if wanted is not None:
        _among(f"scales[{array.name!r}]", wanted, ["log", "linear"])
    return (wanted or quantities.describe(str(array.name)).scale) == "log"


def _describe_dim(coord: xr.DataArray, start, fine: bool) -> dict:
    name, values, numeric = str(coord.name), coord.values.tolist(), coord.dtype.kind in "iuf"
    if numeric and not np.isfinite(coord.values).all():
        raise ValueError(f"{name!r} holds {values}; a slider needs finite values: choose them with ds.sel({name}=...)")
    if start is not None:
        _among(f"start[{name!r}]", start, values)
    real = name in quantities.HYPERPARAMETERS and name not in ("batch_size", "step")
    return _words(coord) | {
        "values": values,
        "kind": "number" if numeric else "choice",
        "log": bool(numeric and _log(coord, None)),
        "integer": coord.dtype.kind in "iu" and not real,
        "fine": numeric and fine and len(values) > 1,
        "start": values.index(start) if start is not None else len(values) - 1 if name == "step" else (len(values) - 1) // 2 if numeric else 0,
    }


def _describe_axis(coord: xr.DataArray, wanted: str | None) -> dict:
    values = coord.values.tolist()
    log = coord.dtype.kind in "iuf" and max(values) > 0 and _log(coord, wanted)
    return _words(coord) | {"values": values, "log": bool(log)}


def _describe_panel(array: xr.DataArray, wanted: str | None, limits) -> dict:
    log = _log(array, wanted)
    values = array.values[np.isfinite(array.values)]
    if log:
        values = values[values > 0]
    if limits is not None:
        low, high = map(float, limits)
        if not low < high or (log and low <= 0):
            raise ValueError(f"limits[{array.name!r}] = {limits!r}; allowed: low < high" + (", both positive on a log axis" if log else ""))
    elif values.size == 0:
        low, high = (0.1, 1.0) if log else (0.0, 1.0)
    else:
        low, high = _robust_range(np.log10(values) if log else values)
        low, high = (10**low, 10**high) if log else (0.0 if low > 0 and low < 0.3 * high else low, high)
    role = array.attrs.get("role", quantities.describe(str(array.name)).role)
    _among(f"role of {array.name!r}", role, quantities.COLORS)
    return _words(array) | {"log": log, "role": role, "domain": [float(f"{low:.4g}"), float(f"{high:.4g}")]}


def _robust_range(values: np.ndarray) -> tuple[float, float]:
    """The values' range without the few that would flatten all others, a little air around it."""
    low, high = np.quantile(values, [0.005, 0.995])
    reach = 0.5 * (high - low)  # extremes this close are part of the picture
    low, high = max(values.min(), low - reach), min(values.max(), high + reach)
    air = 0.04 * (high - low) or 0.5 * abs(high) or 0.5
    return low - (air if low != 0.0 else 0.0), high + air
