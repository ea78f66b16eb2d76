"""Chaotic computations and what differentiating through them gives; reservoirs at the edge of chaos.

Everything is vectorised over starts, gains or radii. A Lyapunov exponent is the mean growth
per step of the logarithm of a small difference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from descent.data import nothing
from descent.models import RNN, Function
from descent.seeding import Generator, generator
from descent.task import Task

Array = NDArray[np.float64]


# -- the logistic map --------------------------------------------------------------------


def logistic(starts: ArrayLike, r: float, steps: int) -> tuple[Array, Array]:
    """x <- r x (1 - x): the states, and log |dx_t / dx_0| by the chain rule, each (steps + 1, *starts).

    Raises:
        ValueError: r or a start for which the map leaves [0, 1].
    """
    x = np.asarray(starts, dtype=float)
    if not 0 < r <= 4 or (x < 0).any() or (x > 1).any():
        raise ValueError(f"the logistic map stays in [0, 1] for 0 < r <= 4 and starts in [0, 1]; got r={r}")
    states, slopes = [x], [np.zeros_like(x)]
    for _ in range(steps):
        with np.errstate(divide="ignore"):  # at x = 1/2 the derivative is zero
            slopes.append(slopes[-1] + np.log(np.abs(r * (1 - 2 * x))))
        x = r * x * (1 - x)
        states.append(x)
    return np.stack(states), np.stack(slopes)


def logistic_exponent(r: float) -> float:
    """The Lyapunov exponent where it is known in closed form.

    log |2 - r| for 1 < r < 3, at the fixed point 1 - 1/r, whose derivative is 2 - r; log 2 at r = 4,
    where x = sin^2(u) turns the map into the doubling of u.

    Raises:
        ValueError: another r.
    """
    if 1 < r < 3 and r != 2:
        return float(np.log(abs(2 - r)))
    if r == 4:
        return float(np.log(2.0))
    raise ValueError(f"the exponent at r={r} has no closed form here; give 1 < r < 3, r != 2, or r = 4")


def smoothed_slope(u: ArrayLike, width: float, steps: ArrayLike) -> Array:
    """d/du E f(u + width z) for a standard normal z, where f(u) is the state of the logistic map at r = 4 that started at sin^2(u).

    f(u) = sin^2(2^t u), so the expectation is (1 - cos(2^(t+1) u) exp(-2 4^t width^2)) / 2. At width 0 this
    is the plain derivative, 2^t sin(2^(t+1) u).
    """
    u, t = np.asarray(u, dtype=float), np.asarray(steps, dtype=float)
    return 2**t * np.sin(2 ** (t + 1) * u) * np.exp(-2 * 4**t * width**2)


def slope_estimates(u: float, width: float, steps: int, samples: int, seed: int) -> tuple[Array, Array]:
    """Single-sample estimates of `smoothed_slope` after 0, ..., steps steps, each (steps + 1, samples).

    The first differentiates the computation at u + width z, the second (f(u + width z) - 1/2) z / width
    uses values only (the score-function or evolution-strategies estimator). Both are unbiased.
    """
    z = generator(seed, "data").normal(samples).double().numpy()
    start = u + width * z
    states, slopes = logistic(np.sin(start) ** 2, 4.0, steps)
    # the chain rule's sign, and the derivative of sin^2
    signs = np.cumprod(np.vstack([np.ones((1, samples)), np.sign(1 - 2 * states[:-1])]), axis=0)
    return signs * np.exp(slopes) * np.sin(2 * start), (states - 0.5) * z / width


def descents(
    start: float, aim: float, width: float, steps: int, lr: float, updates: int, samples: int, runs: int, seed: int
) -> tuple[Array, Array]:
    """Gradient descent on E f(u + width z) + (u - aim)^2 / 2, for the f of `smoothed_slope`, with each estimate of the first gradient.

    Beyond a few steps the first term is flat and the minimum at `aim`; what is left of its gradient is noise.

    Args:
        samples: values of z that an update averages over.
        runs: independent descents.

    Returns:
        u after 0, ..., updates updates, (updates + 1, runs), with exact derivatives and with values only.
    """
    stream, found = generator(seed, "noise"), []
    for exact in (True, False):
        path = [np.full(runs, float(start))]
        for _ in range(updates):
            z = stream.normal(runs, samples).double().numpy()
            angle = 2.0**steps * (path[-1][:, None] + width * z)
            slope = 2.0**steps * np.sin(2 * angle) if exact else (np.sin(angle) ** 2 - 0.5) * z / width
            path.append(path[-1] - lr * (slope.mean(1) + path[-1] - aim))
        found.append(np.stack(path))
    return found[0], found[1]


# -- random recurrent networks -----------------------------------------------------------


def unit_radius(size: int) -> Callable[[Generator], torch.Tensor]:
    """Draws a Gaussian matrix and divides it by its spectral radius, for the `start` of `models.RNN`."""

    def draw(g: Generator) -> torch.Tensor:
        W = g.normal(size, size).double()
        return (W / torch.linalg.eigvals(W).abs().max()).float()

    return draw


def gradients_through_time(model: RNN, radii: Sequence[float], seeds: Sequence[int], drive: float = 0.0) -> xr.DataArray:
    """Norm of the derivative of a recurrent network's outputs in its input k steps before the end, in float64.

    Args:
        model: if its recurrent matrix starts with spectral radius 1 (`unit_radius`), the init scales are radii.
        drive: standard deviation of its normal inputs.

    Returns:
        Frobenius norms by "radius", "seed" and "lag", 0 to length - 1.
    """
    found = []
    for seed in seeds:
        sequence = drive * generator(seed, "data").normal(*model.input_shape).double()
        params = {name: p.double() for name, p in model.init(generator(seed, "init"), torch.tensor(radii)).items()}
        jacobian = torch.func.jacrev(lambda x: model.apply(params, x[..., None])[..., 0])(sequence)  # (radii, outputs, length, inputs)
        found.append(jacobian.flip(2).square().sum((1, 3)).sqrt().numpy())
    coords = {"seed": list(seeds), "radius": list(radii), "lag": np.arange(model.length)}
    words = {"long_name": "norm of the gradient", "symbol": "", "units": "", "role": "gradient"}
    array = xr.DataArray(found, coords, ["seed", "radius", "lag"], "gradient_norm", words)
    array.lag.attrs.update(long_name="lag", symbol="k", units="steps")
    array.radius.attrs.update(long_name="spectral radius", symbol="ρ", units="")
    return array


def largest_stretch(model: RNN, radii: Sequence[float], seeds: Sequence[int]) -> Array:
    """The largest singular value of the initial recurrent matrix, (seeds, radii)."""
    drawn = [model.init(generator(seed, "init"), torch.tensor(radii))["W"].double() for seed in seeds]
    return torch.stack([torch.linalg.matrix_norm(W, 2) for W in drawn]).numpy()


def readout_curvature(task: Task, scale: float, seeds: Sequence[int]) -> Array:
    """The largest curvature of a recurrent network's squared loss in its readout weights at the start, (seeds,).

    It is the top eigenvalue of the mean of (h, 1) (h, 1)^T over the training data, h the last state.
    """
    found, x = [], task.part("train").x
    for seed in seeds:
        h = task.model.states(task.model.init(generator(seed, "init"), scale), x)[-1].double()
        h = torch.cat([h, torch.ones_like(h[:1])])
        found.append(torch.linalg.eigvalsh(h @ h.mT / h.shape[-1])[-1])
    return torch.stack(found).numpy()


def _unit(w: Tensor, b: Tensor, steps: int) -> Tensor:
    h = 0 * w
    for _ in range(steps):
        h = torch.tanh(w * h + b)
    return (h - 0.5) ** 2 / 2


def unit_loss(w: ArrayLike, b: ArrayLike, steps: int) -> Array:
    """(h - 1/2)^2 / 2 for h <- tanh(w h + b) from 0, after so many steps: the cliff of Pascanu et al. 2013, figure 6, with a tanh."""
    w, b = np.broadcast_arrays(np.asarray(w, float), np.asarray(b, float))
    return _unit(torch.tensor(w), torch.tensor(b), steps).numpy()


def one_unit(steps: int) -> Task:
    """`unit_loss` as a task with the weights (w, b), started beyond the cliff: w from 1.5 to 2, b from -0.3 to -0.05."""
    start = lambda g: torch.cat([1.5 + 0.5 * g.uniform(1), -0.05 - 0.25 * g.uniform(1)])
    return Task(Function(lambda w, x: _unit(w[..., 0, :], w[..., 1, :], steps), 2, start=start, features=1), nothing(1), "output")


def coupling(size: int, seed: int) -> Array:
    """A matrix of normal numbers of variance 1 / size."""
    return generator(seed, "init").normal(size, size).double().numpy() / size**0.5


def tangent_growth(weights: Array, states: Array, directions: Array, steps: int) -> tuple[Array, Array]:
    """Follow x <- tanh(W x) and small differences: the last states, and log |J_t ... J_1 v| / |v| for every t.

    Args:
        weights: (size, size).
        states, directions: (starts, size), the starts x and the differences v.

    Returns:
        States (starts, size), and logarithms (steps, starts): the differences are made units at each step.
    """
    x, v = states, directions / np.linalg.norm(directions, axis=-1, keepdims=True)
    total, growth = np.zeros(len(x)), []
    for _ in range(steps):
        x = np.tanh(x @ weights.T)
        v = (1 - x**2) * (v @ weights.T)
        size = np.linalg.norm(v, axis=-1, keepdims=True)
        v, total = v / size, total + np.log(size[..., 0])
        growth.append(total)
    return x, np.stack(growth)


# -- echo-state networks -----------------------------------------------------------------


def echo_state(seed: int, size: int = 200, steps: int = 1400, strength: float = 0.1) -> tuple[Array, Array, Array]:
    """An echo-state network and its input: recurrent weights (size, size) of spectral radius 1, input weights (size,),
    normal numbers times `strength`, and an input (steps,), uniform between -1 and 1."""
    g = generator(seed, "init")
    weights, inputs = unit_radius(size)(g), strength * g.normal(size)
    drive = 2 * generator(seed, "data").uniform(steps) - 1
    return tuple(t.double().numpy() for t in (weights, inputs, drive))


def reservoir(
    gains: ArrayLike, weights: Array, inputs: Array, drive: Array, rate: float = 0.0, aim: float = 1.0
) -> tuple[Array, Array]:
    """Run the echo-state network x <- tanh(gain W x + input u) from x = 0 at several gains side by side.

    With `rate` > 0 a global feedback tunes each gain: after every step log gain falls by rate (branching - aim),
    where branching is the factor by which the step multiplied a small perturbation, so that the gain drifts, for
    an aim of 1, to where perturbations neither grow nor die (the role of the astrocytes of Ivanov & Michmizos 2021).

    Args:
        gains: (networks,), where the gains start.
        weights, inputs, drive: as made by `echo_state`.

    Returns:
        States (steps, networks, size) and gains (steps, networks).
    """
    gain, size = np.array(gains, dtype=float), len(inputs)
    x, v = np.zeros((len(gain), size)), np.full((len(gain), size), size**-0.5)
    states, path = np.empty((len(drive), *x.shape)), np.empty((len(drive), len(gain)))
    for t, u in enumerate(drive):
        x, v = (gain[:, None] * (a @ weights.T) for a in (x, v))
        x = np.tanh(x + inputs * u)
        v = (1 - x**2) * v
        branching = np.linalg.norm(v, axis=1)
        v = v / branching[:, None]
        gain = gain * np.exp(rate * (aim - branching))
        states[t], path[t] = x, gain
    return states, path


def memory_capacity(states: Array, drive: Array, delays: int, discard: int = 200, ridge: float = 1e-8) -> Array:
    """Sum over delays 1, ..., `delays` of the squared correlation between the delayed input and its best linear
    readout from the states, on fresh data (Jaeger 2002, "Short term memory in echo state networks"), (networks,).

    The readout is fitted by ridge regression on the first half of what is left after `discard` steps, and judged on the second.

    Raises:
        ValueError: too few steps to fit the readout.
    """
    steps, networks, size = states.shape
    if discard < delays or (half := (steps - discard) // 2) < 2 * size:
        raise ValueError(f"memory_capacity: {steps} steps, {discard} discarded, are too few for {size} units and {delays} delays")
    lagged = np.stack([drive[discard - d : steps - d] for d in range(1, delays + 1)], 1)  # (left, delays)
    found = []
    for x in np.moveaxis(states[discard:], 1, 0):
        a, y = x[:half], lagged[:half]
        readout = np.linalg.solve(a.T @ a + ridge * half * np.eye(size), a.T @ y)
        guess, truth = x[half:] @ readout, lagged[half:]
        guess, truth = guess - guess.mean(0), truth - truth.mean(0)
        found.append(((guess * truth).sum(0) ** 2 / ((guess**2).sum(0) * (truth**2).sum(0))).sum())
    return np.array(found)
