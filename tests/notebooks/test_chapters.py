"""The form every chapter keeps, so that a reader finds the same things in the same places."""

import base64
import html
import json
import re
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "book/extensions"))

import book_records  # noqa: E402

SECTIONS = ["See it", "Why it happens", "Measure it", "What the papers claim", "Where it breaks", "Exercises", "References"]
LINES, LONGEST, LONG_CELLS = 12, 25, 2
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
MACHINE = re.compile(r"(?:/(?:home|root|tmp|srv|Users)/|[A-Z]:\\\\Users)[\w./\\-]*")


def fail_with(problems, what):
    if problems:
        pytest.fail(f"{what}:\n  " + "\n  ".join(map(str, problems)), pytrace=False)


def test_there_are_chapters(slugs):
    assert slugs, "chapters/ holds no notebook"


def test_it_opens_with_its_title_and_the_phenomenon(chapter):
    first = chapter.cells[0]
    assert first.cell_type == "markdown", "the first cell is the title, in Markdown"
    lines = [line for line in first.source.splitlines() if line.strip()]
    assert re.match(r"# \S", lines[0]), f"the first line must be '# Title', it is {lines[0]!r}"
    assert len(lines) >= 2, "one sentence with the phenomenon follows the title, in the same cell"
    titles = re.findall(r"^# .+$", re.sub(r"^```.*?^```", "", chapter.markdown, flags=re.S | re.M), re.M)
    assert len(titles) == 1, f"a page has one title, this one has {titles}"


def test_its_sections_are_in_order(chapter):
    found = [h.strip() for h in re.findall(r"^## +(.+)$", chapter.markdown, re.M)]
    assert found == SECTIONS, f"the H2 sections must be {SECTIONS}; found {found}"


def test_the_slider_figure_comes_first(chapter):
    headings = [i for i, c in enumerate(chapter.cells) if c.cell_type == "markdown" and re.search(r"^## ", c.source, re.M)]
    see_it, next_one = headings[0], headings[1]
    figures = [i for i, html in chapter.html if "descent-explorer" in html or "descent-figure" in html]
    explorers = [i for i, html in chapter.html if "descent-explorer" in html]
    assert explorers and see_it < explorers[0] < next_one, "the section 'See it' must show a slider figure (explore)"
    assert explorers[0] == figures[0], f"the slider figure comes before any other: {chapter.at(figures[0])}"


def test_its_slider_figure_trains_in_the_page(chapter):
    figure = next(text for _, text in chapter.html if "descent-explorer" in text)
    found = re.search(r'data-package="([^"]*)"', figure)
    assert found, "explore(..., browser=True) says why the figure cannot train in the page; without ziglang none can"
    package = json.loads(html.unescape(found[1]))
    assert sum(len(base64.b64decode(package[part])) for part in ("module", "data")) < 150_000, "too heavy for a page"


def test_every_core_paper_has_a_claim(chapter, bibliography):
    core = {key for key, words in bibliography.items() if words == {"chapter": chapter.slug, "scope": "core"}}
    claimed = {key for _, output in chapter.claims for key in output.metadata["descent"]["paper"]}
    assert chapter.claims, "the chapter claims nothing"
    fail_with(sorted(core - claimed), f"core papers of {chapter} (keywords in book/references.bib) without a claim row")


def test_every_core_paper_has_a_control(chapter, bibliography):
    """A row that also holds for a rival says nothing: of the rows that reproduce for a core paper, one at least excludes one."""
    core = {key for key, words in bibliography.items() if words == {"chapter": chapter.slug, "scope": "core"}}
    records = [output.metadata["descent"] for _, output in chapter.claims]
    held = {key for r in records if r["reproduces"] for key in r["paper"]}
    controlled = {key for r in records if r["reproduces"] and r["control"] for key in r["paper"]}
    fail_with(sorted((core & held) - controlled), f"core papers of {chapter} of which no row has control= and against=")


def test_every_claim_says_what_it_rests_on(chapter):
    unsaid = [f"{chapter.at(i)}: {o.metadata['descent']['statement']!r}" for i, o in chapter.claims if not o.metadata["descent"]["support"]]
    fail_with(unsaid, 'claims without support="identity", "theory" or "networks"')


def test_every_reference_is_in_the_bibliography(chapter, bibliography):
    cited = {key.strip() for keys in re.findall(r"\{cite(?::[a-z]+)?\}`([^`]+)`", chapter.markdown) for key in keys.split(",")}
    claimed = {key for _, output in chapter.claims for key in output.metadata["descent"]["paper"]}
    fail_with(sorted((cited | claimed) - set(bibliography)), "not in book/references.bib")
    fail_with(sorted(claimed - cited), "papers with a claim that the text never cites")
    last = chapter.markdown.split("## References")[-1]
    assert "{bibliography}" in last, "the section 'References' must hold a {bibliography} directive"


