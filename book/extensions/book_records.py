"""What the stored notebooks and the bibliography say, read without Sphinx.

A chapter's claims travel in the metadata of its stored outputs (`output.metadata["descent"]`,
written by `descent.claim`), its running time in `nb.metadata.descent` (written by
`tools/execute.py`). This module reads them back and decides what stands in the ledger.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import pybtex.database
from pybtex.richtext import Text

from descent.claims import Claim

#: What the ledger says of a paper, in the order of its filter.
STATUSES = {
    "reproduced": "reproduced",
    "partly": "reproduced in part",
    "not-at-this-scale": "not at this scale",
    "to-come": "still to come",
}

WORDS_A_MINUTE = 200


@dataclass(frozen=True)
class Paper:
    """One entry of the bibliography: who, when, and the chapter that owes it a claim."""

    key: str
    title: str
    authors: str
    year: str
    chapter: str
    scope: str
    url: str = ""


@dataclass
class Notebook:
    """What the site needs of a stored notebook."""

    slug: str
    path: Path
    title: str
    facts: dict = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)
    html: list[str] = field(default_factory=list)
    leans: str = ""  # the sentence that says on which chapters it leans, without its full stop

    @property
    def leans_on(self) -> list[str]:
        """The slugs of the chapters that this one leans on."""
        return re.findall(r"\]\(([\w-]+)\.ipynb\)", self.leans)

    @property
    def picture(self) -> str:
        """The first figure drawn in the notebook, in its narrow form if it has one; "" without figures."""
        for fragment in self.html:
            if "descent-figure" in fragment:
                drawings = re.findall(r'(d-narrow">)?(<svg\b.*?</svg>)', fragment, re.S)
                if drawings:
                    return private_ids(max(drawings, key=lambda d: bool(d[0]))[1], self.slug)
        return ""

    @property
    def explorer(self) -> str:
        """The first slider figure of the notebook, as stored; "" if there is none."""
        return next((h for h in self.html if "descent-explorer" in h), "")


def private_ids(svg: str, prefix: str) -> str:
    """The same drawing with its ids prefixed, so that several can share a page."""
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', svg)
    svg = re.sub(r'(aria-labelledby|aria-describedby)="[^"]*"', "", svg)
    return re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}-", svg)


def read_notebook(path: Path) -> Notebook:
    """Read a stored notebook.

    Raises:
        ValueError: the file is no notebook, or its first cell has no `# Title`.
    """
    return _read_notebook(Path(path), Path(path).stat().st_mtime_ns)


@lru_cache(maxsize=None)
def _read_notebook(path: Path, mtime: int) -> Notebook:
    try:
        content = json.loads(path.read_text("utf-8"))
        cells = content["cells"]
    except (json.JSONDecodeError, KeyError) as error:
        raise ValueError(f"{path} is not a Jupyter notebook: {error!r}") from error
    first = "".join(cells[0]["source"]) if cells else ""
    title = re.search(r"^#\s+(.+)$", first, re.M)
    if not title:
        raise ValueError(f"{path}: the first cell must hold the title, '# Title'; it starts with {first[:40]!r}")
    notebook = Notebook(path.stem, path, title.group(1).strip(), content.get("metadata", {}).get("descent", {}))
    prose = " ".join(" ".join("".join(cell["source"]).split()) for cell in cells if cell["cell_type"] == "markdown")
    if leans := re.search(r"\bTh(?:e|is) chapter leans on (.+?)(?:;|\.)(?= |$)", prose):
        notebook.leans = leans[1]
    for output in (o for cell in cells for o in cell.get("outputs", [])):
        html = "".join(output.get("data", {}).get("text/html", ""))
        if html:
            notebook.html.append(html)
        record = output.get("metadata", {}).get("descent", {})
        if "statement" in record:
            notebook.claims.append(Claim.from_record(record))
    return notebook


def read_papers(path: Path) -> list[Paper]:
    """Every paper of `references.bib` whose keywords name a chapter, in the file's order."""
    entries = pybtex.database.parse_file(str(path), bib_format="bibtex").entries
    papers = []
    for key, entry in entries.items():
        keywords = dict(re.findall(r"(chapter|scope):([\w-]+)", entry.fields.get("keywords", "")))
        if "chapter" not in keywords:
            continue
        papers.append(
            Paper(
                key=key,
                title=plain(entry.fields.get("title", key)),
                authors=short_authors(entry.persons.get("author", [])),
                year=entry.fields.get("year", ""),
                chapter=keywords["chapter"],
                scope=keywords.get("scope", "core"),
                url=link(entry.fields),
            )
        )
    return papers


def plain(tex: str) -> str:
    """A BibTeX field as plain text."""
    return str(Text.from_latex(tex)).replace("\xa0", " ")


def short_authors(persons: list) -> str:
    """Surnames as one cites them: "Cohen", "Cohen & Lee", "Cohen et al."."""
    names = [plain(" ".join(p.prelast_names + p.last_names)) for p in persons]
    if len(names) > 2:
        return f"{names[0]} et al."
    return " & ".join(names)


def link(fields) -> str:
    """Where to find the paper: its own URL, else its DOI, else its arXiv page."""
    if url := fields.get("url"):
        return url
    if doi := fields.get("doi"):
        return f"https://doi.org/{doi}"
    if arxiv := fields.get("eprint"):
        return f"https://arxiv.org/abs/{arxiv}"
    return ""


def reproduced(claim: Claim) -> bool:
    """Whether a stored claim reproduces; one stated with `reproduces=False` does not."""
    return claim.reproduces and claim.holds


def status(claims: list[Claim]) -> str:
    """A paper's key in `STATUSES`, from the claims that chapters make for it."""
    if not claims:
        return "to-come"
    held = [reproduced(c) for c in claims]
    return "reproduced" if all(held) else "partly" if any(held) else "not-at-this-scale"


def minutes(words: int) -> int:
    """Minutes to read so many words, never less than one."""
    return max(1, math.ceil(words / WORDS_A_MINUTE))


def facts_line(words: int, notebook: Notebook | None = None) -> list[str]:
    """The facts below a page's title, each measured: none of them is typed anywhere."""
    facts = [f"{minutes(words)} min to read"]
    if notebook is None:
        return facts
    if seconds := notebook.facts.get("seconds"):
        where = notebook.facts.get("hardware", "")
        facts.append(f"runs in {max(1, round(seconds))} s" + (f" on {where}" if where else ""))
    if notebook.claims:
        held = [c for c in notebook.claims if reproduced(c)]
        papers = {paper for claim in held for paper in claim.papers}
        source = f", from {count(len(papers), 'paper')}" if papers else ""
        facts.append(f"{len(held)} of {count(len(notebook.claims), 'claim')} reproduced{source}")
    return facts


def count(n: int, noun: str) -> str:
    """ "1 claim", "2 claims"."""
    return f"{n} {noun}" + ("" if n == 1 else "s")


def chapter_title(slug: str) -> str:
    """A readable name for a chapter that has not been written yet."""
    words = slug.replace("-", " ")
    for small, large in {"sgd": "SGD", "sde": "SDE", "xor": "XOR", "adam": "Adam", "langevin": "Langevin"}.items():
        words = re.sub(rf"\b{small}\b", large, words)
    return words[0].upper() + words[1:]
