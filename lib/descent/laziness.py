"""Lazy and rich training: the wrappers, the probes and the closed forms of one chapter.

The output scale follows Chizat et al. 2019, "On Lazy Training in Differentiable Programming";
the perceptron Sclocchi et al. 2023, "Dissecting the Effects of SGD Noise in Distinct Regimes of
Deep Learning"; the rank of a start Liu et al. 2023, "How connectivity structure shapes rich and
lazy learning in neural circuits"; the distillation Sarnthein et al. 2023, "Random Teachers are
Good Teachers".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from descent.backprop import FAMILIES, Room
from descent.data import Data
from descent.models import MLP, Params, _scaled
from descent.probes import Networks, probe
from descent.probes.features import ntk
from descent.seeding import Generator, generator
from descent.task import Task

# -- models ------------------------------------------------------------------------------


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


class _LazyGradient:
    """The gradient of a `LazyMLP` written out: the derivative of f in u is that of h at w = u / a."""

    def __init__(self, model: LazyMLP, room: Room) -> None:
        self.room, self.now, self.start = room, FAMILIES[MLP](model, Room()), FAMILIES[MLP](model, Room())

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


FAMILIES[LazyMLP], FAMILIES[StartedMLP] = _LazyGradient, FAMILIES[MLP]


def projection(rows: int, columns: int, rank: int, along: Sequence[float] | None = None) -> Callable[[Generator], Tensor]:
    """Draws matrices (rows, columns) with `rank` equal singular values and Frobenius norm one.

    All but the first `rank` rows are zero, which is no loss for the hidden units of a linear network, whose basis is
    arbitrary. With another basis float32 would make the rank full after the seventh digit, and training finds that.

    Args:
        along: a vector of `columns` numbers that lies in the row space; by default that is random.

    Raises:
        ValueError: no such rank.
    """
    if not 1 <= rank <= min(rows, columns):
        raise ValueError(f"rank={rank} must lie between 1 and {min(rows, columns)}")

    def draw(generator: Generator) -> Tensor:
        right = generator.normal(columns, rank)
        if along is not None:
            right = torch.cat([torch.tensor(along, dtype=right.dtype)[:, None], right[:, 1:]], 1)
        return torch.eye(rows, rank) @ torch.linalg.qr(right).Q.mT / rank**0.5

    return draw


# -- data --------------------------------------------------------------------------------


def half_space(n: int, dim: int, seed: int = 0) -> Data:
    """Standard normal points x (n, dim) of the classes x_1 > 0 and x_1 < 0."""
    if n < 1 or dim < 1:
        raise ValueError(f"half_space: n={n} and dim={dim} must be positive integers")
    x = generator(seed, "data").normal(n, dim)
    return Data("half_space", x, (x[:, 0] > 0).long())


def sign_product(n: int, dim: int, test: int = 0, seed: int = 0) -> Data:
    """Standard normal points x (n, dim) of the classes x_1 x_2 > 0 and x_1 x_2 < 0: a parity of two of the axes."""
    if n < 1 or dim < 2:
        raise ValueError(f"sign_product: n={n} must be positive and dim={dim} at least 2")
    x = generator(seed, "data").normal(n + test, dim)
    y = (x[:, 0] * x[:, 1] > 0).long()
    return Data("sign_product", x[:n], y[:n], x_test=x[n:] if test else None, y_test=y[n:] if test else None)


def parity(data: Data, signs: bool = False) -> Data:
    """Even classes against odd ones: labels 0 and 1, or with `signs` targets -1 and 1, (n, 1)."""

    def change(y: Tensor | None) -> Tensor | None:
        if y is None:
            return None
        return (2.0 * (y % 2) - 1)[:, None] if signs else y % 2

    if data.classes is None:
        raise ValueError(f"parity needs class labels; {data.name!r} has real targets")
    return Data(f"{data.name}, parity", data.x, change(data.y), data.x_val, change(data.y_val), data.x_test, change(data.y_test))


def whitened(n: int, dim: int, target: Sequence[float], seed: int = 0) -> Data:
    """Inputs x (n, dim) with X^T X / n exactly the identity, and targets x . target, (n, 1).

    Raises:
        ValueError: fewer points than dimensions, or a target of another size.
    """
    if n < dim or len(target) != dim:
        raise ValueError(f"whitened: n={n} must be at least dim={dim}, and target has {len(target)} numbers")
    x = torch.linalg.qr(generator(seed, "data").normal(n, dim).double()).Q * n**0.5
    return Data("whitened", x, x @ torch.tensor(target, dtype=torch.float64)[:, None])


# -- probes ------------------------------------------------------------------------------


def _trained(networks: Networks) -> int:
    """How many of the parameters are trained; a `LazyMLP` keeps the others behind them."""
    model = networks.task.model
    if not isinstance(model, LazyMLP):
        return networks.w.shape[1]
    return (networks.w.shape[1] - 1) // 2


@probe("relative_distance", needs=())
def relative_distance(networks: Networks) -> Tensor:
    """|w - w_0| / |w_0|."""
    size = _trained(networks)
    return (networks.w - networks.w0).norm(dim=1) / networks.w0[:, :size].norm(dim=1)


@probe("probe_accuracy", dims=("network",), needs=("train", "test"))
def probe_accuracy(networks: Networks) -> Tensor:
    """Test accuracy of ridge regression from the outputs of student and teacher to the labels, (K, 2).

    A `DistilledMLP` never sees these labels.
    """
    model, data = networks.task.model, networks.task.data
    features = [torch.stack(model.outputs(networks.params, networks.parts[p].x), 1).mT for p in ("train", "test")]
    classifier = make_pipeline(StandardScaler(), RidgeClassifier())
    scores = [
        [classifier.fit(a, data.y.numpy()).score(b, data.y_test.numpy()) for a, b in zip(*pair)]
        for pair in zip(*(f.cpu().numpy() for f in features))
    ]
    return torch.tensor(scores)


# -- closed forms ------------------------------------------------------------------------


class Linearized(NamedTuple):
    """Gradient descent on a network's linearization at its start, started at output zero.

    Attributes:
        loss: training loss, (networks, times).
        test_outputs: (networks, times, test examples).
    """

    loss: np.ndarray
    test_outputs: np.ndarray


def start(task: Task, seeds: Sequence[int], scale: float = 1.0) -> Tensor:
    """The initial weights of these seeds, (seeds, P), as `sweep` draws them."""
    scale = torch.tensor([scale])
    return torch.cat([task.flatten(task.model.init(generator(s, "init"), scale), 1) for s in seeds])


def linearized(task: Task, w0: Tensor, lr: float, steps: Sequence[int]) -> Linearized:
    """Kernel regression with the tangent kernel at w0, stopped after these numbers of steps.

    With K the kernel on the n training inputs, f_t = (1 - (1 - lr K / n)^t) y there, and
    K(x, X) K^-1 f_t elsewhere (Jacot et al. 2018; Lee et al. 2019, eqs. 10 and 11).

    Args:
        task: squared error of a single output, with a test part.
        w0: (networks, P).

    Raises:
        ValueError: another loss.
    """
    if task.loss != "mse":
        raise ValueError(f"linearized() solves the squared error; the task has the loss {task.loss!r}")
    train, test = task.part("train", dtype=w0.dtype), task.part("test", dtype=w0.dtype)
    n = len(train)
    kernels = ntk(task, w0, torch.cat([train.x, test.x], -1)).double()
    values, vectors = torch.linalg.eigh(kernels[:, :n, :n] / n)
    left = (1 - lr * values).unsqueeze(1) ** torch.as_tensor(steps, dtype=torch.float64)[:, None]  # (networks, times, n)
    y = (vectors.mT @ train.y.double().mT).mT  # (networks, 1, n), the targets in the kernel's eigenvectors
    loss = (left * y).square().mean(-1) / 2
    # (1 - left) / values without dividing by eigenvalues that are zero: the limit is lr t
    ratio = torch.where(values > 1e-12 * values[:, -1:], values, torch.nan).unsqueeze(1)
    weights = torch.where(ratio.isnan(), lr * torch.as_tensor(steps, dtype=torch.float64)[:, None], (1 - left) / ratio) * y
    test_outputs = (weights @ vectors.mT / n) @ kernels[:, :n, n:]
    return Linearized(loss.numpy(), test_outputs.numpy())


def pair_flow(time: np.ndarray, kernel: float) -> tuple[np.ndarray, np.ndarray]:
    """Product and tangent kernel of f = a . b under gradient flow on (a . b - 1)^2 / 2, from f = 0.

    Args:
        time: gradient-flow time.
        kernel: |a|^2 + |b|^2 at the start.

    Returns:
        f = a . b and |a|^2 + |b|^2 = sqrt(kernel^2 + 4 f^2), of the shape of `time`.
    """
    if kernel <= 0:
        raise ValueError(f"kernel={kernel}: at zero, a = b = 0 is a saddle that the flow never leaves")
    c = np.hypot(kernel, 2)
    # with u = 1 / (1 - f), c t = log((c^2 u - 4 + c sqrt(c^2 u^2 - 8 u + 4)) / E_0); decay = 1 / E(t) does not overflow
    decay = np.exp(-c * np.asarray(time, float)) / (kernel**2 + c * kernel)
    f = 1 - 2 * c**2 * decay / ((1 + 4 * decay) ** 2 - 4 * c**2 * decay**2)
    return f, np.sqrt(kernel**2 + 4 * f**2)


def rank_alignment(rank: Any, share: Any, norm: float, dim: int, target: float = 1.0) -> Any:
    """Cosine of the tangent kernels of a two-layer linear network before and after training.

    f(x) = v . W x with v = 0 and W of `rank` equal singular values and Frobenius norm `norm` at the
    start, whitened inputs of dimension `dim`, gradient flow to the target function beta . x.

    Args:
        rank, share: numbers or arrays that broadcast; share is |P beta|^2 / |beta|^2 for the projection P
            on the row space of W at the start.
        target: |beta|.
    """
    s = norm**2 / rank  # square of a singular value
    p = (s + np.sqrt(s**2 + 4 * target**2)) / 2  # of the row that has learned beta, and its output weight
    a = p - s
    inner = s * (rank - 1) + p * share + a * rank
    after = s**2 * (rank - 1) + p**2 + a**2 * dim + 2 * s * a * (rank - 1) + 2 * p * a
    return inner / np.sqrt(rank * after)


# -- the perceptron ----------------------------------------------------------------------


class Fitted(NamedTuple):
    """A perceptron when it meets every margin.

    Attributes:
        signal: its weight along the first axis.
        noise: the norm of its other weights.
        steps: steps of SGD that it took.
    """

    signal: Tensor
    noise: Tensor
    steps: Tensor

    @property
    def norm(self) -> Tensor:
        return torch.hypot(self.signal, self.noise)


def fit_perceptron(x: Tensor, lr: Tensor, seed: int, updates: int = 100_000) -> Fitted:
    """SGD with batches of two on the hinge loss max(0, 1 - sign(x_1) w . x), from w = 0, until it is zero.

    Steps whose two examples both meet their margins change nothing; their number until the next one that
    does has a geometric law. It is drawn, and they are skipped: what remains has the law of SGD with
    independent draws (`sampling="replacement"`).

    Args:
        x: points (K, n, dim), a set for each perceptron.
        lr: (K,).
        updates: steps that change something after which those not yet done are given up, with NaN.
    """
    (K, n, dim), g = x.shape, generator(seed, "batches")
    signed, kick = (x * x[..., :1].sign()).double(), lr.double()[:, None] / 2
    w, steps, rows = torch.zeros(K, dim, dtype=torch.float64), torch.zeros(K, dtype=torch.float64), torch.arange(K)
    found, taken = torch.full((2, K), torch.nan, dtype=torch.float64), torch.full((K,), torch.nan, dtype=torch.float64)
    for update in range(updates):
        short = torch.bmm(signed, w[:, :, None]).squeeze(-1) < 1
        count = short.sum(1)
        if (done := count == 0).any():  # go on with the others
            found[:, rows[done]], taken[rows[done]] = torch.stack([w[done, 0], w[done, 1:].norm(dim=1)]), steps[done]
            signed, kick, w, steps, rows, short, count = (t[~done] for t in (signed, kick, w, steps, rows, short, count))
            if not len(rows):
                break
        if update % 64 == 0:
            draws = g.uniform(64, 4, K).double()
        u, part = draws[update % 64][:, rows], count / n
        some = 1 - (1 - part) ** 2  # the chance that a batch of two holds a short one
        steps += 1 + torch.floor(torch.log1p(-u[0]) / torch.log1p(-some.clamp(max=1 - 1e-16)))
        order, both = short.cumsum(1, dtype=torch.int32), u[1] < part**2 / some
        first, second = (  # the one number 1 + floor(count u) of the short examples of each row
            torch.searchsorted(order, (1 + torch.floor(v * count)).int()[:, None]).squeeze(1) for v in (u[2], u[3])
        )
        at = torch.arange(len(rows))
        w += kick * (signed[at, first] + both[:, None] * signed[at, second])
    return Fitted(*found, taken)
