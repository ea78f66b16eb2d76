"""Initialization memory: how far the predictor that is kept depends on the init scale.

The predictor that is kept is the recorded step with the best validation accuracy; its
memory is the spread (largest minus smallest) of its test accuracy over the init scales
(Das et al. 2026, "Do Deep Networks Forget Initialization?"). What is left of the start can
also be looked for in the function itself: how far two random draws of it disagree after training, and
how much of the untrained network's outputs is still in those of the trained one.
"""

from __future__ import annotations

import math

import numpy as np
import xarray as xr
from torch import Tensor

from descent.probes import Networks, probe


@probe("predictions", dims=("example",), needs=("test",))
def predictions(networks: Networks) -> Tensor:
    """The class that a network gives each test example, (K, n)."""
    return networks.outputs("test").argmax(-2)


@probe("echo", needs=("test",))
def echo(networks: Networks) -> Tensor:
    """The cosine of the angle between the outputs now and those of the untrained network, over the test examples, (K,).

    It is 1 for a network that has only rescaled its outputs. The mean over the classes is taken from both first: no prediction depends on it.
    """
    now, start = networks.outputs("test"), networks.gradients.outputs(networks.w0, networks.parts["test"].x)
    now, start = (f - f.mean(-2, keepdim=True) for f in (now, start))
    return (now * start).sum((-2, -1)) / (now.square().sum((-2, -1)) * start.square().sum((-2, -1))).sqrt()


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


def disagreement(classes: xr.DataArray) -> xr.DataArray:
    """How often two seeds give a test example different classes, in percentage points, averaged over all pairs of seeds.

    Args:
        classes: what `predictions` recorded, with the dimensions "seed" and "example".

    Raises:
        ValueError: fewer than two seeds.
    """
    n = classes.sizes.get("seed", 0)
    if n < 2:
        raise ValueError(f"disagreement needs two or more seeds; the array has dimensions {dict(classes.sizes)}")
    # rolled by 1, 2, ..., n - 1 places, every seed meets every other twice
    shares = [(classes != classes.roll(seed=k)).mean(["seed", "example"]) for k in range(1, n)]
    spread = 100 * sum(shares) / (n - 1)
    return spread.rename("disagreement").assign_attrs(long_name="disagreement of seeds", symbol="", units="points", role="distance")


def forgetting_time(share: xr.DataArray) -> xr.DataArray:
    """The time T of the exponential e^{-t/T} that is nearest to `share` over its steps, in least squares.

    Every recorded step has a say. The step at which a curve crosses some level hangs on a single one of them,
    and on its noise. T is found to 0.5 %; a curve that does not fall has the largest T looked for.

    Args:
        share: what is left of the memory, against "step"; at the steps 100, 200, 400, ... all T count alike.

    Raises:
        ValueError: fewer than two steps after step 0.
    """
    steps = share.step.values[share.step.values > 0] if "step" in share.dims else []
    if len(steps) < 2:
        raise ValueError(f"forgetting_time needs a curve over two or more steps after step 0; this has the dimensions {dict(share.sizes)}")
    span = math.log(100 * steps.max() / steps.min())
    times = xr.DataArray(np.geomspace(steps.min() / 10, 10 * steps.max(), math.ceil(span / 0.005)), dims="time")
    misfit = ((share - np.exp(-share.step / times)) ** 2).sum("step", skipna=False)
    found = times.isel(time=misfit.fillna(math.inf).argmin("time")).where(misfit.notnull().all("time"))
    return found.rename("forgetting_time").assign_attrs(long_name="forgetting time", symbol="T", units="updates", role="distance")
