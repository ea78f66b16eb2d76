"""Checks accept right answers, teach on wrong ones, and keep the answer to themselves."""

import re
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import sympy
import torch
import xarray as xr

from descent import exercises
from descent.exercises import NEUTRAL, PART, Feedback, NotAnAnswer, check, compare, exercise, number, predict, right, wrong

NAME = "test-chapter/{}"


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    monkeypatch.setattr(exercises, "_CHECKS", {})
    monkeypatch.setattr(exercises, "_FIRST", {})
    monkeypatch.setattr(exercises, "_load", lambda name: exercises._CHECKS)


@pytest.fixture
def question():
    """A prediction whose experiment counts how often it is run."""
    name = NAME.format(1)

    @predict(name, options=("it grows", "it settles", "it falls"), right="Yes.", wrong="Look again.")
    def _(slope):
        return ("it grows" if slope > 0.1 else "it falls" if slope < -0.1 else "it settles"), f"The slope is {slope:.1f}."

    return name


class Experiment:
    def __init__(self, result):
        self.result, self.runs = result, 0

    def __call__(self):
        self.runs += 1
        return self.result


@pytest.mark.parametrize(("slope", "shown"), [(1.0, "it grows"), (0.0, "it settles"), (-1.0, "it falls")])
def test_a_prediction_is_held_to_what_the_run_shows(question, slope, shown):
    for option in ("it grows", "It  settles ", "it falls"):
        feedback = check(question, option, Experiment(slope))
        assert feedback.right is (" ".join(option.lower().split()) == shown)
        assert str(feedback).startswith(f"Right. The slope is {slope:.1f}. Yes." if feedback else f"Not yet. The slope is {slope:.1f}. Look again.")


def test_the_first_choice_counts(question):
    run = Experiment(0.0)
    assert check(question, "it settles", run).share == 1
    assert check(question, "it settles", run).share == 1  # a cell that is run again
    assert check(question, ("it settles", "it falls"), run).share == 1


def test_a_later_right_choice_earns_a_part_and_a_later_wrong_one_nothing(question):
    run = Experiment(0.0)
    wrong_first = check(question, "it grows", run)
    assert not wrong_first and wrong_first.share == 0 and '"it grows", "..."' in wrong_first.message
    assert check(question, ("it grows", "it falls"), run).share == 0
    assert check(question, ["It grows", "it settles"], run).share == PART


def test_a_first_choice_that_was_written_over_is_remembered(question):
    run = Experiment(0.0)
    check(question, "it grows", run)
    for later in ("it settles", ("it settles", "it grows")):
        feedback = check(question, later, run)
        assert feedback and feedback.share == PART and 'write "it grows", "it settles"' in feedback.message


def test_what_is_no_option_is_no_first_choice(question):
    run = Experiment(0.0)
    for other in ("it explodes", 1 / 3, ("it grows", "it falls", "it settles"), ("it settles", ...), ()):
        feedback = check(question, other, run)
        assert feedback.right is False and feedback.share == 0
    assert run.runs == 0
    assert "in quotes" in check(question, 1 / 3, run).message and "two at most" in check(question, ("it grows", "it falls", "it settles"), run).message
    assert check(question, "it settles", run).share == 1


def test_nothing_runs_before_the_prediction_is_made(question):
    run = Experiment(0.0)
    assert "it grows; it settles" in check(question, "it explodes", run).message
    assert check(question, ..., run).right is None
    assert run.runs == 0
    check(question, "it falls", run)
    assert run.runs == 1


def test_a_run_that_shows_none_of_the_options_is_an_error():
    @predict(NAME.format(5), options=("a", "b"), right="y", wrong="n")
    def _(run):
        return "c", ""

    with pytest.raises(ValueError, match="shows 'c'"):
        check(NAME.format(5), "a", lambda: 0)


def test_an_open_answer_is_neither_right_nor_wrong(question):
    for nothing in (..., None):
        assert check(question, nothing, Experiment(0)).right is None
        assert not check(question, nothing, Experiment(0))


