"""Exercises of the chapter "mean-field"."""

from __future__ import annotations

import numpy as np

from descent import meanfield as mf
from descent.exercises import PART, NotAnAnswer, compare, exercise, nearest, number, predict, right, wrong


@predict(
    "mean-field/1",
    options=("the same path, at half the speed", "the same path, at the same speed", "the same path, at twice the speed", "another path"),
    right="Each neuron's gradient carries the factor 1/N, so at a fixed learning rate time runs at a rate of one over the width.",
    wrong="How does the gradient with respect to one neuron depend on N? And which combination of learning rate and width is the time of the limit?",
)
def _(run):
    narrow, wide = run[500], run[1000]
    speeds = {0.5: "the same path, at half the speed", 1.0: "the same path, at the same speed", 2.0: "the same path, at twice the speed"}
    late = float(narrow.step[-1])

    def distance(speed):  # of the logarithms of the two losses, where the other run has them
        steps = wide.step.values[(wide.step > 0) & (wide.step * speed <= late)]
        return float(np.abs(np.log(wide.sel(step=steps).values / np.interp(steps * speed, narrow.step, narrow))).mean())

    apart = {speed: distance(speed) for speed in speeds}
    best = min(apart, key=apart.get)
    numbers = ", ".join(f"{np.exp(found):.2f}" for found in apart.values())
    return speeds[best] if apart[best] < 0.2 else "another path", f"If the narrower network is played at half, once and twice its speed, the losses of the two differ by factors of {numbers} (geometric means over the run)."


@exercise("mean-field/2")
def _(answer):
    if not hasattr(answer, "__len__") or isinstance(answer, str) or len(answer) != 3:
        raise NotAnAnswer("The answer is three numbers: (lr, l2, temperature).")
    given = np.array([number(value, "three numbers, (lr, l2, temperature), each of them") for value in answer])
    before, times = np.array([100, 1e-4, 5e-7]), 800 / 200
    close = lambda factors: np.allclose(given, before * np.array(factors), rtol=0.01, atol=0)
    if close([times, 1 / times, 1 / times]):
        return right("The width multiplies one of them and divides the other two.")
    mistakes = {
        (times, 1, 1): "The learning rate is right. But sweep adds the gradient of the penalty and the noise to every weight as they are, without a factor 1/N: what becomes of them, relative to the gradient?",
        (times, 1 / times, 1): "The noise is too strong: how does its size in a step of sweep depend on the learning rate that you have changed?",
        (times, 1, 1 / times): "The penalty is too strong: its gradient carries no factor 1/N.",
        (times, 1 / times, times**-0.5): "You treat the temperature as a size. It is a variance: which of the two does the noise's factor contain?",
        (times, 1 / times, times**-2): "The temperature already stands under the root together with the learning rate.",
        (times, times, times): "Everything grows with the width? Write down what one neuron feels: which terms carry a factor 1/N, and which do not?",
        (1 / times, times, times): "You have it upside down. Does the gradient that a neuron feels grow or shrink with the width?",
    }
    if close([1, 1, 1]):
        return wrong("With these the wide network follows another path. Which factor does the gradient of the error carry?")
    for factors, message in mistakes.items():
        if close(factors):
            return wrong(message, PART)
    names = ", ".join(np.array(["lr", "l2", "temperature"])[np.abs(given / (before * [times, 1 / times, 1 / times]) - 1) > 0.01])
    return wrong(f"Not right: {names}. Compare the step of one neuron with the step that the sweep takes, term by term, for both widths.")


@predict(
    "mean-field/3",
    options=("is ten times smaller", "is about three times smaller", "is hardly smaller", "is about three times larger"),
    right="All neurons see the same example and are pushed by it together; an error that they share does not average out over them.",
    wrong="An average over N neurons gets rid of what is independent between them. Is the error of a single example?",
)
def _(run):
    ratio = run[100] / run[1000]
    factors = {"is ten times smaller": 10, "is about three times smaller": 10**0.5, "is hardly smaller": 1, "is about three times larger": 10**-0.5}
    return nearest(ratio, factors), f"The distance is {run[100]:.4f} with 100 neurons and {run[1000]:.4f} with 1000."


@exercise("mean-field/4")
def _(answer):
    points = 20
    return compare(
        number(answer, "a number of gates"),
        2 * points,
        abs=0.5,
        mistakes={
            2 * points - 1: "One is missing. Do random vectors find the narrowest of them? Close the turn.",
            2.0**points: "That counts all subsets. Turn a line through the origin once around: how often does a point change sides?",
            points * (points - 1) / 2: "That counts pairs of points. The line goes through the origin.",
            points * (points - 1) + 2: "That is the number for lines anywhere in the plane. Without a bias they pass through the origin.",
        },
        unearned={points: "You counted the lines. A weight vector also has a sign: which examples does its opposite let through?"},
        neighbours={2 * points + 1: "the start of the turn counted twice", 2 * points - 2: "without the full and the empty gate", 2 * points + 2: "these two counted apart"},
        wrong="How many gates do you find with ten times as many vectors? And if one example is taken away, how many fewer?",
        right="A line through the origin changes its gate only when it passes a point, twice for each point in a full turn.",
    )


