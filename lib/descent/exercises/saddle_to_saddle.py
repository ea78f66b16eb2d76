"""Exercises of the chapter "saddle-to-saddle"."""

from __future__ import annotations

import numpy as np

from descent import data
from descent.exercises import choice, compare, exercise, number

choice(
    "saddle-to-saddle/1",
    options=(
        "every wait gets twice as long",
        "every wait gets longer by the same time",
        "each wait gets longer by a time inversely proportional to its singular value",
        "the waits stay as they are, the steps get lower",
    ),
    digest="08a70a0ecffe2e54635685ae098b34bedb0fec09bc459d348b1c450867adcce1",
    right="The weights of a mode must grow by one factor more, and each mode grows at its own rate.",
    wrong="Write down the strength of a mode while it is still small, as a function of time and of the init scale. When does it reach half of its final value?",
)


@exercise("saddle-to-saddle/2")
def _(answer):
    return compare(
        number(answer, "an eigenvalue"),
        -1.5,
        rel=0.01,
        mistakes={
            1.5: "The size is right. But what does its sign say about a point that one can leave downhill?",
            -3.0: "This is the curvature at the origin, before anything is learned. The network has learned the strongest mode already.",
            -0.5: "This saddle has one more mode to learn before the one you used.",
            -0.75: "In the chapter's second-order term there is a factor one half; a second derivative is twice the coefficient.",
        },
        right="The next singular value, with a minus sign: the rate at which the escape grows.",
    )


@exercise("saddle-to-saddle/3")
def _(answer):
    return compare(
        number(answer, "an entry of the matrix"),
        6.0,
        rel=0.02,
        mistakes={
            np.sqrt(6.0): "This is the geometric mean of its neighbours. What does rank one say about the determinant?",
            1.0: "This is where the corner would be if gradient descent minimized the nuclear norm of the chapter's example.",
            1.5: "A matrix of rank one has proportional rows: which row is the multiple of which?",
            0.0: "Gradient descent never sees this entry, but a product of matrices cannot change the others and leave it alone.",
        },
        right="Rank one is enough to fit three entries, so the greedy procedure stops there.",
    )


@exercise("saddle-to-saddle/4")
def _(answer):
    return compare(
        number(answer, "a singular value"),
        2.0,
        rel=0.05,
        mistakes={
            1.0: "Almost: the strength is a product of two weights, and each of them shrinks with the init scale.",
            4.0: "Strength is proportional to the square of the init scale, but it also grows at twice the rate of a weight.",
            2.0 / np.log(10): "Check the base: a decade is a factor of ten, and growth is an exponential.",
        },
        right="Two runs and a stopwatch measure a singular value of the data.",
    )


choice(
    "saddle-to-saddle/5",
    options=("by the same time as with two layers", "by a factor of 10", "by a factor of 100", "by a factor of 1,000"),
    digest="63f1ea4c94d1833aa761e7af52d0b377bdb1349a9a5b6a281b7d56ad9ad343d9",
    right="With four layers the wait is proportional to the inverse square of the init scale.",
    wrong="The strength of a mode is a product of as many weights as there are layers, and it grows as a power of itself. Which power of the initial strength is the time of its blow-up?",
)


@exercise("saddle-to-saddle/6")
def _(answer):
    pair = data.digit_pair(0, 1)
    rates = [float(pair.x[pair.y[:, 0] == c].sum(0).norm()) / (2 * len(pair)) for c in (1, -1)]
    return compare(
        number(answer, "a rate"),
        max(rates),
        rel=0.1,
        mistakes={
            min(rates): "This is the rate of the neurons of the other class. Which class makes the loss move first?",
            max(rates) / np.log(10): "A decade is a factor of ten; a rate is per factor of e.",
            2 * max(rates): "This is the rate at which the output grows. A weight is one of two factors in it.",
            2 * max(rates) / np.log(10): "Two things at once: the base of the logarithm, and weights against outputs.",
        },
        right="The plateau's length measures the norm of half the mean of a class, with no image in sight.",
    )
