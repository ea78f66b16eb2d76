"""Write the page of benchmarks from its record.

    python tools/benchmarks.py      book/benchmarks.json -> book/benchmarks.md and its figures

`make bench` measures and leaves the record. Every number on the page comes from it: the page
can be written again from the committed record, and a test holds the two together.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
JSON = ROOT / "book/benchmarks.json"


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

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)

    @property
    def target(self) -> str:
        if self.least is not None:
            return f"at least {self.least:.3g}"
        return "" if self.most is None else f"at most {self.most:.3g}"

    @property
    def verdict(self) -> str:
        """Whether the median keeps the target, as "met" or "missed"; "" without a target."""
        if not self.target:
            return ""
        kept = self.median >= self.least if self.least is not None else self.median <= self.most
        return "met" if kept else "missed"


def comparisons(record: dict) -> list[Row]:
    """Each peer's ratio to ours; and our share of the machine's peak where the work was counted."""
    rows = [Row(name, ratios(p["seconds"], p.get("ours", record["ours"]), p["share"]), p["least"], p["most"]) for name, p in record["peers"].items()]
    if record.get("flops"):
        work = record["flops"] * record["steps"]
        shares = [work / s / peak for s, peak in zip(record["ours"], record["sgemm"], strict=True)]
        rows.append(Row("share of sgemm peak", shares, record["peak"]))
    return rows


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
    if "ours" not in record:
        return [record["title"], *(f"  {line}" for line in map(str, record.get("eigenvalues") or record["growth"].items()))]
    out = [f"{record['title']}: ours {median(record['ours']):.3g} s"]
    if record["steps"]:
        out[0] += f", {1e6 * median(record['ours']) / record['steps']:.3g} µs a network-step"
    for row in comparisons(record):
        out.append(f"  {row.name:20} {row.median:8.3g} ({row.low:.3g} to {row.high:.3g})" + (f"  {row.target}: {row.verdict}" if row.target else ""))
    return out


def chapters(folder: Path) -> dict[str, dict]:
    """What each chapter's notebook says of its own execution."""
    return {p.stem: json.loads(p.read_text("utf-8"))["metadata"]["descent"] for p in sorted(folder.glob("*.ipynb"))}
