"""Training many small networks: the plain loop, its parallel forms, and JAX, against `sweep`."""

from __future__ import annotations

import itertools

import pytest
import torch

from bench import peers_jax, peers_torch
from bench.plugin import Peer
from bench.problems import Problem, ours
from descent import Task, data, models
from descent.seeding import generator

K = 576
DIGITS = data.digits(1000)


def sides(p: Problem, chunk: int, some: int, least: dict[str, float]) -> list[Peer]:
    """Every peer of `p`; the loops train `some` of its networks, or twice as many with joblib."""
    count = len(p.seeds)
    few, more = min(some, count), min(2 * some, count)
    return [
        Peer("loop", lambda: peers_torch.loop(p.some(few)), count / few, least.get("loop")),
        Peer("loop, joblib", lambda: peers_torch.processes(p.some(more)), count / more),
        Peer("torch.func", lambda: peers_torch.functional(p)),
        Peer("JAX, as usual", lambda: peers_jax.canonical(p), 1.0, least.get("JAX, as usual")),
        Peer("JAX, tuned", lambda: peers_jax.tuned(p, chunk), 1.0, least.get("JAX, tuned")),
    ]


def products(widths: tuple[int, ...], batch_size: int) -> float:
    """Floating-point operations of an MLP's matrix products in one step: forward, by weights, by inputs (not the first)."""
    layers = [n * m for n, m in itertools.pairwise(widths)]
    return 2 * batch_size * (3 * sum(layers) - layers[0])


@pytest.mark.parametrize("batch_size, target", [(64, 18), (8, 35)])
def bench_mlp(paired, size, batch_size, target):
    model = models.MLP((64, 64, 10))
    p = Problem(Task(model, DIGITS), batch_size, size(200, 10), 0.05, range(size(K, 48)))
    paired(
        f"MLP 64-64-10, batch {batch_size}",
        lambda device: ours(p, device),
        sides(p, 48, size(24, 4), {"loop": target, "JAX, tuned": 1.0}),
        steps=len(p.seeds) * p.steps,
        flops=products(model.widths, batch_size),
    )


def bench_wide_mlp(paired, size):
    model, stream = models.MLP((784, 100, 10)), generator(0, "data")
    x = torch.randn(1000, 784, generator=stream)
    examples = data.Data("gaussian", x, (x @ torch.randn(784, 10, generator=stream)).argmax(1))
    p = Problem(Task(model, examples), 64, size(30, 5), 0.02, range(size(K, 16)))
    paired(
        "MLP 784-100-10, batch 64",
        lambda device: ours(p, device),
        sides(p, 8, size(48, 4), {"loop": 4}),
        steps=len(p.seeds) * p.steps,
        flops=products(model.widths, 64),
        peak=0.65,
    )


@pytest.mark.parametrize("batch_size, target", [(16, 3.5), (64, 1.9)])
def bench_cnn(paired, size, batch_size, target):
    p = Problem(Task(models.CNN(), DIGITS), batch_size, size(20, 3), 0.05, range(size(K, 16)))
    paired(
        f"CNN 16-32 channels on 8 x 8 digits, batch {batch_size}",
        lambda device: ours(p, device),
        sides(p, 8, size(48, 4), {"loop": target}),
        steps=len(p.seeds) * p.steps,
        rel=1e-2,  # ReLU's kinks
        rounds=3,
    )


def bench_diagonal(paired, size):
    examples = data.sparse_regression(40, 100, support=5)
    p = Problem(Task(models.DiagonalLinear(100), examples, "mse"), None, size(1000, 50), 0.01, range(size(K, 48)), 0.3)
    paired(
        "diagonal linear network, 100 weights, 40 examples, full batch",
        lambda device: ours(p, device),
        sides(p, 288, size(12, 4), {"loop": 400}),
        steps=len(p.seeds) * p.steps,
    )


def bench_single(paired, size):
    p = Problem(Task(models.MLP((64, 64, 10)), DIGITS), 64, size(3000, 100), 0.05, [0])
    paired(
        "one MLP 64-64-10 alone, batch 64",
        lambda device: ours(p, device),
        [
            Peer("loop by hand", lambda: peers_torch.by_hand(p), least=1 / 1.2),
            Peer("loop", lambda: peers_torch.loop(p)),
            Peer("JAX, as usual", lambda: peers_jax.canonical(p)),
        ],
        steps=p.steps,
    )
