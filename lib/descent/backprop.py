"""Gradients written out by hand, for the model families that sweeps train most.

Autograd serves every model, but rebuilds a graph at every step. The chain rule of an MLP, a
diagonal linear network or a small convolutional network is a screen long; written out, it runs
in memory that is used again at every step and is two to three times faster. Products of an MLP's
Hessian with vectors are written out too, and use the same passes. The tests hold every family
to autograd.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from descent.models import CNN, MLP, DiagonalLinear, LazyMLP, Model, Params, Pathways, StartedMLP
from descent.task import LOSSES, MARGIN, Task

#: multiplications up to which OpenBLAS uses one thread: for two matrices, and for a vector and a matrix
SMALL = (2**18, 2**13)
#: least rows and columns of a product with a transposed matrix that PyTorch is faster at than NumPy
TRANSPOSED = 32
#: numbers in a matrix from which on PyTorch may write it anywhere
LARGE = 2**14
#: a network whose derivatives of the loss in the outputs are all smaller has learned everything
LEARNED = 1e-3
#: examples that networks are evaluated on at a time, at most, in slices of equal size; batch normalization uses the statistics of these
SLICE = 5000
#: examples, times networks, that are evaluated at a time on a CPU, so that activations stay in its cache
EVALUATED = 8192


class Room(dict):
    """Tensors that are used again: asking twice for a name and a shape gives the same memory, for fewer networks a part of it."""

    def __call__(self, name: str, like: Tensor, *shape: int) -> Tensor:
        """A tensor of this shape, of the dtype and on the device of `like`: zeros the first time, then what it held."""
        held = self.get((name, shape[1:]))
        if held is None or len(held) < shape[0]:
            held = self[name, shape[1:]] = like.new_zeros(shape)
        return held if len(held) == shape[0] else held[: shape[0]]

    def product(self, name: str, a: Tensor, b: Tensor, plus: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        """`a @ b + plus` (K, m, n), for a (K, m, r), b (K, r, n), or (r, n) if all networks share it, and plus (K, m, 1 or n).

        On a CPU small ones are left to NumPy, one network after the other: its OpenBLAS has kernels for small matrices, and
        does not split them between threads, where PyTorch's batched product takes up to five times as long.
        """
        K, m, r, n = *a.shape, b.shape[-1]
        if out is None:
            out = self(name, a, K, m, n)
        if a.device.type != "cpu":
            return _torch_product(a, b.expand(K, r, n), plus, out)
        elif r == 1:
            torch.mul(a, b, out=out)
        elif m * r * n <= SMALL[min(m, n) == 1] and (m > 1 if b.ndim == 2 else b.stride(-1) == 1 or min(m, n) < TRANSPOSED):
            with np.errstate(all="ignore"):  # networks that diverge are looked after elsewhere
                np.matmul(a.numpy(), (b.contiguous() if b.ndim == 2 else b).numpy(), out=out.numpy())
        else:  # PyTorch wants small products side by side, which the gradients of all layers together are not
            whole = out if out.is_contiguous() or b.ndim == 3 and m * n >= LARGE else self(name, a, K, m, n)
            if b.ndim == 2:
                torch.mm(a.reshape(K * m, r), b, out=whole.view(K * m, n))
            else:
                _torch_product(a, b, plus, whole)
                plus = None
            if out is not whole:
                out.copy_(whole)
        return out if plus is None else out.add_(plus)


def _torch_product(a: Tensor, b: Tensor, plus: Tensor | None, out: Tensor) -> Tensor:
    return torch.bmm(a, b, out=out) if plus is None else torch.baddbmm(plus, a, b, out=out)


# -- the outer end: losses ---------------------------------------------------------------


def _from_probabilities(outputs: Tensor, y: Tensor) -> Tensor:
    p, labels = outputs.softmax(1), y.unsqueeze(-2).expand(len(outputs), 1, -1)
    return p.scatter_add_(1, labels, p.new_full((1, 1, 1), -1.0).expand_as(labels))


#: loss -> n times the derivative of the mean loss in the outputs (K, outputs, n), for targets y
DERIVATIVES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": _from_probabilities,
    "mse": lambda outputs, y: outputs - y,
    "output": lambda outputs, y: torch.ones_like(outputs),
    "hinge": lambda outputs, y: -y * (y * outputs < 1),
    "logistic": lambda outputs, y: -y * torch.sigmoid(-y * outputs),
}


def _of_softmax(outputs: Tensor) -> Callable[[Tensor], Tensor]:
    p, likeliest = outputs.softmax(-2), outputs.argmax(-2, keepdim=True)

    def product(u: Tensor) -> Tensor:
        # only differences of the u count: from that of the likeliest class they lose no digits where its p rounds to 1
        u = u - u.gather(-2, likeliest)
        return p * (u - (p * u).sum(-2, keepdim=True))

    return product


def _of_logistic(outputs: Tensor) -> Callable[[Tensor], Tensor]:
    curvature = outputs.sigmoid() * (-outputs).sigmoid()  # p (1 - p) loses its digits where p rounds to 1
    return lambda u: curvature * u


#: loss -> for the outputs (*net, outputs, n), the product with the Hessian of each example's loss in its outputs
CURVATURES: dict[str, Callable[[Tensor], Callable[[Tensor], Tensor]]] = {
    "cross_entropy": _of_softmax,
    "mse": lambda outputs: torch.clone,
    "output": lambda outputs: torch.zeros_like,
    "hinge": lambda outputs: torch.zeros_like,
    "logistic": _of_logistic,
}


class _Slope(torch.autograd.Function):
    """The derivative of each example's loss in its outputs, (*net, outputs, n); its own derivative is that of `CURVATURES`.

    Autograd's second derivatives of the losses would be differences such as p - p^2, which lose their digits where p rounds to 1.
    """

    @staticmethod
    def forward(ctx: Any, outputs: Tensor, y: Tensor, loss: str) -> Tensor:
        ctx.curve = CURVATURES[loss](outputs)
        d = DERIVATIVES[loss](outputs, y)
        if loss == "cross_entropy":  # p - 1 of the right class is what the other classes have together
            labels = y.unsqueeze(-2).expand(*outputs.shape[:-2], 1, -1)
            others = d.scatter(-2, labels, 0.0).sum(-2, keepdim=True)
            d = d.scatter(-2, labels, -others)
        return d

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> tuple[Tensor, None, None]:
        return ctx.curve(u), None, None


def slope(loss: str, outputs: Tensor, y: Tensor) -> Tensor:
    """As `DERIVATIVES`, to the last digits also where an example is as good as learned, and differentiable once more."""
    return _Slope.apply(outputs, y, loss)


def _ceiling(loss: str, outputs: Tensor, d: Tensor) -> float:
    """What no network's loss exceeds, from the outputs and the derivative above: cheaper than the losses. NaN where one is NaN."""
    least, most = torch.aminmax(d if loss == "mse" else outputs)
    largest = max(-least.item(), most.item())
    if loss == "mse":
        return outputs.shape[1] / 2 * largest**2
    if loss == "cross_entropy":
        return 2 * largest + math.log(outputs.shape[1])
    return largest + 1 if loss in MARGIN else largest


