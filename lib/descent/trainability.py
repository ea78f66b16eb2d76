"""Which pairs of learning rates train a two-layer network: the plane of Sohl-Dickstein (2024), the way down into its border, and models of it.

The plane has the learning rate η of the first layer across and η₂ of the last layer upwards, both logarithmic.
A training *converged* if the mean loss of its last records is below its first loss (ibid., section 2.2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike
from torch import Tensor

from descent.boxcount import box_dimension, mixed_squares
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
#: relative changes of a learning rate that `border_pairs` makes; the last is one unit in the last place of a float64
CHANGES = (1e-2, 1e-4, 1e-6, 1e-8, 1e-10, 2.0**-52)
#: squares on each side of one that `richest` counts
AROUND = 3


def network(seed: int, activation: str = "tanh", width: int = WIDTH, examples: int = WIDTH) -> Task:
    """A two-layer network without biases on random data that has nothing to learn but itself.

    Parametrization and initialization are those of the paper: f(x) = α v · g(W x) / n with all weights, inputs and targets
    standard Gaussian, where α g(z) is tanh(√(2/n) z), √(2/n) max(z, 0) or √(1/n) z. (The library's factor is √(1/n), and ReLU's
    gain carries the √2; so do the inputs of tanh.) Two things differ. The paper's tanh and ReLU networks learn as many examples
    as they have weights, 272; only its linear one has 16. And the loss is half the paper's, so that the learning rates
    of a given outcome are twice the paper's.

    Args:
        seed: of the data; the sweep's own seed draws the weights.
    """
    stream = generator(seed, "data")
    inputs, targets = stream.normal(examples, width), stream.normal(examples, 1)
    inputs = 2**0.5 * inputs if activation == "tanh" else inputs
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


@dataclass(frozen=True)
class Rates:
    """Learning rates one by one, for whatever takes a window.

    Attributes:
        lr, readout_lr: of the first and of the last layer, in any order.
    """

    lr: np.ndarray
    readout_lr: np.ndarray

    def rates(self, points: int) -> tuple[np.ndarray, np.ndarray]:
        """Both; the number of points does not matter."""
        return self.lr, self.readout_lr


def survey(task: Task, window: Window | Rates, points: int, seed: int | Sequence[int], steps: int = STEPS, dtype: torch.dtype = torch.float32) -> xr.Dataset:
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


def richest(inside: ArrayLike) -> tuple[float, float]:
    """The mixed square with the most mixed squares around it, as shares of the picture's sides (across, up).

    Around it means at most `AROUND` squares away; of equals it is the one nearest to the middle. The box-counting dimension
    of a border is that of its richest part (Falconer, "Fractal Geometry", section 3.2, finite stability), and this leads there.

    Raises:
        ValueError: all points are of one kind.
    """
    mesh = mixed_squares(inside, 1)
    places = np.argwhere(mesh)
    if not len(places):
        raise ValueError("all points are of one kind: there is no border")
    around = np.lib.stride_tricks.sliding_window_view(np.pad(mesh, AROUND), (2 * AROUND + 1,) * 2).sum((2, 3))[mesh]
    shares = (places + 0.5) / len(mesh)
    across, up = shares[np.lexsort((np.abs(shares - 0.5).max(1), -around))[0]]
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


def descend(look: Callable[[Window, int], xr.DataArray], window: Window, points: int, depth: int,
            choose: Callable[[ArrayLike], tuple[float, float]] = richest) -> Iterator[tuple[Window, xr.DataArray]]:  # fmt: skip
    """Follows a border into ever smaller windows: each is one mixed square of the last picture.

    A border that is a smooth curve becomes a straight line on the way, however busy it was at first; a fractal one does not.

    Args:
        look: the picture of a window, booleans over (lr, readout_lr), with so many points a side.
        window: the first one. `square` finds it in a picture.
        depth: number of windows, each points - 1 times smaller than the last.
        choose: the place of the next one in a picture, `richest` or `nearest_border`.

    Yields:
        Each window and its picture.

    Raises:
        ValueError: a picture shows no border.
    """
    for k in range(depth):
        picture = look(window, points)
        yield window, picture
        if k < depth - 1:
            window = window.at(*choose(picture), window.decades / (points - 1))


def square(window: Window, inside: ArrayLike, across: float) -> Window:
    """The square of a window's picture through which the border crosses a column, `border_point`'s."""
    inside = np.asarray(inside)
    side = len(inside) - 1
    column = (round(across * (side - 1)) + 0.5) / side
    return window.at(column, border_point(inside, across), window.decades / side)


def dimensions(look: Callable[[Window, int], xr.DataArray], window: Window, points: int, depth: int, across: float,
               first: int = 97, choose: Callable[[ArrayLike], tuple[float, float]] = richest) -> list[float]:  # fmt: skip
    """Dimensions of a border on the way down from a column of a window, (depth,): `descend` from a `square` of its picture.

    Args:
        first: points a side of the picture of `window`.
    """
    return [box_dimension(p).value for _, p in descend(look, square(window, look(window, first), across), points, depth, choose)]


def border_pairs(look: Callable, window: Window, inside: ArrayLike, seed: int, columns: int = 16, each: int = 30,
                 changes: Sequence[float] = CHANGES) -> xr.Dataset | xr.DataArray:  # fmt: skip
    """Looks at points near a border, and at each of them again with η changed a little: what `turned` compares.

    The points are drawn from the mixed squares of a picture, in so many of its columns, each with the weight of its mixed squares.
    Nothing is searched for and nothing followed, so that they stand for the whole border of that picture.

    Args:
        look: what `descend` takes, or whatever else it finds over (lr, readout_lr) and further dimensions.
        inside: the picture of the window.
        each: points in a column.
        changes: relative ones, of η.

    Returns:
        What `look` returns, over (change, point, ...), the change 0 first.
    """
    draw, mesh = np.random.default_rng(seed), mixed_squares(inside, 1)
    weights, side, found = np.cumsum(mesh.sum(1)), len(mesh), []
    place = lambda centre, share: centre * 10 ** (window.decades * (share - 0.5))
    for column in np.searchsorted(weights, weights[-1] * (np.arange(columns) + draw.uniform()) / columns, side="right"):
        rows = draw.choice(np.flatnonzero(mesh[column]), each)
        lr = place(window.lr, (column + draw.uniform()) / side) * (1 + np.array([0, *changes]))
        seen = look(Rates(lr, place(window.readout_lr, (rows + draw.uniform(size=each)) / side)), each)
        found.append(seen.drop_vars(("lr", "readout_lr"), errors="ignore").rename(lr="change", readout_lr="point"))
    return xr.concat(found, "point").assign_coords(change=[0.0, *changes])


def turned(verdict: xr.DataArray) -> xr.DataArray:
    """Share of the points of `border_pairs` whose verdict another η turns, over (change, ...).

    Where a border has the dimension D, the share goes as the change to the power of 2 - D (McDonald et al. 1985): in proportion to
    it if the border is a curve, wherever that lies; and not at all if the verdicts are noise.
    """
    return (verdict.isel(change=slice(1, None)) != verdict.isel(change=0, drop=True)).mean("point").rename("turned")


def verdicts(task: Task, seed: int, dtype: torch.dtype = torch.float64) -> Callable[[Window, int], xr.DataArray]:
    """What `descend` looks at for a network: which points of a window `converged`, booleans over (lr, readout_lr)."""
    return lambda window, points: converged(survey(task, window, points, [seed], dtype=dtype)).isel(seed=0)


def wavy(window: Window | Rates, points: int, waves: int = 16, centre: tuple[float, float] = (10**2.5, 10**2.1)) -> xr.DataArray:
    """The plane below a smooth curve with so many waves in a decade, an eighth of a decade high: a border that is busy and no fractal.

    Args:
        centre: learning rates on the axis of the waves.

    Returns:
        Booleans over (lr, readout_lr).
    """
    rates = window.rates(points)
    x, y = (np.log10(rate / c) for rate, c in zip(rates, centre))
    return xr.DataArray(y < np.sin(2 * np.pi * waves * x)[:, None] / 8, dict(zip(("lr", "readout_lr"), rates)), ("lr", "readout_lr"))


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


def theory(task: Task, seed: int, window: Window | Rates, points: int, alone: bool = False) -> xr.DataArray:
    """What `linear_threshold` says of the points of a window: booleans over (lr, readout_lr).

    Args:
        alone: ask of each layer what it bears when it learns alone, as if the bounds were two.
    """
    lr, readout_lr = rates = window.rates(points)
    edge = np.nan_to_num(linear_threshold(task, seed, lr))  # no η₂ where it is not a number
    if alone:
        edge = np.where(edge > 0, linear_threshold(task, seed, 0.0), 0.0)
    return xr.DataArray(readout_lr < edge[:, None], dict(zip(("lr", "readout_lr"), rates)), ("lr", "readout_lr"))


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


def scalar_fate(window: Window | Rates, points: int, start: tuple[float, float], steps: int = STEPS) -> xr.Dataset:
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


# -- bowls with a rough border of divergence ----------------------------------------------


def bowl_fate(window: Window | Rates, points: int, roughness: float, start: tuple[float, float], steps: int = STEPS) -> xr.DataArray:
    """Whether gradient descent stays bounded on L = (u² + v²)/2 + ε cos u cos v, with a learning rate for u and one for v, in float64.

    A quadratic and a cosine, as in Liu (2024, arXiv:2406.13971), coupled. The eigenvalues of the Hessian are
    1 - ε cos(u ± v), so that L is convex if and only if |ε| <= 1. Far out the cosine does not count: both rates above 2 diverge, nearly always.

    Args:
        roughness: ε.
        start: the initial (u, v).

    Returns:
        Booleans over (lr, readout_lr).
    """
    rates = window.rates(points)
    eta, eta2 = np.meshgrid(*rates, indexing="ij")
    u, v = (np.full(eta.shape, float(w)) for w in start)
    for _ in range(steps):
        pull = roughness * np.sin(u) * np.cos(v), roughness * np.cos(u) * np.sin(v)
        u, v = u - eta * (u - pull[0]), v - eta2 * (v - pull[1])
        lost = ~((u**2 + v**2) < DIVERGENCE)
        u, v = np.where(lost, np.nan, u), np.where(lost, np.nan, v)
        if lost.all():
            break
    return xr.DataArray(np.isfinite(u), dict(zip(("lr", "readout_lr"), rates)), ("lr", "readout_lr"))
