"""Write the page of benchmarks from its record.

    python tools/benchmarks.py      book/benchmarks.json -> book/benchmarks.md and book/benchmarks/*.html

`make bench` measures and leaves the record. Every number on the page comes from it: the page
can be written again from the committed record, and a test holds the two together.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import xarray as xr

from descent.plots import Figure, canvas, color, curves, number

ROOT = Path(__file__).resolve().parents[1]
JSON = ROOT / "book/benchmarks.json"

#: in the page's order
GROUPS = ["training", "fractal", "curvature", "growth", "page"]
#: a time has left its lowest level where it exceeds this multiple of the lowest
FLAT = 1.5
#: arithmetic is what takes the time where at least this share of the machine's peak is reached
BUSY = 0.5


# -- arithmetic --------------------------------------------------------------------------


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Largest relative difference of `a` from `b`."""
    return float(np.max(np.abs(a - b) / np.maximum(np.abs(b), 1e-12)))


def ratios(peer: list[float], ours: list[float], share: float = 1.0) -> list[float]:
    """How many times longer the peer took, round by round."""
    return [share * p / o for p, o in zip(peer, ours, strict=True)]


@dataclass(frozen=True)
class Row:
    """A number measured once a round, and what was asked of it."""

    name: str
    values: list[float]
    least: float | None = None
    most: float | None = None
    unit: str = ""

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def text(self) -> str:
        """The median, with the smallest and the largest value if there are several."""
        spread = f" ({number(min(self.values))} to {number(max(self.values))})".replace(" to ", "\xa0to\xa0")
        return number(self.median) + self.unit + (spread if len(self.values) > 1 else "")

    @property
    def target(self) -> str:
        if self.least is not None:
            return f"at least {number(self.least)}{self.unit}"
        return "" if self.most is None else f"at most {number(self.most)}{self.unit}"

    @property
    def verdict(self) -> str:
        """Whether the median keeps the target, as "met" or "missed"; "" without a target."""
        if not self.target:
            return ""
        kept = self.median >= self.least if self.least is not None else self.median <= self.most
        return "met" if kept else "missed"


def against(record: dict) -> list[Row]:
    """Each peer's ratio to ours."""
    return [Row(name, ratios(p["seconds"], p.get("ours", record["ours"]), p["share"]), p["least"], p["most"], "\xa0×")
            for name, p in record.get("peers", {}).items()]  # fmt: skip


def per_step(record: dict) -> float:
    """Our seconds for one step of one network."""
    return median(record["ours"]) / record["networks"] / record["steps"]


def share_of_peak(record: dict) -> Row | None:
    """Our floating-point operations a second, in percent of those that matrix products reached in the same round."""
    if not record.get("flops"):
        return None
    work, least = record["flops"] * record["networks"] * record["steps"], record["peak"] and 100 * record["peak"]
    shares = [100 * work / s / p for s, p in zip(record["ours"], record["sgemm"], strict=True)]
    return Row("share of the sgemm peak", shares, least, unit="\xa0%")


def rows(record: dict) -> list[Row]:
    """Every number of a record that a target can be set for."""
    found = against(record) + ([share] if (share := share_of_peak(record)) else [])
    if memory := record.get("memory"):
        found.append(Row("memory over the imports", [b / 1e6 for b in memory["ours"]], most=memory["most"] / 1e6, unit="\xa0MB"))
    found += [Row(b["name"], b["values"], most=b["most"], unit=f"\xa0{b['unit']}") for b in record.get("budget", [])]
    return found


def flat(x: list[float], times: list[float]) -> tuple[float, float | None]:
    """Where a time per unit of work is near its lowest: the first x of that, and the first x above that is not.

    Near is within a factor `FLAT`; None if it stays there to the end.
    """
    lowest = min(times)
    near = [t <= FLAT * lowest for t in times]
    after = times.index(lowest)
    return x[near.index(True)], next((v for v, good in zip(x[after:], near[after:]) if not good), None)


