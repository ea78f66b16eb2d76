"""Curvature and gradient noise of many small networks: curvlinops, PyHessian, BackPACK and loops, against the probes.

Every side runs on one thread.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from backpack import backpack, extend
from backpack.extensions import SumGradSquared
from curvlinops import HessianLinearOperator
from pyhessian import hessian as PyHessian
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from bench.plugin import Peer
from bench.problems import Problem, module
from descent import Task, data, models, sweep
from descent.backprop import Gradients
from descent.probes import PROBES, Networks, Probe, curvature, noise

TASK = Task(models.MLP((64, 64, 10)), data.digits(1000))
WEIGHTS = Probe("weights", lambda networks: networks.w.clone(), dims=("parameter",))


def weights(task: Task, networks: int, steps: list[int], **arguments: float) -> Tensor:
    """Weights (steps, K, P) along full-batch training."""
    ds = sweep(task, seed=list(range(networks)), steps=max(1, *steps), record=[WEIGHTS], record_every=steps, cache=False, **arguments)
    return torch.tensor(ds.weights.transpose("step", "seed", "parameter").values)


def network(task: Task, w: Tensor) -> tuple[nn.Module, Tensor, Tensor]:
    """One network as an `nn.Module`, and the training data."""
    net, (x, y) = module(task), Problem(task, None, 1, 0.1, range(1)).examples
    vector_to_parameters(w, net.parameters())
    return net, x, y


# -- the largest eigenvalue of the Hessian -----------------------------------------------


def by_curvlinops(task: Task, w: Tensor) -> float:
    net, x, y = network(task, w)
    hessian = HessianLinearOperator(net, nn.CrossEntropyLoss(), [*net.parameters()], [(x, y)], check_deterministic=False)
    return eigsh(hessian.to_scipy(), k=1, which="LA", tol=1e-3, return_eigenvectors=False)[0]


def by_pyhessian(task: Task, w: Tensor) -> float:
    """Its default tolerance, 1e-3, on the change from one iteration to the next."""
    net, x, y = network(task, w)
    torch.manual_seed(0)
    with warnings.catch_warnings(action="ignore"):  # of backward() with create_graph=True, which it calls
        return PyHessian(net, nn.CrossEntropyLoss(), data=(x, y), cuda=False).eigenvalues()[0][0]


def each(measure: Callable[[Task, Tensor], float], task: Task, w: Tensor) -> np.ndarray:
    return np.array([measure(task, row) for row in w])


def bench_top_eigenvalue(paired, size):
    K, few = size(48, 8), size(12, 2)
    (w,) = weights(TASK, K, [100], lr=0.1)
    paired(
        "largest Hessian eigenvalue",
        lambda device: curvature.top_eigenvalues(TASK, w.to(device))[:, 0].cpu(),
        [
            Peer("curvlinops, eigsh", lambda: each(by_curvlinops, TASK, w[:few]), K / few, least=10),
            Peer("PyHessian", lambda: each(by_pyhessian, TASK, w[:few]), K / few, within=math.inf),
        ],
        networks=K,
        within=2e-3,  # 1e-3 for each side
    )


def bench_eigenvalue_errors(keep):
    """What each side finds where the Hessian is small enough to be written out in float64."""
    task = Task(models.MLP((64, 16, 10)), data.digits(500))
    cases = {
        "after 20 steps": ([20], 1.0),
        "after 300 steps": ([300], 1.0),
        "at initialization, init scale 0.1": ([0], 0.1),
        "at initialization, init scale 0.01": ([0], 0.01),
    }
    table = []
    for name, (steps, scale) in cases.items():
        w = weights(task, 1, steps, lr=0.1, init_scale=scale)[0]
        dense = torch.linalg.eigvalsh(curvature.hessian(task, w[0].double()))
        found = {
            "ours": curvature.top_eigenvalues(task, w).item(),
            "curvlinops, eigsh": float(by_curvlinops(task, w[0])),
            "PyHessian": by_pyhessian(task, w[0]),
        }
        assert abs(found["ours"] / dense[-1] - 1) <= 1e-3, f"{name}: {found['ours']} is not {dense[-1]}"
        table.append({"case": name, "dense": dense[[-1, -2, 0]].tolist(), "found": found})
    keep(title="the largest eigenvalue, against the whole Hessian in float64", eigenvalues=table)


# -- sharpness along a run ---------------------------------------------------------------


def along(path: Tensor) -> np.ndarray:
    """Sharpness (steps, K) by the sweep's own probe, which starts where its last measurement ended."""
    seeds, parts = list(range(path.shape[1])), {"train": TASK.part("train", path.device)}
    networks = Networks(TASK, path[0], path[0], 0, SimpleNamespace(), len(TASK.data), seeds, parts, Gradients(TASK))
    out = []
    for networks.w in path:
        out.append(PROBES["sharpness"].measure(networks).cpu().numpy())
    return np.stack(out)


