"""The pages of exercises, made from the students' notebooks in exercises/ as they are read.

In a notebook an exercise is a heading with text below it, which JupyterLab shows as it is. The
page puts the text into an `exercise` of sphinx-exercise, names the chapter, offers the notebook,
and leaves out the cells that only wait for a written answer.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import book_records as records
from sphinx.application import Sphinx

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


def setup(app: Sphinx) -> None:
    app.connect("source-read", read)
