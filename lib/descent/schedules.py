"""Learning-rate schedules: pure functions `(step, steps) -> factor` on the base learning rate.

Each constructor returns a `Schedule`, which a sweep can vary like any other hyperparameter.
`steps` is the length of the run and `step` counts from 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """A named factor on the learning rate.

    Attributes:
        name: how the schedule is labelled in a Dataset and on a control.
        factor: `(step, steps) -> float`, non-negative.
    """

    name: str
    factor: Callable[[int, int], float]

    def __call__(self, step: int, steps: int) -> float:
        """The factor at a step.

        Raises:
            ValueError: the factor divides by zero there, or overflows.
        """
        try:
            return self.factor(step, steps)
        except ArithmeticError as error:
            raise ValueError(f"schedule {self.name!r} has no factor at step {step} of {steps}: {error}") from error

    def __mul__(self, other: Schedule) -> Schedule:
        """Both factors multiplied, for instance `warmup(100) * cosine()`."""
        return Schedule(f"{self.name} · {other.name}", lambda step, steps: self(step, steps) * other(step, steps))


def _fraction(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f"{name}={value!r} must lie between 0 and 1")
    return value


def _length(name: str, value: float) -> float:
    if not 1 <= value < math.inf:
        raise ValueError(f"{name}={value!r} must be a positive number of steps")
    return value


def constant() -> Schedule:
    """The base learning rate throughout."""
    return Schedule("constant", lambda step, steps: 1.0)


def step_decay(every: int, factor: float = 0.1) -> Schedule:
    """Multiply by `factor` after each `every` steps."""
    _length("every", every)
    _fraction("factor", factor)
    return Schedule(f"×{factor:g} every {every}", lambda step, steps: factor ** (step // every))


def linear(final: float = 0.0) -> Schedule:
    """A straight line from 1 at step 0 to `final` at step `steps`."""
    _fraction("final", final)
    return Schedule("linear", lambda step, steps: 1 + (final - 1) * step / steps)


def cosine(final: float = 0.0) -> Schedule:
    """Half a cosine from 1 at step 0 to `final` at step `steps` (Loshchilov & Hutter 2017, eq. 5)."""
    _fraction("final", final)
    return Schedule("cosine", lambda step, steps: final + (1 - final) * (1 + math.cos(math.pi * step / steps)) / 2)


def warmup(length: int) -> Schedule:
    """Rise linearly to 1 over `length` steps, (step + 1) / length, and stay there."""
    _length("length", length)
    return Schedule(f"warm-up {length}", lambda step, steps: min(1.0, (step + 1) / length))


def one_cycle(peak: float = 0.3, start: float = 0.04, final: float = 4e-6) -> Schedule:
    """Cosine from `start` up to 1 at the fraction `peak` of the run, then down to `final`.

    Smith & Topin 2018, with the cosine legs and default factors of `torch.optim`'s OneCycleLR. A run so short that
    nothing is left of a leg does without it: where `peak` falls into the first step, that step is the top.
    """
    for name, value in (("peak", peak), ("start", start), ("final", final)):
        _fraction(name, value)

    def factor(step: int, steps: int) -> float:
        top = max(peak * steps - 1, 0.0)
        if step <= top:  # a leg narrower than rounding has no width
            low, position = start, 1 - step / top if top > 1e-9 else 0.0
        else:
            low, position = final, (step - top) / (steps - 1 - top) if steps - 1 - top > 1e-9 else 1.0
        return low + (1 - low) * (1 + math.cos(math.pi * min(position, 1.0))) / 2

    return Schedule("one-cycle", factor)
