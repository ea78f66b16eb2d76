"""Exercises of the chapter "signal-propagation"."""

from __future__ import annotations

from typing import Any

import numpy as np

from descent import chaos, theory
from descent.exercises import Feedback, NotAnAnswer, choice, compare, exercise, number, right, wrong


@exercise("signal-propagation/1")
def _(answer: Any) -> Feedback:
    return compare(
        number(answer, "a factor"),
        0.5**8,
        rel=0.01,
        mistakes={
            0.5**9: "That is the factor of the output. Does the derivative in a matrix contain the matrix itself?",
            0.5: "Every layer that the gradient passes on its way back has been changed.",
            0.5**7: "Count the matrices once more: eight hidden layers have nine of them.",
            2.0**8: "In which direction does the gradient change if the weights that it is multiplied by become smaller?",
        },
        right="Without biases a ReLU network is homogeneous, so this holds exactly and not just on average.",
    )


@exercise("signal-propagation/2")
def _(answer: Any) -> Feedback:
    weight, bias = 2.0, 0.3
    q = theory.variance_fixed_point(weight, bias)
    return compare(
        number(answer, "a number of layers"),
        float(theory.depth_scales(weight, bias)[1]),
        rel=0.05,
        mistakes={
            float(1 / np.log(theory.susceptibility(q, weight, bias))): "You took the slope at c = 1, which repels here. Where do the correlations go?",
            float(theory.depth_scales(weight, bias)[0]): "This is how fast the variance settles. The question is about the correlation of two inputs.",
        },
        right="A network of this init scale knows little about its inputs after a few times as many layers.",
    )


@exercise("signal-propagation/3")
def _(answer: Any) -> Feedback:
    slopes = chaos.logistic(np.linspace(0.1, 0.9, 400), 3.8, 500)[1].mean(1)
    exponent = float((slopes[500] - slopes[100]) / 400)
    return compare(
        number(answer, "an exponent per step"),
        exponent,
        abs=0.03,
        mistakes={
            float(np.log(2)): "This is the exponent at r = 4, where everything can be solved.",
            float(np.exp(exponent)): "This is the factor per step. The exponent is its logarithm.",
            500 * exponent: "Divide by the number of steps.",
        },
        right="Chaotic, but less so than at r = 4: some starts are stretched less than by two per step.",
    )


choice(
    "signal-propagation/4",
    options=(
        "it is multiplied up to norm 1",
        "nothing changes",
        "it is set to zero",
        "its direction changes and its norm stays",
    ),
    digest="638d921af474ba2799e944930160cf7f661efc46bdb64392364a7c520eb24c9d",
    right="Clipping is a bound from above. It protects from cliffs, and does nothing for memory.",
    wrong="Put a gradient of norm 0.0001 into the formula of the chapter. Which of the two arguments of the minimum is smaller?",
)


@exercise("signal-propagation/5")
def _(answer: Any) -> Feedback:
    if not callable(answer):
        raise NotAnAnswer("The answer is a function that takes an array of gradients and a norm, and returns an array.")
    gradients = np.array([[3.0, 4.0], [0.3, 0.4], [0.0, -2.0]])
    try:
        given = np.asarray(answer(gradients.copy(), 1.0), dtype=float)
    except Exception as error:
        raise NotAnAnswer(f"Your function fails on an array of shape {gradients.shape}: {type(error).__name__}: {error}") from None
    if given.shape != gradients.shape:
        raise NotAnAnswer(f"Your function returns shape {given.shape} for gradients of shape {gradients.shape}.")
    norms = np.linalg.norm(gradients, axis=1, keepdims=True)
    mistakes = {
        "Some directions have changed. Do you bound each number by itself?": np.clip(gradients, -1, 1),
        "A small gradient has become longer.": gradients / norms,
        "One network's gradient decides how another's is clipped.": gradients / np.linalg.norm(gradients),
    }
    for message, mistaken in mistakes.items():
        if np.allclose(given, mistaken):
            return wrong(message)
    if np.allclose(given, gradients / np.maximum(norms, 1)):
        return right("Each network keeps its own direction, and only long gradients are shortened.")
    return wrong("Compare the norms of the rows before and after: they should be 5, 0.5, 2 and 1, 0.5, 1.")
