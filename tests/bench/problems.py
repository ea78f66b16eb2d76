"""What every side of a benchmark trains: the same networks, from the same weights, on the same batches."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from descent import Task, models, sweep
from descent.seeding import generator


#: cores that this process may use
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Problem:
    """One network for each seed, trained with stochastic gradient descent.

    Attributes:
        batch_size: examples per step; None takes all of them.
        seeds: decide the initial weights and the order of the examples.
    """

    task: Task
    batch_size: int | None
    steps: int
    lr: float
    seeds: Sequence[int]
    init_scale: float = 1.0

    def some(self, count: int) -> Problem:
        """The same with `count` of the networks, for sides whose time is proportional to their number."""
        return replace(self, seeds=self.seeds[:count])

    @cached_property
    def examples(self) -> tuple[Tensor, Tensor]:
        """Inputs (n, *features) and labels (n,) or targets (n, outputs)."""
        part = self.task.part("train")
        return part.x.movedim(-1, 0).contiguous(), part.y.movedim(-1, 0).contiguous()

    def weights(self, seeds: Sequence[int] | None = None) -> Tensor:
        """Initial weights, one flat row per network (K, P)."""
        return torch.stack([_weights(self.task, self.init_scale, seed) for seed in seeds or self.seeds])

    def batches(self, seed: int) -> Tensor | list[slice]:
        """The examples of each step (steps, batch), the engine's "shuffle": a new order every epoch."""
        if self.batch_size is None:
            return [slice(None)] * self.steps
        return _batches(len(self.task.data), self.batch_size, self.steps, seed)

    @property
    def loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """The mean loss of one network as its own users write it, from outputs (n, outputs)."""
        if self.task.loss == "cross_entropy":
            return F.cross_entropy
        return lambda outputs, y: (outputs - y).square().sum(1).mean() / 2


# Kept from the round that does not count: the peers get their random numbers for nothing, whatever they are trained with.


@cache
def _weights(task: Task, init_scale: float, seed: int) -> Tensor:
    return task.flatten(task.model.init(generator(seed, "init"), init_scale), 0)


@cache
def _batches(n: int, size: int, steps: int, seed: int) -> Tensor:
    stream, epochs = generator(seed, "batches"), -(-steps // (n // size))
    order = [stream.permutation(n)[: n - n % size].view(-1, size) for _ in range(epochs)]
    return torch.cat(order)[:steps]


class Diagonal(nn.Module):
    """x . (u^2 - v^2)"""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.u, self.v = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x @ (self.u.square() - self.v.square())[:, None]


def module(task: Task) -> nn.Module:
    """The task's model as an `nn.Module`, its parameters in the order of the flat vector."""
    model = task.model
    if isinstance(model, models.DiagonalLinear):
        return Diagonal(model.dim)
    if isinstance(model, models.CNN):
        layers, channels = [], [model.input_shape[0], *model.channels]
        for before, after in itertools.pairwise(channels):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(task.layout["W"][1], model.outputs))
    layers = []
    for before, after in itertools.pairwise(model.widths):
        layers += [nn.Linear(before, after, bias=model.bias), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def ours(problem: Problem, device: str = "cpu", autograd: bool = False) -> Tensor:
    """Final training losses (K,) of the networks, trained together."""
    p = problem
    ds = sweep(p.task, lr=p.lr, batch_size=p.batch_size, init_scale=p.init_scale, seed=list(p.seeds), steps=p.steps,
               record_every=[p.steps], device=device, autograd=autograd, cache=False)  # fmt: skip
    return torch.tensor(ds.loss.values.ravel())
