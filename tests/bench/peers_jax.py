"""The same networks in JAX, as usually written and tuned. Each function returns final training losses (K,).

Weights and batches come from the same generators as everywhere else, so that the results can be
compared; drawing them is part of what is timed, on every side.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import Tensor

from bench.problems import CORES, Problem
from descent import models

Params = dict[str, jax.Array]

#: Python threads that each run a chunk need no threads of XLA's inside an operation: on a machine with nothing else to
#: do both ways are equally fast, on a busy one XLA's threads take twice as long.
ONE_THREAD = {"xla_cpu_multi_thread_eigen": False}


def examples(problem: Problem) -> tuple[jax.Array, jax.Array]:
    """Inputs (n, *features) and targets (n, outputs), labels as one-hot vectors."""
    x, y = (jnp.asarray(t.numpy()) for t in problem.examples)
    return x, y if y.ndim == 2 else jax.nn.one_hot(y, problem.task.data.classes)


@cache
def drawn(problem: Problem, seeds: tuple[int, ...]) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """Initial parameters by name (K, *shape), and the batches (steps, K, batch), None for all examples."""
    params = {name: p.numpy() for name, p in problem.task.unflatten(problem.weights(seeds)).items()}
    if problem.batch_size is None:
        return params, None
    return params, np.stack([problem.batches(s).numpy().astype(np.int32) for s in seeds], 1)


# -- as usually written: one network, samples first; then vmap, scan, jit ----------------


def apply(model: models.Model, params: Params, x: jax.Array) -> jax.Array:
    """Outputs (n, outputs) of one network for inputs (n, *features)."""
    if isinstance(model, models.DiagonalLinear):
        return x @ (params["u"] ** 2 - params["v"] ** 2)[:, None]
    if isinstance(model, models.CNN):
        for i in range(len(model.channels)):
            x = jax.lax.conv(x, params[f"C{i}"], (1, 1), "SAME") + params[f"c{i}"][:, None, None]
            x = jax.lax.reduce_window(jax.nn.relu(x), 0.0, jax.lax.add, (1, 1, 2, 2), (1, 1, 2, 2), "VALID") / 4
        return x.reshape(len(x), -1) @ params["W"].T + params["b"][:, 0]
    layers = len(model.widths) - 1
    for i in range(layers):
        x = x @ params[f"W{i}"].T + (params[f"b{i}"][:, 0] if model.bias else 0.0)
        x = jnp.tanh(x) if i < layers - 1 else x
    return x


def loss(problem: Problem, outputs: jax.Array, y: jax.Array, axis: int = -1) -> jax.Array:
    """Loss of each example; `axis` is that of the outputs."""
    if problem.task.loss == "cross_entropy":
        return -(jax.nn.log_softmax(outputs, axis) * y).sum(axis)
    return jnp.square(outputs - y).sum(axis) / 2


@cache
def _compiled(problem: Problem) -> Callable:
    x, y = examples(problem)

    def objective(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
        return loss(problem, apply(problem.task.model, params, x), y).mean()

    def train(params: Params, batches: jax.Array | None) -> jax.Array:
        def step(params: Params, index: jax.Array | None) -> tuple[Params, None]:
            batch = (x, y) if index is None else (x[index], y[index])
            gradients = jax.grad(objective)(params, *batch)
            return jax.tree.map(lambda p, g: p - problem.lr * g, params, gradients), None

        params, _ = jax.lax.scan(step, params, batches, problem.steps)
        return objective(params, x, y)

    return jax.jit(jax.vmap(train, (0, None if problem.batch_size is None else 1)))


def canonical(problem: Problem) -> Tensor:
    params, batches = drawn(problem, problem.seeds)
    return torch.tensor(np.asarray(_compiled(problem)(params, batches)))


# -- tuned: features before samples, chunks that fit the cache, a thread for each core ---


def apply_stacked(model: models.Model, params: Params, x: jax.Array) -> jax.Array:
    """Outputs (K, outputs, n) of stacked networks for inputs (K, n, *features) of their own, or (n, *features) of all."""
    if isinstance(model, models.CNN):
        x = jnp.swapaxes(x, -3, -4)  # channels before samples
        for i in range(len(model.channels)):
            x = _convolve(params[f"C{i}"], x) + params[f"c{i}"][:, :, None, None, None]
            k, c, n, h, w = x.shape
            x = jax.nn.relu(x).reshape(k, c, n, h // 2, 2, w // 2, 2).mean((4, 6))
        return jnp.einsum("koi,kin->kon", params["W"], x.swapaxes(2, 3).swapaxes(3, 4).reshape(k, -1, n)) + params["b"]
    own = "" if x.ndim == 2 else "k"
    x = jax.lax.optimization_barrier(x.swapaxes(-1, -2))  # turned once, not inside each product
    if isinstance(model, models.DiagonalLinear):
        return jnp.einsum(f"ki,{own}in->kn", params["u"] ** 2 - params["v"] ** 2, x)[:, None]
    layers = len(model.widths) - 1
    for i in range(layers):
        x = jnp.einsum(f"koi,{own if i == 0 else 'k'}in->kon", params[f"W{i}"], x) + (params[f"b{i}"] if model.bias else 0.0)
        x = jnp.tanh(x) if i < layers - 1 else x
    return x


def _convolve(kernels: jax.Array, x: jax.Array) -> jax.Array:
    """Convolutions 3 x 3 as one matrix product per network: kernels (K, out, in, 3, 3), x (K?, in, n, h, w).

    XLA's own convolution with a group for each network is many times slower on a CPU.
    """
    k, out, channels, *_ = kernels.shape
    *_, n, h, w = x.shape
    padded = jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(1, 1), (1, 1)])
    shifted = jnp.stack([padded[..., i : i + h, j : j + w] for i in range(3) for j in range(3)], axis=-4)
    patches = shifted.reshape(*x.shape[:-4], channels * 9, n * h * w)
    own = "k" if x.ndim == 5 else ""
    return jnp.einsum(f"koi,{own}ip->kop", kernels.reshape(k, out, -1), patches).reshape(k, out, n, h, w)


@cache
def _compiled_chunk(problem: Problem, xla_threads: bool) -> Callable:
    x, y = examples(problem)

    def objectives(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
        return loss(problem, apply_stacked(problem.task.model, params, x), y.swapaxes(-1, -2), axis=-2).mean(-1)

    def train(params: Params, batches: jax.Array | None) -> jax.Array:
        def step(params: Params, index: jax.Array | None) -> tuple[Params, None]:
            batch = (x, y) if index is None else (x[index], y[index])
            gradients = jax.grad(lambda p: objectives(p, *batch).sum())(params)
            return jax.tree.map(lambda p, g: p - problem.lr * g, params, gradients), None

        params, _ = jax.lax.scan(step, params, batches, problem.steps)
        return objectives(params, x, y)

    return jax.jit(train, compiler_options=None if xla_threads else ONE_THREAD)


def tuned(problem: Problem, chunk: int, xla_threads: bool = False) -> Tensor:
    """Chunks of `chunk` networks side by side on Python threads; XLA runs without the interpreter's lock."""
    train, seeds = _compiled_chunk(problem, xla_threads), problem.seeds

    def one(start: int) -> np.ndarray:
        return np.asarray(train(*drawn(problem, seeds[start : start + chunk])))

    with ThreadPoolExecutor(CORES) as pool:
        return torch.tensor(np.concatenate(list(pool.map(one, range(0, len(seeds), chunk)))))
