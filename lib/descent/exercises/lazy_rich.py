"""Exercises of the chapter "lazy-rich"."""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from descent import Task, data, models, seeds, sweep
from descent.exercises import compare, exercise, nearest, number, predict
from descent.laziness import relative_distance


@predict(
    "lazy-rich/1",
    options=(
        "the same loss curve, and a tenth of the distance",
        "the same loss curve, and the same distance",
        "a ten times slower loss curve, and a tenth of the distance",
        "a ten times faster loss curve, and ten times the distance",
    ),
    right="The speed of the outputs does not depend on the scale any more; the weights have only a tenth of the way to go.",
    wrong="Write down the speed of the output and the speed of the weights separately. In which of them does the scale cancel?",
)
def _(run):
    loss, moved = run.loss.isel(seed=0), run.relative_distance.isel(seed=0, step=-1)
    fall = np.log(loss.isel(step=0) / loss.isel(step=1))  # over the first record: how fast the loss falls
    speed, way = float(fall[1] / fall[0]), float(moved[1] / moved[0])
    laws = {
        "the same loss curve, and a tenth of the distance": (1, 0.1),
        "the same loss curve, and the same distance": (1, 1),
        "a ten times slower loss curve, and a tenth of the distance": (0.1, 0.1),
        "a ten times faster loss curve, and ten times the distance": (10, 10),
    }
    shown = min(laws, key=lambda law: math.dist(np.log([max(speed, 1e-3), way]), np.log(laws[law])))
    end = loss.isel(step=-1).values
    numbers = f"At the larger scale the loss falls {speed:.2f} times as fast at first and ends at {end[1]:.3f} against {end[0]:.3f}; the weights move {way:.3f} times as far."
    return shown, numbers


@exercise("lazy-rich/2")
def _(answer):
    lr, scale, layers = 0.002, 2.0, 4
    return compare(
        number(answer, "a learning rate"),
        lr / scale**2,
        rel=0.01,
        unearned={lr: "The weights of the first network are longer. A step of the same length moves them by a smaller fraction."},
        neighbours={lr / scale**3: "one factor too many", lr / (layers - 1): "the number of hidden layers"},
        wrong="Write the weights as twice v. By which factors do the gradient in v and the step of v differ from those of the second network? The two loss curves tell whether you are right.",
        mistakes={
            lr / scale**layers: "You divided by the output scale. Write the weights as a factor times v: by how much does v move in one step?",
            lr / scale: "One factor is missing: the gradient in the weights is not the gradient in v either.",
            lr * scale**2: "The right factor, applied the other way: which of the two networks needs the smaller step?",
        },
        right="With the output scale that homogeneity asks for, both trainings are the same, step by step.",
    )


@exercise("lazy-rich/3")
def _(answer):
    kernel = math.sqrt(4 / (2**2 - 1))  # from (2 K)^2 - 4 = K^2
    return compare(
        number(answer, "a kernel at the start"),
        kernel,
        rel=0.01,
        mistakes={
            math.sqrt(2): "That is what the formula for large kernels gives. Is this one large against what the task demands?",
            2 * kernel: "This is the kernel at the end of such a run. With which one did it begin?",
            kernel / 2: "A factor is missing in the conserved quantity: compare the derivative of the kernel's square with that of the output's.",
        },
        unearned={2.0: "That is what the formula for small kernels gives. Is this one small against what the task demands?"},
        neighbours={4 / (2**2 - 1): "the square of the kernel", math.sqrt(4 / (2**2 + 1)): "the sum in the place of the difference", math.sqrt(4 / 2**2): "the kernel at the start left out"},
        wrong="Put your kernel into pair_flow: by which factor does it grow? On paper: which two squares differ by the same at the start and at the end?",
        right="The crossover sits where the initial kernel is about as large as what the task demands.",
    )


@cache
def _at_scale_ten():
    """The run that the exercise's first lines show, with what it has moved after one step, a hundred and all."""
    task = Task(models.LazyMLP((64, 64, 1), activation="tanh"), data.parity(data.digits(train=100), signs=True), loss="mse")
    return sweep(task, lr=0.02, init_scale=10.0, seed=seeds(1), steps=200, record=[relative_distance, "kernel_distance"], record_every=[1, 100, 200])