def rounded(value: Any, digits: int = 4) -> Any:
    """The same record with its floats to four significant digits."""
    if isinstance(value, dict):
        return {k: rounded(v, digits) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(v, digits) for v in value]
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.{digits}g}")
    return value


def chapters(folder: Path) -> dict[str, dict]:
    """What each chapter's notebook says of its own execution."""
    return {p.stem: json.loads(p.read_text("utf-8"))["metadata"]["descent"] for p in sorted(folder.glob("*.ipynb"))}


def lines(name: str, record: dict) -> list[str]:
    """A benchmark's results for a terminal."""
    if "failed" in record:
        return [f"{name}: FAILED, {record['failed']}"]
    head = record["title"] + (f": ours {median(record['ours']):.3g} s" if "ours" in record else "")
    head += f", {duration(per_step(record))} for a step of one network" if record.get("steps") else ""
    details = [f"  {row.name:32} {row.text:28} {row.target and f'{row.target}: {row.verdict}'}" for row in rows(record)]
    return [head, *details, *(f"  {what}" for what in [*record.get("eigenvalues", []), *record.get("growth", {}).items()])]


# -- words and tables --------------------------------------------------------------------


def table(head: Iterable[str], body: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    written = ["| " + " | ".join(row) + " |" for row in (head, *body)]
    return "\n".join([written[0], "|" + " --- |" * len(tuple(head)), *written[1:]])


def short(value: float) -> str:
    """A number with two digits, for prose."""
    return number(float(f"{value:.2g}"))


def duration(seconds: float) -> str:
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "µs")):
        if seconds * factor >= 1:
            return f"{number(float(f'{seconds * factor:.3g}'))} {unit}"
    return f"{number(float(f'{seconds * 1e9:.3g}'))} ns"


def listed(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def detail(records: list[dict]) -> str:
    """Records and all their peers, as a table."""
    body = []
    for record in records:
        for i, row in enumerate(against(record)):
            peer = record["peers"][row.name]
            done = "all" if peer["share"] == 1 else str(Fraction(1 / peer["share"]).limit_denominator(10_000))
            body.append((record["title"] if i == 0 else "", row.name, row.text, done, short(peer["difference"])))
    return table(("work", "peer", "its time over ours", "part done", "results differ by"), body)


def shown(name: str) -> str:
    """The place of a figure on the page."""
    return f"```{{raw}} html\n:file: benchmarks/{name}.html\n```"


# -- figures -----------------------------------------------------------------------------


def ratio_figure(records: list[dict]) -> Figure:
    """Every peer of every record as a dot on a logarithmic axis, with a line from the smallest to the largest ratio."""
    kinds = {"loop": "loss", "loop, joblib": "distance", "torch.func": "accuracy", "JAX, as usual": "noise",
             "JAX, tuned": "sharpness"}  # fmt: skip
    points = [(i, row) for i, record in enumerate(records) for row in against(record) if row.name in kinds]

    def draw(axes: Any) -> None:
        axes.set_xscale("log")
        axes.axvline(1.0, color=color("threshold"), linewidth=0.8)
        for i, row in points:
            y, shade = -i + 0.3 - 0.15 * list(kinds).index(row.name), color(kinds[row.name])
            axes.plot([min(row.values), max(row.values)], [y, y], color=shade, linewidth=1.2)
            axes.plot([row.median], [y], "o", color=shade, markersize=4, label=row.name if row.name not in axes.get_legend_handles_labels()[1] else None)
        axes.set_yticks([-i for i in range(len(records))], [record["title"].replace(", ", ",\n", 1) for record in records])
        axes.xaxis.set_major_formatter(lambda v, _: number(v))
        columns = 1 if axes.get_window_extent().width < 300 else 3
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, frameon=False, labelcolor="linecolor", handletextpad=0.2)

    slowest = max((row for _, row in points), key=lambda row: row.median)
    fastest = min((row for _, row in points), key=lambda row: row.median)
    return canvas(
        draw,
        xlabel="time of the peer over ours",
        alt=f"Ratios of the peers' times to ours, from {short(fastest.median)} ({fastest.name}) to {short(slowest.median)} ({slowest.name}), on a logarithmic axis.",
        caption="How many times longer the peers take than one sweep. Dots are medians over the rounds, lines reach from the "
        "smallest to the largest; left of the thin line the peer is faster.",
        height=120 + 60 * len(records),
    )


