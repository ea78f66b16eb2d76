"""Write a course folder for nbgrader, from the exercises in book/exercises.

    python tools/classroom.py classroom                      every chapter
    python tools/classroom.py classroom edge-of-stability    some

It holds nbgrader's configuration, the source of each assignment with its solutions (for the
teacher), its release version without them (for the students), and the gradebook. What is
there and was changed is kept.

    python tools/classroom.py --students

renews the students' notebooks of the book itself, exercises/<slug>.ipynb: the same release versions.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "book/exercises"
STUDENTS = ROOT / "exercises"


def slugs(chosen: list[str]) -> list[str]:
    """The chosen chapters, or all that have exercises.

    Raises:
        ValueError: a chapter without exercises; the message names those with.
    """
    known = sorted(p.stem for p in SOURCES.glob("*.ipynb"))
    if unknown := [s for s in chosen if s not in known]:
        raise ValueError(f"no exercises for the chapter {unknown[0]!r}; there are: {', '.join(known)}")
    return chosen or known


def place(source: Path, target: Path) -> None:
    """Copy `source` to `target`, unless something else is there already."""
    if target.exists():
        if target.read_bytes() != source.read_bytes():
            print(f"kept {target}: it differs from the book's")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def nbgrader(folder: Path, *arguments: str) -> None:
    """Run nbgrader in a course folder.

    Raises:
        RuntimeError: it failed; the message is what it said.
    """
    here = {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])}  # it calls `alembic` by name
    done = subprocess.run([sys.executable, "-m", "nbgrader", *arguments], cwd=folder, env=here, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"nbgrader {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")


def write(folder: Path, chosen: list[str]) -> None:
    """Write the course folder with the chosen assignments, or add them to one that is there."""
    place(ROOT / "tools/nbgrader_config.py", folder / "nbgrader_config.py")
    for slug in chosen:
        place(SOURCES / f"{slug}.ipynb", folder / f"source/{slug}/{slug}.ipynb")
    nbgrader(folder, "generate_assignment", "*", "--create", "--force")


def write_students() -> None:
    """Renew the students' notebooks of the book."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), slugs([]))
        STUDENTS.mkdir(exist_ok=True)
        for slug in slugs([]):
            shutil.copyfile(Path(folder, f"release/{slug}/{slug}.ipynb"), STUDENTS / f"{slug}.ipynb")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="where the course is, or is to be")
    parser.add_argument("slugs", nargs="*", metavar="slug", help="chapters; all of them by default")
    parser.add_argument("--students", action="store_true", help="renew exercises/ instead")
    options = parser.parse_args(arguments)
    if importlib.util.find_spec("nbgrader") is None:
        parser.error("nbgrader is missing: pip install -r requirements-teachers.txt")
    if options.students == bool(options.folder):
        parser.error("name the course's folder, or give --students")
    try:
        if options.students:
            write_students()
        else:
            write(options.folder, slugs(options.slugs))
            print(f"The course is in {options.folder}: release/ is for the students, source/ holds the solutions.")
    except (ValueError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
