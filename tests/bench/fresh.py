"""Programs that are measured in processes of their own: `python -m bench.fresh SIDE NETWORKS STEPS DATA.npz`.

Each trains MLPs 64-64-10 with batches of 64 and prints, as JSON, the seconds and the memory that it took after
its imports, and the mean of the final losses. JAX is on its own here, random numbers included: nothing of PyTorch is loaded.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import numpy as np
import psutil

LR, BATCH = 0.05, 64


class Peak:
    """The most memory that the process holds while the block runs, over what it held before, in bytes."""

    def __enter__(self) -> Peak:
        self.before = self.peak = self._resident()
        self.over, self.thread = threading.Event(), threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while not self.over.wait(0.002):
            self.peak = max(self.peak, self._resident())

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()

    @staticmethod
    def _resident() -> int:
        return psutil.Process().memory_info().rss

    @property
    def bytes(self) -> int:
        return self.peak - self.before


def jax_program(networks: int, steps: int, x: np.ndarray, y: np.ndarray) -> Callable[[], float]:
    import jax
    import jax.numpy as jnp

    def run() -> float:
        inputs, labels, examples = jnp.asarray(x), jnp.asarray(y), len(x)

        def init(key):
            first, second = jax.random.split(key)
            return {
                "W0": jax.random.normal(first, (64, 64)) / 8, "b0": jnp.zeros(64),
                "W1": jax.random.normal(second, (64, 10)) / 8, "b1": jnp.zeros(10),
            }  # fmt: skip

        def loss(params, x, y):
            logits = jnp.tanh(x @ params["W0"] + params["b0"]) @ params["W1"] + params["b1"]
            return -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1).mean()

        def train(key):
            start, order = jax.random.split(key)
            per_epoch = examples // BATCH

            def epoch(key):
                return jax.random.permutation(key, examples)[: per_epoch * BATCH].reshape(per_epoch, BATCH)

            batches = jax.vmap(epoch)(jax.random.split(order, -(-steps // per_epoch))).reshape(-1, BATCH)[:steps]

            def step(params, index):
                gradients = jax.grad(loss)(params, inputs[index], labels[index])
                return jax.tree.map(lambda p, g: p - LR * g, params, gradients), None

            params, _ = jax.lax.scan(step, init(start), batches)
            return loss(params, inputs, labels)

        return float(jax.jit(jax.vmap(train))(jax.random.split(jax.random.key(0), networks)).mean())

    return run


def our_program(networks: int, steps: int, x: np.ndarray, y: np.ndarray) -> Callable[[], float]:
    import torch

    from descent import Task, data, models, sweep

    def run() -> float:
        task = Task(models.MLP((64, 64, 10)), data.Data("digits", torch.tensor(x), torch.tensor(y)))
        ds = sweep(task, lr=LR, batch_size=BATCH, seed=range(networks), steps=steps, record_every=[steps], cache=False)
        return float(ds.loss.mean())

    return run


PROGRAMS = {"ours": our_program, "JAX, as usual": jax_program}


def measured(side: str, networks: int, steps: int, examples: str) -> dict[str, float]:
    """What a program of `PROGRAMS` reports when it runs in a process of its own."""
    command = [sys.executable, "-m", "bench.fresh", side, str(networks), str(steps), examples]
    start = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout) | {"whole": time.perf_counter() - start}


if __name__ == "__main__":
    program = PROGRAMS[sys.argv[1]](int(sys.argv[2]), int(sys.argv[3]), **np.load(sys.argv[4]))
    with Peak() as memory:
        start = time.perf_counter()
        loss = program()
        seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "bytes": memory.bytes, "loss": loss}))