def _array(name: str, label: str, unit: str, x: tuple[str, str, list], values: list, hue: list[str] | None = None) -> xr.DataArray:
    """Values (hue?, x, round) with the words that go to the axes."""
    dims = (("side",) if hue else ()) + (x[0], "seed")
    array = xr.DataArray(np.where(np.array(values) > 0, values, np.nan), dims=dims, coords={x[0]: x[2]} | ({"side": hue} if hue else {}), name=name)
    array.attrs.update(long_name=label, symbol="", units=unit)
    array[x[0]].attrs.update(long_name=x[1], symbol="", units="")
    if hue:
        array["side"].attrs.update(long_name="", symbol="", units="")
    return array


def medians(values: list[list[float]]) -> list[float]:
    return [median(v) for v in values]


def networks_figure(growth: dict) -> Figure:
    times = medians(growth["seconds"])
    array = _array("time", "time per network and step", "µs", ("networks", "networks in the sweep", growth["networks"]), 1e6 * np.array(growth["seconds"]))
    start, _ = flat(growth["networks"], times)
    return curves(
        array, x="networks", xscale="log", yscale="log", threshold={"loop over nn.Modules": 1e6 * median(growth["loop"])}, markers=True,
        alt=f"Time per network and step against the number of networks: falls from {duration(times[0])} for one to {duration(min(times))}.",
        caption=f"One network takes {duration(times[0])} a step; from {number(start)} on, each takes {duration(min(times))} to "
        f"{duration(max(t for n, t in zip(growth['networks'], times) if n >= start))}.",
    )  # fmt: skip


def memory_figure(growth: dict) -> Figure:
    megabytes = [[b / 1e6] for b in growth["memory"]]
    array = _array("memory", "peak memory over the imports", "MB", ("networks", "networks in the sweep", growth["memory_networks"]), megabytes)
    most, last = growth["memory"][-1] / 1e6, growth["memory_networks"][-1]
    return curves(
        array, x="networks", xscale="log", yscale="log", markers=True,
        alt=f"Peak memory against the number of networks, up to {short(most)} MB for {number(last)}.",
        caption=f"A sweep of {number(last)} networks holds {short(most)} MB over what the imports take.",
    )  # fmt: skip


def width_figure(growth: dict) -> Figure:
    times, share = medians(growth["seconds"]), width_shares(growth)
    array = _array("time", "time per network and step", "µs", ("width", "hidden units", growth["widths"]), 1e6 * np.array(growth["seconds"]))
    peak = median(growth["sgemm"])
    bound = xr.DataArray([1e6 * f / peak for f in growth["flops"]], dims="width", coords={"width": growth["widths"]})
    return curves(
        array, x="width", xscale="log", yscale="log", theory={"at the sgemm peak": bound}, markers=True,
        alt=f"Time per network and step against the width, from {duration(times[0])} to {duration(times[-1])}, with the time that the "
        "products alone would take at the machine's peak.",
        caption=f"The widest network reaches {short(100 * share[-1])} % of the machine's sgemm peak, the narrowest {short(100 * share[0])} %.",
    )  # fmt: skip


def width_shares(growth: dict) -> list[float]:
    """The share of the median sgemm peak that each width reaches."""
    return [f / s / median(growth["sgemm"]) for f, s in zip(growth["flops"], medians(growth["seconds"]))]


def steps_figure(growth: dict) -> Figure:
    array = _array("time", "time of the sweep", "s", ("steps", "steps", growth["steps"]), growth["seconds"])
    times = medians(growth["seconds"])
    return curves(
        array, x="steps", xscale="log", yscale="log", markers=True,
        alt=f"Time of a sweep against its steps, from {duration(times[0])} for {growth['steps'][0]} to {duration(times[-1])} for {growth['steps'][-1]}.",
        caption=f"A sweep of {growth['networks']} networks takes {duration(times[0])} for one step; a further step takes {duration(further_step(growth))}.",
    )  # fmt: skip


