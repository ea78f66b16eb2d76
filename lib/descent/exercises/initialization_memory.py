"""Checks of the exercises on initialization memory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from descent.exercises import Feedback, NotAnAnswer, choice, compare, exercise, number, wrong

choice(
    "initialization-memory/1",
    options=("it falls below half", "it stays about the same", "it doubles"),
    digest="b4e57208f1606ae9c48cc1200907b926135cb02a45da43683757fe8f9e287fb1",
    right="So it is. The chapter's figure of the long runs shows it, and the row on ten times the training holds it to two points.",
    wrong="Which force still acts on the weights once every example is fitted and nothing penalizes their norm?",
)


@exercise("initialization-memory/2")
def _(answer: Any) -> Feedback:
    rate = 0.05 * 0.004
    return compare(
        number(answer, "a number of steps"), math.log(0.1) / math.log1p(-rate), rel=0.01,
        mistakes={
            1 / rate: "That is the forgetting time, after which a fraction 1/e is left. A tenth takes longer.",
            0.9 / rate: "You have let it fall along a straight line. Each step takes away a share of what is left.",
            math.log(0.9) / math.log1p(-rate): "That is when one tenth has gone. The question asks when one tenth is left.",
            math.log(0.1) / math.log1p(-0.004): "How large a step does the penalty take? The learning rate is missing.",
        },
        right="Yes. Training data, batch size and init scale do not enter.",
    )  # fmt: skip


@exercise("initialization-memory/3")
def _(answer: Any) -> Feedback:
    if not callable(answer):
        raise NotAnAnswer("The answer is a function that takes an array and returns a number.")
    # two seeds, three scales: averaging and taking the spread do not commute here
    accuracy = np.array([[0.90, 0.94, 0.98], [0.98, 0.94, 0.92]])
    given = _called(answer, accuracy)
    expected = 100 * np.ptp(accuracy.mean(0))
    mistakes = {
        expected / 100: "These are fractions; the memory is given in percentage points.",
        100 * np.ptp(accuracy, axis=1).mean(): "You take the spread for each seed and average afterwards. Why does the chapter do it the other way round?",
        100 * np.ptp(accuracy.mean(1)): "You average over the scales and compare the seeds.",
        100 * np.ptp(accuracy): "This is the spread over all networks, seeds included.",
    }  # fmt: skip
    feedback = compare(given, expected, abs=1e-6, mistakes=mistakes)
    pair = accuracy[:, :2]
    if feedback and abs(_called(answer, pair) - 100 * np.ptp(pair.mean(0))) > 1e-6:
        return wrong("Right for three scales, but not for two. Does your function know how many there are?")
    return feedback


def _called(function: Any, accuracy: np.ndarray) -> float:
    """The number that a reader's function returns; its failure is an answer of the wrong kind."""
    try:
        given = function(accuracy)
    except Exception as error:
        raise NotAnAnswer(f"Your function fails on an array of shape {accuracy.shape}: {type(error).__name__}: {error}") from None
    return number(given, "a function that returns a number of percentage points")


@exercise("initialization-memory/4")
def _(answer: Any) -> Feedback:
    left = number(answer, "an overlap")
    if left > 1.2 or left < 0:
        return wrong("An overlap starts at one. Did you divide by the squared norm of the initial weights?")
    # the clock has run to ημt = 1; the data's own force along w₀ takes a few per cent more
    return compare(
        left, math.exp(-1), rel=0.1,
        mistakes={math.exp(-0.5): "Half the time is missing: what are η, μ and the number of steps?",
                  1.0: "Nothing has decayed: is the penalty switched on, and do you read the last step?"},
        right="The clock has struck once, and the network says so.",
    )  # fmt: skip
