"""Exercises of the chapter "critical-periods"."""

from __future__ import annotations

import numpy as np

from descent import competition
from descent.exercises import compare, exercise, number, predict


@predict(
    "critical-periods/1",
    options=("zero", "1/4", "1/3", "1/2"),
    right="During the deficit B takes over all of the target while A keeps its half; afterwards both give way in proportion to their strengths. The length of the deficit does not enter.",
    wrong="Where do A and B stand when the deficit ends? Without a penalty nothing moves a source that is not seen. From there on, which function of the two strengths is conserved in a network of two layers?",
)
def _(run):
    (a, b), end = run.strengths.isel(seed=0, step=0).values, run.strengths.isel(seed=0, step=-1).values
    share = float(end[0] / end.sum())
    levels = {"zero": 0.0, "1/4": 1 / 4, "1/3": 1 / 3, "1/2": 1 / 2}
    return min(levels, key=lambda level: abs(levels[level] - share)), f"When the deficit ends A stands at {a:.2f} and B at {b:.2f}; in the end A has a share of {share:.3f}."


@exercise("critical-periods/2")
def _(answer):
    end = float(competition.race(0.1, 0.5, 3)[0])
    return compare(
        number(answer, "a strength"),
        end,
        rel=0.01,
        mistakes={
            float(competition.race(0.1, 0.5, 2)[0]): "You kept the ratio, which two layers conserve. What do three layers conserve?",
            float(competition.race(0.1, 0.5, 1)[0]): "You kept the difference, which a single layer conserves. What do three layers conserve?",
            1 - end: "This is the strength of the other source.",
        },
        unearned={
            0.5: "Equal shares: this is a race without a deficit. For how many steps does B learn alone?",
            0.1: "A has not moved at all. Is the deficit over when B stands at 0.5, and does it last in steps what it lasts in time?",
        },
        neighbours={
            float(competition.race(0.1, 0.5, 4)[0]): "what four layers conserve, not three",
            0.1 + 0.4 * 0.2 ** (4 / 3) / (1 + 0.2 ** (4 / 3)): "what is left of the target, shared in the ratio of the speeds at the start",
        },
        right="A gains little: counted in inverse powers, as three layers count, it was far behind.",
        wrong="Where does B stand when your deficit ends, and in which coordinate do both chains move at the same pace?",
    )


@exercise("critical-periods/3")
def _(answer):
    lr, l2, depth = 0.05, 0.004, 5
    rate = lr * competition.drift(depth, l2)
    return compare(
        number(answer, "a number of steps"),
        float(np.log(10) / rate),
        rel=0.03,
        mistakes={
            1 / rate: "In so many steps it grows by a factor of e. How many are that for a factor of ten?",
            float(np.log(10) / rate * lr): "This is the time of gradient flow. How many steps of this learning rate is that?",
            float(np.log(10) / (lr * l2 * depth)): "This is the rate at which a source that has lost decays. Near balance the other source pushes, too.",
            float(np.log(10) / (lr * l2)): "This is the clock of the penalty alone, for a single weight. What does the depth do?",
        },
        neighbours={
            float(np.log(10) / (lr * competition.drift(depth - 1, l2))): "the drift of four layers",
            float(np.log(10) / (lr * competition.drift(depth + 1, l2))): "the drift of six layers",
            9 / rate: "a straight line in the place of an exponential",
        },
        right="Slow, since the penalty is small; but it never ends before one source has lost everything.",
        wrong="Plot the logarithm of the lead against the step. Is it a line from your first step on, and what does its slope say about a factor of ten?",
    )


@predict(
    "critical-periods/4",
    options=("it heals the share of A", "it leaves the share of A as it is", "it takes from A what is left"),
    right="In two layers the penalty on the weights is a penalty on the sum of the strengths, and all splits of the target have the same sum.",
    wrong="For a given strength a, what is the least sum of squares of weights whose product is a? Is that sum over both sources larger or smaller for unequal shares?",
)
def _(run):
    before, after = (float(run.share.isel(seed=0, step=i)) for i in (0, -1))
    if after > 1.2 * before:
        shown = "it heals the share of A"
    else:
        shown = "it leaves the share of A as it is" if after > before / 1.2 else "it takes from A what is left"
    return shown, f"The share of A is {before:.3f} soon after the deficit and {after:.3f} after {int(run.step[-1]):,} steps."


@exercise("critical-periods/5")
def _(answer):
    lr, start = 0.02, 0.01
    time = competition.growth_time(start, 0.5, 2)
    return compare(
        number(answer, "a number of steps"),
        time / lr,
        rel=0.03,
        mistakes={
            competition.growth_time(start, 0.25, 2) / lr: "You waited until each weight was at one half. What has to reach half of the target is their product.",
            time: "This is the time of gradient flow. How many steps of this learning rate is that?",
            2 * time / lr: "A factor is missing: how fast does the product of two weights move when each of them moves?",
            float(np.log(0.5 / start) / 2 / lr): "You left the residual at one. It falls as the strength grows, and the second half of the way takes longer.",
        },
        neighbours={
            competition.growth_time(start**0.5, 0.5**0.5, 2) / lr: "the weights in the place of the strengths",
            competition.growth_time(start, 0.5, 3) / lr: "the growth of three layers",
            float(np.log(0.5 / start) / lr) * 0.5 / 0.75: "the residual held at the mean of its two ends",
        },
        right="The critical period ends about there.",
        wrong="Which quantity has to reach one half, and with which speed does it move while it is small? At which of the recorded steps is it there?",
    )


@predict(
    "critical-periods/6",
    options=("one layer", "two layers", "three layers", "the factor is the same for all"),
    right="With one layer the start hardly matters, with two it enters through its logarithm, and with three through a power: the smaller the weights, the longer the window stays open.",
    wrong="How fast does a chain grow while its strength is still small? Integrate from there to a half for each depth, and ask what the lower end contributes.",
)
def _(runs):
    # steps until half of the target, by depth, from the larger start and from the smaller one
    steps = {depth: [int(run.step[int(path.argmax())]) for path in (run.strengths.isel(seed=0, path=0) >= 0.5).values] for depth, run in runs.items()}
    factors = {depth: small / large for depth, (large, small) in steps.items()}
    first, second = sorted(factors, key=factors.get, reverse=True)[:2]
    names = {1: "one layer", 2: "two layers", 3: "three layers"}
    shown = names[first] if factors[first] > 1.1 * factors[second] else "the factor is the same for all"
    return shown, "Half of the target is learned after " + ", ".join(f"{large} and {small} steps (L = {depth})" for depth, (large, small) in steps.items()) + "."
