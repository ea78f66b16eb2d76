"""Figures: one style, vector output, alt text and caption required.

Every function takes labelled arrays and returns a `Figure`, which shows itself as inline
SVG with its caption. A quantity has the colour it has everywhere (`descent.quantities`),
written as `var(--d-<role>)`, so that one drawing suits a light and a dark page. Theory is
dashed, a threshold thin and labelled where it lies, divergence hatched. Lines are labelled
directly. Text stays text, and the same data give the same bytes::

    curves(ds.loss.sel(lr=0.1), hue="init_scale", alt="...", caption="...")
    curves(ds.sharpness, hue="lr", threshold={"2/η": 2 / ds.lr}, alt="...", caption="...")
    scatter(predicted, measured, identity=True, alt="...", caption="...")
    scatter(steps, error, slope=True, alt="...", caption="...")
    heatmap(ds.test_accuracy.isel(step=-1), x="lr", y="init_scale", alt="...", caption="...")
    images({"up": tiles}, alt="...", caption="...") # rows of grey images (n, height, width)
    canvas(draw, alt="...", caption="...")          # draw(axes): anything else, in the same style
    panel(left, right, caption="...")               # side by side, one below the other on a phone
    prose(f"The median is {late.median():.1f}.")    # Markdown made from computed values
"""

from __future__ import annotations

import hashlib
import io
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import xarray as xr
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Sheet

from descent.quantities import COLORS, css_line, describe, digits

__all__ = ["Figure", "canvas", "color", "comparison", "curves", "heatmap", "images", "panel", "prose", "scatter"]

WIDTH = 680  # CSS pixels of a figure as wide as the text
HEIGHT = 340
NARROW = (340, 300)  # the drawing for pages narrower than 540 CSS pixels
FONT = 13  # CSS pixels
LINE = 16  # CSS pixels between labels
LEVELS = 24  # colours of a heat map

_STYLE = {
    "figure.dpi": 72,
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": FONT,
    "axes.labelsize": FONT,
    "xtick.labelsize": FONT - 1,
    "ytick.labelsize": FONT - 1,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.edgecolor": COLORS["muted"][0],
    "axes.labelcolor": COLORS["ink"][0],
    "text.color": COLORS["ink"][0],
    "xtick.color": COLORS["muted"][0],
    "ytick.color": COLORS["muted"][0],
    "xtick.major.size": 4,
    "ytick.major.size": 4,
    "xtick.minor.size": 2,
    "ytick.minor.size": 2,
    "xtick.major.width": 0.8,
    "ytick.major.width": 0.8,
    "xtick.minor.width": 0.5,
    "ytick.minor.width": 0.5,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "hatch.linewidth": 0.7,
    "hatch.color": COLORS["divergence"][0],
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "path.simplify": True,
    "axes.unicode_minus": True,
}


# ---------------------------------------------------------------------- colours


def color(role: str) -> str:
    """The colour of a role or quantity, as `canvas` draws it; the page turns it to its theme.

    Raises:
        ValueError: neither `COLORS` nor the quantities have that name.
    """
    if role in COLORS:
        return COLORS[role][0]
    quantity = describe(role)
    if quantity.role == "ink" and quantity.label == role.replace("_", " "):
        raise ValueError(f"unknown colour {role!r}; one of {', '.join(COLORS)} or the name of a quantity")
    return quantity.color[0]


@dataclass(frozen=True)
class Mix:
    """A colour between two roles: `share` of `role`, the rest of `other`."""

    role: str
    other: str
    share: float

    @property
    def hex(self) -> str:
        return self.theme(0)

    def theme(self, index: int) -> str:
        """As "#rrggbb" on the light (0) or dark (1) page."""
        a, b = (np.array([int(COLORS[r][index][i : i + 2], 16) for i in (1, 3, 5)]) for r in (self.role, self.other))
        return "#" + "".join(f"{round(v):02x}" for v in self.share * a + (1 - self.share) * b)

    @property
    def text(self) -> str:
        """The colour for words: never paler than the role's own, which is readable as text."""
        return COLORS[self.role][0] if self.other == "paper" else self.hex

    @property
    def css(self) -> str:
        return f"color-mix(in srgb, {_variable(self.role)} {100 * self.share:.3g}%, {_variable(self.other)})"


def _variable(role: str) -> str:
    return f"var(--d-{role}, {COLORS[role][0]})"


def _tints(role: str, n: int) -> list[Mix]:
    """n shades of a role's colour, from one nearer the page to one nearer the ink.

    The first keeps a contrast of at least 3 : 1 with the page, light and dark.
    """
    if n == 1:
        return [Mix(role, "ink", 1.0)]
    positions = np.linspace(-0.2, 0.72, n)  # below 0: towards the page; above: towards the ink
    return [Mix(role, "ink" if p >= 0 else "paper", 1 - abs(round(float(p), 3))) for p in positions]


def _levels(role: str) -> list[Mix]:
    """The shades of a heat map: page to colour to ink, more ink for more."""
    shades = []
    for p in np.linspace(0.06, 1.55, LEVELS):
        shades.append(Mix(role, "paper", round(p, 3)) if p <= 1 else Mix(role, "ink", round(2 - p, 3)))
    return shades


# ---------------------------------------------------------------------- the figure


@dataclass(frozen=True)
class Figure:
    """A drawing with its alt text and its caption.

    Attributes:
        svg: the drawing, ready to stand in a page.
        alt: what it shows, for readers who cannot see it; it states the finding.
        caption: Markdown-free text below it, made from computed values.
        plain: the drawing with the light theme's colours and no CSS, to stand alone.
    """

    svg: str = field(repr=False)
    alt: str
    caption: str
    plain: str = field(default="", repr=False, compare=False)
    redraw: Callable[[int, int], tuple[str, str]] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("alt", "caption"):
            text = getattr(self, name)
            if not isinstance(text, str) or not text.strip():
                raise ValueError(f"a figure needs {name}= text, got {text!r}")

    def html(self) -> str:
        if not self.redraw:
            return _page([self.svg], self.caption)
        narrow = self.redraw(*NARROW)[0]  # a phone gets a drawing of its own, with letters as large as elsewhere
        return _page([f'<div class="d-wide">{self.svg}</div><div class="d-narrow">{narrow}</div>'], self.caption)

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        return {"text/html": self.html(), "text/plain": f"Figure: {self.alt}"}

    def save(self, path: str | Path) -> Path:
        """Write the drawing as an SVG file of its own, in the light theme's colours."""
        path = Path(path)
        if path.suffix != ".svg":
            raise ValueError(f"figures are saved as .svg, got {path.name!r}")
        path.write_text(self.plain or self.svg, encoding="utf-8")
        return path


