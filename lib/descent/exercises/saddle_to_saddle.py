"""Exercises of the chapter "saddle-to-saddle"."""

from __future__ import annotations

import math

import numpy as np
import torch

from descent import data, low_rank
from descent.exercises import compare, exercise, nearest, number, predict


@predict(
    "saddle-to-saddle/1",
    options=(
        "every wait gets twice as long",
        "every wait gets longer by the same time",
        "each wait gets longer by a time inversely proportional to its singular value",
        "the waits stay as they are, the steps get lower",
    ),
    right="The weights of a mode must grow by one factor more, and each mode grows at its own rate.",
    wrong="Write down the strength of a mode while it is still small, as a function of time and of the init scale. When does it reach half of its final value?",
)
def _(waits):
    values = np.array([4.0, 2.0, 1.0])
    before, after = waits.transpose("init_scale", "mode", "seed").isel(seed=0).values
    longer = after - before
    laws = {  # what is the same for every mode, if the law holds
        "every wait gets longer by the same time": longer,
        "each wait gets longer by a time inversely proportional to its singular value": longer * values,
    }
    if np.abs(after / before - 1).max() < 0.05:
        shown = "the waits stay as they are, the steps get lower"
    elif np.abs(after / before - 2).max() < 0.1:
        shown = "every wait gets twice as long"
    else:
        shown = min(laws, key=lambda law: np.ptp(laws[law]) / np.abs(laws[law]).mean())
    listed = "; ".join(f"{b:.2f} becomes {a:.2f}" for b, a in zip(before, after))
    return shown, f"The times at which the modes reach half of their size: {listed}."


@exercise("saddle-to-saddle/2")
def _(answer):
    first, second, third, *_ = np.linalg.svd(np.random.default_rng(2).normal(size=(5, 5)))[1]
    return compare(
        number(answer, "an eigenvalue"),
        -second,
        rel=0.03,  # read off at the rest of a run it is within two percent, as in the chapter
        mistakes={
            second: "The size is right. But what does its sign say about a point that one can leave downhill?",
            -third: "This saddle has one more mode to learn before the one you used.",
            first - first**2: "The gradient is not zero at your point: multiply your two matrices. Is the product what the network should have learned?",
            -second / 2: "In the chapter's second-order term there is a factor one half; a second derivative is twice the coefficient.",
        },
        unearned={-first: "This is the curvature at the origin, before anything is learned. The network has learned the strongest mode already."},
        neighbours={second - first: "the distance of the two strongest modes", -math.sqrt(first * third): "a mean of those around it", -2 * second: "the second derivative along both factors at once"},
        right="The next singular value, with a minus sign: the rate at which the escape grows.",
        wrong="Is the gradient zero at your point? Which part of the teacher is still missing there, and how does the loss change to second order when a hidden unit begins to add it?",
    )


@predict(
    "saddle-to-saddle/3",
    options=(
        "the number that makes the rank one",
        "the number that makes the nuclear norm least",
        "zero, since the loss does not contain this entry",
        "the mean of the three known entries",
    ),
    right="Rank one is enough to fit three entries, so the greedy procedure stops there; it minimizes no norm on its way.",
    wrong="Out of the saddle at zero grows a matrix of rank one. Can such a matrix fit three entries and leave the fourth as it pleases?",
)
def _(run):
    x = float(run.matrix.isel(seed=0, step=-1, row=1, column=1))
    table, seen = torch.tensor([[2.0, 3.0], [4.0, 0.0]]), torch.tensor([[True, True], [True, False]])
    corner = {
        "the number that makes the rank one": 3 * 4 / 2,
        "the number that makes the nuclear norm least": low_rank.minimum_nuclear_norm(data.matrix_completion(table, seen))[1, 1],
        "zero, since the loss does not contain this entry": 0.0,
        "the mean of the three known entries": float(table[seen].mean()),
    }
    shown = min(corner, key=lambda option: abs(corner[option] - x))
    singular = np.linalg.svd(run.matrix.isel(seed=0, step=-1).values)[1]
    return shown, f"After training the corner holds {x:.2f}; the singular values of the matrix are {singular[0]:.2f} and {singular[1]:.4f}."