def test_a_check_says_how_many_answers_it_wants(question):
    with pytest.raises(TypeError, match="with 2 values after its name, got 1"):
        check(question, "it grows")


def test_points_are_the_share_of_an_answer(capsys):
    judge = lambda a: compare(a, 0.1, rel=0.02, mistakes={0.05: "A factor two is missing."})  # noqa: E731
    assert [judge(a).grade(points=4) for a in (0.1, 0.05, 0.3)] == [4.0, 4 * PART, 0.0]
    assert Feedback(None, "open", 0.0).grade(points=4) == 0
    assert "A factor two is missing." in capsys.readouterr().out


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
    assert judge(0.3).message == judge(0.07).message == NEUTRAL and "?" in NEUTRAL


def test_what_takes_no_work_is_explained_and_earns_nothing():
    judge = lambda a: compare(a, 0.1, rel=0.02, mistakes={0.05: "A factor two."}, unearned={20.0: "It is given.", 0.05: "So is this."}, wrong="Why?")  # noqa: E731
    assert [(judge(a).share, judge(a).message) for a in (20, 0.05, 3)] == [(0, "It is given."), (0, "So is this."), (0, "Why?")]


def test_an_error_in_a_check_is_not_taken_for_a_wrong_answer():
    @exercise(NAME.format(3))
    def _(answer):
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        check(NAME.format(3), 1)


def test_an_unknown_exercise_lists_those_that_exist(question):
    with pytest.raises(KeyError, match=re.escape("there are test-chapter/1")):
        check(NAME.format(9), 1)


@pytest.mark.parametrize(
    "answer",
    [
        0.5, np.float32(0.5), np.array(0.5), np.array([[0.5]]), [0.5], Fraction(1, 2), Decimal("0.5"), sympy.Rational(1, 2), sympy.cos(sympy.pi / 3),
        torch.tensor(0.5), torch.tensor([0.5], requires_grad=True), torch.tensor(0.5, dtype=torch.bfloat16), torch.tensor(0.5, dtype=torch.complex64),
        xr.DataArray(0.5), xr.DataArray([0.5], dims="seed"), np.roots([1, -1, 0.25])[0], 0.5 + 1e-17j, xr.DataArray(torch.tensor(0.5).numpy()),
    ],
)  # fmt: skip
def test_number_takes_one_number_of_whatever_type(answer):
    assert number(answer) == pytest.approx(0.5, abs=1e-7) and isinstance(number(answer), float)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("0.5", "a text"), (True, "a truth value"), (np.bool_(False), "a truth value"), (torch.tensor(True), "a truth value"), (1 + 1j, "an imaginary part"),
        (np.roots([1, 0, 1])[0], "an imaginary part"), (np.nan, "nan"), (Decimal("Infinity"), "Infinity"), (10**400, "one finite number"), ([1, 2], "[1, 2]"),
        ([[1], [2, 3]], "[[1], [2, 3]]"), (torch.ones(2), "tensor"), (xr.Dataset({"loss": 1.0}), "Dataset"), ({}, "{}"), ([], "[]"), (None, "None"),
        (sympy.Symbol("x"), "x"), (sympy.I, "an imaginary part"), (number, "function"),
    ],
)  # fmt: skip
def test_number_takes_nothing_else(answer, says):
    with pytest.raises(NotAnAnswer, match="one finite number") as error:
        number(answer, "a learning rate")
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: exercise("chapter"), "chapter-slug/number"),
        (lambda: predict(NAME.format(4), options=("a", "A "), right="y", wrong="n"), "two different options"),
        (lambda: predict(NAME.format(4), options=("a", "b"), right="y", wrong=" "), "a message"),
        (lambda: compare(1, 1), "needs a tolerance"),
        (lambda: compare(1, 0, rel=0.1), "must be positive"),
        (lambda: compare(1, 1, rel=0.5, mistakes={1.2: "x"}), "within the tolerance"),
        (lambda: compare(1, 1, rel=0.5, unearned={1.2: "x"}), "within the tolerance"),
        (lambda: compare(1, 1, rel=0.5, neighbours={1.2: "x"}), "within the tolerance"),
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
