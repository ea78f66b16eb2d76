"""How PyTorch's own users train many small networks. Each function returns final training losses (K,)."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import torch
from joblib import Parallel, delayed, parallel_config
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn.utils import vector_to_parameters

from bench.problems import CORES, Problem, module


def _network(problem: Problem, seed: int) -> nn.Module:
    net = module(problem.task)
    vector_to_parameters(problem.weights([seed])[0], net.parameters())
    return net


def train_one(problem: Problem, seed: int) -> Tensor:
    """The loop of every tutorial: `nn.Module`, `torch.optim.SGD`, `backward()`."""
    (x, y), loss, net = problem.examples, problem.loss, _network(problem, seed)
    optimizer = torch.optim.SGD(net.parameters(), lr=problem.lr)
    for index in problem.batches(seed):
        optimizer.zero_grad()
        loss(net(x[index]), y[index]).backward()
        optimizer.step()
    with torch.no_grad():
        return loss(net(x), y)


def loop(problem: Problem) -> Tensor:
    return torch.stack([train_one(problem, seed) for seed in problem.seeds])


def processes(problem: Problem) -> Tensor:
    """The same loop, networks shared out to a process on each core (joblib keeps the processes between calls)."""
    with parallel_config(backend="loky", inner_max_num_threads=1):
        return torch.stack(Parallel(n_jobs=CORES)(delayed(train_one)(problem, s) for s in problem.seeds))


def functional(problem: Problem, chunk: int = 96) -> Tensor:
    """`torch.func`: one network's gradient, mapped over stacked networks; chunks of them on a thread for each core."""
    parts = [replace(problem, seeds=problem.seeds[i : i + chunk]) for i in range(0, len(problem.seeds), chunk)]
    with ThreadPoolExecutor(CORES, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return torch.cat(list(pool.map(_functional, parts)))


def _functional(problem: Problem) -> Tensor:
    (x, y), loss, seeds = problem.examples, problem.loss, problem.seeds
    networks = [_network(problem, seed) for seed in seeds]
    params, _ = stack_module_state(networks)
    params = {name: p.detach() for name, p in params.items()}
    one = copy.deepcopy(networks[0]).to("meta")

    def objective(params: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return loss(functional_call(one, params, (x,)), y)

    whole = problem.batch_size is None
    gradients = vmap(grad(objective), (0, None, None) if whole else 0)
    order = problem.batches(0) if whole else torch.stack([problem.batches(seed) for seed in seeds], 1)

    def batch(examples: Tensor, index: Tensor | slice) -> Tensor:
        return examples if whole else examples.index_select(0, index.flatten()).view(*index.shape, *examples.shape[1:])

    for index in order:
        step = gradients(params, batch(x, index), batch(y, index))
        params = {name: p - problem.lr * step[name] for name, p in params.items()}
    return vmap(objective, (0, None, None))(params, x, y)


def by_hand(problem: Problem) -> Tensor:
    """One MLP without `nn` and `optim`: plain tensors, `autograd.grad`, an update in place."""
    (seed,) = problem.seeds
    (x, y), loss = problem.examples, problem.loss
    params = [p[0].requires_grad_() for p in problem.task.unflatten(problem.weights()).values()]

    def forward(x: Tensor) -> Tensor:
        for i in range(0, len(params), 2):
            x = torch.addmm(params[i + 1].T, x if i == 0 else x.tanh(), params[i].T)
        return x

    for index in problem.batches(seed):
        gradients = torch.autograd.grad(loss(forward(x[index]), y[index]), params)
        with torch.no_grad():
            for p, g in zip(params, gradients):
                p.sub_(g, alpha=problem.lr)
    with torch.no_grad():
        return loss(forward(x), y)[None]
