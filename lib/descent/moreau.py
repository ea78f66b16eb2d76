"""Robust phase retrieval, the standard weakly convex problem, and its Moreau envelope.

A function f is rho-weakly convex if f + rho |.|^2 / 2 is convex. It may have kinks, at which
no gradient becomes small, so closeness to a stationary point is measured on the Moreau
envelope f_t(w) = min_v f(v) + |v - w|^2 / (2 t), t < 1 / rho, which is smooth: its gradient is
(w - v*) / t, with v* the minimizer (Davis & Drusvyatskiy 2019).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import xarray as xr
from torch import Tensor

from descent.data import Data
from descent.models import Function
from descent.norms import norm
from descent.seeding import generator
from descent.sweep import sweep
from descent.task import Task


def _prox_scalar(z: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """The minimizer over u of |u^2 - b| + (u - z)^2 / (2 t), elementwise, for b >= 0.

    It is stationary on one of the two smooth pieces or lies on the kink u^2 = b (Davis &
    Drusvyatskiy 2019): compute all candidates, keep the best.
    """
    z, b, t = torch.broadcast_tensors(z, b, torch.as_tensor(t, dtype=z.dtype))
    root, inside = b.sqrt(), torch.where(t == 0.5, z, z / (1 - 2 * t))
    candidates = torch.stack([z / (1 + 2 * t), inside, root, -root])
    values = (candidates.square() - b).abs() + (candidates - z).square() / (2 * t)
    return candidates.gather(0, values.argmin(0, keepdim=True)).squeeze(0)


def _prox(w: Tensor, x: Tensor, lr: Tensor) -> Tensor:
    """The proximal point step of one example (a, b) per network: it moves w along a alone."""
    a, b = x[..., :-1, 0], x[..., -1:, 0]
    z, norm = (a * w).sum(-1, keepdim=True), a.square().sum(-1, keepdim=True)
    return w + (_prox_scalar(z, b, lr * norm) - z) / norm * a


def _prox_linear(w: Tensor, x: Tensor, lr: Tensor) -> Tensor:
    """The prox-linear step of one example: the proximal point of |r + 2 z a . (v - w)|, z = a . w, r = z^2 - b.

    The square is linearized, the kink is kept, so that the step never goes beyond the kink (Davis & Drusvyatskiy 2019).
    """
    a, b = x[..., :-1, 0], x[..., -1:, 0]
    z = (a * w).sum(-1, keepdim=True)
    slope, gap = 2 * z * a, z.square() - b
    reach = lr * slope.square().sum(-1, keepdim=True)
    return w - lr * torch.where(gap.abs() < reach, gap / reach, gap.sign()) * slope


#: How one example's loss is modelled by the step of the optimizer "proximal_point".
MODELS = {"exact": _prox, "linear": _prox_linear}


def _value(w: Tensor, x: Tensor) -> Tensor:
    """|(a . w)^2 - b| for each example x = (a, b)."""
    return ((x[..., :-1, :] * w).sum(-2).square() - x[..., -1, :]).abs()


def phase_retrieval(n: int, dim: int, outliers: float = 0.0, seed: int = 0, model: str = "exact") -> Task:
    """Find w from measurements b = (a . w*)^2 by minimizing the mean of |(a . w)^2 - b|.

    The vectors a are standard normal, |w*| = 1, and a fraction `outliers` of the b is
    replaced by squares of standard normal numbers. The optimizer "proximal_point" minimizes a model
    of one example's loss: the loss itself (`model="exact"`), or |linearized residual| (`model="linear"`,
    the prox-linear or Gauss-Newton step). The other optimizers do not depend on `model`.

    Raises:
        ValueError: n or dim is not positive, `outliers` does not lie between 0 and 1, or `model` is neither.
    """
    if model not in MODELS:
        raise ValueError(f"phase_retrieval: model is one of {', '.join(MODELS)}, got {model!r}")
    if n < 1 or dim < 1 or not 0 <= outliers <= 1:
        raise ValueError(f"phase_retrieval: n={n} and dim={dim} must be positive, outliers={outliers} between 0 and 1")
    g = generator(seed, "data")
    truth = g.normal(dim).double()
    a = g.normal(n, dim).double()
    b = (a @ (truth / truth.norm())).square()
    wrong = g.uniform(n) < outliers
    b = torch.where(wrong, g.normal(n).double().square(), b)
    data = Data("phase retrieval", torch.cat([a, b[:, None]], 1), torch.zeros(n, dtype=torch.int64))
    return Task(Function(_value, dim, prox=MODELS[model], features=dim + 1), data, loss="output")


def weak_convexity(task: Task) -> float:
    """rho = 2 |A'A / n| (spectral norm): a `phase_retrieval` task plus rho |w|^2 / 2 is convex."""
    a = task.data.x[:, :-1].double()
    return 2 * torch.linalg.eigvalsh(a.T @ a / len(a))[-1].item()


