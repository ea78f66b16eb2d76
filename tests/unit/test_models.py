"""Models: against plain `torch.nn` modules, alone against stacked, and at initialization."""

import numpy as np
import pytest
import torch
from torch import nn

from descent import Task, data, models
from descent.probes import features
from descent.seeding import generator

MODELS = {
    "quadratic": models.Quadratic((1.0, 2.0, 3.0)),
    "function": models.Function(lambda w, x: (w.abs() + w * x).sum(-2), 3),
    "diagonal linear": models.DiagonalLinear(5, depth=3),
    "matrix product": models.MatrixProduct((4, 6, 3)),
    "symmetric matrix product": models.MatrixProduct((4, 6, 4), symmetric=True),
    "deep linear": models.DeepLinear((4, 6, 3)),
    "tanh MLP": models.MLP((4, 6, 3)),
    "relu MLP, ntk": models.MLP((4, 6, 5, 3), "relu", "ntk"),
    "elu MLP, mean field": models.MLP((4, 6, 1), "elu", "mean_field"),
    "leaky relu MLP without bias": models.MLP((4, 6, 3), "leaky_relu", bias=False),
    "relu MLP, batch norm": models.MLP((4, 6, 5, 3), "relu", bias_deviation=0.3, normalization="batch"),
    "CNN": models.CNN((2, 8, 8), (3, 4), 5),
    "CNN, batch norm": models.CNN((1, 8, 8), (3, 4), 5, batch_norm=True),
    "mirrored MLP": models.Mirrored(models.MLP((4, 6, 3))),
    "RNN": models.RNN(2, 5, 3, length=4),
    "RNN of low rank": models.RNN(2, 5, 3, 4, start=models.low_rank(5, 2)),
    "ResNet-9": models.ResNet9((3, 16, 16), width=4),
}


