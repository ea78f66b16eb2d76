"""Results of sweeps on disk, found again by the content of their recipe.

`sweep` looks here before it trains: a result of the same model, data, loss, hyperparameters,
seeds, probes and code comes back as it was stored, `seconds` included. `contents()` shows what
is kept and `clear()` removes it; `python -m descent.cache` does both from a terminal.

Two environment variables decide where and how much: `DESCENT_CACHE`, a folder (by default in the
user's cache folder) or "off", and `DESCENT_CACHE_LIMIT`, a size such as "500MB" (by default
2 GB). Beyond it, the results not used for longest go first. Whatever happens to the files, a
sweep does not fail for it: it trains again, and a warning says once why a result is not kept.
"""

from __future__ import annotations

import hashlib
import html
import json
import math
import os
import re
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pooch
import xarray as xr

from descent.cache.fingerprint import digest

__all__ = ["clear", "contents", "digest", "folder", "limit", "load", "save"]

#: a file starts with this and the SHA-256 of the rest: one line of JSON that describes the Dataset, then its arrays
_MAGIC = b"descent 2\n"
_KEY = re.compile("[0-9a-f]{64}")
#: name of a file that is being written, and seconds after which whoever wrote it must have been killed
_PART, _ABANDONED = "part-", 3600.0
_UNITS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def folder() -> Path | None:
    """Where results are kept: the folder named by `DESCENT_CACHE`, by default `sweeps` in the user's
    cache folder; None when `DESCENT_CACHE` is "off"."""
    chosen = os.environ.get("DESCENT_CACHE", "")
    if chosen == "off":
        return None
    return Path(os.path.expanduser(chosen)) if chosen else Path(pooch.os_cache("descent")) / "sweeps"


def limit() -> float:
    """Bytes that the results may take together, from `DESCENT_CACHE_LIMIT`; by default 2 GB.

    Raises:
        ValueError: it is no size.
    """
    written = os.environ.get("DESCENT_CACHE_LIMIT") or "2GB"
    found = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*([kmgt]?i?)b?", written.strip().lower())
    if not found or found[2] not in _UNITS:
        raise ValueError(f"DESCENT_CACHE_LIMIT={written!r} is no size; give one such as '500MB' or '2GB'")
    return float(found[1]) * _UNITS[found[2]]


def load(key: str) -> xr.Dataset | None:
    """The result stored under `key`; None if there is none. A file that is not whole is removed.

    Raises:
        ValueError: `DESCENT_CACHE_LIMIT` makes no sense.
    """
    where = folder()
    if where is None:
        return None
    limit()  # refused now, before anything is trained
    if not _KEY.fullmatch(key):
        _tell(f"this sweep's result is not kept, its recipe cannot be read: {key.partition(': ')[2]}")
        return None
    try:
        with open(where / key, "rb") as file:
            dataset = _read(file)
    except OSError:
        return None
    except Exception:  # there is no end to what may be wrong with a file
        _remove(where / key)
        return None
    with suppress(OSError):
        os.utime(where / key)
    return dataset


def save(key: str, dataset: xr.Dataset) -> None:
    """Store a result under `key` and remove the least recently used ones beyond the limit.

    The file appears whole or not at all. What cannot be stored is not, and a warning says why.
    """
    where = folder()
    if where is None or not _KEY.fullmatch(key):
        return
    part = None
    try:
        pieces = _pieces(dataset)
        if sum(memoryview(piece).nbytes for piece in pieces) > limit():
            raise ValueError(f"it is larger than {_bytes(limit())}, the limit for all results (DESCENT_CACHE_LIMIT)")
        where.mkdir(parents=True, exist_ok=True)
        descriptor, part = tempfile.mkstemp(prefix=_PART, dir=where)
        with open(descriptor, "wb") as file:
            for piece in pieces:
                file.write(piece)
        os.replace(part, where / key)
        part = None
        _tidy(where)
    except (OSError, TypeError, ValueError) as error:
        _tell(f"a result is not kept in {where}: {error}")
    finally:
        if part is not None:
            _remove(part)


