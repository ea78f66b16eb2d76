"""Groups of examples whose losses see-saw (Rosenfeld & Risteski 2023)."""

from __future__ import annotations

import numpy as np
import xarray as xr


def opposing_groups(losses: xr.DataArray, count: int = 50) -> xr.Dataset:
    """Split the examples whose losses change most from step to step by the direction of the change.

    Of every network the `count` examples with the largest mean |change of loss| are taken.
    Those whose changes correlate positively over time with those of the first make group
    "up", the others group "down".

    Args:
        losses: loss of each example, dims (..., step, example), such as a sweep's
            "example_losses" measured at every step of a window.

    Returns:
        `loss` (..., group, step): mean loss of each group, NaN for an empty one;
        `member` (..., group, example): whether an example belongs to it;
        `change` (..., example): mean |change of loss| per step.

    Raises:
        ValueError: a dimension is missing, fewer than three steps, or fewer examples than `count`.
    """
    if missing := {"step", "example"} - set(losses.dims):
        raise ValueError(f"losses need the dimensions 'step' and 'example'; {sorted(missing)} missing from {losses.dims}")
    if losses.sizes["step"] < 3 or not 2 <= count <= losses.sizes["example"]:
        raise ValueError(
            f"give at least 3 steps and 2 to {losses.sizes['example']} examples; got {losses.sizes['step']} steps, count={count}"
        )
    losses = losses.astype(float)
    changes = losses.diff("step")
    change = abs(changes).mean("step")
    order = change.argsort(axis=change.get_axis_num("example"))
    rank = order.copy(data=np.argsort(order.values, axis=order.get_axis_num("example")))
    first = changes.isel(example=change.argmax("example"))
    up = xr.corr(changes, first, "step") > 0
    chosen = rank >= losses.sizes["example"] - count
    member = xr.concat([chosen & up, chosen & ~up], dim="group").assign_coords(group=["up", "down"])
    return xr.Dataset({"loss": losses.where(member).mean("example"), "member": member, "change": change})