def eigsh_along(path: Tensor) -> np.ndarray:
    """The same for one network after the other, each measurement starting from the last one's vector."""
    out = np.empty(path.shape[:2])
    for k in range(path.shape[1]):
        net, x, y = network(TASK, path[0, k])
        params, vector = list(net.parameters()), None
        for t, w in enumerate(path[:, k]):
            vector_to_parameters(w, params)
            gradients = torch.autograd.grad(nn.functional.cross_entropy(net(x), y), params, create_graph=True)
            flat = parameters_to_vector(gradients)

            def product(v: np.ndarray) -> np.ndarray:
                direction = torch.tensor(v.ravel(), dtype=flat.dtype)
                return parameters_to_vector(torch.autograd.grad(flat, params, direction, retain_graph=True)).numpy()

            hessian = LinearOperator((len(w), len(w)), matvec=product, dtype=np.float32)
            (out[t, k],), vector = eigsh(hessian, k=1, which="LA", tol=1e-3, v0=vector)
            vector = vector[:, 0]
    return out


def bench_sharpness_along_run(paired, size):
    K, few = size(48, 8), size(6, 2)
    path = weights(TASK, K, list(range(0, size(201, 21), 10)), lr=0.1)
    paired(
        f"sharpness along a run, {len(path)} times",
        lambda device: along(path.to(device)).T,
        [Peer("loop of eigsh", lambda: eigsh_along(path[:, :few]).T, K / few, least=12)],
        networks=K,
        within=2e-3,
        rounds=3,
    )


@pytest.mark.parametrize("loss, lr", [("cross_entropy", 0.1), ("mse", 0.05)], ids=["early", "edge-of-stability"])
def bench_sharpness_share(paired, size, loss, lr):
    """Early in training the Hessian is another one every ten steps; at the edge of stability it hardly changes."""
    K, steps = size(48, 8), size(200, 20) if loss == "cross_entropy" else size(400, 40)
    task = Task(models.MLP((64, 64, 10)), data.digits(1000), loss)

    def train(record: list[str], device: str = "cpu") -> np.ndarray:
        ds = sweep(task, lr=lr, seed=list(range(K)), steps=steps, record=record, record_every=10, device=device, cache=False)
        return ds.loss.values[..., -1].ravel()

    paired(
        f"full-batch training, {loss.replace('_', '-')}, {steps} steps",
        lambda device: train(["loss"], device),
        [Peer("the same with sharpness", lambda: train(["loss", "sharpness"]), most=1.25)],
        networks=K,
        steps=steps,
        rounds=3,
    )


# -- gradient noise ----------------------------------------------------------------------


def total_variance(squares: Tensor, net: nn.Module) -> Tensor:
    """tr Sigma from the mean squared norm of the examples' gradients and the mean gradient in `.grad`."""
    return squares - parameters_to_vector([p.grad for p in net.parameters()]).square().sum()


def by_example(task: Task, w: Tensor) -> float:
    """One backward pass for each example."""
    net, x, y = network(task, w)
    params, squares = list(net.parameters()), 0.0
    for i in range(len(x)):
        gradients = torch.autograd.grad(nn.functional.cross_entropy(net(x[i : i + 1]), y[i : i + 1]), params)
        squares += sum(g.square().sum() for g in gradients)
    nn.functional.cross_entropy(net(x), y).backward()
    return total_variance(squares / len(x), net).item()


def by_func(task: Task, w: Tensor) -> float:
    """All examples' gradients at once, by `torch.func`."""
    net, x, y = network(task, w)
    params = {name: p.detach() for name, p in net.named_parameters()}

    def objective(params: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(functional_call(net, params, (x[None],)), y[None])

    gradients = vmap(grad(objective), (None, 0, 0))(params, x, y).values()
    return sum(g.var(0, correction=0).sum() for g in gradients).item()


def by_backpack(task: Task, w: Tensor) -> float:
    net, x, y = network(task, w)
    net, loss = extend(net), extend(nn.CrossEntropyLoss())
    with backpack(SumGradSquared()):
        loss(net(x), y).backward()
    squares = sum(p.sum_grad_squared.sum() for p in net.parameters()) * len(x)  # of the gradients of loss / n
    return total_variance(squares, net).item()


def bench_noise_trace(paired, size):
    K = size(48, 8)
    (w,) = weights(TASK, K, [100], lr=0.1)
    paired(
        "trace of the gradient noise",
        lambda device: noise.noise_trace(TASK, w.to(device)).cpu(),
        [
            Peer("loop over examples", lambda: each(by_example, TASK, w[:2]), K / 2, least=40),
            Peer("torch.func", lambda: each(by_func, TASK, w[:8]), K / 8, least=40),
            Peer("BackPACK", lambda: each(by_backpack, TASK, w[:8]), K / 8),
        ],
        networks=K,
    )
