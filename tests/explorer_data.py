"""Hand-made Datasets of the shape `sweep` returns, small enough to know every value."""

import numpy as np
import xarray as xr


def runs(lr=(0.05, 0.1, 0.2, 0.5, 1.0, 2.5), batch_size=(8, 32, 1000), init_scale=(0.5, 1.0, 2.0),
         optimizer=("sgd", "adamw"), seeds=3, steps=200, every=1) -> xr.Dataset:  # fmt: skip
    """Loss falling as exp(-lr t), sharpness rising to 2 / lr; the largest learning rate diverges."""
    generator = np.random.default_rng(0)
    step = np.arange(0, steps * every, every)
    coords = {
        "lr": list(lr), "batch_size": list(batch_size), "init_scale": list(init_scale),
        "optimizer": list(optimizer), "seed": np.arange(seeds), "step": step,
    }  # fmt: skip
    grid = xr.Dataset(coords=coords)
    rate = grid.lr * xr.where(grid.optimizer == "sgd", 0.05, 0.1)
    noise = xr.DataArray(generator.normal(size=(len(batch_size), seeds, steps)), dims=("batch_size", "seed", "step"))
    floor = 0.004 * grid.lr / grid.batch_size**0.5
    loss = grid.init_scale * np.exp(-rate * grid.step / every) + floor * (1.3 + np.tanh(noise)) + 1e-4
    rise = 1 - np.exp(-0.02 * grid.step / every * (1 + 0 * grid.lr))
    sharpness = 2 + (2 / grid.lr - 2).clip(-1, 48) * rise + 0.3 * noise / grid.batch_size**0.5
    accuracy = 0.1 + 0.87 * (1 - np.exp(-rate * grid.step / every)) / (1 + 0.1 * grid.init_scale)
    limit = xr.where((grid.lr >= 2.5) & (grid.optimizer == "sgd"), 60.0 * every + 20 * every * grid.seed, np.nan)
    limit = limit.where((grid.batch_size < 1000) | (grid.seed < 1))  # full batch: one seed of them only
    limit = limit.broadcast_like(grid.init_scale).transpose(*list(coords)[:-1])
    alive = ~(grid.step >= limit)
    data = {"loss": loss, "sharpness": sharpness, "test_accuracy": accuracy}
    data = {name: v.where(alive).transpose(*coords) for name, v in data.items()}
    return xr.Dataset(data | {"diverged_at": limit}, coords=coords)


def retrained(ds, **setting) -> xr.Dataset:
    """A stand-in for `retrain`: the same closed form at one further setting."""
    generous = {"lr": 0.1, "batch_size": 32, "init_scale": 1.0, "optimizer": "sgd"} | setting
    return runs(**{name: (value,) for name, value in generous.items()}, seeds=ds.sizes["seed"], steps=ds.sizes["step"])


TEXT = {"caption": "Larger learning rates settle at lower sharpness.", "alt": "Loss falls and sharpness rises to 2/η."}