@exercise("lazy-rich/4")
def _(answer):
    run = _at_scale_ten()
    first, half, moved = (float(run.relative_distance.sel(step=n).squeeze()) for n in (1, 100, 200))
    turned, little = float(run.kernel_distance.sel(step=200).squeeze()), 2e-5
    return compare(
        number(answer, "an output scale"),
        10 * moved / little,
        rel=0.03,
        mistakes={
            10 * first / little: "So far the weights have moved after one step. How far have they at the end of the run?",
            10 * math.sqrt(turned / little): "This is where the kernel distance is so small. The question is for the distance of the weights.",
            10 * math.sqrt(moved / little): "Does the distance fall with the scale, or with its square? Measure the slope.",
            moved / little: "At which scale was the distance measured that you start from?",
        },
        neighbours={10 * half / little: "half of the run"},
        right="Ten times the scale, a tenth of the way: a law that holds over decades may be used beyond the last point, and here it holds.",
        wrong="Plot the three distances against the scale, on two logarithmic axes. What is the slope of the line, and where does it reach the distance asked for?",
    )


@exercise("lazy-rich/5")
def _(answer):
    rank, dim = 4, 20
    return compare(
        number(answer, "a share"),
        rank / dim,
        rel=0.1,  # the mean over a thousand matrices is known to 2 %
        mistakes={
            math.sqrt(rank / dim): "This is the length of the projection. The formula asks for its square.",
            1 / dim: "That is the share of one random direction, or of a matrix whose rows were not brought to unit length. How many directions are there?",
            1 - rank / dim: "This is the share that no row sees.",
        },
        unearned={float(rank): "A share lies between zero and one. By what does the formula divide?"},
        neighbours={rank / (dim - rank): "what the rows see over what they do not see", (rank - 1) / dim: "one direction fewer"},
        right="A random subspace holds a part of a fixed vector that is its share of the dimensions.",
        wrong="What does the formula give for a beta that lies along one of the rows? And what do the shares of all directions of a basis add up to?",
    )


@predict(
    "lazy-rich/6",
    options=("it stays about the same", "it doubles", "it halves", "it grows fourfold"),
    right="Noise enters through the temperature alone, and both factors leave it where it was.",
    wrong="Which combination of the learning rate and the batch size sets the strength of the noise?",
)
def _(runs):
    before, after, rate_alone = (float(run.weight_norm.isel(step=-1).median()) for run in runs)
    factors = {"it stays about the same": 1, "it doubles": 2, "it halves": 0.5, "it grows fourfold": 4}
    shown = nearest(after / before, factors)
    return shown, f"The median norm over {runs[0].sizes['seed']} runs is {before:.2f} before the change and {after:.2f} after it; with the learning rate alone doubled, {rate_alone:.2f}."


@predict(
    "lazy-rich/7",
    options=("a tenth of the change", "about the same change", "ten times the change", "training diverges"),
    right="Beyond 2/λ the initial kernel forbids rest. The output grows until it is of the order of the scale, and there the weights have moved by a finite amount, whatever the scale.",
    wrong="What does the linear model do at this learning rate, and how large must the output of the network become before its kernel changes?",
)
def _(run):
    change = run.kernel_change.isel(seed=0, step=-1)
    if not np.isfinite(change.isel(lr=1)).all():
        return "training diverges", "At the larger learning rate the weights left every bound."
    calm, fast = (float(change.isel(lr=i, init_scale=1) / change.isel(lr=i, init_scale=0)) for i in (0, 1))
    factors = {"a tenth of the change": 0.1, "about the same change": 1, "ten times the change": 10}
    shown = nearest(fast, factors)
    low, high = (float(change.isel(lr=1, init_scale=i)) for i in (0, 1))
    return shown, (
        f"Beyond the limit the kernel changes by {low:.2f} of its size at the smaller scale and by {high:.2f} at the larger one, a ratio of {fast:.2f}; "
        f"at half of the limit the ratio is {calm:.2f}."
    )
