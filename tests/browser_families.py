"""Trainings that the page has to run, each with a setting off its grid: training is stable there, and no loss falls
so far that it is mostly rounding."""

import importlib
import math
from dataclasses import dataclass, field

import numpy as np
import torch

from descent import Task, browser, competition, data, landscapes, models, optimizers, schedules, sweep

engine = importlib.import_module("descent.sweep")


@dataclass
class Family:
    """A task, the arguments of its sweep and a setting off the grid."""

    task: Task
    arguments: dict
    setting: dict
    grid: dict = field(default_factory=dict)

    def dataset(self):
        grid = {name: [value / 2, value * 2] for name, value in self.setting.items() if isinstance(value, float)}
        if "batch_size" in self.setting:
            grid["batch_size"] = [2 if self.task.normalizes else 1, None]  # one example has no statistics
        common = {"seed": [0, 7], "steps": 500, "record": ["loss"], "record_every": 20}
        return sweep(self.task, **(common | grid | self.arguments | self.grid))

    def package(self):
        self.trained = self.dataset()
        return browser.compile(*engine._recipes[self.trained.attrs["recipe_id"]])

    def notebook(self):
        """What the notebook would show, (seeds, records) by name."""
        return engine.retrain(self.trained, **self.setting)

    def compare(self, curves):
        """Hold the page's curves to the notebook's."""
        there = self.notebook()
        for name in curves:
            wanted = there[name].values
            assert np.isfinite(wanted).all(), name
            # eigenvalues are searched for up to a relative error of 1e-3, on both sides
            rtol = 1e-3 if name == "sharpness" else 1e-4
            np.testing.assert_allclose(np.reshape(curves[name], wanted.shape), wanted, rtol=rtol, err_msg=name)


@dataclass(frozen=True)
class Transformer:
    """One layer of attention over the rows of an image. The library has no transformer; the page can train one."""

    width: int = 16
    input_shape: tuple = (8, 8)

    def init(self, generator, scale=1.0):
        scale, d = torch.as_tensor(scale, dtype=torch.float32), self.width
        shapes = {"E": (d, 8), "P": (d, 8), "Q": (d, d), "K": (d, d), "V": (d, d), "A": (2 * d, d), "B": (d, 2 * d), "O": (10, d)}
        return {name: scale[..., None, None] * generator.normal(*shape) / math.sqrt(shape[-1]) for name, shape in shapes.items()}

    def apply(self, params, x):
        def linear(name, h):  # h (*net?, n, tokens, features)
            return torch.einsum("...of,...ntf->...nto", params[name], h)

        def normal(h):
            centred = h - h.mean(-1, keepdim=True)
            return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()

        h = linear("E", x.movedim(-1, -3)) + params["P"].mT[..., None, :, :]
        q, k, v = (linear(name, normal(h)) for name in "QKV")
        h = h + (q @ k.mT / math.sqrt(self.width)).softmax(-1) @ v
        h = h + linear("B", torch.relu(linear("A", normal(h))))
        return torch.einsum("...of,...nf->...on", params["O"], h.mean(-2))


def digits(n=200):
    return data.digits(train=n, test=100)


def mlp(parametrization, activation, loss, lr):
    model = models.MLP((64, 12, 10), activation=activation, parametrization=parametrization)
    return Family(Task(model, digits(), loss), {}, {"lr": lr, "batch_size": 23, "init_scale": 0.8})


def network(fixed=None, **arguments):
    setting = {name: arguments.pop(name) for name in list(arguments) if isinstance(arguments[name], float)}
    fixed = arguments | (fixed or {})
    batch = {} if "batch_size" in fixed else {"batch_size": 23}
    return Family(Task(models.MLP((64, 12, 10)), digits(), "mse"), fixed, setting | batch)


