"""Exercises of the chapter "diagonal-networks"."""

from __future__ import annotations

import math

import numpy as np

from descent import data, highdim, theory
from descent.exercises import Feedback, compare, exercise, nearest, number, predict, wrong
from descent.seeding import seeds


@predict(
    "diagonal-networks/1",
    options=("uv stays the same", "uv shrinks", "uv grows", "it depends on the sign of the gradient"),
    right="The first-order terms of the two factors cancel, the second-order one cannot, and it has a fixed sign.",
    wrong="Write down the factor by which the step multiplies u and that for v, and multiply them out.",
)
def _(run):
    # from u = v a coefficient moves against its gradient
    change = 2 * np.log(run.effective_scale.isel(seed=0, step=1) / run.effective_scale.isel(seed=0, step=0)).values
    up = run.coefficients.isel(seed=0, step=1).values > 0
    usual = np.median(change[up]), np.median(change[~up])
    if np.abs(usual).max() < 1e-9:
        shown = "uv stays the same"
    elif usual[0] * usual[1] < 0:
        shown = "it depends on the sign of the gradient"
    else:
        shown = "uv shrinks" if usual[0] < 0 else "uv grows"
    return shown, f"The logarithm of uv changes by {change[up].mean():.1g} where the gradient is negative and by {change[~up].mean():.1g} where it is positive, in the mean."


@exercise("diagonal-networks/2")
def _(answer) -> Feedback:
    lr, noise, d = 0.01, 1.0, data.sparse_regression(40, 100, 5, seed=seeds(1)[0])
    squares = d.x.double().numpy() ** 2
    # the noise that a step puts into the coefficients returns in the residuals of later steps: their mean square
    # is noise^2 / (1 - q), since a coefficient moves by 4 lr |beta| times its gradient once a is small
    q = 2 * lr * float((squares @ np.abs(d.truth.double().numpy())).mean())
    rate = 2 * lr**2 * noise**2 / (1 - q) * squares.mean()
    fall = number(answer, "a rate")
    if 0 <= fall < rate / 10:
        return wrong("That is next to nothing: with clean labels the loss vanishes, and with it what the steps take. Are the labels of your run noisy?")
    return compare(
        fall,
        rate,
        rel=0.1,  # eight series of draws, and what is left of the fit after 2,000 steps: together four percent
        mistakes={
            -rate: "This is the slope. The question is for the rate at which it falls.",
            2 * rate: "This is how fast the logarithm of the product uv falls. The scale is its square root.",
            rate / math.log(10): "You took decimal logarithms.",
            rate / lr: "This is the rate per unit of t, learning rate times steps. The question is for one step.",
        },
        neighbours={
            (1 - q) * rate: "the noise of the labels alone",
            (1 - q) / (1 - 2 * q) * rate: "the jitter counted twice",
        },
        wrong="Plot the mean of the logarithm between the two steps: is it a line? Which power of the learning rate is in its slope, and which of the noise?",
        right="Most of it is the noise of the labels, the rest the network's own jitter, which that noise keeps alive. And nothing stops it.",
    )


@exercise("diagonal-networks/3")
def _(answer):
    d = data.sparse_regression(40, 100, 5, seed=3)
    x, y = d.x.double().numpy(), d.y.double().numpy()
    beta = theory.min_hyperbolic_entropy(x, y, 0.05)
    right = float(abs(beta).sum())
    return compare(
        number(answer, "an ℓ₁ norm"),
        right,
        rel=0.005,
        mistakes={
            float(abs(theory.min_l2(x, y)).sum()): "This is what a large init scale finds.",
            float(abs(theory.min_hyperbolic_entropy(x, y, 0.05**2)).sum()): "You put in the square of the init scale. Which power of it does the function ask for?",
            float(np.sqrt((beta**2).sum())): "This is their Euclidean norm.",
            float(beta.sum()): "The coefficients have signs, and yours cancel.",
            right / 100: "You took the mean over the coordinates. A norm adds them up.",
        },
        unearned={float(abs(theory.min_l1(x, y)).sum()): "This is the limit of a vanishing init scale, and the norm of the truth. At 0.05 the logarithm is not that large yet."},
        neighbours={
            float(abs(theory.min_hyperbolic_entropy(x, y, 0.05 / math.sqrt(2))).sum()): "the init scale of another convention, smaller by the root of two",
            float(abs(theory.min_hyperbolic_entropy(x, y, 0.05 * math.sqrt(2))).sum()): "the same, larger by the root of two",
        },
        right="A network trained with small full-batch steps agrees to about three digits.",
        wrong="Is the run long enough: does the norm still change when you double it? And is the step small enough to follow the flow: what does half of it give?",
    )


