"""Features, gradients and Jacobians layer by layer, held to the whole Jacobian and to closed forms."""

import numpy as np
import pytest
import torch

from descent import Task, data, models, sweep, theory
from descent.probes.features import jacobian, kernel_distance
from descent.probes.propagation import cosine_similarity, input_jacobian, layer_alignment, layer_factors, layer_kernels
from descent.seeding import generator

DIGITS = data.digits(40)


def start(task, seeds=3):
    rows = [task.flatten(task.model.init(generator(seed, "init"), 0.9), 0).double() for seed in range(seeds)]
    return torch.stack(rows) + 0.05 * generator(1, "probe").normal(seeds, task.parameters).double()


@pytest.mark.parametrize("options", [{}, {"activation": "relu", "parametrization": "ntk"}, {"bias": False, "output_scale": 2.0}])
def test_layer_kernels_are_the_parts_of_the_tangent_kernel(options):
    task = Task(models.MLP((64, 7, 5, 10), **options), DIGITS)
    w, x = start(task), task.part("train", dtype=torch.float64).x[:, :9]
    found = layer_kernels(task, w, x)
    parts = dict(zip(task.layout, jacobian(task, w, x).split([int(np.prod(s)) for s in task.layout.values()], -1)))
    for i in range(3):
        J = parts[f"W{i}"].flatten(2)
        torch.testing.assert_close(found[:, i], J @ J.mT, rtol=1e-9, atol=1e-12)


def test_layers_of_other_models_are_refused():
    x = torch.zeros(64, 3)
    for model, message in ((models.MLP((64, 5, 10), normalization="batch"), "batch normalization"), (models.DiagonalLinear(64), "DiagonalLinear")):
        task = Task(model, DIGITS if isinstance(model, models.MLP) else data.linear_regression(3, [1.0] * 64), "mse")
        with pytest.raises(ValueError, match=message):
            layer_factors(task, torch.zeros(1, task.parameters), x)


def test_input_jacobian_of_a_linear_network_is_the_product_of_its_matrices():
    task = Task(models.DeepLinear((6, 5, 4)), data.Data("", torch.zeros(1, 6), torch.zeros(1, 4)), "mse")
    w = start(task)
    params = task.unflatten(w)
    found = input_jacobian(task, w, torch.randn(6, 2).double())
    assert found.shape == (3, 2, 4, 6)
    torch.testing.assert_close(found, (params["W1"] @ params["W0"])[:, None].expand(3, 2, 4, 6))


def test_input_jacobian_agrees_with_finite_differences():
    task = Task(models.MLP((6, 5, 4)), data.Data("", torch.zeros(1, 6), torch.zeros(1, 4)), "mse")
    w, x, h = start(task), torch.randn(6, 2).double(), 1e-6
    out = lambda x: task.model.apply(task.unflatten(w), x)
    for i in range(6):
        step = torch.zeros(6, 1).double()
        step[i] = h
        torch.testing.assert_close(input_jacobian(task, w, x)[..., i], ((out(x + step) - out(x - step)) / (2 * h)).mT, rtol=1e-5, atol=1e-8)


def test_cosine_similarity_is_the_mean_over_pairs():
    features = generator(0, "probe").normal(2, 5, 7).double()
    unit = features / features.norm(dim=1, keepdim=True)
    gram = unit.mT @ unit
    pairs = gram[:, *torch.triu_indices(7, 7, 1)].mean(1)
    torch.testing.assert_close(cosine_similarity(features), pairs)
    torch.testing.assert_close(cosine_similarity(features[..., :1].expand(2, 5, 4)), torch.ones(2).double())
    silent = torch.cat([features[..., :3], torch.zeros(2, 5, 1)], -1)  # counts as orthogonal
    torch.testing.assert_close(cosine_similarity(silent), cosine_similarity(features[..., :3]) / 2)


def test_centred_alignment_is_a_cosine_of_centred_kernels():
    a, b = (f @ f.T for f in generator(0, "probe").normal(2, 6, 3).double())
    H = torch.eye(6).double() - 1 / 6
    wanted = torch.trace(H @ a @ H @ b) / (torch.trace(H @ a @ H @ a) * torch.trace(H @ b @ H @ b)).sqrt()
    torch.testing.assert_close(1 - kernel_distance(a[None], b[None], centred=True)[0], wanted)
    torch.testing.assert_close(kernel_distance(a[None], 3 * a[None] + 2, centred=True), torch.zeros(1).double())


def test_the_last_layer_has_no_backward_factor():
    task = Task(models.MLP((64, 7, 10)), DIGITS)
    part = task.part("train", dtype=torch.float64)
    both, forward, backward = layer_alignment(task, start(task), part.x, part.labels).unbind(1)
    torch.testing.assert_close(both[:, -1], forward[:, -1])
    assert backward[:, -1].isnan().all() and backward[:, 0].isfinite().all()


def test_the_backward_factor_may_be_that_of_other_weights():
    task = Task(models.MLP((64, 7, 10)), DIGITS)
    part, w = task.part("train", dtype=torch.float64), start(task)
    forward, backward = (layer_alignment(task, v, part.x, part.labels)[:, i] for v, i in ((w, 1), (w.flip(0), 2)))
    found = layer_alignment(task, w, part.x, part.labels, behind=w.flip(0))
    torch.testing.assert_close(found[:, 1:], torch.stack([forward, backward], 1), equal_nan=True)


def test_sweeps_record_them():
    ds = sweep(Task(models.MLP((64, 8, 8, 10)), DIGITS), lr=0.1, steps=2, record_every=1, cache=False,
               record=["feature_cosine", "layer_alignment", "layer_gradient_size", "jacobian_singular_values"])  # fmt: skip
    assert ds.layer_alignment.sizes == {"seed": 1, "step": 3, "factor": 3, "layer": 3}
    assert ds.jacobian_singular_values.sizes["direction"] == 10 and ds.feature_cosine.notnull().all()
    with pytest.raises(ValueError, match="class labels"):
        sweep(Task(models.MLP((3, 2, 1)), data.linear_regression(5, [1.0] * 3), "mse"), steps=1, record="layer_alignment", cache=False)
    with pytest.raises(ValueError, match="feature_cosine"):
        sweep(Task(models.DiagonalLinear(3), data.linear_regression(5, [1.0] * 3), "mse"), steps=1, record="feature_cosine", cache=False)


def test_gradient_sizes_of_a_wide_network_are_those_of_mean_field_theory():
    width, layers = 400, 4
    x = generator(0, "data").normal(3, width)
    x = x / x.square().mean(1, keepdim=True).sqrt()  # of mean square 1
    model = models.MLP((width,) * (layers + 1) + (10,), bias_deviation=0.2)
    task = Task(model, data.Data("normal", x, torch.zeros(3, 10)), "mse")
    ds = sweep(task, init_scale=[0.8, 1.6], seed=[0, 1, 2], steps=1, record="layer_gradient_size", record_every=[0], cache=False)
    measured = ds.layer_gradient_size.isel(step=0).mean("seed").values
    scale = np.array([0.8, 1.6])
    wanted = theory.gradient_sizes(scale**2 + 0.04, scale, width, layers, 0.2)
    np.testing.assert_allclose(measured, wanted, rtol=0.06)
