"""Gradient noise, kernels and slices against plain loops in float64."""

import numpy as np
import pytest
import torch
from torch.func import grad, jacrev

from descent import Task, data, models, sweep
from descent.probes import features, landscape, noise
from descent.seeding import generator

DIGITS = data.digits(train=30)
TASKS = {
    "tanh mse": Task(models.MLP((64, 4, 10)), DIGITS, loss="mse"),
    "no bias, ntk": Task(models.MLP((64, 5, 3, 10), bias=False, parametrization="ntk", output_scale=3.0), DIGITS),
    "relu, mean field": Task(models.MLP((64, 5, 10), activation="relu", parametrization="mean_field"), DIGITS),
    "cnn": Task(models.CNN((1, 8, 8), (2, 3)), DIGITS),
    "diagonal linear": Task(models.DiagonalLinear(8), data.linear_regression(20, [1.0] * 8, noise=0.5), loss="mse"),
    "tilts": Task(models.Quadratic((1.0, 4.0)), data.tilts(50, (0.5, 2.0)), loss="output"),
}
each_task = pytest.mark.parametrize("name", TASKS)
BATCH_NORM = Task(models.CNN((1, 8, 8), (2,), batch_norm=True), DIGITS)


def networks(task, scales=(0.5, 1.0, 2.0)):
    return task.flatten(task.model.init(generator(1, "init"), torch.tensor(scales)), 1).double()


def dense_gradients(task, w):
    """(K, n, P), one network and one example at a time."""
    part, _ = task.part("train", dtype=torch.float64), task.layout
    loss = lambda r, i: task.losses(task.unflatten(r[None]), part.x[..., i : i + 1], part.y[..., i : i + 1])[0]
    return torch.stack([torch.stack([grad(loss)(row, i) for i in range(len(part))]) for row in w])


@each_task
def test_per_example_gradients_their_covariance_and_the_noise_scale(name, monkeypatch):
    task = TASKS[name]
    w, part = networks(task), task.part("train", dtype=torch.float64)
    dense = dense_gradients(task, w)
    monkeypatch.setattr(noise, "CHUNK", 7 * w.numel() * 8)  # chunks of 7 examples
    np.testing.assert_allclose(noise.example_gradients(task, w, part.x, part.y), dense, atol=1e-12)
    centred = dense - dense.mean(1, keepdim=True)
    sigma = torch.einsum("knp,knq->kpq", centred, centred) / len(part)
    np.testing.assert_allclose(noise.covariance(task, w), sigma, atol=1e-12)
    trace = sigma.diagonal(dim1=1, dim2=2).sum(1)
    np.testing.assert_allclose(noise.noise_trace(task, w), trace, rtol=1e-9)
    scale = trace / dense.mean(1).square().sum(1)
    np.testing.assert_allclose(noise.noise_scale(task, w), scale, rtol=1e-9)


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"parametrization": "ntk", "output_scale": 3.0}, {"activation": "relu"}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_noise_of_examples_that_are_nearly_alike(dtype, options):
    """The mean of the squares less the square of the mean would have no digits left."""
    for spread in (1e-1, 1e-2, 1e-3, 1e-4) if dtype == torch.float32 else (1e-4, 1e-8):
        g = torch.Generator().manual_seed(0)
        x = torch.randn(1, 8, generator=g).double() + spread * torch.randn(64, 8, generator=g).double()
        for loss, y in {"mse": torch.ones(64, 2), "cross_entropy": torch.ones(64, dtype=torch.int64)}.items():
            task = Task(models.MLP((8, 16, 2), **options), data.Data("alike", x, y), loss)
            w = networks(task).to(dtype)
            part = task.part("train", dtype=dtype)
            each = noise.example_gradients(task, w, part.x, part.y).double()
            right = (each - each.mean(1, keepdim=True)).square().sum((1, 2)) / 64
            np.testing.assert_allclose(noise.noise_trace(task, w), right, rtol=0.01)
            np.testing.assert_allclose(noise.noise_scale(task, w), right / each.mean(1).square().sum(1), rtol=0.01)


def test_noise_of_tilts_is_what_was_asked_for():
    np.testing.assert_allclose(noise.covariance(TASKS["tilts"], torch.zeros(1, 2))[0], np.diag([0.25, 4]), atol=0.6)
    np.testing.assert_allclose(noise.noise_trace(TASKS["tilts"], torch.ones(1, 2)), 4.25, rtol=1e-5)


@pytest.mark.parametrize("name", ["tanh mse", "cnn", "diagonal linear"])
def test_ntk_is_that_of_the_dense_jacobian(name, monkeypatch):
    task = TASKS[name]
    w, part = networks(task), task.part("train", dtype=torch.float64)
    x = part.x[..., :6]
    monkeypatch.setattr(features, "CHUNK", 1)  # one network at a time
    full, averaged = features.ntk(task, w, x), features.ntk(task, w, x, trace=True)
    for i, row in enumerate(w):
        J = jacrev(lambda r: task.model.apply(task.unflatten(r[None]), x)[0])(row)  # (outputs, n, P)
        blocks = torch.einsum("anp,bmp->namb", J, J)
        np.testing.assert_allclose(full[i], blocks.reshape(full.shape[1:]), atol=1e-10)
        np.testing.assert_allclose(averaged[i], blocks.diagonal(dim1=1, dim2=3).mean(-1), atol=1e-10)