@predict(
    "diagonal-networks/4",
    options=("it ends closer to the truth", "it ends farther from the truth", "it ends at the same place", "it diverges"),
    right="Large full-batch steps shrink the scale where the gradient is large, and that is where the truth is.",
    wrong="Which coordinates have the largest full-batch gradient at the start? What does the entropy make of a coordinate whose scale has shrunk more than the others'?",
)
def _(runs):
    # one row per data set: the squared distance to the truth after small steps and after large ones
    ends = np.array([run.truth_error.values.ravel() for run in runs])
    lost = int(np.isnan(ends[:, 1]).sum())
    if 2 * lost > len(ends):
        return "it diverges", f"The run with the large step diverges on {lost} of {len(ends)} data sets."
    small, large = np.nanmedian(ends, axis=0)
    ratio = float(np.nanmedian(ends[:, 1] / ends[:, 0]))
    shown = "it ends at the same place" if abs(ratio - 1) < 0.01 else f"it ends {'closer to' if ratio < 1 else 'farther from'} the truth"
    return shown, f"In the median of {len(ends)} data sets the squared distance to the truth ends at {small:.2f} with the small step and at {large:.2f} with the large one, and is multiplied by {ratio:.2f}."


@exercise("diagonal-networks/5")
def _(answer):
    return compare(
        number(answer, "a rate"),
        highdim.late_rate(0.5, 0.2, 0.1),
        rel=0.003,
        mistakes={
            -highdim.late_rate(0.5, 0.2, 0.1): "This is an eigenvalue. A decay has a positive rate.",
            8 * 0.5 * 2 * 0.2**2: "This is the rate without gradient noise. The noise feeds back into the zeros and slows them down.",
            8 * 0.5 * math.sqrt(1 + 4 * 0.2**4): "This is how fast the coefficients that are one converge. Which ones does one wait for?",
        },
        neighbours={
            8 * 0.5 * 0.08 - 16 * 0.5**2 * 0.08**2 * 0.9: "the upper left entry of the matrix, as if nothing came back from the ones",
            highdim.late_rate(0.5, 0.2, 0.9): "the two shares exchanged",
            2 * highdim.late_rate(0.5, 0.2, 0.1): "the risk taken for the square of what decays",
        },
        wrong="Insert R and write down the four entries. Do they give the right decay if the noise is left out, and which of the two eigenvalues belongs to what is left in the end?",
        right="The zeros are slow because their speed is the square of the scale.",
    )


_FALLS = {"about half as much": 0.5, "about as much": 1.0, "about twice as much": 2.0, "about four times as much": 4.0}


@predict(
    "diagonal-networks/6",
    options=tuple(_FALLS),
    right="A step takes from the logarithm what goes with the square of the learning rate, four times as much; but the risk, to which it is proportional, is gone in half the time. Slightly more than twice, since the noise also keeps the risk alive.",
    wrong="What one step takes from the logarithm goes with the square of the learning rate, and with the risk at that time. For how long is there a risk, and how does that time depend on the learning rate?",
)
def _(runs):
    slow, fast = (float(np.log(run.scale[-1] / run.scale[0])) for run in runs)
    return nearest(fast / slow, _FALLS), f"The logarithm of the scale falls by {-slow:.3f} with c = 1/4 and by {-fast:.3f} with c = 1/2, {fast / slow:.2f} times as much."
