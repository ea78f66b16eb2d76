"""Ask every claim again with other seeds.

    python tools/seeds.py --all                 every chapter, three shifts
    python tools/seeds.py --rotate 2            two chapters, each with a shift, drawn from the commit's hash
    python tools/seeds.py --chapter SLUG --shift 4000

A claim holds for any seed, not for the one that was tried. The chapters run with
`DESCENT_SEED_SHIFT` set and nothing is stored; the exit status is 1 if a verdict changes.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
from pathlib import Path

from execute import ROOT, failing_cell, run
from nbclient.exceptions import CellTimeoutError, DeadKernelError

SHIFTS = (1000, 2000, 3000)


def rotation(slugs: list[str], count: int, commit: str) -> list[tuple[str, int]]:
    """`count` chapters, each with a shift from 1,000 to 999,000, decided by the commit."""
    if not 1 <= count:
        raise ValueError(f"--rotate takes a number of chapters from 1 up, got {count}")

    def draw(*words: object) -> int:
        return int.from_bytes(hashlib.sha256(":".join(map(str, (commit, *words))).encode()).digest()[:8])

    order = sorted(slugs, key=draw)
    return [(order[i % len(order)], 1000 * (1 + draw(i, "shift") % 999)) for i in range(count)]


def commit() -> str:
    """The hash of the commit that is checked out."""
    found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    if found.returncode:
        raise ValueError("--rotate needs a git checkout to draw from; name --chapter and --shift instead")
    return found.stdout.strip()


def ask(path: Path, shift: int, timeout: int) -> bool:
    """Run a chapter with shifted seeds and report its claims; whether all of it went well."""
    notebook, seconds = run(path, timeout=timeout, keep_going=True, env={"DESCENT_SEED_SHIFT": str(shift)})
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    records = [r for o in outputs if "statement" in (r := o.get("metadata", {}).get("descent", {}))]
    errors = [o for o in outputs if o.output_type == "error"]
    print(f"{path.stem}, seeds from {shift}: {len(records)} claims in {seconds:.0f} s")
    for record in records:
        fine = (record["verdict"] == "holds") == record["reproduces"]
        values = ", ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in record["measured"])
        values = values if len(values) <= 80 else values[:77] + "..."
        print(f"  {'ok    ' if fine else 'FAILED'} {record['statement']}: {record['verdict']} (expected {record['expected']}; measured {values})")
    for error in errors:
        print(f"  ERROR  {error.ename}: {failing_cell(error.evalue)}")
    if not records:
        print("  ERROR  the chapter made no claim")
    return bool(records) and not errors


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--all", action="store_true", help=f"every chapter with the shifts {', '.join(map(str, SHIFTS))}")
    choice.add_argument("--rotate", type=int, metavar="N", help="N chapters and shifts drawn from the commit's hash")
    choice.add_argument("--chapter", metavar="SLUG")
    parser.add_argument("--shift", type=int, action="append", help="with --chapter; may be given again")
    parser.add_argument("--timeout", type=int, default=600, help="seconds that one cell may take (default 600)")
    options = parser.parse_args(arguments)
    chapters = {p.stem: p for p in sorted((ROOT / "chapters").glob("*.ipynb"))}
    if not chapters:
        parser.error("there are no chapters yet")
    if options.chapter and options.chapter not in chapters:
        parser.error(f"no chapter {options.chapter!r}; there are: {', '.join(chapters)}")
    if any(s < 0 for s in options.shift or []):
        parser.error(f"a shift is 0 or more, got {min(options.shift)}")
    try:
        if options.rotate is not None:
            plan = rotation(list(chapters), options.rotate, commit())
        else:
            plan = [(slug, shift) for slug in ([options.chapter] if options.chapter else chapters) for shift in options.shift or SHIFTS]
    except ValueError as error:
        parser.error(str(error))
    fine = True
    for slug, shift in plan:
        try:
            fine &= ask(chapters[slug], shift, options.timeout)
        except (CellTimeoutError, DeadKernelError) as error:
            print(f"  ERROR  {failing_cell(error)}")
            fine = False
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
