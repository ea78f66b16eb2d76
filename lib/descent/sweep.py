"""The engine: trains a whole grid of networks at once and returns labelled curves.

The networks of a grid are split into jobs that share an optimizer and a batch size, small
enough that a job's weights and activations stay in the processor's cache. A job keeps its
K networks as rows of one matrix and takes one backward pass per step for all of them; jobs
run side by side on one thread per core.
"""

from __future__ import annotations

import ctypes
import inspect
import json
import math
import os
import platform
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, is_dataclass, replace
from functools import cache as once
from functools import cached_property
from importlib.metadata import version
from itertools import count
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from tqdm import tqdm

from descent import cache as result_cache
from descent import optimizers, schedules, seeding
from descent.backprop import SLICE, Gradients
from descent.optimizers import Optimizer
from descent.probes import PROBES, Networks, Probe
from descent.quantities import HYPERPARAMETERS, describe
from descent.schedules import Schedule
from descent.task import SIGHT, Part, Task

if TYPE_CHECKING:
    from distributed import Client

#: bytes of weights and activations that one job works on at a time: what stays in the cache that cores share
WORKING_SET = 7.2e6
#: bytes of activations below which a job is not split between threads: what a step then takes is
#: mostly Python's time, of which two threads have no more than one
SPLIT = 0.5e6
#: bytes that evaluating a job's networks on the whole data may take
EVALUATION = 256e6
#: steps whose examples are numbered together when they are drawn with replacement
CHUNK = 256
#: a network whose minibatch loss exceeds this multiple of its first one (or of 1) has diverged
DIVERGENCE = 1e6
#: part of a job's networks that must have diverged before the others go on without them
LOST = 1 / 8
#: seeds up to which drawing their weights together takes longer than one after the other
FEW_SEEDS = 8
#: steps between a job's reports of its progress
REPORT = 32

_POSITIVE, _NON_NEGATIVE, _BELOW_ONE = "a positive number", "a number of at least 0", "a number from 0 to below 1"
_ALLOWED: dict[str, tuple[str, Callable[[float], bool]]] = {
    "lr": (_POSITIVE, lambda v: 0 < v < math.inf),
    "readout_lr": (_POSITIVE, lambda v: 0 < v < math.inf),
    "init_scale": (_NON_NEGATIVE, lambda v: 0 <= v < math.inf),
    "clip": (_POSITIVE, lambda v: v > 0),
    "eps": (_NON_NEGATIVE, lambda v: 0 <= v < math.inf),
    "l2": (_NON_NEGATIVE, lambda v: 0 <= v < math.inf),
    "l1": (_NON_NEGATIVE, lambda v: 0 <= v < math.inf),
    "weight_decay": (_NON_NEGATIVE, lambda v: 0 <= v < math.inf),
    "momentum": (_BELOW_ONE, lambda v: 0 <= v < 1),
    "beta1": (_BELOW_ONE, lambda v: 0 <= v < 1),
    "beta2": (_BELOW_ONE, lambda v: 0 <= v < 1),
    "temperature": (_NON_NEGATIVE, lambda v: 0 <= v < math.inf),
    "label_noise": (_NON_NEGATIVE, lambda v: 0 <= v < math.inf),
    "deficit_start": (_NON_NEGATIVE, lambda v: 0 <= v < math.inf),
    "deficit_length": (_NON_NEGATIVE, lambda v: 0 <= v < math.inf),
    "penalty": (_NON_NEGATIVE, lambda v: 0 <= v < math.inf),
    "ascent": (_POSITIVE, lambda v: 0 < v < math.inf),
}


def sweep(
    task: Task,
    *,
    lr: float | Sequence[float] = 0.1,
    batch_size: int | None | Sequence[int | None] = None,
    init_scale: float | Sequence[float] = 1.0,
    optimizer: str | Optimizer | Sequence[str | Optimizer] = "sgd",
    schedule: Schedule | Sequence[Schedule] | None = None,
    seed: int | Sequence[int] = 0,
    steps: int = 1000,
    record: str | Probe | Sequence[str | Probe] = ("loss",),
    record_every: int | Sequence[int] | None = None,
    sampling: str = "shuffle",
    autograd: bool = False,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device | None = None,
    cache: bool = True,
    client: Client | None = None,
    **hyperparameters: float | Sequence[float],
) -> xr.Dataset:
    """Train every combination of the given hyperparameters and seeds.

    An argument given as a list becomes a dimension of the result, a single value a scalar
    coordinate. The dimensions come in the order lr, batch_size, init_scale, optimizer,
    schedule, others as given, then seed, then step, then those of a probe.

    Args:
        task: model, data and loss.
        lr: base learning rate.
        batch_size: examples per update; None takes all of them.
        init_scale: factor on the initial weights.
        optimizer: names from `optimizers.OPTIMIZERS`, or optimizers with other defaults.
        schedule: from `descent.schedules`; None keeps the learning rate constant.
        seed: decides the initial weights and the order of examples.
        steps: number of updates.
        record: probes, by name (`PROBES`) or as `Probe`.
        record_every: steps between measurements, or the steps themselves; by default about
            200 of them. Step 0 is the initialization; an interval also measures the last step.
        sampling: "shuffle" (every epoch visits the examples in a new order, the last
            incomplete batch left out), "replacement" (independent draws) or "fresh" (new examples
            at every step, from the law of the data, those of `Data.x` never).
        autograd: differentiate by autograd also the models whose gradient `descent.backprop` has
            written out. The results are the same up to rounding, and later.
        dtype: torch.float32 or torch.float64. Where training is stable the two agree to 0.1 % in
            losses and weights, mostly to 0.001 %. Beyond the edge of stability rounding may grow
            by a factor per step until two runs have nothing in common, `diverged_at` included:
            there compare statistics over seeds (`tests/unit/test_numerics.py` measures both).
            On a CUDA device PyTorch convolves float32 with the mantissas of TF32, ten bits, unless
            `torch.backends.cudnn.allow_tf32` is False.
        device: by default CUDA if there is one, else the CPU.
        cache: reuse a stored result of the same recipe, or store this one (see `descent.cache`).
        client: a `dask.distributed.Client` whose workers train the networks (see `descent.cluster`).
        **hyperparameters: momentum, beta1, beta2, eps, penalty, ascent, and for every optimizer l2,
            weight_decay, clip, temperature and l1 (see `descent.optimizers`); readout_lr, the learning
            rate of the last layer, where it is not that of the others; label_noise, the standard deviation
            of new normal noise on the targets of every step; deficit_start and deficit_length, in
            steps, for a task with a deficit.

    Returns:
        A Dataset with one variable per recorded quantity and `diverged_at`, the step at which
        a network diverged (NaN if it never did): from then on it is left alone and its
        values are NaN. Attributes hold the recipe. Interrupting returns what is done, the rest NaN.

    Raises:
        ValueError, TypeError: an argument, or `DESCENT_CACHE_LIMIT`, makes no sense; the message names its value and what
            is allowed. Nothing has been trained then.
    """
    arguments = {k: v for k, v in locals().items() if k not in ("task", "hyperparameters", "cache", "client")} | hyperparameters
    arguments = {name: _plain(value) for name, value in arguments.items()}
    plan = _plan(task, arguments)
    if client is not None:
        cluster.check(client)
    key = result_cache.digest(_jobs, _worker, _train, _dataset, task, plan.recipe_key)
    dataset = result_cache.load(key) if cache else None
    if dataset is None:
        dataset = _run(plan, key, client)
        if cache and not dataset.attrs["interrupted"]:
            result_cache.save(key, dataset)
    _recipes[key] = task, arguments
    _recorded[key] = dataset.assign({name: _marked(array) for name, array in dataset.data_vars.items()})
    for coordinate in dataset.coords.values():  # netCDF 3, which xarray writes with SciPy, has integers up to 2^31 - 1
        if coordinate.dtype.kind == "i" and (coordinate > np.iinfo(np.int32).max).any():
            coordinate.encoding["dtype"] = "float64"
    return dataset