# Zero specificity (:where), so that a page's own style sheet wins wherever it says something.
_FIGURE_CSS = (
    ":where(figure.descent-figure){margin:1.4rem 0;color:var(--d-ink);background:var(--d-paper);box-shadow:0 0 0 .4rem var(--d-paper)}"  # readable on whatever a host paints
    ":where(.descent-figure svg){display:block;height:auto;font-family:inherit;font-variant-numeric:lining-nums}"
    ":where(.descent-figure svg text){paint-order:stroke;stroke:var(--d-paper);stroke-width:3px;stroke-linejoin:round}"
    "@media(forced-colors:active){.descent-figure{forced-color-adjust:none}}"  # its roles are the reader's colours then, and its hues stay
    ".descent-figure .d-narrow{display:none}"
    "@media(max-width:540px){.descent-figure .d-wide{display:none}.descent-figure .d-narrow{display:block}}"
    ":where(.descent-figure .d-row){display:flex;flex-wrap:wrap;gap:1rem 1.5rem}"
    ":where(.descent-figure .d-row>div){flex:1 1 19rem;min-width:0}"
    ":where(.descent-figure .d-row p){margin:.3rem 0 0;font-size:.86em;line-height:1.4;color:var(--d-muted)}"
    ":where(.descent-figure figcaption){margin-top:.5rem;font-size:.92em;line-height:1.45;color:var(--d-muted);max-width:40rem}"
)


def _page(bodies: Sequence[str], caption: str) -> str:
    style = f"<style>{css_line()}{_FIGURE_CSS}</style>"
    return f'<figure class="descent-figure">{style}{"".join(bodies)}<figcaption>{escape(caption, quote=False)}</figcaption></figure>'


def panel(*figures: Figure, caption: str, height: int = 280) -> Figure:
    """Figures side by side, one below the other where the page is narrow.

    Each keeps its alt text; its own caption stands small below it.
    """
    if len(figures) < 2 or not all(isinstance(f, Figure) for f in figures):
        raise ValueError(f"panel takes two or more figures, got {len(figures)}: {[type(f).__name__ for f in figures]}")
    width = max(300, WIDTH // len(figures))
    drawn = [replace(f, svg=s, plain=p) for f in figures if f.redraw for s, p in [f.redraw(width, height)]]
    if len(drawn) != len(figures):
        raise ValueError("panel takes single figures, not panels")
    return Panel("".join(f.svg for f in drawn), " ".join(f.alt for f in drawn), caption, drawn[0].plain, None, tuple(drawn))


@dataclass(frozen=True)
class Panel(Figure):
    """Figures side by side; `save` writes the first."""

    figures: tuple[Figure, ...] = ()

    def html(self) -> str:
        cells = "".join(f"<div>{f.svg}<p>{escape(f.caption, quote=False)}</p></div>" for f in self.figures)
        return _page([f'<div class="d-row">{cells}</div>'], self.caption)


def canvas(
    draw: Callable[[Axes], None],
    *,
    alt: str,
    caption: str,
    xlabel: str = "",
    ylabel: str = "",
    width: int = WIDTH,
    height: int = HEIGHT,
    mixes: Sequence[Mix] = (),
) -> Figure:
    """A figure drawn by `draw(axes)` on matplotlib axes in the book's style.

    Use colours of `color(...)` only, and Unicode in place of TeX. `draw` is called once
    for each size in which the figure is shown.
    """
    Figure("", alt, caption)  # refuse empty texts before drawing

    def paint(axes: Axes) -> None:
        draw(axes)
        if xlabel or ylabel:
            _title_axes(axes, xlabel, ylabel)

    def redraw(width: int, least: int) -> tuple[str, str]:
        # what needs more height than others needs it on a phone, too
        return _drawn(paint, alt, width, height if height > HEIGHT else least, mixes)

    svg, plain = redraw(width, height)
    return Figure(svg, alt, caption, plain, redraw)


def _drawn(draw: Callable[[Axes], None], alt: str, width: int, height: int, mixes: Sequence[Mix]) -> tuple[str, str]:
    """Draw and return the SVG for a page and the SVG that stands alone."""
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": "descent"}):
        sheet = Sheet(figsize=(width / 72, height / 72), layout=None)
        FigureCanvasSVG(sheet)
        axes = sheet.add_axes((0.1, 0.1, 0.8, 0.8))
        draw(axes)
        _fit(sheet, axes)
        buffer = io.StringIO()
        sheet.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _clean(buffer.getvalue(), alt, width, height, mixes)


def _fit(sheet: Sheet, axes: Axes) -> None:
    """Margins that just hold the labels (drawn wider here than in the page's face)."""
    for _ in range(2):
        sheet.draw_without_rendering()
        for place in getattr(axes, "descent_place", []):
            place()
        w, h = sheet.get_size_inches() * 72
        inner = axes.get_position()
        boxes = [a.get_tightbbox() for a in sheet.axes]
        left = inner.x0 * w - min(b.x0 for b in boxes)
        right = max(b.x1 for b in boxes) - inner.x1 * w
        bottom = inner.y0 * h - min(b.y0 for b in boxes)
        top = max(b.y1 for b in boxes) - inner.y1 * h
        axes.set_position(((left + 3) / w, (bottom + 3) / h, 1 - (left + right + 6) / w, 1 - (bottom + top + 8) / h))
    for place in getattr(axes, "descent_place", []):
        place()


def _clean(text: str, alt: str, width: int, height: int, mixes: Sequence[Mix]) -> tuple[str, str]:
    """Matplotlib's SVG as one deterministic element that follows the page's theme."""
    body = text[text.index("<defs>") if "<defs>" in text else text.index("<g ") : text.rindex("</svg>")]
    body = re.sub(r"<!--.*?-->", "", body, flags=re.S)
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.S)
    body = re.sub(r"\s*\n\s*", "\n", body)
    body = re.sub(r"<[^>]+>", lambda tag: _lean(tag.group()), body)
    prefix = "d" + hashlib.sha256((alt + body).encode()).hexdigest()[:8]
    body = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', body)
    body = re.sub(r'(url\(#|href="#)', rf"\1{prefix}-", body)
    names = {}
    for role, pair in COLORS.items():
        names.setdefault(pair[0], _variable(role))
    variables = {f"--m{i}": mix for i, mix in enumerate(mixes) if mix.hex not in names}
    names |= {mix.hex: f"var({name})" for name, mix in variables.items()}
    themed = re.sub(r"#[0-9a-f]{6}\b", lambda m: names.get(m.group(), m.group()), body)
    defined = ";".join(f"{name}:{mix.css}" for name, mix in variables.items() if f"var({name})" in themed)
    head = f'viewBox="0 0 {width} {height}" role="img" aria-label="{escape(alt)}"'
    title = f"<title>{escape(alt, quote=False)}</title>"
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {head} width="100%" style="max-width:{width}px;{defined}">{title}{themed}</svg>'
    face = "font-family:Georgia,serif"
    plain = f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {head} width="{width}" height="{height}" style="{face}">{title}{body}</svg>\n'
    return svg, plain


