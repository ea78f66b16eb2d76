"""Optimizers as pure rules, one row of a matrix per network.

A rule maps `(gradient, state, h)` to `(direction, state)`; the step is `w <- w - lr * direction`.
`gradient`, `direction` and every tensor in `state` have shape (K, P): one row for each of K
networks, their P parameters flattened. `h` holds the hyperparameters as tensors (K, 1), so that each network has its
own, `h.lr` already multiplied by the schedule ((K, P) where the last layer has its own), and
`h.step`, counting from 1. A rule never mixes rows.

Five things work with every rule and are applied by the engine, in this order:
`clip` rescales a network's gradient to norm at most `clip` (Pascanu et al. 2013); `l2` adds
`l2 * w` to it, as the gradient of `l2 / 2 |w|^2`; after the update, `weight_decay` subtracts
`lr * weight_decay * w` (decoupled: Loshchilov & Hutter 2019); `temperature` adds
sqrt(2 lr temperature) times standard normal numbers (unadjusted Langevin: Roberts & Tweedie 1996);
`l1` then shrinks every weight by `lr * l1` toward zero and stops there (proximal step: Daubechies
et al. 2004). All five act on biases too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import torch
from torch import Tensor

from descent import seeding
from descent.norms import clipped

State = dict[str, Tensor]
Rule = Callable[[Tensor, State, SimpleNamespace], tuple[Tensor, State]]

#: hyperparameters that every optimizer takes, with the values that switch them off
COMMON = {"clip": float("inf"), "l2": 0.0, "weight_decay": 0.0, "temperature": 0.0, "l1": 0.0}


@dataclass(frozen=True)
class Optimizer:
    """A rule with its default hyperparameters.

    Calling it returns a copy with other defaults: `adamw(weight_decay=0.3, label="AdamW")`.

    Attributes:
        name: how it is labelled in a Dataset and on a control.
        rule: `(gradient, state, h) -> (direction, state)`.
        buffers: names of the state tensors, which start at zero.
        defaults: its own hyperparameters, and any of `COMMON` that it does not leave off.
        proximal: the "gradient" is (w - prox(w)) / lr, with the model's own `prox`.
        ahead: for rules that take a second gradient, on the same examples: where, from the first
            gradient and h, as a displacement (K, P).
        corrected: what takes the place of the gradient, from the first, the second and h.
    """

    name: str
    rule: Rule
    buffers: tuple[str, ...] = ()
    defaults: dict[str, float] = field(default_factory=dict)
    proximal: bool = False
    ahead: Callable[[Tensor, SimpleNamespace], Tensor] | None = None
    corrected: Callable[[Tensor, Tensor, SimpleNamespace], Tensor] | None = None

    @property
    def hyperparameters(self) -> dict[str, float]:
        """Every hyperparameter it takes besides the learning rate, with its default."""
        return COMMON | self.defaults

    def __call__(self, label: str | None = None, **defaults: float) -> Optimizer:
        for key in defaults:
            if key not in self.hyperparameters:
                raise ValueError(
                    f"{self.name} takes no hyperparameter {key!r}; it takes {sorted(self.hyperparameters)}"
                )
        written = ", ".join(f"{k}={v:g}" for k, v in defaults.items())
        return replace(self, name=label or f"{self.name}({written})", defaults=self.defaults | defaults)


def over(a: Tensor, b: Tensor) -> Tensor:
    """a / b, and 0 where b is 0: a weight whose gradients have all been 0, or have squares that round to 0, is left alone."""
    return torch.where(b == 0, 0.0, a / b)


def _sgd(g: Tensor, state: State, h: SimpleNamespace) -> tuple[Tensor, State]:
    """w <- w - lr g (Robbins & Monro 1951). With the full batch this is gradient descent."""
    return g, state


def _heavy_ball(g: Tensor, state: State, h: SimpleNamespace) -> tuple[Tensor, State]:
    """v <- momentum v + g;  w <- w - lr v (Polyak 1964)."""
    v = h.momentum * state["v"] + g
    return v, {"v": v}


def _nesterov(g: Tensor, state: State, h: SimpleNamespace) -> tuple[Tensor, State]:
    """v <- momentum v + g;  w <- w - lr (g + momentum v).

    Nesterov 1983 in the form of Sutskever et al. 2013: `w` is the look-ahead point, where
    the gradient is taken.
    """
    v = h.momentum * state["v"] + g
    return g + h.momentum * v, {"v": v}


def _adagrad(g: Tensor, state: State, h: SimpleNamespace) -> tuple[Tensor, State]:
    """s <- s + g^2;  w <- w - lr g / (sqrt(s) + eps) (Duchi et al. 2011, diagonal form)."""
    s = state["s"] + g * g
    # 0 s is NaN where s has overflowed: such a network has diverged, where g / s would leave it standing
    return over(g, s.sqrt() + h.eps) + 0 * s, {"s": s}


def _rmsprop(g: Tensor, state: State, h: SimpleNamespace) -> tuple[Tensor, State]:
    """s <- beta2 s + (1 - beta2) g^2;  w <- w - lr g / (sqrt(s) + eps) (Hinton 2012, lecture 6e)."""
    s = torch.lerp(state["s"], g * g, 1 - h.beta2)
    return over(g, s.sqrt() + h.eps), {"s": s}


def _adam(g: Tensor, state: State, h: SimpleNamespace) -> tuple[Tensor, State]:
    """Moving averages m of g and s of g^2, each divided by 1 - beta^t against its start at zero;
    w <- w - lr m / (sqrt(s) + eps) (Kingma & Ba 2015, algorithm 1)."""
    m, s = torch.lerp(state["m"], g, 1 - h.beta1), torch.lerp(state["s"], g * g, 1 - h.beta2)
    m_hat, s_hat = m / (1 - h.beta1**h.step), s / (1 - h.beta2**h.step)
    return over(m_hat, s_hat.sqrt() + h.eps), {"m": m, "s": s}


def _penalized(g: Tensor, g_ahead: Tensor, h: SimpleNamespace) -> Tensor:
    """g + penalty (g(w + ascent g) - g) / ascent, which is g + penalty H g up to O(ascent).

    The gradient of L + penalty |grad L|^2 / 2 by a forward finite difference (Karakida et al. 2022,
    eq. 4). An ascent of the size of the penalty gives g(w + ascent g), SAM without its
    normalization (Foret et al. 2021).
    """
    return g + h.penalty / h.ascent * (g_ahead - g)


_ADAM = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8}

sgd = Optimizer("sgd", _sgd)
heavy_ball = Optimizer("heavy_ball", _heavy_ball, ("v",), {"momentum": 0.9})
nesterov = Optimizer("nesterov", _nesterov, ("v",), {"momentum": 0.9})
adagrad = Optimizer("adagrad", _adagrad, ("s",), {"eps": 1e-10})
rmsprop = Optimizer("rmsprop", _rmsprop, ("s",), {"beta2": 0.99, "eps": 1e-8})
adam = Optimizer("adam", _adam, ("m", "s"), dict(_ADAM))
adamw = Optimizer("adamw", _adam, ("m", "s"), _ADAM | {"weight_decay": 0.01})
#: w <- prox(w): the stochastic proximal point method, for a `models.Function` with a `prox`
proximal_point = Optimizer("proximal_point", _sgd, proximal=True)
gradient_penalty = Optimizer(
    "gradient_penalty", _sgd, (), {"penalty": 0.1, "ascent": 0.1}, ahead=lambda g, h: h.ascent * g, corrected=_penalized
)

OPTIMIZERS = {
    o.name: o for o in (sgd, heavy_ball, nesterov, adagrad, rmsprop, adam, adamw, proximal_point, gradient_penalty)
}


def get(optimizer: str | Optimizer) -> Optimizer:
    """The optimizer called by name, or the optimizer itself.

    Raises:
        ValueError: no optimizer has that name.
    """
    if isinstance(optimizer, Optimizer):
        return optimizer
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {optimizer!r}; choose from {sorted(OPTIMIZERS)}")
    return OPTIMIZERS[optimizer]


def step(optimizer: Optimizer, w: Tensor, gradient: Tensor, state: State, h: SimpleNamespace, alive: Tensor | None = None) -> None:
    """One whole update of w and state, all (K, P), in place, `COMMON` included.

    Parts that no network of the batch uses are skipped (`h.uses` names those in use).

    Args:
        alive: which networks move, (K,); None is all of them.
    """
    if "clip" in h.uses:
        gradient = clipped(gradient, h.clip)
    if "l2" in h.uses:
        gradient = gradient + h.l2 * w
    direction, new = optimizer.rule(gradient, state, h)
    for name, value in new.items():
        if value is not state[name]:
            state[name].copy_(value)
    if "weight_decay" in h.uses:
        direction = direction + h.weight_decay * w
    if alive is not None:
        direction = torch.where(alive[:, None], direction, 0.0)
    w.addcmul_(direction, h.lr, value=-1)
    if "temperature" in h.uses:
        kick = (2 * h.lr * h.temperature).sqrt() * seeding.noise(h, "noise", w.shape[1]).to(w.dtype)
        w.add_(kick if alive is None else torch.where(alive[:, None], kick, 0.0))
    if "l1" in h.uses:
        shrunk = torch.sign(w) * (w.abs() - h.lr * h.l1).clamp(min=0)
        w.copy_(shrunk if alive is None else torch.where(alive[:, None], shrunk, w))
