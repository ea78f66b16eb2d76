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


def test_points_follow_minutes(exercises):
    """One point for ten minutes, rounded either way; so the open question, half of the time, is about half of the points."""
    asked = [(match["kind"], int(match["minutes"]), int(match["points"])) for match, _ in parts(exercises).values()]
    for n, (_, minutes, points) in enumerate(asked, 1):
        assert abs(points - minutes / 10) <= 0.5, f"exercise {n}: {points} points for {minutes} minutes"
    share = lambda k: sum(a[k] for a in asked if a[0] == "Extend") / sum(a[k] for a in asked)  # noqa: E731
    assert abs(share(1) - share(2)) <= 0.1, f"the open question has {share(1):.0%} of the minutes and {share(2):.0%} of the points"


#: A printed number that may earn points, as "slug/n" -> {number: why}.
MAY_EARN: dict[str, dict[float, str]] = {}


def printed(text: str) -> set[float]:
    """The numbers that a text or a piece of code shows, fractions and powers of ten included."""
    text = re.sub(r"(?<=\d)[_,](?=\d{3})", "", text)
    out = {float(n) for n in re.findall(r"\d+(?:\.\d+)?(?:e-?\d+)?", text)}
    out |= {float(a) / float(b) for a, b in re.findall(r"(\d+(?:\.\d+)?) ?/ ?(\d+(?:\.\d+)?)", text) if float(b)}
    out |= {float(a or 1) * 10.0 ** int(k) for a, k in re.findall(r"(?:(\d+(?:\.\d+)?) ?\\(?:cdot|times) ?)?10\^\{?(-?\d+)\}?", text)}
    return out


def test_printed_numbers_are_read():
    assert printed(r"$2 \cdot 10^{-5}$, 4,000 steps, `10_001`, 1e-4, 1/4, $10^{-3}$") >= {2e-5, 4000, 10_001, 1e-4, 0.25, 1e-3}


def test_what_the_question_prints_earns_nothing(exercises):
    for n, (match, cells) in parts(exercises).items():
        name = f"{exercises.slug}/{n}"
        if match["kind"] != "Measure" or name == "initialization-memory/6":  # that one is read off the reader's own runs
            continue
        shown = match["text"] + re.sub(r"### BEGIN SOLUTION.*?### END SOLUTION", "", cells[0].source, flags=re.S)
        for value in {v * sign for v in printed(shown) for sign in (1, -1)}:
            for answer in (value, (value,) * 3, lambda *_, value=value: value):  # a number, three of them, or a function, as the exercise wants
                feedback = library.check(name, answer)
                assert feedback.share == 0 or value in MAY_EARN.get(name, {}), f"{name}: {value:g} is printed and earns {feedback.share}: {feedback.message}"


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
    recorded = tomllib.loads((WRONG / f"{exercises.slug}.toml").read_text(encoding="utf-8"))
    rows = recorded["wrong"]
    assert recorded["right"], "no honest way other than the solution's is on record"
    assert any(row["share"] == library.PART and parts(exercises)[row["exercise"]][0]["kind"] == "Predict" for row in rows), "no later right choice is on record"
    for n, (match, _) in parts(exercises).items():
        own = [row for row in rows if row["exercise"] == n]
        if match["kind"] != "Extend":
            assert len({row["code"] for row in own}) >= 2, f"exercise {n}: fewer than two wrong answers on record"
        if match["kind"] == "Measure":
            assert sum(row["share"] == library.PART for row in own) >= 2, f"exercise {n} recognises fewer than two mistakes"