# -- the families ------------------------------------------------------------------------


#: With AVX-512 NumPy's tanh is six times as fast as PyTorch's, which costs as much as the matrix products; without, it is
#: no faster in float32 and takes two and a half times as long in float64.
_NUMPY_TANH = np.lib.introspect.opt_func_info(func_name="^tanh$").get("tanh", {}).get("dd", {}).get("current") == "X86_V4"


def _tanh_(z: Tensor) -> Tensor:
    if _NUMPY_TANH and z.device.type == "cpu":
        np.tanh(z.numpy(), out=z.numpy())
        return z
    return z.tanh_()


_aten = torch.ops.aten


class Activation(NamedTuple):
    """What backpropagation needs of an activation h = f(z), of which it keeps h.

    Attributes:
        apply: f, in place.
        derivative: f' d from d and h, written to the third tensor, which may be d.
        bend: f'' / f' d from d and h; None where f'' is zero.
    """

    apply: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor, Tensor, Tensor], Tensor]
    bend: Callable[[Tensor, Tensor], Tensor] | None = None


#: by the names of `models.ACTIVATIONS`
ACTIVATIONS = {
    "tanh": Activation(
        _tanh_, lambda d, h, out: _aten.tanh_backward.grad_input(d, h, grad_input=out), lambda d, h: (d * h).mul_(-2)
    ),
    "relu": Activation(torch.relu_, lambda d, h, out: _aten.threshold_backward.grad_input(d, h, 0, grad_input=out)),
    "leaky_relu": Activation(
        lambda z: F.leaky_relu_(z, 0.01),
        lambda d, h, out: _aten.leaky_relu_backward.grad_input(d, h, 0.01, True, grad_input=out),
    ),
    "elu": Activation(
        F.elu_,
        lambda d, h, out: _aten.elu_backward.grad_input(d, 1.0, 1.0, 1.0, True, h, grad_input=out),
        lambda d, h: torch.where(h < 0, d, 0.0),
    ),
    "linear": Activation(lambda z: z, lambda d, h, out: out.copy_(d)),
}


