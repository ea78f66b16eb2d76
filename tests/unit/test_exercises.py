"""Checks accept right answers, teach on wrong ones, and keep the answer to themselves."""

import re

import numpy as np
import pytest
import xarray as xr

from descent import exercises
from descent.exercises import PART, Feedback, NotAnAnswer, check, compare, exercise, number, predict, right, wrong

NAME = "test-chapter/{}"


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    monkeypatch.setattr(exercises, "_CHECKS", {})
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
        assert str(feedback) == (f"Right. The slope is {slope:.1f}. Yes." if feedback else f"Not yet. The slope is {slope:.1f}. Look again.")


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


@pytest.mark.parametrize("answer", ["x", [1, 2], [[1], [2, 3]], xr.Dataset({"loss": 1.0}), {}, np.nan, True, None])
def test_number_takes_one_finite_number(answer):
    with pytest.raises(NotAnAnswer):
        number(answer)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: exercise("chapter"), "chapter-slug/number"),
        (lambda: predict(NAME.format(4), options=("a", "A "), right="y", wrong="n"), "two different options"),
        (lambda: predict(NAME.format(4), options=("a", "b"), right="y", wrong=" "), "a message"),
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