def stationarity(
    task: Task, steps: Sequence[int], scales: Sequence[float], optimizer: Sequence[str], seed: Sequence[int], draws: int = 16
) -> xr.DataArray:
    """How stationary a random iterate is, for runs of K steps with learning rate scale / sqrt(K).

    Returns:
        The norm of the Moreau envelope's gradient for t = 1 / (2 rho), averaged over seeds and over
        `draws` random iterates of each run (stratified), with dimensions K, scale and optimizer; NaN where a run diverged.
    """
    t, results = 0.5 / weak_convexity(task), []
    for K in steps:
        # one random step from each of equally long stretches: the mean is that of a uniformly random step
        part = (torch.arange(draws) + generator(seed[0], "probe").uniform(draws)) * K / draws
        chosen = part.long().tolist()
        w = sweep(task, lr=[c / K**0.5 for c in scales], batch_size=1, optimizer=optimizer, seed=seed, steps=K,
                  record="weights", record_every=chosen, sampling="replacement").weights  # fmt: skip
        norms = norm(envelope_gradient(task, torch.tensor(w.values), t, steps=50))
        norms = xr.DataArray(norms.numpy(), dims=w.dims[:-1], coords={"optimizer": w.optimizer})
        results.append(norms.mean(["seed", "step"], skipna=False).rename(lr="scale").assign_coords(scale=list(scales)))
    dim = xr.DataArray(list(steps), dims="K", name="K", attrs={"long_name": "number of steps K"})
    return xr.concat(results, dim).rename("envelope_gradient")


def envelope_gradient(task: Task, w: Tensor, t: float, steps: int = 300) -> Tensor:
    """Gradient of the Moreau envelope of a `phase_retrieval` task at each row of w.

    Solves for the proximal point by the alternating direction method of multipliers: the
    losses act on the scalars u_i = a_i . v one by one, where the minimizer is known.

    Args:
        w: points (..., dim).
        t: the envelope's parameter; must be below 1 / rho (see `weak_convexity`).
        steps: iterations; 50 reach a relative error below 1e-2, 300 below 1e-3 on tasks as in the tests.

    Returns:
        (w - prox(w)) / t, shape (..., dim), float64.

    Raises:
        ValueError: t is not between 0 and 1 / rho.
    """
    x = task.data.x.double()
    a, b = x[:, :-1], x[:, -1]
    gram, eye = a.T @ a / len(a), torch.eye(a.shape[1], dtype=torch.float64)
    weak = weak_convexity(task)
    if not 0 < t < 1 / weak:
        raise ValueError(f"envelope_gradient: t={t} must lie between 0 and 1 / rho = {1 / weak:.4g}")
    w = w.double()
    # penalty on u = a . v: above the weak convexity 2 of each loss, so that its step is convex
    penalty = 4.0
    solve = torch.linalg.inv(eye / t + penalty * gram)
    v, u = w, w @ a.T
    dual = torch.zeros_like(u)
    for _ in range(steps):
        u = _prox_scalar(v @ a.T + dual, b, torch.tensor(1 / penalty))
        v = (w / t + penalty * (u - dual) @ a / len(a)) @ solve
        dual = dual + v @ a.T - u
    return (w - v) / t