def further_step(growth: dict) -> float:
    """Seconds of one further step of all networks, from the two longest runs."""
    (a, b), (s, t) = growth["steps"][-2:], medians(growth["seconds"])[-2:]
    return (t - s) / (b - a)


def job_figure(growth: dict) -> Figure:
    array = _array("time", "time per network and step", "µs", ("job", "networks trained together", growth["jobs"]), 1e6 * np.array(growth["seconds"]))
    times = medians(growth["seconds"])
    return curves(
        array, x="job", xscale="log", yscale="log", xthreshold={"the engine's choice": growth["chosen"]}, markers=True,
        alt=f"Time per network and step against the number of networks in a job, from {duration(times[0])} for {growth['jobs'][0]} down to {duration(min(times))}.",
        caption=f"The engine takes {number(growth['chosen'])} networks at a time; the fastest of the sizes tried was {number(growth['jobs'][times.index(min(times))])}.",
    )  # fmt: skip


# -- the page ----------------------------------------------------------------------------


def write(path: Path = JSON) -> None:
    """Write `benchmarks.md` and its figures beside the record."""
    text, figures = page(json.loads(path.read_text("utf-8")))
    folder = path.with_suffix("")
    folder.mkdir(exist_ok=True)
    path.with_suffix(".md").write_text(text, encoding="utf-8")
    for old in folder.glob("*.html"):
        old.unlink()
    for name, figure in figures.items():
        (folder / f"{name}.html").write_text(figure.html() + "\n", encoding="utf-8")


def page(record: dict) -> tuple[str, dict[str, Figure]]:
    """The page as Markdown, and its figures by name."""
    good = {name: r for name, r in record["results"].items() if "failed" not in r}
    figures: dict[str, Figure] = {}

    def group(name: str) -> list[dict]:
        return [r for r in good.values() if r["group"] == name and "ours" in r]

    def drawn(name: str, make: Callable[[Any], Figure], of: Any) -> str:
        figures[name] = make(of)
        return shown(name)

    parts: list[str] = [_opening(record), _summary(record, good), _machine(record["machine"]), METHOD]
    if training := group("training"):
        parts += [_training(training, record["machine"]["gpu"], drawn("ratios", ratio_figure, training))]
    if fractal := group("fractal"):
        parts += [FRACTAL, detail(fractal)]
    if curvature := group("curvature"):
        parts += [CURVATURE, detail(curvature)]
    if errors := good.get("eigenvalue_errors"):
        parts += [_errors(errors["eigenvalues"])]
    if fresh := good.get("fresh_process"):
        parts += [_fresh(fresh)]
    if in_page := good.get("page"):
        parts += [_in_page(in_page)]
    parts += ["## How the cost grows"]
    if "growth_networks" in good:
        growth = good["growth_networks"]["growth"]
        parts += [_networks(growth, drawn("networks", networks_figure, growth), drawn("memory", memory_figure, growth))]
    if "growth_job" in good:
        growth = good["growth_job"]["growth"]
        parts += [_jobs(growth, drawn("job", job_figure, growth))]
    if "growth_width" in good:
        growth = good["growth_width"]["growth"]
        parts += [_widths(growth, drawn("width", width_figure, growth))]
    if "growth_steps" in good:
        growth = good["growth_steps"]["growth"]
        parts += [_steps(growth, drawn("steps", steps_figure, growth))]
    parts += [_chapters(record["chapters"])]
    return "\n\n".join(parts) + "\n", figures


def _opening(record: dict) -> str:
    return f"""\
<!-- Written by tools/benchmarks.py from benchmarks.json; `make bench` measures anew. -->
# Benchmarks

Every slider, every claim over seeds and every phase diagram of this book rests on one operation: train a whole
grid of small networks, and measure each of them. This page says how long that takes, beside the other ways
to do it, written as their own users would write them. One run of `make bench` on one machine, {short(record["seconds"] / 60)} minutes long, measured all of it."""