regression = data.linear_regression(n=50, spectrum=[1.0] * 20, noise=0.1, test=30)
CURVES = ["loss", "test_loss", "train_accuracy", "test_accuracy"]
NORMS = ["loss", "weight_norm", "distance", "gradient_norm", "overlap"]
RULES = [optimizers.sgd(l2=0.02, label="SGD + L2"), optimizers.adam(label="Adam"), optimizers.adamw(weight_decay=0.3, label="AdamW")]

TWO, SEQUENCES = data.gaussian(40, 2), data.Data("sequences", regression.x[:40, :10], regression.y[:40])

SENSED = data.matrix_sensing(data.low_rank_matrix([2, 1], 5, symmetric=True), 60, symmetric=True)

FAMILIES = {
    "the digits": Family(Task(models.MLP((64, 64, 10)), data.digits(train=1000)), {"record": CURVES}, {"lr": 0.123, "batch_size": 48}),
    "standard tanh": mlp("standard", "tanh", "mse", 0.07),
    "standard relu": mlp("standard", "relu", "cross_entropy", 0.07),
    "standard leaky_relu": mlp("standard", "leaky_relu", "mse", 0.07),
    "standard elu": mlp("standard", "elu", "cross_entropy", 0.07),
    "ntk tanh": mlp("ntk", "tanh", "cross_entropy", 0.3),
    "ntk relu": mlp("ntk", "relu", "mse", 0.3),
    "mean_field tanh": mlp("mean_field", "tanh", "mse", 0.7),
    "mean_field elu": mlp("mean_field", "elu", "cross_entropy", 0.7),
    "gradient descent": Family(
        Task(models.MLP((64, 12, 10)), digits(), "mse"), {"record": ["loss", "sharpness"]}, {"lr": 0.07, "batch_size": 200}
    ),
    "logistic regression": Family(Task(models.MLP((64, 10)), digits()), {"record": CURVES}, {"lr": 0.13, "batch_size": 70}),
    "diagonal linear": Family(
        Task(models.DiagonalLinear(20), regression, "mse"), {"record": NORMS}, {"lr": 0.013, "batch_size": 7, "init_scale": 0.3}
    ),
    "cubic diagonal linear": Family(
        Task(models.DiagonalLinear(20, depth=3), regression, "mse"), {}, {"lr": 0.013, "batch_size": 1, "init_scale": 0.3}
    ),
    "deep linear": Family(
        Task(models.DeepLinear((20, 8, 8, 1)), regression, "mse"), {}, {"lr": 0.013, "batch_size": 7, "init_scale": 0.9}
    ),
    "matrix sensing": Family(
        Task(models.MatrixProduct((5, 5, 5), symmetric=True), SENSED, "mse"),
        {"record": ["loss", "gradient_norm"], "steps": 100}, {"lr": 0.013, "batch_size": 7, "init_scale": 0.03},
    ),
    "matrix factorization": Family(
        Task(models.DeepLinear((64, 5, 10)), digits(), "mse"), {"record": ["loss", "sharpness"]}, {"lr": 0.013, "batch_size": 200}
    ),
    "bowl": Family(
        landscapes.bowl(np.geomspace(1, 0.05, 10), noise=0.3),
        {"sampling": "replacement", "optimizer": "heavy_ball", "record": ["loss", "sharpness"]},
        {"lr": 0.13, "batch_size": 5, "init_scale": 2.0, "momentum": 0.45},
    ),
    "kink": Family(landscapes.kink(3, noise=0.1), {"steps": 200}, {"lr": 0.005, "batch_size": 3}),
    "hyperbola": Family(landscapes.hyperbola((2.0, 0.51), noise=0.2), {}, {"lr": 0.003, "batch_size": 3}),
    "ripples": Family(landscapes.ripples(), {"record": ["loss", "sharpness"], "steps": 100}, {"lr": 0.013}),
    "scalar network": Family(Task(models.ScalarNetwork(5), data.nothing(1), "output"), {"steps": 100}, {"lr": 0.003}),
    "pathways": Family(
        Task(models.Pathways(3), data.sources(2), "mse", deficit=competition.without(0)), {"record": ["loss", competition.share], "steps": 130},
        {"lr": 0.03, "init_scale": 1.1, "deficit_start": 20.0, "deficit_length": 90.0},
    ),
    "second-order regression": Family(
        Task(models.SecondOrderRegression.random(3, 6, 0), data.targets([0.1, 0.2, 0.3]), "mse"), {"steps": 100}, {"lr": 0.01}
    ),
    "sgd": network(lr=0.06, l2=0.01),
    "heavy_ball": network(lr=0.02, momentum=0.45, optimizer="heavy_ball"),
    "nesterov": network(lr=0.02, momentum=0.45, clip=0.5, optimizer="nesterov"),
    "adagrad": network(lr=0.01, weight_decay=0.1, optimizer="adagrad"),
    "rmsprop": network(lr=0.001, beta2=0.47, eps=1e-4, optimizer="rmsprop"),
    "adam": network(lr=0.003, beta1=0.45, optimizer="adam", fixed={"l1": 1e-3}),
    "adamw": network(lr=0.003, weight_decay=0.2, optimizer="adamw"),
    "several rules": Family(
        Task(models.MLP((64, 12, 10)), digits()), {"optimizer": RULES}, {"lr": 0.004, "batch_size": 16, "optimizer": "AdamW"}
    ),
    "schedule": network(lr=0.06, schedule=schedules.warmup(20) * schedules.cosine(), fixed={"readout_lr": 0.01}),
    "cnn": Family(Task(models.CNN((1, 8, 8), (4, 8)), digits()), {"steps": 100}, {"lr": 0.06, "batch_size": 23}),
    "logistic loss": Family(Task(models.MLP((2, 8, 1), "relu"), TWO, "logistic"), {"record": ["loss", "train_accuracy"]}, {"lr": 0.03, "batch_size": 7}),
    "hinge loss": Family(Task(models.MLP((2, 8, 1)), TWO, "hinge"), {"record": ["loss", "train_accuracy"]}, {"lr": 0.03, "batch_size": 40}),
    "recurrent": Family(
        Task(models.RNN(2, 8, 1, 5, start=models.low_rank(8, 3)), SEQUENCES, "mse"), {"steps": 100}, {"lr": 0.03, "batch_size": 7, "init_scale": 0.9}
    ),
    "fresh examples": Family(
        Task(models.DiagonalLinear(20), data.sparse_regression(50, 20, 3, noise=0.1), "mse"),
        {"sampling": "fresh", "batch_size": 2, "record": NORMS}, {"lr": 0.007, "init_scale": 0.3},
    ),
    "Langevin": network(lr=0.06, temperature=1e-4, fixed={"batch_size": 16}),
    "label noise": network(lr=0.06, label_noise=0.13, fixed={"batch_size": 16}),
    "gradient penalty": network(lr=0.06, penalty=0.13, ascent=0.07, optimizer="gradient_penalty"),
    "deficit": Family(
        Task(models.MLP((64, 12, 10)), digits(), "mse", deficit=lambda x, y: (torch.where(torch.arange(64)[:, None] < 32, 0.0, x), y)),
        {}, {"lr": 0.05, "batch_size": 23, "deficit_start": 37.0, "deficit_length": 111.0},
    ),
    "transformer": Family(
        Task(Transformer(), digits()), {"steps": 200, "optimizer": "adam"}, {"lr": 0.0023, "batch_size": 24, "init_scale": 0.9}
    ),
    "batch normalization": Family(
        Task(models.CNN((1, 8, 8), (4,), batch_norm=True), digits()), {"steps": 100}, {"lr": 0.02, "batch_size": 23}
    ),
    "batch normalization, MLP": Family(
        Task(models.MLP((64, 12, 12, 10), "relu", bias_deviation=0.1, normalization="batch"), digits()), {"steps": 100}, {"lr": 0.02, "batch_size": 23}
    ),
}
