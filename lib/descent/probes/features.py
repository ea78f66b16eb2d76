"""The empirical neural tangent kernel and how far it has moved; end-to-end matrices, their modes, and aligned neurons."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import jacrev, vmap

from descent.models import MLP
from descent.probes import Networks, Probe, register
from descent.probes.noise import CHUNK, example_by_example
from descent.task import Task

#: examples on which the probes compare kernels
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

    Raises:
        ValueError: the model normalizes over the batch.
    """
    example_by_example(task)
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


def kernel_change(a: Tensor, b: Tensor) -> Tensor:
    """|a - b| / |b| of kernel matrices (K, m, m) in the Frobenius norm, (K,); unlike `kernel_distance` it sees a factor."""
    return (a - b).flatten(1).norm(dim=1) / b.flatten(1).norm(dim=1)


def kernel_alignment(kernel: Tensor, y: Tensor) -> Tensor:
    """Cosine of kernels (K, n, n) and the targets' own kernel y^T y in the Frobenius inner product, (K,).

    y (outputs, n) are the targets; both kernels are centred first (Cortes et al. 2012, definition 4). 1 means that the
    kernel knows of two examples only how similar their targets are.
    """
    y = y - y.mean(1, keepdim=True)
    return 1 - kernel_distance(kernel, (y.mT @ y).expand_as(kernel), centred=True)


def _kernel(networks: Networks) -> Tensor:
    """The kernel on the first `EXAMPLES` training examples, computed once for all probes that ask."""
    memory = networks.memory
    if memory.get("kernel", (None,))[0] != networks.step:
        memory["kernel"] = networks.step, ntk(networks.task, networks.w, networks.parts["train"].x[..., :EXAMPLES])
    return memory["kernel"][1]


def _from_start(measure: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Networks], Tensor]:
    def compare(networks: Networks) -> Tensor:
        if "kernel at start" not in networks.memory:
            x = networks.parts["train"].x[..., :EXAMPLES]
            networks.memory["kernel at start"] = _kernel(networks) if networks.step == 0 else ntk(networks.task, networks.w0, x)
        return measure(_kernel(networks), networks.memory["kernel at start"])

    return compare


def _to_targets(networks: Networks) -> Tensor:
    part, kernel = networks.parts["train"], _kernel(networks)
    y = part.y if part.y.is_floating_point() else F.one_hot(part.y, networks.task.data.classes).mT
    y, n = y[:, :EXAMPLES].to(kernel.dtype), min(EXAMPLES, len(part))
    # as `ntk(..., trace=True)`: each pair's outputs x outputs block, averaged over its diagonal
    return kernel_alignment(kernel.unflatten(1, (n, -1)).unflatten(3, (n, -1)).diagonal(dim1=2, dim2=4).mean(-1), y)


register(Probe("kernel_distance", _from_start(kernel_distance)))
register(Probe("kernel_change", _from_start(kernel_change)))
register(Probe("kernel_alignment", _to_targets))


# -- linear networks ---------------------------------------------------------------------


def end_to_end(task: Task, w: Tensor) -> Tensor:
    """The matrix W_L ... W_1 of a `models.MatrixProduct` or a deep linear network without biases, (K, rows, columns).

    Raises:
        ValueError: the model is neither.
    """
    model, params = task.model, task.unflatten(w)
    if hasattr(model, "matrix"):
        return model.matrix(params)
    if not isinstance(model, MLP) or model.activation != "linear" or model.bias:
        raise ValueError(f"an end-to-end matrix needs a linear model without biases, not {model!r}")
    # the network's outputs for the unit vectors are the columns of its matrix
    return model.apply(params, torch.eye(model.widths[0], dtype=w.dtype, device=w.device))


register(Probe("matrix", lambda n: end_to_end(n.task, n.w), dims=("row", "column"), needs=()))
register(Probe("singular_values", lambda n: torch.linalg.svdvals(end_to_end(n.task, n.w)), dims=("mode",), needs=()))


# -- neurons of two-layer networks -------------------------------------------------------


def _neurons(networks: Networks) -> tuple[Tensor, Tensor]:
    """Input weights (K, hidden, inputs) and output weights (K, hidden) of a two-layer network with one output and no biases."""
    model, params = networks.task.model, networks.params
    if not isinstance(model, MLP) or len(model.widths) != 3 or model.widths[2] != 1 or model.bias:
        raise ValueError(f"neurons are looked at in an MLP with one hidden layer, one output and no biases, not in {model!r}")
    return params["W0"], params["W1"][:, 0]


def neuron_alignment(first: Tensor, second: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Cosine of each neuron's input weights with the mean of the examples of its class, (K, hidden); NaN for dead neurons.

    A neuron's class is the sign of its output weight (Min et al. 2023). It is dead if it is active on no example.

    Args:
        first: input weights (K, hidden, inputs); second: output weights (K, hidden).
        x: examples (inputs, n); y: targets (1, n), +1 or -1.
    """
    means = torch.stack([x @ (y[0] > 0).to(x), x @ (y[0] <= 0).to(x)])
    cosines = F.normalize(first, dim=-1) @ F.normalize(means, dim=-1).T
    own = torch.where(second > 0, cosines[..., 0], cosines[..., 1])
    alive = torch.zeros_like(own, dtype=torch.bool)
    for some in x.split(256, dim=1):
        alive |= (first @ some > 0).any(-1)
    return torch.where(alive, own, torch.nan)


def _alignment(networks: Networks) -> Tensor:
    first, second = _neurons(networks)
    part = networks.parts["train"]
    return neuron_alignment(first, second, part.x, part.y).nanmean(1)


def stable_rank(matrix: Tensor) -> Tensor:
    """|W|_F^2 / |W|_2^2 of matrices (..., rows, columns): the rank, with small singular values counted as little."""
    values = torch.linalg.svdvals(matrix)
    return values.square().sum(-1) / values[..., 0].square()


register(Probe("neuron_alignment", _alignment))
register(Probe("stable_rank", lambda n: stable_rank(_neurons(n)[0]), needs=()))
