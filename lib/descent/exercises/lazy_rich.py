"""Exercises of the chapter "lazy-rich"."""

from __future__ import annotations

import math

from descent.exercises import choice, compare, exercise, number

choice(
    "lazy-rich/1",
    options=(
        "the same loss curve, and a tenth of the distance",
        "the same loss curve, and the same distance",
        "a ten times slower loss curve, and a tenth of the distance",
        "a ten times faster loss curve, and ten times the distance",
    ),
    digest="3849672bdbef7c7b26a3dc417c0824308af6ee9e067bfa7800a544209cb3ff58",
    right="The speed of the outputs does not depend on the scale any more; the weights have only a tenth of the way to go.",
    wrong="Write down the speed of the output and the speed of the weights separately. In which of them does the scale cancel?",
)


@exercise("lazy-rich/2")
def _(answer):
    return compare(
        number(answer, "a learning rate"),
        0.005,
        rel=1e-3,
        mistakes={
            0.02: "The weights of the first network are longer. A step of the same length moves them by a smaller fraction.",
            0.02 / 16: "You divided by the output scale. Write the weights as a factor times v: by how much does v move in one step?",
            0.01: "One factor is missing: the gradient in the weights is not the gradient in v either.",
            0.08: "The right factor, applied the other way: which of the two networks needs the smaller step?",
        },
        right="With the output scale that homogeneity asks for, both trainings are the same, step by step.",
    )


@exercise("lazy-rich/3")
def _(answer):
    return compare(
        number(answer, "a kernel at the start"),
        2 / math.sqrt(3),
        rel=0.01,
        mistakes={
            2.0: "At this kernel the ratio is the square root of two. The question asks for a doubling.",
            4 / 3: "That is the square of the answer, or close to it: the conserved quantity has a square in it.",
            2.0 * math.sqrt(3): "The kernel at the end is the larger one: which of the two is doubled?",
        },
        right="The crossover sits where the initial kernel is about as large as what the task demands.",
    )


@exercise("lazy-rich/4")
def _(answer):
    return compare(
        number(answer, "an exponent"),
        -1.0,
        abs=0.12,
        mistakes={
            1.0: "You have the right size. Does the distance grow or shrink with the scale?",
            -2.0: "This is the exponent of the kernel distance, one minus a cosine, which is quadratic in the change.",
        },
        right="The weights have a tenth of the way to go when the scale is ten times as large.",
    )


choice(
    "lazy-rich/5",
    options=("it stays about the same", "it doubles", "it halves", "it grows fourfold"),
    digest="3c89d50352bd897aa9cdc2df990471195561d304f63451ce44a08544b5367583",
    right="Noise enters through the temperature alone, and both factors leave it where it was.",
    wrong="Which combination of the learning rate and the batch size sets the strength of the noise?",
)


@exercise("lazy-rich/6")
def _(answer):
    return compare(
        number(answer, "a share"),
        4 / 100,
        rel=0.02,
        mistakes={
            (4 / 100) ** 0.5: "This is the length of the projection. The formula asks for its square.",
            1 / 100: "That is the share of a single random direction. How many are there?",
        },
        right="A random subspace holds a part of a fixed vector that is its share of the dimensions.",
    )
