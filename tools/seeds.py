"""Ask every claim again with other seeds and with other kernels.

    python tools/seeds.py --all                        every chapter: five shifts of the seeds, and each of the kernels
    python tools/seeds.py --rotate 1                   one chapter with a shift and one under a kernel, drawn from the commit's hash
    python tools/seeds.py --chapter SLUG --shift 4000 --kernel narrow

A claim holds for any seed, not for the one that was tried, and on any processor, though each
rounds in its own way and chaotic training makes another run of that. The chapters run with
`DESCENT_SEED_SHIFT` set, or with the wide instructions switched off; no chapter is stored. The exit
status is 1 if a verdict changes. Where a chapter ran three times or more, a table says how far each
claim stays from flipping, in standard deviations over these runs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from execute import ROOT, failing_cell, run
from nbclient.exceptions import CellTimeoutError, DeadKernelError

from descent.claims import Claim

SHIFTS = (1000, 2000, 3000, 4000, 5000)

_WIDE = " ".join(np.show_config("dicts")["SIMD Extensions"].get("found", []))
#: Other ways to round: what the libraries below PyTorch and NumPy read when they choose their instructions.
#: "narrow" is a processor without wide instructions. "single" has one core, so that other networks share a job,
#: and multiplies matrices in another order.
KERNELS = {
    "narrow": {
        "ATEN_CPU_CAPABILITY": "default",
        "MKL_CBWR": "COMPATIBLE",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "OPENBLAS_CORETYPE": "Nehalem",
        "NPY_DISABLE_CPU_FEATURES": _WIDE,
    },
    "single": {"MKL_CBWR": "COMPATIBLE", "OPENBLAS_CORETYPE": "Haswell"},
}
#: Runs of a chapter from which a spread can be told.
ENOUGH = 3


@dataclass(frozen=True)
class Run:
    """One way to run one chapter."""

    slug: str
    shift: int = 0
    kernel: str = ""

    def __str__(self) -> str:
        return f"{self.slug}, {self.name}"

    @property
    def name(self) -> str:
        return f"{self.kernel} kernels" if self.kernel else f"seeds from {self.shift}"


# ---------------------------------------------------------------------- running


def rotation(slugs: list[str], count: int, commit: str) -> list[Run]:
    """`count` chapters with a shift from 1,000 to 999,000 and `count` under a kernel, decided by the commit."""
    if not 1 <= count:
        raise ValueError(f"--rotate takes a number of chapters from 1 up, got {count}")

    def draw(*words: object) -> int:
        return int.from_bytes(hashlib.sha256(":".join(map(str, (commit, *words))).encode()).digest()[:8])

    order, kernels = sorted(slugs, key=draw), sorted(KERNELS)
    shifted = [Run(order[i % len(order)], shift=1000 * (1 + draw(i, "shift") % 999)) for i in range(count)]
    return shifted + [Run(order[(count + i) % len(order)], kernel=kernels[draw(i, "kernel") % len(kernels)]) for i in range(count)]


def commit() -> str:
    """The hash of the commit that is checked out."""
    found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    if found.returncode:
        raise ValueError("--rotate needs a git checkout to draw from; name --chapter and --shift or --kernel instead")
    return found.stdout.strip()


@contextmanager
def _processors(kernel: str) -> Iterator[None]:
    """Processes that this thread starts meanwhile have one processor if the kernel is "single"."""
    if kernel != "single" or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def ask(path: Path, how: Run, timeout: int) -> tuple[list[dict], str]:
    """Run a chapter in another way; the records of its claims, and a report whose lines with FAILED or ERROR say what went wrong."""
    try:
        with _processors(how.kernel):
            env = {"DESCENT_SEED_SHIFT": str(how.shift), **KERNELS.get(how.kernel, {})}
            notebook, seconds = run(path, timeout=timeout, keep_going=True, env=env)
    except (CellTimeoutError, DeadKernelError) as error:
        return [], f"{how}\n  ERROR  {failing_cell(error)}"
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    records = [r for o in outputs if "statement" in (r := o.get("metadata", {}).get("descent", {}))]
    lines = [f"{how}: {len(records)} claims in {seconds:.0f} s"]
    for r in records:
        fine = (r["verdict"] == "holds") == r["reproduces"]
        control = f"; control {_values(r['control'])}" if r["control"] else ""
        measured = f"expected {r['expected']}; measured {_values(r['measured'])}{control}"
        lines.append(f"  {'ok    ' if fine else 'FAILED'} {r['statement']}: {r['verdict']} ({measured})")
    lines += [f"  ERROR  {o.ename}: {failing_cell(o.evalue)}" for o in outputs if o.output_type == "error"]
    if not records:
        lines.append("  ERROR  the chapter made no claim")
    return records, "\n".join(lines)


def _values(numbers: list) -> str:
    text = ", ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in numbers)
    return text if len(text) <= 80 else text[:77] + "..."


# ---------------------------------------------------------------------- margins


def margin(runs: list[Claim]) -> float:
    """How far a claim stays from the other verdict over several runs: distance from the nearest bound over standard deviation.

    The distance is that of the value that decides (the median, or the last of the share of values that is asked for),
    of `measured` and of `control`; the nearer one counts. Where all values and bounds of an ordering are positive, both are
    taken as logarithms: such a claim says the same of them. Infinite if nothing varies; NaN for a claim about yes and no that
    was unanimous in every run, whose distance nobody can tell.
    """
    claim = runs[0]
    sides = _sides(runs, "measured") + (_sides(runs, "control") if claim.control else [])
    margins = [_in_spreads(np.array(side)) for side in sides]
    # a claim stated not to reproduce flips when it holds, which takes every side
    return min(margins) if claim.reproduces else max(-m for m in margins)


def _in_spreads(distances: np.ndarray) -> float:
    spread = float(np.std(distances, ddof=1))
    mean = float(np.mean(distances))
    if spread <= 1e-12 * abs(mean) or spread == 0:
        return math.copysign(math.inf, mean) if mean else math.nan
    return mean / spread


def _sides(runs: list[Claim], name: str) -> list[list[float]]:
    """The distances of the deciding values from each bound, positive on the right side, one for each run."""
    claim, low, high = runs[0], *runs[0].interval
    values = [np.asarray(getattr(r, name), dtype=float) for r in runs]
    if claim.kind == "boolean":
        right = [float(np.mean(v == (name == "measured"))) for v in values]
        return [[r - claim.relation["at_least"] for r in right]]
    bounds = [b for b in (low, high) if math.isfinite(b)]
    if claim.kind == "ordering" and all(b > 0 for b in bounds) and all(np.all(v > 0) for v in values):
        low, high = (math.log(b) if b > 0 else -math.inf for b in (low, high))
        values = [np.log(v) for v in values]
    if name == "control":
        return [[_decides(np.maximum(low - v, v - high), claim.share) for v in values]]
    from_low = [[_decides(v - low, claim.share) for v in values]] if math.isfinite(low) else []
    return from_low + ([[_decides(high - v, claim.share) for v in values]] if math.isfinite(high) else [])


def _decides(distances: np.ndarray, share: float | None) -> float:
    """The distance that decides: the median, or the last one of the largest that make up the share."""
    if share is None:
        return float(np.median(distances))
    return float(np.sort(distances)[::-1][math.ceil(share * len(distances) - 1e-9) - 1])


def table(found: dict[str, dict[str, list[dict]]]) -> str:
    """For each chapter the margins of its claims over all of its runs, the smallest first."""
    lines = []
    for slug, runs in sorted(found.items()):
        by_statement = defaultdict(list)
        for records in runs.values():
            for i, r in enumerate(records):
                by_statement[i, r["statement"]].append(Claim.from_record(r))
        rows = [(margin(claims), claims) for claims in by_statement.values() if len(claims) >= ENOUGH]
        if not rows:
            continue
        lines.append(f"{slug}: margins over {len(runs)} runs ({', '.join(sorted(runs))})")
        for m, claims in sorted(rows, key=lambda row: (math.isnan(row[0]), row[0])):
            word = "unanimous" if math.isnan(m) else "no spread" if math.isinf(m) and m > 0 else f"{m:.1f}"
            kept = sum(c.holds == c.reproduces for c in claims)
            lines.append(f"  {word:>9} {'' if m >= 2 or math.isnan(m) else '<2'} | {kept} of {len(claims)} | {claims[0].statement}")
    return "\n".join(lines)


# ---------------------------------------------------------------------- command line


def kept(folder: Path) -> dict[str, dict[str, list[dict]]]:
    """The records of the runs in a folder: slug -> name of the run -> records."""
    found: dict[str, dict[str, list[dict]]] = defaultdict(dict)
    for path in sorted(folder.glob("*/*.json")):
        found[path.parent.name][path.stem] = json.loads(path.read_text("utf-8"))
    return found


def plan(options: argparse.Namespace, slugs: list[str]) -> list[Run]:
    """The runs that the command line asks for."""
    if options.rotate is not None:
        return rotation(slugs, options.rotate, commit())
    everything = not (options.shift or options.kernel)
    shifts = SHIFTS if everything else options.shift or ()
    kernels = list(KERNELS) if everything else options.kernel or ()
    chosen = [options.chapter] if options.chapter else slugs
    return [Run(slug, shift=s) for slug in chosen for s in shifts] + [Run(slug, kernel=k) for slug in chosen for k in kernels]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--all", action="store_true", help="every chapter")
    choice.add_argument("--rotate", type=int, metavar="N", help="N chapters with a shift and N under a kernel, drawn from the commit's hash")
    choice.add_argument("--chapter", metavar="SLUG")
    parser.add_argument("--shift", type=int, action="append", help=f"may be given again; without it and --kernel: {', '.join(map(str, SHIFTS))}, and each kernel")
    parser.add_argument("--kernel", choices=KERNELS, action="append", help="may be given again")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="write the records of each run there; the table is then over all that are there")
    parser.add_argument("--timeout", type=int, default=900, help="seconds that one cell may take (default 900)")
    options = parser.parse_args(arguments)
    chapters = {p.stem: p for p in sorted((ROOT / "chapters").glob("*.ipynb"))}
    if not chapters:
        parser.error("there are no chapters yet")
    if options.chapter and options.chapter not in chapters:
        parser.error(f"no chapter {options.chapter!r}; there are: {', '.join(chapters)}")
    if any(s < 0 for s in options.shift or []):
        parser.error(f"a shift is 0 or more, got {min(options.shift)}")
    try:
        runs = plan(options, list(chapters))
    except ValueError as error:
        parser.error(str(error))
    found, fine = defaultdict(dict), True
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as pool:
        asked = {pool.submit(ask, chapters[how.slug], how, options.timeout): how for how in runs}
        for future in as_completed(asked):
            how, (records, report) = asked[future], future.result()
            print(report, flush=True)
            fine &= "  FAILED " not in report and "  ERROR  " not in report
            found[how.slug][how.name] = records
            if options.keep:
                path = options.keep / how.slug / f"{how.name}.json"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(records, ensure_ascii=False, indent=1), "utf-8")
    print(table(kept(options.keep) if options.keep else found))
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