@exercise("mean-field/5")
def _(answer):
    given = number(answer, "a value of f")
    length, target, penalty = 2.5, 3.0, 0.6
    if abs(given - target) < 0.005:
        return wrong("So it would be without a penalty.")
    return compare(
        given,
        target - penalty / length,
        abs=0.005,
        mistakes={
            target - penalty: "The penalty is on the weights, and the input has a length: how much weight does one unit of output cost?",
            target - penalty / length**2: "You divided by the squared length. Write the objective in terms of c = f(x): what is the least norm of v with v . x = c?",
            target - penalty / (2 * length): "A factor of two: the error has a half in front, and the penalty is on both layers of a unit, which is cheapest when they are equally large.",
            target - 2 * penalty / length: "A factor of two: the penalty has a half in front.",
            target * length**2 / (length**2 + penalty): "That is ridge regression, where the penalty is the square of v. A unit has two layers: what does the least of its penalty look like as a function of v?",
        },
        neighbours={target - penalty * target / length**2: "ridge regression to first order", target - penalty**2: "the square of the penalty"},
        right="The soft threshold of the lasso: a constant is taken off, whatever the target.",
        wrong="What does the whole penalty come to if the network outputs c and no weight is wasted? Then it is a function of one variable: where is its minimum?",
    )


@predict(
    "mean-field/6",
    options=(
        "there are hardly any: the kinks have moved to the knots",
        "they have shrunk",
        "they are as large as before, and their slopes cancel",
        "they have grown",
    ),
    right="Neurons stay large only where the pull is one; everywhere else the penalty wins and shrinks them until the noise holds against it. Their kinks are still there, too faint to be seen.",
    wrong="Look at the potential of a neuron where the pull is less than one. Where is its minimum, and does it matter for it where the kink is?",
)
def _(run):
    weights, knots = run
    width = weights.shape[-1] // 3
    place = mf.kinks(weights, width)[0]
    near = np.abs(place[..., None] - knots).min(-1) < 0.05
    # (a, w, b) of a neuron stand at i, at i + width and behind it
    size = np.sqrt(weights[..., 2 * width :] ** 2 + (weights[..., : 2 * width].reshape(*weights.shape[:-1], width, 2) ** 2).sum(-1))
    first, last = (float(np.median(size[k][~near[k]])) if not near[k].all() else np.inf for k in (0, 1))
    if near[1].mean() > 0.8:
        shown = "there are hardly any: the kinks have moved to the knots"
    elif last < 0.5 * first:
        shown = "they have shrunk"
    else:
        shown = "they are as large as before, and their slopes cancel" if last < 1.5 * first else "they have grown"
    return shown, f"Near a knot lie {100 * near[0].mean():.0f} % of the kinks at the start and {100 * near[1].mean():.0f} % at the end; the median size of the other neurons is {first:.2f} at the start and {last:.2f} at the end."


@exercise("mean-field/7")
def _(answer):
    x = np.array([-1.0, -0.8, -0.5, -0.1, 0.2, 0.5, 0.8, 1.0])
    y = 1.5 * abs(x) - 0.8
    angles = np.linspace(0, 2 * np.pi, 10_001)
    units = np.maximum(np.multiply.outer(x, np.cos(angles)) + np.sin(angles), 0)
    pull = float(np.abs(y @ units).max() / len(x))
    return compare(
        number(answer, "a penalty"),
        pull,
        rel=0.0075,
        mistakes={
            len(x) * pull: "You summed over the examples. The loss is a mean.",
            2 * pull: "A factor of two: the error has a half in front, and the penalty is on both layers of a unit, which is cheapest when they are equally large.",
            pull / 2: "A factor of two: the penalty has a half in front.",
        },
        neighbours={
            float(max(abs(y @ np.maximum(x, 0)), abs(y @ np.maximum(-x, 0))) / len(x)): "neurons without a bias",
            float(abs(y.mean())): "the pull on a constant",
            float(np.abs(y @ units)[angles < np.pi / 2].max() / len(x)): "the best of the neurons that are active on the right",
        },
        wrong="With the network at zero, what are the residuals? How does the pull on a unit direction compare with the penalty, and is any direction pulled more than yours?",
        right="Below it there is one direction at least that the data pull more strongly than the penalty does, and the first neurons gather there.",
    )