@exercise("saddle-to-saddle/4")
def _(answer):
    largest, second, *_ = np.linalg.svd(np.random.default_rng(12).normal(size=(6, 6)))[1]
    return compare(
        number(answer, "a singular value"),
        largest,
        rel=0.05,  # a finite step delays the growth by half of lr times the singular value, 2 %
        mistakes={
            largest / 2: "Almost: the strength is a product of two weights, and each of them shrinks with the init scale.",
            2 * largest: "Strength is proportional to the square of the init scale, but it also grows at twice the rate of a weight.",
            largest / np.log(10): "Check the base: a decade is a factor of ten, and growth is an exponential.",
            second: "That is the clock of the second mode. Which part of the loss curve did you time?",
            largest / 100: "You counted steps. What is the time of the flow after one step?",
        },
        neighbours={
            math.sqrt(float((np.random.default_rng(12).normal(size=(6, 6)) ** 2).sum())): "the norm of the whole matrix",
            (largest + second) / 2: "a level that both modes have a part in",
        },
        wrong="Is the distance of your two curves the same at every level of the first drop? What must the weights grow by in that time, and how fast do they grow?",
        right="Two runs and a stopwatch measure a singular value of the data.",
    )


@predict(
    "saddle-to-saddle/5",
    options=("by the same time as with two layers", "by a factor of 10", "by a factor of 100", "by a factor of 1,000"),
    right="With four layers the wait is proportional to the inverse square of the init scale.",
    wrong="The strength of a mode is a product of as many weights as there are layers, and it grows as a power of itself. Which power of the initial strength is the time of its blow-up?",
)
def _(run):
    loss = run.loss.isel(seed=0)
    before, after = low_rank.first_time(-loss, -float(loss.isel(init_scale=0, step=0)) / 4).values  # a quarter of the loss: half of the mode
    if not np.isfinite(after):
        after = float(run.lr * run.step[-1])  # at least
    if after - before < 2 * math.log(10):
        shown = "by the same time as with two layers"
    else:
        shown = nearest(after / before, {"by a factor of 10": 10, "by a factor of 100": 100, "by a factor of 1,000": 1000})
    return shown, f"The wait grows from {before:.1f} to {after:.1f}, by a factor of {after / before:.0f}; with two layers it would be longer by {math.log(10):.1f}."


@predict(
    "saddle-to-saddle/6",
    options=("both come later", "only the neurons turn later", "only the loss falls later", "neither changes"),
    right="Directions do not know how long the neurons are, and lengths have more to grow.",
    wrong="Split the motion of a neuron into its direction and its length. In which of the two equations does the init scale occur?",
)
def _(run):
    turned = low_rank.first_time(run.neuron_alignment, 0.95).isel(seed=0).values
    fallen = low_rank.first_time(-run.loss, -0.95 * np.log(2)).isel(seed=0).values
    later = tuple(bool(after > 1.1 * before) for before, after in (turned, fallen))
    shown = {(True, True): "both come later", (True, False): "only the neurons turn later", (False, True): "only the loss falls later"}
    numbers = f"The neurons are aligned at time {turned[0]:.1f} and {turned[1]:.1f}, the loss has fallen by 5 % at time {fallen[0]:.1f} and {fallen[1]:.1f}."
    return shown.get(later, "neither changes"), numbers


@exercise("saddle-to-saddle/7")
def _(answer):
    pair = data.digit_pair(0, 1)
    slow, fast = sorted(float(pair.x[pair.y[:, 0] == c].sum(0).norm()) / (2 * len(pair)) for c in (1, -1))
    return compare(
        number(answer, "a rate"),
        fast,
        rel=0.04,  # two lengths of the plateau give it to 2 %, since a finite step delays the growth
        mistakes={
            slow: "This is the rate of the neurons of the other class. Which class makes the loss move first?",
            fast / np.log(10): "A decade is a factor of ten; a rate is per factor of e.",
            2 * fast: "Twice the rate. Is it that of the output, in which a weight is one of two factors? Or do you divide by the images of one class, where n counts both?",
            fast / 10: "You counted steps. What is the time of the flow after one step?",
        },
        neighbours={
            (slow + fast) / 2: "the mean of both classes",
            float((pair.x * pair.y).sum(0).norm()) / (2 * len(pair)) / 2: "neurons that are active on both classes, at half of their rate",
        },
        right="The plateau's length measures the sum of the images of a class, over twice the number of all images, with no image in sight.",
        wrong="Do your two plateaus end at the same level of the loss, and how far apart are they in learning rate times steps? From the data: which sum, over which images, divided by which number?",
    )