def _lean(tag: str) -> str:
    """An SVG tag with coordinates to a tenth of a pixel, and the page's typeface."""
    tag = re.sub(r"font-family: ?[^;\"]*;? ?", "", tag)
    tag = re.sub(r"(?<=[;:]) ", "", tag)
    tag = tag.replace("text-anchor:start;", "").replace(' transform="rotate(-0', ' transform="rotate(0')
    tag = re.sub(r' transform="rotate\(0 [^"]*"', "", tag)
    tag = re.sub(r'(?<= d=")[^"]*', lambda path: re.sub(r"\s*([A-Za-z])\s*", r"\1", path.group()), tag)
    return re.sub(r"(\d\.\d)\d+", r"\1", tag)


def prose(markdown: str) -> None:
    """Display Markdown made from computed values, such as `f"... {median:.1f} ..."`."""
    from IPython import get_ipython
    from IPython.display import Markdown, display

    if not isinstance(markdown, str) or not markdown.strip():
        raise ValueError(f"prose takes text, got {markdown!r}")
    print(markdown) if get_ipython() is None else display(Markdown(markdown))


def comparison(value: float, other: float, margin: float, more: str = "more", less: str = "less", same: str = "as much") -> str:
    """The word that two numbers decide: `more` if `value` exceeds `other` by at least `margin`, `less` if it falls short by that, else `same`.

    A comparison in prose is then made from what it compares, verb included:
    `prose(f"The selected images change {comparison(a, b, 0.1)} ...")`.

    Args:
        margin: the smallest difference worth a word, in the units of the values; positive.

    Raises:
        ValueError: a value that is not finite, or a margin that is not positive.
    """
    if not (math.isfinite(value) and math.isfinite(other)):
        raise ValueError(f"comparison needs two finite numbers, got {value!r} and {other!r}")
    if not margin > 0:
        raise ValueError(f"the margin of a comparison is positive, got {margin!r}")
    difference = float(value) - float(other)
    return more if difference >= margin else less if difference <= -margin else same


# ---------------------------------------------------------------------- words and scales


def _words(array: xr.DataArray) -> tuple[str, str, str]:
    """A quantity's label, symbol and unit: the array's own, else the book's."""
    known = describe(str(array.name)) if array.name is not None else describe("")
    return (
        array.attrs.get("long_name", known.label),
        array.attrs.get("symbol", known.symbol),
        array.attrs.get("units", known.unit),
    )


def _axis(array: xr.DataArray) -> str:
    """An axis label: quantity, symbol, unit."""
    label, symbol, unit = _words(array)
    return " ".join(filter(None, [label, symbol, unit and f"({unit})"]))


def number(value: Any, among: Iterable[Any] = ()) -> str:
    """A number as a label: three digits, or as many as tell it from 1 and `among` others from each other; powers of ten as such."""
    if isinstance(value, str | np.str_):
        return str(value)
    value = float(value)
    count = digits([value, *among])
    if value and not 1e-3 <= abs(value) < 1e5:
        mantissa, exponent = f"{value:.{count - 1}e}".split("e")
        mantissa = mantissa.rstrip("0").rstrip(".")
        power = "10" + str(int(exponent)).translate(_SUPERSCRIPT)
        return {"1": power, "-1": f"−{power}"}.get(mantissa, f"{mantissa}·{power}").replace("-", "−")
    short = value if value.is_integer() else float(f"{value:.{count}g}")
    return np.format_float_positional(short, trim="-").replace("-", "−")