class _MLP:
    """h_0 = x, z_i = factor_i W_i h_i + b_i, h_{i+1} = activation(z_i)."""

    def __init__(self, model: MLP, room: Room) -> None:
        self.model, self.room, self.factors = model, room, [factor for *_, factor in model._layers]
        self.activation = ACTIVATIONS[model.activation]

    def forward(self, params: Params, x: Tensor) -> Tensor:
        self.inputs, self.weights, last = [], [], len(self.factors) - 1
        for i, factor in enumerate(self.factors):
            weight = params[f"W{i}"]
            if factor != 1.0:
                weight = torch.mul(weight, factor, out=self.room(f"factor{i}", weight, *weight.shape))
            z = self.room.product(f"z{i}", weight, x, params.get(f"b{i}"))
            self.inputs.append(x)
            self.weights.append(weight)
            x = self.activation.apply(z) if i < last else z
        return x if self.model.output_scale == 1.0 else self.model.output_scale * x

    def backward(self, params: Params, d: Tensor, gradients: Params) -> None:
        if self.model.output_scale != 1.0:
            d.mul_(self.model.output_scale)
        self.deltas = [d] * len(self.factors)
        for i in reversed(range(len(self.factors))):
            weight, h, d = self.weights[i], self.inputs[i], self.deltas[i]
            gradient = self.room.product(f"W{i}", d, h.mT, out=gradients[f"W{i}"])
            if self.factors[i] != 1.0:
                gradient.mul_(self.factors[i])
            if self.model.bias:
                torch.sum(d, 2, keepdim=True, out=gradients[f"b{i}"])
            if i:
                below = self.room.product(f"d{i}", weight.mT, d)
                self.deltas[i - 1] = self.activation.derivative(below, h, below)

    def passes(self) -> tuple[list[Tensor], ...]:
        """What `hessian_product` needs of the last `forward` and `backward`, layer by layer: inputs, weights, the
        loss's derivatives in the z_i, and by how much these change with z_i through the activation's second derivative."""
        bend = self.activation.bend
        bends = [bend(delta, h) for delta, h in zip(self.deltas, self.inputs[1:])] if bend else []
        return self.inputs, self.weights, self.deltas, bends

    def hessian_product(
        self, passes: tuple[list[Tensor], ...], v: Params, curve: Callable[[Tensor], Tensor], products: Params, gauss_newton: bool
    ) -> None:
        """How the gradients change as the parameters move along `v`.

        Pearlmutter's R-operator (1994): each line of the two passes, differentiated along v. The
        Gauss-Newton matrix is what is left if only the outputs are taken to change the backward pass.

        Args:
            curve: from the change of the outputs to that of the loss's derivatives in them; linear.
        """
        room, scale, last = self.room, self.model.output_scale, len(self.factors) - 1
        inputs, weights, deltas, bends = passes
        directions = [v[f"W{i}"] if factor == 1.0 else factor * v[f"W{i}"] for i, factor in enumerate(self.factors)]
        sums, moved = [], []  # the changes of the z_i, and of the h_{i+1}
        for i, h in enumerate(inputs):
            z = room.product(f"RW{i} h", directions[i], h, v.get(f"b{i}"))
            if i:
                z = room.product(f"Rz{i}", weights[i], moved[-1], z)
            sums.append(z)
            if i < last:
                moved.append(self.activation.derivative(z, inputs[i + 1], room(f"Rh{i}", z, *z.shape)))
        d = curve(z) if scale == 1.0 else curve(z).mul_(scale**2)
        for i in reversed(range(last + 1)):
            product = room.product(f"Rd{i} h", d, inputs[i].mT, out=products[f"W{i}"])
            if i and not gauss_newton:
                product.add_(room.product(f"R{i}", deltas[i], moved[i - 1].mT))
            if self.factors[i] != 1.0:
                product.mul_(self.factors[i])
            if self.model.bias:
                torch.sum(d, 2, keepdim=True, out=products[f"b{i}"])
            if i:
                below = room.product(f"W{i} Rd", weights[i].mT, d)
                if not gauss_newton:
                    below = room.product(f"Rd{i}", directions[i].mT, deltas[i], below)
                d = self.activation.derivative(below, inputs[i], below)
                if bends and not gauss_newton:
                    d.addcmul_(bends[i - 1], sums[i - 1])


