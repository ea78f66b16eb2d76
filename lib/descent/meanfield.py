"""Two-layer networks as measures over neurons: how the measure moves, where it settles, and what it costs at best.

A network f(x) = (1/N) sum_i a_i relu(w_i . x) depends on its neurons through their empirical measure
alone. Gradient descent with Gaussian noise moves that measure, as N grows, along a Fokker-Planck
equation (`flow`: Mei, Montanari & Nguyen 2018, eq. 6) to the minimum of a free energy (`gibbs`:
Shevchenko et al. 2021), and without noise the minimum is that of a convex program (`convex_program`:
Pilanci & Ergen 2020; solved as by Bai et al. 2022). Everything is dense and float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import solve_banded
from scipy.optimize import linprog

from descent import models, schedules
from descent.data import Data
from descent.sweep import sweep
from descent.task import Task

# ------------------------------------------------------------------ the distributional dynamics


def step_units(width: int, slope: float, teacher: tuple[float, ...]) -> Task:
    """The net (1/width) sum_i tanh(slope (x - w_i)), of which only the shifts w_i learn, taught by units at `teacher`.

    The inputs are uniform in [-2, 2]; train it with sampling="fresh". Its particles w_i live on a line.
    """
    goal = {dtype: torch.tensor(teacher, dtype=dtype)[:, None] for dtype in (torch.float32, torch.float64)}

    def law(generator, n):
        return 4 * generator.uniform(n, 1) - 2, torch.zeros(n, dtype=torch.int64)

    def loss(w, x):
        wanted = torch.tanh(slope * (x - goal[x.dtype].to(x))).mean(-2)
        return (torch.tanh(slope * (x - w)).mean(-2) - wanted).square() / 2

    grid = torch.linspace(-2, 2, 128)[:, None]
    inputs = Data("uniform inputs", grid, torch.zeros(len(grid), dtype=torch.int64), law=law)
    return Task(models.Function(loss, dim=width, features=1), inputs, loss="output")


def step_potential(w: np.ndarray, slope: float, teacher: tuple[float, ...]) -> Callable[[np.ndarray], np.ndarray]:
    """`mass -> potential` of the particles of `step_units`: E[(f(x) - y(x)) tanh(slope (x - w))] at each w (cells,)."""
    x = (np.arange(800) + 0.5) / 200 - 2
    units, wanted = np.tanh(slope * (x[:, None] - w)), np.tanh(slope * (x[:, None] - np.array(teacher))).mean(1)
    return lambda mass: units.T @ (units @ mass - wanted) / len(x)


def flow(mass: np.ndarray, w: np.ndarray, potential: Callable[[np.ndarray], np.ndarray], temperature: float, times: np.ndarray, dt: float) -> np.ndarray:
    """Solve d rho / dt = d/dw (rho dV/dw) + temperature d^2 rho / dw^2 in one dimension, V depending on rho.

    Finite volumes with the flux of Scharfetter & Gummel (1969), for which a Gibbs law is exactly at
    rest, and implicit Euler steps with V of the step before. Nothing leaves at the ends.

    Args:
        mass: in each cell at time 0, (cells,), not negative.
        w: centres of the cells, evenly spaced.
        potential: V at each centre, of the masses.
        times: when the result is wanted, increasing, multiples of dt.
        dt: time step.

    Returns:
        Masses (times, cells).

    Raises:
        ValueError: cells that are not evenly spaced, negative masses, or times that are not multiples of dt.
    """
    mass, w = np.array(mass, float), np.asarray(w, float)
    h, steps = w[1] - w[0], np.asarray(times, float) / dt
    if not np.allclose(np.diff(w), h) or h <= 0:
        raise ValueError("w must be the centres of evenly spaced cells, in increasing order")
    if mass.shape != w.shape or mass.min() < 0:
        raise ValueError(f"mass has shape {mass.shape} and minimum {mass.min():g}; wanted: {w.shape}, no negative masses")
    if not np.allclose(steps, steps.round(), atol=1e-6) or (np.diff(steps) <= 0).any():
        raise ValueError(f"times={times!r} must be increasing multiples of dt={dt}")
    wanted, found = set(steps.round().astype(int).tolist()), []
    for step in range(max(wanted) + 1):
        if step in wanted:
            found.append(mass)
        right, left = _rates(np.diff(potential(mass)), temperature)
        right, left = right * dt / h**2, left * dt / h**2
        bands = np.zeros((3, len(mass)))
        bands[0, 1:], bands[2, :-1] = -left, -right
        bands[1] = 1 + np.append(right, 0) + np.insert(left, 0, 0)
        mass = solve_banded((1, 1), bands, mass)
    return np.array(found)


def _rates(rise: np.ndarray, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Rates at which mass hops right and left between two cells, times their distance squared, for a rise of V (faces,)."""
    if temperature == 0:
        return np.maximum(-rise, 0), np.maximum(rise, 0)
    u = rise / temperature
    with np.errstate(over="ignore"):
        right = temperature * np.where(abs(u) < 1e-6, 1 - u / 2, u / np.expm1(np.where(abs(u) < 1e-6, 1, u)))
    return right, right + rise


