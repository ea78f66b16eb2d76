"""Models that look at several examples at once are found wherever the normalization hides, and kept from single examples."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from descent import Task, backprop, data, models, sweep
from descent.probes import features, noise, propagation
from descent.seeding import generator

BN = models.MLP((3, 6, 1), normalization="batch")
IMAGES = data.Data("images", generator(0, "data").normal(12, 1, 8, 8), generator(1, "data").normal(12, 1))
POINTS = data.teacher_student(16, 3)


class Module:
    """A network of torch.nn as a model of the book, one network after the other."""

    def __init__(self, module, input_shape=(3,)):
        self.module, self.input_shape = module, input_shape

    def init(self, g, scale=1.0):
        return {name: models._scaled(0.5 * g.normal(*p.shape), scale) for name, p in self.module.named_parameters()}

    def apply(self, params, x):
        net = next(iter(params.values())).shape[: -next(self.module.parameters()).ndim]
        if not net:
            return torch.func.functional_call(self.module, params, (x.movedim(-1, 0),)).mT
        return torch.stack([self.apply({name: p[k] for name, p in params.items()}, x if x.ndim == 1 + len(self.input_shape) else x[k]) for k in range(net[0])])


@dataclass(frozen=True)
class Wrapped:
    inside: object
    input_shape: tuple = (3,)

    @property
    def model(self):
        inside = self.inside
        while not hasattr(inside, "init"):
            inside = inside.func() if isinstance(inside, partial) else inside() if callable(inside) else inside[0] if isinstance(inside, list) else inside["model"]
        return inside

    def init(self, g, scale=1.0):
        return self.model.init(g, scale)

    def apply(self, params, x):
        return self.model.apply(params, x)


def by_hand(w, x):
    """A function of three weights that subtracts the mean over the examples; nothing in it says so."""
    z = torch.tanh(w * x).sum(-2)
    return z - z.mean(-1, keepdim=True)


def sequential(*layers):
    return Module(nn.Sequential(nn.Linear(3, 6), *layers, nn.Linear(6, 1)))


HIDDEN = {
    "MLP": (BN, POINTS),
    "subclass of MLP": (models.LazyMLP((3, 6, 1), normalization="batch"), POINTS),
    "CNN": (models.CNN((1, 8, 8), (2,), 1, batch_norm=True), IMAGES),
    "ResNet9": (models.ResNet9((1, 8, 8), 2, 1), IMAGES),
    "Mirrored MLP": (models.Mirrored(BN), POINTS),
    "Mirrored CNN": (models.Mirrored(models.CNN((1, 8, 8), (2,), 1, batch_norm=True)), IMAGES),
    "Mirrored ResNet9": (models.Mirrored(models.ResNet9((1, 8, 8), 2, 1)), IMAGES),
    "list": (Wrapped([BN]), POINTS),
    "dictionary": (Wrapped({"model": [BN]}), POINTS),
    "closure": (Wrapped(lambda inner=None, m=BN: m), POINTS),
    "partial": (Wrapped(partial(lambda: BN)), POINTS),
    "nn.Sequential": (sequential(nn.BatchNorm1d(6, track_running_stats=False), nn.Tanh()), POINTS),
    "nn.Sequential in one": (sequential(nn.Sequential(nn.Identity(), nn.BatchNorm1d(6, track_running_stats=False)), nn.Tanh()), POINTS),
    "functional, in a function": (models.Function(lambda w, x: F.batch_norm((w * x).tanh().flatten(0, -2).T, None, None, training=True).T.reshape(*torch.broadcast_shapes(w.shape[:-1], x.shape[:-1]), -1).sum(-2), 3), POINTS),
    "by hand": (models.Function(by_hand, 3), POINTS),
}  # fmt: skip
PLAIN = {
    "MLP": (models.MLP((3, 6, 1)), POINTS),
    "Mirrored": (models.Mirrored(models.MLP((3, 6, 1))), POINTS),
    "LazyMLP": (models.LazyMLP((3, 6, 1)), POINTS),
    "CNN": (models.CNN((1, 8, 8), (2,), 1), IMAGES),
    "Function": (models.Function(lambda w, x: (w * x).sum(-2), 3), POINTS),
    "a function without examples": (models.ScalarNetwork(3), data.nothing(1)),
    "RNN": (models.RNN(1, 4, 1, 5), data.Data("sequences", generator(0, "data").normal(8, 5, 1), torch.zeros(8))),
    "layer normalization": (sequential(nn.LayerNorm(6), nn.Tanh()), POINTS),
    "batch normalization that is finished": (sequential(nn.BatchNorm1d(6).eval(), nn.Tanh()), POINTS),
}


def task_of(model, d):
    return Task(model, d, "output" if isinstance(model, models.Function) else "mse")


@pytest.mark.parametrize("name", HIDDEN)
def test_single_examples_are_refused(name):
    model, d = HIDDEN[name]
    task = task_of(model, d)
    w = task.flatten(task.model.init(generator(0, "init"), torch.ones(1)), 1)
    part, message = task.part("train"), f"{type(model).__name__} with batch normalization has no gradient of a single example"
    for call in (lambda: noise.noise_trace(task, w), lambda: noise.noise_scale(task, w), lambda: noise.covariance(task, w),
                 lambda: noise.example_gradients(task, w, part.x, part.y), lambda: features.ntk(task, w, part.x[..., :4]),
                 lambda: features.jacobian(task, w, part.x), lambda: propagation.input_jacobian(task, w, part.x)):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            call()
    for more in (dict(batch_size=1), dict(batch_size=[4, 1]), dict(batch_size=1, sampling="replacement")):
        with pytest.raises(ValueError, match=f"batch_size=1: {type(model).__name__} with batch normalization has no statistics of one example"):
            sweep(task, steps=1, cache=False, **more)


@pytest.mark.parametrize("name", PLAIN)
def test_others_are_let_through(name):
    task = task_of(*PLAIN[name])
    assert not task.normalizes and np.isfinite(sweep(task, lr=1e-3, batch_size=1, steps=2, cache=False).loss).all()


def test_functions_that_normalize_are_found_by_trying():
    assert models.normalizes(HIDDEN["nn.Sequential in one"][0]) and not models.normalizes(HIDDEN["by hand"][0])


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_a_part_of_one_example_is_refused_if_it_is_looked_at(part):
    x, y = POINTS.x, POINTS.y
    parts = {"x": x, "y": y, "x_val": x, "y_val": y, "x_test": x, "y_test": y}
    suffix = "" if part == "train" else f"_{part}"
    parts |= {f"x{suffix}": x[:1], f"y{suffix}": y[:1]}
    task = Task(models.Mirrored(BN), data.Data("few", **parts), "mse")
    record = "loss" if part == "train" else f"{part}_loss"
    with pytest.raises(ValueError, match=f"the {part} part of 'few' has a single example"):
        sweep(task, steps=1, record=record, cache=False)
    if part != "train":
        assert np.isfinite(sweep(task, steps=1, record="loss", cache=False).loss).all()


@pytest.mark.parametrize("n", [backprop.SLICE + 1, 2 * backprop.SLICE + 1])
@pytest.mark.parametrize("model", [models.MLP((2, 8, 1), normalization="batch"), models.Mirrored(models.MLP((2, 8, 1), normalization="batch"))])
def test_no_slice_of_an_evaluation_is_left_with_one_example(model, n):
    """Every example's loss is close to that with the statistics of all of them."""
    task = Task(model, data.teacher_student(n, 2, test=1 + backprop.SLICE), "mse")
    ds = sweep(task, lr=1e-9, steps=1, record=["example_losses", "weights", "test_loss"], record_every=[0], cache=False)
    w = task.unflatten(torch.tensor(ds.weights.values[0, 0])[None])
    whole, test = (task.example_losses(w, p.x, p.y)[0] for p in (task.part("train"), task.part("test")))
    np.testing.assert_allclose(ds.example_losses.values[0, 0], whole, rtol=0.2, atol=0.02 * whole.mean().item())
    np.testing.assert_allclose(ds.test_loss.values[0, 0], test.mean(), rtol=1e-2)


def test_two_examples_are_enough():
    ds = sweep(Task(BN, POINTS, "mse"), lr=0.1, batch_size=2, steps=20, record="weights", record_every=20, cache=False)
    assert np.abs(np.diff(ds.weights.values[0], axis=0)).max() > 1e-2