def test_every_figure_has_alt_text_and_caption(chapter):
    problems = []
    for i, html in chapter.html:
        for figure in re.findall(r'<figure class="descent-figure".*?</figure>', html, re.S):
            caption = re.search(r"<figcaption>(.*?)</figcaption>", figure, re.S)
            if caption is None or len(caption[1].strip()) < 20:
                problems.append(f"{chapter.at(i)}: the caption must state the finding")
            for svg in re.findall(r"<svg [^>]*>", figure):
                alt = re.search(r'aria-label="([^"]*)"', svg)
                if alt is None or len(alt[1].split()) < 5:
                    problems.append(f"{chapter.at(i)}: the alt text must state the finding, it is {alt and alt[1]!r}")
        for image in re.findall(r"<img\b[^>]*>", html):
            if not re.search(r'\balt="[^"]+"', image):
                problems.append(f"{chapter.at(i)}: an image without alt text")
    for i, output in chapter.outputs:
        if bitmaps := [m for m in output.get("data", {}) if m.startswith("image/")]:
            problems.append(f"{chapter.at(i)}: {', '.join(bitmaps)} instead of a figure of descent.plots")
    fail_with(problems, "figures that some readers cannot read")


def test_code_cells_are_short(chapter):
    long = [(sum(bool(line.strip()) for line in cell.source.splitlines()), i) for i, cell in chapter.code]
    long = [(n, chapter.at(i)) for n, i in long if n > LINES]
    fail_with([f"{where}: {n} lines" for n, where in long if n > LONGEST], f"longer than {LONGEST} lines")
    if len(long) > LONG_CELLS:
        fail_with([f"{where}: {n} lines" for n, where in long], f"more than {LONG_CELLS} cells longer than {LINES} lines")


def test_there_is_more_prose_than_code(chapter):
    """What a string says (a claim, its control, a caption) is read on the page and is not code."""
    prose = len(chapter.prose.split())
    code = sum(len(re.sub(r'f?("[^"\n]*"|\'[^\'\n]*\')', " ", cell.source).split()) for _, cell in chapter.code)
    assert prose > 1.5 * code, f"{prose} words of prose, {code} of code: prose carries a chapter"


def test_code_folds(chapter):
    open_ = [chapter.at(i) for i, c in chapter.code if not {"hide-input", "remove-input"} & set(c.metadata.get("tags", []))]
    fail_with(open_, "code cells without the tag hide-input")


def test_claim_cells_are_compared_and_hold_nothing_else(chapter):
    with_claims = {i for i, _ in chapter.claims}
    problems = []
    for i, cell in chapter.code:
        if re.search(r"^\s*claim\(", cell.source, re.M) and i not in with_claims:
            problems.append(f"{chapter.at(i)}: calls claim, but no claim is stored")
    for i in sorted(with_claims):
        cell = chapter.cells[i]
        if "# NBVAL_CHECK_OUTPUT" not in cell.source and "nbval-check-output" not in cell.metadata.get("tags", []):
            problems.append(f"{chapter.at(i)}: begins with # NBVAL_CHECK_OUTPUT, so that its rows are compared")
        if len(cell.outputs) > sum(j == i for j, _ in chapter.claims):
            problems.append(f"{chapter.at(i)}: displays something beside claims; other machines draw other digits")
    fail_with(problems, "claim cells")


def test_outputs_are_stored(stored):
    fail_with([stored.at(i) for i, c in stored.code if c.execution_count is None], f"never executed; run `make execute CHAPTER={stored}`")
    assert {"seconds", "hardware"} <= set(stored.notebook.metadata.get("descent", {})), "no measured seconds; run tools/execute.py"


def test_it_runs_in_three_minutes(chapter):
    """The aim is 45 s on a fast processor; the bound is for the slowest that the book was made on, half as fast."""
    seconds = chapter.notebook.metadata["descent"]["seconds"]
    assert seconds < 180, f"{chapter} took {seconds} s"


def test_outputs_are_clean(stored):
    problems = []
    for i, output in stored.outputs:
        data = output.get("data", {})
        if output.output_type == "error":
            problems.append(f"{stored.at(i)}: an error, {output.ename}: {output.evalue}")
        if output.output_type == "stream" and output.name == "stderr":
            problems.append(f"{stored.at(i)}: warnings or progress, {output.text[:80]!r}")
        if WIDGET_VIEW in data:
            problems.append(f"{stored.at(i)}: a widget view, which no page shows; run tools/execute.py")
        text = output.get("text", "") + "".join(v for v in data.values() if isinstance(v, str))
        if found := MACHINE.search(text):
            problems.append(f"{stored.at(i)}: a path of the machine it ran on, {found.group()!r}")
    if "widgets" in stored.notebook.metadata:
        problems.append("stored widget state, which no page reads")
    fail_with(problems, "outputs")


def test_cells_have_names_that_stay(stored):
    ids = [c.get("id") for c in stored.cells]
    assert all(ids) and len(set(ids)) == len(ids), "every cell needs an id of its own; tools/execute.py writes them"


def test_it_has_exercises(chapter):
    source = chapter.path.parents[1] / "book/exercises" / chapter.path.name
    assert source.exists(), f"book/exercises/{chapter}.ipynb is missing"
    assert f"](../exercises/{chapter.slug}.ipynb)" in chapter.markdown, "no link to the students' notebook"


def test_it_says_what_it_leans_on(chapter, slugs):
    said = book_records.read_notebook(chapter.path)
    assert said.leans, 'no sentence "The chapter leans on ..." (or "on no other")'
    assert set(said.leans_on) <= slugs - {chapter.slug}
    assert said.leans_on or "no other" in said.leans