def _summary(record: dict, good: dict[str, dict]) -> str:
    order = sorted(good.values(), key=lambda r: GROUPS.index(r["group"]))
    asked = [(r["title"], row) for r in order for row in rows(r) if row.target]
    missed = [(title, row) for title, row in asked if row.verdict == "missed"]
    failed = [f"`{name}` ({r['failed']})" for name, r in record["results"].items() if "failed" in r]
    text = f"{len(asked) - len(missed)} of {len(asked)} targets are met."
    if missed:
        text += " Missed: " + "; ".join(f"{title} ({row.name}), {short(row.median)}{row.unit} where {row.target} was asked" for title, row in missed) + "."
    if failed:
        text += f" Failed, and so without a number on this page: {listed(failed)}."
    body = [(title, row.name, row.text, row.target, row.verdict) for title, row in asked]
    return f"""\
## In short

The targets were set beforehand. A ratio says how many times longer the other side takes for
the same work; it is the median over the rounds, with the smallest and the largest beside it.

{table(("work", "against", "measured", "target", "verdict"), body)}

{text}"""


def _machine(m: dict) -> str:
    body = [
        ("processor", f"{m['processor']}, {m['cores']} cores"),
        ("system", m["system"]),
        ("memory", f"{m['memory'] / 2**30:.3g} GiB"),
        ("GPU", m["gpu"] or "none: not measured"),
        ("matrix products, float32, one core", f"{number(m['sgemm_core'] / 1e9)} GFLOP/s"),
        ("the same on all cores", Row("", [s / 1e9 for s in m["sgemm"]], unit="\xa0GFLOP/s").text),
        ("memory bandwidth, one core", f"{number(m['bandwidth'] / 1e9)} GB/s"),
        ("versions", ", ".join(f"{name} {version}" for name, version in m["versions"].items())),
    ]
    return f"""\
## The machine

The speed of matrix products on all cores was measured again before each benchmark; its spread shows how steady the machine was.

{table(("what", "measured"), body)}"""


METHOD = """\
## How it was measured

All sides run in turn in one process, round after round, and a ratio is taken within each round, because the
speed of a machine drifts by more than some of the differences here. A first round does not count: in it caches fill and
compilers compile. Work that starts in a fresh process has a section of its own.

All sides start from the same initial weights and take the same examples at each step, whose drawing is part of our time
and not of the peers': they have kept theirs from the round that does not count. Each side trains with plain gradient descent
in float32, and evaluates the final loss of every network. The final losses are compared network by network, and a benchmark fails if
they are not the same: a fast engine that trains something else would be no use. The tables say by how much they differ.

The peers:

- **loop**: one `nn.Module` and one `torch.optim.SGD` after the other, on one thread. Its time is proportional to the number of networks, so it trains only a part of them, as the tables say, and its time is multiplied.
- **loop, joblib**: the same loop in one process per core, the processes started beforehand.
- **torch.func**: `vmap` over `grad` of one network's loss; networks in chunks, chunks on a Python thread for each core.
- **JAX, as usual**: one network's training as `lax.scan` over its steps, `vmap` over the networks, `jit`; samples first.
- **JAX, tuned**: features before samples, the inputs turned once a step; networks in chunks that fit the cache; chunks on a Python
  thread for each core, with XLA's own threads switched off. For the small MLPs the tables also
  have it with XLA's threads. It writes convolutions as matrix products, which in XLA are many times faster
  than convolutions with a group for each network.
- **sweep(autograd=True)**: this library without the gradients it has written out for these models.

The sweeps ask the C library to keep freed memory for the next step. As all sides share the process, the PyTorch peers gain from that too."""


