"""A package: what the page needs to train the networks of a sweep at any setting."""

from __future__ import annotations

import base64
import gzip
import hashlib
import importlib.util
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sympy
import torch

from descent import cache
from descent.browser.lower import CTYPE, Buffer, Unsupported, lower
from descent.browser.trace import Program, trace
from descent.seeding import LARGEST_SEED
from descent.sweep import Plan, _plan
from descent.task import Task

_HERE = Path(__file__).parent
_FLAGS = """--target=wasm32-freestanding -mcpu=generic+simd128+bulk_memory -O3 -fno-unroll-loops -ffast-math -fno-finite-math-only -fwrapv
    -ffreestanding -nostdlib -Wno-everything -Wl,--no-entry -Wl,--export-dynamic -Wl,--strip-all -Wl,-z,stack-size=65536""".split()
#: factors below and beyond the swept values that a reader may choose
_REACH = 10.0
_BELOW_ONE = ("momentum", "beta1", "beta2")


@dataclass(frozen=True)
class Package:
    """A compiled training.

    Attributes:
        module: the WebAssembly module.
        data: the contents of its data variables, one after another.
        description: what the page must know (see `compile`).
    """

    module: bytes
    data: bytes
    description: dict[str, Any]

    def json(self) -> dict[str, Any]:
        """What a page carries: module and data gzipped in base64, the worker's source, the description."""
        parts = {"module": self.module, "data": self.data}
        packed = {name: base64.b64encode(gzip.compress(part, 9, mtime=0)).decode() for name, part in parts.items()}
        return packed | {"worker": (_HERE / "worker.js").read_text(encoding="utf-8"), "description": self.description}

    def run(self, setting: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Train without a browser, as the worker does.

        Args:
            setting: a value for each of the description's hyperparameters, and "seeds".

        Returns:
            Recorded quantities (seeds, records), and "diverged_at" (seeds,).

        Raises:
            ValueError: a value is missing or out of range.
        """
        import wasmtime

        d = self.description
        check(d, setting)
        store = wasmtime.Store()
        exports = wasmtime.Instance(store, wasmtime.Module(store.engine, self.module), []).exports(store)
        memory = exports["memory"]

        def write(name: str, values: np.ndarray) -> None:
            memory.write(store, values.tobytes(), exports[name].value(store))

        def read(name: str, dtype: str, *shape: int) -> np.ndarray:
            start = exports[name].value(store)
            found = memory.read(store, start, start + math.prod(shape) * np.dtype(dtype).itemsize)
            return np.frombuffer(bytes(found), dtype).reshape(shape)

        start = 0
        for name, size in d["variables"]:
            memory.write(store, self.data[start : start + size], exports[name].value(store))
            start += size
        write("seeds", np.array(setting["seeds"], "<i8"))
        for name, allowed in d["hyperparameters"].items():
            if "choices" in allowed:
                write(name, np.array(allowed["choices"].index(setting[name]), "<i4"))
            elif allowed["integer"]:
                write(name, np.array(setting[name], "<i4"))
            else:
                write(f"h_{name}", np.array(setting[name], "<f4"))
        exports["begin"](store)
        columns = {t: i for i, t in enumerate(d["record_steps"])}
        curves = np.full((len(d["record"]), d["seeds"], len(columns)), np.nan, np.float32)
        for t in range(d["steps"] + 1):
            if t in columns:
                exports["measure"](store)
                curves[:, :, columns[t]] = read("recorded", "<f4", len(d["record"]), d["seeds"])
            exports["step"](store)  # the one after the last tells which networks have diverged in that
        return dict(zip(d["record"], curves)) | {"diverged_at": read("diverged_at", "<f4", d["seeds"])}


def check(description: Mapping[str, Any], setting: Mapping[str, Any]) -> None:
    """Raise a ValueError that names the first value of a setting that the description does not allow."""
    allowed = description["hyperparameters"]
    if set(setting) != {*allowed, "seeds"}:
        raise ValueError(f"a setting has {sorted([*allowed, 'seeds'])}, not {sorted(setting)}")
    if len(setting["seeds"]) != description["seeds"]:
        raise ValueError(f"seeds={setting['seeds']!r}: give {description['seeds']} of them")
    values = [(name, setting[name], rule) for name, rule in allowed.items()]
    values += [("seed", seed, description["seed"]) for seed in setting["seeds"]]
    for name, value, rule in values:
        if "choices" in rule:
            if value not in rule["choices"]:
                raise ValueError(f"{name}={value!r}; choose from {rule['choices']}")
        elif not rule["min"] <= value <= rule["max"] or rule["integer"] and value != int(value):
            kind = "whole numbers" if rule["integer"] else "numbers"
            raise ValueError(f"{name}={value!r}; allowed: {kind} from {rule['min']} to {rule['max']}")


def compile(task: Task, arguments: Mapping[str, Any]) -> Package:
    """Compile what `sweep(task, **arguments)` trains, for any setting of what it sweeps.

    The description of the package holds the hyperparameters that vary, with their ranges; the number
    of networks trained at once, one per seed; the steps; what is recorded and when.

    Raises:
        Unsupported: the page cannot run an operation of it; the error names it and where it is used.
        ValueError, TypeError: `sweep` would refuse the arguments.
    """
    plan = _plan(task, {"autograd": False, "schedule": None} | dict(arguments) | {"device": "cpu"})
    program = trace(task, plan)
    module = build(source(program, plan))
    data = {name: tensor.contiguous().numpy().tobytes() for name, tensor in program.data.items()}
    description = {
        "hyperparameters": {name: _range(name, values, len(task.data)) for name, values in plan.dims.items() if name != "seed"},
        "seeds": len(plan.dims["seed"]),
        "seed": {"min": 0, "max": LARGEST_SEED, "integer": True},
        "steps": plan.steps,
        "record_steps": plan.record_steps,
        "record": program.recorded,
        "variables": [[name, len(content)] for name, content in data.items()],
    }
    return Package(module, b"".join(data.values()), description)


def _range(name: str, values: list, examples: int) -> dict[str, Any]:
    """The values that the page may choose for a swept hyperparameter."""
    if name == "optimizer":
        return {"choices": [rule.name for rule in values]}
    if name == "batch_size":
        return {"min": 1, "max": examples, "integer": True}
    if name in _BELOW_ONE:
        return {"min": 0.0, "max": 0.9999, "integer": False}
    low, high = min(values), max(values)
    if not (0 <= low and high < math.inf):
        raise Unsupported(f"a range of {name} around {values}")
    return {"min": low / _REACH, "max": high * _REACH, "integer": False}


def source(program: Program, plan: Plan) -> str:
    """The C of a whole module.

    Raises:
        Unsupported: as `compile`.
    """
    examples = len(plan.task.data)
    buffers, functions = lowered(program, examples, plan.scalars.get("batch_size", examples))
    states = [name for name in buffers if name.startswith("state_") or name == "warm"]
    zeros = " ".join(f"for (int i = 0; i < sizeof {s} / 4; i++) {s}[i] = 0;" for s in states)
    cases = " ".join(f"case {i}: f_step_{i}(); break;" for i in range(len(plan.optimizers)))
    numbers = {
        "NETWORKS": len(plan.dims["seed"]), "PARAMETERS": plan.task.parameters, "OPTIMIZERS": len(plan.optimizers),
        "QUANTITIES": len(plan.probes), "REPLACEMENT": int(program.sampling == "replacement"), "FRESH": int(program.sampling == "fresh"),
        "EVALUATED": int(any(f.name == "evaluate" for f in program.functions)), "SHARPNESS": int("product" in buffers),
    }  # fmt: skip
    return "\n".join([
        functions,
        *(f"#define {name} {value}" for name, value in numbers.items()),
        "EXPORT int optimizer = 0;",
        f"static void clear(void) {{ {zeros} }}",
        f"static void update(void) {{ switch (optimizer) {{ {cases} }} }}",
        (_HERE / "module.c").read_text(encoding="utf-8"),
    ])  # fmt: skip


def lowered(program: Program, examples: int, batch_size: int) -> tuple[dict[str, Buffer], str]:
    """The variables of a program, and the C of the kernels, the variables and the traced functions `f_<name>`.

    Args:
        examples: the largest batch size.
        batch_size: the batch size, unless the page writes another one.
    """
    buffers, functions, declared, scratch = {}, [], [], 16
    for name, tensor in program.variables.items():
        shape = tuple(n.node.expr if isinstance(n, torch.SymInt) else sympy.Integer(n) for n in tensor.shape)
        buffers[name] = b = Buffer(name, tensor.dtype, shape, persistent=True)
        declared.append(f"EXPORT {CTYPE[b.dtype]} {name}[{b.bytes(examples) // b.dtype.itemsize}] __attribute__((aligned(16)));")
    for f in program.functions:
        code, needed = lower(f"f_{f.name}", f.graph, [buffers[v] for v in f.inputs], [buffers[v] for v in f.outputs], examples)
        functions.append(code)
        scratch = max(scratch, needed)
    symbols = {str(s) for b in buffers.values() for n in b.shape for s in n.free_symbols}
    return buffers, "\n".join([
        (_HERE / "kernels.c").read_text(encoding="utf-8"),
        f"#define EXAMPLES {examples}",
        f"EXPORT int batch_size = {batch_size};",
        *(f"#define {symbol} batch_size" for symbol in symbols),
        *declared,
        f"static char scratch[{scratch}] __attribute__((aligned(16)));",
        *functions,
    ])  # fmt: skip


def build(code: str) -> bytes:
    """The WebAssembly module of a C source; kept beside the results of sweeps.

    Raises:
        ImportError: the compiler, the package `ziglang`, is not installed.
    """
    key = hashlib.sha256("\0".join([code, *_FLAGS]).encode()).hexdigest()
    where = cache.folder() and cache.folder() / "modules" / key
    if (kept := _kept(where)) is not None:
        return kept
    if importlib.util.find_spec("ziglang") is None:
        raise ImportError("the C compiler is not installed: pip install ziglang")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "module.c").write_text(code, encoding="utf-8")
        command = [sys.executable, "-m", "ziglang", "cc", *_FLAGS, "module.c", "-o", "module.wasm"]
        environment = os.environ | {"ZIG_GLOBAL_CACHE_DIR": folder, "ZIG_LOCAL_CACHE_DIR": folder}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"the C compiler failed:\n{done.stderr}")
        module = (Path(folder) / "module.wasm").read_bytes()
    if where:
        where.parent.mkdir(parents=True, exist_ok=True)
        part = where.with_suffix(f".{os.getpid()}")
        part.write_bytes(hashlib.sha256(module).digest() + module)
        os.replace(part, where)
    return module


def _kept(where: Path | None) -> bytes | None:
    """A module that was kept, behind its digest; None if there is none, or not the whole of it."""
    if where is None or not where.exists():
        return None
    content = where.read_bytes()
    digest, module = content[:32], content[32:]
    return module if hashlib.sha256(module).digest() == digest else None
