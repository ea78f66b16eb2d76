"""Fresh processes, memory, and how the cost of a sweep grows: with networks, width, steps, and networks in a job."""

from __future__ import annotations

import importlib
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench import fresh, peers_torch
from bench.bench_training import DIGITS, products
from bench.plugin import sgemm
from bench.problems import Problem, ours
from descent import Task, models

K, BATCH = 576, 64
WIDTHS = (64, 64, 10)
ENGINE = importlib.import_module("descent.sweep")  # `descent.sweep` is the function


@pytest.fixture
def examples(tmp_path: Path) -> str:
    np.savez(tmp_path / "digits.npz", x=DIGITS.x.numpy(), y=DIGITS.y.numpy())
    return str(tmp_path / "digits.npz")


def bench_fresh_process(keep, size, examples):
    """A whole sweep from nothing, compilation included; and the memory that it takes."""
    networks, steps, runs = size(K, 48), size(300, 20), {side: [] for side in fresh.PROGRAMS}
    for _ in range(size(3, 1)):
        for side, found in runs.items():
            found.append(fresh.measured(side, networks, steps, examples))
    column = lambda side, what: [run[what] for run in runs[side]]
    difference = statistics.median(column("JAX, as usual", "loss")) / statistics.median(column("ours", "loss")) - 1
    assert abs(difference) <= 0.1, f"mean final losses differ by {difference:.2g}: not the same training"
    keep(
        title=f"MLP 64-64-10, batch {BATCH}, fresh process",
        ours=column("ours", "seconds"),
        networks=networks,
        steps=steps,
        peers={
            "JAX, as usual": {"seconds": column("JAX, as usual", "seconds"), "share": 1.0, "least": 2.5, "most": None,
                              "difference": abs(difference)},
            "JAX, as usual, imports included": {"seconds": column("JAX, as usual", "whole"), "ours": column("ours", "whole"),
                                                "share": 1.0, "least": None, "most": None, "difference": abs(difference)},
        },
        memory={side: column(side, "bytes") for side in runs} | {"most": 500e6},
    )  # fmt: skip


def each_step(problem: Callable[[int], Problem], steps: int, train: Callable[[Problem], object] = ours) -> float:
    """Seconds per network and step: what two more runs' worth of steps add to a run, so that what a sweep takes
    once, however long it is, does not count."""
    short, long, start = problem(steps), problem(3 * steps), time.perf_counter()
    train(short)
    middle = time.perf_counter()
    train(long)
    return (time.perf_counter() - middle - (middle - start)) / (2 * steps * len(short.seeds))


def rounds(count: int, measure: Callable[[int], float], values: list[int]) -> list[list[float]]:
    """`measure` of each value, in `count` rounds over all of them after one that does not count."""
    found = [[measure(value) for value in values] for _ in range(count + 1)]
    columns = np.array(found[1:]).T
    assert (np.median(columns, 1) > 0).all(), "the machine is too busy: longer runs took less time than shorter ones"
    return columns.tolist()


def mlp(networks: int, widths: tuple[int, ...] = WIDTHS) -> Callable[[int], Problem]:
    task = Task(models.MLP(widths), DIGITS)
    return lambda steps: Problem(task, BATCH, steps, 0.01, range(networks))


def bench_growth_networks(keep, size, examples):
    counts = size([1, 2, 4, 8, 16, 32, 64, 128, 256, 576, 1000, 3000, 10000], [1, 8, 64])
    sizes = size([1, 10, 100, 1000, 10000], [1, 64])
    keep(
        title="time and memory against the number of networks",
        growth={
            "networks": counts,
            "seconds": rounds(size(5, 1), lambda count: each_step(mlp(count), max(6, min(300, 12000 // count))), counts),
            "loop": rounds(size(5, 1), lambda count: each_step(mlp(count), 50, peers_torch.loop), [4])[0],
            "memory_networks": sizes,
            "memory": [fresh.measured("ours", count, 20, examples)["bytes"] for count in sizes],
        },
    )


def bench_growth_width(keep, size):
    widths, networks = size([4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048], [8, 64]), size(96, 16)
    peaks = []

    def measure(width: int) -> float:
        peaks.append(sgemm(0.1))
        return each_step(mlp(networks, (64, width, 10)), max(6, min(120, 8000 // width)))

    seconds = rounds(size(5, 1), measure, widths)
    flops = [products((64, width, 10), BATCH) for width in widths]
    keep(
        title="time against the width",
        growth={"widths": widths, "networks": networks, "seconds": seconds, "flops": flops, "sgemm": peaks},
    )


def bench_growth_steps(keep, size):
    counts, networks = size([1, 10, 30, 100, 300, 1000], [1, 10]), size(K, 48)

    def measure(steps: int) -> float:
        start = time.perf_counter()
        ours(mlp(networks)(steps))
        return time.perf_counter() - start

    seconds = rounds(size(5, 1), measure, counts)
    keep(title="time against the number of steps", growth={"steps": counts, "networks": networks, "seconds": seconds})


def bench_growth_job(keep, size, monkeypatch):
    """Time against the number of networks that a job trains together, which the engine otherwise chooses itself."""
    networks, jobs = size(K, 96), size([1, 2, 4, 8, 12, 18, 24, 36, 48, 72, 96, 144, 288], [2, 24])
    own, sizes = ENGINE._job_sizes, []

    def measure(job: int) -> float:
        monkeypatch.setattr(ENGINE, "_job_sizes", lambda plan, batch_size: sizes.append(own(plan, batch_size)) or (job, job))
        return each_step(mlp(networks), size(20, 10))

    seconds = rounds(size(5, 1), measure, jobs)
    keep(
        title="time against the networks in a job",
        growth={"jobs": jobs, "networks": networks, "seconds": seconds, "flops": products(WIDTHS, BATCH), "chosen": sizes[0][1]},
    )
