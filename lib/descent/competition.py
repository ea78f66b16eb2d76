"""Sources that compete to explain one target, and what a temporary deficit of one of them leaves behind.

The theory is that of balanced chains: all L weights of a path are equal, w, so that its strength is
a = w^L. With the residual r = 1 - sum_i x_i a_i and an L2 penalty of weight mu, gradient flow of
`models.Pathways` in the time tau = lr * step is

    da_i / dtau = L (x_i r a_i^(2 - 2/L) - mu a_i).

Two sources A and B in this order; a deficit takes A away, x_A = 0 (Kleinman et al. 2023, section 3).
Functions broadcast numbers and NumPy arrays.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import quad, solve_ivp
from torch import Tensor

from descent.data import Data, low_rank_matrix, matrix_completion
from descent.models import MatrixProduct
from descent.probes import Networks, Probe, probe
from descent.seeding import generator
from descent.task import Task

Array = NDArray[np.float64]
Deficit = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


# -- deficits ----------------------------------------------------------------------------


def without(*inputs: int) -> Deficit:
    """A deficit for `Task`: the named inputs, rows of x (*net?, features, n), are zero."""
    if not inputs or min(inputs) < 0:
        raise ValueError(f"without{inputs}: name at least one input, from 0 on")

    def deficit(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        kept = torch.tensor([0.0 if i in inputs else 1.0 for i in range(x.shape[-2])])
        return x * kept.to(x)[:, None], y

    return deficit


def hidden_entries(shown: Tensor) -> Deficit:
    """A deficit for `data.matrix_completion`: of the observed entries only those where `shown` (rows, columns) is 1 count.

    The others get a measurement and a target of zero, which every matrix fits.
    """

    def deficit(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        kept = (x * shown.to(x)[..., None]).sum((-3, -2))
        return x * kept[..., None, None, :], y * kept[..., None, :]

    return deficit


def other_matrix(matrix: Tensor) -> Deficit:
    """A deficit for `data.matrix_completion`: the observed entries are those of another `matrix` (rows, columns)."""

    def deficit(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return x, (x * matrix.to(x)[..., None]).sum((-3, -2))[..., None, :]

    return deficit


def related_tasks(seed: int, depth: int, true_part: float = 0.0, other_part: float = 1.0, n: int = 20) -> Task:
    """Completion of an (n, n) matrix of rank 2 from half of its entries, with the entries of another matrix as the deficit.

    The other matrix is `other_part` times an unrelated one of rank 10 plus `true_part` times the true one; the two have the
    same Frobenius norm n, and equal singular values each. The model is a product of `depth` square matrices.
    """
    true, other = (low_rank_matrix([n / rank**0.5] * rank, n, seed=s) for rank, s in ((2, seed), (10, seed + 500_000)))
    deficit = other_matrix(other_part * other + true_part * true)
    return Task(MatrixProduct((n,) * (depth + 1)), matrix_completion(true, n * n // 2, seed=seed), "mse", deficit=deficit)


# -- what each source contributes --------------------------------------------------------


@probe("share", needs=())
def share(networks: Networks) -> Tensor:
    """Share of source A in the strengths of `models.Pathways`, a_A / sum_i a_i, (K,)."""
    strengths = networks.task.model.strengths(networks.params)
    return strengths[:, 0] / strengths.sum(-1)


@probe("strengths", dims=("path",), needs=())
def strengths(networks: Networks) -> Tensor:
    """Strength of every path of `models.Pathways`, (K, paths)."""
    return networks.task.model.strengths(networks.params)


@probe("view_share", needs=("test",))
def view_share(networks: Networks) -> Tensor:
    """Share of branch A of `models.Branches` in the outputs on the test part, (K,).

    With f = sum_i f_i and every output centred over the examples it is <f_A, f> / <f, f>; the shares of all
    branches add up to one.
    """
    outputs = networks.task.model.contributions(networks.params, networks.parts["test"].x)
    outputs = [f - f.mean(-1, keepdim=True) for f in outputs]
    total = sum(outputs)
    return (outputs[0] * total).sum((-2, -1)) / total.square().sum((-2, -1))


@probe("view_accuracy", dims=("view",), needs=("test",))
def view_accuracy(networks: Networks) -> Tensor:
    """Share of the test images whose class each branch of `models.Branches` names by itself, (K, views).

    By its largest output, every output centred over the examples: what a branch adds to all images alike says nothing of its view.
    """
    test = networks.parts["test"]
    outputs = networks.task.model.contributions(networks.params, test.x)
    correct = [(f - f.mean(-1, keepdim=True)).argmax(-2) == test.y for f in outputs]
    return torch.stack([c.to(networks.w).mean(-1) for c in correct], -1)


def beyond(rank: int) -> Probe:
    """A probe "beyond_rank": share of the squares of the singular values of a `models.MatrixProduct` beyond the first `rank`, (K,).

    It is zero for a matrix of that rank.
    """

    @probe("beyond_rank", needs=())
    def measure(networks: Networks) -> Tensor:
        squares = torch.linalg.svdvals(networks.task.model.matrix(networks.params)).square()
        return squares[..., rank:].sum(-1) / squares.sum(-1)

    return measure


def mode_strengths(left: Tensor, right: Tensor) -> Probe:
    """A probe "mode_strengths": strength of each branch of linear `models.Branches` in each singular mode, (K, branches, modes).

    Args:
        left, right: singular vectors (outputs, modes) and (inputs, modes) of the target map.
    """

    @probe("mode_strengths", dims=("branch", "mode"), needs=())
    def measure(networks: Networks) -> Tensor:
        params = networks.params
        x = torch.cat([right.to(networks.w)] * networks.task.model.count)
        return torch.stack([(f * left.to(f)).sum(-2) for f in networks.task.model.contributions(params, x)], -2)

    return measure


def two_views(digits: Data, noise: float) -> Data:
    """Digits seen twice: inputs (n, 128), the image with Gaussian noise of standard deviation `noise`, and once more with other noise.

    The noise is fixed, as part of the data, and drawn from the images' own values, so that equal data give equal views.

    Raises:
        ValueError: `noise` is negative.
    """
    if noise < 0:
        raise ValueError(f"two_views: noise={noise} must not be negative")
    g = generator(0, "data")

    def seen(x: Tensor | None) -> Tensor | None:
        return None if x is None else torch.cat([x + noise * g.normal(*x.shape).to(x) for _ in range(2)], dim=1)

    return Data("two views of digits", seen(digits.x), digits.y, seen(digits.x_val), digits.y_val, seen(digits.x_test), digits.y_test)


def after_deficit(curve: xr.DataArray, steps: int) -> xr.DataArray:
    """`curve` at `steps` updates after the end of the deficit, for each `deficit_start` and `deficit_length` it has.

    So networks with deficits of different lengths are compared after equally many undisturbed updates.

    Raises:
        KeyError: such a step was not recorded.
    """
    end = curve.deficit_start + curve.deficit_length + steps
    return curve.sel(step=end.astype(int)).drop_vars("step")


# -- theory of two balanced paths --------------------------------------------------------


def speed(strength: ArrayLike, depth: int) -> Array:
    """L a^(2 - 2/L): how fast a path of strength a changes per unit of residual."""
    return depth * np.asarray(strength, dtype=float) ** (2 - 2 / depth)


def clock(strength: ArrayLike, depth: int) -> Array:
    """The coordinate in which every path moves at the same pace: d clock / dtau = r for both, whatever their strengths.

    It is a for one layer, log(a) / 2 for two, -a^(2/L - 1) / (L - 2) for L > 2, the integral of 1 / `speed`.
    The difference of the clocks of two paths is conserved while both are seen and there is no penalty.
    """
    a = np.asarray(strength, dtype=float)
    if depth == 2:
        return np.log(a) / 2
    return a ** (2 / depth - 1) / (2 - depth)


def lead(strengths: xr.DataArray, depths: ArrayLike, step: int) -> xr.DataArray:
    """How far B is ahead of A in the `clock` of these depths, one for each "depth" of `strengths` (path, step), relative to `step`; from then on."""
    ahead = [xr.apply_ufunc(clock, strengths.isel(depth=i), kwargs={"depth": L}).diff("path").isel(path=0) for i, L in enumerate(depths)]
    ahead = xr.concat(ahead, dim=strengths.depth)
    return (ahead / ahead.sel(step=step)).sel(step=slice(step, None))


def race(a: ArrayLike, b: ArrayLike, depth: int) -> tuple[Array, Array]:
    """Where two paths end that start with strengths a and b and are both seen: a + b = 1 and `clock` b - `clock` a conserved.

    By bisection, for positive strengths; gradient flow without a penalty (`penalized` has the other case).

    Raises:
        ValueError: a strength is not positive.
    """
    a, b = np.broadcast_arrays(np.asarray(a, dtype=float), np.asarray(b, dtype=float))
    if not ((a > 0) & (b > 0)).all():
        raise ValueError(f"race needs positive strengths, got a={a.tolist()}, b={b.tolist()}")
    lead = clock(b, depth) - clock(a, depth)
    low, high = np.full(a.shape, 1e-300), np.ones(a.shape) - 1e-16
    for _ in range(200):
        # strengths span many orders of magnitude: bisect their logarithm as long as they are small
        middle = np.where(low < 1e-3, np.sqrt(low * np.minimum(high, 1.0)), (low + high) / 2)
        ahead = clock(1 - middle, depth) - clock(middle, depth) > lead
        low, high = np.where(ahead, middle, low), np.where(ahead, high, middle)
    end = (low + high) / 2
    return end, 1 - end


def growth_time(start: float, level: float, depth: int) -> float:
    """Time tau that a path alone needs from strength `start` to `level` < 1, the integral of da / (L a^(2 - 2/L) (1 - a)).

    Raises:
        ValueError: not 0 < start <= level < 1.
    """
    if not 0 < start <= level < 1:
        raise ValueError(f"growth_time needs 0 < start <= level < 1, got start={start}, level={level}")
    return quad(lambda u: np.exp(u) / (speed(np.exp(u), depth) * -np.expm1(u)), np.log(start), np.log(level))[0]


def penalized(time: ArrayLike, depth: int, *, start: float = 0.0, length: float = 0.0, l2: float = 0.0, first: float | tuple[float, float] = 0.1) -> Array:
    """Gradient flow of the strengths of A and B with a deficit of A and an L2 penalty, integrated numerically.

    Args:
        time: increasing times tau (n,).
        depth: L.
        start, length: of the deficit, in units of tau.
        l2: mu.
        first: strengths at time 0, of both or of each.

    Returns:
        Strengths (2, n).
    """
    time = np.atleast_1d(np.asarray(time, dtype=float))
    a = np.broadcast_to(np.asarray(first, dtype=float), 2).copy()
    found, now = np.empty((2, len(time))), 0.0
    for end, seen in ((start, 1.0), (start + length, 0.0), (max(time[-1], start + length) + 1e-9, 1.0)):
        inside = (time >= now) & (time < end)
        if end > now:
            eyes = np.array([seen, 1.0])
            flow = solve_ivp(
                lambda t, v: depth * (eyes * (1 - eyes @ v) * np.abs(v) ** (2 - 2 / depth) - l2 * v),
                (now, end), a, method="LSODA", t_eval=np.append(time[inside], end), rtol=1e-8, atol=1e-12,
            )  # fmt: skip
            found[:, inside], a = flow.y[:, :-1], flow.y[:, -1]
            now = end
    return found


def flow_share(step: ArrayLike, depth: int, lr: float, deficit_start: float, deficit_length: float, l2: float = 0.0, product: float = 0.1) -> Array:
    """Share of A along `penalized`, at updates `step` and with a deficit given in updates."""
    a, b = penalized(lr * np.asarray(step), depth, start=lr * deficit_start, length=lr * deficit_length, l2=l2, first=product)
    return a / (a + b)


def outcome(
    start: ArrayLike, length: ArrayLike, depth: int, first: float | tuple[float, float] = 0.1, conserved: int | None = None
) -> Array:
    """Final share of A without a penalty, after a deficit from time `start` on of some `length`: `race` from where the deficit ends.

    Args:
        first: strengths at time 0, of both or of each.
        conserved: the depth whose clocks the race conserves, `depth` by default; another one is a rival theory.
    """

    def one(start: float, length: float) -> float:
        end = penalized(start + length, depth, start=start, length=length, first=first)[:, 0]
        return float(race(*end, depth if conserved is None else conserved)[0])

    return np.vectorize(one, otypes=[float])(start, length)


def kept(learned: float | Array | xr.DataArray, late: float | Array | xr.DataArray) -> float | Array | xr.DataArray:
    """What a long deficit of A leaves of its share in a mode of two layers, relative to what a late one leaves.

    Let A have the share s of a mode that is learned up to the fraction phi when A is blinded, until B has filled the mode alone. The race
    then keeps the ratio phi s : 1, so that A is left with phi s / (1 + phi s), of which a late deficit (phi = 1) shows s.

    Args:
        learned: phi.
        late: share of A after a late deficit, s / (1 + s), below 1.
    """
    s = late / (1 - late)
    return learned * (1 + s) / (1 + learned * s)


def drift(depth: int, l2: float) -> float:
    """mu (L - 2): the rate at which a small difference between two paths that fit the target grows (> 0) or heals (< 0).

    The paths hold a + b = 1 against the penalty, which takes the residual r = mu / sum_i a_i^(2 - 2/L) to
    lowest order in mu; what is left is ds/dtau = mu L (s^p / (s^p + (1 - s)^p) - s) for the share s and p = 2 - 2/L,
    whose slope at s = 1/2 is mu L (p - 1).
    """
    return l2 * (depth - 2)
