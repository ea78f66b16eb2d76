"""Exercises of the chapter "quadratic-bowl"."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.stats import spearmanr

from descent import data, theory
from descent.exercises import PART, NotAnAnswer, compare, exercise, nearest, number, predict, right, wrong

#: what may happen to a quantity, and the factor by which it then changes
_FACTORS = {"it falls to a tenth": 0.1, "it stays where it is": 1.0, "it grows by the factor 1.9": 1.9, "it grows tenfold": 10.0}


@predict(
    "quadratic-bowl/1",
    options=tuple(_FACTORS),
    right="The wall is where a root of the recursion reaches -1. That the velocity adds up many gradients of one sign does not help against a coordinate that changes its sign in every step.",
    wrong="Follow the steepest axis at the wall: does its gradient keep its sign from step to step? What does a running sum of such gradients look like? Or put z = -1 into the characteristic equation of heavy ball.",
)
def _(run):
    stable = run.lr.where(run.diverged_at.isel(seed=0).isnull()).max("lr")
    plain, heavy = (float(stable.sel(momentum=beta)) for beta in (0.0, 0.9))
    return nearest(heavy / plain, _FACTORS), f"The largest learning rate of the grid that does not diverge is {plain:.1f} without momentum and {heavy:.1f} with it."


@exercise("quadratic-bowl/2")
def _(answer):
    def steps(rate: float) -> float:
        return math.log(1e-6) / math.log(rate)

    best = float(theory.optimal_rate(3 / 0.5))
    return compare(
        number(answer, "a number of steps"),
        steps(best),
        rel=0.04,  # a count of steps is rounded up, which is up to one step in forty
        mistakes={
            steps(1 - 0.5 / 3): "This is gradient descent with the learning rate 1/λmax. A larger one is better.",
            steps(best) / 2: "This many steps bring the loss to a millionth. The question asks for the distance.",
            steps(float(theory.optimal_heavy_ball(0.5, 3)[2])): "That is heavy ball with its best momentum. Here there is none.",
        },
        neighbours={
            math.log(1e6) * 3 / 0.5: "e to the minus t over the condition number",
            steps(1 - 2 * 0.5 / 3): "a factor of one minus two over the condition number",
        },
        wrong="By which factor does each of the two coordinates shrink in a step at your learning rate? Could a change of the rate make the slower one faster?",
        right="Note how little the start matters: it enters only through the coordinate that is slowest.",
    )


@exercise("quadratic-bowl/3")
def _(answer):
    growth = float(theory.sgd_variance(0.8, 1.0, 1.0) / theory.sgd_variance(0.2, 1.0, 1.0))
    return compare(
        number(answer, "a batch size"),
        8 * growth,
        rel=0.08,  # four standard errors of a ratio of floors, each from hundreds of runs
        mistakes={
            8 * 4: "You have kept η/B. That is right for small learning rates; is 0.8 small here?",
            8 * 4**2: "Is it η or its square that the variance grows with while η is small? Measure the floor at two small learning rates.",
            8 * math.sqrt(growth): "You compared root mean squares. They are not inversely proportional to the batch size.",
            8 / growth: "A larger learning rate makes more noise, not less.",
        },
        neighbours={
            8 * (0.8 / 0.2) * (1 + 0.8 / 2) / (1 + 0.2 / 2): "the floor expanded to the second order in the learning rate",
        },
        wrong="How much higher is the floor of the larger learning rate at the same batch size? And what does twice the batch size do to a floor?",
        right="The rule 'keep η/B' would have left the floor half as high again.",
    )


@predict(
    "quadratic-bowl/4",
    options=tuple(_FACTORS),
    right="Far below the wall each gradient is in the end applied 1 + β + β² + ... times, and it is this larger learning rate that sets the noise. What momentum gains in speed on flat axes it pays for here.",
    wrong="Far below the wall the weights hardly move while a gradient is kept in the velocity. How often, all in all, is the noise of one batch applied?",
)
def _(run):
    plain, heavy = (float(v) for v in run.loss.mean(["seed", "step"]).sel(momentum=[0.0, 0.9]))
    return nearest(heavy / plain, _FACTORS), f"The mean loss on the floor is {plain:.2g} without momentum and {heavy:.2g} with it, {heavy / plain:.3g} times as much."


def _largest(bias: bool) -> float:
    """Largest eigenvalue of the second-moment matrix of the thousand digits, with or without the constant 1."""
    x = data.digits(train=1000).x.double()
    x = torch.cat([x, torch.ones(len(x), 1)], dim=1) if bias else x
    return torch.linalg.eigvalsh(x.T @ x / len(x))[-1].item()


@exercise("quadratic-bowl/5")
def _(answer):
    penalty, top = 2.0, _largest(bias=True)
    return compare(
        number(answer, "a learning rate"),
        float(theory.optimal_lr(penalty, top + penalty)),
        rel=0.01,
        mistakes={
            2 / (top + penalty): "This is the wall itself: the steepest axis no longer shrinks there. The flattest one has a say too.",
            1 / (top + penalty): "This is 1/λmax. It is safe, and almost half as fast as the best.",
            2 / top: "You left out the penalty. It bends the loss along every axis.",
            2 / (_largest(bias=False) + 2 * penalty): "You left out the biases: to the linear model they are the weights of one more input, the constant 1.",
            2 / (1000 * top + 2 * penalty): "You summed over the examples. Is the loss their sum or their mean?",
            2 / (10 * top + 2 * penalty): "Ten outputs mean ten copies of each axis. Does a bowl become steeper by having more axes?",
        },
        neighbours={
            2 / (top + 4 * penalty): "the penalty without its one half",
        },
        wrong="How fast do the steepest and the flattest axis of the penalized loss shrink at your rate? Train at two percent more and at two percent less, and compare late steps.",
        right=f"The penalty has also bounded the condition number: it is {(top + penalty) / penalty:.0f}, where without penalty it was millions.",
    )


_LARGER, _SMALLER, _UNRELATED = "longer paths come with larger gaps", "longer paths come with smaller gaps", "the two have nothing to do with each other"


@predict(
    "quadratic-bowl/6",
    options=(_LARGER, _SMALLER, _UNRELATED),
    right="Nothing but signal was fitted: a long path has found more of it. So a long path is not bad in itself. What would you hold constant to compare two problems by their path lengths?",
    wrong="The path goes from zero to where the training loss vanishes. Which part of the true weights has been found then, and how large is the error from the part that has not?",
)
def _(run):
    correlation = float(spearmanr(*run)[0])
    shown = _UNRELATED if abs(correlation) < 0.4 else _SMALLER if correlation < 0 else _LARGER  # twenty unrelated pairs exceed 0.4 in one case of twelve
    return shown, f"The rank correlation of path length and gap over {len(run[0])} data sets is {correlation:.2f}."


_FEW = 5  # evaluations of F in a step; three suffice, a grid or a line search takes more


@exercise("quadratic-bowl/7")
def _(answer):
    if not callable(answer):
        raise NotAnAnswer("The answer is a function of F, x, j, low and high that returns the new x.")
    rng = np.random.default_rng(0)
    missed, most = [], 0
    for _ in range(30):
        A, x, j, (below, above) = rng.standard_normal((8, 6)), rng.standard_normal(6), int(rng.integers(6)), rng.uniform(1, 10, 2)
        ratio, calls = lambda x, A=A: (np.abs(x).sum() + 0.1) / np.linalg.norm(A @ x), []
        counted = lambda x, ratio=ratio, calls=calls: calls.append(1) or float(ratio(np.asarray(x, dtype=float)))
        try:
            new = np.asarray(answer(counted, x.copy(), j, -below, above), dtype=float)
        except Exception as error:
            raise NotAnAnswer(f"Your function fails: {type(error).__name__}: {error}") from None
        if new.shape != x.shape or not np.isfinite(new).all() or (np.delete(new, j) != np.delete(x, j)).any():
            return wrong("It must return an array like x in which only entry j may differ.")
        if not -below <= new[j] <= above:
            return wrong("The coordinate must stay between low and high.")
        line = np.r_[0.0, np.linspace(-below, above, 2_001)]
        moved = np.repeat(x[None], len(line), 0)
        moved[:, j] = line
        ratios = (np.abs(moved).sum(1) + 0.1) / np.linalg.norm(moved @ A.T, axis=1)
        if ratio(new) > ratios.min() * (1 + 1e-9):
            missed.append(float(line[ratios.argmin()]))
        most = max(most, len(calls))
    if most > _FEW:
        return wrong(f"One of your steps evaluates F {most} times, and {_FEW} are enough for an exact one. Draw F for a few problems: at which places can its least value lie?")
    if not missed:
        return right("Exact on thirty random problems. On either side of zero a linear function over a norm can have a stationary point, but never a minimum: nothing need be differentiated.")
    if not any(missed):
        return wrong("It fails wherever the best entry is zero. There the 1-norm has its kink, and no derivative tells of it.", PART)
    if all(m < 0 for m in missed) or all(m > 0 for m in missed):
        return wrong("It fails on one side of zero only. Do you compare both?", PART)
    if all(missed):
        return wrong("It fails wherever the best entry is an end of the interval. The numerator alone would never go there; what does the denominator do?", PART)
    return wrong(f"On {len(missed)} of thirty random problems a grid search finds a smaller ratio. Is a place where the derivative vanishes a minimum here? Which values do you compare?")
