"""The same sweeps on the CPU and on a CUDA device.

Without a CUDA device only the comparison of the CPU with itself runs: it shows that a sweep
repeats bit by bit, and that these tests run.
"""

import math

import numpy as np
import pytest
import torch

from descent import Task, data, models, probes, schedules, sweep
from descent.probes import device as hardware
from descent.seeding import generator

CUDA = pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")])
on_both = pytest.mark.parametrize("device", ["cpu", CUDA])

DIGITS = data.digits(96, val=32, test=32)
IMAGES = data.Data("noise", generator(0, "data").normal(24, 3, 16, 16), torch.arange(24) % 10)
VALUES = data.teacher_student(48, 6)
TASKS = {
    "function": Task(models.Function(lambda w, x: ((w.prod(-2) - 1) ** 2 + (w * x).sum(-2)), 3, start=(0.9, 1.0, 1.2)), data.tilts(32, 0.1, 3), "output"),
    "quadratic": Task(models.Quadratic((1.0, 4.0)), data.tilts(32, (1.0, 0.5)), "output"),
    "second-order regression": Task(models.SecondOrderRegression.random(3, 8, 0), data.targets([1.0, -1.0, 0.5]), "mse"),
    "scalar network": Task(models.ScalarNetwork(4), data.nothing(1), "output"),
    "diagonal linear": Task(models.DiagonalLinear(6), VALUES, "mse"),
    "deep linear": Task(models.DeepLinear((6, 5, 1)), VALUES, "mse"),
    "tanh MLP": Task(models.MLP((64, 16, 10)), DIGITS, "mse"),
    "relu MLP, ntk": Task(models.MLP((64, 16, 16, 10), "relu", "ntk"), DIGITS),
    "elu MLP, mean field": Task(models.MLP((6, 16, 1), "elu", "mean_field", output_scale=2.0), VALUES, "mse"),
    "leaky relu MLP without bias": Task(models.MLP((64, 16, 10), "leaky_relu", bias=False), DIGITS),
    "CNN": Task(models.CNN((1, 8, 8), (4, 4)), DIGITS),
    "CNN, batch norm": Task(models.CNN((1, 8, 8), (4, 4), batch_norm=True), DIGITS),
    "ResNet-9": Task(models.ResNet9((3, 16, 16), width=4), IMAGES),
}  # fmt: skip
#: relative tolerance of curves and weights after a few calm steps: rounding, times what the steps make of it
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-7}
precisions = pytest.mark.parametrize("dtype", TOLERANCE, ids=["float32", "float64"])


@pytest.fixture(autouse=True)
def exact_convolutions(monkeypatch):
    """cuDNN may otherwise convolve float32 with the ten-bit mantissas of TF32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def both(task, device, **arguments):
    """The same sweep on the CPU and on `device`."""
    arguments = {"steps": 20, "record": ["loss", "weights"], "record_every": 4, "cache": False} | arguments
    return (sweep(task, device=d, **arguments) for d in ("cpu", device))


def close(cpu, other, device, rel):
    """All variables agree: NaN where the other is, each number within `rel` of the largest of its network's."""
    assert other.attrs["device"].startswith(device) and cpu.attrs["recipe"] == other.attrs["recipe"]
    for name in cpu.data_vars:
        a, b = cpu[name], other[name]
        assert a.dims == b.dims and a.dtype == b.dtype
        extra = [d for d in a.dims if d not in cpu.diverged_at.dims and d != "step"]
        size = np.maximum(abs(a).max(extra) if extra else abs(a), 1e-6)
        np.testing.assert_array_equal(a.isnull(), b.isnull(), err_msg=name)
        assert not (abs(a - b) > rel * size).any(), f"{name}: {(abs(a - b) / size).max().item():.2g}"
        if device == "cpu":
            assert a.identical(b)


@on_both
@precisions
@pytest.mark.parametrize("name", TASKS)
def test_every_model(name, dtype, device):
    settings = dict(lr=[0.01, 0.03], batch_size=[None] if len(TASKS[name].data) < 8 else [8, None], init_scale=[0.5, 1.0], seed=[0, 1],
                    steps=4 if name == "ResNet-9" else 20)  # fmt: skip
    close(*both(TASKS[name], device, dtype=dtype, **settings), device, TOLERANCE[dtype])


@on_both
@precisions
@pytest.mark.parametrize("rule", ["sgd", "heavy_ball", "nesterov", "adagrad", "rmsprop", "adam", "adamw"])
def test_every_optimizer(rule, dtype, device):
    settings = dict(lr=[1e-3, 1e-2], optimizer=rule, batch_size=[16, None], clip=[0.5, math.inf], l2=[0.0, 0.1], weight_decay=0.01, l1=1e-3,
                    schedule=[schedules.constant(), schedules.warmup(5) * schedules.cosine()])  # fmt: skip
    close(*both(TASKS["tanh MLP"], device, dtype=dtype, **settings), device, TOLERANCE[dtype])


@on_both
@precisions
def test_the_proximal_point_method(dtype, device):
    task = Task(models.Function(lambda w, x: ((w - x) ** 2).sum(-2) / 2, 2, start=(3.0, -1.0), prox=lambda w, x, lr: (w + lr * x[..., 0]) / (1 + lr)),
                data.tilts(16, (1.0, 0.5)), "output")  # fmt: skip
    close(*both(task, device, dtype=dtype, lr=[0.1, 1.0], batch_size=1, optimizer="proximal_point"), device, TOLERANCE[dtype])


