"""Exercises of the chapter "critical-periods"."""

from __future__ import annotations

import numpy as np

from descent import competition
from descent.exercises import choice, compare, exercise, number

choice(
    "critical-periods/1",
    options=("zero", "1/4", "1/3", "1/2"),
    digest="16932f0763662c2cb0becfe7ec3ca3de3a26b3f05f75a7c73da28b03257080b4",
    right="During the deficit B takes over all of the target while A keeps its half; afterwards both give way in proportion to their strengths. The length of the deficit does not enter.",
    wrong="Where do A and B stand when the deficit ends? Without a penalty nothing moves a source that is not seen. From there on, which function of the two strengths is conserved in a network of two layers?",
)


@exercise("critical-periods/2")
def _(answer):
    return compare(
        number(answer, "a strength"),
        float(competition.race(0.1, 0.5, 3)[0]),
        rel=0.01,
        mistakes={
            float(competition.race(0.1, 0.5, 2)[0]): "You kept the ratio, which two layers conserve. What do three layers conserve?",
            float(competition.race(0.1, 0.5, 1)[0]): "You kept the difference, which a single layer conserves. What do three layers conserve?",
            1 - float(competition.race(0.1, 0.5, 3)[0]): "This is the strength of B.",
        },
        right="The weaker source keeps about the strength it had: the third layer has made its head start worth less than its ratio.",
    )


@exercise("critical-periods/3")
def _(answer):
    lr, l2, depth = 0.05, 0.004, 5
    return compare(
        number(answer, "a number of steps"),
        float(np.log(10) / (lr * competition.drift(depth, l2))),
        rel=0.02,
        mistakes={
            float(np.log(10) / competition.drift(depth, l2)): "This is the time of gradient flow. How many steps of this learning rate is that?",
            float(np.log(10) / (lr * l2 * depth)): "This is the rate at which a source that has lost decays. Near balance the other source pushes, too.",
            float(np.log(10) / (lr * l2)): "This is the clock of the penalty alone, for a single weight. What does the depth do?",
        },
        right="Slow, since the penalty is small; but it never ends before one source has lost everything.",
    )


choice(
    "critical-periods/4",
    options=("it heals the share of A", "it leaves the share of A as it is", "it takes from A what is left"),
    digest="18614f02025770921c0c089323cc0b264b61ae23b55414db3858bc4769abfab6",
    right="In two layers the penalty on the weights is a penalty on the sum of the strengths, and all splits of the target have the same sum.",
    wrong="For a given strength a, what is the least sum of squares of weights whose product is a? Is that sum over both sources larger or smaller for unequal shares?",
)


@exercise("critical-periods/5")
def _(answer):
    lr, start = 0.02, 0.01
    time = competition.growth_time(start, 0.5, 2)
    return compare(
        number(answer, "a number of steps"),
        time / lr,
        rel=0.03,
        mistakes={
            time: "This is the time of gradient flow. How many steps of this learning rate is that?",
            2 * time / lr: "A factor is missing: how fast does the product of two weights move when each of them moves?",
            float(np.log(0.5 / start) / 2 / lr): "You left the residual at one. It falls as the strength grows, and the second half of the way takes longer.",
        },
        right="The critical period ends about there, and starting ten times smaller moves its end by a constant number of steps.",
    )
