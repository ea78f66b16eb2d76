"""The device probe: what it reports, and whether its predictions come true."""

import time

import numpy as np
import psutil
import pytest
import torch

from descent import Task, data, models, sweep
from descent.probes import device

DIGITS = data.digits(train=1000)
SWEEPS = {
    "mlp": (Task(models.MLP((64, 64, 10)), DIGITS), dict(lr=[0.01 * (i + 1) for i in range(12)], batch_size=64, steps=200, record_every=50)),
    "mlp with sharpness": (Task(models.MLP((64, 32, 10)), DIGITS, loss="mse"), dict(lr=[0.1, 0.2], steps=60, record=["loss", "sharpness"], record_every=10)),
    "cnn": (Task(models.CNN(), DIGITS), dict(lr=[0.01, 0.02], batch_size=50, steps=20)),
    "quadratic": (Task(models.Quadratic((1.0, 2.0)), data.tilts(100, (1.0, 1.0)), loss="output"), dict(lr=[0.1, 0.2], batch_size=1, steps=1000)),
}  # fmt: skip


def test_description_is_of_this_machine():
    found = device.describe()
    assert found is device.describe()
    assert found.memory == psutil.virtual_memory().total and 1 <= found.cores <= psutil.cpu_count()
    assert (found.gpu is not None) == torch.cuda.is_available()
    assert found.core.flops > 1e9 and found.core.bandwidth > 1e8 and 1e-8 < found.core.overhead < 1e-3
    assert "TFLOP/s" in repr(found) and "GB/s" in repr(found)
    assert found._repr_html_().count("<tr>") == len(found.rows) == len(repr(found).splitlines())


def test_flops_are_those_of_the_products():
    """An MLP's gradient: forward, and twice that backward but for the inputs' gradient, which nobody needs."""
    first, second = 2 * 50 * 64 * 32, 2 * 50 * 32 * 10
    assert device.step_flops(SWEEPS["mlp with sharpness"][0], 50) == 2 * first + 3 * second


@pytest.mark.parametrize("name", SWEEPS)
def test_predicted_seconds_come_true_within_a_factor_of_three(name):
    task, arguments = SWEEPS[name]
    arguments = arguments | {"device": "cpu", "cache": False}

    def spent():
        # processor seconds of all threads, so that other programs on the machine do not count
        start = time.process_time()
        sweep(task, **arguments)
        return time.process_time() - start

    # the least of three: other programs can only slow a run down, by taking its caches
    predicted = min(device.throughput(task, workers=1, **arguments).seconds for _ in range(3))
    assert predicted / 3 < min(spent() for _ in range(3)) < 3 * predicted


def test_prediction_counts_steps_measurements_and_workers_and_refuses_like_sweep():
    task, arguments = SWEEPS["quadratic"]

    def predicted(task, **more):
        return min(device.throughput(task, **more).seconds for _ in range(3))

    base = predicted(task, workers=1, **arguments)
    assert predicted(task, workers=1, **arguments | {"steps": 10_000}) == pytest.approx(10 * base, rel=0.5)
    assert predicted(task, workers=2, **arguments) == pytest.approx(base, rel=0.5)  # too small to split
    wide, many = Task(models.CNN(), DIGITS), dict(lr=np.linspace(0.01, 0.02, 24), batch_size=50, steps=20)
    assert predicted(wide, workers=2, **many) == pytest.approx(predicted(wide, workers=1, **many) / 2, rel=0.5)
    # measuring takes longer than the step here, so that a hundred times as many measurements must show
    measured, often = SWEEPS["mlp with sharpness"]
    assert predicted(measured, workers=1, **often | {"record_every": 1}) > 2 * predicted(measured, workers=1, **often | {"record_every": 60})
    with pytest.raises(ValueError, match="lr=-1"):
        device.throughput(task, lr=-1.0)


def test_throughput_is_a_share_of_the_peak():
    task = Task(models.MLP((784, 100, 10)), data.Data("noise", torch.randn(200, 784), torch.randint(10, (200,))))
    tried = [device.throughput(task, workers=1, batch_size=64, seed=[0, 1, 2, 3], steps=50) for _ in range(3)]
    found = max(tried, key=lambda t: t.share)
    assert 0.05 < found.share < 1.2
    assert found.flops == pytest.approx(found.share * device.describe().core.flops)
    assert found.flops == pytest.approx(found.updates * device.step_flops(task, 64))
    assert "of the peak" in repr(found)