def test_kernel_distance():
    g = torch.Generator().manual_seed(0)
    a, b = (m @ m.mT for m in torch.randn(2, 3, 5, 5, generator=g, dtype=torch.float64))
    cosine = [np.trace(p @ q) / np.linalg.norm(p) / np.linalg.norm(q) for p, q in zip(a.numpy(), b.numpy())]
    np.testing.assert_allclose(features.kernel_distance(a, b), 1 - np.array(cosine), rtol=1e-12)
    np.testing.assert_allclose(features.kernel_distance(a, 3 * a), 0, atol=1e-15)
    C = np.eye(5) - 1 / 5
    np.testing.assert_allclose(
        features.kernel_distance(a, b, centred=True),
        features.kernel_distance(*(torch.tensor(C @ k.numpy() @ C) for k in (a, b))), rtol=1e-12,
    )  # fmt: skip


def test_recorded_kernel_distance_starts_at_zero_and_vanishes_for_a_linear_model():
    settings = dict(lr=0.1, steps=30, record=["kernel_distance", "weights"], record_every=15, cache=False)
    task = TASKS["tanh mse"]
    run = sweep(task, **settings)
    w = torch.tensor(run["weights"].values[0]).double()
    kernels = features.ntk(task, w, task.part("train", dtype=torch.float64).x[..., : features.EXAMPLES])
    expected = features.kernel_distance(kernels, kernels[:1].expand_as(kernels))
    np.testing.assert_allclose(run["kernel_distance"][0], expected, rtol=1e-3, atol=1e-9)
    assert run["kernel_distance"][0, 0] == 0 and expected[-1] > 1e-3
    linear = Task(models.DeepLinear((8, 1)), data.linear_regression(20, [1.0] * 8), loss="mse")
    np.testing.assert_allclose(sweep(linear, **settings)["kernel_distance"], 0, atol=1e-10)


@pytest.mark.parametrize("probe", ["noise_trace", "noise_scale", "kernel_distance"])
@pytest.mark.parametrize("name", ["tanh mse", "cnn"])
def test_alone_as_in_a_grid_and_beside_a_diverging_network(name, probe):
    settings = dict(steps=10, record=probe, record_every=5, cache=False)
    grid = sweep(TASKS[name], lr=[0.02, 0.1, 1e9], **settings)
    alone = sweep(TASKS[name], lr=0.1, **settings)
    np.testing.assert_allclose(grid[probe][1], alone[probe], rtol=1e-4)
    assert np.isfinite(alone[probe]).all() and np.isnan(grid[probe][2, 0, -1])


def test_nothing_is_changed():
    task = TASKS["cnn"]
    w, part = networks(task).requires_grad_(), task.part("train", dtype=torch.float64)
    before = w.detach().clone()
    made = [noise.example_gradients(task, w, part.x, part.y), noise.noise_trace(task, w), features.ntk(task, w, part.x),
            noise.noise_scale(TASKS["tanh mse"], networks(TASKS["tanh mse"]).requires_grad_()),
            landscape.barrier(task, w, w.flip(0), 3)]  # fmt: skip
    assert torch.equal(w, before) and w.grad is None and w.requires_grad
    assert not any(m.requires_grad for m in made)


def test_batch_normalization_is_refused():
    w, part = networks(BATCH_NORM), BATCH_NORM.part("train", dtype=torch.float64)
    for call in (lambda: noise.noise_trace(BATCH_NORM, w), lambda: features.ntk(BATCH_NORM, w, part.x)):
        with pytest.raises(ValueError, match="CNN with batch normalization has no gradient of a single example"):
            call()


def test_slices_lines_and_barriers():
    bowl = Task(models.Quadratic((1.0, 4.0)), data.nothing(2), loss="output")
    w = torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    a, b = torch.linspace(-1, 1, 5), torch.linspace(0, 2, 4)
    plane = landscape.loss_slice(bowl, w, torch.eye(2), a, b)
    assert plane.shape == (2, 5, 4)
    expected = [(c[0] + a[:, None]) ** 2 / 2 + 2 * (c[1] + b[None, :]) ** 2 for c in w]
    np.testing.assert_allclose(plane, torch.stack(expected), rtol=1e-6)
    own = landscape.loss_slice(bowl, w, w[None], a)
    np.testing.assert_allclose(own[1], 2.5 * (1 + a) ** 2, atol=1e-6)
    with pytest.raises(ValueError, match="need as many lists of coefficients; got 1"):
        landscape.loss_slice(bowl, w, torch.eye(2), a)
    # a convex loss has no barrier, the double well (w^2 - 1)^2 one of height 1 between its minima
    np.testing.assert_allclose(landscape.barrier(bowl, w, w.flip(0)), 0, atol=1e-12)
    well = Task(models.Function(lambda w, x: (w[..., 0, :] ** 2 - 1) ** 2 + 0 * x[..., 0, :], 1), data.nothing(1), loss="output")
    ends = torch.tensor([[1.0], [1.0]]), torch.tensor([[-1.0], [1.0]])
    np.testing.assert_allclose(landscape.barrier(well, *ends), [1, 0], atol=1e-6)
    np.testing.assert_allclose(landscape.line(well, *ends, points=3)[0], [0, 1, 0], atol=1e-6)


def test_filter_normalized_directions():
    task = TASKS["cnn"]
    w = networks(task)
    directions = landscape.random_directions(task, w, seed=3)
    made, own = task.unflatten(directions), task.unflatten(w)
    np.testing.assert_allclose(made["C1"].flatten(3).norm(dim=3), own["C1"].flatten(2).norm(dim=2).expand(2, -1, -1))
    np.testing.assert_allclose(made["W"].norm(dim=3), own["W"].norm(dim=2).expand(2, -1, -1))
    assert (made["c0"] == 0).all() and (made["b"] == 0).all()
    plain = landscape.random_directions(task, w, count=1, filter_normalized=False)
    assert torch.equal(plain[0, 0], plain[0, 1])
    with pytest.raises(ValueError, match="DiagonalLinear has no weight matrices"):
        landscape.random_directions(TASKS["diagonal linear"], networks(TASKS["diagonal linear"]))