def retrain(dataset: xr.Dataset, *, client: Client | None = None, **setting: Any) -> xr.Dataset:
    """Train one further setting with the recipe, and all the seeds, of `dataset`.

    Args:
        client: as for `sweep`, and not taken over from the sweep that made `dataset`.
        setting: a single value for every swept hyperparameter of `dataset`; those chosen with
            `dataset.sel` may be left out.

    Raises:
        LookupError: the recipe is not in this process (the Dataset was loaded from a file).
        ValueError: a swept hyperparameter is missing, or one is not a hyperparameter of the Dataset; or the Dataset
            was joined to another or calculated with, so that its values are not those of its recipe.
    """
    task, arguments = recipe(dataset)
    swept = [name for name, value in arguments.items() if _several(value) and name not in ("seed", "record", "record_every")]
    # a hyperparameter already chosen with dataset.sel(...) keeps its choice
    setting = {name: dataset[name].item() for name in swept if name in dataset.coords and dataset[name].ndim == 0} | setting
    if set(setting) != set(swept):
        raise ValueError(f"retrain needs one value for each of {swept}; got {sorted(setting)}")
    named = {"optimizer": {}, "schedule": {}}
    for kind, choices in named.items():
        for choice in _listed(arguments[kind]):
            choices[choice if isinstance(choice, str) else getattr(choice, "name", None)] = choice
    setting = {k: named[k].get(v, v) if k in named else v for k, v in setting.items()}
    return sweep(task, client=client, **(arguments | setting))


#: recipe id -> (task, arguments), for `retrain`
_recipes: dict[str, tuple[Task, dict[str, Any]]] = {}
#: recipe id -> the Dataset with `_marks` in the place of its values
_recorded: dict[str, xr.Dataset] = {}


def recipe(dataset: xr.Dataset) -> tuple[Task, dict[str, Any]]:
    """The task and the arguments of the sweep that made `dataset`, which may have been cut since.

    xarray hands attributes on, the recipe among them, when Datasets are joined or calculated with. So everything here that
    the sweep recorded, found by its coordinates, must still have the values that it recorded.

    Raises:
        LookupError: the recipe is not in this process.
        ValueError: the Dataset has values, coordinates or dimensions that its recipe does not give.
    """
    key = dataset.attrs.get("recipe_id")
    if key not in _recorded:
        raise LookupError("this Dataset was not made by sweep() in this process; run its sweep again first")
    whole, wrong = _recorded[key], ""
    for name in [name for name in whole.coords if name in dataset.coords]:
        known = whole[name].values.reshape(-1).tolist()
        if others := [value for value in dataset[name].values.reshape(-1).tolist() if value not in known]:
            wrong = f"{name} = {others[0]!r}, which its recipe does not have"
    for name in [name for name in whole.data_vars if name in dataset.data_vars]:
        if not wrong and not _among(dataset[name], whole[name]):
            wrong = f"values of {name!r} that its sweep did not record"
    if wrong:
        raise ValueError(f"this Dataset has {wrong}: it was joined to another or calculated with since; "
                         "give what sweep() returned, or a part of it")  # fmt: skip
    return _recipes[key]


