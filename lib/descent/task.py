"""A task: a model, data and a loss; everything about a training run but the optimizer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor

from descent.data import Data
from descent.models import Model, Params
from descent.seeding import Generator, generator, key, noise


def _cross_entropy(outputs: Tensor, y: Tensor) -> Tensor:
    if y.is_floating_point():
        return -(y * outputs.log_softmax(-2)).sum(-2)
    net, (classes, n) = outputs.shape[:-2], outputs.shape[-2:]
    labels = y.expand(*net, n).reshape(-1, n)
    return F.cross_entropy(outputs.reshape(-1, classes, n), labels, reduction="none").reshape(*net, n)


def _squared_error(outputs: Tensor, y: Tensor) -> Tensor:
    return (outputs - y).square().sum(-2) / 2


def _output(outputs: Tensor, y: Tensor) -> Tensor:
    return outputs.squeeze(-2)


def _hinge(outputs: Tensor, y: Tensor) -> Tensor:
    return torch.relu(1 - y * outputs).squeeze(-2)


def _logistic(outputs: Tensor, y: Tensor) -> Tensor:
    return F.softplus(-y * outputs).squeeze(-2)


#: name -> losses (*net, n) from outputs (*net, outputs, n) and targets, labels (n,) or (*net, n)
#: or values (outputs, n) or (*net, outputs, n); cross-entropy's values are the classes' probabilities
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": _cross_entropy,
    "mse": _squared_error,
    "output": _output,
    "hinge": _hinge,
    "logistic": _logistic,
}
#: draws that the law of some data may make for one minibatch
DRAWS = 16
#: hyperparameters of what a network gets to see, with the values that switch them off
SIGHT = {"label_noise": 0.0, "deficit_start": 0.0, "deficit_length": 0.0}
#: losses of the margin, the product of the single output and a target -1 or 1
MARGIN = ("hinge", "logistic")


@dataclass(frozen=True)
class Part:
    """One part of the data in the engine's layout: x (*features, n); y labels (n,) or values (outputs, n)."""

    x: Tensor
    y: Tensor
    labels: Tensor | None

    def __len__(self) -> int:
        return self.x.shape[-1]