class _LazyMLP:
    """The gradient of a `LazyMLP` written out: the derivative of f in u is that of h at w = u / a."""

    def __init__(self, model: LazyMLP, room: Room) -> None:
        self.room, self.now, self.start = room, _MLP(model, Room()), _MLP(model, Room())

    def forward(self, params: Params, x: Tensor) -> Tensor:
        scale = params["output_scale"]
        over = {n: torch.div(p, scale, out=self.room(n, p, *p.shape)) for n, p in params.items() if n != "output_scale"}
        self.w = {n: p for n, p in over.items() if f"{n}_start" in params}
        start = self.start.forward({n: over[f"{n}_start"] for n in self.w}, x)
        return scale * (self.now.forward(self.w, x) - start)

    def backward(self, params: Params, d: Tensor, gradients: Params) -> None:
        self.now.backward(self.w, d, gradients)
        for name in gradients.keys() - self.w.keys():
            gradients[name].zero_()


class _DiagonalLinear:
    """beta = u^depth - v^depth, output beta . x."""

    def __init__(self, model: DiagonalLinear, room: Room) -> None:
        self.depth, self.room = model.depth, room

    def forward(self, params: Params, x: Tensor) -> Tensor:
        u, v = params["u"], params["v"]
        self.x, beta = x, (u**self.depth - v**self.depth)[:, None]
        return self.room.product("z", beta, x)

    def backward(self, params: Params, d: Tensor, gradients: Params) -> None:
        u, v = params["u"], params["v"]
        slope = self.room.product("slope", d, self.x.mT)[:, 0].mul_(self.depth)
        u, v = (u, v) if self.depth == 2 else (u ** (self.depth - 1), v ** (self.depth - 1))
        torch.mul(slope, u, out=gradients["u"])
        torch.mul(slope.neg_(), v, out=gradients["v"])


class _Pathways:
    """Chains of weights, one for each input; the derivative in a weight is the product of all others of its chain."""

    def __init__(self, model: Pathways, room: Room) -> None:
        self.depth, self.room = model.depth, room

    def forward(self, params: Params, x: Tensor) -> Tensor:
        w = params["w"]
        self.x, self.below = x, self.room("below", w, *w.shape)  # products of the layers before each
        self.below[..., 0] = 1
        for layer in range(1, self.depth):
            torch.mul(self.below[..., layer - 1], w[..., layer - 1], out=self.below[..., layer])
        strength = self.below[..., -1] * w[..., -1]
        return self.room.product("z", strength[:, None], x)

    def backward(self, params: Params, d: Tensor, gradients: Params) -> None:
        w, above = params["w"], self.room.product("slope", d, self.x.mT)[:, 0]
        for layer in reversed(range(self.depth)):
            torch.mul(self.below[..., layer], above, out=gradients["w"][..., layer])
            if layer:
                above.mul_(w[..., layer])


