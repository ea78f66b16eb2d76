"""Pack what a class without internet needs into one archive: `_build/descent-class.zip`.

    site/       the built site; site/index.html opens from the disk
    chapters/, book/parts/, exercises/   the notebooks, without solutions
    wheels.txt  every package with its version, and wheels/ with the book's own library
    START.txt   what to do with it

The other wheels depend on the students' machines; START.txt has the command that fetches them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "_build/descent-class.zip"
START = """Descent, for a class without internet

To read: open site/index.html in a browser. The figures train in the page; nothing is installed and nothing is loaded.

To run the notebooks: the teacher, with internet and on a machine like the students', once fetches the packages:

    python -m pip download -r wheels.txt -d wheels

On each student's machine, without internet:

    python -m venv .venv
    .venv/bin/python -m pip install --no-index --find-links wheels -r wheels.txt descent
    .venv/bin/jupyter lab exercises

On Windows it is .venv\\Scripts in the place of .venv/bin. Python 3.11 or later is needed on every machine.
"""


def wheels(requirements: str) -> str:
    """The pinned packages, without comments and without the library itself."""
    pins = [line for line in requirements.splitlines() if line and not line.startswith(("#", "-e"))]
    return "\n".join(pins) + "\n"


def library(folder: Path) -> Path:
    """The folder, inside `folder`, with the library's wheel; made from a copy, since a build leaves things behind."""
    shutil.copytree(ROOT / "lib", folder / "source/lib", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder / "source")
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder / "wheels", folder / "source"], check=True)
    return folder / "wheels"


def pack(target: Path = TARGET) -> Path:
    """Write the archive, whole or not at all.

    Raises:
        FileNotFoundError: the site has not been built.
        subprocess.CalledProcessError: the library's wheel could not be built.
    """
    site = ROOT / "_build/html"
    if not (site / "index.html").exists():
        raise FileNotFoundError(f"{site} holds no site; run `make book`")
    partial = target.with_suffix(".partial")
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        built = library(Path(folder))
        folders = {"site": site, "chapters": ROOT / "chapters", "book/parts": ROOT / "book/parts", "exercises": ROOT / "exercises", "wheels": built}
        for name, source in folders.items():
            for path in sorted(p for p in source.rglob("*") if p.is_file() and ".ipynb_checkpoints" not in p.parts):
                archive.write(path, f"descent/{name}/{path.relative_to(source).as_posix()}")
        archive.writestr("descent/wheels.txt", wheels((ROOT / "requirements.txt").read_text(encoding="utf-8")))
        archive.writestr("descent/START.txt", START)
        for name in ("LICENSE", "LICENSE-text"):
            archive.write(ROOT / name, f"descent/{name}")
    return partial.replace(target)


if __name__ == "__main__":
    try:
        print(f"The archive is {pack()}")
    except FileNotFoundError as error:
        raise SystemExit(str(error)) from None
