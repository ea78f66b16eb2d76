"""Checks of the exercises on the quadratic bowl."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from descent import data, theory
from descent.exercises import Feedback, NotAnAnswer, choice, compare, exercise, number, right, wrong

choice(
    "quadratic-bowl/1",
    options=("it falls to a tenth", "it stays where it is", "it grows by the factor 1.9", "it grows tenfold"),
    digest="3641acd8a3ab7ad55d835763389c7b2f9bfc3436188e9487d1b19634349f2254",
    right="Yes. Set the momentum slider of the first figure to 0.9 and move the learning rate to 3.7 and to 3.9.",
    wrong="Put z = -1 into the characteristic equation of heavy ball: for which learning rate is it a root?",
)


@exercise("quadratic-bowl/2")
def _(answer: Any) -> Feedback:
    def steps(rate: float) -> float:
        return math.log(1e-6) / math.log(rate)

    best = float(theory.optimal_rate(3 / 0.5))
    return compare(
        number(answer, "a number of steps"), steps(best), rel=0.04,
        mistakes={
            steps(1 - 0.5 / 3): "This is gradient descent with the learning rate 1/λmax. A larger one is better.",
            steps(best) / 2: "This many steps bring the loss to a millionth. The question asks for the distance.",
            steps((math.sqrt(6) - 1) / (math.sqrt(6) + 1)): "That is heavy ball with its best momentum. Here there is none.",
        },
        right="Right. Note how little the start matters: it enters only through the coordinate that is slowest.",
    )  # fmt: skip


@exercise("quadratic-bowl/3")
def _(answer: Any) -> Feedback:
    floor = theory.sgd_variance(0.2, 1.0, 1.0, 8)
    return compare(
        number(answer, "a batch size"), float(theory.sgd_variance(0.8, 1.0, 1.0, 1) / floor), abs=0.5,
        mistakes={
            32: "You have kept η/B. That is right for small learning rates; is 0.8 small here?",
            2: "A larger learning rate makes more noise, not less.",
            128: "Square what has to be squared: does the variance grow like η² or like η for small η?",
        },
        right="Yes. The rule 'keep η/B' would have left the floor half as high again.",
    )  # fmt: skip


@exercise("quadratic-bowl/4")
def _(answer: Any) -> Feedback:
    x = data.digits(train=1000).x.double()
    x = torch.cat([x, torch.ones(len(x), 1)], dim=1)
    top = torch.linalg.eigvalsh(x.T @ x / len(x))[-1].item()
    return compare(
        number(answer, "a learning rate"), float(theory.optimal_lr(0.1, top + 0.1)), rel=0.005,
        mistakes={
            2 / (top + 0.1) * 1.02: "This diverges, or nearly: look at the last losses.",
            1 / (top + 0.1): "This is 1/λmax. It is safe, and almost half as fast as the best.",
            2 / (10 * top): "Is the loss a mean over examples or also over the ten outputs?",
        },
        right="That is it. With the penalty the condition number is a few hundred instead of millions.",
    )  # fmt: skip


@exercise("quadratic-bowl/5")
def _(answer: Any) -> Feedback:
    correlation = number(answer, "a rank correlation")
    if abs(correlation) > 1:
        return wrong("A correlation lies between -1 and 1.")
    if correlation > -0.2:
        return wrong("Is the label noise zero, are there fewer examples than dimensions, and is the gap test loss minus training loss?")
    return right("So a long path is not bad in itself. What would you hold constant to compare two problems by their path lengths?")


@exercise("quadratic-bowl/6")
def _(answer: Any) -> Feedback:
    if not callable(answer):
        raise NotAnAnswer("The answer is a function of x, j, A and c that returns the new x.")
    rng = np.random.default_rng(0)
    line = np.linspace(-10, 10, 200_001)
    for trial in range(20):
        A, x, j, c = rng.standard_normal((8, 6)), rng.standard_normal(6), int(rng.integers(6)), 0.1
        try:
            new = np.asarray(answer(x.copy(), j, A, c), dtype=float)
        except Exception as error:
            raise NotAnAnswer(f"Your function fails: {type(error).__name__}: {error}") from None
        if new.shape != x.shape or not np.isfinite(new).all() or (np.delete(new, j) != np.delete(x, j)).any():
            return wrong("It must return an array like x in which only entry j may differ.")
        if abs(new[j]) > 10:
            return wrong("The coordinate must stay between -10 and 10.")
        rest = np.delete(x, j)
        ratios = (np.abs(rest).sum() + np.abs(line) + c) / np.linalg.norm((A @ x - A[:, j] * x[j])[:, None] + A[:, [j]] * line, axis=0)
        if (np.abs(new).sum() + c) / np.linalg.norm(A @ new) > ratios.min() * (1 + 1e-6):
            return wrong(
                f"In trial {trial + 1} a grid search finds a smaller ratio. On each side of zero, where is the derivative zero? "
                "Do you compare all candidates, with zero and the ends of the interval among them?"
            )
    return right("Exact on twenty random problems. Now sweep over the coordinates and compare with subgradient steps.")
