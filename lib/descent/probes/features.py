"""The empirical neural tangent kernel, and how far it has moved."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import jacrev, vmap

from descent.probes import Networks, Probe, register
from descent.probes.noise import CHUNK, example_by_example
from descent.task import Task

#: examples on which the probe "kernel_distance" compares kernels
EXAMPLES = 32


def jacobian(task: Task, w: Tensor, x: Tensor) -> Tensor:
    """Derivative of every output on every example of x (*features, n) in the parameters, (K, n, outputs, P).

    Raises:
        ValueError: the model normalizes over the batch.
    """
    example_by_example(task)

    def outputs(w: Tensor, x: Tensor) -> Tensor:
        # summing over networks loses nothing: an output depends on its own network's row alone
        return task.model.apply(task.unflatten(w), x.unsqueeze(-1)).squeeze(-1).sum(0)

    each = vmap(jacrev(outputs), in_dims=(None, -1))
    return each(w.detach(), x).permute(2, 0, 1, 3)


def ntk(task: Task, w: Tensor, x: Tensor, trace: bool = False) -> Tensor:
    """Empirical neural tangent kernel J J^T of each network on x (*features, n) (Jacot et al. 2018).

    Returns:
        (K, n * outputs, n * outputs), the outputs of an example side by side; with `trace`,
        (K, n, n), averaged over the diagonal of each pair's outputs x outputs block.
    """
    outputs = task.model.apply(task.unflatten(w[:1].detach()), x[..., :1]).shape[-2]
    size = max(1, int(CHUNK / (x.shape[-1] * outputs * w.shape[1] * w.element_size())))
    kernels = []
    for some in w.split(size):
        J = jacobian(task, some, x)
        if trace:
            J = J.flatten(2) / outputs**0.5
        else:
            J = J.flatten(1, 2)
        kernels.append(J @ J.mT)
    return torch.cat(kernels)


def kernel_distance(a: Tensor, b: Tensor, centred: bool = False) -> Tensor:
    """1 - cosine similarity of kernel matrices (K, m, m) in the Frobenius inner product, (K,).

    0 means equal up to a factor. As it stands this is the kernel distance of Fort et al. 2020,
    "Deep learning versus kernel learning". `centred` first subtracts the means of rows and
    columns: 1 minus the centred alignment of Cortes et al. 2012.
    """
    if centred:
        a, b = (k - k.mean(1, keepdim=True) - k.mean(2, keepdim=True) + k.mean((1, 2), keepdim=True) for k in (a, b))
    a, b = (k.flatten(1) / k.flatten(1).norm(dim=1, keepdim=True) for k in (a, b))
    # |a - b|^2 / 2 of unit vectors is 1 - a . b without its rounding error near zero
    return (a - b).square().sum(1) / 2


def _from_start(networks: Networks) -> Tensor:
    x = networks.parts["train"].x[..., :EXAMPLES]
    if "kernel_distance" not in networks.memory:
        networks.memory["kernel_distance"] = ntk(networks.task, networks.w0, x)
    return kernel_distance(ntk(networks.task, networks.w, x), networks.memory["kernel_distance"])


register(Probe("kernel_distance", _from_start))
