"""Gradient noise: per-example gradients, their covariance, and the gradient noise scale.

Sigma is the covariance of the gradient of one example drawn uniformly from the n training
examples, divided by n, not n - 1. The gradient of a minibatch of b examples drawn with
replacement has covariance Sigma / b; drawn without, Sigma / b (n - b) / (n - 1).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.func import grad, vmap

from descent import models
from descent.backprop import Gradients
from descent.probes import Probe, register
from descent.probes.curvature import data_part
from descent.task import Part, Task

#: bytes of per-example gradients held at a time
CHUNK = 64e6


def example_by_example(task: Task) -> None:
    """Make sure that examples can be differentiated one by one.

    Raises:
        ValueError: a model whose output on an example depends on the other examples.
    """
    if getattr(task.model, "batch_norm", isinstance(task.model, models.ResNet9)):
        raise ValueError(f"{type(task.model).__name__} with batch normalization has no gradient of a single example")


def example_gradients(task: Task, w: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Gradient of each example's loss in each network, (K, n, P).

    Args:
        x, y: inputs (*features, n) and targets, in the layout of `Part`.

    Raises:
        ValueError: the model normalizes over the batch.
    """
    return torch.cat(list(_chunks(task, w, x, y)), dim=1)


def _chunks(task: Task, w: Tensor, x: Tensor, y: Tensor) -> Iterator[Tensor]:
    """Per-example gradients (K, c, P) of successive chunks of examples."""
    example_by_example(task)

    def loss(w: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return task.losses(task.unflatten(w), x.unsqueeze(-1), y.unsqueeze(-1)).sum()

    each = vmap(grad(loss), in_dims=(None, -1, -1), out_dims=1)
    size = max(1, int(CHUNK / (w.numel() * w.element_size())))
    for a, b in zip(x.split(size, -1), y.split(size, -1)):
        yield each(w.detach(), a, b)


def covariance(task: Task, w: Tensor, part: str | Part = "train") -> Tensor:
    """The whole Sigma of each network, (K, P, P), for small P."""
    data = data_part(task, w, part)
    mean = task.losses_and_gradients(w, data.x, data.y)[1][:, None]
    return sum((g - mean).mT @ (g - mean) for g in _chunks(task, w, data.x, data.y)) / len(data)


def noise_trace(task: Task, w: Tensor, part: str | Part = "train") -> Tensor:
    """tr Sigma of each network, (K,), without keeping the per-example gradients.

    Raises:
        ValueError: the model normalizes over the batch.
    """
    return _trace_and_gradient(task, w, data_part(task, w, part))[0]


def noise_scale(task: Task, w: Tensor, part: str | Part = "train") -> Tensor:
    """B_simple = tr Sigma / |g|^2 of each network, (K,), in examples, g the gradient on all of
    the part (McCandlish et al. 2018, "An empirical model of large-batch training", eq. 2.9)."""
    variance, gradient = _trace_and_gradient(task, w, data_part(task, w, part))
    return variance / gradient.square().sum(1)


def _trace_and_gradient(task: Task, w: Tensor, data: Part) -> tuple[Tensor, Tensor]:
    gradients = Gradients(task)
    if isinstance(task.model, models.MLP) and gradients.twice:
        gradient = gradients(w.detach(), data.x, data.y)[1]
        return _of_mlp(gradients, len(data)), gradient
    gradient = task.losses_and_gradients(w, data.x, data.y)[1]
    squares = sum((g - gradient[:, None]).square().sum((1, 2)) for g in _chunks(task, w, data.x, data.y))
    return squares / len(data), gradient


def _of_mlp(gradients: Gradients, n: int) -> Tensor:
    """tr Sigma (K,) from the two passes of the mean gradient.

    The gradient of example i in a layer's weights is the outer product d_i a_i^T of its gradient in the layer's output
    and the layer's input, and has squared norm |d_i|^2 |a_i|^2 (Goodfellow 2015, "Efficient per-example gradient computations").
    The variance is taken around the outer product of the means, d a^T, because the mean of the squares less
    the square of the mean has no digits left where examples are alike:
    |d_i a_i^T - d a^T|^2 = |d|^2 |a_i - a|^2 + |d_i - d|^2 |a_i|^2 + 2 d . (d_i - d) a_i . (a_i - a).
    """
    family, total = gradients.family, 0.0
    inputs, _, deltas, _ = family.passes()
    for i, (factor, a, delta) in enumerate(zip(family.factors, inputs, deltas)):
        delta = n * delta  # they are those of the mean over n
        a_mean, d_mean = a.mean(-1, keepdim=True), delta.mean(-1, keepdim=True)
        a_off, d_off = a - a_mean, delta - d_mean
        along = d_mean.square().sum(-2) * a_off.square().sum(-2) + d_off.square().sum(-2) * a.square().sum(-2)
        across = 2 * (d_mean * d_off).sum(-2) * (a * a_off).sum(-2)
        off = gradients.parts[f"W{i}"] / factor - d_mean @ a_mean.mT  # the mean gradient from that point
        total = total + factor**2 * ((along + across).mean(-1) - off.square().sum((1, 2)))
        if family.model.bias:
            total = total + d_off.square().sum(-2).mean(-1)
    return total.clamp(min=0)


register(Probe("noise_trace", lambda n: noise_trace(n.task, n.w, n.parts["train"])))
register(Probe("noise_scale", lambda n: noise_scale(n.task, n.w, n.parts["train"])))