def _training(records: list[dict], gpu: str | None, figure: str) -> str:
    body, rivals = [], []
    for r in records:
        share = share_of_peak(r)
        speed = f"{short(r['flops'] / per_step(r) / 1e9)} GFLOP/s, {short(share.median)} %" if share else "–"
        there = Row("", ratios(r["ours"], r["gpu"]), unit="\xa0×").text if r["gpu"] else "not measured"
        body.append((r["title"], str(r["networks"]), str(r["steps"]), duration(per_step(r)), speed, there))
        others = [row for row in against(r) if not row.name.startswith("sweep")]
        best = min(others, key=lambda row: row.median)
        rivals.append(f"- {r['title']}: **{best.name}**, {short(best.median)} times our time")
    return f"""\
## Training many networks

The figure has a row for each kind of network, and a dot for each way to train them.

{figure}

The strongest peer differs from one kind of network to the next:

{chr(10).join(rivals)}

What a network costs us per step, how fast the matrix products then run, and how much faster the same code is on the GPU{f" ({gpu})" if gpu else ""}:

{table(("work", "networks", "steps", "time of a step of one", "matrix products, of the peak", "GPU over CPU"), body)}

All ratios, with the part of the networks that a peer trained, and how much its final losses differ from ours:

{detail(records)}"""


FRACTAL = """\
## The boundary between training and divergence

A network with 16 inputs, 16 tanh units and one output, no biases, fits 16 examples with the full batch. Each pixel
is one training with its own learning rates for the first and for the last layer, and the boundary between the rates that converge and
those that diverge is a fractal (Sohl-Dickstein 2024, arXiv:2402.06184). The loop trains few of the pixels, spread over the
picture; its time for all of them is extrapolated. Results differ where training is chaotic: the column counts the pixels that one side calls converged and
the other diverged."""

CURVATURE = """\
## Curvature and gradient noise

MLPs 64-64-10 on 1000 digits, full batch. All sides run on one thread. curvlinops and PyHessian measure one network after the other; the sweep's probes measure all of them with
each Hessian-vector product. The loop of eigsh along a run is a tuned one: it keeps the graph of the gradient, and starts from the eigenvector that it
found at the step before. Full-batch training records the loss every 10 steps, or the loss and the sharpness. The trace of the gradient noise is the sum of the variances of the gradient's entries over the examples."""


def _errors(eigenvalues: list[dict]) -> str:
    sides = list(eigenvalues[0]["found"])
    body = []
    for case in eigenvalues:
        top, second, lowest = case["dense"]
        found = (f"{number(v)} ({100 * (v / top - 1):+.2f} %)".replace("-", "−") for v in case["found"].values())
        body.append((case["case"], *(number(float(f"{v:.4g}")) for v in (top, second, lowest)), *found))
    worst = max(eigenvalues, key=lambda case: abs(case["found"]["PyHessian"] / case["dense"][0] - 1))
    return f"""\
### Is it the right eigenvalue?

For an MLP 64-16-10 on 500 digits the whole Hessian can be written out in float64, and its eigenvalues computed to all digits:

{table(("network", "largest", "second", "smallest", *sides), body)}

PyHessian's power iteration stops when the estimate changes by less than its tolerance, 1e-3 by default, from one iteration to the next. That
bounds the progress, not the error: where the second eigenvalue, or the most negative one, is nearly as large in magnitude, progress is
slow and the iteration stops early: {short(100 * abs(worst["found"]["PyHessian"] / worst["dense"][0] - 1))} % away from the eigenvalue in the network {worst["case"]}. Ours stops when the residual is small, which does bound the error."""


def _fresh(record: dict) -> str:
    memory = {side: median(b) / 1e6 for side, b in record["memory"].items() if side != "most"}
    usual, whole = (record["peers"]["JAX, as usual" + end] for end in ("", ", imports included"))
    starts = [median(a) - median(b) for a, b in ((whole["ours"], record["ours"]), (whole["seconds"], usual["seconds"]))]
    return f"""\
## In a fresh process

{record["networks"]} MLPs 64-64-10 train for {record["steps"]} steps with batches of 64, from the first call to the losses: compilation counts. JAX draws its own random numbers here; the mean final losses are compared. The second row also counts the interpreter's
start and the imports, which take {duration(starts[0])} for this library with PyTorch, and {duration(starts[1])} for JAX.

{detail([record])}

Peak memory over what the imports take: {listed(f"{short(mb)} MB ({side})" for side, mb in memory.items())}."""


