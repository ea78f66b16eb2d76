"""Which pairs of learning rates train a two-layer network: the plane of Sohl-Dickstein (2024), and two models of it.

The plane has the learning rate η of the first layer across and η₂ of the last layer upwards, both logarithmic.
A training *converged* if the mean loss of its last records is below its first loss (ibid., section 2.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike
from torch import Tensor

from descent.boxcount import mixed_squares
from descent.data import Data
from descent.models import MLP, Params
from descent.seeding import Generator, generator
from descent.sweep import DIVERGENCE, sweep
from descent.task import Task

WIDTH = 16
STEPS = 500
#: last records, one a step, that decide whether a training converged
TAIL = 20
#: early steps at which losses are recorded, besides every 20th and each of the last 20
EARLY = (1, 2, 3, 5, 8, 12)


def network(seed: int, activation: str = "tanh", width: int = WIDTH, examples: int = WIDTH) -> Task:
    """A two-layer network without biases on random data that has nothing to learn but itself.

    Parametrization, initialization and data are those of the paper: f(x) = v · g(√(2/n) W x) / n with all weights, inputs
    and targets standard Gaussian. (The library's factor is √(1/n), so the inputs carry the √2.) The loss is half
    the paper's, and the learning rates of a given outcome are twice the paper's.

    Args:
        seed: of the data; the sweep's own seed draws the weights.
    """
    stream = generator(seed, "data")
    inputs, targets = 2**0.5 * stream.normal(examples, width), stream.normal(examples, 1)
    model = MLP((width, width, 1), activation=activation, bias=False, parametrization="mean_field")
    return Task(model, Data(f"noise {seed}", inputs, targets), "mse")


@dataclass(frozen=True)
class Window:
    """A square of the plane.

    Attributes:
        lr, readout_lr: the learning rates at its centre.
        decades: its side, in factors of ten.
    """

    lr: float
    readout_lr: float
    decades: float

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 < value < np.inf:
                raise ValueError(f"{name}={value!r}; allowed: a positive number")

    def rates(self, points: int) -> tuple[np.ndarray, np.ndarray]:
        """So many learning rates of the first and of the last layer, from edge to edge."""
        steps = 10 ** (self.decades * np.linspace(-0.5, 0.5, points))
        return self.lr * steps, self.readout_lr * steps

    def at(self, across: float, up: float, decades: float) -> Window:
        """A window around a point of this one, given in shares of its side from the lower left corner."""
        step = lambda share: 10 ** (self.decades * (share - 0.5))
        return Window(float(self.lr * step(across)), float(self.readout_lr * step(up)), decades)


def survey(task: Task, window: Window, points: int, seed: int | Sequence[int], steps: int = STEPS, dtype: torch.dtype = torch.float32) -> xr.Dataset:
    """Train every pair of learning rates of a window: what `sweep` returns, with the loss at some steps, the last `TAIL` among them."""
    lr, readout_lr = window.rates(points)
    records = sorted({*EARLY, *range(0, steps - TAIL + 1, 20), *range(steps - TAIL + 1, steps + 1)})
    return sweep(task, lr=lr, readout_lr=readout_lr, seed=seed, steps=steps, record=["loss"], record_every=records, dtype=dtype)


def converged(ds: xr.Dataset) -> xr.DataArray:
    """Whether the mean of the last `TAIL` recorded losses is below the first; a network that diverged has not converged."""
    return ds.loss.isel(step=slice(-TAIL, None)).mean("step", skipna=False) < ds.loss.isel(step=0)


def nearest_border(inside: ArrayLike) -> tuple[float, float]:
    """The mixed square nearest to the middle of a picture, as shares of its sides (across, up).

    Raises:
        ValueError: all points are of one kind.
    """
    mesh = mixed_squares(inside, 1)
    places = (np.argwhere(mesh) + 0.5) / len(mesh)
    if not len(places):
        raise ValueError("all points are of one kind: there is no border")
    across, up = places[np.argmin(np.abs(places - 0.5).max(1))]
    return float(across), float(up)


def border_point(inside: ArrayLike, across: float) -> float:
    """Where the border crosses a column of a picture: the middle one of the mixed squares there.

    Args:
        inside: (n, n) booleans, the first axis across, the second up.
        across: the column, as a share of the width.

    Returns:
        The height, as a share.

    Raises:
        ValueError: no border crosses that column.
    """
    mesh = mixed_squares(inside, 1)
    rows = np.flatnonzero(mesh[round(across * (len(mesh) - 1))])
    if not len(rows):
        raise ValueError(f"no border crosses the column at {across:g} of the width")
    return (float(rows[len(rows) // 2]) + 0.5) / len(mesh)


# -- linear in the weights ---------------------------------------------------------------


@dataclass(frozen=True)
class Linearized:
    """A model that is linear in two groups of weights, f(x) = a · x₁ + b · x₂, started from zero.

    Attributes:
        first, last: how many inputs go to each group; the second one is the "last layer".
    """

    first: int
    last: int

    readout = ("b",)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.first + self.last,)

    def init(self, generator: Generator, scale: float | Tensor = 1.0) -> Params:
        zero = torch.zeros(()) if not isinstance(scale, Tensor) else 0 * scale[..., None]
        return {"a": zero + torch.zeros(self.first), "b": zero + torch.zeros(self.last)}

    def apply(self, params: Params, x: Tensor) -> Tensor:
        return params["a"].unsqueeze(-2) @ x[..., : self.first, :] + params["b"].unsqueeze(-2) @ x[..., self.first :, :]


def _jacobian(task: Task, seed: int) -> tuple[Tensor, Tensor]:
    """Outputs (n,) at the initialization of `seed`, and their derivatives (n, P) with respect to all weights."""
    x = task.part("train", dtype=torch.float64).x
    params = {name: p.double() for name, p in task.model.init(generator(seed, "init"), 1.0).items()}
    outputs = lambda w: task.model.apply(task.unflatten(w), x)[0]
    w = task.flatten(params, 0)
    return outputs(w), torch.func.jacrev(outputs)(w)


def linearized(task: Task, seed: int) -> Task:
    """The network replaced by its first-order expansion around the initial weights of `seed`, on the same data."""
    outputs, jacobian = _jacobian(task, seed)
    order = torch.argsort(task.readout_mask.int(), stable=True)  # the last layer's weights last
    last = int(task.readout_mask.sum())
    data = Data(f"{task.data.name}, linearized", jacobian[:, order].float(), (task.data.y - outputs[:, None]).float())
    return Task(Linearized(task.parameters - last, last), data, "mse")


def linear_threshold(task: Task, seed: int, lr: ArrayLike) -> np.ndarray:
    """The largest η₂ that trains the linearized network at each η; NaN where none does.

    Its outputs converge if and only if the largest eigenvalue of η K₁ + η₂ K₂ is below 2, where K₁ and K₂ are the
    layers' parts of the tangent kernel over the n examples, divided by n.
    """
    _, jacobian = _jacobian(task, seed)
    parts = [(jacobian[:, mask] @ jacobian[:, mask].T / len(jacobian)).numpy() for mask in (~task.readout_mask, task.readout_mask)]
    lr = np.asarray(lr, dtype=float)
    found = []
    for rate in lr.ravel():
        values, vectors = np.linalg.eigh(2 * np.eye(len(jacobian)) - rate * parts[0])
        if values[0] <= 0:
            found.append(np.nan)
            continue
        half = vectors / np.sqrt(values)  # whitens what the first layer leaves of 2
        found.append(1 / np.linalg.eigvalsh(half.T @ parts[1] @ half)[-1])
    return np.reshape(found, lr.shape)


# -- the smallest network ----------------------------------------------------------------


def cubic_orbit(start: ArrayLike, lr: ArrayLike, steps: int) -> np.ndarray:
    """Weights of the network f(x) = w² x under w <- w - η w (w² - 1), (steps + 1, ...); infinite once beyond the escape radius.

    Beyond |w| = √(1 + 2/η) a step lengthens w and turns its sign, so that no orbit comes back.
    """
    w, lr = np.broadcast_arrays(np.asarray(start, float), np.asarray(lr, float))
    orbit = [w]
    for _ in range(steps):
        with np.errstate(invalid="ignore", over="ignore"):
            w = np.where(w**2 > 1 + 2 / lr, np.inf, w - lr * w * (w**2 - 1))
        orbit.append(w)
    return np.stack(orbit)


def scalar_fate(window: Window, points: int, start: tuple[float, float], steps: int = STEPS) -> xr.Dataset:
    """Trains f(x) = b a x on the one example (1, 1) at every pair of learning rates of a window, in float64.

    Args:
        start: the initial (a, b).

    Returns:
        A Dataset over (lr, readout_lr) with `inside` (converged, as the networks are judged), `late_loss` (mean of the last
        `TAIL`; infinite where it diverged) and `diverged_at`.
    """
    rates = window.rates(points)
    eta, eta2 = np.meshgrid(*rates, indexing="ij")
    a, b = (np.full(eta.shape, float(v)) for v in start)
    first = (start[0] * start[1] - 1) ** 2 / 2
    diverged, late = np.full(eta.shape, np.nan), np.zeros(eta.shape)
    for t in range(steps + 1):
        residual = a * b - 1
        loss = residual**2 / 2
        diverged = np.where((loss > DIVERGENCE * max(1.0, first)) & np.isnan(diverged), t, diverged)
        late += loss / TAIL if t > steps - TAIL else 0.0
        alive = np.isnan(diverged)
        a, b = np.where(alive, a - eta * b * residual, a), np.where(alive, b - eta2 * a * residual, b)
    late, dims = np.where(np.isnan(diverged), late, np.inf), ("lr", "readout_lr")
    values = {"inside": late < first, "late_loss": late, "diverged_at": diverged}
    return xr.Dataset({name: (dims, value) for name, value in values.items()}, dict(zip(dims, rates)))