@dataclass(frozen=True)
class Task:
    """What is trained.

    The loss of one network is the mean over examples of
    "cross_entropy": -log softmax(output)[label];
    "mse": |output - target|^2 / 2, targets one-hot if the data has class labels;
    "output": the model's single output itself;
    "hinge": max(0, 1 - target output), and "logistic": log(1 + exp(-target output)), for a single
    output and targets -1 and 1, which the class labels 0 and 1 become.

    Attributes:
        model: a model of `descent.models`.
        data: a `Data`; inputs are reshaped to the model's `input_shape` if the sizes agree.
        loss: one of `LOSSES`.
        name: label in recipes; by default made from the parts.
        deficit: `(x, y) -> (x, y)`, what becomes of a minibatch in the engine's layout during the steps
            that the hyperparameters `deficit_start` and `deficit_length` of a sweep choose.

    Raises:
        ValueError: unknown loss, sizes that do not fit, labels where values are needed or the reverse.
    """

    model: Model
    data: Data
    loss: str = "cross_entropy"
    name: str = ""
    deficit: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise ValueError(f"unknown loss {self.loss!r}; choose from {sorted(LOSSES)}")
        wanted, given = tuple(self.model.input_shape), tuple(self.data.x.shape[1:])
        if math.prod(wanted) != math.prod(given):
            raise ValueError(f"the model takes inputs of shape {wanted}, the data {self.data.name!r} has {given}")
        if self.loss == "cross_entropy" and self.data.classes is None:
            raise ValueError(f"cross_entropy needs class labels; the data {self.data.name!r} has real targets: use 'mse'")
        if self.loss in MARGIN:
            self._check_signs()
        if self.loss == "mse":
            wanted = self.data.classes or math.prod(self.data.y.shape[1:])
            if (outputs := self._outputs()) != wanted:  # one output would be compared with each of several targets
                raise ValueError(f"mse on {self.data.name!r} needs a model with {wanted} output{'s' * (wanted != 1)}, one for each {'class' if self.data.classes else 'target'}; this one has {outputs}")
        if not torch.isfinite(self.data.x).all():
            raise ValueError(f"the inputs of {self.data.name!r} contain NaN or infinity")
        if not self.name:
            label = f"{type(self.model).__name__} on {self.data.name}, {self.loss}"
            object.__setattr__(self, "name", label)
        self.layout  # computed now, once for all networks

    def _check_signs(self) -> None:
        if self.data.classes not in (None, 2):
            raise ValueError(f"{self.loss} tells two classes apart; the data {self.data.name!r} has {self.data.classes}")
        if self.data.classes is None and (self.data.y.abs() != 1).any():
            raise ValueError(f"{self.loss} needs targets -1 and 1; the data {self.data.name!r} has others")
        if (outputs := self._outputs()) != 1:
            raise ValueError(f"{self.loss} needs a model with a single output, not {outputs}")

    def _outputs(self) -> int:
        """How many numbers the model makes of one example."""
        example = self.data.x[:1].reshape(1, *self.model.input_shape).movedim(0, -1)
        return self.model.apply(self.model.init(generator(0, "init"), 1.0), example.float()).shape[-2]

    @cached_property
    def layout(self) -> dict[str, tuple[int, ...]]:
        """Shape of each parameter of one network, in the order of the flat vector."""
        template = self.model.init(generator(0, "init"), 1.0)
        return {name: tuple(p.shape) for name, p in template.items()}

    @property
    def parameters(self) -> int:
        """Number of parameters P of one network."""
        return sum(math.prod(shape) for shape in self.layout.values())

    @property
    def readout(self) -> tuple[str, ...]:
        """Names of the last layer's parameters; none if the model does not tell."""
        return tuple(getattr(self.model, "readout", ()))

    @property
    def readout_mask(self) -> Tensor:
        """Which of the P parameters belong to the last layer."""
        return torch.cat([torch.full((math.prod(s),), name in self.readout) for name, s in self.layout.items()])

    def unflatten(self, w: Tensor) -> Params:
        """Parameters (*net, *shape) as views into flat vectors (*net, P)."""
        params, start = {}, 0
        for name, shape in self.layout.items():
            size = math.prod(shape)
            params[name] = w[..., start : start + size].view(*w.shape[:-1], *shape)
            start += size
        return params

    @staticmethod
    def flatten(params: Params, net_dims: int) -> Tensor:
        """The inverse of `unflatten`: flat vectors (*net, P)."""
        return torch.cat([p.reshape(*p.shape[:net_dims], -1) for p in params.values()], dim=-1)

    def raw(self, which: str) -> tuple[Tensor, Tensor]:
        """Inputs (n, *features) and targets of a part as they are in the data; raises as `part` does."""
        suffix = {"train": "", "val": "_val", "test": "_test"}[which]
        x, y = getattr(self.data, "x" + suffix), getattr(self.data, "y" + suffix)
        if x is None:
            raise ValueError(f"the data {self.data.name!r} has no {which} part; make it with {which}=...")
        return x, y

    def part(self, which: str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Part:
        """The part "train", "val" or "test" of the data, copied into the engine's layout.

        Raises:
            ValueError: the data has no such part.
        """
        raw_x, raw_y = self.raw(which)
        x, y = self._laid_out(raw_x, raw_y, dtype)
        labels = None if raw_y.is_floating_point() else raw_y.to(device)
        return Part(x.to(device, dtype).contiguous(), y.to(device).contiguous(), labels)

    def _laid_out(self, x: Tensor, y: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Examples x (n, *features), y as the loss wants them: x (*features, n) and y (n,) or (outputs, n)."""
        x, labels = x.reshape(len(x), *self.model.input_shape).movedim(0, -1), not y.is_floating_point()
        if self.loss == "mse":
            y = (F.one_hot(y, self.data.classes) if labels else y).to(dtype).T
        if self.loss in MARGIN:
            y = (2 * y[None] - 1 if labels else y.T).to(dtype)
        return x, y

    def fresh(self, seed: Tensor, step: Tensor, n: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        """The n new examples that a network with this seed meets at this step, x (*features, n) and y."""
        x, y = self.data.law(Generator(key(seed, "batches"), step * DRAWS, dtype), n)
        return self._laid_out(x, y, dtype)

    def seen(self, x: Tensor, y: Tensor, h: SimpleNamespace) -> tuple[Tensor, Tensor]:
        """What the networks get to see of a minibatch: with the deficit, if it is time for it, and noise on the targets.

        Args:
            x: (*net?, *features, n).
            y: labels (*net?, n) or values (*net?, outputs, n).
            h: the hyperparameters of `SIGHT` (K, 1), or without dimensions; seeds and step.
        """
        if "deficit_length" in h.uses:
            t = h.step - 1
            during, changed = (t >= h.deficit_start) & (t < h.deficit_start + h.deficit_length), self.deficit(x, y)
            dims = len(self.model.input_shape) + 1, 1 + y.is_floating_point()
            # what the deficit hands through is not copied for every network
            x, y = (b if a is b else torch.where(during.reshape(-1, *[1] * d), a, b) for d, a, b in zip(dims, changed, (x, y)))
        if "label_noise" in h.uses:
            outputs, n = y.shape[-2:]
            drawn = noise(h, "labels", outputs * n).unflatten(1, (outputs, n))
            y = y + h.label_noise.reshape(-1, 1, 1) * drawn.to(y.dtype)
        return x, y

    def example_losses(self, params: Params, x: Tensor, y: Tensor) -> Tensor:
        """Loss of each example, (*net, n)."""
        return LOSSES[self.loss](self.model.apply(params, x), y)

    def losses(self, params: Params, x: Tensor, y: Tensor) -> Tensor:
        """Mean loss of each network, (*net,)."""
        return self.example_losses(params, x, y).mean(-1)

    def losses_and_gradients(self, w: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Loss (K,) and gradient (K, P) of each network, for flat parameters w (K, P).

        One backward pass of the summed losses gives every network its own gradient,
        because no network's loss depends on another's parameters.
        """
        leaves = {name: p.detach().requires_grad_() for name, p in self.unflatten(w).items()}
        with torch.enable_grad():
            losses = self.losses(leaves, x, y)
            gradients = torch.autograd.grad(losses.sum(), list(leaves.values()))
        return losses.detach(), torch.cat([g.reshape(len(w), -1) for g in gradients], dim=1)