class _CNN:
    """Convolutions as matrix products: every 3 x 3 patch of the padded image becomes a column."""

    def __init__(self, model: CNN, room: Room) -> None:
        self.model, self.room = model, room

    def forward(self, params: Params, x: Tensor) -> Tensor:
        weight, room = params["W"], self.room
        K, self.layers = len(weight), []
        image = x if x.ndim == 5 else x[None]
        for i, out in enumerate(self.model.channels):
            k, channels, height, width, samples = image.shape
            padded = room(f"padded{i}", weight, k, channels, height + 2, width + 2, samples)
            padded[:, :, 1:-1, 1:-1] = image
            columns = room(f"columns{i}", weight, k, channels, 3, 3, height, width, samples)
            columns.copy_(padded.unfold(2, 3, 1).unfold(3, 3, 1).permute(0, 1, 5, 6, 2, 3, 4))
            columns = columns.view(k, channels * 9, -1)
            z = room.product(f"z{i}", params[f"C{i}"].flatten(2), columns if k == K else columns[0])
            z = z.add_(params[f"c{i}"][..., None]).relu_().reshape(K, out, height, width, samples)
            # 2 x 2 average pooling; a last odd row or column is left out
            corners = [z[:, :, a : height // 2 * 2 : 2, b : width // 2 * 2 : 2] for a in (0, 1) for b in (0, 1)]
            image = (corners[0] + corners[1]).add_(corners[2]).add_(corners[3]).mul_(0.25)
            self.layers.append((columns, z))
        self.features = image
        return room.product("output", weight, image.reshape(K, weight.shape[2], -1)).add_(params["b"])

    def backward(self, params: Params, d: Tensor, gradients: Params) -> None:
        room, weight, features = self.room, params["W"], self.features
        K, flat = len(d), features.reshape(len(d), -1, features.shape[-1])
        gradients["W"].copy_(room.product("W", d, flat.mT))
        torch.sum(d, 2, keepdim=True, out=gradients["b"])
        d = room.product("features", weight.mT, d).reshape(features.shape)
        for i in reversed(range(len(self.layers))):
            columns, z = self.layers[i]
            kernel = params[f"C{i}"]
            _, out, height, width, samples = z.shape
            spread = room(f"spread{i}", d, *z.shape)
            for a in (0, 1):
                for b in (0, 1):
                    torch.mul(d, 0.25, out=spread[:, :, a : height // 2 * 2 : 2, b : width // 2 * 2 : 2])
            _aten.threshold_backward.grad_input(spread, z, 0, grad_input=spread)
            d = spread.view(K, out, -1)
            shared = columns if len(columns) == K else columns[0]
            gradients[f"C{i}"].copy_(room.product(f"C{i}", d, shared.mT).reshape(kernel.shape))
            torch.sum(d, 2, out=gradients[f"c{i}"])
            if i:
                channels = kernel.shape[2]
                patches = room.product(f"patches{i}", kernel.flatten(2).mT, d)
                patches = patches.reshape(K, channels, 3, 3, height, width, samples)
                padded = room(f"sum{i}", d, K, channels, height + 2, width + 2, samples).zero_()
                for a in range(3):
                    for b in range(3):
                        padded[:, :, a : a + height, b : b + width] += patches[:, :, a, b]
                d = padded[:, :, 1:-1, 1:-1]


FAMILIES = {MLP: _MLP, StartedMLP: _MLP, LazyMLP: _LazyMLP, DiagonalLinear: _DiagonalLinear, Pathways: _Pathways, CNN: _CNN}


def written_out(model: Model) -> bool:
    """Whether this model's gradient is written out here. A subclass may compute something else."""
    return type(model) in FAMILIES and not getattr(model, "batch_norm", False)


@dataclass(frozen=True)
class Products:
    """Products of vectors with a symmetric matrix of each network, see `Gradients.products`."""

    task: Task
    family: _MLP
    passes: tuple[list[Tensor], ...]
    out: Tensor
    curvature: Callable[[Tensor], Callable[[Tensor], Tensor]]
    gauss_newton: bool

    def __call__(self, v: Tensor) -> Tensor:
        """Of v (K, P), as a new tensor."""
        products = torch.empty_like(v)
        with torch.inference_mode():
            self.family.hessian_product(
                self.passes, self.task.unflatten(v), self.curve, self.task.unflatten(products), self.gauss_newton
            )
        return products

    @cached_property
    def curve(self) -> Callable[[Tensor], Tensor]:
        product, n = self.curvature(self.out), self.out.shape[-1]
        return lambda u: product(u).div_(n)

    def keep(self, rows: Tensor) -> Products:
        """The same for some of the networks."""
        with torch.inference_mode():
            # what all networks share, the inputs, has no dimension for them
            passes = tuple([t[rows] if t.ndim == 3 else t for t in layers] for layers in self.passes)
            return replace(self, passes=passes, out=self.out[rows])


class Gradients:
    """Losses (K,) and gradients (K, P) of the networks of one task, by its family's own rule if there is one.

    What a call returns is valid until the next call, which uses the same memory.

    Attributes:
        task: a task.
        autograd: differentiate by autograd in any case.
    """

    def __init__(self, task: Task, autograd: bool = False) -> None:
        self.task, self.room, self.w, self.place = task, Room(), None, None
        self.family = None if autograd or not written_out(task.model) else FAMILIES[type(task.model)](task.model, self.room)

    def __call__(self, w: Tensor, x: Tensor, y: Tensor, above: float | None = None) -> tuple[Tensor | None, Tensor]:
        """For flat parameters w (K, P) and a minibatch x (*net?, *features, n), y.

        With `above`, the losses are None if it is plain that none of them exceeds it.
        """
        if self.family is None:
            return self.task.losses_and_gradients(w, x, y)
        if w is not self.w:
            self.w, self.gradient = w, torch.empty_like(w)
            self.params, self.parts = self.task.unflatten(w), self.task.unflatten(self.gradient)
        loss, plain = self.task.loss, False
        # nothing here is for autograd, whose bookkeeping takes time too
        with nullcontext() if torch.is_inference_mode_enabled() else torch.inference_mode():
            if not self._at(w, x, y):
                # what is made in inference mode is made for one step, and its versions are not counted
                fleeting = any(t.is_inference() for t in (w, x, y))
                self.place = None if fleeting else [(t, t._version) for t in (w, x, y)]
                self.out = self.family.forward(self.params, x)
                d = DERIVATIVES[loss](self.out, y)
                plain = above is not None and _ceiling(loss, self.out, d) <= above
                self.family.backward(self.params, d.div_(x.shape[-1]), self.parts)
            return None if plain else LOSSES[loss](self.out, y).mean(-1), self.gradient

    def _at(self, *place: Tensor) -> bool:
        """Whether weights and examples are still those of the last gradient, so that its two passes stand.

        On a GPU never: a CUDA graph writes to them without a trace.
        """
        if self.place is None or place[0].device.type != "cpu":
            return False
        return all(t is u and t._version == version for t, (u, version) in zip(place, self.place))

    @property
    def twice(self) -> bool:
        """Whether products with the Hessian are written out too."""
        return hasattr(self.family, "hessian_product")

    def products(self, w: Tensor, x: Tensor, y: Tensor, gauss_newton: bool = False, output_curvature: bool = True) -> Products:
        """Products with the Hessian of each network's mean loss, if they are written out (`twice`).

        Valid until the next call of anything else here. Where the last gradient was
        taken at these weights and examples, its two passes are not repeated.

        Args:
            gauss_newton: with the Gauss-Newton matrix in its place.
            output_curvature: with the Hessian of the loss in the outputs; False puts the identity in its place.
        """
        self(w, x, y)
        self._sharpen(y)
        curve = CURVATURES[self.task.loss] if output_curvature else CURVATURES["mse"]
        with torch.inference_mode():
            return Products(self.task, self.family, self.family.passes(), self.out, curve, gauss_newton)

    def _sharpen(self, y: Tensor) -> None:
        """Go backward again with `slope` where a network has learned everything: there p - 1 has lost its digits."""
        if self.task.loss != "cross_entropy":
            return
        with torch.inference_mode():
            d = DERIVATIVES[self.task.loss](self.out, y)
            learned = d.abs().amax((1, 2), keepdim=True) < LEARNED
            if learned.any():
                self.place = None  # a gradient that training asks for is its own
                d = torch.where(learned, slope(self.task.loss, self.out, y), d)
                self.family.backward(self.params, d.div_(d.shape[-1]), self.parts)

    def outputs(self, w: Tensor, x: Tensor) -> Tensor:
        """The networks' outputs (K, outputs, n) for inputs x (*features, n) that all of them share.

        Where the last gradient was taken there, they are those of its forward pass.
        """
        if self._at(w, x):
            return self.out.clone()
        params, n, self.place = self.task.unflatten(w), x.shape[-1], None
        if self.family is None:
            slices = x.tensor_split(math.ceil(n / SLICE), dim=-1)  # none is left with a few examples, for want of statistics
            with torch.no_grad():
                return torch.cat([self.task.model.apply(params, part) for part in slices], dim=-1)
        few, outputs = (SLICE if w.device.type != "cpu" else max(64, EVALUATED // len(w))), None
        for start in range(0, n, few):
            with torch.inference_mode():
                part = self.family.forward(params, x[..., start : start + few])
            if outputs is None:
                outputs = w.new_empty(len(w), part.shape[1], n)
            outputs[..., start : start + few] = part
        return outputs
