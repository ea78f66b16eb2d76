"""How matrices are learned rank by rank: modes along a run, greedy low-rank learning, the smallest nuclear norm.

A problem is a `Data` whose inputs are measurement matrices A_i (n, rows, columns) and whose targets y_i
(n, 1) are real, as `data.matrix_sensing` and `data.matrix_completion` make them. Its loss is
f(W) = mean_i (<A_i, W> - y_i)^2 / 2, that of a `models.MatrixProduct` trained with "mse". Everything here
works in float64 on the matrix W itself, with the gradients written out.
"""

from __future__ import annotations

from functools import reduce

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from descent import theory
from descent.data import Data
from descent.task import Task

Array = NDArray[np.float64]


class Quadratic:
    """f(W) = mean_i (<A_i, W> - y_i)^2 / 2 and its gradient in W.

    Attributes:
        shape: (rows, columns) of W.
        A: measurements (n, rows * columns); y: targets (n,).

    Raises:
        ValueError: inputs that are not matrices, or targets that are not one real number each.
    """

    def __init__(self, data: Data) -> None:
        x, y = data.x, data.y
        if x.ndim != 3 or y.shape != (len(x), 1) or not y.is_floating_point():
            raise ValueError(f"give measurement matrices (n, rows, columns) and targets (n, 1), not {tuple(x.shape)} and {tuple(y.shape)}")
        self.shape = tuple(x.shape[1:])
        self.A, self.y = x.double().flatten(1).numpy(), y[:, 0].double().numpy()
        self._H, self._b = self.A.T @ self.A / len(x), self.A.T @ self.y / len(x)

    def __call__(self, W: Array) -> float:
        return float(np.square(self.A @ W.ravel() - self.y).mean() / 2)

    def gradient(self, W: Array) -> Array:
        return (self._H @ W.ravel() - self._b).reshape(self.shape)


def factor_gradients(factors: list[Array], gradient: Array) -> list[Array]:
    """Gradients of f(W_L ... W_1) in the factors [W_1, ..., W_L], from the gradient of f in the product."""
    gradients = []
    for i in range(len(factors)):
        g = reduce(lambda g, W: W.T @ g, factors[:i:-1], gradient)  # (W_L ... W_{i+1})^T g
        gradients.append(reduce(lambda g, W: g @ W.T, factors[:i], g))  # ... (W_{i-1} ... W_1)^T
    return gradients


def _wider(factors: list[Array] | None, u: Array, v: Array, size: float, depth: int) -> list[Array]:
    """The factors with one more unit in every layer, which adds size^depth u v^T to the product."""
    rank = len(factors[0]) if factors else 0
    wide = [np.zeros((rank + 1, len(v))), *(np.zeros((rank + 1,) * 2) for _ in range(depth - 2)), np.zeros((len(u), rank + 1))]
    for old, new in zip(factors or (), wide):
        new[: old.shape[0], : old.shape[1]] = old
    wide[0][-1], wide[-1][:, -1] = size * v, size * u
    for middle in wide[1:-1]:
        middle[-1, -1] = size
    return wide


