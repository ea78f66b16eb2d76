"""Exercises of the chapter "fractal-boundary"."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from descent import seeds
from descent.boxcount import box_dimension, mixed_squares
from descent.exercises import PART, NotAnAnswer, compare, exercise, nearest, number, predict, right, wrong
from descent.trainability import Window, converged, linear_threshold, network, scalar_fate, survey


@predict(
    "fractal-boundary/1",
    options=("stays close to one", "rises clearly above one", "falls clearly below one"),
    right="The fringe of the border was thinner than a point, and now it fills the window. A dimension belongs to a range of scales.",
    wrong="How thick is the fringe of the border in the first picture, in points? And how thick is it in the second?",
)
def _(run):
    whole, piece = run
    if abs(piece.value - 1) <= 0.17:  # the ruler's own error on known sets reaches that much
        shown = "stays close to one"
    else:
        shown = "rises clearly above one" if piece.value > 1 else "falls clearly below one"
    return shown, f"The whole border has dimension {whole}, the magnified piece {piece}."


@cache
def _strip() -> np.ndarray:
    """Which pairs of learning rates of the strip converge, (193, 193)."""
    return scalar_fate(Window(lr=1.6, readout_lr=1.6, decades=0.3), 193, start=(0.5, 0.8)).inside.values


@exercise("fractal-boundary/2")
def _(answer):
    inside = _strip()
    fine, coarse = (int(mixed_squares(inside, side).sum()) for side in (2, 16))
    touched = [int(np.lib.stride_tricks.sliding_window_view(inside, (side + 1, side + 1))[::side, ::side].any((2, 3)).sum()) for side in (2, 16)]
    counts, sides = math.log(fine / coarse), math.log(16 / 2)
    return compare(
        number(answer, "a dimension"),
        counts / sides,
        rel=0.01,
        mistakes={
            -counts / sides: "That is the slope. With which sign does the dimension enter N(s)?",
            sides / counts: "You have the two logarithms the wrong way round.",
            fine / coarse / 8: "A power law is a straight line only after taking logarithms.",
            counts: "By how much, in logarithms, did the side of the squares change?",
            math.log(touched[0] / touched[1]) / sides: "You counted the squares that touch the set. The border runs only through those that have points of both kinds.",
        },
        neighbours={
            box_dimension(inside).value: "the slope over all sides",
            counts / math.log(16): "the side of the larger squares alone",
            math.log(fine) / math.log(193 / 2): "one count, and the side against the width of the picture",
        },
        wrong="Which two logarithms do you divide, and how do both change when the squares get smaller? Try it on a picture whose border you know, a straight line.",
        right="Two counts give a number; it takes more of them, and an error bar, to make it a dimension.",
    )


@predict(
    "fractal-boundary/3",
    options=("about as long", "about twice as long", "about a thousand times as long", "for ever"),
    right="Every step multiplies the distance, so precision buys time in proportion to its digits: that is why more of them do not make such a border reliable.",
    wrong="A distance that is multiplied at every step: how does the number of steps to a distance of one depend on the distance at the start?",
)
def _(run):
    steps = {gap: (apart > 0.5).argmax(0) for gap, apart in run.items() if (apart > 0.5).any(0).mean() > 0.5}
    if 1e-7 not in steps or 1e-14 not in steps:
        return "for ever", "Most pairs of runs have not parted by the end."
    short, long = (float(np.median(steps[gap])) for gap in (1e-7, 1e-14))
    shown = nearest(long / short, {"about as long": 1, "about twice as long": 2, "about a thousand times as long": 1000})
    return shown, f"The runs part after {short:.0f} steps from a distance of 1e-7 and after {long:.0f} from 1e-14 (medians of {len(next(iter(run.values()))[0])} starts)."


@exercise("fractal-boundary/4")
def _(answer):
    lr = 0.04
    return compare(
        number(answer, "a learning rate"),
        1 / lr,
        rel=0.01,
        mistakes={
            2 / lr: "That is 2/η. But the quantity that must stay below 2 depends on the minimum; which minimum is the most stable one?",
            2 - lr: "That is for the minimum a = b = 1. Is it the most stable one if the two rates differ?",
            1 / lr**0.5: "The geometric mean of the two rates is bounded. What power of the other one is in it?",
        },
        unearned={
            1.0: "That is the bound on the geometric mean of the two rates. One of them is given.",
            lr: "With equal rates the bound would be at 1, far above this.",
        },
        neighbours={4 / lr: "the product of the rates below four", 1 / (2 * lr): "the product of the rates below one half"},
        wrong="Write the quantity that must stay below 2 as a function of a alone. Where is it least, and what is it there?",
        right="The most stable minimum is the one that balances the two terms.",
    )


@exercise("fractal-boundary/5")
def _(answer):
    if not callable(answer):
        raise NotAnAnswer("The answer is a function of two kernels and a learning rate that returns a learning rate.")
    # diagonal: each example is a direction of its own, and the tightest of them decides
    first, last, lr = np.diag([1.0, 0.2, 0.0]), np.diag([0.5, 0.9, 0.1]), 0.4
    feedback = compare(
        _called(answer, first, last, lr),
        float(np.min((2 - lr * np.diag(first)) / np.diag(last))),
        rel=1e-3,
        mistakes={
            2 / np.diag(last).max(): "That is what the last layer may do alone. The first layer has used up part of it.",
            (2 - lr * np.diag(first).max()) / np.diag(last).max(): "You subtract the largest eigenvalues. They belong to different directions.",
        },
        neighbours={
            float(np.min((2 - np.diag(first)) / np.diag(last))): "the first kernel without its learning rate",
            2 / np.diag(lr * first + last).max(): "one rate for the sum",
        },
        wrong="Put your rate back: what is the largest eigenvalue of the weighted sum, and what is it at the border? Where only one of the two kernels acts, is your function right?",
    )
    if not feedback:
        return feedback
    turn = np.linalg.qr(np.array([[2.0, 1.0, 0.5], [1.0, 3.0, 1.0], [0.3, 1.0, 2.0]]))[0]
    mixed = turn @ last @ turn.T  # the two kernels no longer share their eigenvectors
    edge = _called(answer, first, mixed, lr)
    if abs(np.linalg.eigvalsh(lr * first + edge * mixed)[-1] - 2) > 1e-3:
        return wrong("Right for diagonal kernels. With other eigenvectors, is the largest eigenvalue of your sum what it has to be at the border?", PART)
    return right("The eigenvalues of a sum are not the sums of eigenvalues: the two layers share the tightest direction, whichever it is.")


def _called(function: Any, first: np.ndarray, last: np.ndarray, lr: float) -> float:
    """The number that a reader's function returns; its failure is an answer of the wrong kind."""
    try:
        given = function(first.copy(), last.copy(), lr)
    except Exception as error:
        raise NotAnAnswer(f"Your function fails on kernels of shape {first.shape}: {type(error).__name__}: {error}") from None
    return number(given, "a function that returns a learning rate")


