"""Starts, models and laws that look at the numbers they draw: the same networks, whatever the number of seeds."""

import itertools
import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from descent import Task, data, models, sweep
from descent.seeding import generator

COUNTS = [1, 8, 9, 40]


def branch(g):
    return torch.tensor([1.0, 2.0]) if g.uniform(1).item() > 0.5 else torch.tensor([-1.0, 0.5])


def in_place(g):
    w = torch.zeros(2)
    w[0] = g.normal(1)[0]
    return w


def rejection(g):
    """The first point in the unit disc: another number of draws for each seed."""
    while (w := 2 * g.uniform(2) - 1).norm() > 1:
        pass
    return w


STARTS = {
    "branch": branch,
    "in place": in_place,
    "rejection": rejection,
    "numpy": lambda g: torch.tensor(np.sort(g.normal(2).numpy())),
    "list": lambda g: torch.tensor([g.normal(1).item(), 1.0]),
    "boolean index": lambda g: (lambda z: z[z > 0][:2])(g.normal(30)),
    "loop": lambda g: torch.full((2,), float(sum(1 for _ in range(int(g.integers(5, 1)))))),
    "seed": lambda g: torch.full((2,), float(g.key[0] % 7)),
    "plain": lambda g: g.normal(2).abs(),
}


def bowl(start):
    return Task(models.Quadratic((1.0, 2.0), start=start), data.nothing(2), "output")


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", STARTS)
def test_a_start_may_look_at_what_it_draws(name, count):
    ds = sweep(bowl(STARTS[name]), lr=0.1, init_scale=[1.0, 3.0], seed=range(count), steps=1, record="weights", cache=False)
    right = np.array([[s * STARTS[name](generator(seed, "init")).numpy() for seed in range(count)] for s in (1, 3)])
    np.testing.assert_allclose(ds.weights.isel(step=0).transpose("init_scale", "seed", ...).values, right, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(
    "make",
    [
        lambda start: models.StartedMLP((2, 1, 1), first=lambda g: start(g)[None]),
        lambda start: models.RNN(2, 1, 1, 2, start=lambda g: start(g)[:1, None]),
        lambda start: models.Mirrored(models.StartedMLP((2, 1, 1), first=lambda g: start(g)[None])),
        lambda start: models.Function(lambda w, x: (w * w).sum(-2), 2, start=start),
    ],
    ids=["StartedMLP", "RNN", "Mirrored", "Function"],
)
def test_every_model_that_takes_a_start(make, count):
    model = make(branch)
    x = torch.zeros(4, *model.input_shape)
    task = Task(model, data.Data("zeros", x, torch.zeros(4)), "output")
    ds = sweep(task, seed=range(count), steps=1, record="weights", record_every=[0], cache=False)
    right = torch.cat([task.flatten(model.init(generator(s, "init"), torch.ones(1)), 1) for s in range(count)])
    np.testing.assert_allclose(ds.weights.values[:, 0], right, rtol=1e-5, atol=1e-6)


class OneScale:
    """A user's model that takes the init scale for a number."""

    input_shape = (2,)

    def init(self, g, scale=1.0):
        size = float(scale)
        return {"w": torch.full((*torch.as_tensor(scale).shape, 1, 2), 0.0) + (size if size > 1 else 1.0) * g.normal(1, 2)}

    def apply(self, params, x):
        return params["w"] @ x


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("scales", [[1.0], [1.0, 2.0, 3.0]])
def test_an_init_may_take_the_scale_for_a_number(count, scales):
    task = Task(OneScale(), data.Data("zeros", torch.zeros(3, 2), torch.zeros(3)), "mse")
    ds = sweep(task, init_scale=scales, seed=range(count), steps=1, record="weights", record_every=[0], cache=False)
    right = np.array([[s * generator(seed, "init").normal(1, 2)[0].numpy() for seed in range(count)] for s in scales])
    np.testing.assert_allclose(ds.weights.isel(step=0).transpose("init_scale", "seed", ...).values, right, rtol=1e-5)


@pytest.mark.parametrize("count", COUNTS)
def test_a_law_may_look_at_what_it_draws(count):
    def law(g, n):
        x = g.normal(n, 2)
        return (x if x[0, 0].item() > 0 else -x), x.sum(1)

    def same(g, n):
        x = g.normal(n, 2)
        return torch.where(x[0, 0] > 0, x, -x), x.sum(1)

    made = data.Data("law", torch.zeros(4, 2), torch.zeros(4))
    found, right = (sweep(Task(models.MLP((2, 3, 1)), replace(made, law=f), "mse"), sampling="fresh", batch_size=4, lr=0.1, steps=7,
                          seed=range(count), record="weights", record_every=7, cache=False).weights for f in (law, same))  # fmt: skip
    np.testing.assert_allclose(found, right, rtol=1e-5, atol=1e-6)


counter = itertools.count()


@pytest.mark.parametrize(
    "start",
    [lambda g: torch.tensor(np.random.randn(2)), lambda g: torch.randn(2), lambda g: torch.full((2,), random.random()), lambda g: torch.full((2,), float(next(counter)))],
    ids=["numpy", "torch", "random", "counter"],
)
def test_a_start_that_draws_from_elsewhere_is_refused(start):
    """From 9 seeds on all networks would start alike, or none could."""
    with pytest.raises(ValueError, match="the initial weights of Quadratic differ each time.*Generator that start or init is given"):
        bowl(start)


@pytest.mark.parametrize("count", COUNTS)
def test_an_error_in_a_start_is_its_own(count):
    def start(g):
        if g.key[0] > 0:
            raise KeyError("nothing for this seed")
        return torch.zeros(2)

    with pytest.raises(KeyError, match="nothing for this seed"):
        sweep(bowl(start), seed=range(1, 1 + count), steps=1, cache=False)
