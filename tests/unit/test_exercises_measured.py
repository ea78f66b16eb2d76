"""What every measured exercise promises: wrong derivations near the right value are left out, known mistakes explained, and nothing can be closed in on."""

import inspect
import re
from importlib import import_module

import numpy as np
import pytest

from descent import exercises
from descent.exercises import NEUTRAL, PART, compare

#: judged otherwise than as one number against another
OTHERWISE = {
    "mean-field/2": "three numbers, each against its own",
    "quadratic-bowl/7": "a function, run on problems of the check's own",
    "initialization-memory/6": "a number that is read off the reader's own runs",
}


def measured() -> list[str]:
    """The exercises that ask for a number or a function, without those of `OTHERWISE`."""
    names = [name for slug in exercises.modules() for name in exercises.names(slug)]
    return [name for name in names if name not in OTHERWISE and len(inspect.signature(exercises._CHECKS[name]).parameters) == 1]


def given(name, value):
    """A number as the exercise takes it."""
    return (lambda *_: value) if name == "fractal-boundary/5" else value


@pytest.fixture(params=measured())
def judged(request, monkeypatch):
    """An exercise, its check, and how its `compare` is called: the right value and the keywords."""
    name, calls = request.param, []

    def spy(answer, value, **words):
        calls.append((value, words))
        return compare(answer, value, **words)

    monkeypatch.setattr(import_module(f"descent.exercises.{name.split('/')[0].replace('-', '_')}"), "compare", spy)
    judge = lambda value: exercises.check(name, given(name, value))  # noqa: E731
    judge(0.0123)
    if not calls:
        judge(0.99)  # some answers are told something else before they are compared
    value, words = calls[-1]
    return name, judge, value, words


def test_wrong_derivations_near_the_right_value_earn_nothing(judged):
    name, judge, value, words = judged
    assert words.get("neighbours"), f"{name} lists no neighbouring wrong derivation"
    for other, origin in words["neighbours"].items():
        assert judge(other).share == 0, f"{name}: {origin} ({other:.6g}) earns points"


def test_known_mistakes_are_explained(judged):
    name, judge, value, words = judged
    assert len(words["mistakes"]) >= 2, name
    for share, known in ((PART, words["mistakes"]), (0.0, words.get("unearned") or {})):
        for other, message in known.items():
            assert judge(other).share == share, (name, other)


def test_a_wrong_number_is_asked_the_same_question_on_both_sides(judged):
    name, judge, value, words = judged
    tolerance = words.get("abs") or words["rel"] * np.abs(value)
    known = [other for kind in ("mistakes", "unearned") for other in words.get(kind) or {}]
    wide = lambda other: words.get("abs") or words["rel"] * np.abs(other)  # noqa: E731
    told = set()
    for side in (-1, 1):
        some = [v for v in value + side * tolerance * np.array([1.2, 1.7, 2.5, 4.0, 6.0]) if all(np.abs(v - other) > wide(other) for other in known)]
        assert some, name
        told |= {judge(v).message for v in some}
    assert told == {words["wrong"]} and words["wrong"] != NEUTRAL and "?" in words["wrong"], (name, told)
    assert not re.search(r"too (small|large|low|high|few|many)", words["wrong"]), name


def test_no_message_holds_the_answer(judged):
    name, judge, value, words = judged
    tolerance = words.get("abs") or words["rel"] * np.abs(value)
    for message in (words["wrong"], *words["mistakes"].values(), *(words.get("unearned") or {}).values()):
        near = [n for n in re.findall(r"\d+(?:\.\d+)?", message) if np.abs(float(n) - np.abs(value)) <= tolerance]
        assert not near, f"{name}: {message!r} holds {near}"


def test_those_that_are_judged_otherwise_are_still_there():
    assert set(OTHERWISE) <= {name for slug in exercises.modules() for name in exercises.names(slug)}
