"""Results of sweeps on disk, found again by the content of their recipe."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import torch
import xarray as xr

_MAGIC = b"descent 1\n"


def folder() -> Path | None:
    """Where results are kept: the folder named by `DESCENT_CACHE`, by default the user's
    cache folder; None when `DESCENT_CACHE` is "off"."""
    chosen = os.environ.get("DESCENT_CACHE", "")
    if chosen == "off":
        return None
    return Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "descent" / "sweeps"


@cache
def _library() -> bytes:
    """A digest of the library's own source: a changed model never meets an old result."""
    sources = sorted(Path(__file__).parent.rglob("*.py"))
    return hashlib.sha256(b"".join(s.read_bytes() for s in sources)).digest()


def _feed(h: Any, value: Any) -> None:
    """Add `value` to the hash `h`, with its type, so that equal bytes of unequal things differ."""
    h.update(type(value).__qualname__.encode() + b":")
    if isinstance(value, torch.Tensor):
        _feed(h, value.cpu().numpy())
    elif isinstance(value, np.ndarray):
        h.update(f"{value.dtype}{value.shape}".encode() + np.ascontiguousarray(value).tobytes())
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            _feed(h, field.name)
            _feed(h, getattr(value, field.name))
    elif isinstance(value, dict):
        for key in sorted(value, key=repr):
            _feed(h, key)
            _feed(h, value[key])
    elif isinstance(value, list | tuple):
        h.update(str(len(value)).encode())
        for item in value:
            _feed(h, item)
    elif callable(value):
        h.update(cloudpickle.dumps(value))
    else:
        h.update(repr(value).encode())
    h.update(b";")


def digest(recipe: Any) -> str:
    """Hexadecimal SHA-256 of a recipe, this library's source and the version of PyTorch.

    Tensors and arrays count by content, functions by their code and what they close over.
    """
    h = hashlib.sha256(_library() + torch.__version__.encode())
    _feed(h, recipe)
    return h.hexdigest()


def load(key: str) -> xr.Dataset | None:
    """The result stored under `key`; None if there is none or the file is not whole."""
    where = folder()
    if where is None or not (where / key).is_file():
        return None
    magic, checksum, content = _MAGIC, 64, (where / key).read_bytes()
    stored = content[len(magic) + checksum :]
    header = magic + hashlib.sha256(stored).hexdigest().encode()
    if not stored or content[: len(header)] != header:
        return None
    return xr.load_dataset(bytes(stored), engine="scipy")


def save(key: str, dataset: xr.Dataset) -> None:
    """Store a result under `key`. The file appears whole or not at all; a full disk loses only the cache."""
    where = folder()
    if where is None:
        return
    stored = bytes(dataset.to_netcdf(engine="scipy"))
    try:
        where.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=where, delete=False) as file:
            file.write(_MAGIC + hashlib.sha256(stored).hexdigest().encode() + stored)
        os.replace(file.name, where / key)
    except OSError:
        return