def _in_page(record: dict) -> str:
    body = [(row.name, row.text, row.target, row.verdict) for row in rows(record)]
    return f"""\
## In the reader's browser

The slider figures train in the page too ([how to read](how-to-read.md)). We open a page with one such figure from disk in headless
Chromium, move its slider as soon as the page has loaded, and then eight times more; a curve counts as there when it has
been drawn. Of the later times of a visit we take the median; the table has the median of the visits, with the smallest and the
largest. The figure shows an {record["title"].removesuffix(" in the page")}.

{table(("what", "measured", "budget", "verdict"), body)}"""


def _networks(growth: dict, figure: str, memory: str) -> str:
    times = medians(growth["seconds"])
    start, end = flat(growth["networks"], times)
    last, before = growth["memory"][-1], growth["memory"][-2]
    grown, more = last / before, growth["memory_networks"][-1] / growth["memory_networks"][-2]
    return f"""\
### With the number of networks

The next figure shows what one network costs per step, in sweeps of {number(growth["networks"][0])} to {number(growth["networks"][-1])} MLPs 64-64-10 with a batch of 64. What a sweep takes only
once is not in it: the time is the difference between a long and a short sweep.

{figure}

We call a time flat where it is within {number(FLAT)} times the lowest. By that rule overhead, the Python and the launching of operations that do not depend on the number of
networks, dominates below {number(start)} networks; from there on the time is flat{"" if end is None else f", until it rises at {number(end)}"}.

{memory}

From {number(growth["memory_networks"][-2])} to {number(growth["memory_networks"][-1])} networks, {short(more)} times as many, the memory grows {short(grown)} times: jobs of bounded size train one after the other, and only what they
leave behind grows with the grid."""


def _jobs(growth: dict, figure: str) -> str:
    start, end = flat(growth["jobs"], medians(growth["seconds"]))
    ending = f"from {number(end)} on the working set no longer fits the cache" if end else (
        f"up to {number(growth['jobs'][-1])} networks in a job the cache sets no bound")  # fmt: skip
    return f"""\
### With the networks in a job

A sweep is cut into jobs, whose networks take each step together. Here the size of the jobs is prescribed; otherwise the engine chooses it, so that weights and activations fit the cache.

{figure}

By the same rule, overhead dominates below {number(start)} networks in a job, and {ending}."""


def _widths(growth: dict, figure: str) -> str:
    shares = width_shares(growth)
    busy = next((w for w, s in zip(growth["widths"], shares) if s >= BUSY), None)
    begin = f"begins at {number(busy)} hidden units" if busy else f"is not reached up to {number(growth['widths'][-1])} hidden units"
    slopes = [math.log(t / s) / math.log(b / a) for (a, b), (s, t) in zip(pairwise(growth["widths"]), pairwise(medians(growth["seconds"])))]
    return f"""\
### With the width

The width of the hidden layer varies, in sweeps of {growth["networks"]} networks. The dashed line is the time that the matrix products alone would take at the
machine's peak.

{figure}

The regime of arithmetic, where at least {short(100 * BUSY)} % of the peak are reached, {begin}. Doubling the width multiplies the time by {short(2 ** slopes[0])} at the narrow end and
by {short(2 ** slopes[-1])} at the wide one."""


def _steps(growth: dict, figure: str) -> str:
    times = medians(growth["seconds"])
    once = times[0] - further_step(growth)
    return f"""\
### With the number of steps

{figure}

What remains of the shortest sweep after its step is what a sweep costs once: {duration(max(once, 0.0))} to draw the weights, plan the jobs, evaluate the networks and
label the result, as much as {short(once / further_step(growth))} steps."""


def _chapters(found: dict[str, dict]) -> str:
    body = [(f"[{slug.replace('-', ' ')}](../chapters/{slug}.ipynb)", duration(facts["seconds"]), facts["hardware"]) for slug, facts in found.items()]
    return f"""\
## The chapters

What each chapter had taken from nothing, imports and figures included, when these benchmarks were made:

{table(("chapter", "time", "on"), body)}"""


if __name__ == "__main__":
    write()
