"""Initialization memory: how far the predictor that is kept depends on the init scale.

The predictor that is kept is the recorded step with the best validation accuracy; its
memory is the spread (largest minus smallest) of its test accuracy over the init scales
(Das et al. 2026, "Do Deep Networks Forget Initialization?").
"""

from __future__ import annotations

import xarray as xr


def selected(ds: xr.Dataset, by: str = "val_accuracy") -> xr.Dataset:
    """Every recorded quantity at the step where `by` is largest, the latest such step of several.

    Args:
        ds: what `sweep` returned, with `by` among its recorded quantities.

    Returns:
        A Dataset without the dimension "step" but with a variable `selected_step`. A network
        whose `by` was never finite has NaN throughout.

    Raises:
        ValueError: `by` was not recorded, or has no steps.
    """
    if by not in ds or "step" not in ds[by].dims:
        raise ValueError(f"by={by!r} is not a recorded curve; this Dataset has {', '.join(map(str, ds.data_vars))}")
    # of equal values, argmax takes the first: read the steps backwards, and the latest wins
    backwards = ds.isel(step=slice(None, None, -1))
    best = backwards[by].fillna(-float("inf")).argmax("step")
    chosen = backwards.assign(selected_step=backwards.step.astype(float)).isel(step=best).drop_vars("step")
    return chosen.where(ds[by].notnull().any("step"))


def memory(accuracy: xr.DataArray, over: str = "init_scale") -> xr.DataArray:
    """The spread of `accuracy` over the init scales, in percentage points; NaN where one is NaN.

    Raises:
        ValueError: `accuracy` has no dimension `over`, or a single value along it.
    """
    if accuracy.sizes.get(over, 0) < 2:
        raise ValueError(f"memory needs two or more values of {over!r}; the array has dimensions {dict(accuracy.sizes)}")
    spread = 100 * (accuracy.max(over, skipna=False) - accuracy.min(over, skipna=False))
    return spread.rename("memory").assign_attrs(long_name="initialization memory", symbol="M", units="points", role="distance")


def forgetting_time(curve: xr.DataArray, level: float | xr.DataArray) -> xr.DataArray:
    """The first recorded step from which on `curve` stays below `level`; NaN if it ends above it.

    Args:
        curve: memory against "step".
        level: in the units of `curve`; broadcast against it by dimension names.

    Raises:
        ValueError: `curve` has no steps.
    """
    if "step" not in curve.dims:
        raise ValueError(f"forgetting_time needs a curve over 'step'; this has the dimensions {curve.dims}")
    # backwards, "has been below at every step so far" is a running product
    below = (curve < level).isel(step=slice(None, None, -1)).cumprod("step").isel(step=slice(None, None, -1))
    step = curve.step.astype(float).where(below.astype(bool)).min("step")
    return step.rename("forgetting_time").assign_attrs(long_name="forgetting time", symbol="T", units="updates", role="distance")
