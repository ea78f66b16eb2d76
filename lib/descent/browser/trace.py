"""From a task and the arguments of `sweep` to the graphs of what the page has to compute.

Five pure functions make up a training: `init` draws the weights, `order` the examples of an
epoch, `step` is one update, `evaluate` measures, `product` multiplies by the Hessian. They are put
together from the library's own parts (`Task`, the models, the rules of `optimizers`, the probes) and
recorded by `make_fx` in core ATen operations. Every size is a number except the batch size.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from traceback import StackSummary
from types import SimpleNamespace
from unittest import mock

import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext
from torch.fx.proxy import TracerBase

from descent import optimizers, seeding
from descent.browser import decompose
from descent.browser.lower import Unsupported
from descent.optimizers import Optimizer
from descent.probes import Networks, Probe
from descent.probes.curvature import EXPLORE, _random
from descent.sweep import CHUNK, DIVERGENCE, Plan, _proximal
from descent.task import SIGHT, Part, Task

Variables = dict[str, Tensor]

#: the batch size while tracing; no size of a model or a data set should be the same
_PLACEHOLDER = 999_983


@dataclass
class Traced:
    """A traced function: it reads the variables `inputs` and writes the variables `outputs`."""

    name: str
    graph: fx.GraphModule
    inputs: list[str]
    outputs: list[str]


@dataclass
class Program:
    """What the page computes.

    Attributes:
        functions: `step_0`, `step_1`, ... are those of the optimizers.
        variables: name -> example tensor; its sizes are numbers, or the symbolic batch size.
        data: name -> the contents of the variables that hold data.
        hyperparameters: names of those that vary, in the order of their variables.
        recorded: names of the quantities, in the order of the rows of the variable "recorded".
        sampling: how the examples of a step are chosen, as in `sweep`.
    """

    functions: list[Traced]
    variables: dict[str, Tensor]
    data: dict[str, Tensor]
    hyperparameters: list[str]
    recorded: list[str]
    sampling: str


class _Gradients:
    """What probes ask of `backprop.Gradients`, in operations that can be traced."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def outputs(self, w: Tensor, x: Tensor) -> Tensor:
        return self.task.model.apply(self.task.unflatten(w), x)

    def __call__(self, w: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Loss (K,) and gradient (K, P) of each network."""

        def total(params: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
            losses = self.task.losses(params, x, y)
            return losses.sum(), losses

        gradients, losses = torch.func.grad(total, has_aux=True)(self.task.unflatten(w))
        return losses, self.task.flatten(gradients, 1)

    def product(self, w: Tensor, v: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """The Hessian of each network's loss times v (K, P)."""
        directions = self.task.unflatten(v)

        def along(params: dict[str, Tensor]) -> Tensor:
            slope = torch.func.grad(lambda p: self.task.losses(p, x, y).sum())(params)
            return sum((slope[name] * directions[name]).sum() for name in params)

        return self.task.flatten(torch.func.grad(along)(self.task.unflatten(w)), 1)


class _Tracer:
    """Traces functions of named variables."""

    def __init__(self) -> None:
        self.environment = ShapeEnv()
        self.mode = FakeTensorMode(shape_env=self.environment, allow_non_fake_inputs=True)
        self.variables: dict[str, Tensor] = {}
        self.functions: list[Traced] = []

    def variable(self, name: str, *shape: int, dtype: torch.dtype = torch.float32, symbolic: int | None = None) -> None:
        """Declare a variable; the dimension `symbolic` has the batch size."""
        sizes = [DimDynamic.DYNAMIC if d == symbolic else DimDynamic.STATIC for d in range(len(shape))]
        context = StatelessSymbolicContext(dynamic_sizes=sizes)
        self.variables[name] = self.mode.from_tensor(torch.empty(shape, dtype=dtype), symbolic_context=context)

    def trace(self, name: str, function: Callable[[Variables], Variables]) -> None:
        """Trace a function of the variables; it returns those that change.

        Raises:
            Unsupported: it cannot be traced, or only for one batch size.
        """
        names, changed = list(self.variables), []

        def flat(*tensors: Tensor) -> list[Tensor]:
            results = function(dict(zip(names, tensors)))
            changed[:] = results
            return list(results.values())

        tracer = make_fx(torch.func.functionalize(flat), decompose.table(), tracing_mode="symbolic", record_stack_traces=True)
        try:
            with mock.patch.object(TracerBase, "_filter_traceback_frames", _own_frames, create=True):
                graph = tracer(*self.variables.values())
        except Unsupported:
            raise
        except Exception as error:  # whatever PyTorch raises at a function that looks at values
            raise Unsupported(f"{name}: {type(error).__name__}", str(error).partition("\n")[0]) from error
        if self.environment.replacements or self.environment.guards:
            raise Unsupported(f"{name}: something that depends on the batch size")
        used = {n: v for n, v in zip(graph.graph.find_nodes(op="placeholder"), names) if n.users}
        for node in graph.graph.find_nodes(op="placeholder"):
            if node not in used:
                graph.graph.erase_node(node)
        self.functions.append(Traced(name, graph, list(used.values()), changed))


def _own_frames(tracer: TracerBase, frames: StackSummary) -> StackSummary:
    """The lines of source outside of PyTorch that led to an operation, to be kept with it."""
    torch_folder = os.path.dirname(torch.__file__)
    return StackSummary.from_list([f for f in frames if not f.filename.startswith(torch_folder) and f.filename != __file__])


def trace(task: Task, plan: Plan) -> Program:
    """Trace what `sweep` would do for a plan whose swept values may be any others.

    Raises:
        Unsupported: something in it cannot be traced, or has no form in the page.
    """
    if plan.dtype != torch.float32:
        raise Unsupported(f"dtype={plan.dtype}")
    if len(plan.schedules) > 1:
        raise Unsupported("a choice of schedules")
    probes = [p for p in plan.probes if p.name != "sharpness"]
    for p in probes:
        if p.dims:
            raise Unsupported(f"the probe {p.name!r}")
    K, P, n, classes = len(plan.dims["seed"]), task.parameters, len(task.data), task.data.classes
    varying = [name for name in plan.dims if name not in ("seed", "optimizer", "batch_size")]
    T = _Tracer()
    parts, data = _data(T, task, {"train"} | {which for p in probes for which in p.needs})
    mask = task.readout_mask
    gradients, sampling = _Gradients(task), plan.sampling
    # the batch size is a number unless there is a slider for it
    batch, symbolic = (_PLACEHOLDER, 1) if "batch_size" in plan.dims else (plan.scalars["batch_size"], None)
    if sampling == "fresh" and symbolic:
        raise Unsupported("sampling='fresh' with several batch sizes")

    for name in varying:
        T.variable(f"h_{name}")
    T.variable("seeds", K, dtype=torch.int64)
    T.variable("t", dtype=torch.int64)
    T.variable("index", K, batch, dtype=torch.int64, symbolic=symbolic)
    for name in ("w", "w0", *sorted({f"state_{buffer}" for rule in plan.optimizers for buffer in rule.buffers})):
        T.variable(name, K, P)
    T.variable("alive", K, dtype=torch.bool)
    T.variable("bound", K)
    T.variable("diverged_at", K)

    def hyperparameter(v: Variables, name: str, default: float | None = None) -> Tensor:
        if f"h_{name}" in v:
            return v[f"h_{name}"]
        return torch.tensor(float(plan.scalars.get(name, default)))

    def init(v: Variables) -> Variables:
        def drawn(seed: Tensor) -> Tensor:
            params = task.model.init(seeding.Generator(seeding.key(seed, "init")), hyperparameter(v, "init_scale"))
            return task.flatten(params, 0).float()

        w = torch.func.vmap(drawn)(v["seeds"])
        return {"w": w, "w0": w.clone()}

    def order(v: Variables) -> Variables:
        key = seeding.key(v["seeds"], "batches")
        if sampling == "shuffle":
            return {"permutation": seeding.permutations(key, v["t"], n)}
        place = v["t"] % CHUNK * v["index"].shape[1] + torch.arange(v["index"].shape[1])
        return {"index": seeding.integers_at(key, v["t"] // CHUNK, n, place)}

    def step(rule: Optimizer) -> Callable[[Variables], Variables]:
        def function(v: Variables) -> Variables:
            h = _hyperparameters(rule, plan, mask, lambda name, default: hyperparameter(v, name, default), v)
            if sampling == "fresh":
                x, y = torch.func.vmap(lambda seed: task.fresh(seed, v["t"], batch))(v["seeds"])
            else:
                x, y = (t[..., v["index"]].movedim(-2, 0) for t in parts(v, "train", raw=True)[:2])
            x, y = task.seen(x, y, h)
            w, state = v["w"].clone(), {name: v[f"state_{name}"].clone() for name in rule.buffers}
            y = _targets(classes, y)
            if rule.proximal:
                losses, gradient = _proximal(task, w, x, y, h.lr)
            else:
                losses, gradient = gradients(w, x, y)
            if rule.ahead:
                gradient = rule.corrected(gradient, gradients(w + rule.ahead(gradient, h), x, y)[1], h)
            first = (DIVERGENCE * losses.abs().clamp(min=1.0)).clamp(max=torch.finfo(torch.float32).max)
            bound = torch.where(v["t"] == 0, first, v["bound"])
            alive = v["alive"] & (losses <= bound)  # false for NaN too
            diverged_at = torch.where(v["alive"] & ~alive, v["t"].float(), v["diverged_at"])
            optimizers.step(rule, w, gradient, state, h, alive)
            changed = {"w": w, "alive": alive, "bound": bound, "diverged_at": diverged_at}
            return changed | {f"state_{name}": value for name, value in state.items()}

        return function

    def evaluate(v: Variables) -> Variables:
        rule = plan.optimizers[0]
        h = _hyperparameters(rule, plan, mask, lambda name, default: hyperparameter(v, name, default), v)
        known = {which: Part(*parts(v, which)) for which in sorted({"train"} | {w for p in probes for w in p.needs})}
        networks = Networks(task, v["w"], v["w0"], v["t"], h, v["index"].shape[1], v["seeds"], known, gradients)
        values = torch.stack([_measured(p, networks) for p in probes])
        return {"recorded": torch.where(v["alive"] & torch.isfinite(values), values, torch.nan)}

    def start(v: Variables) -> Variables:
        # drawn in the module, with the seed as a tensor: as a constant it would weigh as much as a network
        random = _random.__wrapped__(torch.zeros((), dtype=torch.int64), 0, P).float()
        finite = torch.isfinite(v["warm"]).all(1, keepdim=True)
        return {"vector": torch.where(finite, v["warm"], 0.0) + EXPLORE * random}

    def product(v: Variables) -> Variables:
        x, y, _ = parts(v, "train")
        return {"product": gradients.product(v["w"], v["vector"], x, y)}

    T.trace("init", init)
    if sampling != "fresh":
        T.trace("order", order)
    for number, rule in enumerate(plan.optimizers):
        T.trace(f"step_{number}", step(rule))
    if sampling == "shuffle":
        T.variable("permutation", K, n, dtype=torch.int64)
    if probes:
        T.trace("evaluate", evaluate)
    T.variable("recorded", len(plan.probes), K)
    if len(probes) < len(plan.probes):
        T.variable("warm", K, P)
        T.trace("start", start)
        T.variable("vector", K, P)
        T.trace("product", product)
        T.variable("product", K, P)
    used = {v for f in T.functions for v in f.inputs + f.outputs}
    data = {name: tensor for name, tensor in data.items() if name in used}
    recorded = sorted((p.name for p in plan.probes), key=lambda name: name == "sharpness")  # the module measures it last
    return Program(T.functions, T.variables, data, varying, recorded, sampling)


def _measured(probe: Probe, networks: Networks) -> Tensor:
    """What a probe measures, (K,); it must be a function of the networks as they are now."""
    try:
        values = probe.measure(networks)
    except Exception as error:  # it looks at values, or differentiates in its own way
        raise Unsupported(f"the probe {probe.name!r}") from error
    if networks.memory:
        raise Unsupported(f"the probe {probe.name!r}, which remembers its last measurement,")
    return values


def _data(T: _Tracer, task: Task, needed: set[str]) -> tuple[Callable[..., tuple], dict[str, Tensor]]:
    """Declare the data's variables.

    Returns:
        A function that finds a part (x, y, labels) among the variables, with labels for targets if it shall be `raw`,
        and the contents of the variables.
    """
    data: dict[str, Tensor] = {}
    classes = task.data.classes
    for which in sorted(needed):
        part = task.part(which)
        data[f"{which}_x"] = part.x
        if part.y.is_floating_point():
            data[f"{which}_y"] = part.y
        if part.labels is not None:
            data[f"{which}_labels"] = part.labels.to(torch.int32)
    for name, tensor in data.items():
        T.variable(name, *tensor.shape, dtype=tensor.dtype)

    def find(v: Variables, which: str, raw: bool = False) -> tuple[Tensor, Tensor, Tensor | None]:
        labels = v.get(f"{which}_labels")
        y = v.get(f"{which}_y", labels)
        return v[f"{which}_x"], y if raw else _targets(classes, y), labels

    return find, data


def _targets(classes: int | None, y: Tensor) -> Tensor:
    """Labels (*net, n) as probabilities (*net, classes, n); values as they are."""
    if y.is_floating_point():
        return y
    return (y.unsqueeze(-2) == torch.arange(classes, dtype=y.dtype).unsqueeze(-1)).float()


def _hyperparameters(
    rule: Optimizer, plan: Plan, mask: Tensor, value: Callable[[str, float | None], Tensor], v: Variables
) -> SimpleNamespace:
    """What `sweep._hyperparameters` makes, for the next step of networks that share them."""
    t, defaults = v["t"], rule.hyperparameters | SIGHT
    h = SimpleNamespace(init_scale=value("init_scale", None), step=t.float() + 1, seeds=v["seeds"])
    for name, default in defaults.items():
        setattr(h, name, value(name, default))
    given = {name: plan.dims.get(name, [plan.scalars.get(name, default)]) for name, default in defaults.items()}
    h.uses = frozenset(name for name, off in (optimizers.COMMON | SIGHT).items() if any(v != off for v in given[name]))
    h.lr = value("lr", None)
    if "readout_lr" in plan.columns:
        h.lr = torch.where(mask, value("readout_lr", None), h.lr)
    if (plan.factors != 1).any():
        factors = torch.tensor(plan.factors[0], dtype=torch.float32)
        h.lr = h.lr * factors.index_select(0, t.clamp(max=plan.steps - 1).reshape(1))
    return h
