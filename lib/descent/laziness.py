"""Lazy and rich training: the probes and the closed forms of one chapter.

The output scale follows Chizat et al. 2019, "On Lazy Training in Differentiable Programming";
the perceptron Sclocchi et al. 2023, "Dissecting the Effects of SGD Noise in Distinct Regimes of
Deep Learning"; the rank of a start Liu et al. 2023, "How connectivity structure shapes rich and
lazy learning in neural circuits"; the distillation Sarnthein et al. 2023, "Random Teachers are
Good Teachers".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from descent.models import LazyMLP
from descent.norms import norm
from descent.probes import Networks, probe
from descent.probes.features import ntk
from descent.seeding import Generator, generator
from descent.task import Task

# -- starts ------------------------------------------------------------------------------


def projection(rows: int, columns: int, rank: int, along: Sequence[float] | None = None, noise: float = 0.0) -> Callable[[Generator], Tensor]:
    """Draws matrices (rows, columns) with `rank` equal singular values and Frobenius norm one.

    All but the first `rank` rows are zero, which is no loss for the hidden units of a linear network, whose basis is
    arbitrary. With another basis float32 would make the rank full after the seventh digit, and training finds that.

    Args:
        along: a vector of `columns` numbers that lies in the row space; by default that is random.
        noise: size of Gaussian entries that are added to all rows, their Frobenius norm in the mean square.

    Raises:
        ValueError: no such rank, or a negative noise.
    """
    if not 1 <= rank <= min(rows, columns):
        raise ValueError(f"rank={rank} must lie between 1 and {min(rows, columns)}")
    if noise < 0:
        raise ValueError(f"noise={noise} must not be negative")

    def draw(generator: Generator) -> Tensor:
        right = generator.normal(columns, rank)
        if along is not None:
            right = torch.cat([torch.tensor(along, dtype=right.dtype)[:, None], right[:, 1:]], 1)
        exact = torch.eye(rows, rank, dtype=right.dtype) @ torch.linalg.qr(right).Q.mT / rank**0.5
        return exact + noise * generator.normal(rows, columns) / (rows * columns) ** 0.5 if noise else exact

    return draw


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
    return norm(networks.w - networks.w0) / norm(networks.w0[:, :size])


@probe("probe_accuracy", dims=("network",), needs=("val", "test"))
def probe_accuracy(networks: Networks) -> Tensor:
    """Test accuracy of ridge regression from the outputs of student and teacher to the labels, (K, 2).

    The regression is fitted on the validation part, so that the training part may hold anything.
    A `DistilledMLP` never sees these labels.
    """
    model, data = networks.task.model, networks.task.data
    features = [torch.stack(model.outputs(networks.params, networks.parts[p].x), 1).mT for p in ("val", "test")]
    classifier = make_pipeline(StandardScaler(), RidgeClassifier())
    scores = [
        [classifier.fit(a, data.y_val.numpy()).score(b, data.y_test.numpy()) for a, b in zip(*pair)]
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


def descend_perceptron(x: Tensor, lr: Tensor, changes: int = 100_000) -> Fitted:
    """Gradient descent, all points at every step, on the loss of `fit_perceptron`, from w = 0, until it is zero.

    While the same points are short of their margins every step is the same; such steps are taken at once.

    Args:
        x: points (K, n, dim), a set for each perceptron.
        lr: (K,).
        changes: of the set of short points, after which those not yet done are given up, with NaN.
    """
    signed, rate = (x * x[..., :1].sign()).double(), lr.double()[:, None] / x.shape[1]
    w, steps = torch.zeros(len(x), x.shape[2], dtype=torch.float64), torch.zeros(len(x), dtype=torch.float64)
    for _ in range(changes):
        margin = torch.bmm(signed, w[:, :, None]).squeeze(-1)
        short = margin < 1
        if not short.any():
            break
        step = rate * torch.bmm(short[:, None].double(), signed).squeeze(1)
        until = (1 - margin) / torch.bmm(signed, step[:, :, None]).squeeze(-1)  # steps after which a margin is crossed
        until = torch.where((until > 0) & short.any(1, keepdim=True), until, torch.inf).min(1).values.ceil()
        several = torch.where(until.isinf(), short.any(1).double(), until)
        w, steps = w + several[:, None] * step, steps + several
    undone = torch.where(short.any(1), torch.nan, 0.0)
    return Fitted(w[:, 0] + undone, w[:, 1:].norm(dim=1) + undone, steps + undone)
