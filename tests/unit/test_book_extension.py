"""The site's own extension: what it reads from notebooks and the bibliography, and what it makes of it."""

import os
import re
import sys
from pathlib import Path

import nbformat
import pytest
from docutils import nodes

from descent import claims, quantities

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "book/extensions"))

import book_directives  # noqa: E402
import book_exercises  # noqa: E402
import book_map  # noqa: E402
import book_records as records  # noqa: E402
import descent_book  # noqa: E402

HOLDS = {"statement": "late sharpness sits at 2/η", "measured": [19.9, 20.1, 20.4], "expected": 20, "rel": 0.03}
FAILS = {"statement": "the effect is large", "measured": 0.5, "above": 1, "reproduces": False, "reason": "too narrow <here>"}


def claim(paper="a-paper", **arguments):
    return claims.build(paper=paper, **arguments)


def output(result: claims.Claim):
    data, metadata = result._repr_mimebundle_()
    return nbformat.v4.new_output("display_data", data=data, metadata=metadata)


@pytest.fixture
def chapter(tmp_path):
    """A stored chapter: a figure, a slider figure, a claim that holds and one that does not reproduce."""
    figure = '<figure class="descent-figure"><div class="d-wide"><svg id="wide"></svg></div><div class="d-narrow"><svg><g id="a"/><use href="#a"/></svg></div></figure>'
    slider = '<figure class="descent-explorer" data-spec="{}"></figure>'
    html = [nbformat.v4.new_output("display_data", data={"text/html": h}) for h in (figure, slider)]
    notebook = nbformat.v4.new_notebook()
    notebook.metadata.descent = {"seconds": 12.4, "hardware": "2 CPU cores", "cells": 1}
    notebook.cells = [
        nbformat.v4.new_markdown_cell("# A title with $\\eta$\n\nThe phenomenon."),
        nbformat.v4.new_code_cell("x", outputs=[*html, output(claim(**HOLDS)), output(claim(paper=["a-paper", "another"], **FAILS))]),
    ]
    path = tmp_path / "a-chapter.ipynb"
    nbformat.write(notebook, path)
    return records.read_notebook(path)


# ------------------------------------------------------------------ notebooks


def test_notebook_is_read(chapter):
    assert (chapter.slug, chapter.title) == ("a-chapter", "A title with $\\eta$")
    assert [c.statement for c in chapter.claims] == [HOLDS["statement"], FAILS["statement"]]
    assert chapter.explorer.startswith('<figure class="descent-explorer"')


def test_picture_is_the_narrow_drawing_with_ids_of_its_own(chapter):
    assert chapter.picture == '<svg><g id="a-chapter-a"/><use href="#a-chapter-a"/></svg>'


def test_notebook_without_title_is_refused(tmp_path):
    path = tmp_path / "x.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("No title")]), path)
    with pytest.raises(ValueError, match="'# Title'.*No title"):
        records.read_notebook(path)


def test_changed_notebook_is_read_again(chapter):
    text = chapter.path.read_text("utf-8").replace("A title", "Another title")
    chapter.path.write_text(text, "utf-8")
    os.utime(chapter.path, ns=(1, 1))
    assert records.read_notebook(chapter.path).title.startswith("Another title")


# ------------------------------------------------------------------ facts


def test_facts_of_a_chapter(chapter):
    assert records.facts_line(401, chapter) == [
        "3 min to read",
        "runs in 12 s on 2 CPU cores",
        "1 of 2 claims reproduced, from 1 paper",
    ]


def test_facts_of_a_page():
    assert records.facts_line(0) == ["1 min to read"]


def test_a_claim_stored_as_failing_does_not_count_as_reproduced():
    assert records.reproduced(claim(**HOLDS))
    assert not records.reproduced(claim(**{**HOLDS, "measured": 30.0}))


def test_only_prose_counts_as_words():
    page = nodes.section()
    page += nodes.paragraph("", "five words of plain prose")
    page += nodes.literal_block("", "code that is not read")
    page += nodes.math_block("", "x = y + z")
    page += nodes.raw("", "<p>made by a program</p>", format="html")
    assert descent_book.words(page) == 5


# ------------------------------------------------------------------ papers


def test_papers(tmp_path):
    bib = tmp_path / "references.bib"
    bib.write_text(
        """@misc{a-paper, title={{Größe} of {SGD} \\& more}, author={Poe, Edgar and van der Berg, Anna and Li, Xu}, year={2021},
             eprint={2101.00001}, keywords={chapter:a-chapter, scope:core}}
           @misc{another, title={Two}, author={Poe, Edgar and Li, Xu}, year={2020}, doi={10.1/x}, keywords={chapter:other, scope:adjacent}}
           @book{background, title={Not in the ledger}, author={Doe, J.}, year={1999}}""",
        "utf-8",
    )
    first, second = records.read_papers(bib)
    assert (first.title, first.authors, first.year) == ("Größe of SGD & more", "Poe et al.", "2021")
    assert (first.chapter, first.scope, first.url) == ("a-chapter", "core", "https://arxiv.org/abs/2101.00001")
    assert (second.authors, second.scope, second.url) == ("Poe & Li", "adjacent", "https://doi.org/10.1/x")


def test_every_paper_of_the_book_has_what_the_ledger_shows():
    for paper in records.read_papers(ROOT / "book/references.bib"):
        assert paper.title and paper.authors and paper.chapter, paper
        assert not re.search(r"[{}\\]", paper.title + paper.authors), paper


# ------------------------------------------------------------------ ledger


