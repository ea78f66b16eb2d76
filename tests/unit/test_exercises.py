"""Checks accept right answers, teach on wrong ones, and keep the answer to themselves."""

import re

import numpy as np
import pytest

from descent import exercises
from descent.exercises import NotAnAnswer, check, choice, compare, digest, exercise, number, right, wrong

NAME = "test-chapter/{}"


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    monkeypatch.setattr(exercises, "_CHECKS", {})
    monkeypatch.setattr(exercises, "_load", lambda name: exercises._CHECKS)


@pytest.fixture
def question():
    name = NAME.format(1)
    choice(name, options=("it grows", "it settles"), digest=digest(name, "it settles"), right="Yes.", wrong="Look again.")
    return name


def test_a_choice_knows_its_answer(question):
    assert check(question, "It  settles ")
    feedback = check(question, "it grows")
    assert not feedback and feedback.right is False and str(feedback) == "Not yet. Look again."


def test_a_choice_that_is_no_option_lists_them(question):
    assert "it grows; it settles" in check(question, "it explodes").message


def test_an_open_answer_is_neither_right_nor_wrong(question):
    for nothing in (..., None):
        assert check(question, nothing).right is None
        assert not check(question, nothing)


def test_the_same_answer_has_another_digest_elsewhere():
    assert digest(NAME.format(1), "yes") != digest(NAME.format(2), "yes")


def test_a_measured_answer_is_judged_by_a_function():
    @exercise(NAME.format(2))
    def _(answer):
        rate = number(answer, "a learning rate")
        return right("Stable.") if 0 < rate < 0.1 else wrong("The largest eigenvalue says otherwise.")

    assert check(NAME.format(2), np.float64(0.05))
    assert not check(NAME.format(2), 1)
    assert "a learning rate" in check(NAME.format(2), "fast").message
    assert "a learning rate" in check(NAME.format(2), [1, 2]).message


def test_a_usual_mistake_is_named_without_the_answer():
    judge = lambda a: compare(a, 0.1, rel=0.02, mistakes={0.05: "A factor two is missing.", 20.0: "That is the sharpness."})  # noqa: E731
    assert judge(0.1005)
    assert judge(0.0501).message == "A factor two is missing."
    assert judge(20).message == "That is the sharpness."
    assert "too large" in judge(0.3).message and "0.1" not in judge(0.3).message


def test_an_error_in_a_check_is_not_taken_for_a_wrong_answer():
    @exercise(NAME.format(3))
    def _(answer):
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        check(NAME.format(3), 1)


def test_an_unknown_exercise_lists_those_that_exist(question):
    with pytest.raises(KeyError, match=re.escape("there are test-chapter/1")):
        check(NAME.format(9), 1)


@pytest.mark.parametrize("answer", ["x", [1, 2], np.nan, True, None])
def test_number_takes_one_finite_number(answer):
    with pytest.raises(NotAnAnswer):
        number(answer)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: exercise("chapter"), "chapter-slug/number"),
        (lambda: digest("chapter", "x"), "chapter-slug/number"),
        (lambda: choice(NAME.format(4), options=("a",), digest="0" * 64, right="y", wrong="n"), "two different options"),
        (lambda: choice(NAME.format(4), options=("a", "b"), digest="a", right="y", wrong="n"), "64 hexadecimal"),
        (lambda: choice(NAME.format(4), options=("a", "b"), digest="0" * 64, right="y", wrong=" "), "a message"),
        (lambda: compare(1, 1), "needs a tolerance"),
        (lambda: compare(1, 0, rel=0.1), "must be positive"),
        (lambda: compare(1, 1, rel=0.5, mistakes={1.2: "x"}), "within the tolerance"),
    ],
)
def test_a_careless_exercise_is_refused(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_a_name_is_registered_once(question):
    with pytest.raises(ValueError, match="twice"):
        exercise(question)(lambda answer: right("x"))


def test_feedback_is_said_in_words_and_escaped():
    data = wrong("η < 2/λ?")._repr_mimebundle_()
    assert "Not yet" in data["text/html"] and "η &lt; 2/λ?" in data["text/html"] and 'role="status"' in data["text/html"]


def test_modules_register_only_their_own_chapter(monkeypatch):
    monkeypatch.undo()
    for slug in exercises.modules():
        names = set(exercises._load(f"{slug}/1"))
        assert names, f"exercises/{slug.replace('-', '_')}.py registers nothing"
        assert {n.split("/")[0] for n in names} == {slug}
