"""The gradients written out by hand, held to autograd in float64."""

import itertools

import pytest
import torch

from descent import Task, data, models
from descent.backprop import ACTIVATIONS, FAMILIES, Gradients, written_out
from descent.laziness import projection
from descent.probes import curvature
from descent.seeding import generator

K = 5


def regression(features, outputs=1, examples=12):
    g = generator(0, "data")
    return data.Data("noise", g.normal(examples, features), g.normal(examples, outputs))


def mlp_tasks():
    digits = data.digits(40)
    for activation, parametrization, bias in itertools.product(ACTIVATIONS, ("standard", "ntk", "mean_field"), (True, False)):
        model = models.MLP((64, 7, 5, 10), activation, parametrization, bias, output_scale=3.0 if bias else 1.0)
        yield f"{activation}-{parametrization}-{bias}", Task(model, digits, "cross_entropy" if bias else "mse")
    yield "one-output", Task(models.MLP((6, 4, 1), bias=False), regression(6), "mse")
    yield "large", Task(models.MLP((200, 100, 3)), regression(200, 3), "mse")
    yield "one-layer", Task(models.MLP((64, 10)), digits)
    yield "output", Task(models.MLP((6, 4, 1)), regression(6), "output")
    two = data.gaussian(12, 6)
    yield "logistic", Task(models.MLP((6, 4, 1)), two, "logistic")
    yield "hinge", Task(models.MLP((6, 4, 1)), two, "hinge")


TASKS = dict(mlp_tasks())
TASKS |= {f"diagonal-{depth}": Task(models.DiagonalLinear(9, depth), regression(9), "mse") for depth in (1, 2, 3)}
TASKS |= {f"pathways-{depth}": Task(models.Pathways(depth, 3, noise=0.5), regression(3), "mse") for depth in (1, 2, 4)}
TASKS |= {
    "cnn": Task(models.CNN(channels=(3, 4)), data.digits(20)),
    "cnn-odd": Task(models.CNN((2, 7, 5), channels=(3, 2), outputs=3), regression(70, 3), "mse"),
    "lazy": Task(models.LazyMLP((6, 5, 4, 2)), regression(6, 2), "mse"),
    "started": Task(models.StartedMLP((6, 4, 1), "linear", bias=False, first=projection(4, 6, 2)), regression(6), "mse"),
}


def start(task):
    rows = [task.flatten(task.model.init(generator(seed, "init"), 0.9), 0).double() for seed in range(K)]
    return torch.stack(rows) + 0.05 * generator(1, "probe").normal(K, task.parameters).double()


@pytest.mark.parametrize("own", [False, True], ids=["shared", "own"])
@pytest.mark.parametrize("name", TASKS)
def test_written_out_gradient_is_that_of_autograd(name, own):
    task = TASKS[name]
    part, w = task.part("train", dtype=torch.float64), start(task)
    x, y = part.x, part.y
    if own:  # every network its own examples
        order = [generator(seed, "batches").permutation(len(part))[:8] for seed in range(K)]
        x = torch.stack([x[..., o] for o in order])
        y = y if task.loss == "output" else torch.stack([y[..., o] for o in order])
    assert written_out(task.model)
    gradients = Gradients(task)
    for _ in range(2):  # the second time in used memory
        losses, gradient = gradients(w.add_(0.0), x, y)
    expected_losses, expected = task.losses_and_gradients(w, x, y)
    torch.testing.assert_close(losses, expected_losses, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)


def test_every_family_is_held_to_autograd():
    assert {type(task.model) for task in TASKS.values()} == set(FAMILIES)


def test_a_subclass_and_batch_normalization_are_left_to_autograd():
    class Shifted(models.MLP):
        def apply(self, params, x):
            return super().apply(params, x) + 1.0

    assert not written_out(Shifted((4, 3, 1)))
    assert not written_out(models.CNN(batch_norm=True))
    assert not written_out(models.MLP((4, 3, 1), normalization="batch"))
    task = Task(Shifted((6, 4, 1)), regression(6), "mse")
    part, w = task.part("train", dtype=torch.float64), start(task)
    for found, expected in zip(Gradients(task)(w, part.x, part.y), task.losses_and_gradients(w, part.x, part.y)):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e30])
@pytest.mark.parametrize("name", ["tanh-standard-True", "relu-ntk-False", "diagonal-2", "cnn"])
def test_a_lost_network_leaves_the_others_bit_identical(name, bad):
    task = TASKS[name]
    part, w = task.part("train"), start(task).float()
    losses, gradient = (t.clone() for t in Gradients(task)(w, part.x, part.y))
    w[2] = bad
    kept = [0, 1, 3, 4]
    found_losses, found = Gradients(task)(w, part.x, part.y)
    assert torch.equal(found_losses[kept], losses[kept])
    assert torch.equal(found[kept], gradient[kept])


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if Gradients(task).twice])
def test_written_out_products_are_those_of_autograd(name):
    task = TASKS[name]
    part, w = task.part("train", dtype=torch.float64), start(task)
    v = generator(2, "probe").normal(*w.shape).double()
    plain, own = Gradients(task, autograd=True), Gradients(task)
    expected = curvature.hvp(task, w, part.x, part.y, plain)(v)
    product = curvature.hvp(task, w, part.x, part.y, own)
    torch.testing.assert_close(product(v), expected, rtol=1e-9, atol=1e-12)
    rows = torch.tensor([True, False, True, True, False])
    torch.testing.assert_close(product.keep(rows)(v[rows]), expected[rows], rtol=1e-9, atol=1e-12)
    if task.loss not in ("output", "hinge"):
        for curved in (True, False):
            expected = curvature.gnvp(task, w, part.x, part.y, plain, output_curvature=curved)(v)
            product = curvature.gnvp(task, w, part.x, part.y, own, output_curvature=curved)
            torch.testing.assert_close(product(v), expected, rtol=1e-9, atol=1e-12)


def test_passes_are_used_again_only_where_they_were_taken():
    task = TASKS["tanh-standard-True"]
    part, w = task.part("train", dtype=torch.float64), start(task)
    gradients, passes = Gradients(task), []
    gradients.family.forward = lambda params, x: passes.append(x) or type(gradients.family).forward(gradients.family, params, x)
    first = gradients(w, part.x, part.y)[1].clone()
    gradients.products(w, part.x, part.y)
    assert torch.equal(gradients(w, part.x, part.y)[1], first) and len(passes) == 1
    w.mul_(1.1)  # in place, as a step does
    moved = gradients(w, part.x, part.y)[1].clone()
    torch.testing.assert_close(moved, task.losses_and_gradients(w, part.x, part.y)[1], rtol=1e-9, atol=1e-12)
    part.x.mul_(0.5)
    torch.testing.assert_close(
        gradients(w, part.x, part.y)[1], task.losses_and_gradients(w, part.x, part.y)[1], rtol=1e-9, atol=1e-12
    )
    expected = task.model.apply(task.unflatten(w), part.x)
    torch.testing.assert_close(gradients.outputs(w, part.x), expected, rtol=1e-9, atol=1e-12)
    assert len(passes) == 3
    some = part.x[:, :10].clone()
    torch.testing.assert_close(gradients.outputs(w, some), expected[..., :10], rtol=1e-9, atol=1e-12)
    assert torch.equal(gradients(w, part.x, part.y)[1], gradients(w, part.x, part.y)[1])
    assert len(passes) == 5  # the outputs of others were written where the passes are kept