# -- files -------------------------------------------------------------------------------


def _pieces(dataset: xr.Dataset) -> list[bytes | np.ndarray]:
    """The content of a Dataset's file, in order."""
    described, arrays = [], []
    for name, variable in dataset.variables.items():
        array = np.ascontiguousarray(variable.values)
        if array.dtype.hasobject:
            raise TypeError(f"{name!r} holds Python objects")
        described.append([name, list(variable.dims), array.dtype.str, list(variable.shape), variable.attrs, name in dataset.coords])
        arrays.append(array.reshape(-1).view(np.uint8))
    description = json.dumps({"attrs": dataset.attrs, "variables": described}).encode() + b"\n"
    checksum = hashlib.sha256(description)
    for array in arrays:
        checksum.update(array)
    return [_MAGIC + checksum.hexdigest().encode(), description, *arrays]


def _describe(file: BinaryIO) -> tuple[bytes, bytes]:
    """The checksum and the description at the head of a file."""
    if file.read(len(_MAGIC)) != _MAGIC:
        raise ValueError("not a result of this version")
    return file.read(64), file.readline()


def _read(file: BinaryIO) -> xr.Dataset:
    """The Dataset in a file.

    Raises:
        Exception: the file is torn, changed or of another kind.
    """
    expected, line = _describe(file)
    checksum, described = hashlib.sha256(line), json.loads(line)
    variables: dict[bool, dict[str, xr.Variable]] = {False: {}, True: {}}
    for name, dims, dtype, shape, attrs, is_coordinate in described["variables"]:
        array = np.empty(shape, dtype)
        content = array.reshape(-1).view(np.uint8)
        if file.readinto(content) < len(content):
            raise ValueError("torn")
        checksum.update(content)
        variables[is_coordinate][name] = xr.Variable(dims, array, attrs)
    if checksum.hexdigest().encode() != expected or file.read(1):
        raise ValueError("changed")
    return xr.Dataset(variables[False], variables[True], described["attrs"])


def _remove(path: str | Path) -> bool:
    """Remove a file; whether that was possible."""
    try:
        os.unlink(path)
    except OSError:
        return False
    return True


def _files(where: Path) -> list[tuple[os.DirEntry, os.stat_result]]:
    """The results in the folder and those being written, least recently used first. Other files are not ours."""
    found = []
    with suppress(OSError), os.scandir(where) as entries:
        for entry in entries:
            with suppress(OSError):  # removed by another process since
                if (_KEY.fullmatch(entry.name) or entry.name.startswith(_PART)) and entry.is_file(follow_symlinks=False):
                    found.append((entry, entry.stat(follow_symlinks=False)))
    return sorted(found, key=lambda f: (f[1].st_mtime_ns, f[0].name))


def _tidy(where: Path) -> None:
    """Remove what killed processes left half written, and the least recently used results beyond the limit."""
    kept = []
    for entry, stat in _files(where):
        if _KEY.fullmatch(entry.name):
            kept.append((entry, stat))
        elif time.time() - stat.st_mtime > _ABANDONED:
            _remove(entry.path)
    total, allowed = sum(stat.st_size for _, stat in kept), limit()
    for entry, stat in kept:
        if total <= allowed:
            break
        _remove(entry.path)  # or another process did, at the same moment
        total -= stat.st_size


@cache
def _tell(message: str) -> None:
    """Warn, the first time that a message comes up."""
    warnings.warn(message, stacklevel=4)  # where `sweep` was called


