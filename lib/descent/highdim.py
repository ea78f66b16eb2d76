"""One-pass SGD on a diagonal linear network with very many coordinates, without the network.

beta = u^2 - v^2 in d dimensions starts from u = v = init scale and learns y = x . beta* from new
standard normal examples, one a step, with the learning rate c / d; of the d true coefficients a share
`sparsity` is +-1 and the others are 0. As d grows with the time t = steps / d held fixed, every
coordinate follows a stochastic differential equation of its own, and all of them meet only in the
risk per coordinate R = |beta - beta*|^2 / 2d, which becomes deterministic (García Malaxechebarría et
al. 2026 prove limits of this kind; the chapter "diagonal-networks" derives this one). With xi = log(u / v) and a = sqrt(u v),

    beta = 2 a^2 sinh(xi),   d log(a) / dt = -4 c^2 R,
    d xi = -4 c (beta - beta*) dt + 4 c sqrt(2 R) dB.

`limit` solves the Fokker-Planck equations of xi, one for the coordinates with beta* = 1 and one for
those with beta* = 0; those with -1 mirror the first.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from scipy.linalg import solve_banded

#: the xi that a coordinate may reach; beyond it sinh has outgrown every beta
REACH = 16.0


def limit(
    c: float, init_scale: float, sparsity: float, time: ArrayLike, cells: int = 1600, step: float = 0.005, shrinking: bool = True
) -> xr.Dataset:
    """The deterministic limit over `time`.

    The densities live on `cells` equal cells of xi, with the fluxes of Scharfetter and Gummel (1969),
    exact for a constant drift. Steps in time are implicit, by the second-order backward formula, with
    R and a extrapolated from the two steps before. The risk cannot fall below the error of
    a cell, about (32 / cells)^2 times `sparsity` / 8.

    Args:
        c: learning rate times d.
        init_scale: u and v at the start.
        sparsity: share of the coefficients that are +-1.
        time: increasing multiples of `step`, from 0.
        shrinking: False keeps a at the init scale and all else as it is: the rival that a measurement has to exclude.

    Returns:
        "risk" R and "scale" a over "time", and "density" of xi over "time", "truth" (0 and 1), "xi".

    Raises:
        ValueError: an argument out of range.
    """
    time = np.asarray(time, dtype=float)
    if not (c > 0 and init_scale > 0 and 0 <= sparsity <= 1):
        raise ValueError(f"c={c} and init_scale={init_scale} must be positive, sparsity={sparsity} between 0 and 1")
    ticks = np.rint(time / step).astype(int)
    if time.ndim != 1 or ticks[0] != 0 or (np.diff(ticks) <= 0).any() or not np.allclose(ticks * step, time):
        raise ValueError(f"time={time} must be increasing multiples of step={step} and begin at 0")
    width = 2 * REACH / cells
    xi, faces = -REACH + width * (np.arange(cells) + 0.5), -REACH + width * np.arange(1, cells)
    truth, share = np.array([[0.0], [1.0]]), np.array([[1 - sparsity], [sparsity]])

    def risk(mass: np.ndarray, a: float) -> float:
        return float((share * mass * (2 * a**2 * np.sinh(xi) - truth) ** 2).sum() / 2)

    mass = np.zeros((2, cells))
    mass[:, cells // 2 - 1 : cells // 2 + 1] = 0.5
    before, a, kept = mass, init_scale, []
    R = R_before = risk(mass, a)
    for tick in range(ticks[-1] + 1):
        if tick in ticks:
            kept.append((R, a, mass / width))
        R_next = max(2 * R - R_before, R / 2)
        if shrinking:
            a *= np.exp(-2 * c**2 * (R + R_next) * step)
        flow = _fokker_planck(-4 * c * (2 * a**2 * np.sinh(faces) - truth), 16 * c**2 * R_next, width)
        # backward Euler first: there is no step before
        new, old = (1.5, 2 * mass - before / 2) if tick else (1.0, mass)
        flow *= -step
        flow[1] += new
        mass, before = solve_banded((1, 1), flow, old.ravel()).reshape(2, cells), mass
        R, R_before = risk(mass, a), R
    R, a, density = (np.array(v) for v in zip(*kept))
    return xr.Dataset(
        {"risk": ("time", R), "scale": ("time", a), "density": (("time", "truth", "xi"), density)},
        coords={"time": time, "truth": truth.ravel(), "xi": xi},
    )


def _fokker_planck(drift: np.ndarray, diffusion: float, width: float) -> np.ndarray:
    """The generator on the cells of several densities, for drifts (densities, cells - 1) on the faces between
    them; nothing passes the ends. Diagonals (3, densities * cells) as `solve_banded` takes them."""
    peclet = drift * width / max(diffusion, 1e-12)
    out, back = (max(diffusion, 1e-12) / width**2 * _bernoulli(sign * peclet) for sign in (-1, 1))
    bands = np.zeros((3, len(drift), drift.shape[1] + 1))
    bands[0, :, 1:], bands[2, :, :-1] = back, out
    bands[1, :, :-1] -= out
    bands[1, :, 1:] -= back
    return bands.reshape(3, -1)


def _bernoulli(z: np.ndarray) -> np.ndarray:
    """z / (exp(z) - 1), 1 at 0."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return np.where(np.abs(z) < 1e-8, 1 - z / 2, z / np.expm1(np.minimum(z, 700)))


def late_rate(c: float, scale: float, sparsity: float) -> float:
    """Rate of the exponential decay of the risk once it is small, for an effective scale that has come to rest.

    The mean squares m0 and m1 of beta - beta* where beta* is 0 and +-1 then obey
    dm_s/dt = -8 c h_s m_s + 32 c^2 h_s^2 R with h_s = sqrt(beta*^2 + 4 scale^4) and
    R = ((1 - sparsity) m0 + sparsity m1) / 2. The result is minus the larger eigenvalue; it is
    negative where the risk would grow.
    """
    h = np.array([2 * scale**2, np.sqrt(1 + 4 * scale**4)])
    share = np.array([1 - sparsity, sparsity])
    return -float(np.linalg.eigvals(np.diag(-8 * c * h) + 16 * c**2 * np.outer(h**2, share)).real.max())


def linear_risk(c: float, risk: float, time: ArrayLike) -> np.ndarray:
    """The same limit for depth 1, beta = u - v: R = risk exp(-4 c (1 - c) t), which falls for c < 1.

    beta moves by twice the step of u, so the error e obeys e <- e - 2 (c / d) x (x . e), and
    E |e|^2 <- |e|^2 (1 - 4 c / d + 4 c^2 (d + 2) / d^2).
    """
    return risk * np.exp(-4 * c * (1 - c) * np.asarray(time, dtype=float))
