"""What is read off recorded curves: how fast a loss falls and should fall, how long a path is, where its average lies."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr

from descent.probes.features import ntk
from descent.task import Task


def contraction(loss: xr.DataArray, low: float = 0.0, high: float = np.inf) -> xr.DataArray:
    """Factor by which the loss falls per step, the geometric mean over a window.

    The window is taken by value: from the first recorded loss below `high` to the last one
    before the first that is not above `low`. NaN where it holds fewer than two records.
    """
    inside = (loss < high) & (loss > low) & ((loss <= low).cumsum("step") == 0)
    first, last = (reduce(loss.step.where(inside)) for reduce in (lambda s: s.min("step"), lambda s: s.max("step")))
    begin, end = (loss.where(loss.step == at).max("step") for at in (first, last))
    ratio = (end / begin) ** (1 / (last - first).clip(1))
    return ratio.where(last > first).rename("loss_ratio").drop_attrs(deep=False)


def axis_rates(task: Task, weights: xr.DataArray) -> xr.DataArray:
    """Rates of the logarithm of the loss, 2 log |1 - lr lambda_i|, along the axes of the bowl in which gradient descent arrives at `weights`.

    At zero squared error the nonzero eigenvalues lambda_i of the Hessian are those of J J^T / n, J the Jacobian of all outputs
    on the n training examples; the slowest of these axes, the largest rate, decides in the end. One for each output of each example,
    in a last dimension "axis".

    Args:
        task: a task with squared error.
        weights: dimensions (..., "parameter") with the coordinate lr, as the probe "weights" records them.

    Raises:
        ValueError: the task's loss is not "mse".
    """
    if task.loss != "mse":
        raise ValueError(f"axis_rates needs the loss 'mse', the task has {task.loss!r}")
    rows = torch.tensor(weights.values).reshape(-1, weights.sizes["parameter"])
    kernels = ntk(task, rows, task.part("train").x.to(rows.dtype)) / len(task.data)
    shape = weights.isel(parameter=0, drop=True)
    curvatures = torch.linalg.eigvalsh(kernels).numpy().reshape(*shape.shape, -1)
    factors = np.abs(1 - shape.lr.broadcast_like(shape).values[..., None] * curvatures)
    return xr.DataArray(2 * np.log(factors), shape.coords, (*shape.dims, "axis"), "log_loss_ratio")


def path_length(gradient_norm: xr.DataArray, lr: float | xr.DataArray) -> xr.DataArray:
    """Length of gradient descent's path, lr times the sum of gradient norms.

    Each recorded norm stands for the steps up to the next record, so that for norms that
    fall the result is not too small.
    """
    norms = gradient_norm.isel(step=slice(None, -1))
    return (lr * norms * np.diff(gradient_norm.step)).sum("step", skipna=False).rename("path_length").drop_attrs(deep=False)


def running_average(weights: xr.DataArray) -> xr.DataArray:
    """Mean of the iterates 1 to t, for every recorded t (the start, step 0, does not count).

    Raises:
        ValueError: not every step was recorded.
    """
    if (np.diff(weights.step) != 1).any() or int(weights.step[0]) != 0:
        raise ValueError("running_average needs every step; record weights with record_every=1")
    iterates = weights.isel(step=slice(1, None))
    return iterates.cumsum("step") / iterates.step
