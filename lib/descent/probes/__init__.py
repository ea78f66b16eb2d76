"""Probes: what can be measured on every network of a sweep while it trains.

A probe is a function from `Networks` to a tensor (K, ...), one row per network, under a
name that becomes a variable of the Dataset. Probes never change the networks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from descent.backprop import Gradients
from descent.models import Params
from descent.task import Part, Task


@dataclass
class Networks:
    """K networks at one step of their training, as probes see them.

    Attributes:
        task: what they are trained on.
        w: their parameters now, (K, P). The next step overwrites them: keep a clone, if anything.
        w0: their parameters at initialization, (K, P).
        step: updates done.
        h: their hyperparameters, tensors (K, 1).
        batch_size: examples per update.
        seeds: seed of each network, (K,).
        parts: the data, "train", "val" and "test", on the device.
        gradients: what computes their outputs and gradients.
        memory: kept from one measurement to the next, for probes that start where they ended.
    """

    task: Task
    w: Tensor
    w0: Tensor
    step: int
    h: SimpleNamespace
    batch_size: int
    seeds: list[int]
    parts: Mapping[str, Part]
    gradients: Gradients
    memory: dict[str, Any] = field(default_factory=dict)
    _outputs: dict[str, Tensor] = field(default_factory=dict)

    @property
    def params(self) -> Params:
        """Parameters by name, (K, *shape)."""
        return self.task.unflatten(self.w)

    def outputs(self, which: str = "train") -> Tensor:
        """Outputs on a part of the data, (K, outputs, n), computed once per measurement."""
        if which not in self._outputs:
            self._outputs[which] = self.gradients.outputs(self.w, self.parts[which].x)
        return self._outputs[which]


@dataclass(frozen=True)
class Probe:
    """A named measurement.

    Attributes:
        name: variable of the Dataset.
        measure: `Networks -> Tensor (K, *extra)`.
        dims: names of the extra dimensions.
        needs: parts of the data it looks at.
    """

    name: str
    measure: Callable[[Networks], Tensor]
    dims: tuple[str, ...] = ()
    needs: tuple[str, ...] = ("train",)


#: every probe that a sweep can record by name
PROBES: dict[str, Probe] = {}


def probe(name: str, dims: tuple[str, ...] = (), needs: tuple[str, ...] = ("train",)) -> Callable[[Callable], Probe]:
    """Make a `Probe` of a function. Pass the result to `sweep(record=[...])`."""

    def make(measure: Callable[[Networks], Tensor]) -> Probe:
        return Probe(name, measure, dims, needs)

    return make


def register(made: Probe) -> Probe:
    """Let sweeps record a probe by its name.

    Raises:
        ValueError: the name is taken.
    """
    if made.name in PROBES:
        raise ValueError(f"a probe called {made.name!r} exists already")
    PROBES[made.name] = made
    return made


from descent.probes import curvature, device, features, landscape, noise, propagation, sparse, training  # noqa: E402, F401  (they register their probes)
