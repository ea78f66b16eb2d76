"""Selection by validation accuracy, the spread over init scales, and the overlap with the start."""

import numpy as np
import pytest
import xarray as xr

from descent import Task, data, models, sweep
from descent.memory import forgetting_time, memory, selected


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


def test_forgetting_time_is_when_it_stays_below():
    curve = xr.DataArray([[5.0, 1.0, 5.0, 1.0, 1.0], [5.0, 1.0, 1.0, 1.0, 5.0], [1.0] * 5], dims=("net", "step"),
                         coords={"step": [0, 10, 20, 30, 40]})  # fmt: skip
    assert forgetting_time(curve, 2.0).fillna(-1).values.tolist() == [30, -1, 0]
    with pytest.raises(ValueError, match="step"):
        forgetting_time(curve.isel(step=0), 2.0)
