"""The machine: what hardware is here, how fast it is, and what a sweep will make of it."""

from __future__ import annotations

import html
import importlib
import inspect
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import psutil
import torch
from torch.utils.flop_counter import FlopCounterMode

from descent.task import Task


@dataclass(frozen=True)
class Speed:
    """Measured speed of one processor.

    Attributes:
        name: what it is.
        flops: floating-point operations per second of a large float32 matrix product: the peak that is measured against.
        small: the same of a batch of small matrix products, as networks trained together need.
        bandwidth: bytes per second read and written when a tensor too large for the caches is copied.
        overhead: seconds that one small PyTorch operation takes, Python's share included.
    """

    name: str
    flops: float
    small: float
    bandwidth: float
    overhead: float


@dataclass(frozen=True)
class Device:
    """What `describe` found. Displayed as a table in a notebook.

    Attributes:
        system: operating system and processor architecture.
        cores: cores that this process may use.
        memory: bytes of main memory.
        core: speed of one core (a sweep runs one thread on each).
        gpu: speed of the CUDA device, None if there is none.
        gpu_memory: its bytes of memory, 0 if there is none.
        torch: version of PyTorch.
    """

    system: str
    cores: int
    memory: int
    core: Speed
    gpu: Speed | None
    gpu_memory: int
    torch: str

    @property
    def rows(self) -> list[tuple[str, str]]:
        """(what, how much) in words."""
        rows = [("system", self.system), ("PyTorch", self.torch), ("processor", f"{self.core.name}, {self.cores} cores usable"),
                ("memory", f"{self.memory / 2**30:.1f} GiB")]  # fmt: skip
        if self.gpu:
            rows += [("GPU", self.gpu.name), ("GPU memory", f"{self.gpu_memory / 2**30:.1f} GiB")]
        for label, speed in (("one core", self.core), ("GPU", self.gpu)):
            if speed:
                rows += [
                    (f"{label}: matrix product, float32", f"{speed.flops / 1e12:.3g} TFLOP/s"),
                    (f"{label}: small products, batched", f"{speed.small / 1e12:.3g} TFLOP/s"),
                    (f"{label}: memory bandwidth", f"{speed.bandwidth / 1e9:.3g} GB/s"),
                    (f"{label}: one small operation", f"{speed.overhead * 1e6:.2g} µs"),
                ]
        return rows

    def __repr__(self) -> str:
        width = max(len(what) for what, _ in self.rows)
        return "\n".join(f"{what:{width}}  {value}" for what, value in self.rows)

    def _repr_html_(self) -> str:
        body = "".join(f"<tr><th scope='row'>{html.escape(a)}</th><td>{html.escape(b)}</td></tr>" for a, b in self.rows)
        return f"<table class='descent-device'><caption>The machine this ran on</caption><tbody>{body}</tbody></table>"


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _best(work: Callable[[], Any], wait: Callable[[], Any], runs: int) -> float:
    """Seconds of the fastest of several runs: the one that other programs disturbed least."""
    work()
    times = []
    for _ in range(runs):
        wait()
        start = time.perf_counter()
        work()
        wait()
        times.append(time.perf_counter() - start)
    return min(times)


def _speed(name: str, device: str) -> Speed:
    gpu = device == "cuda"
    wait = torch.cuda.synchronize if gpu else (lambda: None)
    a = torch.randn(8192 if gpu else 768, 8192 if gpu else 768, device=device)
    flops = 2 * len(a) ** 3 / _best(lambda: a @ a, wait, 8)
    weights, inputs = torch.randn(48, 64, 64, device=device), torch.randn(48, 64, 64, device=device)
    small = 48 * 2 * 64**3 / _best(lambda: torch.bmm(weights, inputs), wait, 20)
    large = torch.zeros(2**28 if gpu else 2**23, device=device)
    other = torch.empty_like(large)
    bandwidth = 2 * 4 * len(large) / _best(lambda: other.copy_(large), wait, 5)
    one = torch.zeros(1, device=device)
    overhead = _best(lambda: [one + one for _ in range(100)], wait, 20) / 100
    return Speed(name, flops, small, bandwidth, overhead)


