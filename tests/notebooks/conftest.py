"""What the notebook tests look at: the chapters' stored files, their claims, the bibliography."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Chapter:
    """A stored notebook, as the tests read it."""

    path: Path

    def __str__(self) -> str:
        return self.path.stem

    @property
    def slug(self) -> str:
        return self.path.stem

    @cached_property
    def notebook(self) -> nbformat.NotebookNode:
        return nbformat.read(self.path, as_version=4)

    @property
    def cells(self) -> list:
        return self.notebook.cells

    @property
    def code(self) -> list[tuple[int, nbformat.NotebookNode]]:
        """The code cells that are not empty, with their position in the notebook."""
        return [(i, c) for i, c in enumerate(self.cells) if c.cell_type == "code" and c.source.strip()]

    @cached_property
    def markdown(self) -> str:
        return "\n\n".join(c.source for c in self.cells if c.cell_type == "markdown")

    @property
    def prose(self) -> str:
        """The text that is read: without fences, equations and markup."""
        text = re.sub(r"^(```+|~~~+|:::+).*?^\1", " ", self.markdown, flags=re.S | re.M)
        return re.sub(r"\$\$.*?\$\$|\{[a-z:-]+\}`[^`]*`|[#*_>|-]+", " ", text, flags=re.S)

    @property
    def outputs(self) -> list[tuple[int, nbformat.NotebookNode]]:
        return [(i, o) for i, c in enumerate(self.cells) for o in c.get("outputs", [])]

    @property
    def html(self) -> list[tuple[int, str]]:
        return [(i, o.data["text/html"]) for i, o in self.outputs if "text/html" in o.get("data", {})]

    @property
    def claims(self) -> list[tuple[int, nbformat.NotebookNode]]:
        """The outputs that carry a claim's record, with the position of their cell."""
        return [(i, o) for i, o in self.outputs if "statement" in o.get("metadata", {}).get("descent", {})]

    def at(self, i: int) -> str:
        """A cell as a message names it: its position and how it begins."""
        return f"{self.path.name}, cell {i}: {self.cells[i].source.strip().splitlines()[0][:70]!r}"


@lru_cache
def chapters() -> tuple[Chapter, ...]:
    return tuple(Chapter(p) for p in sorted((ROOT / "chapters").glob("*.ipynb")))


@lru_cache
def exercises() -> tuple[Chapter, ...]:
    return tuple(Chapter(p) for p in sorted((ROOT / "book/exercises").glob("*.ipynb")))


@lru_cache
def parts() -> tuple[Chapter, ...]:
    """The pages that open the parts of the book."""
    return tuple(Chapter(p) for p in sorted((ROOT / "book/parts").glob("*.ipynb")))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`chapter`: every chapter; `exercises`: every notebook of exercises; `stored`: every notebook with outputs; `output`: every stored claim."""
    if "chapter" in metafunc.fixturenames:
        metafunc.parametrize("chapter", chapters(), ids=str)
    if "exercises" in metafunc.fixturenames:
        metafunc.parametrize("exercises", exercises(), ids=str)
    if "stored" in metafunc.fixturenames:
        found = chapters() + parts()
        metafunc.parametrize("stored", found, ids=[f"{c.path.parent.name}/{c}" for c in found])
    if "output" in metafunc.fixturenames:
        found = [(c, k, o) for c in chapters() for k, (_, o) in enumerate(c.claims)]
        metafunc.parametrize("output", [o for _, _, o in found], ids=[f"{c}-{k}" for c, k, _ in found])


@pytest.fixture(scope="session")
def bibliography() -> dict[str, dict[str, str]]:
    """Key -> {"chapter": slug, "scope": "core" or "adjacent"} ({} for a work that is no chapter's)."""
    from pybtex.database import parse_file

    entries = parse_file(str(ROOT / "book/references.bib"), bib_format="bibtex").entries
    return {key: dict(re.findall(r"(chapter|scope):([\w-]+)", e.fields.get("keywords", ""))) for key, e in entries.items()}


@pytest.fixture(scope="session")
def slugs() -> set[str]:
    return {c.slug for c in chapters()}
