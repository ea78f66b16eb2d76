"""The form of the exercises: what a student finds in each, and that the checks and the points belong to it."""

import re
import tomllib
from pathlib import Path

from descent import exercises as library

WRONG = Path(__file__).parents[1] / "classroom/wrong_answers"
EXERCISE = re.compile(
    r"## (?P<n>\d+)\. (?P<kind>Predict|Measure|Extend): (?P<title>[^\n]+)\n\n"
    r"\*(?:★☆☆|★★☆|★★★) · (?P<minutes>\d+) minutes · (?P<points>\d+) points?\*\n\n(?P<text>.+)",
    re.S,
)


def parts(exercises) -> dict[int, tuple[re.Match, list]]:
    """Number -> the exercise's heading, and the cells below it."""
    out, n = {}, 0
    for cell in exercises.cells:
        if cell.source.startswith("## "):
            match = EXERCISE.fullmatch(cell.source)
            assert match, f"not '## n. Kind: title', difficulty, minutes and points, then the text: {cell.source[:120]!r}"
            n = int(match["n"])
            out[n] = (match, [])
        elif n:
            out[n][1].append(cell)
    assert list(out) == list(range(1, len(out) + 1)), "exercises are numbered from 1"
    return out


def test_there_are_four_or_more_of_three_kinds(exercises):
    kinds = [match["kind"] for match, _ in parts(exercises).values()]
    assert len(kinds) >= 4 and set(kinds) == {"Predict", "Measure", "Extend"}


def test_each_has_its_cells(exercises):
    for n, (match, cells) in parts(exercises).items():
        grade_ids = [c.metadata.get("nbgrader", {}).get("grade_id") for c in cells]
        name = f"{exercises.slug}-{n}"
        if match["kind"] == "Extend":
            assert grade_ids == [f"{name}-answer"] and cells[0].cell_type == "markdown", n
            assert re.search(r"^\| Points \| for \|$", match["text"], re.M), f"exercise {n} has no rubric"
            assert sum(int(p) for p in re.findall(r"^\| (\d+) \|", match["text"], re.M)) == int(match["points"]), f"exercise {n}: the rubric's points"
            assert cells[0].metadata.nbgrader.points == int(match["points"])
        else:
            assert grade_ids == [f"{name}-answer", f"{name}-check"], n
            assert "<details><summary>Hint</summary>\n\n" in match["text"], f"exercise {n} has no hint"
            assert cells[1].metadata.nbgrader.points == int(match["points"])
            ending = f"### BEGIN HIDDEN TESTS\nfeedback.grade(points={match['points']})\n### END HIDDEN TESTS"
            assert cells[1].source.endswith(ending), f"exercise {n}: {cells[1].source[-120:]!r}"
            assert re.search(rf'^feedback = check\("{exercises.slug}/{n}", .+\)\nfeedback\n', cells[1].source, re.M), n
        assert all(c.source.count("### BEGIN SOLUTION") == c.source.count("### END SOLUTION") == (c.metadata.nbgrader.solution) for c in cells), n


def test_an_answer_never_passes_for_anothers(exercises):
    names = [re.search(r"^([\w, ]+) = \.\.\.", cells[0].source, re.M)[1] for match, cells in parts(exercises).values() if match["kind"] != "Extend"]
    single = [name for group in names for name in group.split(", ")]
    assert len(set(single)) == len(single) and "answer" not in single, single


def test_the_library_checks_these_and_no_others(exercises):
    checked = {f"{exercises.slug}/{n}" for n, (match, _) in parts(exercises).items() if match["kind"] != "Extend"}
    assert checked == set(library.names(exercises.slug))


def test_students_can_read_it_alone(exercises):
    """Opened by itself in plain JupyterLab: no roles or directives of the site, no links into the repository."""
    found = re.findall(r"\{\w[\w:-]*\}`|^:::+.*|^```+\{.*|\]\((?!https?:)[^)]*\)", exercises.markdown, re.M)
    assert not found, found


def test_wrong_answers_are_on_record(exercises):
    rows = tomllib.loads((WRONG / f"{exercises.slug}.toml").read_text(encoding="utf-8"))["wrong"]
    for n, (match, _) in parts(exercises).items():
        own = [row for row in rows if row["exercise"] == n]
        if match["kind"] != "Extend":
            assert len({row["code"] for row in own}) >= 2, f"exercise {n}: fewer than two wrong answers on record"
        if match["kind"] == "Measure":
            assert sum(row["share"] == library.PART for row in own) >= 2, f"exercise {n} recognises fewer than two mistakes"
