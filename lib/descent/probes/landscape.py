"""The loss along lines and planes through weight space."""

from __future__ import annotations

import torch
from torch import Tensor

from descent.probes.curvature import data_part
from descent.seeding import generator
from descent.task import Part, Task


def loss_slice(
    task: Task, w: Tensor, directions: Tensor, *at: Tensor, part: str | Part = "train"
) -> Tensor:
    """Loss on a grid around each network: L(w + sum_i a_i direction_i).

    Args:
        w: centres, (K, P).
        directions: (D, K, P), or (D, P) for the same ones in all networks.
        at: the D lists of coefficients.

    Returns:
        (K, len(at[0]), ..., len(at[D - 1])).

    Raises:
        ValueError: the number of directions is not that of the lists of coefficients.
    """
    if directions.ndim not in (2, 3) or len(directions) != len(at) or not at:
        raise ValueError(f"directions of shape {tuple(directions.shape)} need as many lists of coefficients; got {len(at)}")
    data = data_part(task, w, part)
    directions = directions.to(w).reshape(len(at), -1, w.shape[1])
    coefficients = torch.cartesian_prod(*(torch.as_tensor(a).to(w) for a in at)).reshape(-1, len(at))
    with torch.no_grad():
        losses = [
            task.losses(task.unflatten(w + torch.tensordot(c, directions, 1)), data.x, data.y) for c in coefficients
        ]
    return torch.stack(losses, 1).reshape(len(w), *(len(a) for a in at))


def random_directions(task: Task, w: Tensor, count: int = 2, filter_normalized: bool = True, seed: int = 0) -> Tensor:
    """Gaussian directions (count, K, P), the same draw for every network.

    Args:
        filter_normalized: give each filter (a row of a weight matrix, a kernel of a
            convolution) the norm of the network's own filter, and set biases and
            normalization parameters to zero (Li et al. 2018, section 4).

    Raises:
        ValueError: filter normalization of a model without weight matrices.
    """
    drawn = generator(seed, "probe").normal(count, 1, w.shape[1]).to(w).expand(count, *w.shape)
    if not filter_normalized:
        return drawn
    own, made = task.unflatten(w), {}
    if not any(name.startswith(("W", "C")) for name in own):
        raise ValueError(f"{type(task.model).__name__} has no weight matrices; use filter_normalized=False")
    for name, direction in task.unflatten(drawn.contiguous()).items():
        if name.startswith(("W", "C")):
            filters, weights = direction.flatten(3), own[name].flatten(2)
            lengths = weights.norm(dim=2, keepdim=True) / filters.norm(dim=3, keepdim=True)
            made[name] = filters * lengths
        else:
            made[name] = torch.zeros_like(direction)
    return task.flatten(made, 2)


def line(task: Task, a: Tensor, b: Tensor, points: int = 25, part: str | Part = "train") -> Tensor:
    """Losses (K, points) at equal distances on the straight line from networks a (K, P) to b (K, P)."""
    if points < 2 or a.shape != b.shape:
        raise ValueError(f"points={points} must be at least 2, and a, b of one shape, not {tuple(a.shape)}, {tuple(b.shape)}")
    data = data_part(task, a, part)
    with torch.no_grad():
        losses = [task.losses(task.unflatten(a.lerp(b, t)), data.x, data.y) for t in torch.linspace(0, 1, points).tolist()]
    return torch.stack(losses, 1)


def barrier(task: Task, a: Tensor, b: Tensor, points: int = 25, part: str | Part = "train") -> Tensor:
    """Loss barrier between networks a and b, (K,): the most by which the loss on the line
    exceeds the interpolation of the losses at its ends (Entezari et al. 2022, definition 2.2)."""
    losses = line(task, a, b, points, part)
    t = torch.linspace(0, 1, points).to(losses)
    return (losses - torch.lerp(losses[:, :1], losses[:, -1:], t)).amax(1)
