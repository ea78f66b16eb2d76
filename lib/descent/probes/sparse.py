"""What a diagonal linear network u^depth - v^depth has found, and what it still remembers of its init scale."""

from __future__ import annotations

import torch
from torch import Tensor

from descent.models import DiagonalLinear
from descent.probes import Networks, Probe, register

#: a coefficient below this is not counted in the support; the targets of `data.sparse_regression` are +-1
SUPPORT = 0.1


def coefficients(networks: Networks) -> Tensor:
    """beta = u^depth - v^depth of each network, (K, dim).

    Raises:
        ValueError: the model is not a `DiagonalLinear`.
    """
    model = networks.task.model
    if not isinstance(model, DiagonalLinear):
        raise ValueError(f"this probe is for models.DiagonalLinear, not {type(model).__name__}")
    p = networks.params
    return p["u"] ** model.depth - p["v"] ** model.depth


def error(networks: Networks) -> Tensor:
    """|beta - beta*|^2, (K,): for standard normal inputs twice the expected loss on new examples without noise.

    Raises:
        ValueError: the data do not say what the truth is.
    """
    truth = networks.task.data.truth
    if truth is None:
        raise ValueError(f"the data {networks.task.data.name!r} have no true coefficients (Data.truth)")
    beta = coefficients(networks)
    return (beta - truth.to(beta)).square().sum(-1)


def support_size(networks: Networks) -> Tensor:
    """How many coefficients are larger than `SUPPORT` in magnitude, (K,)."""
    beta = coefficients(networks)
    return (beta.abs() > SUPPORT).to(beta.dtype).sum(-1)


def effective_scale(networks: Networks) -> Tensor:
    """sqrt(|u v|) of each coordinate, (K, dim): the init scale, as long as gradient flow trains a network of depth 2."""
    coefficients(networks)
    p = networks.params
    return (p["u"] * p["v"]).abs().sqrt()


def scale_change(networks: Networks) -> Tensor:
    """Mean over the coordinates of log(effective scale / init scale), (K,)."""
    p, size = networks.params, networks.w.shape[-1] // 2
    start = (networks.w0[:, :size] * networks.w0[:, size:]).abs()
    return ((p["u"] * p["v"]).abs() / start).log().mean(-1) / 2


register(Probe("truth_error", error, needs=()))
register(Probe("support_size", support_size, needs=()))
register(Probe("coefficients", coefficients, dims=("coordinate",), needs=()))
register(Probe("effective_scale", effective_scale, dims=("coordinate",), needs=()))
register(Probe("scale_change", scale_change, needs=()))