def greedy_low_rank(
    data: Data, ranks: int, depth: int = 2, lr: float = 0.05, eps: float = 1e-6, tol: float = 1e-7, steps: int = 100_000, every: int = 10
) -> xr.Dataset:
    """Greedy low-rank learning (GLRL; Li et al. 2020, algorithm 1, here for products without symmetry and of any depth).

    Begin with W = 0. In each round take the top singular pair (u, v) of -grad f(W), the steepest way
    out of the saddle W among matrices of rank one; give every layer one unit more, such that the product grows by eps u v^T;
    and follow gradient descent on the factors to the next stationary point, whose rank is one higher.

    Args:
        ranks: rounds.
        depth: number of factors, at least 2.
        lr: learning rate.
        eps: size of the rank-one start; the algorithm of the paper is the limit eps -> 0.
        tol: a round ends when the norm of the gradient in the factors is below.
        steps: most updates in a round.
        every: updates between points of the path.

    Returns:
        Dataset with `matrix` (rank, row, column), the stationary points from rank 0 on, their `loss` (rank), `slope`
        (rank), the largest singular value of -grad f there, and `path` (point, row, column) with its `loss_on_path` (point). The rounds
        stop early where the next would start with a gradient below `tol`: W is then close to a minimum of f.

    Raises:
        ValueError: a depth or rank that makes no sense, or tol so large that the start already satisfies it.
        RuntimeError: a round has not ended after `steps` updates.
    """
    f = Quadratic(data)
    if not 1 <= ranks <= min(f.shape) or not isinstance(depth, int) or depth < 2:
        raise ValueError(f"ranks={ranks!r} must lie between 1 and {min(f.shape)}, and depth={depth!r} be an integer of at least 2")
    factors, W, path = None, np.zeros(f.shape), [np.zeros(f.shape)]
    matrices, slopes = [W], []
    for round_ in range(ranks + 1):
        U, values, Vt = np.linalg.svd(-f.gradient(W))
        slopes.append(values[0])
        push = values[0] * eps ** (1 - 1 / depth)  # the gradient in the factors at the start of the next round
        if push < tol and round_ == 0:
            raise ValueError(f"tol={tol:g} ends the first round where it starts: the gradient there is about {push:.1g}")
        if push < tol or round_ == ranks:
            break
        factors = _wider(factors, U[:, 0], Vt[0], eps ** (1 / depth), depth)
        for step in range(steps):
            W = reduce(lambda P, F: F @ P, factors)
            gradients = factor_gradients(factors, f.gradient(W))
            if step % every == 0:
                path.append(W)
            if sum(np.vdot(g, g) for g in gradients) < tol**2:
                break
            factors = [F - lr * g for F, g in zip(factors, gradients)]
        else:
            raise RuntimeError(f"round {round_ + 1} of greedy low-rank learning has not ended after {steps} updates")
        matrices.append(W)
        path.append(W)
    space = ("row", "column")
    return xr.Dataset(
        {
            "matrix": (("rank", *space), np.stack(matrices)),
            "loss": ("rank", [f(W) for W in matrices]),
            "slope": ("rank", slopes),
            "path": (("point", *space), np.stack(path)),
            "loss_on_path": ("point", [f(W) for W in path]),
        },
        {"rank": np.arange(len(matrices))},
    )


def relative_distance(matrices: xr.DataArray, target: xr.DataArray | Array) -> xr.DataArray:
    """|W - target|_F / |target|_F, for matrices over (..., row, column)."""
    target = target if isinstance(target, xr.DataArray) else xr.DataArray(np.asarray(target), dims=("row", "column"))
    space = ("row", "column")
    distance = np.sqrt(np.square(matrices - target).sum(space, skipna=False)) / np.sqrt(np.square(target).sum(space))
    return distance.rename("rank_distance").drop_attrs(deep=False)


def distance_to_path(matrices: xr.DataArray, greedy: xr.Dataset) -> xr.DataArray:
    """Frobenius distance of each matrix (..., row, column) to the greedy path, relative to the norm of the path's end.

    The path is the polygon through its points.
    """
    path = greedy.path.values.reshape(greedy.sizes["point"], -1)
    start, along = path[:-1], np.diff(path, axis=0)
    length = np.square(along).sum(1)
    start, along, length = start[length > 0], along[length > 0], length[length > 0]

    def nearest(points: Array) -> Array:
        flat = points.reshape(-1, path.shape[1])
        projected = (flat @ along.T - (start * along).sum(1)) / length
        t = projected.clip(0, 1)
        # |p - s - t a|^2, expanded so that nothing of shape (points, segments, entries) is made
        squares = np.square(flat).sum(1)[:, None] - 2 * flat @ start.T + np.square(start).sum(1) + length * (t * t - 2 * t * projected)
        return np.sqrt(squares.min(1).clip(0)).reshape(points.shape[:-2])

    distance = xr.apply_ufunc(nearest, matrices, input_core_dims=[["row", "column"]]) / np.linalg.norm(path[-1])
    return distance.rename("rank_distance").drop_attrs(deep=False)


def best_rank(matrix: Array, rank: int) -> Array:
    """The matrix of this rank that is nearest in the Frobenius norm (Eckart & Young 1936)."""
    U, s, Vt = np.linalg.svd(np.asarray(matrix, dtype=float), full_matrices=False)
    return (U[:, :rank] * s[:rank]) @ Vt[:rank]


# -- modes along a run -------------------------------------------------------------------


def mode_strengths(matrices: xr.DataArray, target: Array, modes: int) -> xr.DataArray:
    """u_k . W v_k for the leading singular vectors of `target`, (..., mode), of end-to-end matrices W (..., row, column).

    The coordinate "mode" counts from 1.
    """
    U, _, Vt = np.linalg.svd(np.asarray(target, dtype=float))
    left, right = xr.DataArray(U[:, :modes], dims=("row", "mode")), xr.DataArray(Vt[:modes].T, dims=("column", "mode"))
    strength = xr.dot(matrices, left, right, dim=("row", "column"))
    return numbered(strength.rename("mode_strength").drop_attrs(deep=False))


