"""Write the page of benchmarks from its record.

    python tools/benchmarks.py      book/benchmarks.json -> book/benchmarks.md and its figures

`make bench` measures and leaves the record. Every number on the page comes from it: the page
can be written again from the committed record, and a test holds the two together.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
JSON = ROOT / "book/benchmarks.json"


# -- arithmetic --------------------------------------------------------------------------


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Largest relative difference between `a` and the first rows of `b`."""
    b = b[: len(a)]
    return float(np.max(np.abs(a - b) / np.maximum(np.abs(b), 1e-12)))


def ratios(peer: list[float], ours: list[float], share: float = 1.0) -> list[float]:
    """How many times longer the peer took, round by round."""
    return [share * p / o for p, o in zip(peer, ours, strict=True)]


def met(values: list[float], least: float | None, most: float | None) -> bool | None:
    """Whether the median keeps the target; None if there is none."""
    if least is None and most is None:
        return None
    return (least is None or median(values) >= least) and (most is None or median(values) <= most)


def rounded(value: Any, digits: int = 4) -> Any:
    """The same record with its floats to four significant digits."""
    if isinstance(value, dict):
        return {k: rounded(v, digits) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(v, digits) for v in value]
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.{digits}g}")
    return value


def lines(name: str, record: dict) -> list[str]:
    """A benchmark's results for a terminal."""
    if "failed" in record:
        return [f"{name}: FAILED, {record['failed']}"]
    out = [f"{record.get('title', name)}"]
    if "ours" in record:
        out.append(f"  ours {median(record['ours']):.3g} s" + (f", {1e6 * median(record['ours']) / record['steps']:.3g} µs a network-step" if record["steps"] else ""))
    for peer, p in record.get("peers", {}).items():
        r = ratios(p["seconds"], record["ours"], p["share"])
        verdict = {True: "met", False: "MISSED", None: ""}[met(r, p["least"], p["most"])]
        target = p["least"] or p["most"]
        out.append(f"  {peer:24} {median(r):7.3g} x ({min(r):.3g} to {max(r):.3g})" + (f"  target {target:g}: {verdict}" if target else ""))
    for m in record.get("measured", []):
        out.append(f"  {m['name']:24} {median(m['values']):7.3g} {m['unit']} (target {m['least'] or m['most']})")
    return out


def chapters(folder: Path) -> dict[str, dict]:
    """What each chapter's notebook says of its own execution."""
    return {p.stem: json.loads(p.read_text("utf-8"))["metadata"]["descent"] for p in sorted(folder.glob("*.ipynb"))}