@cache
def describe() -> Device:
    """Hardware and measured speed, best of several short runs; measured once in a process, in under two seconds."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        core = _speed(_processor_name(), "cpu")
    finally:
        torch.set_num_threads(threads)
    gpu = _speed(torch.cuda.get_device_name(), "cuda") if torch.cuda.is_available() else None
    return Device(
        system=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        cores=_engine()._workers(torch.device("cpu")),
        memory=psutil.virtual_memory().total,
        core=core,
        gpu=gpu,
        gpu_memory=torch.cuda.get_device_properties(0).total_memory if gpu else 0,
        torch=torch.__version__,
    )


# -- what a sweep makes of it ------------------------------------------------------------


@dataclass(frozen=True)
class Throughput:
    """How fast a sweep trains, and what share of the machine's peak that is.

    Attributes:
        flops: floating-point operations per second in matrix products and convolutions, all workers together.
        share: of the measured peak of the cores or the GPU that the workers use, 0 to 1.
        updates: updates of single networks per second.
        seconds: that the whole sweep will take, measurements included.
    """

    flops: float
    share: float
    updates: float
    seconds: float

    def __repr__(self) -> str:
        return f"{self.flops / 1e9:.3g} GFLOP/s, {self.share:.0%} of the peak; {self.updates:.3g} updates/s; {self.seconds:.2g} s in all"


def throughput(task: Task, workers: int | None = None, **arguments: Any) -> Throughput:
    """What `sweep(task, **arguments)` will achieve on this machine, before it starts.

    Of each kind of job, a few steps and two measurements are run and timed, on one worker. On a
    machine with nothing else to do, expect the seconds to come true within a factor of three:
    workers side by side share caches and memory. A network that diverges or a result from the cache takes less.

    Args:
        workers: jobs that run side by side; by default one per core, or one on a GPU.
        **arguments: those of `sweep`.

    Raises:
        ValueError, TypeError: as `sweep` does.
    """
    parameters = inspect.signature(_engine().sweep).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    plan = _engine()._plan(task, {k: v for k, v in (defaults | arguments).items() if k not in ("cache", "client")})
    workers = min(workers or _engine()._workers(plan.device), len(plan.jobs))
    kinds = {(job.optimizer.name, job.batch_size, len(job.rows)): job for job in plan.jobs}
    with ThreadPoolExecutor(1, initializer=_engine()._worker) as pool:
        timed = {kind: pool.submit(_job_seconds, plan, job).result() for kind, job in kinds.items()}
    steps, wholes = zip(*(timed[job.optimizer.name, job.batch_size, len(job.rows)] for job in plan.jobs))
    seconds, machine = max(max(wholes), sum(wholes) / workers), describe()
    flops = sum(len(job.rows) * step_flops(task, job.batch_size) for job in plan.jobs) * workers / sum(steps)
    peak = machine.gpu.flops if plan.device.type == "cuda" else machine.core.flops * workers
    return Throughput(flops, flops / peak, plan.networks * workers / sum(steps), seconds)


def step_flops(task: Task, batch_size: int) -> float:
    """Floating-point operations in the matrix products and convolutions of one network's gradient, counted while it runs."""
    part, w = task.part("train"), _engine()._initial(task, [0], np.ones(1))
    y = part.y[..., :batch_size]
    with FlopCounterMode(display=False) as counted:
        task.losses_and_gradients(w, part.x[..., :batch_size], y)
    return counted.get_total_flops()


def _job_seconds(plan: Any, job: Any) -> tuple[float, float]:
    """Seconds of one step and of the whole job, on this thread."""
    gpu = plan.device.type == "cuda"

    def seconds(work: Callable[[], Any]) -> float:
        # a thread's processor time leaves out other programs; a GPU has to be waited for
        clock = time.perf_counter if gpu else time.thread_time
        start = clock()
        work()
        if gpu:
            torch.cuda.synchronize()
        return clock() - start

    trainings = []
    run = _engine()._Run(replace(plan, record_steps=[0, 1]))
    start = seconds(lambda: trainings.append(_engine()._Training(run, job)))
    training, steps = trainings[0], min(plan.steps, 8)
    measurements = [seconds(lambda: training.measure(0, 0))]
    step = min(seconds(lambda: training.step(t)) for t in range(steps))
    measurements.append(seconds(lambda: training.measure(steps, 1)))
    # the first measurement is dearer than later ones, which start where the last one ended
    count = len(plan.record_steps)
    return step, start + plan.steps * step + (count > 0) * measurements[0] + max(count - 1, 0) * measurements[1]


def _engine() -> ModuleType:
    """The module `descent.sweep`, imported late because it imports the probes."""
    return importlib.import_module("descent.sweep")
