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

from descent.data import Data, as_targets
from descent.models import Model, Params, normalizes
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
    output and targets -1 and 1, which the class labels 0 and 1 become. Labels -1 and 1 are taken for what they are.

    Attributes:
        model: a model of `descent.models`.
        data: a `Data`; inputs are reshaped to the model's `input_shape` if the sizes agree.
        loss: one of `LOSSES`.
        name: label in recipes; by default made from the parts.
        deficit: `(x, y) -> (x, y)`, what becomes of a minibatch in the engine's layout during the steps
            that the hyperparameters `deficit_start` and `deficit_length` of a sweep choose.

    Raises:
        ValueError: unknown loss; in any part of the data, sizes that do not fit, numbers that are not finite, labels where
            values are needed or the reverse; a model whose outputs are not (outputs, n), or too few or many for the loss, or
            whose initial weights are no function of its Generator.
    """

    model: Model
    data: Data
    loss: str = "cross_entropy"
    name: str = ""
    deficit: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise ValueError(f"unknown loss {self.loss!r}; choose from {sorted(LOSSES)}")
        for which in ("train", "val", "test"):
            self._check_part(which)
        self._check_targets()
        self._check_outputs()
        if not self.name:
            label = f"{type(self.model).__name__} on {self.data.name}, {self.loss}"
            object.__setattr__(self, "name", label)
        once, again = (self.flatten(self.model.init(generator(0, "init"), 1.0), 0) for _ in range(2))
        if not torch.equal(once.nan_to_num(), again.nan_to_num()):
            raise ValueError(f"the initial weights of {type(self.model).__name__} differ each time they are drawn; draw them from the Generator that start or init is given, and from nothing else")
        self.layout  # computed now, once for all networks

    def _check_part(self, which: str) -> None:
        """A part of the data by itself: sizes, and numbers that are numbers."""
        (x, y), where = self._pair(which), f"the {which} part of {self.data.name!r}"
        if x is None and y is None and which != "train":
            return
        if x is None or y is None or not x.ndim or not y.ndim or len(x) != len(y) or not len(x):
            counted = ["no" if t is None or not t.ndim else len(t) for t in (x, y)]
            raise ValueError(f"{where} has {counted[0]} inputs and {counted[1]} targets; give one target for each input, and at least one")
        wanted, given = tuple(self.model.input_shape), tuple(x.shape[1:])
        if math.prod(wanted) != math.prod(given):
            has = f"the data {self.data.name!r} has" if which == "train" else f"{where} has"
            raise ValueError(f"the model takes inputs of shape {wanted}, {has} {given}")
        for what, t in (("inputs", x), ("targets", y)):
            if t.is_complex():
                raise ValueError(f"the {what} of {self.data.name!r} are {t.dtype}; give real numbers")
            if not (sound := torch.isfinite(t)).all():
                example, of = int((~sound).nonzero()[0, 0]), "" if which == "train" else f"the {which} part of "
                value = t[example][~sound[example]][0].item()
                raise ValueError(f"the {what} of {of}{self.data.name!r} contain NaN or infinity, first in example {example}: {value}")

    def _check_targets(self) -> None:
        """All parts' targets together: of one kind, and of the kind that the loss wants."""
        data, loss, name = self.data, self.loss, self.data.name
        parts = [y for y in (data.y, data.y_val, data.y_test) if y is not None]
        kinds = [("labels" if y.ndim == 1 else f"values in {y.shape[1]} columns") for y in parts]
        if len(set(kinds)) > 1:
            raise ValueError(f"the targets of {name!r} are {' and '.join(dict.fromkeys(kinds))}; give all parts the same kind")
        if loss == "cross_entropy" and data.classes is None:
            raise ValueError(f"cross_entropy needs class labels, integers from 0; the data {name!r} has real targets ({data.y.dtype}): use 'mse', or y.long() if they are labels")
        values = torch.cat([y.flatten() for y in parts])
        least, most = values.aminmax()
        if loss not in MARGIN:
            if data.classes and least < 0 and loss != "output":
                raise ValueError(f"{loss} needs class labels from 0; the data {name!r} has {least}")
        elif data.classes is None:
            if data.y.shape[1] != 1:
                raise ValueError(f"{loss} needs one target for each example; the data {name!r} has {data.y.shape[1]}")
            if (wrong := values[values.abs() != 1]).numel():
                raise ValueError(f"{loss} needs targets -1 and 1; the data {name!r} has others, such as {wrong[0]:g}")
        elif least < -1 or most > 1 or least < 0 and (values == 0).any():
            found = values.unique().tolist()
            shown = ", ".join(map(str, found[:5])) + ", ..." * (len(found) > 5)
            raise ValueError(f"{loss} tells two classes apart; the data {name!r} has {max(data.classes, len(found))}, labels {shown}; allowed: 0 and 1, or -1 and 1")

    def _check_outputs(self) -> None:
        outputs, loss, classes = self.outputs, self.loss, self.data.classes
        if loss == "mse" and outputs != (wanted := classes or self.data.y.shape[1]):  # one output would be compared with each of several targets
            raise ValueError(f"mse on {self.data.name!r} needs a model with {wanted} output{'s' * (wanted != 1)}, one for each {'class' if classes else 'target'}; this one has {outputs}")
        if loss == "cross_entropy" and outputs < classes:
            raise ValueError(f"cross_entropy on {self.data.name!r} needs a model with at least {classes} outputs, one for each class; this one has {outputs}")
        if loss in MARGIN and outputs != 1:
            raise ValueError(f"{loss} needs a model with a single output, not {outputs}")

    @cached_property
    def outputs(self) -> int:
        """How many numbers the model makes of one example."""
        n = 7  # the same example several times, not to take examples for outputs
        x = self.data.x[[0] * n].reshape(n, *self.model.input_shape).movedim(0, -1)
        shape = tuple(self.model.apply(self.model.init(generator(0, "init"), 1.0), x.float()).shape)
        if len(shape) != 2 or shape[1] not in (1, n):  # one column for all if the examples do not matter
            raise ValueError(f"the outputs of {type(self.model).__name__} for {n} examples have the shape {shape}; they must have (outputs, {n})")
        return shape[0]

    @cached_property
    def signed(self) -> bool:
        """Whether the labels are -1 and 1, for a loss of the margin."""
        return self.loss in MARGIN and self.data.classes is not None and any(
            (y < 0).any() for y in (self.data.y, self.data.y_val, self.data.y_test) if y is not None
        )

    @cached_property
    def normalizes(self) -> bool:
        """Whether an output on one example depends on the others: batch normalization, declared or found by trying."""
        if normalizes(self.model):
            return True
        x, draw = self.data.x[:1000].reshape(min(1000, len(self.data)), -1), generator(0, "probe")
        others = (x != x[0]).any(1).nonzero()[:, 0]
        if not len(others):
            return False
        # the same examples in two companies; the weights are moved, because some models start with outputs of zero
        together = [[*range(min(8, len(x))), *[company] * 8] for company in (0, others[0].item())]
        params = {name: p + 0.1 * draw.normal(*p.shape) for name, p in self.model.init(generator(0, "init"), 1.0).items()}
        inputs = [self.data.x[rows].reshape(len(rows), *self.model.input_shape).movedim(0, -1).float() for rows in together]
        one, other = (self.model.apply(params, i)[..., : len(together[0]) - 8] for i in inputs)
        return bool((one - other).abs().max() > 1e-3 * one.abs().max())

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
        x, y = self._pair(which)
        if x is None:
            raise ValueError(f"the data {self.data.name!r} has no {which} part; make it with {which}=...")
        return x, y

    def _pair(self, which: str) -> tuple[Tensor | None, Tensor | None]:
        suffix = {"train": "", "val": "_val", "test": "_test"}[which]
        return getattr(self.data, "x" + suffix), getattr(self.data, "y" + suffix)

    def part(self, which: str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Part:
        """The part "train", "val" or "test" of the data, copied into the engine's layout.

        Raises:
            ValueError: the data has no such part.
        """
        raw_x, raw_y = self.raw(which)
        x, y = self._laid_out(raw_x, raw_y, dtype)
        labels = None if raw_y.is_floating_point() else ((raw_y > 0).long() if self.signed else raw_y).to(device)
        return Part(x.to(device, dtype).contiguous(), y.to(device).contiguous(), labels)

    def _laid_out(self, x: Tensor, y: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Examples x (n, *features), y as the loss wants them: x (*features, n) and y (n,) or (outputs, n)."""
        x, y = x.reshape(len(x), *self.model.input_shape).movedim(0, -1), as_targets(y)
        if y.is_floating_point():
            y = y.T.to(dtype)
        elif self.loss == "mse":
            y = F.one_hot(y, self.data.classes).to(dtype).T
        elif self.loss in MARGIN:
            y = (y if self.signed else 2 * y - 1)[None].to(dtype)
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
