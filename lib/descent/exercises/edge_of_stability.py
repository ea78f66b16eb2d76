"""Exercises of the chapter "edge-of-stability"."""

from __future__ import annotations

import numpy as np

from descent import theory
from descent.exercises import choice, compare, exercise, number

choice(
    "edge-of-stability/1",
    options=(
        "it jumps to twice its value at once",
        "it rises gradually, at most to twice its value",
        "it stays where it is",
        "it falls to half its value",
    ),
    digest="6b16a79edf55f9706d616145b776dc43f694d292b5622d1ccf07c6aca7406be5",
    right="The weights do not move when the learning rate changes, so neither does the sharpness; progressive sharpening then resumes until the new threshold, if it gets that far.",
    wrong="Sharpness is a property of the weights. Do they change at the moment when you change the step? And what had kept the sharpness from rising?",
)


@exercise("edge-of-stability/2")
def _(answer):
    settled = number(answer, "a sharpness")
    return compare(
        settled,
        float(theory.heavy_ball_threshold(0.25, 0.5)),
        rel=0.05,
        mistakes={
            float(theory.gd_threshold(0.25)): "This is where plain gradient descent would settle. Momentum changes the linear recursion: where does a root of its characteristic polynomial reach -1?",
            float(theory.gd_threshold(0.25 / (1 - 0.5))): "You replaced the learning rate by its effective value for slow directions. The edge is about the fastest one.",
        },
        right="Heavy ball has an edge of its own, and it is a sharper one.",
    )


@exercise("edge-of-stability/3")
def _(answer):
    w = np.array([3.0, 0.5])
    return compare(
        number(answer, "a sharpness"),
        float(theory.gfs_sharpness(w)),
        rel=0.005,
        mistakes={
            float((1 / w**2).sum()): "You used the formula at the point itself, which is not a minimum. Where does gradient flow take it first?",
            float((w**2).sum()): "This is the tangent kernel at the point itself. The flow still has some way to go from there.",
        },
        right="The flow moves little, because the larger weight does most of the work; the solution stays unbalanced and sharp.",
    )


choice(
    "edge-of-stability/4",
    options=("it diverges", "it converges slowly", "it oscillates with a fixed amplitude", "it moves to a flatter minimum"),
    digest="93d1faa3fc9071d64e1231353e3b8c8d17daabc23fb813580e4de7aae2ebc631",
    right="The slope is bounded by one, so no step is longer than the learning rate; and inside the parabola the minimum repels. Between the two lies a cycle.",
    wrong="Look at the two regimes separately: how long can a step be where the function is linear, and what does a step do close to the minimum when the learning rate exceeds the threshold?",
)


@exercise("edge-of-stability/5")
def _(answer):
    a, b = 0.02, 4.0
    return compare(
        number(answer, "a displacement"),
        float(np.sqrt(2 * a / b)),
        rel=0.03,
        mistakes={
            float(np.sqrt(a / b)): "A factor is missing: it comes from the second-order term of the Taylor expansion.",
            float(2 * a / b): "This is the square of what was asked for.",
        },
        right="The stronger the sharpening, the louder the oscillation that holds it in place.",
    )
