"""The machine: what hardware is here, how fast it is, and how long a sweep will take on it."""

from __future__ import annotations

import html
import importlib
import inspect
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from descent.task import Task


@dataclass(frozen=True)
class Speed:
    """Measured speed of one processor.

    Attributes:
        name: what it is.
        flops: floating-point operations per second of a large float32 matrix product.
        bandwidth: bytes per second read and written when a tensor too large for the caches is copied.
        small: floating-point operations per second of a batch of small matrix products, as networks trained together need.
        convolution: the same of a small grouped convolution and its gradient.
        cached: bytes per second of elementwise work on tensors that fit a core's cache.
        fresh: the same on large tensors, whose results need new memory from the system.
        functions: numbers per second of tanh, exp and their like.
        overhead: seconds that one small PyTorch operation takes inside a training step, Python's share included.
    """

    name: str
    flops: float
    bandwidth: float
    small: float
    convolution: float
    cached: float
    fresh: float
    functions: float
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
    large, small = (torch.zeros(n, device=device) for n in (2**28 if gpu else 2**23, 2**22 if gpu else 2**16))
    other = torch.empty_like(large)
    bandwidth = 2 * 4 * len(large) / _best(lambda: other.copy_(large), wait, 5)
    cached = 3 * 4 * len(small) / _best(lambda: small + small, wait, 20)
    fresh = 2 * 4 * len(large) / _best(lambda: torch.relu(large), wait, 4)
    functions = len(small) / _best(lambda: torch.tanh(small), wait, 20)
    weights, inputs = torch.randn(48, 64, 64, device=device), torch.randn(48, 64, 64, device=device)
    batched = 48 * 2 * 64**3 / _best(lambda: torch.bmm(weights, inputs), wait, 20)
    kernels, images = torch.randn(32, 16, 3, 3, device=device, requires_grad=True), torch.randn(64, 32, 8, 8, device=device)
    convolve = lambda: torch.autograd.grad(F.conv2d(images, kernels, padding=1, groups=2).sum(), kernels)
    convolution = 2 * (2 * 64 * 64 * 32 * 16 * 9) / _best(convolve, wait, 8)
    square = torch.zeros(8, 8, device=device, requires_grad=True)
    step = lambda: torch.autograd.grad(torch.tanh(square @ square).square().sum(), square)
    overhead = _best(lambda: [step() for _ in range(20)], wait, 20) / 20 / cost(step).operations
    return Speed(name, flops, bandwidth, batched, convolution, cached, fresh, functions, overhead)


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


# -- how long a sweep will take ----------------------------------------------------------


class _Count(TorchDispatchMode):
    """Counts operations, and the bytes that each reads and writes, in small and in large tensors."""

    #: bytes of an operation's tensors above which they come from main memory
    CACHE = 4e6
    #: operations that only look at a tensor differently
    FREE = {"view", "_unsafe_view", "expand", "permute", "transpose", "slice", "select", "squeeze", "unsqueeze", "detach",
            "alias", "as_strided", "split", "split_with_sizes", "unbind", "t"}  # fmt: skip
    FUNCTIONS = {"tanh", "exp", "log", "elu", "_softmax", "_log_softmax", "_log_softmax_backward_data", "pow", "randperm"}

    def __init__(self) -> None:
        super().__init__()
        self.operations, self.functions, self.cached, self.fresh = 0, 0.0, 0.0, 0.0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.operations += 1
        name = func.overloadpacket.__name__
        if name in self.FUNCTIONS:
            self.functions += out.numel()
        elif name not in self.FREE:
            tensors = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, torch.Tensor)]
            size = sum(t.numel() * t.element_size() for t in tensors)
            if size > self.CACHE:
                self.fresh += size
            else:
                self.cached += size
        return out


@dataclass(frozen=True)
class Cost:
    """What a piece of training does: FLOPs of products and of convolutions, functions evaluated,
    bytes moved in the cache and in fresh memory, operations started."""

    products: float
    convolutions: float
    functions: float
    cached: float
    fresh: float
    operations: float

    def seconds(self, speed: Speed) -> float:
        """The sum of the time for arithmetic, for moving data and for starting operations."""
        arithmetic = self.products / speed.small + self.convolutions / speed.convolution
        arithmetic += self.functions / speed.functions
        moving = self.cached / speed.cached + self.fresh / speed.fresh
        return arithmetic + moving + self.operations * speed.overhead


def cost(work: Callable[[], Any]) -> Cost:
    """The cost of `work`, counted while it runs once."""
    counter = _Count()
    with FlopCounterMode(display=False) as flops, counter:
        work()
    counts = flops.get_flop_counts().get("Global", {})
    convolutions = sum(n for operation, n in counts.items() if "conv" in str(operation))
    return Cost(flops.get_total_flops() - convolutions, convolutions, counter.functions, counter.cached, counter.fresh, counter.operations)


class _After:
    """In the place of a run's stop signal: set once it has been asked `steps` times, which is once a step."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def is_set(self) -> bool:
        self.left -= 1
        return self.left < 0


def expected_seconds(task: Task, workers: int | None = None, **arguments: Any) -> float:
    """Seconds that `sweep(task, **arguments)` will take on this machine, before it starts.

    Of each kind of job, two steps and two measurements are run and counted, and the counts
    are priced with the measured speeds of `describe()`. On a machine with nothing else to
    do, expect it within a factor of three. A network that diverges or a result from the
    cache takes less.

    Args:
        workers: jobs that run side by side; by default one per core, or one on a GPU.
        **arguments: those of `sweep`.

    Raises:
        ValueError, TypeError: as `sweep` does.
    """
    parameters = inspect.signature(_engine().sweep).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    wanted = {k: v for k, v in (defaults | arguments).items() if k != "cache"}
    plan = _engine()._plan(task, wanted)
    machine = describe()
    speed = machine.gpu if plan.device.type == "cuda" else machine.core
    kinds: dict[tuple, float] = {}
    seconds = []
    for job in plan.jobs:
        kind = job.optimizer.name, job.batch_size, len(job.rows)
        if kind not in kinds:
            kinds[kind] = _job_seconds(plan, job, speed)
        seconds.append(kinds[kind])
    return max(max(seconds), sum(seconds) / (workers or _engine()._workers(plan.device)))


def _job_seconds(plan: Any, job: Any, speed: Speed) -> float:
    def run(steps: int, record: list[int]) -> float:
        part = _engine()._Run(replace(plan, record_steps=record))
        part.stop = _After(steps)
        return cost(lambda: _engine()._train(part, job)).seconds(speed)

    start, once, twice = run(0, []), run(0, [0]), run(1, [0, 1])
    step = run(1, []) - start
    # the first measurement is dearer than later ones, which start where the last one ended
    first, later = once - start, twice - once - step
    measurements = len(plan.record_steps)
    return start + plan.steps * step + (measurements > 0) * first + max(measurements - 1, 0) * later


def _engine() -> ModuleType:
    """The module `descent.sweep`, imported late because it imports the probes."""
    return importlib.import_module("descent.sweep")
