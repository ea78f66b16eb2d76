"""Exercises of the chapter "signal-propagation"."""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq

from descent import chaos, theory
from descent.exercises import compare, exercise, nearest, number, predict, wrong


@predict(
    "signal-propagation/1",
    options=("1/2", "1/128", "1/256", "1/512"),
    right="Without biases a ReLU network is homogeneous, so this holds exactly and not just on average.",
    wrong="Which matrices does the gradient pass on its way from the output to the first one, and which ones has the signal passed that it meets there? Does the derivative in a matrix contain that matrix?",
)
def _(run):
    size = run.layer_gradient_size.isel(step=0, layer=0).mean("seed")
    full, half = (float(size.sel(init_scale=scale)) for scale in (1.0, 0.5))
    shown = nearest(half / full, {"1/2": 1 / 2, "1/128": 1 / 128, "1/256": 1 / 256, "1/512": 1 / 512})
    return shown, f"The root mean square of the gradient is {full:.3g} before and {half:.3g} after, a ratio of 1 to {full / half:.5g}."


@exercise("signal-propagation/2")
def _(answer):
    factor, alpha = number(answer, "a factor per layer"), 2.5
    chi = float(theory.susceptibility(theory.variance_fixed_point(alpha), alpha))
    return compare(
        factor,
        chi,
        rel=0.02,  # twelve layers of 100 units: over six draws the fitted factor scatters by one percent
        mistakes={
            chi**0.5: "This is the factor of the root mean square, which the sweep records. The question asks for the mean square.",
            1 / chi: "You go forward, from the input to the output. The gradient goes back.",
            chi**-0.5: "You go forward, from the input to the output, and with the root mean square.",
            alpha**2: "You counted the weights alone. Every unit that the gradient passes multiplies it by the slope of its activation.",
            float(theory.susceptibility(1.0, alpha)): "You took the slopes at units of variance one. Which variance do deep layers have?",
            float(np.log(chi)): "This is the logarithm of the factor.",
        },
        neighbours={
            float(theory.susceptibility(alpha**2, alpha)): "the variance of units that are all saturated",
            float(theory.susceptibility(theory.variance_fixed_point(alpha) / alpha**2, alpha)): "the variance of the activations in the place of that of what they are applied to",
        },
        wrong="Plot the logarithm against the matrix: over which of them is it a line, do you fit those alone, and is it the square that you fit? In theory: at which variance do you take the slopes?",
        right="One number per layer: it depends on the variance that deep layers settle at, and on nothing else. Differences between inputs grow by the same factor on their way forth.",
    )


@exercise("signal-propagation/3")
def _(answer):
    alpha, bias = number(answer, "an init scale"), 0.5
    edge = _edge(lambda scale: theory.variance_fixed_point(scale, bias), bias)
    return compare(
        alpha,
        edge,
        abs=0.01,
        mistakes={
            _edge(lambda scale: 1.0, bias): "You held the variance at one. It has a fixed point of its own, for every init scale another.",
            edge**2: "This is the square of an init scale, the variance of the weights in units of 1/N.",
        },
        unearned={1.0: "That is the edge without biases. With them the variance of deep layers is no longer zero there, and slopes fall as the variance grows."},
        neighbours={
            _edge(lambda scale: theory.variance_fixed_point(scale, bias**2), bias): "the variance of the biases in the place of their deviation",
            _edge(lambda scale: theory.variance_fixed_point(1.0, bias), bias): "the variance that deep layers have at the edge without biases",
            _edge(lambda scale: scale**2 + bias**2, bias): "the variance of units that are all saturated",
        },
        wrong="What is the susceptibility at your init scale, and at which variance did you take it? Is that variance where deep layers settle for this init scale?",
        right="Biases saturate the units, and it takes larger weights to make up for the smaller slopes.",
    )


def _edge(variance, bias):
    """The init scale at which the susceptibility is one, for layers of this variance."""
    return float(brentq(lambda scale: float(theory.susceptibility(variance(scale), scale, bias)) - 1, 1.0, 4.0))


