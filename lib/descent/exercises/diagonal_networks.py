"""Exercises of the chapter "diagonal-networks"."""

from __future__ import annotations

import math

from descent import data, highdim, theory
from descent.exercises import choice, compare, exercise, number

choice(
    "diagonal-networks/1",
    options=("uv stays the same", "uv shrinks", "uv grows", "it depends on the sign of the gradient"),
    digest="c313ea2915a9000664e625dba275295b45a2eaa2738dbec26151d7848d46d2c8",
    right="The first-order terms of the two factors cancel, the second-order one cannot, and it has a fixed sign.",
    wrong="Write down the factor by which the step multiplies u and that for v, and multiply them out.",
)


@exercise("diagonal-networks/2")
def _(answer):
    return compare(
        number(answer, "an effective scale"),
        0.1 * math.exp(-2 * 0.02**2 * 0.5**2 * 10_000),
        rel=0.03,
        mistakes={
            0.1 * math.exp(-4 * 0.02**2 * 0.5**2 * 10_000): "This is how much the product uv has shrunk. The scale is its square root.",
            0.1 * math.exp(-2 * 0.02**2 * 0.5 * 10_000): "The identity asks for the mean square of the gradient. You used the standard deviation of the noise as if it were its variance.",
            0.1 * math.exp(-4 * 0.02**2 * 10_000 * 0.5): "Check the factor: one half of the logarithm of 1 − 4η²g².",
        },
        right="And nothing stops it: twice the steps, and it is squared again.",
    )


@exercise("diagonal-networks/3")
def _(answer):
    d = data.sparse_regression(40, 100, 5, seed=3)
    x, y = d.x.double().numpy(), d.y.double().numpy()
    right = abs(theory.min_hyperbolic_entropy(x, y, 0.05)).sum()
    return compare(
        number(answer, "an ℓ₁ norm"),
        float(right),
        rel=0.005,
        mistakes={
            float(abs(theory.min_l1(x, y)).sum()): "This is the limit of a vanishing init scale. At 0.05 the logarithm is not that large yet.",
            float(abs(theory.min_l2(x, y)).sum()): "This is what a large init scale finds.",
        },
        right="A network trained with small full-batch steps agrees to about three digits.",
        wrong="Is the run long enough, and its step small enough? Compare with theory.min_hyperbolic_entropy. The data set has seed 3.",
    )


choice(
    "diagonal-networks/4",
    options=("it ends closer to the truth", "it ends farther from the truth", "it ends at the same place", "it diverges"),
    digest="b5bea4600589f9a3ef8d550f5eeef80c3528cdd0c71bdae897c2e4bfe5eb98cc",
    right="Large full-batch steps shrink the scale where the gradient is large, and that is where the truth is.",
    wrong="Which coordinates have the largest full-batch gradient at the start? What does the entropy make of a coordinate whose scale has shrunk more than the others'?",
)


@exercise("diagonal-networks/5")
def _(answer):
    return compare(
        number(answer, "a rate"),
        highdim.late_rate(0.5, 0.2, 0.1),
        rel=0.02,
        mistakes={
            8 * 0.5 * 2 * 0.2**2: "This is the rate without gradient noise. The noise feeds back into the zeros and slows them down.",
            8 * 0.5 * math.sqrt(1 + 4 * 0.2**4): "This is how fast the coefficients that are one converge. Which ones does one wait for?",
        },
        right="The zeros are slow because their speed is the square of the scale.",
    )