# ------------------------------------------------------------------ where noisy descent settles


@dataclass(frozen=True)
class Gibbs:
    """The law of neurons (a, w, b) that minimizes the free energy, for inputs on a line.

    Attributes:
        residuals: f(x_i) - y_i, (n,).
        angles: of the directions (w, b) = s (cos, sin), (angles,).
        mass: what each direction adds to f, E[a s] d angle, (angles,).
        pull: |h| / penalty at each angle, at most 1: how close the direction is to attracting neurons for good.
    """

    residuals: np.ndarray
    angles: np.ndarray
    mass: np.ndarray
    pull: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """The network's output at inputs x (m,)."""
        return np.maximum(np.multiply.outer(x, np.cos(self.angles)) + np.sin(self.angles), 0) @ self.mass

    def pull_at(self, x: np.ndarray, side: int) -> np.ndarray:
        """The pull of units with their kink at x (m,) that are active to the right (side 1) or to the left (-1)."""
        angles = np.arctan2(-side * x, np.full_like(x, side))
        return np.interp(angles, self.angles, self.pull, period=2 * np.pi)

    @property
    def kinks(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the directions have their kinks, and by how much the slope changes there."""
        return -np.tan(self.angles), self.mass * abs(np.cos(self.angles))


def gibbs(x: np.ndarray, y: np.ndarray, penalty: float, temperature: float) -> Gibbs:
    """Minimize R/2 + penalty/2 E|theta|^2 + temperature E log rho over the laws rho of theta = (a, w, b).

    R is the mean squared error of f(x) = E[a relu(w x + b)]. The dual has one unknown per example, the
    residual, because a and |(w, b)| can be integrated out; Newton's method solves it, from high
    temperatures to the one that is wanted.

    Raises:
        ValueError: a penalty or a temperature that is not positive, or inputs that are not all different.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    if not penalty > 0 or not temperature > 0:
        raise ValueError(f"penalty={penalty} and temperature={temperature} must be positive")
    if x.ndim != 1 or x.shape != y.shape or len(np.unique(x)) < len(x):
        raise ValueError(f"x and y must be vectors of one length, the inputs all different; got shapes {x.shape} and {y.shape}")
    n, (angles, weights) = len(x), _angles(x)
    units = np.maximum(np.multiply.outer(x, np.cos(angles)) + np.sin(angles), 0)

    def parts(r):
        pull = r @ units / n / penalty
        gap = 1 - pull**2
        return pull, gap, weights / gap / (weights / gap).sum()

    def value(r, t):
        pull, gap, _ = parts(r)
        return np.inf if gap.min() <= 0 else (r @ r / 2 + r @ y) / n + t * np.log((weights / gap).sum())

    r = np.zeros(n)
    # the dual is at its easiest where noise keeps the network at zero
    for t in [*np.geomspace(max(1.0, temperature), temperature, 1 + int(2 * abs(np.log10(temperature)))), temperature]:
        for _ in range(100):
            pull, gap, p = parts(r)
            slope = units / (n * penalty)
            first, second = 2 * pull / gap, 2 / gap + 8 * pull**2 / gap**2
            mean = slope @ (p * first)
            gradient = (r + y) / n + t * mean
            hessian = np.eye(n) / n + t * ((slope * (p * second)) @ slope.T - np.outer(mean, mean))
            step = np.linalg.solve(hessian, gradient)
            length, start = 1.0, value(r, t)
            while length > 1e-12 and not value(r - length * step, t) <= start - 1e-4 * length * gradient @ step:
                length /= 2
            r = r - length * step
            if gradient @ step < 1e-20 or length <= 1e-12:
                break
    pull, gap, p = parts(r)
    return Gibbs(r, angles, -2 * temperature / penalty * p * pull / gap, abs(pull))


def three_knots(x: np.ndarray, gap: int, at: float, penalty: float, weight: float = 1.5) -> np.ndarray:
    """Targets for inputs on a line whose optimum at zero temperature has three knots between x[gap] and x[gap + 1], both included.

    The most that Shevchenko et al. 2021 allow: units that look to the right have pull one with opposite signs at both ends, units that look
    to the left at a place between. Residuals for which no direction has more come from a linear program; the optimum is made of three
    units of output `weight` there, and the targets are what it would have to miss by these residuals.

    Args:
        x: increasing, (n,).
        at: the place between the ends, as a share of the interval; near one end of it.

    Returns:
        y (n,).

    Raises:
        ValueError: there are no such residuals. The interval must be wide, more than about two where the inputs are of size one.
    """
    angles, _ = _angles(x)
    units = np.maximum(np.multiply.outer(x, np.cos(angles)) + np.sin(angles), 0)
    kinks, sides = np.array([x[gap], x[gap + 1], x[gap] + at * (x[gap + 1] - x[gap])]), np.array([1, 1, -1])
    wanted = np.maximum(sides * (x[:, None] - kinks), 0) / np.hypot(1, kinks)
    for signs in ([1, -1, 1], [1, -1, -1]):
        found = linprog(np.zeros(len(x)), np.r_[units.T, -units.T], np.ones(2 * len(angles)), wanted.T, signs, bounds=(None, None))
        if found.status == 0:
            return -weight * wanted @ signs - found.x * len(x) * penalty
    raise ValueError(f"no residuals have pull one at {kinks.round(3).tolist()} and nowhere more; try another interval or place than gap={gap}, at={at}")


def _angles(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Angles in a circle with trapezoid weights, close together where a unit's kink passes an input."""
    corners = np.concatenate([np.arctan2(s, -s * x) for s in (1, -1)])
    near = np.geomspace(1e-9, 0.3, 150)
    all_ = np.concatenate([np.linspace(-np.pi, np.pi, 4001)[:-1], corners, *[c + s * near for c in corners for s in (1, -1)]])
    angles = np.unique(np.mod(all_, 2 * np.pi))
    ahead = np.diff(angles, append=angles[0] + 2 * np.pi)
    return angles, (ahead + np.roll(ahead, 1)) / 2


# ------------------------------------------------------------------ networks on a line, and their knots


def planar_network(width: int) -> models.MLP:
    """(1/width) sum_i a_i relu(w_i . x) for x in the plane, all weights standard normal at the start.

    With two inputs the gain of ReLU cancels the fan-in, and the mean-field parametrization has no other factor.
    """
    return models.MLP((2, width, 1), activation="relu", parametrization="mean_field", bias=False)


def on_a_line(x: np.ndarray, y: np.ndarray) -> Data:
    """Inputs (x, 1), so that the second weight of a unit is its bias, and targets y."""
    inputs = np.stack([x, np.ones_like(x)], 1)
    return Data("points on a line", torch.tensor(inputs), torch.tensor(np.asarray(y, float)[:, None]))


def _neurons(weights: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """a, w and b (*, width) of the flat weights (*, 3 width) of a `planar_network`."""
    weights = np.asarray(weights, float)
    return weights[..., 2 * width :], weights[..., 0 : 2 * width : 2], weights[..., 1 : 2 * width : 2]


def outputs(weights: np.ndarray, width: int, x: np.ndarray) -> np.ndarray:
    """f(x) (*, m) of networks with flat weights (*, 3 width), at x (m,)."""
    a, w, b = _neurons(weights, width)
    return (a[..., None, :] @ np.maximum(w[..., None] * x + b[..., None], 0))[..., 0, :] / width


def kinks(weights: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each unit has its kink, -b / w, and by how much the slope of f changes there, a |w| / width; (*, width)."""
    a, w, b = _neurons(weights, width)
    return -b / np.where(w == 0, np.nan, w), a * abs(w) / width


def _cells(position: np.ndarray, change: np.ndarray, x: np.ndarray, cell: float) -> tuple[np.ndarray, ...]:
    """Edges of cells over the range of x, one more at either end, and the change of slope and its moment in each."""
    if not 0 < cell < 1:
        raise ValueError(f"cell={cell} must lie between 0 and 1")
    edges = x.min() + cell * np.ptp(x) * (np.arange(-2, round(1 / cell) + 2) + 0.5)
    return edges, *(np.histogram(position, edges, weights=v)[0] for v in (change, change * position))


def knots(position: np.ndarray, change: np.ndarray, x: np.ndarray, share: float = 0.05, cell: float = 0.02) -> np.ndarray:
    """Positions of the knots of a piecewise linear function: clusters of its second derivative.

    The changes of slope are added up in cells, `cell` times as long as the range of the inputs. A knot is
    a run of neighbouring cells of one sign, each with at least share / 5 of the total change of slope,
    the sum of the cells' absolute values, that together hold more than `share` of it. A smooth function
    is one long run; `spread` tells whether there are knots to count.

    Args:
        position, change: of the kinks, (kinks,). Kinks outside the range of x (and one cell more) do not count.
        x: the inputs of the training data.

    Raises:
        ValueError: a share or a cell that is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise ValueError(f"share={share} must lie between 0 and 1")
    edges, mass, moment = _cells(position, change, x, cell)
    total = abs(mass).sum()
    sign = np.where(abs(mass) >= share / 5 * total, np.sign(mass), 0)
    runs = np.split(np.arange(len(mass)), np.flatnonzero(np.diff(sign)) + 1)
    heavy = [run for run in runs if sign[run[0]] and abs(mass[run].sum()) > share * total]
    # kinks of the other sign in the same cells could carry the mean out of them
    return np.array([np.clip(moment[run].sum() / mass[run].sum(), edges[run[0]], edges[run[-1] + 1]) for run in heavy])


def knots_between(found: np.ndarray, x: np.ndarray, margin: float) -> np.ndarray:
    """How many knots lie between neighbouring inputs, (n - 1,); those within `margin` of an input count on both sides of it."""
    x = np.sort(x)
    return np.array([((found >= a - margin) & (found <= b + margin)).sum() for a, b in zip(x[:-1], x[1:])])


def spread(position: np.ndarray, change: np.ndarray, x: np.ndarray, part: float = 0.9, cell: float = 0.02) -> float:
    """Share of the range of x that holds this part of the change of slope: the fewest cells, as in `knots`."""
    mass = np.sort(abs(_cells(position, change, x, cell)[1]))[::-1]
    return cell * (1 + int((mass.cumsum() < part * mass.sum()).sum()))


# ------------------------------------------------------------------ the convex program


def gates_of(inputs: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Which examples (n, d) a unit with these weights (*, gates, d) lets through, (*, gates, n)."""
    return vectors @ inputs.T >= 0


def convex_program(inputs: np.ndarray, y: np.ndarray, gates: np.ndarray, penalty: float, iterations: int = 2000, rho: float = 0.01) -> np.ndarray:
    """Minimize |sum_g D_g X (v_g - u_g) - y|^2 / (2n) + penalty sum_g (|v_g| + |u_g|), each vector in the cone of its gate.

    The cone of the gate D is that of the weights which open it, (2 D - 1) X v >= 0 (Pilanci & Ergen 2020, eq. 8). By
    ADMM as in Bai et al. 2022, algorithm 1: one linear system, factored once, a shrinking of each vector and a
    projection of each slack.

    Args:
        inputs: X, (n, d).
        y: (n,).
        gates: (*, gates, n), boolean; each leading index is a program of its own.
        rho: ADMM's step, in units of the squared size of the inputs over n.

    Returns:
        Vectors (*, 2, gates, d): those of output weight +1, those of -1.
    """
    n, d = inputs.shape
    batch, count = gates.shape[:-2], gates.shape[-2]
    cone = (2.0 * gates - 1)[..., None] * inputs  # (*, gates, n, d), the same for both signs
    A = np.moveaxis(gates[..., None] * inputs, -2, -3).reshape(*batch, n, count * d)
    A = np.concatenate([A, -A], -1)
    rho, size = rho * np.square(inputs).sum() / n, 2 * count * d
    system, blocks = np.swapaxes(A, -1, -2) @ A / n, rho * (np.swapaxes(cone, -1, -2) @ cone + np.eye(d))
    for k in range(2 * count):
        here = slice(k * d, (k + 1) * d)
        system[..., here, here] += blocks[..., k % count, :, :]
    inverse, target = np.linalg.inv(system), np.swapaxes(A, -1, -2) @ y / n
    cone = np.concatenate([cone, cone], -3)
    v, s = np.zeros((*batch, 2 * count, d)), np.zeros((*batch, 2 * count, n))
    dual_v, dual_s = np.zeros_like(v), np.zeros_like(s)
    for _ in range(iterations):
        pull = v - dual_v + ((s - dual_s)[..., None, :] @ cone)[..., 0, :]
        u = (inverse @ (target + rho * pull.reshape(*batch, size))[..., None]).reshape(v.shape)
        # over-relaxation by 1.6 (Boyd et al. 2011, section 3.4.3)
        dual_v += 1.6 * u - 0.6 * v
        dual_s += 1.6 * (cone @ u[..., None])[..., 0] - 0.6 * s
        norm = np.sqrt(np.square(dual_v).sum(-1, keepdims=True))
        v, s = dual_v * np.maximum(1 - penalty / rho / np.maximum(norm, 1e-300), 0), np.maximum(dual_s, 0)
        dual_v -= v
        dual_s -= s
    v = v.reshape(*batch, 2, count, d)
    return v


def program_residuals(inputs: np.ndarray, y: np.ndarray, v: np.ndarray) -> np.ndarray:
    """f(x_i) - y_i (*, n) of the network made of the vectors v (*, 2, gates, d): a ReLU unit with output weight +-1 of each."""
    return (np.maximum(v @ inputs.T, 0) * np.array([1.0, -1.0])[:, None, None]).sum((-2, -3)) - y


def network_objective(inputs: np.ndarray, y: np.ndarray, v: np.ndarray, penalty: float) -> np.ndarray:
    """What the network made of the vectors v (*, 2, gates, d) costs, (*,): mean squared error / 2 + penalty sum |v|.

    Each vector becomes one ReLU unit with weights v / sqrt|v| and output weight +-sqrt|v|, for which the
    L2 penalty (penalty / 2) (a^2 + |w|^2) is penalty |v|. A vector that leaves its cone is charged with what the ReLU makes of it.
    """
    residuals = program_residuals(inputs, y, v)
    return np.square(residuals).mean(-1) / 2 + penalty * np.linalg.norm(v, axis=-1).sum((-1, -2))


def descended(width: int, inputs: np.ndarray, targets: np.ndarray, penalty: float, rates: Sequence[float], seed: Sequence[int]) -> np.ndarray:
    """What SGD makes of the objective of `network_objective` with `width` units, (seeds,): 4,000 steps on half of the data, cosine schedule.

    Of the learning rates, width times `rates`, that with the lower median over seeds. The first layer of the trained network multiplies its
    weights by sqrt(2 / d), so the penalty is made smaller by this factor for the same function to cost the same.
    """
    gain = (2 / inputs.shape[1]) ** 0.5
    model = models.MLP((inputs.shape[1], width, 1), activation="relu", parametrization="mean_field", bias=False)
    task = Task(model, Data("points", torch.tensor(inputs), torch.tensor(targets[:, None])), loss="mse")
    l2 = gain * penalty / width
    run = sweep(task, lr=[r * width for r in rates], l2=l2, batch_size=len(inputs) // 2, seed=seed, steps=4000, schedule=schedules.cosine(),
                record=["loss", "weight_norm"], record_every=[4000]).isel(step=0)  # fmt: skip
    objective = run.loss + l2 / 2 * run.weight_norm**2
    return objective.sel(lr=objective.median("seed").idxmin("lr")).values


def lower_bound(inputs: np.ndarray, y: np.ndarray, residuals: np.ndarray, penalty: float) -> float:
    """A number below the training objective of every two-layer ReLU network of any width, for inputs in the plane.

    The dual of the convex program over all gates is max -|r|^2 / (2n) - r . y / n, subject to
    |sum_i r_i relu(w . x_i)| <= n penalty for every unit vector w; the residuals of a good network, shrunk
    until they are allowed, make a bound. Over an arc of w on which no gate changes the sum is a sinusoid,
    whose largest value is known.

    Raises:
        ValueError: inputs that are not in the plane.
    """
    n, d = inputs.shape
    if d != 2:
        raise ValueError(f"the inputs have {d} features; the largest sum is known for 2")
    turns = np.arctan2(inputs[:, 1], inputs[:, 0])
    edges = np.sort(np.mod(np.concatenate([turns + np.pi / 2, turns - np.pi / 2]), 2 * np.pi))
    ends = np.append(edges[1:], edges[0] + 2 * np.pi)
    middle = np.stack([np.cos((edges + ends) / 2), np.sin((edges + ends) / 2)])
    force = ((inputs @ middle > 0) * residuals[:, None]).T @ inputs / n  # (arcs, 2): the gradient of the sum in w
    top = np.arctan2(force[:, 1], force[:, 0])[:, None] + np.array([0, np.pi])
    inside = np.mod(top - edges[:, None], 2 * np.pi) <= (ends - edges)[:, None]
    at = np.concatenate([edges[:, None], ends[:, None], np.where(inside, top, edges[:, None])], 1)
    largest = abs(force[:, :1] * np.cos(at) + force[:, 1:] * np.sin(at)).max()
    # along the ray c r the bound is a parabola in c, highest at -r.y / r.r
    c = min(penalty / largest, -(residuals @ y) / (residuals @ residuals))
    return float(-np.square(c * residuals).sum() / (2 * n) - c * residuals @ y / n)