@pytest.mark.parametrize(
    ("made", "state"),
    [([], "to-come"), ([HOLDS], "reproduced"), ([FAILS], "not-at-this-scale"), ([HOLDS, FAILS], "partly")],
)
def test_status_of_a_paper(made, state):
    assert records.status([claim(**arguments) for arguments in made]) == state


def test_row_of_a_paper_shows_expectation_measurement_verdict_and_reason():
    html = book_directives.body_html("<th>paper</th>", "a-chapter", "partly", [claim(**HOLDS), claim(**FAILS)])
    assert html.startswith('<tbody data-chapter="a-chapter" data-status="partly">')
    assert html.count("<tr>") == 2 and html.count("<th>paper</th>") == 1
    for words in ("late sharpness sits at 2/η", ">20<", "±3 %", "20.1 (19.9 to 20.4)", "holds", "does not reproduce here"):
        assert words in html
    assert "too narrow &lt;here&gt;" in html


def test_row_of_a_paper_without_claims_says_so():
    assert "still to come" in book_directives.body_html("<th>paper</th>", "x", "to-come", [])


def test_chapter_names():
    assert records.chapter_title("sgd-noise-sde") == "SGD noise SDE"
    assert records.chapter_title("edge-of-stability") == "Edge of stability"


# ------------------------------------------------------------------ the look


def test_style_sheet_names_no_colour_of_its_own():
    css = (ROOT / "book/assets/book.css").read_text("utf-8")
    assert re.findall(r"(?<![\w&])#[0-9a-fA-F]{3,8}\b(?![-\w])", css) == []
    used = set(re.findall(r"var\(--d-([a-z]+)", css)) - {"serif", "mono", "measure", "wide", "sidebar"}
    assert used <= set(quantities.COLORS)


@pytest.mark.parametrize("name", ["logo.svg", "favicon.svg"])
def test_logo_has_the_palette(name):
    palette = {colour for pair in quantities.COLORS.values() for colour in pair}
    found = set(re.findall(r"#[0-9a-f]{6}", (ROOT / "book/assets" / name).read_text("utf-8")))
    assert found and found <= palette


# --------------------------------------------------------------- map and exercises

LEANS = {"b": ["a"], "d": ["b", "a", "c"], "a": [], "c": ["a"], "alone": []}


def test_a_chapter_says_what_it_leans_on(tmp_path):
    def leans(text):
        path = tmp_path / "x.ipynb"
        nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(f"# T\n\n{text}")]), path)
        os.utime(path, ns=(hash(text) % 10**9,) * 2)
        return records.read_notebook(path).leans_on

    assert leans("This chapter leans on [a](one-a.ipynb) for $2/\\lambda$ and on [the\nb](b.ipynb) for x; [c](c.ipynb) asks more.") == ["one-a", "b"]
    assert leans("The chapter leans on no other. [c](c.ipynb) leans on it.") == []


def test_the_map_has_each_chapter_below_what_it_leans_on():
    rows = book_map.rows(LEANS)
    depth = {slug: i for i, row in enumerate(rows) for slug in row}
    assert sorted(depth) == sorted(LEANS)
    assert all(depth[other] < depth[slug] for slug, others in LEANS.items() for other in others)


@pytest.mark.parametrize("leans_on", [{"a": ["b"], "b": ["a"]}, {"a": ["missing"]}, {"a": ["a"]}])
def test_a_map_that_cannot_be_drawn_is_refused(leans_on):
    with pytest.raises(ValueError, match="missing chapter or on each other"):
        book_map.rows(leans_on)


def test_the_map_links_each_chapter_and_draws_no_line_twice():
    svg = book_map.drawing({s: f"Title of {s} <1>" for s in LEANS}, LEANS, {s: f"{s}.html" for s in LEANS})
    assert svg.count("<a href") == len(LEANS) and "&lt;1&gt;" in svg
    assert svg.count("<path") == 4, "d leans on a only through b and c"


def test_an_exercise_becomes_one_on_the_page():
    cells = [
        nbformat.v4.new_markdown_cell("# Exercises: x\n\nIntroduction."),
        nbformat.v4.new_markdown_cell("## 1. Predict: a step\n\n*★☆☆ · 5 minutes · 1 point*\n\nWhat?\n\n- a\n- b"),
        nbformat.v4.new_code_cell("x = ..."),
        nbformat.v4.new_markdown_cell("*Your answer*", metadata={"nbgrader": {"solution": True}}),
    ]
    page = book_exercises.page(nbformat.v4.new_notebook(cells=cells), "a-slug", "The chapter")
    top, exercise, code = (cell["source"] for cell in page["cells"])
    assert "[The chapter](../chapters/a-slug.ipynb)" in top and "<a-slug.ipynb>" in top
    assert exercise.startswith("## 1. Predict: a step\n\n:::::{exercise}\n") and exercise.endswith("- b\n:::::") and ":label: a-slug-exercise-1" in exercise
    assert code == "x = ..."
    assert "exercise}" not in str(cells), "the notebook itself stays as it is"


def test_the_effort_of_exercises_is_summed(tmp_path):
    cells = [nbformat.v4.new_markdown_cell(f"## {n}. Predict: x\n\n*★★☆ · {m} minutes · {p} point{'s' * (p > 1)}*\n\nText") for n, m, p in ((1, 5, 1), (2, 20, 2))]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "x.ipynb")
    assert book_exercises.effort(tmp_path / "x.ipynb") == [(5, 1), (20, 2)]
