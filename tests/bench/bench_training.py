"""Training many small networks: the plain loop, its parallel forms, and JAX, against `sweep`."""

from __future__ import annotations

import pytest
import torch

from bench import peers_jax, peers_torch
from bench.plugin import Measured, Peer, sgemm
from bench.problems import Problem, ours
from descent import Task, data, models

K = 576


def sides(p: Problem, chunk: int, some: int, least: dict[str, float]) -> list[Peer]:
    """Every peer of `p`; the loops train `some` of its networks, or twice as many on two cores."""
    some, count = min(some, len(p.seeds)), len(p.seeds)
    runs = {
        "loop": (lambda: peers_torch.loop(p.some(some)), count / some),
        "loop, joblib": (lambda: peers_torch.processes(p.some(min(2 * some, count))), count / min(2 * some, count)),
        "torch.func": (lambda: peers_torch.functional(p), 1.0),
        "JAX, as usual": (lambda: peers_jax.canonical(p), 1.0),
        "JAX, tuned": (lambda: peers_jax.tuned(p, chunk), 1.0),
    }
    return [Peer(name, run, share, least.get(name)) for name, (run, share) in runs.items()]


@pytest.mark.parametrize("batch_size, target", [(64, 18), (8, 35)])
def bench_mlp(paired, size, batch_size, target):
    task = Task(models.MLP((64, 64, 10)), data.digits(1000))
    p = Problem(task, batch_size, size(200, 20), 0.05, range(size(K, 48)))
    paired(
        f"MLP 64-64-10, batch {batch_size}",
        lambda device: ours(p, device),
        sides(p, 48, 24, {"loop": target, "JAX, tuned": 1.0}),
        steps=len(p.seeds) * p.steps,
    )