@exercise("fractal-boundary/6")
def _(answer):
    share = number(answer, "a share between 0 and 1")
    if not 0 <= share <= 1:
        return wrong("A share lies between 0 and 1. Did you count the pairs instead?")
    trains, allowed, known = _four_decades(seeds(1)[0])
    forbidden = ~allowed
    return compare(
        share,
        float(trains[forbidden].mean()),
        abs=0.015,  # some verdicts depend on rounding
        mistakes={
            float(1 - trains[forbidden].mean()): "That is the share of those that do not converge.",
            float(forbidden[trains].mean()): "That is the share of the forbidden pairs among those that train. Which of the two is the whole here?",
            float((trains & forbidden).mean()): "You divided by the number of all pairs.",
            float(trains[forbidden & known].mean()): "You left out the learning rates at which the theory allows no pair at all.",
        },
        neighbours={float(trains.mean()): "the share of all pairs that train", float(trains[allowed].mean()): "the share of the allowed pairs that train"},
        wrong="Which pairs are in your numerator and which in your denominator? How many are there of each, and what do you do with the learning rates that have no threshold?",
        right="The theory is safe and far too cautious: the network can leave the neighbourhood in which it holds, and land where it is stable.",
    )


@cache
def _four_decades(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which pairs of learning rates train the network, which ones the linear theory allows, and where it allows any; (33, 33) each."""
    task = network(seed)
    trains = converged(survey(task, Window(lr=30.0, readout_lr=30.0, decades=4.0), 33, [seed])).isel(seed=0)
    largest = linear_threshold(task, seed, trains.lr.values)[:, None]
    return trains.values, trains.readout_lr.values < np.nan_to_num(largest), np.broadcast_to(np.isfinite(largest), trains.shape)


@predict(
    "fractal-boundary/7",
    options=("as rough as that of the first verdict", "a smooth curve", "missing: no orbit diverges"),
    right="Chaos alone does not make a border of divergence rough: no orbit inside the strip finds a way out, and the line beyond which all do is smooth.",
    wrong="Where is the nearest way out for an orbit that is thrown about in the strip? Does it matter for the answer what the orbit does as long as it is bounded?",
)
def _(run):
    escaped = np.isfinite(run.diverged_at.values)
    if not escaped.any():
        return "missing: no orbit diverges", "Of these trainings none diverges."
    first, second = (box_dimension(kind) for kind in (run.inside.values, escaped))
    shown = "a smooth curve" if abs(second.value - 1) < abs(second.value - first.value) else "as rough as that of the first verdict"
    return shown, f"The border of the first verdict has dimension {first}, that of divergence {second}; {100 * escaped.mean():.0f} % of the trainings diverge."
