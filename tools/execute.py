"""Run chapters from nothing and store their outputs.

    python tools/execute.py                     every notebook
    python tools/execute.py edge-of-stability   one chapter

Each notebook gets a fresh kernel in its own folder, without cached results and without
progress bars, so that running it again changes nothing but the measured seconds, which go
to `metadata.descent`. A notebook that fails keeps its old file.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("chapters", "book/parts")
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def notebooks(slugs: list[str], root: Path = ROOT) -> list[Path]:
    """The notebooks of the named chapters, or all of them.

    Raises:
        ValueError: a slug that no notebook has; the message names the allowed ones.
    """
    paths = [p for folder in FOLDERS for p in sorted((root / folder).glob("*.ipynb"))]
    known = sorted({p.stem for p in paths})
    if unknown := [s for s in slugs if s not in known]:
        raise ValueError(f"no chapter {unknown[0]!r}; there are: {', '.join(known) or 'none'}")
    return [p for p in paths if not slugs or p.stem in slugs]


def run(path: Path, *, timeout: int = 600, keep_going: bool = False, env: dict[str, str] | None = None) -> tuple[nbformat.NotebookNode, float]:
    """Run a notebook in a fresh kernel; return it with its outputs, and the seconds it took.

    Args:
        timeout: seconds that one cell may take.
        keep_going: run the cells after one that failed.
        env: further environment variables of the kernel.

    Raises:
        CellExecutionError, CellTimeoutError, DeadKernelError: a cell failed (unless `keep_going`).
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        store_widget_state=False,
        record_timing=False,
        allow_errors=keep_going,
        extra_arguments=["--log-level=ERROR"],  # it warns of an unencrypted loopback connection at every start
    )
    settings = {"DESCENT_CACHE": "off", "DESCENT_PROGRESS": "off", "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", **(env or {})}
    start = time.perf_counter()
    client.execute(env={**os.environ, **settings})
    return notebook, time.perf_counter() - start


def tidy(notebook: nbformat.NotebookNode, slug: str) -> None:
    """Drop from an executed notebook what differs between runs or readers do not need."""
    notebook.metadata.pop("widgets", None)
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata.language_info = {"name": "python"}
    notebook.nbformat, notebook.nbformat_minor = 4, max(5, notebook.nbformat_minor)
    for i, cell in enumerate(notebook.cells):
        cell.setdefault("id", f"{slug[:50]}-{i}")
        for noise in ("execution", "collapsed", "scrolled", "jupyter"):
            cell.metadata.pop(noise, None)
        if cell.cell_type == "code":
            cell.outputs = _joined(cell.outputs)
            for output in cell.outputs:
                data = output.get("data", {})
                if "text/html" in data:
                    data.pop(WIDGET_VIEW, None)


def _joined(outputs: list) -> list:
    """Neighbouring pieces of one stream as one output: how they were cut is an accident."""
    joined: list = []
    for output in outputs:
        last = joined[-1] if joined else None
        if output.output_type == "stream" and last and last.output_type == "stream" and last.name == output.name:
            last.text += output.text
        else:
            joined.append(output)
    return joined


def hardware() -> str:
    """What the notebooks ran on: the GPU if there is one, else the number of CPU cores."""
    if shutil.which("nvidia-smi"):
        found = subprocess.run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True)
        if found.returncode == 0 and found.stdout.strip():
            return found.stdout.splitlines()[0].strip()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{cores} CPU core{'s' if cores != 1 else ''}"


def store(notebook: nbformat.NotebookNode, path: Path, seconds: float) -> None:
    """Write an executed notebook in place, whole or not at all."""
    tidy(notebook, path.stem)
    code = sum(cell.cell_type == "code" for cell in notebook.cells)
    notebook.metadata.descent = {"seconds": round(seconds, 1), "hardware": hardware(), "cells": code}
    nbformat.validate(notebook)
    partial = path.with_suffix(".partial")
    nbformat.write(notebook, partial)
    partial.replace(path)


def failing_cell(notebook_error: Exception) -> str:
    """The error without terminal colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", str(notebook_error)).strip()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slugs", nargs="*", metavar="slug", help="chapters to run; all of them by default")
    parser.add_argument("--timeout", type=int, default=600, help="seconds that one cell may take (default 600)")
    options = parser.parse_args(arguments)
    try:
        paths = notebooks(options.slugs)
    except ValueError as error:
        parser.error(str(error))
    failed = 0
    for i, path in enumerate(paths, 1):
        name = path.relative_to(ROOT)
        print(f"[{i}/{len(paths)}] {name} ...", end=" ", flush=True)
        try:
            notebook, seconds = run(path, timeout=options.timeout)
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            failed += 1
            print(f"failed; the file is as it was\n{failing_cell(error)}\n", flush=True)
            continue
        store(notebook, path, seconds)
        print(f"{seconds:.1f} s", flush=True)
    if failed:
        print(f"{failed} of {len(paths)} notebooks failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
