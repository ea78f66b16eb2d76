"""Checks of the exercises on the fractal boundary."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from descent.exercises import Feedback, NotAnAnswer, choice, compare, exercise, number, wrong

#: share of the networks that converge in the window of exercise 5, measured in float32 and in float64
CONVERGED = 0.585

choice(
    "fractal-boundary/1",
    options=("it falls to one", "it stays the same", "it rises"),
    digest="ed16e8daab042701c81d511b26a1a67af52ee328d804bf8a857b9eab1fa30f14",
    right="So it does, here: the fringe, which was thinner than a point, now fills the window.",
    wrong="How thick is the fringe of the border in the first picture, in points? And how thick is it in the second?",
)


@exercise("fractal-boundary/2")
def _(answer: Any) -> Feedback:
    fine, coarse = math.log(2880 / 120), math.log(24 / 3)
    return compare(
        number(answer, "a dimension"), fine / coarse, rel=0.01,
        mistakes={
            -fine / coarse: "That is the slope. With which sign does the dimension enter N(s)?",
            coarse / fine: "You have the two logarithms the wrong way round.",
            2880 / 120 / 8: "A power law is a straight line only after taking logarithms.",
            fine: "By how much, in logarithms, did the side of the squares change?",
        },
        right="Yes. Two counts give a number; it takes more of them, and an error bar, to make it a dimension.",
    )  # fmt: skip


@exercise("fractal-boundary/3")
def _(answer: Any) -> Feedback:
    return compare(
        number(answer, "a learning rate"), 1 / 0.04, rel=0.01,
        mistakes={
            2 / 0.04: "That is 2/η. But the quantity that must stay below 2 depends on the minimum; which minimum is the most stable one?",
            1.0: "That is the bound on the geometric mean of the two rates. One of them is given.",
            0.04: "With equal rates the bound would be at 1, far above this.",
        },
        right="Yes. The most stable minimum is the one that balances the two terms.",
    )  # fmt: skip


@exercise("fractal-boundary/4")
def _(answer: Any) -> Feedback:
    if not callable(answer):
        raise NotAnAnswer("The answer is a function of two kernels and a learning rate that returns a learning rate.")
    # diagonal: each example is a direction of its own, and the tightest of them decides
    first, last = np.diag([1.0, 0.2, 0.0]), np.diag([0.5, 1.0, 0.1])
    given = _called(answer, first, last, 0.4)
    mistakes = {
        2.0: "That is 2/λmax(K₂): what the last layer may do alone. The first layer has used up part of it.",
        1.6: "You subtract the largest eigenvalues. They belong to different directions.",
    }
    feedback = compare(given, 1.92, rel=1e-3, mistakes=mistakes)
    if feedback:
        turn = np.linalg.qr(np.array([[2.0, 1.0, 0.5], [1.0, 3.0, 1.0], [0.3, 1.0, 2.0]]))[0]
        mixed = turn @ last @ turn.T  # the two kernels no longer share their eigenvectors
        edge = _called(answer, first, mixed, 0.4)
        if abs(np.linalg.eigvalsh(0.4 * first + edge * mixed)[-1] - 2) > 1e-3:
            return wrong("Right for diagonal kernels. With other eigenvectors the largest eigenvalue of your sum is not 2.")
    return feedback


def _called(function: Any, first: np.ndarray, last: np.ndarray, lr: float) -> float:
    """The number that a reader's function returns; its failure is an answer of the wrong kind."""
    try:
        given = function(first.copy(), last.copy(), lr)
    except Exception as error:
        raise NotAnAnswer(f"Your function fails on kernels of shape {first.shape}: {type(error).__name__}: {error}") from None
    return number(given, "a function that returns a learning rate")


@exercise("fractal-boundary/5")
def _(answer: Any) -> Feedback:
    share = number(answer, "a share between 0 and 1")
    if not 0 <= share <= 1:
        return wrong("A share lies between 0 and 1. Did you count the points instead?")
    return compare(
        share, CONVERGED, abs=0.02,
        mistakes={1 - CONVERGED: "That is the share of those that do not converge."},
        right="That is it, up to a few points whose verdict depends on rounding.",
    )  # fmt: skip
