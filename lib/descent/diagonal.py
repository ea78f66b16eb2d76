"""What the path and the end of a diagonal linear network u^2 - v^2 say of the convex program it solves.

Sparse regression in float64 arrays, and measurements of runs (Datasets of `sweep` with "coefficients" and "effective_scale",
seeds as in `problem`) that the chapter "diagonal-networks" compares with `theory.min_hyperbolic_entropy`.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from descent import data, theory

#: which scale the program is given: that at the start, the geometric mean of those at the end, those of the coordinates half the
#: dimension away, and each coordinate its own
SCALES = ("α at the start", "mean of a", "a of other coordinates", "a at the end")


def problem(seed: int, n: int = 40, dim: int = 100, support: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x (n, dim), y (n,) and truth (dim,) of `data.sparse_regression`, whose first `support` coefficients are not zero."""
    d = data.sparse_regression(n, dim, support, seed=int(seed))
    return d.x.double().numpy(), d.y.double().numpy().ravel(), d.truth.double().numpy()


def exponents(x: np.ndarray, y: np.ndarray, truth: np.ndarray, scales: tuple[float, float] = (1e-5, 3e-5)) -> tuple[float, float]:
    """The exponent of the program's squared error in the scale, between two scales, and 4 (1 - mu) with `theory.dual_margin`'s mu."""
    errors = [np.square(theory.min_hyperbolic_entropy(x, y, a) - truth).sum() for a in scales]
    return np.log(errors[1] / errors[0]) / np.log(scales[1] / scales[0]), 4 * (1 - theory.dual_margin(x, truth))


def steps_outside(paths: xr.Dataset) -> xr.DataArray:
    """The number of single-example steps along paths for which 2 lr |g_i| > 1 in some coordinate, expected over the example drawn.

    Args:
        paths: "coefficients" over "step", "seed" and "lr", at a constant learning rate.
    """
    counts = []
    for s in paths.seed.values:
        x, y, _ = problem(s)
        largest = abs(paths.coefficients.sel(seed=s).dot(xr.DataArray(x, dims=("example", "coordinate"))) - xr.DataArray(y, dims="example")) * xr.DataArray(abs(x).max(1), dims="example")
        counts.append((2 * paths.lr * largest > 1).mean("example").integrate("step"))
    return xr.concat(counts, dim="seed").rename("outside")


def _programs(scale: np.ndarray, start: float, seed: int) -> list[np.ndarray]:
    """The program's coefficients for each of `SCALES`."""
    x, y, _ = problem(seed)
    return [theory.min_hyperbolic_entropy(x, y, a) for a in (start, np.exp(np.log(scale).mean()), np.roll(scale, len(scale) // 2), scale)]


def program_gaps(ends: xr.Dataset, start: float) -> xr.DataArray:
    """Distance of the final coefficients from the program for each of `SCALES`, over their norm: ("seed", "lr", "scale")."""

    def gaps(beta: np.ndarray, scale: np.ndarray, seed: int) -> np.ndarray:
        return np.array([np.linalg.norm(beta - p) for p in _programs(scale, start, seed)]) / np.linalg.norm(beta)

    found = xr.apply_ufunc(gaps, ends.coefficients.astype(float), ends.effective_scale.astype(float), ends.seed,
                           input_core_dims=[["coordinate"], ["coordinate"], []], output_core_dims=[["scale"]], vectorize=True)  # fmt: skip
    found = found.assign_coords(scale=list(SCALES)).transpose("seed", "lr", "scale")
    return found.rename("gap").assign_attrs(long_name="relative distance from the program", symbol="")


def program_errors(ends: xr.Dataset, start: float) -> tuple[np.ndarray, np.ndarray]:
    """The program's squared distance to the truth with the final scales, and with their geometric mean, over that with `start`: two of (seeds,)."""
    errors = np.array([
        [np.square(p - problem(s)[2]).sum() for p in _programs(ends.effective_scale.sel(seed=s).values.astype(float), start, s)] for s in ends.seed.values
    ])  # fmt: skip
    return errors[:, 3] / errors[:, 0], errors[:, 1] / errors[:, 0]


def unevenness(scale: xr.DataArray, start: float, support: int = 5) -> xr.DataArray:
    """Mean log of scale / start on the first `support` coordinates, minus that on the others, over the size of the mean of all."""
    log_a = np.log(scale / start)
    on, off = (log_a.isel(coordinate=part).mean("coordinate") for part in (slice(0, support), slice(support, None)))
    return ((on - off) / abs(log_a.mean("coordinate"))).rename("uneven").assign_attrs(long_name="(support − rest) / |mean| of log a/α", symbol="")


def penalty_shrinking(paths: xr.Dataset, lr: float) -> tuple[xr.DataArray, xr.DataArray]:
    """The mean of log(a / init scale) that d log(a) / dt = -4 penalty g g' says along full-batch paths, and the same with g for g'.

    g is the gradient in the coefficients, g' that after the ascent u (1 + 2 ascent g), v (1 - 2 ascent g); t = lr * step.

    Args:
        paths: "coefficients" and "effective_scale" over "step", "seed" and what else was varied, with "penalty" and "ascent".
    """
    drawn = [problem(s) for s in paths.seed.values]
    x = xr.DataArray(np.stack([p[0] for p in drawn]), dims=("seed", "example", "coordinate"), coords={"seed": paths.seed})
    y = xr.DataArray(np.stack([p[1] for p in drawn]), dims=("seed", "example"), coords={"seed": paths.seed})

    def gradient(beta: xr.DataArray) -> xr.DataArray:
        return xr.dot(xr.dot(beta, x, dim="coordinate") - y, x, dim="example") / y.sizes["example"]

    beta, rise = paths.coefficients, paths.ascent * gradient(paths.coefficients)
    up = beta * (1 + 4 * rise**2) + 4 * rise * np.sqrt(beta**2 + 4 * paths.effective_scale**4)
    g = gradient(beta)
    return tuple(-4 * paths.penalty * lr * (g * other).mean("coordinate").integrate("step") for other in (gradient(up), g))
