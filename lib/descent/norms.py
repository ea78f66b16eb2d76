"""Euclidean norms whose squares neither overflow nor vanish, for the rows of a matrix.

The square of a float32 above 2e19 is infinite and that of one below 1e-19 is zero. Where squares
could leave the range, a row is divided by its largest entry first; everywhere else the results are
those of `Tensor.norm`, bit by bit. All of it can be traced.
"""

from __future__ import annotations

import torch
from torch import Tensor


def in_range(norms: Tensor, count: int) -> Tensor:
    """Whether norms of `count` numbers were computed from squares that neither overflowed nor lost a digit to zero."""
    info = torch.finfo(norms.dtype)
    return (norms > (count * info.tiny / info.eps) ** 0.5) & (norms < info.max**0.5)


def apart(v: Tensor) -> tuple[Tensor, Tensor]:
    """The largest entry of each row (K, 1) in magnitude, and the row divided by it, (K, n)."""
    info = torch.finfo(v.dtype)
    largest = v.abs().amax(-1, keepdim=True).clamp(info.tiny, info.max)
    return largest, v / largest


def norm(v: Tensor) -> Tensor:
    """The norm of each row of v (*net, n), (*net,)."""
    plain, (largest, unit) = v.norm(dim=-1), apart(v)
    return torch.where(in_range(plain, v.shape[-1]), plain, largest[..., 0] * unit.norm(dim=-1))


def clipped(v: Tensor, most: Tensor) -> Tensor:
    """Each row of v (K, n), rescaled to the norm `most` (K, 1) if it is longer."""
    plain, (largest, unit) = v.norm(dim=1, keepdim=True), apart(v)
    length = unit.norm(dim=1, keepdim=True)
    # the norm itself may be infinite where no entry is: what is rescaled are the entries over the largest
    far = torch.where(most / largest < length, unit * (most / length), v)
    return torch.where(in_range(plain, v.shape[1]), v * (most / plain).clamp(max=1.0), far)
