"""How much faster a sweep trains a grid than a loop over `nn.Module`s does.

Run by `make bench`. Both sides train the same networks from the same weights on the same
batches, in turn in one process, several times over; what counts is the ratio within each
pair, because a machine's speed drifts. The final losses are compared too: a fast engine
that trains something else would be no use.
"""

from __future__ import annotations

import argparse
import statistics
import time
from itertools import chain

import numpy as np
import torch
from torch import nn

from descent import Task, data, models, sweep
from descent.seeding import generator
from descent.sweep import _epochs

STEPS, LR = 100, 0.05


def loop(task: Task, seeds: list[int], batch_size: int) -> list[float]:
    """The plain way: one `nn.Sequential` and one `torch.optim.SGD` per network."""
    part, losses = task.part("train"), []
    x, y = part.x.T.contiguous(), part.y
    for seed in seeds:
        params = task.model.init(generator(seed, "init"))
        widths = task.model.widths
        layers = [layer for n, m in zip(widths[:-1], widths[1:]) for layer in (nn.Linear(n, m), nn.Tanh())][:-1]
        net = nn.Sequential(*layers)
        with torch.no_grad():
            for i, layer in enumerate(net[::2]):
                layer.weight.copy_(params[f"W{i}"])
                layer.bias.zero_()
        optimizer = torch.optim.SGD(net.parameters(), lr=LR)
        batches = chain.from_iterable(_epochs([seed], len(x), batch_size, "shuffle"))
        for _ in range(STEPS):
            index = next(batches)[0]
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[index]), y[index]).backward()
            optimizer.step()
        with torch.no_grad():
            losses.append(nn.functional.cross_entropy(net(x), y).item())
    return losses


def together(task: Task, seeds: list[int], batch_size: int) -> list[float]:
    ds = sweep(task, lr=LR, batch_size=batch_size, seed=seeds, steps=STEPS, record_every=[STEPS], cache=False)
    return ds.loss.values.ravel().tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=96)
    parser.add_argument("--pairs", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # the faster choice for the loop, and the engine sets its own
    task, seeds = Task(models.MLP((64, 64, 10)), data.digits(1000)), list(range(arguments.networks))
    print(f"{arguments.networks} MLPs 64-64-10, {STEPS} steps of SGD; medians of {arguments.pairs} pairs (smallest to largest)")
    for batch_size in (8, 64):
        ratios, seconds = [], {loop: [], together: []}
        for _ in range(arguments.pairs):
            finals = {}
            for way in (loop, together):
                start = time.perf_counter()
                finals[way] = way(task, seeds, batch_size)
                seconds[way].append(time.perf_counter() - start)
            np.testing.assert_allclose(finals[loop], finals[together], rtol=1e-3)
            ratios.append(seconds[loop][-1] / seconds[together][-1])
        print(
            f"  batch {batch_size:3d}: loop {statistics.median(seconds[loop]):6.2f} s, sweep "
            f"{statistics.median(seconds[together]):6.2f} s, ratio {statistics.median(ratios):5.1f} "
            f"({min(ratios):.1f} to {max(ratios):.1f})"
        )


if __name__ == "__main__":
    main()