def numbered(array: xr.DataArray) -> xr.DataArray:
    """The same with modes counted from 1."""
    return array.assign_coords(mode=("mode", np.arange(1, array.sizes["mode"] + 1), {"long_name": "mode", "symbol": "k"}))


def initial_strengths(task: Task, weights: xr.DataArray, target: Array, modes: int, orthogonal: bool = True) -> xr.DataArray:
    """`theory.early_strength` of the leading modes, (..., mode), for initial weights (..., parameter) of a deep linear network.

    Raises:
        ValueError: the network does not have two layers.
    """
    if list(task.layout) != ["W0", "W1"]:
        raise ValueError(f"initial strengths are known for two layers without biases, not for parameters {list(task.layout)}")
    U, _, Vt = np.linalg.svd(np.asarray(target, dtype=float))
    params = task.unflatten(torch.tensor(weights.transpose(..., "parameter").values))
    first = Vt[:modes] @ params["W0"].mT.numpy()
    second = U[:, :modes].T @ params["W1"].numpy()
    dims = [d for d in weights.dims if d != "parameter"]
    found = xr.DataArray(theory.early_strength(first, second, orthogonal), dims=[*dims, "mode"], coords={d: weights[d] for d in dims})
    return numbered(found)


def first_time(curve: xr.DataArray, level: float | xr.DataArray) -> xr.DataArray:
    """The time, lr * step, at which a curve first exceeds `level`, interpolated between records; NaN if it never does.

    A curve that begins above has 0.
    """
    before = curve.shift(step=1)
    crossing = (curve >= level) & (before < level)
    share = (level - before) / (curve - before)
    gap = curve.step - curve.step.shift(step=1)
    at = (curve.step - gap * (1 - share)).where(crossing).min("step")
    at = at.where(~(curve.isel(step=0, drop=True) >= level), 0.0)
    return (at * curve.lr).rename("time").drop_attrs(deep=False).assign_attrs(long_name="time ηt", symbol="", units="")


def plateaus(run: xr.Dataset, times: xr.DataArray) -> xr.Dataset:
    """The records of `run` (step) where `gradient_norm` is least before the first mode, between the modes, and so on.

    Args:
        times: lr * step at which each mode is learned, (..., mode), ascending.

    Returns:
        `run` at these records, with "rank" (0 to modes - 1) in the place of "step".
    """
    clock = run.lr * run.step
    parts = []
    for rank in range(times.sizes["mode"]):
        before, after = (times.isel(mode=rank - 1) if rank else -1.0), times.isel(mode=rank)
        inside = (clock > before) & (clock < after)
        at = run.gradient_norm.where(inside, np.inf).argmin("step")
        parts.append(run.isel(step=at).drop_vars("step"))
    rank = xr.DataArray(np.arange(times.sizes["mode"]), dims="rank", attrs={"long_name": "rank of the saddle", "symbol": "k"})
    return xr.concat(parts, dim=rank, coords="minimal", compat="override").drop_vars("mode", errors="ignore").assign_coords(rank=rank)


def minimum_nuclear_norm(data: Data, tol: float = 1e-8, iterations: int = 100_000) -> Array:
    """The matrix of least nuclear norm that satisfies <A_i, W> = y_i for all i, (rows, columns).

    Douglas-Rachford splitting between the singular-value soft threshold and the projection onto the
    constraints (Combettes & Pesquet 2007).

    Args:
        tol: largest movement per iteration, relative to the size of the projection of 0.

    Raises:
        ValueError: no matrix satisfies the constraints.
        RuntimeError: not converged after so many iterations.
    """
    f = Quadratic(data)
    inverse = np.linalg.pinv(f.A)
    least = inverse @ f.y  # the projection of 0
    if np.abs(f.A @ least - f.y).max() > 1e-8 * max(1.0, np.abs(f.y).max()):
        raise ValueError("the measurements contradict each other: no matrix satisfies all of them")
    scale = np.linalg.norm(least)
    Z, threshold = least.reshape(f.shape), 0.1 * scale / np.sqrt(min(f.shape))
    for _ in range(iterations):
        W = Z - (inverse @ (f.A @ Z.ravel() - f.y)).reshape(f.shape)
        U, s, Vt = np.linalg.svd(2 * W - Z, full_matrices=False)
        change = (U * (s - threshold).clip(0)) @ Vt - W
        Z = Z + change
        if np.linalg.norm(change) <= tol * scale:
            return W
    raise RuntimeError(f"the nuclear norm has not settled after {iterations} iterations")
