"""Exercises of the chapter "mean-field"."""

from __future__ import annotations

import numpy as np

from descent.exercises import NotAnAnswer, choice, compare, exercise, number, right, wrong

choice(
    "mean-field/1",
    options=("the same path, at half the speed", "the same path, at the same speed", "the same path, at twice the speed", "another path, with less noise"),
    digest="76d9e534a02763924950a42522d7c390f056c7be3ba74a45a82ada7babeeb1ba",
    right="Each neuron's gradient carries the factor 1/N, so at a fixed learning rate time runs at a rate of one over the width.",
    wrong="How does the gradient with respect to one neuron depend on N? And which combination of learning rate and width is the time of the limit?",
)


@exercise("mean-field/2")
def _(answer):
    given = np.asarray(answer)
    if given.shape != (3,) or given.dtype.kind not in "iuf":
        raise NotAnAnswer("The answer is three numbers: (lr, l2, temperature).")
    wanted = np.array([0.5 * 800, 0.02 / 800, 1e-4 / 800])
    close = np.abs(given / wanted - 1) < 0.01
    if close.all():
        return right("The width multiplies one of them and divides the other two.")
    names = np.array(["lr", "l2", "temperature"])[~close]
    return wrong(f"Not yet right: {', '.join(names)}. Compare the step of one neuron with the step that the sweep takes, term by term, for both widths.")


@exercise("mean-field/3")
def _(answer):
    return compare(
        number(answer, "a number of gates"),
        40,
        abs=0.5,
        mistakes={
            20: "You counted the lines. A weight vector also has a sign: which examples does its opposite let through?",
            2.0**20: "That counts all subsets. Turn a line through the origin once around: how often does a point change sides?",
            190: "That counts pairs of points. The line goes through the origin.",
        },
        right="A line through the origin changes its gate only when it passes a point, twice for each point in a full turn.",
    )


@exercise("mean-field/4")
def _(answer):
    return compare(
        number(answer, "a value of f"),
        3 - 0.5 / 2,
        abs=0.002,
        mistakes={
            3 - 0.5: "The penalty is on the weights, and the input has length 2: how much weight does one unit of output cost?",
            3 - 0.5 / 4: "You divided by the squared length. Write the objective in terms of c = f(x): what is the least norm of v with v . x = c?",
            3.0: "Without a penalty, yes.",
        },
        right="The soft threshold of the lasso: a constant is taken off, whatever the target.",
    )


choice(
    "mean-field/5",
    options=("it has left the line of pull one", "two knots have merged", "it moved into an input", "the residuals have vanished"),
    digest="eb22ae1074a1994e6ae148479625a93f5fde71cc81c8ea8c91677d16b32b8a28",
    right="Neurons stay only where the pull is one; everywhere else the penalty wins and shrinks them to the size of the noise.",
    wrong="Look at the figure of the pull. What must hold at the place of a kink for neurons to stay there?",
)
