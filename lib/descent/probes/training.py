"""The curves of every training run: losses, accuracies, norms."""

from __future__ import annotations

import torch
from torch import Tensor

from descent.norms import apart, in_range, norm
from descent.probes import Networks, Probe, register
from descent.task import LOSSES


def _loss(which: str):
    def measure(networks: Networks) -> Tensor:
        losses = LOSSES[networks.task.loss](networks.outputs(which), networks.parts[which].y)
        return losses.mean(-1)

    return measure


def _accuracy(which: str):
    def measure(networks: Networks) -> Tensor:
        labels = networks.parts[which].labels
        if labels is None:
            raise ValueError(f"{which}_accuracy needs class labels; {networks.task.data.name!r} has real targets")
        outputs = networks.outputs(which)
        # a single output tells two classes apart by its sign
        chosen = outputs.squeeze(-2) > 0 if outputs.shape[-2] == 1 else outputs.argmax(-2)
        return (chosen == labels).to(networks.w.dtype).mean(-1)

    return measure


for _name, _which in (("loss", "train"), ("val_loss", "val"), ("test_loss", "test")):
    register(Probe(_name, _loss(_which), needs=(_which,)))
for _which in ("train", "val", "test"):
    register(Probe(f"{_which}_accuracy", _accuracy(_which), needs=(_which,)))


def _gradient(networks: Networks) -> Tensor:
    part = networks.parts["train"]
    return networks.gradients(networks.w, part.x, part.y)[1]


def _example_losses(networks: Networks) -> Tensor:
    return LOSSES[networks.task.loss](networks.outputs("train"), networks.parts["train"].y)



def _overlap(networks: Networks) -> Tensor:
    w, w0 = networks.w, networks.w0
    plain, (largest, unit) = (w * w0).sum(1) / w0.square().sum(1), apart(w0)
    return torch.where(in_range(w0.norm(dim=1), w.shape[1]), plain, (w / largest * unit).sum(1) / unit.square().sum(1))


register(Probe("gradient_norm", lambda n: norm(_gradient(n))))
register(Probe("weight_norm", lambda n: norm(n.w), needs=()))
register(Probe("distance", lambda n: norm(n.w - n.w0), needs=()))
register(Probe("overlap", _overlap, needs=()))
register(Probe("weights", lambda n: n.w.clone(), dims=("parameter",), needs=()))
register(Probe("example_losses", _example_losses, dims=("example",)))