@pytest.mark.parametrize("name", MODELS)
def test_one_apply_for_any_network_dimensions(name):
    """No network dimension, one, and two give the same outputs, on shared and on own inputs."""
    model = MODELS[name]
    x = generator(0, "data").normal(*model.input_shape, 7)
    scales = torch.tensor([[0.5, 1.0, 2.0], [1.5, 0.7, 1.0]])
    params = model.init(generator(1, "init"), scales)
    shared = model.apply(params, x)
    own = model.apply(params, x.expand(2, 3, *x.shape))
    rows = model.apply({k: p.flatten(0, 1) for k, p in params.items()}, x)
    assert shared.shape[:2] == (2, 3) and shared.shape[-1] == 7
    torch.testing.assert_close(own, shared, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(rows, shared.flatten(0, 1), rtol=1e-4, atol=1e-5)
    for i, j in np.ndindex(2, 3):
        alone = model.apply(model.init(generator(1, "init"), scales[i, j].item()), x)
        torch.testing.assert_close(shared[i, j], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_flat_and_named_parameters_are_the_same(name):
    model = MODELS[name]
    task = Task(model, data.Data("zeros", torch.zeros(2, *model.input_shape), torch.zeros(2, dtype=torch.int64)), "output")
    params = model.init(generator(1, "init"), torch.tensor([1.0, 2.0]))
    flat = task.flatten(params, 1)
    assert flat.shape == (2, task.parameters)
    for key, value in task.unflatten(flat).items():
        assert torch.equal(value, params[key])


def test_mlp_is_the_usual_one():
    model = models.MLP((4, 6, 3), "relu")
    params = model.init(generator(0, "init"))
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    with torch.no_grad():
        for i, layer in ((0, net[0]), (1, net[2])):
            layer.weight.copy_(params[f"W{i}"])
            layer.bias.copy_(params[f"b{i}"][:, 0])
    x = torch.randn(4, 9)
    torch.testing.assert_close(model.apply(params, x), net(x.T).T)


def test_a_mirrored_model_starts_at_zero_with_the_kernel_of_its_half():
    half = models.MLP((4, 6, 2))
    both, x = models.Mirrored(half), generator(0, "data").normal(4, 5)
    params, alone = both.init(generator(1, "init"), 1.5), half.init(generator(1, "init"), 1.5)
    assert (both.apply(params, x) == 0).all()
    params["W0_mirror"] = params["W0_mirror"] + 0.1
    wanted = (half.apply(alone, x) - half.apply(alone | {"W0": alone["W0"] + 0.1}, x)) / 2**0.5
    torch.testing.assert_close(both.apply(params, x), wanted)
    task, one = (Task(m, data.Data("noise", x.T, torch.zeros(5, 2)), "mse") for m in (both, half))
    start = [task.flatten(t.model.init(generator(1, "init"), torch.ones(1)), 1) for t in (task, one)]
    torch.testing.assert_close(features.ntk(task, start[0], x), features.ntk(one, start[1], x))


def test_rnn_is_the_usual_one():
    model = models.RNN(3, 6, 2, length=5)
    params = model.init(generator(0, "init"))
    params = {name: p + 0.1 * generator(i, "probe").normal(*p.shape) for i, (name, p) in enumerate(params.items())}
    net, readout = nn.RNN(3, 6), nn.Linear(6, 2)
    with torch.no_grad():
        net.weight_hh_l0.copy_(params["W"])
        net.weight_ih_l0.copy_(params["U"])
        net.bias_ih_l0.copy_(params["b"][:, 0])
        net.bias_hh_l0.zero_()
        readout.weight.copy_(params["V"])
        readout.bias.copy_(params["c"][:, 0])
    x = torch.randn(5, 4, 3)
    torch.testing.assert_close(model.apply(params, x.movedim(1, -1)), readout(net(x)[1][0]).T)


def test_recurrent_matrix_has_its_rank_and_norm():
    for rank in (1, 3, 20):
        W = models.RNN(1, 20, 1, 2, start=models.low_rank(20, rank)).init(generator(0, "init"), 2.0)["W"]
        assert torch.linalg.matrix_rank(W.double(), rtol=1e-5) == rank
        assert W.norm() == pytest.approx(2 * 20**0.5, rel=1e-5 if rank < 20 else 0.2)
    scaled = models.RNN(1, 20, 1, 2).init(generator(0, "init"), torch.tensor([1.0, 2.0]))
    assert torch.equal(scaled["U"][0], scaled["U"][1]) and torch.equal(2 * scaled["W"][0], scaled["W"][1])
    with pytest.raises(ValueError, match="rank=0 must lie between 1 and 4"):
        models.low_rank(4, 0)
    with pytest.raises(ValueError, match="start drew a matrix of shape"):
        models.RNN(1, 5, 1, 2, start=models.low_rank(4, 1)).init(generator(0, "init"))


def test_mlp_with_batch_norm_is_the_usual_one():
    model = models.MLP((4, 6, 3), "relu", normalization="batch")
    params = model.init(generator(0, "init")) | {"g0": torch.rand(6, 1), "b0": torch.rand(6, 1)}
    net = nn.Sequential(nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
    with torch.no_grad():
        net[0].weight.copy_(params["W0"])
        net[1].weight.copy_(params["g0"][:, 0])
        net[1].bias.copy_(params["b0"][:, 0])
        net[3].weight.copy_(params["W1"])
        net[3].bias.zero_()
    x = torch.randn(4, 9)
    torch.testing.assert_close(model.apply(params, x), net(x.T).T, rtol=1e-4, atol=1e-5)


def test_initial_biases_have_their_deviation_whatever_the_init_scale():
    model = models.MLP((4, 4000, 3), bias_deviation=0.3)
    params = model.init(generator(0, "init"), torch.tensor([1.0, 3.0]))
    assert params["b0"][0].std().item() == pytest.approx(0.3, rel=0.05)
    assert torch.equal(params["b0"][0], params["b0"][1])
    assert torch.equal(model.init(generator(0, "init"))["W0"], models.MLP((4, 4000, 3)).init(generator(0, "init"))["W0"])


def test_hidden_layers_lead_to_the_output():
    model = models.MLP((4, 6, 5, 3), "relu", "ntk", output_scale=2.0)
    params, x = model.init(generator(0, "init"), torch.ones(2)), torch.randn(4, 7)
    layers = model.hidden(params, x)
    assert [h.shape[-2] for h in layers] == [4, 6, 5]
    torch.testing.assert_close(2 * (params["W2"] @ layers[-1] / 5**0.5 + params["b2"]), model.apply(params, x))


@pytest.mark.parametrize("batch_norm", [False, True])
def test_cnn_is_the_usual_one(batch_norm):
    model = models.CNN((2, 8, 8), (3, 4), 5, batch_norm)
    params = model.init(generator(0, "init"))
    layers = []
    for before, out in ((2, 3), (3, 4)):
        norm = [nn.BatchNorm2d(out)] if batch_norm else []
        layers += [nn.Conv2d(before, out, 3, padding=1, bias=not batch_norm), *norm, nn.ReLU(), nn.AvgPool2d(2)]
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16, 5))
    with torch.no_grad():
        convolutions = [m for m in net if isinstance(m, nn.Conv2d)]
        for i, layer in enumerate(convolutions):
            layer.weight.copy_(params[f"C{i}"])
            if layer.bias is not None:
                layer.bias.zero_()
        net[-1].weight.copy_(params["W"])
        net[-1].bias.zero_()
    x = torch.randn(6, 2, 8, 8)
    torch.testing.assert_close(model.apply(params, x.movedim(0, -1)), net(x).T, rtol=1e-4, atol=1e-5)


def test_init_scale_multiplies_the_weights_and_not_the_biases():
    model = models.MLP((4, 6, 3))
    params = model.init(generator(0, "init"), torch.tensor([1.0, 3.0]))
    torch.testing.assert_close(params["W0"][1], 3 * params["W0"][0])
    assert (params["b0"] == 0).all()


@pytest.mark.parametrize("parametrization, spread", [("standard", 1.0), ("ntk", 1.0), ("mean_field", 1 / 32)])
def test_output_size_at_initialization(parametrization, spread):
    """With unit inputs and a linear unit the output has variance 1; the mean-field one, width 1024, has 1 / 1024."""
    model = models.MLP((64, 1024, 1), "linear", parametrization, bias=False)
    x = generator(0, "data").normal(64, 4000)
    outputs = model.apply(model.init(generator(0, "init"), torch.ones(1)), x)
    several = torch.cat([model.apply(model.init(generator(s, "init")), x[:, :50]).flatten() for s in range(40)])
    assert several.std().item() == pytest.approx(spread, rel=0.15) and outputs.std() > 0


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: models.MLP((4,)), "at least 2 positive integers"),
        (lambda: models.MLP((4, 0, 3)), "positive integers"),
        (lambda: models.MLP((4, 3), "gelu"), "unknown activation 'gelu'"),
        (lambda: models.MLP((4, 3), parametrization="mup"), "unknown parametrization 'mup'"),
        (lambda: models.MLP((4, 3), normalization="layer"), "unknown normalization 'layer'"),
        (lambda: models.MLP((4, 3), bias_deviation=-1.0), "bias_deviation=-1.0"),
        (lambda: models.MLP((4, 3), bias=False, bias_deviation=1.0), "bias_deviation=1.0"),
        (lambda: models.CNN((1, 2, 2)), "each side at least 4"),
        (lambda: models.Quadratic((1.0, 2.0), start=(1.0,)), "start has 1 numbers"),
    ],
)
def test_models_refuse_nonsense(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_cross_entropy_takes_labels_or_probabilities():
    task = Task(models.MLP((4, 3)), data.Data("", torch.randn(6, 4), torch.tensor([0, 1, 2, 2, 1, 0])))
    params, part = task.model.init(generator(0, "init")), task.part("train")
    one_hot = nn.functional.one_hot(part.y, 3).T.float()
    torch.testing.assert_close(task.example_losses(params, part.x, one_hot), task.example_losses(params, part.x, part.y))
