"""From the source of an assignment to the feedback: assign, collect, autograde, for every chapter with exercises."""

import html
import re
import tomllib
from itertools import groupby, zip_longest
from pathlib import Path

import nbformat
import pytest
from courses import ROOT, answered

SOURCES = sorted((ROOT / "book/exercises").glob("*.ipynb"))
WRONG = Path(__file__).parent / "wrong_answers"
pytestmark = pytest.mark.timeout(900)  # six students or so, each with a kernel of their own


@pytest.fixture(scope="module", params=SOURCES, ids=lambda p: p.stem)
def graded(request, course):
    """A course with a reference solution, a blank notebook, and students who give the recorded answers; and these, by student and graded cell."""
    course = course(request.param.stem)
    recorded = tomllib.loads((WRONG / f"{course.slug}.toml").read_text(encoding="utf-8"))
    rows = [*recorded["wrong"], *({**row, "share": 1, "says": "Right."} for row in recorded["right"])]
    release, source = course.notebook("release"), course.notebook("source")
    assert source == nbformat.read(request.param, as_version=4)
    reference, blank = nbformat.from_dict(source), release
    for cell in reference.cells:
        cell.source = re.sub(r"### (BEGIN|END) SOLUTION\n?", "", cell.source)
    course.hand_in("reference", reference)
    course.hand_in("blank", blank)
    wrong = {}
    by_exercise = [list(group) for _, group in groupby(sorted(rows, key=lambda r: r["exercise"]), key=lambda r: r["exercise"])]
    for k, some in enumerate(zip_longest(*by_exercise)):
        wrong[f"wrong-{k}"] = {f"{course.slug}-{row['exercise']}-check": row for row in some if row}
        course.hand_in(f"wrong-{k}", answered(release, {f"{course.slug}-{row['exercise']}-answer": row["code"] for row in some if row}))
    course.grade()
    return course, wrong


def test_the_reference_solution_gets_full_points(graded):
    course, _ = graded
    for cell, (points, waits, most) in course.grades["reference"].items():
        assert (points, waits) == ((most, False) if cell.endswith("-check") else (None, True)), cell
    assert all("Right." in text for text in course.told("reference").values())


def test_the_blank_notebook_gets_none(graded):
    course, _ = graded
    assert all(points == 0 and not waits for points, waits, _ in course.grades["blank"].values())
    assert all("in place of the dots" in text for text in course.told("blank").values())


def test_each_recorded_answer_gets_its_part_and_its_message(graded):
    course, wrong = graded
    grades = course.grades
    for student, rows in wrong.items():
        told, page = course.told(student), html.unescape(course.feedback(student))
        for cell, (points, _, most) in grades[student].items():
            row = rows.get(cell, {"share": 0})
            assert points == row["share"] * most, (row, told.get(cell))
            if cell in rows:
                assert row["says"] in html.unescape(told[cell]), row
                assert row["says"] in page, f"{student}'s feedback lacks {row['says']!r}"


def test_what_a_wrong_prediction_is_told_does_not_name_the_right_one(graded):
    course, wrong = graded
    found = {c.id: re.search(r'### BEGIN SOLUTION\n\w+ = "(.+)"\n', c.source) for c in course.notebook("source").cells}
    right = {name.replace("-answer", "-check"): match[1] for name, match in found.items() if match}
    assert right
    for student, rows in wrong.items():
        told = course.told(student)
        for cell in (cell for cell in rows.keys() & right.keys() if not rows[cell]["share"]):
            assert "Choose one of:" in told[cell] or right[cell] not in html.unescape(told[cell]), (student, cell)


def test_the_release_holds_no_solution(graded):
    course, _ = graded
    source, release = course.notebook("source"), course.notebook("release")
    assert "BEGIN" not in str(release) and not any(c.get("outputs") for c in release.cells)
    for cell in source.cells:
        for solution in re.findall(r"### BEGIN (?:SOLUTION|HIDDEN TESTS)\n(.*?)\n### END", cell.source, re.S):
            assert solution not in "\n".join(c.source for c in release.cells)


def test_the_book_has_the_students_notebook(graded):
    course, _ = graded
    stored = ROOT / f"exercises/{course.slug}.ipynb"
    assert stored.exists() and nbformat.read(stored, as_version=4) == course.notebook("release"), f"{stored.name} is old: run `make exercises`"