# -- to see and clear it -----------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """One stored result.

    Attributes:
        key: its name in the folder, the fingerprint of its recipe.
        task: name of the task.
        grid: dimensions and their lengths, in words.
        size: bytes.
        used: when it was last stored or loaded.
        seconds: what training took.
    """

    key: str
    task: str
    grid: str
    size: int
    used: datetime
    seconds: float


@dataclass(frozen=True)
class Contents:
    """The stored results, most recently used first. Displayed as a table in a notebook.

    Attributes:
        entries: the results.
        folder: where they are; None if the cache is off.
        limit: bytes that they may take.
    """

    entries: tuple[Entry, ...]
    folder: Path | None
    limit: float

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    @property
    def size(self) -> int:
        """Bytes of all results."""
        return sum(e.size for e in self)

    @property
    def seconds(self) -> float:
        """What training all of them took."""
        return sum(e.seconds for e in self)

    @property
    def _summary(self) -> str:
        if self.folder is None:
            return 'The cache is off (DESCENT_CACHE="off").'
        return f"{len(self)} result{'s' * (len(self) != 1)}, {_bytes(self.size)} of at most {_bytes(self.limit)}, {_duration(self.seconds)} of training, in {self.folder}"

    @property
    def _rows(self) -> list[tuple[str, ...]]:
        head = ("task", "grid", "size", "last used", "seconds")
        return [head, *((e.task, e.grid, _bytes(e.size), f"{e.used:%Y-%m-%d %H:%M}", f"{e.seconds:.1f}") for e in self)]

    def __repr__(self) -> str:
        rows = self._rows if self.entries else []
        widths = [max(map(len, column)) for column in zip(*rows)]
        lines = ["  ".join(cell.rjust(w) if i in (2, 4) else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths))) for row in rows]
        return "\n".join([*lines, self._summary])

    def _repr_html_(self) -> str:
        head, *rows = ([html.escape(cell) for cell in row] for row in self._rows)
        top = "".join(f"<th scope='col'>{cell}</th>" for cell in head)
        body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
        table = f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody>" if rows else ""
        return f"<table class='descent-cache'><caption>{html.escape(self._summary)}</caption>{table}</table>"


def contents() -> Contents:
    """What is stored, and where."""
    where = folder()
    entries = [] if where is None else [_entry(Path(f.path), stat) for f, stat in _files(where) if _KEY.fullmatch(f.name)]
    return Contents(tuple(reversed(entries)), where, limit())


def clear(task: str | None = None, unused_days: float = 0.0) -> int:
    """Remove stored results, all of them unless told otherwise, and then the compiled modules of pages too.

    Args:
        task: only those whose task's name contains this.
        unused_days: only those not used for so many days.

    Returns:
        How many were removed.

    Raises:
        ValueError: `unused_days` is not a number of at least 0.
    """
    if not 0 <= unused_days < math.inf:
        raise ValueError(f"unused_days={unused_days!r} must be a number of at least 0")
    where, before = folder(), time.time() - 86400 * unused_days
    if where is None:
        return 0
    _tidy(where)
    if task is None and not unused_days:
        shutil.rmtree(where / "modules", ignore_errors=True)
    chosen = [e for e in contents() if (task is None or task in e.task) and e.used.timestamp() <= before]
    return sum(_remove(where / e.key) for e in chosen)


def _entry(path: Path, stat: os.stat_result) -> Entry:
    task, grid, seconds = "(not readable)", "", 0.0
    with suppress(Exception):  # as in `load`
        with open(path, "rb") as file:
            described: dict[str, Any] = json.loads(_describe(file)[1])
        attrs = described["attrs"]
        lengths = {name: shape[0] for name, dims, _, shape, *_ in described["variables"] if dims == [name]}
        task, grid, seconds = attrs["task"], " × ".join(f"{length} {name}" for name, length in lengths.items()), float(attrs["seconds"])
    return Entry(path.name, task, grid, stat.st_size, datetime.fromtimestamp(stat.st_mtime), seconds)


def _bytes(size: float) -> str:
    """A size in words: 0 B, 12 kB, 3.4 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def _duration(seconds: float) -> str:
    """A time in words: 12 s, 3 min, 1.5 h."""
    for unit, length in (("s", 1), ("min", 60)):
        if seconds < 99.5 * length:
            return f"{seconds / length:.2g} {unit}"
    return f"{seconds / 3600:.2g} h"
