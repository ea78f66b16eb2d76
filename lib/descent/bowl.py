"""Closed forms for training on the quadratic bowl L(w) = sum_i eigenvalues_i w_i^2 / 2.

The gradient of a batch of B independent examples is the true one plus noise of variance
deviations_i^2 / B along axis i, as in `models.Quadratic` with `data.tilts` and
`sampling="replacement"`. All axes are independent of each other.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def expected_loss(
    step: ArrayLike,
    eigenvalues: ArrayLike,
    start: ArrayLike,
    lr: float,
    momentum: float = 0.0,
    deviations: ArrayLike = 0.0,
    batch_size: int = 1,
) -> np.ndarray:
    """Expected loss of (stochastic) gradient descent with heavy-ball momentum at the given steps.

    One step maps (w, v) linearly to (w - lr v', v') with v' = momentum v + gradient, so the
    second moments obey S' = M S M^T + N exactly; they are iterated here.

    Args:
        step: numbers of updates, shape (n,), integers of at least 0.
        eigenvalues, start, deviations: one per axis, or a number for all.

    Returns:
        Expected losses (n,), infinite where they exceed the range of floating point.

    Raises:
        ValueError: a step is negative.
    """
    step = np.asarray(step, dtype=int)
    if step.size and step.min() < 0:
        raise ValueError(f"expected_loss: step={step.min()} must be at least 0")
    curvature, w, sigma = np.broadcast_arrays(*(np.atleast_1d(np.asarray(v, float)) for v in (eigenvalues, start, deviations)))
    one = np.ones_like(curvature)
    move = np.array([[1 - lr * curvature, -lr * momentum * one], [curvature, momentum * one]]).transpose(2, 0, 1)
    noise = (sigma**2 / batch_size)[:, None, None] * np.array([[lr**2, -lr], [-lr, 1.0]])
    moments = np.zeros_like(move)
    moments[:, 0, 0] = w**2
    losses = np.empty(max(step.max(initial=0), 0) + 1)
    with np.errstate(over="ignore", invalid="ignore"):
        for t in range(len(losses)):
            losses[t] = (curvature * moments[:, 0, 0]).sum() / 2
            moments = move @ moments @ move.transpose(0, 2, 1) + noise
    return np.where(np.isnan(losses), np.inf, losses)[step]


def rate(eigenvalues: ArrayLike, lr: ArrayLike, momentum: float = 0.0) -> np.ndarray:
    """Factor by which the distance to the minimum shrinks per step in the long run, without noise.

    The largest absolute root of z^2 - (1 + momentum - lr eigenvalue) z + momentum over the
    eigenvalues (Polyak 1964); without momentum, max |1 - lr eigenvalue|. Shape of `lr`.
    """
    trace = 1 + momentum - np.asarray(lr, float)[..., None] * np.asarray(eigenvalues, float)
    gap = np.sqrt(trace.astype(complex) ** 2 - 4 * momentum)
    return np.maximum(np.abs(trace + gap), np.abs(trace - gap)).max(-1) / 2