def _marks(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Sixteen bits of each number, float32 or float64, that a change of it changes, but for one in 65 536."""
    numbers = values.astype(dtype) + dtype.type(0)  # one zero
    numbers[np.isnan(numbers)] = np.nan  # and one NaN
    word = np.dtype(f"u{dtype.itemsize}").type
    odd = word(0x9E3779B97F4A7C15 >> 64 - 8 * dtype.itemsize | 1)
    return (numbers.view(word) * odd >> word(8 * dtype.itemsize - 16)).astype(np.uint16)


def _marked(array: xr.DataArray) -> xr.DataArray:
    return array.copy(data=_marks(array.values, array.dtype)).assign_attrs(dtype=array.dtype)


def _among(array: xr.DataArray, whole: xr.DataArray) -> bool:
    """Whether an array is a part of the one that these are the marks of: what its coordinates say, or, along dimensions
    without them, any part."""
    if array.dtype.kind not in "iuf" or not set(array.dims) <= set(whole.dims):
        return False
    labelled = [dim for dim in whole.dims if dim in whole.coords and dim in array.coords]
    whole = whole.sel({dim: array[dim].values for dim in labelled})
    rest = [dim for dim in whole.dims if dim in labelled]
    marked = array.copy(data=_marks(array.values, whole.attrs["dtype"]))
    there, here = (a.transpose(..., *rest).values.reshape(-1, math.prod(whole.sizes[dim] for dim in rest)) for a in (whole, marked))
    columns = {column.tobytes() for column in there}
    return all(column.tobytes() in columns for column in here)


# -- from arguments to a plan ------------------------------------------------------------


@dataclass
class Job:
    """Networks trained together: rows of the grid that share optimizer and batch size."""

    rows: np.ndarray
    optimizer: Optimizer
    batch_size: int


@dataclass
class Plan:
    """A checked sweep: what each network of the grid is trained with."""

    task: Task
    dims: dict[str, list]  # swept dimensions and their values, seed last
    scalars: dict[str, Any]  # every other hyperparameter
    columns: dict[str, np.ndarray]  # each hyperparameter of each network, (networks,)
    optimizers: list[Optimizer]
    schedules: list[Schedule]
    factors: np.ndarray  # of the learning rate, (schedules, steps)
    steps: int
    probes: list[Probe]
    record_steps: list[int]
    sampling: str
    autograd: bool
    dtype: torch.dtype
    device: torch.device

    @cached_property
    def jobs(self) -> list[Job]:
        """The networks split into jobs, when they are needed: a result from the cache needs none."""
        return _jobs(self)

    @property
    def networks(self) -> int:
        return len(self.columns["seed"])

    @property
    def recipe_key(self) -> list:
        """All that the result depends on besides the task."""
        names = [_label(s) for s in self.schedules]
        grid = {k: names if k == "schedule" else v for k, v in (self.dims | self.scalars).items()}
        run = [self.steps, self.record_steps, self.sampling, self.autograd, str(self.dtype), self.device.type]
        return [list(self.dims), grid, self.optimizers, self.factors, self.probes, run]


def _several(value: Any) -> bool:
    """Whether an argument is a list of values, and so becomes a dimension."""
    return isinstance(value, list | tuple | range)


def _listed(value: Any) -> list:
    return list(value) if _several(value) else [value]


def _plain(value: Any) -> Any:
    """An argument with Python's own numbers and lists in the place of those of NumPy, PyTorch and xarray.

    They are written into the recipe, which is stored as JSON, and decide the result's fingerprint.
    """
    value = value.values if isinstance(value, xr.DataArray) else value
    value = value.tolist() if isinstance(value, np.generic | np.ndarray | Tensor) else value
    return [_plain(v) for v in value] if _several(value) else value


def _plan(task: Task, arguments: Mapping[str, Any]) -> Plan:
    """Check every argument and lay out the grid. Raises before anything is trained."""
    if not isinstance(task, Task):
        raise TypeError(f"sweep trains a Task, not {type(task).__name__}: Task(model, data, loss)")
    a = {name: _plain(value) for name, value in arguments.items()}
    steps, sampling, autograd, dtype = a.pop("steps"), a.pop("sampling"), a.pop("autograd"), a.pop("dtype")
    probes = _probes(task, a.pop("record"))
    record_steps = _record_steps(a.pop("record_every"), steps)
    if sampling not in ("shuffle", "replacement", "fresh"):
        raise ValueError(f"sampling={sampling!r}; choose 'shuffle', 'replacement' or 'fresh'")
    if sampling == "fresh" and task.data.law is None:
        raise ValueError(f"sampling='fresh' needs data with a law to draw from; {task.data.name!r} has none")
    if not isinstance(autograd, bool):
        raise TypeError(f"autograd={autograd!r}; choose True or False")
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"dtype={dtype!r}; choose torch.float32 or torch.float64")
    device = _device(a.pop("device"))

    swept = {name for name, value in a.items() if _several(value)}
    grid = {name: _listed(value) for name, value in a.items()}
    grid["optimizer"] = rules = [optimizers.get(o) for o in grid["optimizer"]]
    grid["schedule"] = [s or schedules.constant() for s in grid["schedule"]]
    if any(rule.proximal for rule in rules) and getattr(task.model, "prox", None) is None:
        raise ValueError("the optimizer 'proximal_point' needs a models.Function with prox=...")
    if "readout_lr" in a and not task.readout:
        raise ValueError(f"readout_lr needs a model with a last layer of its own; {type(task.model).__name__} has none")
    if "label_noise" in a and task.loss != "mse":
        raise ValueError(f"label_noise needs the loss 'mse', not {task.loss!r}")
    if {"deficit_start", "deficit_length"} & set(a) and task.deficit is None:
        raise ValueError("deficit_start and deficit_length need a task with a deficit: Task(..., deficit=...)")
    known = {name for rule in rules for name in rule.hyperparameters} | {"readout_lr", *SIGHT}
    for name in a:
        if name not in HYPERPARAMETERS and name not in known or name == "step":
            raise ValueError(f"sweep has no argument {name!r}; hyperparameters of {[r.name for r in rules]}: {sorted(known)}")
        if name in _ALLOWED and name not in ("lr", "init_scale") and name not in known:
            raise ValueError(f"{name!r} is no hyperparameter of {[r.name for r in rules]}, which take {sorted(known)}")
    for name, values in grid.items():
        grid[name] = _checked(name, values, len(task.data))

    order = ["lr", "batch_size", "init_scale", "optimizer", "schedule"]
    order += [name for name in a if name not in order and name != "seed"] + ["seed"]
    dims = {name: grid[name] for name in order if name in swept or name == "seed"}
    index = np.indices([len(v) for v in dims.values()]).reshape(len(dims), -1)
    columns = {}
    for name in order:
        choice = index[list(dims).index(name)] if name in dims else np.zeros(index.shape[1], int)
        columns[name] = choice if name in ("optimizer", "schedule") else np.array(grid[name])[choice]
    scalars = {name: grid[name][0] for name in order if name not in dims}
    factors = np.array([[s(t, steps) for t in range(steps)] for s in grid["schedule"]], dtype=float)
    if not (np.isfinite(factors) & (factors >= 0)).all():
        raise ValueError(f"schedule={[s.name for s in grid['schedule']]}: a factor is negative or not finite")
    return Plan(
        task, dims, scalars, columns, rules, grid["schedule"], factors, steps, probes, record_steps, sampling, autograd, dtype, device
    )


def _checked(name: str, values: list, examples: int) -> list:
    """The values of one hyperparameter, each checked, no two the same."""
    if not values:
        raise ValueError(f"{name}=[] is an empty grid; give at least one value")
    if name == "batch_size":
        values = [examples if v is None else v for v in values]
        good, allowed = lambda v: _whole(v) and 1 <= v <= examples, f"None or an integer from 1 to {examples}, the number of training examples"
    elif name == "seed":
        largest = seeding.LARGEST_SEED
        good, allowed = lambda v: _whole(v) and 0 <= v <= largest, f"an integer from 0 to {largest}"
    elif name == "schedule":
        good, allowed = lambda v: isinstance(v, Schedule), "a Schedule from descent.schedules"
    elif name == "optimizer":
        good, allowed = lambda v: True, ""
    else:
        allowed, inside = _ALLOWED.get(name, ("a finite number", math.isfinite))
        good = lambda v: _number(v) and not math.isnan(v) and inside(v)
    for value in values:
        if not good(value):
            raise ValueError(f"{name}={value!r}; allowed: {allowed}")
    if name in ("batch_size", "seed"):
        values = [int(v) for v in values]
    elif name not in ("schedule", "optimizer"):
        values = [float(v) for v in values]
    labels = [v.name if name in ("schedule", "optimizer") else v for v in values]
    if len(set(labels)) < len(labels):
        raise ValueError(f"{name}={labels!r} names a value twice")
    return values


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _probes(task: Task, record: Any) -> list[Probe]:
    chosen = []
    for item in _listed(record):
        if isinstance(item, str) and item not in PROBES:
            raise ValueError(f"record={item!r} is no known quantity; choose from {sorted(PROBES)} or pass a Probe")
        if not isinstance(item, str | Probe):
            raise TypeError(f"record takes names and Probes, not {item!r}; make a Probe with descent.probes.probe")
        chosen.append(PROBES[item] if isinstance(item, str) else item)
    names = [p.name for p in chosen]
    if len(set(names)) < len(names):
        raise ValueError(f"record={names!r} names a quantity twice")
    for p in chosen:
        for which in p.needs:
            if task.raw(which)[1].is_floating_point() and p.name.endswith("_accuracy"):
                raise ValueError(f"{p.name} needs class labels; the data {task.data.name!r} has real targets")
    return chosen


def _record_steps(every: Any, steps: Any) -> list[int]:
    if not _whole(steps) or steps < 1:
        raise ValueError(f"steps={steps!r} must be a positive integer")
    if every is None:
        every = max(1, steps // 200)
    if _whole(every):
        if not 1 <= every <= steps:
            raise ValueError(f"record_every={every} must lie between 1 and steps={steps}")
        return sorted({*range(0, steps + 1, int(every)), steps})
    chosen = _listed(every)
    if not chosen or not all(_whole(s) and 0 <= s <= steps for s in chosen):
        raise ValueError(f"record_every={every!r}: the steps to record must be integers between 0 and steps={steps}")
    return sorted({int(s) for s in chosen})


def _device(device: Any) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("device='cuda', but PyTorch finds no CUDA device here; use 'cpu' or leave it out")
    return device


def _jobs(plan: Plan) -> list[Job]:
    """Split the grid by optimizer and batch size, then into jobs of bounded size."""
    jobs = []
    for o, b in sorted(set(zip(plan.columns["optimizer"].tolist(), plan.columns["batch_size"].tolist()))):
        rows = np.flatnonzero((plan.columns["optimizer"] == o) & (plan.columns["batch_size"] == b))
        smallest, largest = _job_sizes(plan, b)
        size = min(largest, max(smallest, math.ceil(len(rows) / _workers(plan.device))))
        jobs += [Job(part, plan.optimizers[o], b) for part in np.array_split(rows, math.ceil(len(rows) / size))]
    return sorted(jobs, key=lambda job: -len(job.rows) * job.batch_size)


def _workers(device: torch.device) -> int:
    """Threads that train jobs side by side: one per core this process may use; one for a GPU."""
    if device.type != "cpu":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _job_sizes(plan: Plan, batch_size: int) -> tuple[int, int]:
    """How many networks are worth a thread of their own, and how many to train together at most."""
    task, item = plan.task, torch.finfo(plan.dtype).bits // 8
    batch, whole = (_saved_bytes(task, n) * item / 4 for n in (batch_size, min(SLICE, len(task.data))))
    if len(set(plan.columns["seed"])) > 1 and batch_size < len(task.data):  # every network gathers its own examples
        batch += batch_size * math.prod(task.model.input_shape) * item
    weights = task.parameters * item
    if plan.device.type == "cuda":
        free = torch.cuda.mem_get_info(plan.device)[0]
        return 1, max(1, int(0.4 * free / (8 * weights + batch + whole)))
    largest = max(1, int(min(WORKING_SET / (weights + batch), EVALUATION / (whole + weights))))
    return math.ceil(SPLIT / max(batch, 1)), largest


def _saved_bytes(task: Task, examples: int) -> float:
    """Bytes of float32 activations that a backward pass over so many examples keeps, for one network.

    Counted on up to 32 examples and scaled; the examples themselves do not count.
    """
    part, w, saved = task.part("train"), _initial(task, [0], np.ones(1)), []
    n = min(examples, len(part), 32)
    x, y = part.x[..., :n].clone(), part.y[..., :n].clone()
    leaves = {name: p.requires_grad_() for name, p in task.unflatten(w).items()}
    given = {p.data_ptr() for p in (x, y, *leaves.values())}

    def count(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in given:
            saved.append(tensor.numel() * tensor.element_size())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda t: t):
        task.losses(leaves, x, y)
    return sum(saved) * examples / n


# -- training ----------------------------------------------------------------------------


def _initial(task: Task, seeds: Sequence[int], scales: np.ndarray, dtype: torch.dtype = torch.float32) -> Tensor:
    """Initial parameters (K, P) of networks with these seeds and init scales, calculated in `dtype`."""
    # one row of init scales per seed, so that each seed draws once, for all of its networks
    places = defaultdict(count)
    column = [next(places[seed]) for seed in seeds]
    rows = {seed: i for i, seed in enumerate(places)}
    row = [rows[seed] for seed in seeds]
    table = torch.ones(len(rows), max(column) + 1, dtype=dtype)
    table[row, column] = torch.tensor(scales, dtype=dtype)

    def drawn(seed: int | Tensor, scale: Tensor) -> Tensor:
        generator = seeding.Generator(seeding.key(seed, "init"), dtype=dtype)
        return task.flatten(task.model.init(generator, scale), 1).to(dtype)

    together = seeding.AT_ONCE // task.parameters
    if together > 1 and len(rows) > FEW_SEEDS:
        weights = torch.func.vmap(drawn, chunk_size=together)(torch.tensor(list(rows)), table)
    else:
        weights = torch.stack([drawn(seed, scale) for seed, scale in zip(rows, table)])
    return weights[row, column]


def _epochs(seeds: Sequence[int], n: int, size: int, sampling: str, steps: int) -> Iterator[Tensor]:
    """Indices (steps, S, size) of the examples of the next steps, one row per seed, without end; `steps` will be asked for."""
    shuffle = sampling == "shuffle"
    words = n if shuffle else CHUNK * size
    rows = max(1, seeding.AT_ONCE // words)
    together = min(max(1, rows // len(seeds)), math.ceil(steps / (words // size)))
    for first in count(step=together):
        parts, epochs = [], torch.arange(first, first + together)[:, None]
        for part in torch.tensor(seeds).split(rows):
            key = seeding.key(part, "batches")
            parts.append(seeding.orders(key, epochs, n) if shuffle else seeding.integers(key, epochs, n, words))
        yield from torch.cat(parts, 1)[..., : words - words % size].unflatten(2, (-1, size)).movedim(2, 1)


def _drawn(task: Task, seeds: Sequence[int], size: int, dtype: torch.dtype) -> Iterator[tuple[Tensor, Tensor]]:
    """New examples of one step after another, without end: x (S, *features, size) and y, one row per seed."""
    together = max(1, seeding.AT_ONCE // (len(seeds) * size * math.prod(task.model.input_shape)))
    for_seeds = torch.func.vmap(lambda seed, step: task.fresh(seed, step, size, dtype), in_dims=(0, None))
    for first in count(step=together):
        yield from zip(*torch.func.vmap(for_seeds, in_dims=(None, 0))(torch.tensor(seeds), torch.arange(first, first + together)))


class _Fresh:
    """The minibatches of a job whose networks see every example once: shared by those that share the seed."""

    whole = False

    def __init__(self, plan: Plan, job: Job, part: Part) -> None:
        own = plan.columns["seed"][job.rows].tolist()
        unique = sorted(set(own))
        self.part, self.shared = part, len(unique) == 1
        self.row = torch.tensor([unique.index(s) for s in own], device=part.x.device)
        self.examples = _drawn(plan.task, unique, job.batch_size, plan.dtype)

    def keep(self, rows: Tensor) -> None:
        """Go on with these networks only."""
        self.row = self.row[rows]

    def turn(self) -> None:
        """Go on to the next step's examples."""
        self.now = [t.to(like) for t, like in zip(next(self.examples), (self.part.x, self.part.y))]

    def gather(self) -> tuple[Tensor, Tensor]:
        """x (*net?, *features, size) and y of this step."""
        return tuple(t[0] if self.shared else t[self.row] for t in self.now)


class _Minibatches:
    """The minibatches of a job: shared by its networks when they share the seed or take all the data."""

    def __init__(self, plan: Plan, job: Job, part: Part) -> None:
        own = plan.columns["seed"][job.rows].tolist()
        unique = sorted(set(own))
        self.part, self.size = part, job.batch_size
        self.whole, self.shared = plan.sampling == "shuffle" and job.batch_size == len(part), len(unique) == 1
        self.epochs, self.left = _epochs(unique, len(part), job.batch_size, plan.sampling, plan.steps), iter(())
        # samples first, so that a batch is gathered by copying whole examples
        self.sources = [t.movedim(-1, 0).contiguous() for t in (part.x, part.y)]
        self._serve(torch.tensor([0] if self.shared else [unique.index(s) for s in own], device=part.x.device))

    def _serve(self, row: Tensor) -> None:
        """Make room for networks whose seeds are these rows of an epoch."""
        self.row, shape = row, (self.size,) if self.shared else (len(row), self.size)
        self.index = row.new_zeros(len(row), self.size)
        self.batch = [t.new_empty(self.index.numel(), *t.shape[1:]) for t in self.sources]
        self.views = tuple(t.unflatten(0, shape).movedim(len(shape) - 1, -1) for t in self.batch)

    def keep(self, rows: Tensor) -> None:
        """Go on with these networks only."""
        if not self.shared:
            self._serve(self.row[rows])

    def turn(self) -> None:
        """Go on to the next step's examples."""
        if self.whole:
            return
        step = next(self.left, None)
        if step is None:
            self.left = iter(next(self.epochs).to(self.row.device, non_blocking=True))
            step = next(self.left)
        torch.index_select(step, 0, self.row, out=self.index)

    def gather(self) -> tuple[Tensor, Tensor]:
        """x (*net?, *features, size) and y of this step, valid until the next."""
        if self.whole:
            return self.part.x, self.part.y
        for source, batch in zip(self.sources, self.batch):
            torch.index_select(source, 0, self.index.view(-1), out=batch)
        return self.views


def _parts(plan: Plan) -> dict[str, Part]:
    """The parts of the data that training and its probes look at, on the device."""
    needed = {"train"} | {which for p in plan.probes for which in p.needs}
    return {which: plan.task.part(which, plan.device, plan.dtype) for which in needed}


class _Run:
    """What the jobs of one sweep share: the data on the device, the results, the progress."""

    def __init__(self, plan: Plan, parts: Mapping[str, Part] | None = None) -> None:
        self.plan = plan
        self.parts = _parts(plan) if parts is None else parts
        self.results: dict[str, np.ndarray] = {}
        self.diverged_at = np.full(plan.networks, np.nan)
        self.lock, self.stop, self.done = threading.Lock(), threading.Event(), 0

    def keep(self, probe: Probe, rows: np.ndarray, column: int, values: Tensor, alive: Tensor) -> None:
        """Write one measurement of one job into the result."""
        if values.ndim != 1 + len(probe.dims) or len(values) != len(rows):
            raise ValueError(f"probe {probe.name!r} returned shape {tuple(values.shape)} for {len(rows)} networks and dims {probe.dims}")
        values = values.detach().to(torch.float32 if self.plan.dtype == torch.float32 else torch.float64)
        good = alive.reshape(-1, *[1] * (values.ndim - 1)) & torch.isfinite(values)
        array = torch.where(good, values, torch.nan).cpu().numpy()
        with self.lock:
            if probe.name not in self.results:
                shape = (self.plan.networks, len(self.plan.record_steps), *array.shape[1:])
                self.results[probe.name] = np.full(shape, np.nan, array.dtype)
        self.results[probe.name][rows, column] = array

    def advance(self, networks: int, steps: int) -> None:
        with self.lock:
            self.done += networks * steps


class _Training:
    """The networks of one job and their next update, all in place: the same memory at every step."""

    def __init__(self, run: _Run, job: Job) -> None:
        plan, device = run.plan, run.plan.device
        self.run, self.rows, self.task, self.optimizer = run, job.rows, plan.task, job.optimizer
        self.cuda, seeds = device.type == "cuda", plan.columns["seed"][job.rows].tolist()
        self.w = _initial(plan.task, seeds, plan.columns["init_scale"][job.rows], plan.dtype).to(device)
        self.state = {name: torch.zeros_like(self.w) for name in job.optimizer.buffers}
        self.h, self.rate = _hyperparameters(plan, job)
        self.batches = (_Fresh if plan.sampling == "fresh" else _Minibatches)(plan, job, run.parts["train"])
        self.gradients = Gradients(plan.task, plan.autograd)
        self.gradients_ahead = Gradients(plan.task, plan.autograd) if job.optimizer.ahead else None
        self.alive, self.all_alive = torch.ones(len(job.rows), dtype=torch.bool, device=device), True
        self.diverged_at = torch.full((len(job.rows),), torch.nan, device=device, dtype=torch.float64)
        self.bound: Tensor | None = None  # the loss beyond which a network has diverged, (K,)
        self.limit: float | None = None  # the least of them
        self.update = self._update
        self.networks = Networks(plan.task, self.w, self.w.clone(), 0, self.h, job.batch_size, seeds, run.parts, self.gradients)

    def measure(self, t: int, column: int) -> None:
        """Record every probe after t updates."""
        self.rate.set(min(t, self.run.plan.steps - 1), self.h)
        self.networks.step, self.networks._outputs = t, {}
        # the probes can use the passes of the next step, which are kept where they are written out
        if self.batches.whole and not self.cuda and self.gradients.family is not None:
            self.gradients(self.w, *self.batches.gather())
        for probe in self.run.plan.probes:
            self.run.keep(probe, self.rows, column, probe.measure(self.networks), self.alive)

    def step(self, t: int) -> None:
        """The update number t, counted from 0."""
        self.batches.turn()
        self.rate.set(t, self.h)
        if self.cuda and t == 1:  # the first step has set the bound; the rest of them are alike
            self.update = _captured(self._update, [self.w, self.alive, self.diverged_at, self.h.step, *self.state.values()])
        # autograd's bookkeeping takes time even where nothing is differentiated
        with torch.inference_mode(self.gradients.family is not None):
            self.update()

    def look(self) -> None:
        """See which networks the last update has made diverge, by the minibatch that would come next."""
        self.batches.turn()
        with torch.inference_mode(self.gradients.family is not None):
            self._gradient()

    def _update(self) -> None:
        h, w = self.h, self.w
        x, y, gradient = self._gradient()
        if self.gradients_ahead is not None:
            _, ahead = self.gradients_ahead(w + self.optimizer.ahead(gradient, h), x, y)
            gradient = self.optimizer.corrected(gradient, ahead, h)
        optimizers.step(self.optimizer, w, gradient, self.state, h, None if self.all_alive else self.alive)

    def _gradient(self) -> tuple[Tensor, Tensor, Tensor]:
        """The next minibatch and the gradient (K, P) on it; a network whose loss there is beyond its bound has diverged."""
        h, w = self.h, self.w
        h.step.add_(1)
        x, y = self.task.seen(*self.batches.gather(), h)
        if self.optimizer.proximal:
            losses, gradient = _proximal(self.task, w, x, y, h.lr)
        else:
            losses, gradient = self.gradients(w, x, y, self.limit)
        if self.bound is None:
            # a number that is finite, so that a loss that overflows is beyond it
            self.bound = (DIVERGENCE * losses.abs().clamp(min=1.0)).clamp(max=torch.finfo(w.dtype).max)
            # looking is free on a CPU; on a GPU it would wait for the device
            self.limit = None if self.cuda else self.bound.min().item()
        if losses is not None:
            sound = losses <= self.bound  # false for NaN too
            if self.cuda or not sound.all():
                self.diverged_at.copy_(torch.where(self.alive & ~sound, h.step - 1, self.diverged_at))
                self.alive.logical_and_(sound)
                self.all_alive = False
        return x, y, gradient

    def drop_the_lost(self) -> None:
        """Go on without the networks that have diverged, once they are a `LOST` part of all.

        On a CPU only: a GPU would have to wait for the count, and its recorded step has a fixed size.
        """
        if self.cuda or self.all_alive or self.alive.count_nonzero() > (1 - LOST) * len(self.alive):
            return
        self.store()
        kept = self.alive.nonzero()[:, 0]
        self.w, self.bound, self.alive, self.diverged_at = (t[kept] for t in (self.w, self.bound, self.alive, self.diverged_at))
        self.state = {name: value[kept] for name, value in self.state.items()}
        for name, value in vars(self.h).items():
            if isinstance(value, Tensor) and value.ndim:
                setattr(self.h, name, value[kept])
        self.rate.keep(kept)
        self.batches.keep(kept)
        n, self.rows, self.all_alive = self.networks, self.rows[kept.numpy()], True
        self.networks = replace(n, w=self.w, w0=n.w0[kept], seeds=[n.seeds[i] for i in kept.tolist()], memory={}, _outputs={})

    def store(self) -> None:
        """Write down which of the networks have diverged, and when."""
        self.run.diverged_at[self.rows] = self.diverged_at.cpu().numpy()


def _captured(update: Callable[[], None], changing: Sequence[Tensor]) -> Callable[[], None]:
    """`update` as a CUDA graph: its kernels are launched together, with no Python between them.

    What cannot be captured (a model that looks at its values, say) is left as it is.
    """
    before, current, side = [t.clone() for t in changing], torch.cuda.current_stream(), torch.cuda.Stream()
    side.wait_stream(current)
    try:
        with torch.cuda.stream(side):  # libraries set themselves up, outside of the graph
            for _ in range(3):
                update()
        current.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            update()
        return graph.replay
    except RuntimeError:
        return update
    finally:
        for tensor, value in zip(changing, before):
            tensor.copy_(value)


def _train(run: _Run, job: Job) -> None:
    """Train the networks of one job and record them."""
    plan, training, reported = run.plan, _Training(run, job), 0
    columns = {step: i for i, step in enumerate(plan.record_steps)}
    for t in range(plan.steps + 1):
        if t in columns:
            training.measure(t, columns[t])
        if t - reported >= REPORT:
            run.advance(len(job.rows), t - reported)
            reported = t
            training.drop_the_lost()
        if run.stop.is_set() or not len(training.rows):
            break
        if t < plan.steps:
            training.step(t)
        else:
            training.look()
    training.store()
    run.advance(len(job.rows), plan.steps - reported)


@dataclass
class _Rate:
    """The learning rate of each network at each step, written into `h.lr`.

    Attributes:
        base: before the schedule, (K, 1), or (K, P) where the last layer has another one than the rest.
        factors: of the schedules, (steps, schedules); None if they are all 1.
        choice: each network's schedule, (K,).
    """

    base: Tensor
    factors: Tensor | None
    choice: Tensor

    def set(self, step: int, h: SimpleNamespace) -> None:
        if self.factors is not None:
            torch.mul(self.base, self.factors[step][self.choice, None], out=h.lr)

    def keep(self, rows: Tensor) -> None:
        self.base, self.choice = self.base[rows], self.choice[rows]


def _hyperparameters(plan: Plan, job: Job) -> tuple[SimpleNamespace, _Rate]:
    """The job's hyperparameters as tensors (K, 1), so that each network has its own, and its learning rates."""

    def column(values: np.ndarray) -> Tensor:
        return torch.tensor(values, dtype=plan.dtype, device=plan.device)[:, None]

    h = SimpleNamespace(init_scale=column(plan.columns["init_scale"][job.rows]))
    h.step = torch.zeros((), dtype=plan.dtype, device=plan.device)
    h.seeds = torch.tensor(plan.columns["seed"][job.rows], device=plan.device)
    used, off = set(), optimizers.COMMON | SIGHT
    for name, default in (job.optimizer.hyperparameters | SIGHT).items():
        values = plan.columns.get(name)
        values = np.full(len(job.rows), default) if values is None else values[job.rows].astype(float)
        setattr(h, name, column(values))
        if name in off and (values != off[name]).any():
            used.add(name)
    h.uses = frozenset(used)
    base = column(plan.columns["lr"][job.rows])
    if "readout_lr" in plan.columns:
        base = torch.where(plan.task.readout_mask.to(plan.device), column(plan.columns["readout_lr"][job.rows]), base)
    h.lr = base.clone()
    constant = (plan.factors == 1).all()
    factors = None if constant else torch.tensor(plan.factors.T, dtype=plan.dtype, device=plan.device)
    return h, _Rate(base, factors, torch.tensor(plan.columns["schedule"][job.rows], device=plan.device))


def _proximal(task: Task, w: Tensor, x: Tensor, y: Tensor, lr: Tensor) -> tuple[Tensor, Tensor]:
    """Losses, and (w - prox(w)) / lr in the place of the gradient."""
    return task.losses(task.unflatten(w), x, y), (w - task.model.prox(w, x, lr)) / lr


@once
def _keep_freed_memory() -> None:
    """Let glibc keep what is freed for the next step, up to 64 MB, in the place of handing it back to the system.

    Fetching it back, page by page, costs a third of the time of a step that allocates. Elsewhere nothing is done.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD
        library.mallopt(-1, 64 << 20)  # M_TRIM_THRESHOLD


def _worker() -> None:
    """Set up a thread that trains: one thread inside an operation, and numbers below 1e-38 are zero.

    Processors take many times longer with such numbers, which the gradients of a network that
    has learned everything are.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    _keep_freed_memory()


def _run(plan: Plan, key: str, client: Client | None) -> xr.Dataset:
    """Run all jobs, with progress; an interrupt ends them early and keeps what is done."""
    run, start = _Run(plan, None if client is None else {}), time.perf_counter()
    quiet = os.environ.get("DESCENT_PROGRESS") == "off"
    with tqdm(total=plan.networks * plan.steps, unit="update", unit_scale=True, leave=False, delay=1, disable=quiet,
              desc=f"training {plan.networks} networks") as bar:  # fmt: skip
        interrupted = _train_here(run, bar) if client is None else cluster.train(run, client, bar)
    dataset = _dataset(plan, run, key, time.perf_counter() - start, interrupted)
    if client is not None:
        dataset.attrs["cluster"] = cluster.size(client)
    return dataset


def _train_here(run: _Run, bar: tqdm) -> bool:
    """Train the jobs on threads of this process; True if an interrupt ended it early."""
    workers, threads = _workers(run.plan.device), torch.get_num_threads()
    # one thread inside an operation, several jobs side by side: OpenMP's threads wait on each
    # other and slow down many times over as soon as anything else runs on the machine
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(workers, initializer=_worker)
    try:
        pending = {pool.submit(_train, run, job) for job in run.plan.jobs}
        while pending:
            finished, pending = wait(pending, timeout=0.1)
            bar.update(run.done - bar.n)
            for future in finished:
                future.result()
        return False
    except KeyboardInterrupt:
        return True
    finally:
        run.stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(threads)


# -- the result --------------------------------------------------------------------------


def _dataset(plan: Plan, run: _Run, key: str, seconds: float, interrupted: bool) -> xr.Dataset:
    shape, dims = [len(v) for v in plan.dims.values()], list(plan.dims)
    variables = {"diverged_at": (dims, run.diverged_at.reshape(shape))}
    for probe in plan.probes:
        values = run.results.get(probe.name)
        if values is None:  # interrupted before the first measurement
            values = np.full((plan.networks, len(plan.record_steps), *[0] * len(probe.dims)), np.nan)
        variables[probe.name] = ((*dims, "step", *probe.dims), values.reshape(*shape, *values.shape[1:]))
    coordinates = {name: (name, [_label(v) for v in values]) for name, values in plan.dims.items()}
    coordinates |= {name: ((), _label(value)) for name, value in plan.scalars.items()}
    coordinates["step"] = ("step", plan.record_steps)
    dataset = xr.Dataset(variables, coordinates)
    for name in [*dataset.variables]:
        quantity = describe(name)
        dataset[name].attrs.update(long_name=quantity.label, symbol=quantity.symbol, units=quantity.unit)
    dataset["diverged_at"].attrs.update(long_name="step at which the network diverged", units="updates")
    dataset.attrs = {
        "recipe": json.dumps(_written(plan), ensure_ascii=False, default=repr),
        "recipe_id": key,
        "task": plan.task.name,
        "steps": plan.steps,
        "device": str(plan.device),
        "dtype": str(plan.dtype).removeprefix("torch."),
        "version": version("descent"),
        "seconds": round(seconds, 3),
        "interrupted": int(interrupted),
    }
    return dataset


def _label(value: Any) -> Any:
    return value.name if isinstance(value, Optimizer | Schedule) else value


def _written(plan: Plan) -> dict[str, Any]:
    """The recipe in words and numbers, enough to make the Dataset again."""

    def words(value: Any) -> Any:
        if isinstance(value, Optimizer):
            return {"name": value.name, **words(value.hyperparameters)}
        if callable(value) and not isinstance(value, Schedule):
            try:
                return inspect.getsource(value).strip()
            except (OSError, TypeError):
                return getattr(value, "__name__", "function")
        if isinstance(value, Tensor | np.ndarray):
            return value.tolist() if math.prod(value.shape) <= 16 else f"tensor of shape {tuple(value.shape)}"
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, Mapping):
            return {str(k): words(v) for k, v in value.items()}
        if _several(value):
            return [words(v) for v in value]
        if is_dataclass(value) and not isinstance(value, Schedule):  # a model, or one inside another
            return {"name": type(value).__name__, **{k: words(v) for k, v in vars(value).items()}}
        return _label(value)

    task = plan.task
    return {
        "model": words(task.model),
        "data": {"name": task.data.name, "train": len(task.data), "shape": list(task.data.x.shape[1:])},
        "loss": task.loss,
        **{name: [words(v) for v in values] for name, values in plan.dims.items()},
        **{name: words(value) for name, value in plan.scalars.items()},
        "steps": plan.steps,
        "sampling": plan.sampling,
        "autograd": plan.autograd,
        "record": [p.name for p in plan.probes],
    }


from descent import cluster  # noqa: E402  (it trains the jobs of this module)
