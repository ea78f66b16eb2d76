"""Models as pure pairs `init` / `apply`, written once for any number of networks.

Parameters are a dictionary of tensors. `init(generator, scale)` draws one set of random
numbers and scales it by `scale`, a number or a tensor whose shape becomes the leading
*network dimensions* `*net` of every parameter: networks that share a seed and differ in
init scale start from the same direction. `apply(params, x)` maps inputs of shape
`(*features, samples)`, or `(*net, *features, samples)` when each network has its own, to
outputs `(*net, outputs, samples)`. Samples come last because batched matrix products are
fastest that way.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from descent.seeding import Generator, generator

Params = dict[str, Tensor]


class Model(Protocol):
    """What the engine needs of a model.

    A model whose last layer may have a learning rate of its own names that layer's parameters
    in `readout`.
    """

    input_shape: tuple[int, ...]

    def init(self, generator: Generator, scale: float | Tensor = 1.0) -> Params: ...

    def apply(self, params: Params, x: Tensor) -> Tensor: ...


#: name -> (function, gain of He et al. 2015: the standard deviation sqrt(gain / fan-in)
#: that keeps the second moment of the signal from layer to layer; 1 where none is customary)
ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "tanh": (torch.tanh, 1.0),
    "relu": (torch.relu, 2.0),
    "leaky_relu": (lambda z: F.leaky_relu(z, 0.01), 2.0 / (1 + 0.01**2)),
    "elu": (F.elu, 1.0),
    "linear": (lambda z: z, 1.0),
}


def _activation(name: str) -> tuple[Callable[[Tensor], Tensor], float]:
    if name not in ACTIVATIONS:
        raise ValueError(f"unknown activation {name!r}; choose from {sorted(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def _widths(widths: tuple[int, ...], at_least: int = 2) -> tuple[int, ...]:
    widths = tuple(widths)
    if len(widths) < at_least or any(not isinstance(w, int) or w < 1 for w in widths):
        raise ValueError(f"widths {widths!r}: give at least {at_least} positive integers, input to output")
    return widths


def _scaled(noise: Tensor, scale: float | Tensor) -> Tensor:
    """`noise` (*shape) times `scale` (*net), of shape (*net, *shape), as exact as the more exact of the two."""
    kind = torch.promote_types(noise.dtype, scale.dtype) if isinstance(scale, Tensor) else noise.dtype
    noise, scale = noise.to(kind), torch.as_tensor(scale, dtype=kind)
    return scale.reshape(scale.shape + (1,) * noise.ndim) * noise


def _filled(shape: tuple[int, ...], value: float, scale: float | Tensor) -> Tensor:
    """A constant parameter that the init scale leaves alone, of shape (*net, *shape)."""
    return torch.full(torch.as_tensor(scale).shape + shape, value)


def _affine(weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    """`weight @ x + bias` for weight (*net, out, in), bias (*net, out, 1), x (*net?, in, samples)."""
    if bias is not None and weight.ndim == x.ndim == 3:
        return torch.baddbmm(bias, weight, x)
    out = weight @ x
    return out if bias is None else out + bias


#: initial weights before scaling: numbers, a function that draws them, or None for standard normals
Start = tuple[float, ...] | Callable[[Generator], Tensor] | None


def _started(start: Start, dim: int, generator: Generator, scale: float | Tensor) -> Params:
    """Initial weights `w` (*net, dim) of the models that are a single vector."""
    if callable(start):
        drawn = start(generator)
        if tuple(drawn.shape) != (dim,):
            raise ValueError(f"start drew numbers of shape {tuple(drawn.shape)}, the model has {dim} weights")
    elif start is None:
        drawn = generator.normal(dim)
    else:
        drawn = torch.tensor(start, dtype=torch.float64)
    return {"w": _scaled(drawn, scale)}


def _check_start(start: Start, dim: int) -> None:
    if start is not None and not callable(start) and len(start) != dim:
        raise ValueError(f"start has {len(start)} numbers, the model has {dim} weights")


@dataclass(frozen=True)
class Function:
    """A plain function of `dim` weights, for landscapes that can be written in a line.

    `f(w, x)` receives `w` (*net, dim, 1) and data `x` (*net?, features, samples) and returns
    one value per example, (*net, samples). Train it with the loss "output".

    Attributes:
        start: the initial weights before scaling, `dim` numbers, or a function of a
            `Generator` that draws them; None draws standard normals.
        prox: optional `prox(w, x, lr)`, the minimizer over v of f(v, x) + |v - w|^2 / (2 lr)
            for one example per network, used by the optimizer "proximal_point".
        features: number of features of the data (default `dim`).
    """

    f: Callable[[Tensor, Tensor], Tensor]
    dim: int
    start: Start = None
    prox: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
    features: int | None = None

    def __post_init__(self) -> None:
        _check_start(self.start, self.dim)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.features or self.dim,)

    def init(self, generator: Generator, scale: float | Tensor = 1.0) -> Params:
        return _started(self.start, self.dim, generator, scale)

    def apply(self, params: Params, x: Tensor) -> Tensor:
        value = self.f(params["w"].unsqueeze(-1), x)
        return value.unsqueeze(-2)


@dataclass(frozen=True)
class Quadratic:
    """The bowl f(w, x) = sum_i eigenvalues_i w_i^2 / 2 - x . w; x is one example's tilt.

    With tilts of mean zero the average of f over the data is the bare bowl, and the tilts
    are exactly the gradient noise. Train it with the loss "output".

    Attributes:
        eigenvalues: curvature along each axis.
        start: initial weights before scaling, as in `Function`.
    """

    eigenvalues: tuple[float, ...]
    start: Start = None

    def __post_init__(self) -> None:
        _check_start(self.start, len(self.eigenvalues))

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (len(self.eigenvalues),)

    def init(self, generator: Generator, scale: float | Tensor = 1.0) -> Params:
        return _started(self.start, len(self.eigenvalues), generator, scale)

    def apply(self, params: Params, x: Tensor) -> Tensor:
        w = params["w"].unsqueeze(-1)
        curvature = torch.tensor(self.eigenvalues, dtype=w.dtype, device=w.device).unsqueeze(-1)
        return (curvature * w * w / 2 - x * w).sum(-2, keepdim=True)


@dataclass(frozen=True)
class SecondOrderRegression:
    """Outputs that are quadratic in the weights, z_i = J_i . w + w . Q_i w / 2, whatever the input.

    The model of Agarwala et al. 2022 (eq. 1) around w = 0. Train it with the loss "mse" on
    `data.targets`.

    Attributes:
        quadratic: Q, (outputs, dim, dim), each Q_i symmetric.
        linear: J, (outputs, dim); None is zero.
        start: initial weights before scaling, as in `Function`.

    Raises:
        ValueError: shapes that do not fit, or a Q_i that is not symmetric.
    """

    quadratic: Tensor
    linear: Tensor | None = None
    start: Start = None

    def __post_init__(self) -> None:
        Q = self.quadratic
        if Q.ndim != 3 or Q.shape[1] != Q.shape[2] or not torch.equal(Q, Q.mT):
            raise ValueError(f"quadratic has shape {tuple(Q.shape)}; give symmetric matrices (outputs, dim, dim)")
        if self.linear is not None and self.linear.shape != Q.shape[:2]:
            raise ValueError(f"linear has shape {tuple(self.linear.shape)}; quadratic asks for {tuple(Q.shape[:2])}")
        _check_start(self.start, Q.shape[1])

    @classmethod
    def saddle(cls, eps: float, start: Start = None) -> SecondOrderRegression:
        """One output of two weights, z = (w_1^2 - eps w_2^2) / 2 (Agarwala et al. 2022, section 2)."""
        return cls(torch.tensor([[[1.0, 0.0], [0.0, -eps]]], dtype=torch.float64), start=start)

    @classmethod
    def random(cls, outputs: int, dim: int, seed: int) -> SecondOrderRegression:
        """Normal J of variance 1 / dim, normal symmetric Q of variance 1 / (2 dim^2) off the diagonal, start at 0."""
        g = generator(seed, "data")
        Q, J = g.normal(outputs, dim, dim), g.normal(outputs, dim)
        return cls((Q + Q.mT) / (2 * dim), J / dim**0.5, start=(0.0,) * dim)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (1,)

    def init(self, generator: Generator, scale: float | Tensor = 1.0) -> Params:
        return _started(self.start, self.quadratic.shape[1], generator, scale)

    def apply(self, params: Params, x: Tensor) -> Tensor:
        w = params["w"]
        outputs, dim, _ = self.quadratic.shape
        # one matrix product for all networks
        slopes = (w @ self.quadratic.to(w).reshape(-1, dim).mT).unflatten(-1, (outputs, dim)) / 2
        if self.linear is not None:
            slopes = slopes + self.linear.to(w)
        return (slopes @ w.unsqueeze(-1)).expand(*w.shape[:-1], outputs, x.shape[-1])


def ScalarNetwork(depth: int, imbalance: float = 0.8, noise: float = 0.05) -> Function:
    """The loss (w_1 ... w_depth - 1)^2 / 2 of a network of one unit per layer; data are not used.

    The logarithms of the initial weights are evenly spaced from -imbalance to imbalance, plus
    normal numbers of standard deviation `noise`.
    """
    def start(g: Generator) -> Tensor:
        spread = torch.linspace(-imbalance, imbalance, depth, dtype=g.dtype)
        return (spread + noise * g.normal(depth)).exp()

    return Function(lambda w, x: (w.prod(-2) - 1).square() / 2, dim=depth, features=1, start=start)


@dataclass(frozen=True)
class Pathways:
    """f(x) = sum_i x_i w_i1 ... w_iL: every source x_i has a chain of L weights of its own, a deep linear network of width one.

    The scalar form of the two-pathway networks of Kleinman et al. 2023 (section 3), for any number of paths.
    The weights of a chain start equal but for factors exp(noise z) with standard normal z, and the init
    scale multiplies each weight.

    Attributes:
        depth: L.
        paths: number of sources.
        product: about what the product of a chain is at init scale one.
        noise: standard deviation of the logarithm of an initial weight.

    Raises:
        ValueError: no path, no layer, a product that is not positive, a negative noise.
    """

    depth: int
    paths: int = 2
    product: float = 0.1
    noise: float = 0.005

    def __post_init__(self) -> None:
        if self.depth < 1 or self.paths < 1 or not self.product > 0 or not self.noise >= 0:
            raise ValueError(
                f"depth={self.depth} and paths={self.paths} must be at least 1, product={self.product} positive, "
                f"noise={self.noise} not negative"
            )

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.paths,)

    def init(self, generator: Generator, scale: float | Tensor = 1.0) -> Params:
        drawn = (self.noise * generator.normal(self.paths, self.depth)).exp()
        return {"w": _scaled(self.product ** (1 / self.depth) * drawn, scale)}

    def strengths(self, params: Params) -> Tensor:
        """w_i1 ... w_iL of each path, (*net, paths)."""
        strength = params["w"][..., 0]
        for layer in range(1, self.depth):
            strength = strength * params["w"][..., layer]
        return strength

    def apply(self, params: Params, x: Tensor) -> Tensor:
        return self.strengths(params).unsqueeze(-2) @ x


@dataclass(frozen=True)
class DiagonalLinear:
    """f(x) = beta . x with beta = u^depth - v^depth, elementwise (Woodworth et al. 2020, eq. 3).

    u = v = init scale at the start, so beta starts at zero whatever the scale.
    """

    dim: int
    depth: int = 2

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.dim,)

    def init(self, generator: Generator, scale: float | Tensor = 1.0) -> Params:
        ones = torch.ones(self.dim)
        return {"u": _scaled(ones, scale), "v": _scaled(ones, scale)}

    def apply(self, params: Params, x: Tensor) -> Tensor:
        beta = params["u"] ** self.depth - params["v"] ** self.depth
        return beta.unsqueeze(-2) @ x


@dataclass(frozen=True)
class MLP:
    """A fully connected network with `len(widths) - 1` layers.

    Attributes:
        widths: input, hidden ..., output.
        activation: one of `ACTIVATIONS`; "linear" makes a deep linear network.
        parametrization: with h a layer's input, n its fan-in, g the activation's gain:
            "standard": W h + b with W ~ N(0, g / n) (He et al. 2015);
            "ntk": sqrt(g / n) W h + b with W ~ N(0, 1) (Jacot et al. 2018, section 3);
            "mean_field": as "ntk", but the last layer is divided by n instead of sqrt(n)
            (Mei et al. 2018). Learning rates are not rescaled: in the mean-field
            parametrization a step of order one needs a learning rate of order n.
        bias: whether layers have biases; they start at zero.
        output_scale: factor on the network's output (Chizat et al. 2019).
        bias_deviation: standard deviation of the initial biases where they are not to start at zero; the
            init scale leaves it alone.
        normalization: "batch" normalizes each hidden unit's sum over the batch before the bias, which then
            is its shift, and multiplies it by a gain that starts at 1 (Ioffe & Szegedy 2015). As in `CNN` there
            are no running averages: every set of examples is normalized by its own statistics.

    The last layer has gain 1. The init scale multiplies every weight matrix.
    """

    widths: tuple[int, ...]
    activation: str = "tanh"
    parametrization: str = "standard"
    bias: bool = True
    output_scale: float = 1.0
    bias_deviation: float = 0.0
    normalization: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", _widths(self.widths))
        _activation(self.activation)
        if self.normalization not in (None, "batch"):
            raise ValueError(f"unknown normalization {self.normalization!r}; choose None or 'batch'")
        if not 0 <= self.bias_deviation < math.inf or self.bias_deviation and not self.bias:
            raise ValueError(f"bias_deviation={self.bias_deviation!r}; allowed: a number of at least 0, and 0 without biases")
        if self.parametrization not in ("standard", "ntk", "mean_field"):
            raise ValueError(
                f"unknown parametrization {self.parametrization!r}; choose from 'standard', 'ntk', 'mean_field'"
            )

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.widths[0],)

    @property
    def batch_norm(self) -> bool:
        """Whether an output on one example depends on the others, and no gradient is written out."""
        return self.normalization == "batch"

    @property
    def readout(self) -> tuple[str, ...]:
        last = len(self.widths) - 2
        return (f"W{last}", f"b{last}") if self.bias else (f"W{last}",)

    @property
    def _layers(self) -> list[tuple[int, int, float, float]]:
        """(fan-in, fan-out, standard deviation at init, factor in the forward pass) by layer."""
        gain, layers = _activation(self.activation)[1], []
        for depth, (n, m) in enumerate(zip(self.widths[:-1], self.widths[1:])):
            last = depth == len(self.widths) - 2
            size = math.sqrt((1.0 if last else gain) / n)
            if self.parametrization == "standard":
                layers.append((n, m, size, 1.0))
            elif self.parametrization == "mean_field" and last:
                layers.append((n, m, 1.0, 1.0 / n))
            else:
                layers.append((n, m, 1.0, size))
        return layers

    def init(self, generator: Generator, scale: float | Tensor = 1.0) -> Params:
        params = {}
        for i, (n, m, deviation, _) in enumerate(self._layers):
            params[f"W{i}"] = _scaled(deviation * generator.normal(m, n), scale)
            if self.bias:
                params[f"b{i}"] = _filled((m, 1), 0.0, scale)
                if self.bias_deviation:
                    params[f"b{i}"] = params[f"b{i}"] + self.bias_deviation * generator.normal(m, 1)
            if self.batch_norm and i < len(self.widths) - 2:
                params[f"g{i}"] = _filled((m, 1), 1.0, scale)
        return params

    def apply(self, params: Params, x: Tensor) -> Tensor:
        x = self._layer(params, len(self.widths) - 2, self.hidden(params, x)[-1])
        return x if self.output_scale == 1.0 else self.output_scale * x

    def hidden(self, params: Params, x: Tensor) -> list[Tensor]:
        """The inputs and the activations of every hidden layer, each (*net, features, samples), the inputs as they came."""
        activation, layers = _activation(self.activation)[0], [x]
        for i in range(len(self.widths) - 2):
            layers.append(activation(self._layer(params, i, layers[-1])))
        return layers

    def _layer(self, params: Params, i: int, x: Tensor) -> Tensor:
        """What enters the activation of layer i, for its input x."""
        weight, bias, factor = params[f"W{i}"], params.get(f"b{i}"), self._layers[i][3]
        weight = weight if factor == 1.0 else factor * weight
        if f"g{i}" not in params:
            return _affine(weight, bias, x)
        x = _affine(weight, None, x)
        x = x - x.mean(-1, keepdim=True)
        x = params[f"g{i}"] * x * (x.square().mean(-1, keepdim=True) + 1e-5).rsqrt()
        return x if bias is None else x + bias


@dataclass(frozen=True)
class Branches:
    """f(x) = f_1(x_1) + f_2(x_2) + ...: equal fully connected networks side by side, each with inputs and weights of its own.

    The multi-pathway networks of Kleinman et al. 2023. Parameters are named "branch.layer".

    Attributes:
        widths: of one branch, as in `MLP`; the inputs of the whole are those of all branches in turn.
        count: number of branches.
        activation, bias: as in `MLP`.

    Raises:
        ValueError: no branch; widths or activation as in `MLP`.
    """

    widths: tuple[int, ...]
    count: int = 2
    activation: str = "tanh"
    bias: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", _widths(self.widths))
        _activation(self.activation)
        if self.count < 1:
            raise ValueError(f"count={self.count}: a network needs at least one branch")

    @property
    def branch(self) -> MLP:
        return MLP(self.widths, self.activation, bias=self.bias)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.count * self.widths[0],)

    def init(self, generator: Generator, scale: float | Tensor = 1.0) -> Params:
        return {f"{i}.{name}": p for i in range(self.count) for name, p in self.branch.init(generator, scale).items()}

    def contributions(self, params: Params, x: Tensor) -> list[Tensor]:
        """f_1(x_1), f_2(x_2), ..., each (*net, outputs, samples)."""
        branch, n, results = self.branch, self.widths[0], []
        for i in range(self.count):
            own = {name.partition(".")[2]: p for name, p in params.items() if name.startswith(f"{i}.")}
            results.append(branch.apply(own, x[..., i * n : (i + 1) * n, :]))
        return results

    def apply(self, params: Params, x: Tensor) -> Tensor:
        return sum(self.contributions(params, x))


def DeepLinear(widths: tuple[int, ...], bias: bool = False) -> MLP:
    """A product of matrices, W_L ... W_1 x, with W ~ N(0, 1 / fan-in) (Saxe et al. 2014)."""
    return MLP(widths, activation="linear", bias=bias)


def _kept(p: Tensor) -> Tensor:
    """`p` with a gradient of zero, so that no plain gradient step moves it (weight decay would)."""
    return p.detach() + 0 * p


@dataclass(frozen=True)
class LazyMLP(MLP):
    """f = a (h(u / a) - h(u_0 / a)) for an MLP h, the output scale a being the init scale.

    h's own weights are w = u / a, drawn at its init scale 1. A gradient step on u with learning
    rate lr moves w as a step on the loss divided by a^2 with the output a (h(w) - h(w_0)) does
    (Chizat et al. 2019, eq. 2), and f starts at zero with the tangent kernel of h, whatever a is.
    u_0 and a are kept among the parameters, with gradient zero: no weight decay for this model.
    """

    def init(self, generator: Generator, scale: float | Tensor = 1.0) -> Params:
        u = {name: _scaled(p, scale) for name, p in super().init(generator, 1.0).items()}
        start = {f"{name}_start": p for name, p in u.items()}
        return u | start | {"output_scale": _scaled(torch.ones(1, 1), scale)}

    def apply(self, params: Params, x: Tensor) -> Tensor:
        scale = _kept(params["output_scale"])
        names = [name for name in params if f"{name}_start" in params]
        now = super().apply({name: params[name] / scale for name in names}, x)
        start = super().apply({name: _kept(params[f"{name}_start"]) / scale for name in names}, x)
        return scale * (now - start)


@dataclass(frozen=True)
class StartedMLP(MLP):
    """An MLP whose first weight matrix is drawn by `first`, and whose other weights start at zero.

    Attributes:
        first: draws the matrix (widths[1], widths[0]) before the init scale multiplies it.
    """

    first: Callable[[Generator], Tensor] | None = None

    def init(self, generator: Generator, scale: float | Tensor = 1.0) -> Params:
        if self.first is None:
            raise ValueError("StartedMLP needs first=..., a function of a Generator that draws the first weight matrix")
        drawn = self.first(generator)
        params = super().init(generator, 0 * torch.as_tensor(scale))
        if tuple(drawn.shape) != tuple(params["W0"].shape[-2:]):
            raise ValueError(f"first drew a matrix of shape {tuple(drawn.shape)}, the model has {tuple(params['W0'].shape[-2:])}")
        return params | {"W0": _scaled(drawn, scale)}


@dataclass(frozen=True)
class DistilledMLP(MLP):
    """The cross-entropy of a student's softmax against that of a teacher that was never trained.

    Student and teacher are the same MLP, drawn one after the other; the teacher's parameters,
    `<name>_teacher`, have gradient zero. The output is each example's loss: train it with "output".
    """

    def init(self, generator: Generator, scale: float | Tensor = 1.0) -> Params:
        student, teacher = super().init(generator, scale), super().init(generator, scale)
        return student | {f"{name}_teacher": p for name, p in teacher.items()}

    def outputs(self, params: Params, x: Tensor) -> tuple[Tensor, Tensor]:
        """Student's and teacher's outputs, each (*net, outputs, n)."""
        names = [name for name in params if f"{name}_teacher" in params]
        student = super().apply({name: params[name] for name in names}, x)
        return student, super().apply({name: _kept(params[f"{name}_teacher"]) for name in names}, x)

    def apply(self, params: Params, x: Tensor) -> Tensor:
        student, teacher = self.outputs(params, x)
        return -(teacher.softmax(-2) * student.log_softmax(-2)).sum(-2, keepdim=True)


@dataclass(frozen=True)
class Mirrored:
    """(h(w) - h(w')) / sqrt(2) of two copies of a model h that start equal (Chizat et al. 2019, section 1).

    At the start the output is zero and the tangent kernel is that of h; both copies are trained.

    Attributes:
        model: h.
    """

    model: Model

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.model.input_shape

    def init(self, generator: Generator, scale: float | Tensor = 1.0) -> Params:
        drawn = self.model.init(generator, scale)
        return drawn | {f"{name}_mirror": p for name, p in drawn.items()}

    def apply(self, params: Params, x: Tensor) -> Tensor:
        here = {name: p for name, p in params.items() if not name.endswith("_mirror")}
        there = {name: params[f"{name}_mirror"] for name in here}
        return (self.model.apply(here, x) - self.model.apply(there, x)) / 2**0.5


@dataclass(frozen=True)
class RNN:
    """A recurrent network read out at its last state (Elman 1990).

    h_0 = 0, h_t = activation(W h_{t-1} + U x_t + b), output V h_T + c, for a sequence x_1, ..., x_T.
    U and V have variance 1 / fan-in, b and c are zero. The init scale g multiplies W alone: with
    W ~ N(0, g^2 / hidden), its spectral radius is close to g in wide networks (Sompolinsky et al. 1988).

    Attributes:
        inputs, hidden, outputs: sizes of x_t, h_t and the output.
        length: T.
        activation: one of `ACTIVATIONS`.
        start: draws W before it is scaled, (hidden, hidden); None is as above. See `low_rank`.
    """

    inputs: int
    hidden: int
    outputs: int
    length: int
    activation: str = "tanh"
    start: Callable[[Generator], Tensor] | None = None

    def __post_init__(self) -> None:
        _widths((self.inputs, self.hidden, self.outputs, self.length))
        _activation(self.activation)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.length, self.inputs)

    @property
    def readout(self) -> tuple[str, ...]:
        return ("V", "c")

    def init(self, generator: Generator, scale: float | Tensor = 1.0) -> Params:
        n, m = self.hidden, self.outputs
        W = low_rank(n, n)(generator) if self.start is None else self.start(generator)
        if tuple(W.shape) != (n, n):
            raise ValueError(f"start drew a matrix of shape {tuple(W.shape)}; {n} hidden units need {(n, n)}")
        ones = torch.ones_like(torch.as_tensor(scale, dtype=torch.float32))
        U, V = generator.normal(n, self.inputs) / self.inputs**0.5, generator.normal(m, n) / n**0.5
        return {
            "W": _scaled(W, scale), "U": _scaled(U, ones), "b": _filled((n, 1), 0.0, scale),
            "V": _scaled(V, ones), "c": _filled((m, 1), 0.0, scale),
        }  # fmt: skip

    def states(self, params: Params, x: Tensor) -> list[Tensor]:
        """h_1, ..., h_T, each (*net, hidden, samples), for x (*net?, length, inputs, samples)."""
        activation, states = _activation(self.activation)[0], []
        for t in range(self.length):
            z = params["U"] @ x[..., t, :, :] + params["b"]
            states.append(activation(z + params["W"] @ states[-1] if states else z))
        return states

    def apply(self, params: Params, x: Tensor) -> Tensor:
        return params["V"] @ self.states(params, x)[-1] + params["c"]


def low_rank(size: int, rank: int) -> Callable[[Generator], Tensor]:
    """Draws square matrices of a rank, A B^T with Gaussian A and B (size, rank), of norm sqrt(size).

    That is the norm of N(0, 1 / size) entries in expectation; those are what the full rank gives.

    Raises:
        ValueError: no such rank.
    """
    if not 1 <= rank <= size:
        raise ValueError(f"rank={rank} must lie between 1 and {size}")

    def draw(generator: Generator) -> Tensor:
        if rank == size:
            return generator.normal(size, size) / size**0.5
        product = generator.normal(size, rank) @ generator.normal(size, rank).mT
        return product * size**0.5 / product.square().sum().sqrt()

    return draw


@dataclass(frozen=True)
class MatrixProduct:
    """The output <A, W_L ... W_1> of a product of matrices for an input matrix A: matrix factorization and sensing.

    The input is a measurement matrix A (rows, columns) and the output the inner product, the sum
    of A_ij W_ij over the entries of the product W. Initial weights are drawn from N(0, 1 / fan-in); those of
    a symmetric product from N(0, 1), so that there the init scale is the standard deviation of an entry of U.

    Attributes:
        widths: columns of W, inner widths ..., rows of W.
        symmetric: W = U U^T with one factor U (rows, inner width); then widths is (d, inner width, d).
        identity: every factor starts as the identity times the init scale, as in Li et al. 2020; all widths
            are then the same, and the seed decides nothing.

    Raises:
        ValueError: widths that are no chain, or not those of U U^T, or not all the same for an identity.
    """

    widths: tuple[int, ...]
    symmetric: bool = False
    identity: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", _widths(self.widths))
        if self.identity and len(set(self.widths)) > 1:
            raise ValueError(f"widths {self.widths!r}: factors that start as identities have the same width everywhere")
        if self.symmetric and (len(self.widths) != 3 or self.widths[0] != self.widths[2]):
            raise ValueError(f"widths {self.widths!r}: a symmetric product U U^T has widths (d, inner width, d)")

    @property
    def input_shape(self) -> tuple[int, int]:
        return (self.widths[-1], self.widths[0])

    def init(self, generator: Generator, scale: float | Tensor = 1.0) -> Params:
        if self.identity:
            eye = torch.eye(self.widths[0])
            return {name: _scaled(eye, scale) for name in (["U"] if self.symmetric else [f"W{i}" for i in range(len(self.widths) - 1)])}
        if self.symmetric:
            d, inner, _ = self.widths
            return {"U": _scaled(generator.normal(d, inner), scale)}
        pairs = enumerate(zip(self.widths[:-1], self.widths[1:]))
        return {f"W{i}": _scaled(generator.normal(m, n) / math.sqrt(n), scale) for i, (n, m) in pairs}

    def matrix(self, params: Params) -> Tensor:
        """The product W, (*net, rows, columns)."""
        if self.symmetric:
            return params["U"] @ params["U"].mT
        product = params["W0"]
        for i in range(1, len(self.widths) - 1):
            product = params[f"W{i}"] @ product
        return product

    def apply(self, params: Params, x: Tensor) -> Tensor:
        return self.matrix(params).flatten(-2).unsqueeze(-2) @ x.flatten(-3, -2)


def _convolve(weight: Tensor, x: Tensor, stride: int = 1) -> Tensor:
    """Convolve each network's channels with its own kernels, "same" padding.

    Args:
        weight: (K, out, in, k, k).
        x: (samples, K * in, height, width), or (samples, in, height, width) shared by all.
    """
    K, out, channels, size, _ = weight.shape
    groups = 1 if x.shape[1] == channels else K
    return F.conv2d(x, weight.reshape(K * out, channels, size, size), stride=stride, padding=size // 2, groups=groups)


def _normalize(gamma: Tensor, beta: Tensor, x: Tensor) -> Tensor:
    """Batch normalization (Ioffe & Szegedy 2015) with the statistics of the samples at hand.

    There are no running averages: a test set is normalized by its own statistics, which
    is what makes `apply` a pure function. gamma, beta: (K, channels); x: (samples, K * channels, h, w).
    """
    return F.batch_norm(x, None, None, gamma.flatten(), beta.flatten(), training=True)


def _conv_init(generator: Generator, out: int, channels: int, size: int, scale: float | Tensor) -> Tensor:
    deviation = math.sqrt(2.0 / (channels * size * size))
    return _scaled(deviation * generator.normal(out, channels, size, size), scale)


class _Convolutional:
    """What convolutional models share: the layout that grouped convolution wants."""

    readout = ("W", "b")

    def apply(self, params: Params, x: Tensor) -> Tensor:
        net = params["W"].shape[:-2]
        stacked = {name: p.reshape(-1, *p.shape[len(net):]) for name, p in params.items()}
        if x.ndim == 4:
            images = x.permute(3, 0, 1, 2)
        else:
            own = x.reshape(-1, *x.shape[-4:])
            images = own.permute(4, 0, 1, 2, 3).flatten(1, 2)
        features = self._features(stacked, images)  # (samples, K * channels)
        K = stacked["W"].shape[0]
        features = features.reshape(features.shape[0], K, -1).permute(1, 2, 0)
        return _affine(stacked["W"], stacked["b"], features).reshape(*net, -1, x.shape[-1])

    def _linear_init(self, generator: Generator, fan_in: int, scale: float | Tensor) -> Params:
        weight = generator.normal(self.outputs, fan_in) / math.sqrt(fan_in)
        return {"W": _scaled(weight, scale), "b": _filled((self.outputs, 1), 0.0, scale)}


@dataclass(frozen=True)
class CNN(_Convolutional):
    """Convolutions 3 x 3 with ReLU, each followed by 2 x 2 average pooling; then a linear layer.

    Attributes:
        input_shape: (channels, height, width).
        channels: output channels of each convolution; the image is halved after each.
        outputs: number of outputs.
        batch_norm: normalize each convolution's output over the batch (see `_normalize`).
    """

    input_shape: tuple[int, int, int] = (1, 8, 8)
    channels: tuple[int, ...] = (16, 32)
    outputs: int = 10
    batch_norm: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", _widths(self.channels, at_least=1))
        if len(self.input_shape) != 3 or min(self.input_shape[1:]) < 2 ** len(self.channels):
            raise ValueError(
                f"input_shape {self.input_shape!r}: give (channels, height, width), each side at least "
                f"{2 ** len(self.channels)} for {len(self.channels)} poolings"
            )

    def init(self, generator: Generator, scale: float | Tensor = 1.0) -> Params:
        params, before = {}, self.input_shape[0]
        for i, out in enumerate(self.channels):
            params[f"C{i}"] = _conv_init(generator, out, before, 3, scale)
            params[f"c{i}"] = _filled((out,), 0.0, scale)
            if self.batch_norm:
                params[f"g{i}"] = _filled((out,), 1.0, scale)
            before = out
        area = math.prod(side >> len(self.channels) for side in self.input_shape[1:])
        return params | self._linear_init(generator, before * area, scale)

    def _features(self, params: Params, x: Tensor) -> Tensor:
        for i in range(len(self.channels)):
            x, shift = _convolve(params[f"C{i}"], x), params[f"c{i}"]
            x = _normalize(params[f"g{i}"], shift, x) if self.batch_norm else x + shift.reshape(1, -1, 1, 1)
            x = F.avg_pool2d(torch.relu(x), 2)
        K = params["C0"].shape[0]
        return x.reshape(x.shape[0], K, -1).flatten(1)


@dataclass(frozen=True)
class ResNet9(_Convolutional):
    """The nine-layer residual network of the CIFAR-10 speed competitions (Page 2018).

    Convolution to `width`, then three stages that double the channels and halve the image,
    the first and third with a residual block of two convolutions; every convolution is 3 x 3,
    batch-normalized (see `_normalize`) and followed by ReLU. Global max pooling, linear layer.
    """

    input_shape: tuple[int, int, int] = (3, 32, 32)
    width: int = 64
    outputs: int = 10

    @property
    def _convolutions(self) -> dict[str, tuple[int, int]]:
        """name -> (channels in, channels out), in the order they are applied."""
        w = self.width
        return {
            "prep": (self.input_shape[0], w),
            "stage1": (w, 2 * w), "res1a": (2 * w, 2 * w), "res1b": (2 * w, 2 * w),
            "stage2": (2 * w, 4 * w),
            "stage3": (4 * w, 8 * w), "res3a": (8 * w, 8 * w), "res3b": (8 * w, 8 * w),
        }  # fmt: skip

    def init(self, generator: Generator, scale: float | Tensor = 1.0) -> Params:
        params = {}
        for name, (before, out) in self._convolutions.items():
            params[f"C_{name}"] = _conv_init(generator, out, before, 3, scale)
            params[f"g_{name}"] = _filled((out,), 1.0, scale)
            params[f"c_{name}"] = _filled((out,), 0.0, scale)
        return params | self._linear_init(generator, 8 * self.width, scale)

    def _features(self, params: Params, x: Tensor) -> Tensor:
        def layer(name: str, x: Tensor) -> Tensor:
            convolved = _convolve(params[f"C_{name}"], x)
            return torch.relu(_normalize(params[f"g_{name}"], params[f"c_{name}"], convolved))

        x = layer("prep", x)
        x = F.max_pool2d(layer("stage1", x), 2)
        x = x + layer("res1b", layer("res1a", x))
        x = F.max_pool2d(layer("stage2", x), 2)
        x = F.max_pool2d(layer("stage3", x), 2)
        x = x + layer("res3b", layer("res3a", x))
        return x.amax(dim=(2, 3))