@exercise("signal-propagation/4")
def _(answer):
    weight, bias = 2.0, 0.3
    q = theory.variance_fixed_point(weight, bias)
    path = [0.7]
    for _ in range(120):
        path.append(float(theory.correlation_map(path[-1], q, weight, bias)))
    early = -10 / float(np.log((path[10] - path[-1]) / (path[0] - path[-1])))
    of_variance, of_correlation = (float(scale) for scale in theory.depth_scales(weight, bias))
    return compare(
        number(answer, "a number of layers"),
        of_correlation,
        rel=0.06,  # a reader who counts layers has a whole number
        mistakes={
            float(1 / np.log(theory.susceptibility(q, weight, bias))): "You took the slope of the map at c = 1, which repels here. Where do the correlations go?",
            of_variance: "This is how fast the variance settles. The question is about the correlation of two inputs.",
            of_correlation * float(np.log(10)): "In so many layers the distance falls by a factor of ten.",
            of_correlation * float(np.log(2)): "In so many layers the distance falls by a factor of two.",
            1 / of_correlation: "This is a rate per layer. The question asks for a number of layers.",
        },
        neighbours={early: "the first ten layers, before the approach is exponential", 2 * of_correlation: "the square of the distance"},
        wrong="Plot the logarithm of the distance from the limit: over which layers is it a line, and by how much does it fall in one of them?",
        right="A network of this init scale knows little about its inputs after a few times as many layers.",
    )


@predict(
    "signal-propagation/5",
    options=("it is multiplied up to norm 1", "nothing changes", "it is set to zero", "its direction changes and its norm stays"),
    right="Clipping is a bound from above. It protects from cliffs, and does nothing for memory.",
    wrong="Put the norm of this gradient into the formula of the chapter. Which of the two arguments of the minimum is smaller?",
)
def _(run):
    steps = run.weights.diff("step").isel(step=0, seed=0)
    clipped, free = (steps.sel(clip=norm).values for norm in (1.0, np.inf))
    long, short = np.linalg.norm(clipped), np.linalg.norm(free)
    if long < 0.01 * short:
        shown = "it is set to zero"
    elif long > 2 * short:
        shown = "it is multiplied up to norm 1"
    else:
        shown = "nothing changes" if clipped @ free > 0.999 * long * short else "its direction changes and its norm stays"
    gradient = float(run.gradient_norm.sel(clip=np.inf).isel(step=0, seed=0))
    return shown, f"The gradient has norm {gradient:.2g}; the first step is {long:.2g} long with clipping and {short:.2g} without, at a cosine of {clipped @ free / (long * short or 1):.3f}."


@exercise("signal-propagation/6")
def _(answer):
    given = number(answer, "an exponent per step")
    states, logarithms = chaos.logistic(np.linspace(0.1, 0.9, 400), 3.8, 500)
    exponent = float((logarithms[500] - logarithms[100]).mean() / 400)
    if given > 20 * exponent:
        return wrong("Is this the growth of the whole computation? The exponent is the growth of one step.")
    mean_slope = float(np.abs(3.8 * (1 - 2 * states[100:])).mean())
    return compare(
        given,
        exponent,
        abs=0.015,
        mistakes={
            float(np.log(2)): "This is the exponent at r = 4, where everything can be solved.",
            float(np.exp(exponent)): "This is the factor per step. The exponent is its logarithm.",
            float(np.log(mean_slope)): "You averaged the derivatives and then took the logarithm. Along an orbit derivatives multiply: what is added up?",
            exponent / float(np.log(2)): "You took logarithms to the base 2.",
        },
        neighbours={
            float(np.log(np.exp(logarithms[100]).mean())) / 100: "the logarithm of the mean growth of a hundred steps",
            float(logarithms[10].mean()) / 10: "the first ten steps, before the orbits have spread",
            float(np.log(np.abs(3.8 * (1 - 2 * states[100:].mean())))): "the slope at the mean state",
        },
        wrong="Does your number still change with ten times as many steps, or with other starts? Which of the two do you divide by?",
        right="Chaotic, but less so than at r = 4: the typical start is stretched by less than two per step.",
    )
