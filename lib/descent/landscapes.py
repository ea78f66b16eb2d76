"""Small losses whose whole landscape is known, as tasks.

Their data are noise: each example's loss differs from the landscape by a term of mean
zero over the data, so that the average is the bare landscape, and drawing batches with
replacement gives gradient noise of exactly known variance.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from descent import data
from descent.models import Function, Quadratic
from descent.task import Task


def _start(start: float | Sequence[float] | None, dim: int) -> tuple[float, ...] | None:
    return start if start is None else (float(start),) * dim if isinstance(start, int | float) else tuple(start)


def _noise(noise: float, dim: int, examples: int, seed: int) -> data.Data:
    return data.tilts(examples, noise, dim=dim, seed=seed) if noise else data.nothing(dim)


def bowl(
    curvatures: Sequence[float], start: float | Sequence[float] | None = 1.0, noise: float = 0.0, examples: int = 1024, seed: int = 0
) -> Task:
    """sum_i curvatures_i w_i^2 / 2.

    Args:
        start: initial weights before scaling, one number for all axes or one for each; None draws
            standard normals.
        noise: standard deviation of one example's gradient along each axis.
        examples, seed: how many examples, and what they are drawn with.
    """
    dim = len(curvatures)
    return Task(Quadratic(tuple(curvatures), _start(start, dim)), _noise(noise, dim, examples, seed), "output", "bowl")


def kink(dim: int = 1, start: float | Sequence[float] | None = None, noise: float = 0.0, examples: int = 1024, seed: int = 0) -> Task:
    """|w_1| + ... + |w_dim|: convex, with a sharp minimum at which no gradient is small. Arguments as of `bowl`."""
    model = Function(lambda w, x: (w.abs() - x * w).sum(-2), dim, _start(start, dim))
    return Task(model, _noise(noise, dim, examples, seed), "output", "kink")


def quartic(start: float = 1.0) -> Task:
    """w^4 / 4: smooth and convex, without curvature at its minimum."""
    return Task(Function(lambda w, x: (w**4 / 4 - x * w).sum(-2), 1, (start,)), data.nothing(1), "output", "quartic")


def ripples() -> Task:
    """w^2 + 3 sin(w)^2 from a standard normal start: not convex, but it satisfies the Polyak-Lojasiewicz
    inequality; its curvature lies between -4 and 8 (Karimi, Nutini & Schmidt 2016)."""
    return Task(Function(lambda w, x: (w**2 + 3 * torch.sin(w) ** 2 - x * w).sum(-2), 1), data.nothing(1), "output", "ripples")


def hyperbola(start: Sequence[float], noise: float = 0.0, examples: int = 1024, seed: int = 0) -> Task:
    """(w_1 w_2 - 1)^2 / 2: a curve of minima, with curvature w_1^2 + w_2^2 across it.

    Args:
        noise: one example's loss is the landscape times 1 + xi, with xi of mean zero and this
            standard deviation: noise that vanishes with the loss.
    """

    def f(w: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return (w[..., 0, :] * w[..., 1, :] - 1) ** 2 / 2 * (1 + x[..., 0, :])

    return Task(Function(f, 2, tuple(start), features=1), _noise(noise, 1, examples, seed), "output", "hyperbola")


def crooked() -> Task:
    """| |w_1| - 1 | + | w_2 - |w_1| |: neither smooth nor convex, with two minima."""

    def f(w: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        across = w[..., 0, :].abs()
        return (across - 1).abs() + (w[..., 1, :] - across).abs() + 0 * x[..., 0, :]

    return Task(Function(f, 2, features=1), data.nothing(1), "output", "crooked")
