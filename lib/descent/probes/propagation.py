"""How signals pass through a network: features, gradients and Jacobians layer by layer."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import jacrev, vmap

from descent.models import MLP
from descent.probes import Networks, Probe, register
from descent.probes.noise import example_by_example
from descent.task import Task

#: examples on which "layer_alignment" compares kernels and "feature_cosine" features
EXAMPLES = 150
#: examples at which "jacobian_singular_values" differentiates
POINTS = 8


def matrices(task: Task) -> list[str]:
    """The names of the weight matrices, W0, W1, ..., input to output: the layers of what follows.

    Raises:
        ValueError: the model names no parameter so.
    """
    names = [name for name, shape in task.layout.items() if name[0] == "W" and len(shape) == 2]
    if not names:
        raise ValueError(f"{type(task.model).__name__} has no layers W0, W1, ...; its parameters are {', '.join(task.layout)}")
    return names


def cosine_similarity(features: Tensor) -> Tensor:
    """Mean cosine between the feature vectors of two different examples, (K,), of features (K, units, n).

    It is 1 if all examples look alike. An example without any active unit has cosine 0 with all others.
    """
    n = features.shape[-1]
    units = torch.nn.functional.normalize(features, dim=-2)
    own = units.square().sum((-2, -1))  # n, less the examples without features
    return (units.sum(-1).square().sum(-1) - own) / (n * (n - 1))


def input_jacobian(task: Task, w: Tensor, x: Tensor) -> Tensor:
    """Derivative of the outputs in the inputs at every example of x (*features, n), (K, n, outputs, inputs).

    Raises:
        ValueError: the model normalizes over the batch.
    """
    example_by_example(task)
    params = task.unflatten(w.detach())

    def outputs(x: Tensor) -> Tensor:  # (K, outputs)
        return task.model.apply(params, x.unsqueeze(-1)).squeeze(-1)

    found = vmap(jacrev(outputs), in_dims=-1)(x)  # (n, K, outputs, *features)
    return found.flatten(3).transpose(0, 1)


def layer_kernels(task: Task, w: Tensor, x: Tensor) -> Tensor:
    """The part of the tangent kernel of each weight matrix on x (inputs, n), summed over outputs, (K, layers, n, n).

    With a_l(x) the layer's input and delta_l(x) the derivative of an output in what enters its activation, the
    derivative in the matrix is the outer product of the two, and two examples' derivatives have the inner product
    (a_l(x) . a_l(x')) (delta_l(x) . delta_l(x')).

    Raises:
        ValueError: the model is no MLP, or normalizes over the batch.
    """
    if not isinstance(task.model, MLP):
        raise ValueError(f"layer_kernels is written for MLP, not {type(task.model).__name__}")
    example_by_example(task)
    params, n = task.unflatten(w.detach()), x.shape[-1]
    # a bias for each example: its gradient is delta
    biases = {f"b{i}": params.get(f"b{i}", w.new_zeros(())) + w.new_zeros(len(w), m, n) for i, m in enumerate(task.model.widths[1:])}
    biases = {name: bias.requires_grad_() for name, bias in biases.items()}
    with torch.enable_grad():
        outputs = task.model.apply(params | biases, x)
        deltas = [torch.autograd.grad(o.sum(), list(biases.values()), retain_graph=True) for o in outputs.unbind(1)]
    kernels = []
    for i, a in enumerate(task.model.hidden(params, x)):
        inputs = task.model._layers[i][3] ** 2 * (a.mT @ a)
        kernels.append(inputs * sum(d[i].mT @ d[i] for d in deltas))
    return torch.stack(kernels, 1)


def centred_alignment(kernel: Tensor, other: Tensor) -> Tensor:
    """Centred alignment of kernel matrices (..., n, n), from 0 to 1 for kernels without negative eigenvalues.

    Rows and columns lose their means; then the cosine in the Frobenius inner product (Cortes et al. 2012,
    "Algorithms for learning kernels based on centered alignment", definition 4).
    """
    a, b = (k - k.mean(-1, keepdim=True) - k.mean(-2, keepdim=True) + k.mean((-2, -1), keepdim=True) for k in (kernel, other))
    return (a * b).sum((-2, -1)) / (a.square().sum((-2, -1)) * b.square().sum((-2, -1))).sqrt()


def layer_alignment(task: Task, w: Tensor, x: Tensor, labels: Tensor) -> Tensor:
    """Centred alignment of each layer's tangent kernel with the kernel "same label", (K, layers) (Lou et al. 2021)."""
    same = (labels[:, None] == labels).to(w.dtype)
    return centred_alignment(layer_kernels(task, w, x), same)


def _features(networks: Networks) -> Tensor:
    if not hasattr(networks.task.model, "hidden"):
        raise ValueError(f"feature_cosine needs a model with hidden layers, such as MLP, not {type(networks.task.model).__name__}")
    with torch.no_grad():
        return cosine_similarity(networks.task.model.hidden(networks.params, networks.parts["train"].x)[-1])


def _alignment(networks: Networks) -> Tensor:
    part = networks.parts["train"]
    if part.labels is None:
        raise ValueError(f"layer_alignment needs class labels; {networks.task.data.name!r} has real targets")
    return layer_alignment(networks.task, networks.w, part.x[..., :EXAMPLES], part.labels[:EXAMPLES])


def _gradient_norms(networks: Networks) -> Tensor:
    part = networks.parts["train"]
    gradient = networks.task.unflatten(networks.gradients(networks.w, part.x, part.y)[1])
    return torch.stack([gradient[name].flatten(1).norm(dim=1) for name in matrices(networks.task)], 1)


def _singular_values(networks: Networks) -> Tensor:
    return torch.linalg.svdvals(input_jacobian(networks.task, networks.w, networks.parts["train"].x[..., :POINTS]))


register(Probe("feature_cosine", _features))
register(Probe("layer_alignment", _alignment, dims=("layer",)))
register(Probe("layer_gradient_norm", _gradient_norms, dims=("layer",)))
register(Probe("jacobian_singular_values", _singular_values, dims=("example", "direction")))
