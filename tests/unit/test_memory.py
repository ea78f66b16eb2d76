"""Selection by validation accuracy, the spread over init scales, and the overlap with the start."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr

from descent import Task, data, models, sweep
from descent.memory import disagreement, echo, forgetting_time, memory, predictions, selected


def curves(val, test):
    return xr.Dataset({"val_accuracy": (("seed", "step"), val), "test_accuracy": (("seed", "step"), test)},
                      {"seed": [0, 1], "step": [0, 10, 20]})  # fmt: skip


def test_selected_takes_the_best_step_and_the_latest_of_equals():
    chosen = selected(curves([[0.5, 0.9, 0.9], [0.2, 0.8, 0.1]], [[1, 2, 3], [4, 5, 6]]))
    assert chosen.selected_step.values.tolist() == [20, 10]
    assert chosen.test_accuracy.values.tolist() == [3, 5]


def test_selected_ignores_steps_after_divergence_and_marks_networks_without_any():
    nan = np.nan
    chosen = selected(curves([[0.5, 0.7, nan], [nan, nan, nan]], [[1, 2, nan], [nan, nan, nan]]))
    assert chosen.test_accuracy.values[0] == 2 and np.isnan(chosen.test_accuracy.values[1])


def test_selected_refuses_what_was_not_recorded():
    with pytest.raises(ValueError, match="val_loss"):
        selected(curves([[0.0] * 3] * 2, [[0.0] * 3] * 2), by="val_loss")


def test_memory_is_the_spread_in_points():
    accuracy = xr.DataArray([[0.9, 0.95, 0.85], [0.9, np.nan, 0.9]], dims=("seed", "init_scale"))
    spread = memory(accuracy)
    assert spread.values[0] == pytest.approx(10) and np.isnan(spread.values[1])
    with pytest.raises(ValueError, match="init_scale"):
        memory(accuracy.isel(init_scale=0))


def test_overlap_is_one_at_the_start_and_decays_with_l2_alone():
    task = Task(models.MLP((4, 3, 2)), data.gaussian(8, 4))
    lone = sweep(task, lr=1e-12, steps=4, record=["overlap"], record_every=1, cache=False)
    np.testing.assert_allclose(lone.overlap, 1, rtol=1e-6)
    decaying = sweep(task, lr=1e-9, l2=1e8, steps=4, record=["overlap"], record_every=1, cache=False)
    np.testing.assert_allclose(decaying.overlap[0], 0.9 ** decaying.step, rtol=1e-4)


def test_forgetting_time_is_that_of_an_exponential_whatever_the_noise_after_it():
    steps = np.geomspace(100, 6400, 25).round()
    share = xr.DataArray(np.exp(-steps / np.array([[400.0], [900.0], [np.inf]])), dims=("net", "step"), coords={"step": steps})
    share[1] += 0.2 * (-1.0) ** np.arange(25)  # crosses one half four times
    found = forgetting_time(share)
    assert float(found[0]) == pytest.approx(400, rel=0.005) and float(found[1]) == pytest.approx(900, rel=0.1)
    assert float(found[2]) == pytest.approx(64_000)  # as good as never
    assert np.isnan(forgetting_time(share.where(share.step > 200))).all()
    with pytest.raises(ValueError, match="step"):
        forgetting_time(share.isel(step=slice(1)))


def test_disagreement_is_averaged_over_pairs_of_seeds():
    classes = xr.DataArray([[0, 1, 2, 3], [0, 1, 2, 4], [0, 5, 5, 5]], dims=("seed", "example"))
    assert float(disagreement(classes)) == pytest.approx(100 * (1 / 4 + 3 / 4 + 3 / 4) / 3)
    with pytest.raises(ValueError, match="seed"):
        disagreement(classes[0])


def test_the_echo_does_not_change_with_the_scale_of_the_outputs():
    """Three homogeneous layers: shrunk weights give smaller outputs in the same proportions."""
    data_ = data.digits(train=20, val=10)
    task = Task(models.MLP((64, 8, 8, 10), activation="relu", bias=False), data_)
    shrunk = sweep(task, lr=1e-9, l2=1e8, steps=2, record=[echo, predictions, "test_accuracy"], record_every=1, cache=False)
    np.testing.assert_allclose(shrunk.echo[0], 1, rtol=1e-4)
    right = (shrunk.predictions == xr.DataArray(data_.y_test.numpy(), dims="example")).mean("example")
    np.testing.assert_allclose(right, shrunk.test_accuracy, atol=1e-6)


def test_the_echo_is_a_cosine_and_ignores_what_all_classes_share():
    start, other = torch.randn(2, 2, 3, 7, generator=torch.Generator().manual_seed(0))
    start, other = (f - f.mean(-2, keepdim=True) for f in (start, other))
    other -= (other * start).sum((-2, -1), keepdim=True) / start.square().sum((-2, -1), keepdim=True) * start
    start, other = (f / f.square().sum((-2, -1), keepdim=True).sqrt() for f in (start, other))
    now = 0.4 * (0.6 * start + 0.8 * other) + torch.arange(7.0)
    networks = SimpleNamespace(outputs=lambda which: now, w0=None, parts={"test": SimpleNamespace(x=None)},
                               gradients=SimpleNamespace(outputs=lambda w, x: start + 5))  # fmt: skip
    torch.testing.assert_close(echo.measure(networks), torch.full((2,), 0.6), rtol=1e-4, atol=1e-4)
