"""Groups of examples whose losses see-saw."""

import numpy as np
import pytest
import xarray as xr

from descent.probes.opposing import opposing_groups


def seesaw(examples=40, steps=20):
    """Examples 0-4 go up when 5-9 go down; the others barely move."""
    rng = np.random.default_rng(0)
    wave = np.where(np.arange(steps) % 2, 1.0, -1.0)[:, None]
    losses = 5 + 0.01 * rng.standard_normal((steps, examples))
    losses[:, :5] += wave
    losses[:, 5:10] -= 0.9 * wave
    return xr.DataArray(losses, dims=("step", "example"))


def test_finds_the_two_groups():
    found = opposing_groups(seesaw(), count=10)
    assert np.flatnonzero(found.member.sel(group="up")).tolist() == [0, 1, 2, 3, 4]
    assert np.flatnonzero(found.member.sel(group="down")).tolist() == [5, 6, 7, 8, 9]
    changes = found.loss.transpose("group", "step").diff("step")
    assert np.corrcoef(changes)[0, 1] < -0.99


def test_each_network_has_its_own_groups():
    other = seesaw().isel(example=slice(None, None, -1)).drop_vars("example", errors="ignore")
    both = xr.concat([seesaw(), other], dim="seed")
    found = opposing_groups(both, count=10)
    alone = opposing_groups(other, count=10)
    assert found.member.sel(group="up").sum("example").values.tolist() == [5, 5]
    np.testing.assert_array_equal(found.member.isel(seed=1).transpose(*alone.member.dims), alone.member)


@pytest.mark.parametrize(("losses", "count", "words"), [
    (seesaw().rename(step="time"), 10, "step"),
    (seesaw(steps=2), 10, "3 steps"),
    (seesaw(), 41, "count=41"),
])  # fmt: skip
def test_refuses(losses, count, words):
    with pytest.raises(ValueError, match=words):
        opposing_groups(losses, count)
