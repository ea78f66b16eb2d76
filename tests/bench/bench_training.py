"""Training many small networks: the plain loop, its parallel forms, and JAX, against `sweep`."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bench import peers_jax, peers_torch
from bench.plugin import Peer
from bench.problems import Problem, ours
from descent import Task, data, models
from descent.seeding import generator

K = 576
#: few enough that the final evaluation is a small part of the work
DIGITS = data.digits(512)


def sides(p: Problem, chunk: int, some: int, least: dict[str, float], jax_some: tuple[int, int] = (K, K)) -> list[Peer]:
    """Every peer of `p`. Those whose time is proportional to the number of networks train a part of them."""

    def peer(name: str, run: Callable[[Problem], Tensor], networks: int) -> Peer:
        part = p.some(networks)
        return Peer(name, lambda: run(part), len(p.seeds) / len(part.seeds), least.get(name))

    return [
        peer("loop", peers_torch.loop, some),
        peer("loop, joblib", peers_torch.processes, 2 * some),
        peer("torch.func", peers_torch.functional, 8 * some),
        peer("JAX, as usual", peers_jax.canonical, jax_some[0]),
        peer("JAX, tuned", lambda part: peers_jax.tuned(part, chunk), jax_some[1]),
        Peer("sweep(autograd=True)", lambda: ours(p, autograd=True)),
    ]


def products(widths: tuple[int, ...], batch_size: int) -> float:
    """Floating-point operations of an MLP's matrix products in one step: forward, by weights, by inputs (not the first)."""
    layers = [n * m for n, m in itertools.pairwise(widths)]
    return 2 * batch_size * (3 * sum(layers) - layers[0])


@pytest.mark.parametrize("batch_size, steps, target", [(64, 200, 18), (8, 300, 35)])
def bench_mlp(paired, size, batch_size, steps, target):
    model = models.MLP((64, 64, 10))
    p = Problem(Task(model, DIGITS), batch_size, size(steps, 10), 0.05, range(size(K, 48)))
    paired(
        f"MLP 64-64-10, batch {batch_size}",
        lambda device: ours(p, device),
        [*sides(p, 48, size(24, 4), {"loop": target, "JAX, tuned": 1.0}),
         Peer("JAX, tuned, XLA's threads", lambda: peers_jax.tuned(p, 48, xla_threads=True))],
        networks=len(p.seeds),
        steps=p.steps,
        flops=products(model.widths, batch_size),
    )  # fmt: skip


def bench_wide_mlp(paired, size):
    model, stream = models.MLP((784, 100, 10)), generator(0, "data")
    x = stream.normal(256, 784)
    examples = data.Data("gaussian", x, (x @ stream.normal(784, 10)).argmax(1))
    p = Problem(Task(model, examples), 64, size(30, 5), 0.02, range(size(K, 16)))
    paired(
        "MLP 784-100-10, batch 64",
        lambda device: ours(p, device),
        sides(p, 8, size(48, 4), {"loop": 4}),
        networks=len(p.seeds),
        steps=p.steps,
        flops=products(model.widths, 64),
        peak=0.65,
        rounds=3,
    )


@pytest.mark.parametrize("batch_size, steps, target", [(16, 30, 3.5), (64, 10, 1.9)])
def bench_cnn(paired, size, batch_size, steps, target):
    p = Problem(Task(models.CNN(), data.digits(256)), batch_size, size(steps, 3), 0.05, range(size(K, 16)))
    paired(
        f"CNN 16-32, batch {batch_size}",
        lambda device: ours(p, device),
        sides(p, 4, size(24, 4), {"loop": target}, jax_some=size((16, 192), (8, 16))),
        networks=len(p.seeds),
        steps=p.steps,
        within=1e-2,  # ReLU's kinks
        rounds=3,
    )


def bench_diagonal(paired, size):
    examples = data.sparse_regression(40, 100, support=5)
    p = Problem(Task(models.DiagonalLinear(100), examples, "mse"), None, size(1000, 50), 0.01, range(size(K, 48)), 0.3)
    paired(
        "diagonal linear, 100 weights, full batch",
        lambda device: ours(p, device),
        sides(p, 288, size(12, 4), {"loop": 400}),
        networks=len(p.seeds),
        steps=p.steps,
    )


def bench_single(paired, size):
    p = Problem(Task(models.MLP((64, 64, 10)), DIGITS), 64, size(3000, 100), 0.05, range(1))
    paired(
        "one MLP 64-64-10, batch 64",
        lambda device: ours(p, device),
        [
            Peer("loop by hand", lambda: peers_torch.by_hand(p), least=1 / 1.2),
            Peer("loop", lambda: peers_torch.loop(p)),
            Peer("JAX, as usual", lambda: peers_jax.canonical(p)),
        ],
        networks=1,
        steps=p.steps,
    )
