"""How signals pass through a network: features, gradients and Jacobians layer by layer."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import jacrev, vmap

from descent.models import MLP
from descent.norms import in_range
from descent.probes import Networks, Probe, register
from descent.probes.features import kernel_distance
from descent.probes.noise import example_by_example
from descent.task import Task

#: examples on which "layer_alignment" and "layer_gradient_size" look at tangent kernels
EXAMPLES = 150
#: examples at which "jacobian_singular_values" differentiates
POINTS = 8


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


def layer_factors(task: Task, w: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The two factors of each weight matrix's tangent kernel on x (inputs, n), each (K, layers, n, n).

    With a(x) the layer's input and d(x) the derivative of an output in what the matrix returns, the output's
    derivative in the matrix is the outer product of the two, and those of two examples have the inner product
    (a(x) . a(x')) (d(x) . d(x')). The first factor looks forward, the second, summed over outputs, backward.

    Raises:
        ValueError: the model is no MLP, or normalizes over the batch.
    """
    if not isinstance(task.model, MLP):
        raise ValueError(f"layers are looked at one by one in an MLP, not in a {type(task.model).__name__}")
    example_by_example(task)
    params, n = task.unflatten(w.detach()), x.shape[-1]
    # a bias for each example: its gradient is d
    biases = {f"b{i}": params.get(f"b{i}", w.new_zeros(())) + w.new_zeros(len(w), m, n) for i, m in enumerate(task.model.widths[1:])}
    biases = {name: bias.requires_grad_() for name, bias in biases.items()}
    with torch.enable_grad():
        outputs = task.model.apply(params | biases, x)
        derivatives = [torch.autograd.grad(o.sum(), list(biases.values()), retain_graph=True) for o in outputs.unbind(1)]
    forward = [factor**2 * (a.mT @ a) for a, (*_, factor) in zip(task.model.hidden(params, x), task.model._layers)]
    backward = [sum(d.mT @ d for d in layer) for layer in zip(*derivatives)]
    return torch.stack([f.expand(len(w), n, n) for f in forward], 1), torch.stack(backward, 1)


def layer_kernels(task: Task, w: Tensor, x: Tensor) -> Tensor:
    """The part of the tangent kernel of each weight matrix on x (inputs, n), summed over outputs, (K, layers, n, n)."""
    forward, backward = layer_factors(task, w, x)
    return forward * backward


def layer_alignment(task: Task, w: Tensor, x: Tensor, labels: Tensor, behind: Tensor | None = None) -> Tensor:
    """Centred alignment of each layer's tangent kernel, and of its two factors, with the kernel "same label",
    (K, 3, layers): "both", "forward", "backward" (Lou et al. 2021). The last layer's backward factor is constant: NaN.

    Args:
        behind: weights (K, P) whose backward factors take the place of those of w, both in the kernel and alone.
    """
    same = (labels[:, None] == labels).to(w.dtype)
    forward, backward = layer_factors(task, w, x)
    if behind is not None:
        backward = layer_factors(task, behind, x)[1]

    def aligned(kernels: Tensor) -> Tensor:
        return 1 - kernel_distance(kernels.flatten(0, 1), same.expand(kernels.shape[0] * kernels.shape[1], -1, -1), centred=True).unflatten(0, kernels.shape[:2])

    return torch.stack([aligned(k) for k in (forward * backward, forward, backward)], 1)


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


def _gradient_sizes(networks: Networks) -> Tensor:
    x = networks.parts["train"].x[..., :EXAMPLES]

    def sizes(w: Tensor) -> Tensor:
        squares = layer_kernels(networks.task, w, x.to(w)).diagonal(dim1=-2, dim2=-1).mean(-1)
        return (squares / networks.task.model.widths[-1]).sqrt()

    found = sizes(networks.w)
    if networks.w.dtype == torch.float32 and not (sound := in_range(found, networks.w.shape[1])).all():
        found = torch.where(sound, found, sizes(networks.w.double()).float())  # the squares need a wider range than the gradients
    return found


def _singular_values(networks: Networks) -> Tensor:
    return torch.linalg.svdvals(input_jacobian(networks.task, networks.w, networks.parts["train"].x[..., :POINTS]))


register(Probe("feature_cosine", _features))
register(Probe("layer_alignment", _alignment, dims=("factor", "layer")))
register(Probe("layer_gradient_size", _gradient_sizes, dims=("layer",)))
register(Probe("jacobian_singular_values", _singular_values, dims=("example", "direction")))
