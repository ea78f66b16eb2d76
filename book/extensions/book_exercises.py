"""The pages of exercises, made from the students' notebooks in exercises/ as they are read, and the teacher's timetable.

In a notebook an exercise is a heading with text below it, which JupyterLab shows as it is. The
page puts the text into an `exercise` of sphinx-exercise, names the chapter, offers the notebook,
and leaves out the cells that only wait for a written answer.
"""

from __future__ import annotations

import json
import re
from html import escape
from pathlib import Path

import book_records as records
from book_directives import LATE, chapters, raw
from docutils import nodes
from sphinx.application import Sphinx

EFFORT = re.compile(r"^\*[★☆]{3} · (\d+) minutes · (\d+) points?\*$", re.M)
HEADING = re.compile(r"(## (\d+)\. [^\n]+)\n\n(.+)", re.S)


def page(notebook: dict, slug: str, chapter: str) -> dict:
    """The students' notebook of a chapter as the page shows it."""
    cells = []
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            if cell["metadata"].get("nbgrader", {}).get("solution"):
                continue
            if heading := HEADING.fullmatch(text):
                text = f"{heading[1]}\n\n:::::{{exercise}}\n:nonumber:\n:label: {slug}-exercise-{heading[2]}\n\n{heading[3]}\n:::::"
            elif text.startswith("# "):
                text += (
                    f"\n\nThey belong to the chapter [{chapter}](../chapters/{slug}.ipynb). {{download}}`Download the notebook <{slug}.ipynb>`, or open "
                    f"`exercises/{slug}.ipynb` in a clone of the book; the checks come with the library and need no network."
                )
        cells.append({**cell, "source": text})
    return {**notebook, "cells": cells}


def read(app: Sphinx, docname: str, source: list[str]) -> None:
    if docname.startswith("exercises/"):
        slug = docname.removeprefix("exercises/")
        chapter = Path(app.srcdir, "chapters", f"{slug}.ipynb")
        app.env.note_dependency(str(chapter))
        source[0] = json.dumps(page(json.loads(source[0]), slug, records.read_notebook(chapter).title))


def effort(path: Path) -> list[tuple[int, int]]:
    """The minutes and points of each exercise of a students' notebook."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [(int(m), int(p)) for cell in cells if cell["cell_type"] == "markdown" for m, p in EFFORT.findall("".join(cell["source"]))]


def timetable_nodes(app: Sphinx, docname: str) -> list[nodes.Node]:
    """For each chapter what it leans on, the minutes to read it and to run it, and those of its exercises."""
    from descent_book import words

    rows = []
    written = chapters(app.env)
    titles = {chapter.slug: chapter.title for chapter in written}
    for chapter in written:
        target = f"chapters/{chapter.slug}"
        exercises = effort(Path(app.srcdir, "exercises", f"{chapter.slug}.ipynb"))
        cells = {
            "Leans on": ", ".join(titles[s] for s in chapter.leans_on) or "–",
            "To read": f"{records.minutes(words(app.env.get_doctree(target)))} min",
            "To run": f"{round(chapter.facts['seconds'])} s",
            "Exercises": f"{len(exercises)}, {sum(m for m, _ in exercises)} min, {sum(p for _, p in exercises)} points",
        }
        link = f'<th scope="row"><a href="{app.builder.get_relative_uri(docname, target)}">{escape(chapter.title)}</a></th>'
        rows.append(f"<tr>{link}{''.join(f'<td>{escape(text)}</td>' for text in cells.values())}</tr>")
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Chapter", *cells))
    table = f'<table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    return [raw(f'<div class="d-timetable" tabindex="0" role="region" aria-label="Timetable">{table}</div>')]


LATE["timetable"] = timetable_nodes