_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _scale(axis: Any, values: np.ndarray, scale: str | None, usual: str) -> None:
    """Set an axis logarithmic or linear, with plain tick labels."""
    finite = values[np.isfinite(values)]
    if scale not in (None, "log", "linear"):
        raise ValueError(f'a scale is "log" or "linear", got {scale!r}')
    possible = finite.size and finite.min() > 0
    if scale == "log" and not possible:
        raise ValueError("a log axis needs positive values, got " + (f"a minimum of {finite.min():g}" if finite.size else "none"))
    wide = possible and finite.max() / finite.min() > 8
    if scale == "log" or (scale is None and usual == "log" and wide):
        axis._set_axes_scale("log")
        few = finite.max() / finite.min() < 50
        axis.set_major_locator(ticker.LogLocator(10, (1, 2, 5) if few else (1,), numticks=8))
        axis.set_major_formatter(ticker.FuncFormatter(lambda v, _: number(v, axis.get_majorticklocs())))
        axis.set_minor_formatter(ticker.NullFormatter())
    else:
        axis.set_major_locator(ticker.MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axis.set_major_formatter(ticker.FuncFormatter(lambda v, _: number(v, axis.get_majorticklocs())))


def _title_axes(axes: Axes, x: str, y: str) -> None:
    """Axis titles lie flat: the vertical one above its axis."""
    axes.set_xlabel(x, labelpad=4)
    axes.set_ylabel("")
    axes.annotate(y, (0, 1), (-4, 9), xycoords="axes fraction", textcoords="offset points", ha="left", va="bottom")


def _positions(array: xr.DataArray, dim: str) -> tuple[np.ndarray, list[str] | None]:
    """Where a coordinate's values lie on an axis, and their names if they are words."""
    values = array[dim].values
    if values.dtype.kind in "iufb":
        return values.astype(float), None
    return np.arange(values.size, dtype=float), [str(v) for v in values]


def _array(data: Any, what: str) -> xr.DataArray:
    if not isinstance(data, xr.DataArray):
        raise TypeError(f"{what} is an xarray.DataArray, got {type(data).__name__}")
    return data


def _need_dims(array: xr.DataArray, allowed: Sequence[str | None], required: Sequence[str]) -> None:
    if missing := [d for d in required if d not in array.dims]:
        raise ValueError(f"{array.name or 'the array'} has no dimension {missing[0]!r}; it has {', '.join(map(str, array.dims))}")
    if stray := [d for d in array.dims if d not in allowed]:
        raise ValueError(
            f"{array.name or 'the array'} has the dimension {stray[0]!r} ({array.sizes[stray[0]]} values) that is not drawn; "
            f"select one value or reduce it (drawn: {', '.join(str(d) for d in allowed if d)})"
        )


# ---------------------------------------------------------------------- labels


def _spread(wanted: np.ndarray, gap: float, low: float, high: float) -> np.ndarray:
    """Positions nearest to the wanted ones, in their order, at least `gap` apart, within [low, high]."""
    order = np.argsort(wanted, kind="stable")
    placed = np.clip(wanted[order], low, high)
    for _ in range(200):  # push overlapping neighbours apart, evenly, until none overlap
        short = gap - np.diff(placed)
        if np.all(short <= 1e-6):
            break
        for i in np.flatnonzero(short > 1e-6):
            missing = gap - (placed[i + 1] - placed[i])
            if missing > 0:
                placed[i] -= missing / 2
                placed[i + 1] += missing / 2
        placed = np.clip(placed, low, high)
        placed[0], placed[-1] = max(placed[0], low), min(placed[-1], high)
    out = np.empty_like(placed)
    out[order] = placed
    return out


def _label_ends(axes: Axes, ends: Sequence[tuple[float, float, str, str]], heading: str = "") -> None:
    """Label lines at the right margin, level with their last points (x, y, text, colour).

    Where more labels are wanted than fit, only some of them are shown, the first and last always.
    """
    if not ends:
        return
    texts = [axes.text(0, 0, text, color=shade, va="center", ha="left", clip_on=False) for _, _, text, shade in ends]
    head = axes.text(0, 0, heading, va="center", ha="left", color=COLORS["muted"][0], clip_on=False) if heading else None

    def place() -> None:
        box = axes.get_window_extent()
        fits = max(2, int(box.height // LINE))
        shown = np.arange(len(ends))
        if len(ends) > fits:
            shown = np.unique(np.linspace(0, len(ends) - 1, fits).round().astype(int))
        wanted = axes.transData.transform([(x, y) for x, y, _, _ in ends])[:, 1]
        placed = _spread(wanted[shown], LINE, box.y0, box.y1)
        for text in texts:
            text.set_visible(False)
        at = dict(zip(shown.tolist(), placed.tolist(), strict=True))
        for i, y in at.items():
            texts[i].set_visible(True)
            texts[i].set_transform(None)
            texts[i].set_position((box.x1 + 8, y))
        if head:
            head.set_transform(None)
            head.set_position((box.x1 + 8, max(at.values()) + LINE + 1))

    axes.descent_place = [*getattr(axes, "descent_place", []), place]


def _label_level(axes: Axes, y: float, text: str, x: float, shade: str, va: str = "bottom") -> None:
    """A label that sits on a level line, inside the axes at their left or right end."""
    axes.annotate(
        text, (x, y), (4 if x == 0 else -4, 2 if va == "bottom" else -2), xycoords=("axes fraction", "data"),
        textcoords="offset points", ha="left" if x == 0 else "right", va=va, color=shade,
    )  # fmt: skip


# ---------------------------------------------------------------------- curves


def curves(
    data: xr.DataArray | xr.Dataset,
    x: str = "step",
    hue: str | None = None,
    *,
    alt: str,
    caption: str,
    y: Sequence[str] | None = None,
    theory: xr.DataArray | Mapping[str, Any] | None = None,
    threshold: Mapping[str, Any] | None = None,
    xthreshold: Mapping[str, float] | None = None,
    xscale: str | None = None,
    yscale: str | None = None,
    xlim: tuple[float, float] | None = None,
    ylim: tuple[float, float] | None = None,
    labels: Mapping[Any, str] | None = None,
    markers: bool | None = None,
    seed: str = "seed",
    width: int = WIDTH,
    height: int = HEIGHT,
) -> Figure:
    """Lines over one dimension, one per value of `hue`, with the spread over seeds.

    Args:
        data: DataArray with dimension `x`, optionally `hue` and `seed`; or a Dataset, of which
            `y` names the variables, drawn as one line each in their own colours (no `hue` then).
            The line is the median over seeds, the band reaches from minimum to maximum.
        theory: drawn dashed: a DataArray over `x` (and `hue`), or {label: array over x, or number}.
        threshold: {label: level}, drawn thin and labelled; a level may be a DataArray over `hue`.
        xthreshold: {label: position on the x axis}.
        labels: {value of hue or variable: words}, where the value itself does not say it.
        markers: points on the lines; by default when `x` has at most 16 values and is not the step.

    Where a line stops because its networks diverged, a cross ends it; a range of `x` in which
    every network diverged is hatched.

    Raises:
        ValueError: a dimension is missing or left over, or a text is empty.
    """
    groups = _groups(data, x, hue, y, seed)
    reference = groups[0].values
    positions, names = _positions(reference, x)
    markers = markers if markers is not None else len(positions) <= 16 and x != "step"
    shades = _shades(groups)
    for group, shade in zip(groups, shades, strict=True):
        group.shade, group.ink = shade.hex, shade.text
        group.label = (labels or {}).get(group.key, group.label)

    def draw(axes: Axes) -> None:
        everything = np.concatenate([g.values.values.ravel() for g in groups])
        _scale(axes.yaxis, everything, yscale, describe(str(reference.name)).scale)
        if names is None:
            _scale(axes.xaxis, positions, xscale, describe(x).scale)
        else:
            axes.set_xticks(positions, names)
        ends, stops = [], []
        for group in groups:
            _draw_group(axes, group, positions, x, seed, markers, ends, stops)
        _draw_theory(axes, theory, positions, x, hue, groups, ends)
        _hatch_divergence(axes, positions, groups, x, seed)
        if xlim or names is None:
            margin = 0.02 if markers else 0.0
            axes.set_xmargin(margin)
            axes.set_xlim(xlim) if xlim else axes.autoscale_view(scaley=False)
        if ylim:
            axes.set_ylim(ylim)
        _draw_thresholds(axes, threshold, xthreshold, hue, groups)
        _title_axes(axes, _axis(reference[x]), _shared_axis(groups))
        words = _words(reference[hue]) if hue else ("", "", "")
        _label_ends(axes, ends, words[1] and words[0] if len(groups) > 1 else "")
        for at, level, text, shade in stops:
            axes.annotate(text, (at, level), (7, 0), textcoords="offset points", va="center", color=shade, annotation_clip=False)

    return canvas(draw, alt=alt, caption=caption, width=width, height=height, mixes=shades)


@dataclass
class _Group:
    """One line: its values over x and seed, its colour and its words."""

    key: Any
    values: xr.DataArray
    role: str
    label: str
    shade: str = ""
    ink: str = ""


def _groups(data: Any, x: str, hue: str | None, y: Sequence[str] | None, seed: str) -> list[_Group]:
    if isinstance(data, xr.Dataset):
        if y is None or isinstance(y, str) or hue is not None:
            raise ValueError("of a Dataset, y=[...] names the variables to draw, and hue= is not used; pass one variable to use hue=")
        if unknown := [v for v in y if v not in data]:
            raise ValueError(f"the Dataset has no variable {unknown[0]!r}; it has {', '.join(map(str, data.data_vars))}")
        arrays = [data[v] for v in y]
        for a in arrays:
            _need_dims(a, (x, seed), (x,))
        return [_Group(str(a.name), a, describe(str(a.name)).role, _words(a)[0]) for a in arrays]
    array = _array(data, "data")
    if y is not None:
        raise ValueError("y= names variables of a Dataset; this is a DataArray")
    _need_dims(array, (x, hue, seed), [x] + ([hue] if hue else []))
    role = describe(str(array.name)).role
    if hue is None:
        return [_Group(None, array, role, "")]
    symbol, unit = _words(array[hue])[1:]
    groups = []
    for value in array[hue].values:
        text = number(value, [] if array[hue].dtype.kind not in "iuf" else array[hue].values)
        text = f"{symbol} = {text}" if symbol and not isinstance(value, str) else text
        groups.append(_Group(value.item() if hasattr(value, "item") else value, array.sel({hue: value}), role, text))
    return groups


def _shades(groups: Sequence[_Group]) -> list[Mix]:
    """The colour of each line: its quantity's, in shades where several lines share it."""
    shades = {}
    for role in dict.fromkeys(g.role for g in groups):
        members = [i for i, g in enumerate(groups) if g.role == role]
        shades |= dict(zip(members, _tints(role, len(members)), strict=True))
    return [shades[i] for i in range(len(groups))]


def _shared_axis(groups: Sequence[_Group]) -> str:
    """The y axis of several variables: what their labels have in common, else the first's unit."""
    if len({str(g.values.name) for g in groups}) == 1:
        return _axis(groups[0].values)
    words = [_words(g.values)[0].split() for g in groups]
    common = []
    for parts in zip(*(w[::-1] for w in words), strict=False):
        if len(set(parts)) > 1:
            break
        common.insert(0, parts[0])
    return " ".join(common) or ", ".join(" ".join(w) for w in words)


def _median(values: np.ndarray) -> np.ndarray:
    """Over the last axis, NaN where any is: a line shows no fewer networks than it claims to."""
    return np.median(values, axis=-1)


def _draw_group(axes, group, positions, x, seed, markers, ends, stops) -> None:
    values = group.values.transpose(x, ...).values.astype(float)
    values = values.reshape(len(positions), -1)
    values = np.where(np.isfinite(values), values, np.nan)
    middle = _median(values)
    if values.shape[1] > 1:
        low, high = values.min(1), values.max(1)
        axes.fill_between(positions, low, high, color=group.shade, alpha=0.16, linewidth=0)
    axes.plot(positions, middle, color=group.shade, marker="o" if markers else None, markersize=4.5, markeredgewidth=0)
    seen = np.flatnonzero(np.isfinite(middle))
    if seen.size == 0:
        return
    last = seen[-1]
    if last < len(positions) - 1 and x == "step":
        axes.plot(positions[last], middle[last], "x", color=COLORS["divergence"][0], markersize=7, markeredgewidth=1.8, clip_on=False, zorder=5)
        stops.append((positions[last], middle[last], f"{group.label} diverges".strip(), COLORS["divergence"][0]))
    elif group.label:
        ends.append((positions[last], middle[last], group.label, group.ink))


def _draw_theory(axes, theory, positions, x, hue, groups, ends) -> None:
    if theory is None:
        return
    shade = COLORS["theory"][0]
    style = {"color": shade, "linestyle": (0, (5, 3)), "linewidth": 1.3, "zorder": 4}
    entries = {"theory": theory} if isinstance(theory, xr.DataArray) else theory
    if not isinstance(entries, Mapping):
        raise TypeError(f"theory is a DataArray or {{label: array or number}}, got {type(theory).__name__}")
    for label, values in entries.items():
        if isinstance(values, xr.DataArray) and hue in values.dims:
            lines = [values.sel({hue: g.key}) for g in groups]
        else:
            lines = [values]
        drawn = []
        for line in lines:
            if isinstance(line, xr.DataArray) and x in line.dims:
                _need_dims(line, (x,), (x,))
                at, levels = _positions(line, x)[0], line.values.astype(float)
            else:
                levels = np.asarray(line, dtype=float)
                if levels.ndim == 0:
                    levels = np.full(len(positions), float(levels))
                at = positions
                if levels.shape != at.shape:
                    raise ValueError(f"theory {label!r} has shape {levels.shape}, but {x} has {at.size} values")
            axes.plot(at, levels, **style)
            finite = np.flatnonzero(np.isfinite(levels))
            if finite.size:
                drawn.append((at[finite[-1]], levels[finite[-1]], str(label), shade))
        if drawn and len(drawn) == 1:
            ends.append(drawn[0])
        elif drawn:
            middle = drawn[len(drawn) // 2]
            axes.annotate(str(label), middle[:2], (-6, 5), textcoords="offset points", ha="right", color=shade)


def _draw_thresholds(axes, threshold, xthreshold, hue, groups) -> None:
    thin = {"linewidth": 0.8, "zorder": 1.5}
    shade = COLORS["threshold"][0]
    for label, level in (threshold or {}).items():
        if isinstance(level, xr.DataArray) and level.ndim:
            _need_dims(level, (hue,), (hue,) if hue else ())
            levels = [(float(level.sel({hue: g.key})), f"{label} at {g.label}") for g in groups]
        else:
            levels = [(float(level), str(label))]
        for value, text in levels:
            axes.axhline(value, color=shade, **thin)
            _label_level(axes, value, text, 0, shade)
    for label, value in (xthreshold or {}).items():
        axes.axvline(float(value), color=shade, **thin)
        share = axes.transAxes.inverted().transform(axes.transData.transform((float(value), 1)))[0]
        clear = share > 0.4  # of the vertical axis' title: the label stands on the line, else beside it
        axes.annotate(
            str(label), (float(value), 1), (0, 3) if clear else (4, -2), xycoords=("data", "axes fraction"), textcoords="offset points",
            va="bottom" if clear else "top", ha="center" if clear else "left", color=shade,
        )  # fmt: skip


def _hatch_divergence(axes, positions, groups, x, seed) -> None:
    """Hatch the ends of the x axis at which every network of every line diverged."""
    if x == "step" or len(positions) < 2:
        return
    alive = np.zeros(len(positions), bool)
    for group in groups:
        values = group.values.transpose(x, ...).values.reshape(len(positions), -1)
        alive |= np.isfinite(values).any(1)
    dead = np.flatnonzero(~alive)
    if dead.size == 0 or dead[-1] != len(positions) - 1:
        return
    first = dead[np.flatnonzero(np.diff(dead, prepend=dead[0] - 1) > 1)[-1]] if np.any(np.diff(dead) > 1) else dead[0]
    if first == 0:
        return
    log = axes.get_xscale() == "log"
    edge = math.sqrt(positions[first - 1] * positions[first]) if log else (positions[first - 1] + positions[first]) / 2
    axes.axvspan(edge, positions[-1], facecolor="none", edgecolor=COLORS["divergence"][0], hatch="////", linewidth=0, zorder=0)
    axes.annotate(
        "diverges", (edge, 0), (6, 6), xycoords=("data", "axes fraction"), textcoords="offset points", color=COLORS["divergence"][0]
    )


# ---------------------------------------------------------------------- scatter


def scatter(
    x: xr.DataArray,
    y: xr.DataArray,
    hue: str | None = None,
    *,
    alt: str,
    caption: str,
    identity: bool = False,
    slope: bool = False,
    theory: Mapping[str, Callable[[np.ndarray], np.ndarray]] | None = None,
    threshold: Mapping[str, float] | None = None,
    xscale: str | None = None,
    yscale: str | None = None,
    width: int = WIDTH,
    height: int = HEIGHT,
) -> Figure:
    """One quantity against another, a point for every value that both arrays have.

    Args:
        x, y: arrays that broadcast against each other by dimension names.
        hue: a dimension whose values share a shade and a label.
        identity: draw the dashed line y = x, as for a prediction (x) and a measurement (y).
        slope: log-log axes, the least-squares line, and its slope written on it.
        theory: {label: f}, drawn dashed as f(x).
        threshold: {label: level of y}.

    Raises:
        ValueError: nothing to draw, or `slope` of values that are not positive.
    """
    x, y = xr.broadcast(_array(x, "x"), _array(y, "y"))
    if hue is not None and hue not in y.dims:
        raise ValueError(f"hue {hue!r} is not a dimension; there are {', '.join(map(str, y.dims)) or 'none'}")
    role = describe(str(y.name)).role
    values = [None] if hue is None else list(y[hue].values)
    tints = _tints(role, len(values))
    both = np.isfinite(x.values) & np.isfinite(y.values)
    if not both.any():
        raise ValueError("scatter has no point at which both x and y are finite")
    xs, ys = x.values[both].astype(float), y.values[both].astype(float)
    if slope:
        if min(xs.min(), ys.min()) <= 0 or np.unique(xs).size < 2:
            raise ValueError("a slope needs positive values at two different x or more")
        xscale = yscale = "log"
    fitted = np.polyfit(np.log(xs), np.log(ys), 1) if slope else None

    def draw(axes: Axes) -> None:
        _scale(axes.xaxis, xs, xscale, describe(str(x.name)).scale)
        _scale(axes.yaxis, ys, yscale, describe(str(y.name)).scale)
        ends = []
        for value, tint in zip(values, tints, strict=True):
            pick = {} if hue is None else {hue: value}
            px, py = x.sel(pick).values.ravel().astype(float), y.sel(pick).values.ravel().astype(float)
            axes.plot(px, py, "o", color=tint.hex, markersize=5.5, markeredgewidth=0, alpha=0.85, clip_on=False)
            seen = np.flatnonzero(np.isfinite(px) & np.isfinite(py))
            if hue is not None and seen.size:
                symbol = _words(y[hue])[1]
                last = seen[np.argmax(px[seen])]
                text = number(value, [] if y[hue].dtype.kind not in "iuf" else y[hue].values)
                text = f"{symbol} = {text}" if symbol and not isinstance(value, str) else text
                ends.append((px[last], py[last], text, tint.text))
        grid = _between(xs, axes.get_xscale() == "log")
        dashed = {"color": COLORS["theory"][0], "linestyle": (0, (5, 3)), "linewidth": 1.3, "zorder": 1.5}
        if identity:
            reach = np.array([max(xs.min(), ys.min()), min(xs.max(), ys.max())])
            reach = np.array([xs.min(), xs.max()]) if reach[0] >= reach[1] else reach
            axes.plot(reach, reach, **dashed)
            axes.annotate("y = x", (reach[1], reach[1]), (-6, 4), textcoords="offset points", ha="right", color=COLORS["theory"][0])
        if fitted is not None:
            axes.plot(grid, np.exp(fitted[1]) * grid ** fitted[0], color=tints[len(tints) // 2].hex, linewidth=1.1, zorder=1.4)
            middle = grid[len(grid) * 2 // 3]
            axes.annotate(
                f"slope {fitted[0]:.2f}".replace("-", "−"), (middle, math.exp(fitted[1]) * middle ** fitted[0]), (12, 14),
                textcoords="offset points", color=tints[len(tints) // 2].text,
            )  # fmt: skip
        for label, f in (theory or {}).items():
            level = np.asarray(f(grid), dtype=float)
            axes.plot(grid, level, **dashed)
            ends.append((grid[-1], level[-1], str(label), COLORS["theory"][0]))
        for label, level in (threshold or {}).items():
            axes.axhline(float(level), color=COLORS["threshold"][0], linewidth=0.8, zorder=1.2)
            _label_level(axes, float(level), str(label), 0, COLORS["threshold"][0])
        axes.margins(0.04)
        _title_axes(axes, _axis(x), _axis(y))
        _label_ends(axes, ends)

    return canvas(draw, alt=alt, caption=caption, width=width, height=height, mixes=tints)


def _between(values: np.ndarray, log: bool) -> np.ndarray:
    low, high = float(values.min()), float(values.max())
    return np.geomspace(low, high, 100) if log else np.linspace(low, high, 100)


# ---------------------------------------------------------------------- heat map


def heatmap(
    data: xr.DataArray,
    x: str,
    y: str,
    *,
    alt: str,
    caption: str,
    theory: Mapping[str, xr.DataArray] | None = None,
    places: Mapping[str, tuple[float, float]] | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    scale: str | None = None,
    seed: str = "seed",
    width: int = WIDTH,
    height: int = HEIGHT,
) -> Figure:
    """A quantity over two dimensions, more ink for more; diverged cells are hatched.

    Args:
        data: DataArray over `x` and `y`; of `seed` the median is drawn.
        theory: {label: DataArray over `x`}, the dashed line y = f(x) across the map.
        places: {a letter or number: (x, y)}, marked on the map.
        vmin, vmax: the ends of the colour scale; the data's by default.
        scale: "log" or "linear" colours; the quantity's usual scale by default.

    Raises:
        ValueError: a dimension is missing or left over, or nothing is finite.
    """
    array = _array(data, "data")
    _need_dims(array, (x, y, seed), (x, y))
    values = array.transpose(y, x, ...).values.astype(float)
    values = np.where(np.isfinite(values), values, np.nan).reshape(*values.shape[:2], -1)
    cells = _median(values)
    if not np.isfinite(cells).any():
        raise ValueError(f"{array.name or 'the array'} has no finite value to draw")
    quantity = describe(str(array.name))
    positive = np.nanmin(cells) > 0 and np.nanmax(cells) / np.nanmin(cells) > 8
    log = scale == "log" or (scale is None and quantity.scale == "log" and positive)
    if log and np.nanmin(cells) <= 0:
        raise ValueError(f"log colours need positive values, got a minimum of {np.nanmin(cells):g}")
    low, high = np.nanmin(cells) if vmin is None else vmin, np.nanmax(cells) if vmax is None else vmax
    if low == high:
        low, high = low - 0.5 * (not log) or low / 2, high + 0.5 * (not log) or high * 2
    shades = _levels(quantity.role)
    change = np.log if log else lambda v: np.asarray(v, dtype=float)
    level = np.clip((change(cells) - change(low)) / (change(high) - change(low)), 0, 1)

    def draw(axes: Axes) -> None:
        edges = {}
        for name, axis in ((x, axes.xaxis), (y, axes.yaxis)):
            positions, words = _positions(array, name)
            if words is None:
                _scale(axis, positions, None, describe(name).scale)
            else:
                axis.set_ticks(positions, words)
            edges[name] = _edges(positions, axis.get_scale() == "log")
        quads = {}
        for i, j in np.ndindex(*cells.shape):
            key = int(round(level[i, j] * (LEVELS - 1))) if np.isfinite(level[i, j]) else -1
            corner = (edges[x][j], edges[x][j + 1], edges[y][i], edges[y][i + 1])
            quads.setdefault(key, []).append(corner)
        for key, corners in sorted(quads.items()):
            _draw_cells(axes, corners, shades[key].hex if key >= 0 else None)
        for label, line in (theory or {}).items():
            _need_dims(_array(line, f"theory {label!r}"), (x,), (x,))
            at, height = _positions(line, x)[0], line.values.astype(float)
            axes.plot(at, height, color=COLORS["theory"][0], linestyle=(0, (5, 3)), linewidth=1.5)
            inside = np.flatnonzero((height >= edges[y].min()) & (height <= edges[y].max()))
            if inside.size:
                k = inside[inside.size // 2]
                axes.annotate(str(label), (at[k], height[k]), (6, 6), textcoords="offset points", color=COLORS["theory"][0])
        for label, at in (places or {}).items():
            axes.plot(*at, "o", markersize=15, color=COLORS["paper"][0], markeredgecolor=COLORS["ink"][0], markeredgewidth=0.8, clip_on=False)
            axes.annotate(str(label), at, ha="center", va="center_baseline", color=COLORS["ink"][0])
        axes.set_xlim(edges[x].min(), edges[x].max())
        axes.set_ylim(edges[y].min(), edges[y].max())
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
        axes.tick_params(which="both", length=3)
        _title_axes(axes, _axis(array[x]), _axis(array[y]))
        _color_key(axes, shades, low, high, log, _axis(array), -1 in quads)

    return canvas(draw, alt=alt, caption=caption, width=width, height=height, mixes=shades)


def images(rows: Mapping[str, Any], *, alt: str, caption: str, width: int = WIDTH) -> Figure:
    """Rows of small grey images, more ink for more, one shade scale for all.

    Args:
        rows: {label: array (n, height, width)}, every image of the same size.

    Raises:
        ValueError: no images, or of different sizes.
    """
    stacks = {label: np.asarray(tiles, dtype=float) for label, tiles in rows.items()}
    shapes = {tiles.shape[1:] for tiles in stacks.values()}
    if len(shapes) != 1 or any(tiles.ndim != 3 or not tiles.size for tiles in stacks.values()):
        raise ValueError(f"images takes arrays (n, height, width) of one size; got {[t.shape for t in stacks.values()]}")
    ((h, w),) = shapes
    low, high = min(t.min() for t in stacks.values()), max(t.max() for t in stacks.values())
    shades, gap = _levels("ink"), 0.2 * w
    columns, line = max(len(t) for t in stacks.values()), h + 0.6 * h

    def draw(axes: Axes) -> None:
        quads: dict[int, list] = {}
        for row, (label, tiles) in enumerate(stacks.items()):
            top = row * line
            axes.text(0, top - 0.14 * h, label, va="bottom", ha="left")
            for k, i, j in np.ndindex(*tiles.shape):
                left = k * (w + gap) + j
                key = round((tiles[k, i, j] - low) / max(high - low, 1e-12) * (LEVELS - 1))
                quads.setdefault(key, []).append((left, left + 1, top + i, top + i + 1))
        for key, corners in sorted(quads.items()):
            _draw_cells(axes, corners, shades[key].hex)
        axes.set_xlim(0, columns * (w + gap))
        axes.set_ylim(len(stacks) * line - 0.5 * h, -0.5 * h)
        axes.set_axis_off()

    height = round(width * (len(stacks) * line) / (columns * (w + gap)))
    svg, plain = _drawn(draw, alt, width, height, shades)
    return Figure(svg, alt, caption, plain)


def _edges(positions: np.ndarray, log: bool) -> np.ndarray:
    """Cell borders half way between neighbouring positions, on a log axis half way in the exponent."""
    at = np.log(positions) if log else positions
    order = np.argsort(at)
    if not np.array_equal(order, np.arange(at.size)):
        raise ValueError(f"a heat map's coordinate must increase, got {positions.tolist()}")
    half = np.diff(at) / 2 if at.size > 1 else np.array([0.5])
    edges = np.concatenate([[at[0] - half[0]], at[:-1] + half, [at[-1] + half[-1]]]) if at.size > 1 else np.array([at[0] - 0.5, at[0] + 0.5])
    return np.exp(edges) if log else edges


def _draw_cells(axes: Axes, corners: Sequence[tuple[float, float, float, float]], shade: str | None) -> None:
    """Every cell of one shade as one path; hatched if it has none."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Outline

    points, codes = [], []
    for left, right, bottom, top in corners:
        points += [(left, bottom), (right, bottom), (right, top), (left, top), (left, bottom)]
        codes += [Outline.MOVETO, Outline.LINETO, Outline.LINETO, Outline.LINETO, Outline.CLOSEPOLY]
    look = {"facecolor": shade, "edgecolor": shade, "linewidth": 0.4}
    if shade is None:
        look = {"facecolor": "none", "edgecolor": COLORS["divergence"][0], "hatch": "////", "linewidth": 0}
    axes.add_patch(PathPatch(Outline(points, codes), **look))


def _color_key(axes: Axes, shades: Sequence[Mix], low: float, high: float, log: bool, words: str, diverged: bool) -> None:
    """The colour scale above the map, at its right: words, ends, and the hatch of divergence."""
    key = axes.figure.add_axes((0, 0, 1, 1))
    key.set_axis_off()
    key.set_xlim(0, LEVELS)
    key.set_ylim(0, 1)
    for i, shade in enumerate(shades):
        key.add_patch(matplotlib.patches.Rectangle((i, 0), 1.02, 1, facecolor=shade.hex, linewidth=0))
    key.text(-0.6, 0.5, f"{words}  {number(low)}", ha="right", va="center")
    key.text(LEVELS + 0.6, 0.5, number(high) + ("  (log)" if log else ""), ha="left", va="center")
    if diverged:
        axes.annotate("hatched: diverged", (1, 1), (0, 9), xycoords="axes fraction", textcoords="offset points",
                      ha="right", va="bottom", color=COLORS["divergence"][0])  # fmt: skip

    def place() -> None:
        w, h = axes.figure.get_size_inches() * 72
        box = axes.get_position()
        length = 90 / w
        key.set_position((box.x1 - length - 30 / w, box.y1 + 34 / h, length, 9 / h))

    axes.descent_place = [place]
