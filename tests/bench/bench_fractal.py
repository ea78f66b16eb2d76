"""The boundary between learning rates that train and that diverge, pixel by pixel (Sohl-Dickstein 2024, arXiv:2402.06184).

A network with 16 inputs, 16 hidden tanh units and one output, no biases, fits 16 examples by full-batch
gradient descent; the two axes are the learning rates of the two layers.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import nn
from torch.nn.utils import vector_to_parameters

from bench.peers_jax import ONE_THREAD
from bench.plugin import Peer
from bench.problems import CORES, Problem, module
from descent import Task, data, models, sweep
from descent.seeding import generator

N, CHUNK = 16, 1024


def _task() -> Task:
    stream = generator(0, "data")
    examples = data.Data("gaussian", stream.normal(N, N), stream.normal(N, 1))
    return Task(models.MLP((N, N, 1), bias=False), examples, "mse")


TASK = _task()


def rates(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Learning rates of the first and of the last layer, each of the side^2 pixels."""
    axis = np.logspace(-1.25, 1.25, side)
    first, last = np.meshgrid(axis, axis, indexing="ij")
    return first.ravel(), last.ravel()


def disagreement(a: np.ndarray, b: np.ndarray) -> float:
    """Share of the trainings that one side calls diverged and the other not.

    Near the boundary training is chaotic: what rounding does to the last digit of a step
    decides some pixels.
    """
    return float(np.mean((a <= 1.0) != (b <= 1.0)))


def together(side: int, steps: int, device: str) -> torch.Tensor:
    axis = np.logspace(-1.25, 1.25, side)
    ds = sweep(TASK, lr=axis, readout_lr=axis, steps=steps, record_every=[steps], device=device, cache=False)
    return torch.tensor(ds.loss.values.ravel())


def loop(first: np.ndarray, last: np.ndarray, steps: int) -> torch.Tensor:
    p = Problem(TASK, None, steps, 1.0, range(1))
    (x, y), losses, start = p.examples, [], p.weights()[0]
    for a, b in zip(first.tolist(), last.tolist()):
        net = module(TASK)
        vector_to_parameters(start, net.parameters())
        optimizer = torch.optim.SGD([{"params": net[0].parameters(), "lr": a}, {"params": net[2].parameters(), "lr": b}])
        for _ in range(steps):
            optimizer.zero_grad()
            (nn.functional.mse_loss(net(x), y) / 2).backward()
            optimizer.step()
        with torch.no_grad():
            losses.append(nn.functional.mse_loss(net(x), y) / 2)
    return torch.stack(losses)


@cache
def _compiled(steps: int, tuned: bool):
    """Training compiled by JAX: one network mapped over the rates, or networks stacked, features before samples."""
    p = Problem(TASK, None, steps, 1.0, range(1))
    x, y = (jnp.asarray(t.numpy()) for t in p.examples)
    start = [w[0].numpy() for w in TASK.unflatten(p.weights()).values()]

    def objective(weights):
        if tuned:
            hidden = jnp.tanh(jnp.einsum("koi,in->kon", weights[0], x.T))
            return jnp.square(jnp.einsum("koi,kin->kon", weights[1], hidden) - y.T).sum(1).mean(-1).sum() / 2
        return jnp.square(jnp.tanh(x @ weights[0].T) @ weights[1].T - y).sum(1).mean() / 2

    def train(rates):
        def step(weights, _):
            return [w - r * g for w, r, g in zip(weights, rates, jax.grad(objective)(weights))], None

        begin = [jnp.broadcast_to(w, (len(r), *w.shape)) for w, r in zip(start, rates)] if tuned else start
        return jax.lax.scan(step, begin, None, steps)[0]

    def losses(weights):
        return jnp.square(jnp.tanh(x @ weights[0].T) @ weights[1].T - y).sum(1).mean() / 2

    if tuned:
        run = lambda a, b: jax.vmap(losses)(train([a[:, None, None], b[:, None, None]]))
        return jax.jit(run, compiler_options=ONE_THREAD)
    return jax.jit(jax.vmap(lambda a, b: losses(train([a, b]))))


def jax_canonical(first: np.ndarray, last: np.ndarray, steps: int) -> np.ndarray:
    return np.asarray(_compiled(steps, False)(first.astype(np.float32), last.astype(np.float32)))


def jax_tuned(first: np.ndarray, last: np.ndarray, steps: int) -> np.ndarray:
    run, a, b = _compiled(steps, True), first.astype(np.float32), last.astype(np.float32)
    with ThreadPoolExecutor(CORES) as pool:
        starts = range(0, len(a), CHUNK)
        return np.concatenate(list(pool.map(lambda s: np.asarray(run(a[s : s + CHUNK], b[s : s + CHUNK])), starts)))


def bench_fractal(paired, size):
    side, steps = size(256, 32), size(500, 50)
    first, last = rates(side)
    few = slice(None, None, len(first) // 32)  # spread over the picture
    part = slice(None, len(first) // 4)

    def some(where: slice, run) -> np.ndarray:
        """The losses that a side computed, in their places; -1 where it computed none."""
        out = np.full(len(first), -1.0)
        out[where] = run(first[where], last[where], steps)
        return out

    def compare(a: np.ndarray, b: np.ndarray) -> float:
        known = a != -1.0
        return disagreement(a[known], b[known])

    paired(
        f"fractal, {side} × {side} trainings",
        lambda device: together(side, steps, device),
        [
            Peer("loop", lambda: some(few, loop), len(first) / len(first[few]), least=450),
            Peer("JAX, as usual", lambda: some(part, jax_canonical), 4.0),
            Peer("JAX, tuned", lambda: jax_tuned(first, last, steps), least=1.0),
        ],
        networks=len(first),
        steps=steps,
        compare=compare,
        within=0.02,
        rounds=3,
        warm=lambda: (jax_canonical(first[part], last[part], steps), jax_tuned(first[:CHUNK], last[:CHUNK], steps)),
    )
