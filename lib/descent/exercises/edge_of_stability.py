"""Exercises of the chapter "edge-of-stability"."""

from __future__ import annotations

import numpy as np

from descent import theory
from descent.exercises import compare, exercise, number, predict


@predict(
    "edge-of-stability/1",
    options=(
        "it jumps to twice its value at once",
        "it rises gradually, at most to twice its value",
        "it stays where it is",
        "it falls to half its value",
    ),
    right="The weights do not move when the learning rate changes, so neither does the sharpness; progressive sharpening then resumes until the new threshold, if it gets that far.",
    wrong="Sharpness is a property of the weights. Do they change at the moment when you change the step? And what had kept the sharpness from rising?",
)
def _(run):
    curve = run.sharpness[0]
    before, at_once, late = (float(curve.sel(step=slice(a, b)).mean()) for a, b in ((400, 500), (510, 530), (900, 1000)))
    if at_once > 1.5 * before:
        shown = "it jumps to twice its value at once"
    elif late > 1.1 * before:
        shown = "it rises gradually, at most to twice its value"
    else:
        shown = "it stays where it is" if late > 0.75 * before else "it falls to half its value"
    return shown, f"The sharpness is {before:.2f} before the change, {at_once:.2f} in the thirty steps after it and {late:.2f} at the end."


@exercise("edge-of-stability/2")
def _(answer):
    settled = number(answer, "a sharpness")
    return compare(
        settled,
        float(theory.heavy_ball_threshold(0.25, 0.5)),
        rel=0.05,  # at the edge the sharpness hovers by some percent around where it settles; its mean over the last third, by one percent
        mistakes={
            float(theory.gd_threshold(0.25 / (1 - 0.5))): "You replaced the learning rate by its effective value for slow directions. The edge is about the fastest one.",
            2 / (0.25 * (1 - 0.5)): "Momentum makes a step of many gradients of one sign longer. Do the gradients along the steepest direction have one sign?",
        },
        unearned={
            float(theory.gd_threshold(0.25)) * factor: "This is where plain gradient descent would settle. Momentum changes the linear recursion: where does a root of its characteristic polynomial reach -1?"
            for factor in (1.0, 1.05)  # the run shown hovers above it
        },
        neighbours={
            2 / (0.25 * (1 - 0.5**2)): "the learning rate divided by one minus the square of the momentum",
            2 * (1 + 0.5**2) / 0.25: "the square of the momentum in the place of the momentum",
        },
        right="Heavy ball has an edge of its own, and it is a sharper one.",
        wrong="Has the sharpness stopped rising in your run, and over which steps do you average? On paper: put z = -1 into the characteristic equation. What is left of it?",
    )


@exercise("edge-of-stability/3")
def _(answer):
    w = np.array([3.0, 0.5])
    return compare(
        number(answer, "a sharpness"),
        float(theory.gfs_sharpness(w)),
        rel=0.001,
        mistakes={
            float((1 / w**2).sum()): "You used the formula at the point itself, which is not a minimum. Where does gradient flow take it first?",
            float((w**2).sum()): "This is the tangent kernel at the point itself. The flow still has some way to go from there.",
        },
        neighbours={
            float(w[0] ** 2): "the larger weight alone",
            float(w[0] ** 2 - w[1] ** 2): "the conserved quantity",
            float(w[0] ** 2 + 1 / w[0] ** 2): "the first weight held and the second set to its inverse",
        },
        wrong="Does your end point have the product one, and the same difference of squares as the start? And which sum is the sharpness there?",
        right="The flow moves little, because the larger weight does most of the work; the solution stays unbalanced and sharp.",
    )


@predict(
    "edge-of-stability/4",
    options=("it diverges", "it converges slowly", "it oscillates with a fixed amplitude", "it moves to a flatter minimum"),
    right="The slope is bounded by one, so no step is longer than the learning rate; and inside the parabola the minimum repels. Between the two lies a cycle.",
    wrong="Look at the two regimes separately: how long can a step be where the function is linear, and what does a step do close to the minimum when the learning rate exceeds the threshold?",
)
def _(w):
    late = np.abs(w[-100:])
    if not late.max() < 1e3:
        shown = "it diverges"
    elif late.max() < 0.1:
        shown = "it converges slowly"
    else:
        shown = "it oscillates with a fixed amplitude"
    return shown, f"Over the last hundred steps |w| stays between {late.min():.2f} h and {late.max():.2f} h."


@exercise("edge-of-stability/5")
def _(answer):
    a, b = 0.02, 4.0
    return compare(
        number(answer, "a displacement"),
        float(np.sqrt(2 * a / b)),
        rel=0.03,
        mistakes={
            float(np.sqrt(a / b)): "A factor is missing. What multiplies the square of x in the second equation?",
            float(2 * a / b): "This is the square of what was asked for.",
        },
        neighbours={float(np.sqrt(a / (2 * b))): "the one half on the wrong side", 2 * float(np.sqrt(a / b)): "the factor two outside of the root"},
        wrong="Put your value into the second equation: is y then at rest?",
        right="The stronger the sharpening, the louder the oscillation that holds it in place.",
    )