@on_both
@pytest.mark.parametrize("sampling", ["shuffle", "replacement"])
def test_networks_see_the_same_examples(sampling, device):
    """With f = -x . w and lr 1 the weights are the sum of the examples seen, exact in any precision."""
    counted = data.Data("count", 2.0 ** torch.arange(12)[:, None], torch.zeros(12))
    task = Task(models.Function(lambda w, x: (-x * w).sum(-2), 1, start=(0.0,)), counted, "output")
    cpu, other = both(task, device, lr=1.0, batch_size=[1, 4], seed=[0, 1, 2], steps=30, record_every=1, sampling=sampling)
    assert np.array_equal(cpu.weights, other.weights) and len(np.unique(cpu.weights)) > 100


@on_both
@precisions
@pytest.mark.parametrize("rule, wild", [("sgd", [1.0, 3.0, 100.0]), ("heavy_ball", [1.0, 3.0, 100.0]), ("adam", [1e4, 1e6])])
def test_divergence_at_the_same_step_and_alone(rule, wild, dtype, device):
    calm, task = [1e-3, 1e-2], TASKS["tanh MLP"]
    settings = dict(optimizer=rule, batch_size=[32, None], seed=[0, 1], steps=40, record_every=1, dtype=dtype)
    cpu, other = both(task, device, lr=calm + wild, **settings)
    np.testing.assert_array_equal(cpu.diverged_at, other.diverged_at)
    assert cpu.diverged_at.sel(lr=calm).isnull().all() and cpu.diverged_at.sel(lr=wild).notnull().all()
    close(cpu.sel(lr=calm), other.sel(lr=calm), device, TOLERANCE[dtype])
    after = other.step > other.diverged_at.sel(lr=wild)
    assert other.loss.sel(lr=wild).where(after).isnull().all()
    beside_calm = sweep(task, device=device, lr=calm + [0.005 / (i + 1) for i in range(len(wild))], cache=False, record=["loss", "weights"], **settings)
    assert np.array_equal(beside_calm.weights.sel(lr=calm), other.weights.sel(lr=calm))


@on_both
@pytest.mark.parametrize("dtype, rel", [(torch.float32, 2e-2), (torch.float64, 1e-3)], ids=["float32", "float64"])
def test_every_probe(dtype, rel, device):
    """Eigenvalues are found to 1e-3 on either device; in float32, differences of near-equal numbers lose digits more."""
    of_products, of_sparse = ["matrix", "singular_values"], ["truth_error", "support_size", "coefficients", "effective_scale", "scale_change"]
    of_two_layers, seen = ["neuron_alignment", "stable_rank"], set()
    of_few_examples = ["jacobian_singular_values"]  # its dimension "example" is shorter than that of example_losses
    rest = [name for name in probes.PROBES if name not in of_products + of_sparse + of_two_layers + of_few_examples]
    sparse = Task(models.DiagonalLinear(6), data.sparse_regression(32, 6, 2), "mse")
    mlp = TASKS["tanh MLP"]
    for task, names in [(mlp, rest), (mlp, of_few_examples), (TASKS["deep linear"], of_products + of_two_layers), (sparse, of_sparse)]:
        cpu, other = both(task, device, lr=[0.01, 0.03], seed=[0, 1], batch_size=16, record=names, record_every=10, dtype=dtype)
        assert all(cpu[name].notnull().any() for name in names)
        close(cpu, other, device, rel)
        seen |= set(cpu.data_vars)
    assert seen == {*probes.PROBES, "diverged_at"}


@on_both
def test_alone_and_in_a_grid_are_the_same(device):
    grid = dict(lr=[0.01, 0.05], batch_size=[16, 32], init_scale=[0.5, 1.0], seed=[0, 1, 2])
    settings = dict(device=device, steps=20, cache=False, dtype=torch.float64)
    together = sweep(TASKS["CNN"], **grid, **settings)
    alone = sweep(TASKS["CNN"], lr=0.05, batch_size=16, init_scale=1.0, seed=2, **settings)
    np.testing.assert_allclose(together.loss.sel(lr=0.05, batch_size=16, init_scale=1.0, seed=2), alone.loss.squeeze("seed"), rtol=1e-7)


@on_both
def test_results_are_kept_by_device(device, tmp_path, monkeypatch):
    monkeypatch.setenv("DESCENT_CACHE", str(tmp_path))
    first, second = both(TASKS["quadratic"], device, cache=True)
    assert len(list(tmp_path.iterdir())) == (1 if device == "cpu" else 2)
    assert (first.attrs["recipe_id"] == second.attrs["recipe_id"]) == (device == "cpu")


@on_both
def test_speeds_are_those_of_a_device(device):
    """Wide bounds: from the slowest device in use to several times the fastest."""
    found = hardware.describe()
    speed = found.gpu if device == "cuda" else found.core
    flops, bandwidth = ((5e11, 5e14), (5e10, 5e13)) if device == "cuda" else ((1e9, 1e13), (1e8, 1e12))
    assert flops[0] < speed.flops < flops[1] and bandwidth[0] < speed.bandwidth < bandwidth[1]
    assert 1e-8 < speed.overhead < 1e-3
    if device == "cuda":
        assert found.gpu_memory == torch.cuda.get_device_properties(0).total_memory and speed.name in repr(found)
    made = hardware.throughput(TASKS["tanh MLP"], device=device, lr=[0.1, 0.2], steps=50)
    assert 0 < made.seconds < 100 and made.updates > 10 and 0 < made.share < 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_gpu_is_used_by_itself_and_given_back():
    """A sweep takes the CUDA device where there is one, and leaves none of its memory taken."""
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    assert sweep(TASKS["tanh MLP"], lr=[0.01, 0.02], steps=5, cache=False).attrs["device"].startswith("cuda")
    assert torch.cuda.memory_allocated() <= before + 2**20 and torch.cuda.max_memory_allocated() > before
