"""The fingerprint of a recipe: equal recipes have equal ones, in any process; changed ones never do.

Everything counts by its content, followed as far as it leads: numbers, tensors and arrays by
their bytes; functions by their bytecode, defaults, what they close over and the global
variables they read; classes by their methods, attributes and bases; other objects by the state
they would be pickled with. Installed packages count by the record of their installation, this
library by its code as it is loaded. Where a function stands in its file or notebook, comments,
the order of a set and the process's hash seed do not count.

A function must not depend on what cannot be read off it: files, the environment, the clock, random numbers of a
global generator, names looked up at run time.
"""

from __future__ import annotations

import copyreg
import dis
import functools
import hashlib
import importlib
import os
import pickle
import re
import sys
import types
import uuid
from collections.abc import Iterable
from importlib.machinery import ExtensionFileLoader
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path
from typing import Any

import numpy as np
import torch

LIBRARY = Path(__file__).parents[1]
STANDARD_LIBRARY = Path(os.__file__).parent

_PLAIN = frozenset({type(None), bool, int, float, complex, str, bytes, type(...), type(NotImplemented),
                    torch.dtype, torch.device, torch.Size, torch.layout, torch.memory_format})  # fmt: skip
_CACHED = type(functools.cache(len))
_COMPILED = (types.BuiltinFunctionType, types.MethodWrapperType)
_DESCRIPTORS = (types.WrapperDescriptorType, types.MethodDescriptorType, types.ClassMethodDescriptorType,
                types.GetSetDescriptorType, types.MemberDescriptorType)  # fmt: skip
#: what a module or a class carries that says nothing about what it does
_INCIDENTAL = {"__annotations__", "__annotate__", "__annotate_func__", "__annotations_cache__", "__builtins__", "__cached__", "__dict__",
               "__doc__", "__file__", "__firstlineno__", "__loader__", "__module__", "__name__", "__package__", "__path__", "__qualname__",
               "__slotnames__", "__spec__", "__static_attributes__", "__weakref__", "_abc_impl"}  # fmt: skip


def digest(*recipe: Any) -> str:
    """The fingerprint, 64 hexadecimal digits.

    Where a part of the recipe has no content that could be read (an open file, a generator),
    a name that is used only once, and says what it was: better no stored result than a wrong one.
    """
    fingerprint = _Fingerprint()
    try:
        fingerprint.feed((sys.version, np.__version__, torch.__version__, torch.get_default_dtype(), _float32(), recipe))
    except Exception as error:  # pickling runs the objects' own code, which may raise anything
        return f"{uuid.uuid4().hex}: {type(error).__name__}: {error}"
    return fingerprint.hash.hexdigest()


def _float32() -> tuple[Any, ...]:
    """How exact PyTorch is with float32: it may be told to put TF32 or bfloat16 in its place."""
    read, has = [], torch.backends
    for ask in (torch.get_float32_matmul_precision, lambda: has.cudnn.allow_tf32, lambda: has.cuda.matmul.fp32_precision,
                lambda: has.cudnn.conv.fp32_precision, lambda: has.mkldnn.matmul.fp32_precision, lambda: has.mkldnn.conv.fp32_precision):  # fmt: skip
        try:
            read.append(ask())
        except (AttributeError, RuntimeError):  # one interface cannot read what the other has set, and older versions have only one
            read.append(None)
    return tuple(read)


class _Fingerprint:
    def __init__(self, seen: dict[int, tuple[int, Any]] | None = None) -> None:
        self.hash = hashlib.sha256()
        #: id -> (number, object) of all that was fed and may be met again; the object is kept so that its id stays its own
        self.seen = {} if seen is None else seen

    def put(self, kind: str, content: Any = b"") -> None:
        """Add bytes, framed, so that different sequences of calls never give the same stream."""
        self.hash.update(f"{kind} {len(content)}:".encode())
        self.hash.update(content)

    def feed(self, value: Any) -> None:
        """Add a value."""
        kind = type(value)
        if kind in _PLAIN:
            return self.put(kind.__name__, value if kind is bytes else repr(value).encode())
        if kind is tuple:
            return self.all("tuple", value)
        if kind is types.CodeType:
            return self.put("code", _code(value))
        if id(value) in self.seen:
            return self.put("again", str(self.seen[id(value)][0]).encode())
        self.seen[id(value)] = len(self.seen), value
        if isinstance(value, torch.Tensor):
            self.tensor(value)
        elif kind is np.ndarray and not value.dtype.hasobject or isinstance(value, np.generic):
            self.put(f"array {value.dtype} {value.shape}", np.ascontiguousarray(value).reshape(-1).view(np.uint8))
        elif kind is np.ndarray:
            self.all(f"array {value.shape}", value.flat)
        elif kind is list:
            self.all("list", value)
        elif kind is dict or kind is types.MappingProxyType:
            self.all("dict", (part for item in value.items() for part in item))
        elif kind is set or kind is frozenset:
            self.set(value)
        elif kind is types.FunctionType:
            self.function(value)
        elif kind is types.MethodType:
            self.all("method", (value.__func__, value.__self__))
        elif kind in _COMPILED:
            self.all("compiled", (value.__name__, value.__self__ if value.__self__ is not None else importlib.import_module(value.__module__)))
        elif kind in _DESCRIPTORS:
            self.all("descriptor", (value.__name__, value.__objclass__))
        elif isinstance(value, type):
            self.type(value)
        elif isinstance(value, types.ModuleType):
            self.module(value)
        elif kind is types.CellType:
            self.cell(value)
        elif kind is property:
            self.all("property", (value.fget, value.fset, value.fdel))
        elif kind is functools.cached_property:
            self.all("cached property", (value.func,))
        elif kind is _CACHED:
            self.all("cached function", (value.__wrapped__, value.cache_parameters()))
        elif kind is staticmethod or kind is classmethod:
            self.all(kind.__name__, (value.__func__,))
        else:
            self.instance(value)

    def all(self, kind: str, parts: Iterable) -> None:
        parts = tuple(parts)
        self.put(kind, str(len(parts)).encode())
        for part in parts:
            self.feed(part)

    def set(self, value: set | frozenset) -> None:
        elements = []
        for element in value:
            one = _Fingerprint(dict(self.seen))
            one.feed(element)
            elements.append(one.hash.digest())
        self.put(type(value).__name__, b"".join(sorted(elements)))

    def tensor(self, value: torch.Tensor) -> None:
        whole = value.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
        self.put(f"tensor {value.dtype} {tuple(value.shape)} {value.requires_grad}", whole.view(torch.uint8).numpy())
        self.all("of", (type(value), vars(value)))

    def function(self, function: types.FunctionType) -> None:
        package = _package(function.__code__.co_filename)
        if package and _importable(function):
            return self.all("installed", (package, function.__module__, function.__qualname__))
        self.all("function", (package, function.__code__, function.__defaults__, function.__kwdefaults__, vars(function), function.__closure__))
        if package:  # made inside a function of the package, which fixes the rest
            return
        loaded, imported = _names(function.__code__)
        for name in loaded:
            if name in function.__globals__:
                self.all("global", (name, function.__globals__[name]))
        for name in imported:
            self.all("import", (importlib.import_module(name),))

    def cell(self, cell: types.CellType) -> None:
        try:
            self.all("cell", (cell.cell_contents,))
        except ValueError:
            self.put("empty cell")

    def type(self, cls: type) -> None:
        package = _package_of(cls.__module__)
        heap_type = cls.__flags__ & 1 << 9  # the others are written in C
        if package and (_importable(cls) or not heap_type):
            return self.all("installed", (package, cls.__module__, cls.__qualname__))
        attributes = {name: value for name, value in vars(cls).items() if name not in _INCIDENTAL}
        self.all("class", (package, cls.__name__, type(cls), cls.__bases__, attributes))

    def module(self, module: types.ModuleType) -> None:
        if package := _package_of(module.__name__):
            return self.all("installed", (package, module.__name__))
        if isinstance(module.__loader__, ExtensionFileLoader):
            self.put("extension", Path(module.__file__).read_bytes())
        self.all("module", ((name, vars(module)[name]) for name in sorted(vars(module)) if name not in _INCIDENTAL))

    def instance(self, value: Any) -> None:
        """Any other object: what pickle would store of it."""
        reduce = copyreg.dispatch_table.get(type(value))
        reduced = reduce(value) if reduce else value.__reduce_ex__(4)
        if isinstance(reduced, str):  # the name of a global
            module = pickle.whichmodule(value, reduced)
            package = _package_of(module)
            if not package or getattr(sys.modules[module], reduced, None) is not value:
                raise TypeError(f"{value!r} is known only by its name")
            return self.all("installed", (package, module, reduced))
        make, arguments, state, items, pairs = (*reduced[:5], *[None] * (5 - len(reduced[:5])))
        if isinstance(state, dict):  # without what it computes itself when it is first asked
            computed = {name for cls in type(value).__mro__ for name, a in vars(cls).items() if type(a) is functools.cached_property}
            state = {name: part for name, part in state.items() if name not in computed}
        self.all("instance", (type(value), make, arguments, state, *(None if i is None else tuple(i) for i in (items, pairs)), *reduced[5:]))


def _code(code: types.CodeType) -> bytes:
    """A digest of what code does, not of where it stands."""
    if id(code) not in _codes:
        one = _Fingerprint()
        one.all("code", (
            code.co_code, code.co_consts, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars, code.co_name,
            code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags, code.co_exceptiontable,
        ))  # fmt: skip
        _codes[id(code)] = code, one.hash.digest()
    return _codes[id(code)][1]


#: id -> (code, its digest): code never changes; kept, so that its id stays its own
_codes: dict[int, tuple[types.CodeType, bytes]] = {}


@functools.lru_cache(maxsize=10_000)
def _names(code: types.CodeType) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The global variables that code, and the code inside it, reads, and the modules it imports."""
    loaded, imported = {}, {}
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"):
            loaded[instruction.argval] = None
        elif instruction.opname == "IMPORT_NAME":
            imported[instruction.argval] = None
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            for all_names, names in zip((loaded, imported), _names(inner)):
                all_names.update(dict.fromkeys(names))
    return tuple(loaded), tuple(imported)


def _importable(value: Any) -> bool:
    """Whether the module and the name that a function or class says it has lead to itself."""
    found = sys.modules.get(value.__module__)
    for name in value.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is value


def _package_of(module: str | None) -> str | None:
    """As `_package`, for a module by its name."""
    top = (module or "").partition(".")[0]
    if top == "__main__":  # the session's own, whatever program runs it
        return None
    found = sys.modules.get(top)
    file = getattr(found, "__file__", None) or next(iter(getattr(found, "__path__", [])), None)
    return _package(file) if file else "python" if top in sys.builtin_module_names else None


@functools.cache
def _package(file: str) -> str | None:
    """What identifies the installed package that a file belongs to; None for code that counts by its content."""
    path = Path(file)
    if path.is_relative_to(LIBRARY):
        return None
    places = [i for i, part in enumerate(path.parts) if part in ("site-packages", "dist-packages")]
    if places:
        return _record(path.parts[places[-1] + 1].partition(".")[0])
    return "python" if file.startswith("<frozen ") or path.is_relative_to(STANDARD_LIBRARY) else None


@functools.cache
def _record(top: str) -> str | None:
    """A hash over the hashes of all files of what installed the package `top`; None if nothing says that it did."""
    try:
        record = distribution(top).read_text("RECORD") or ""
    except PackageNotFoundError:
        record = ""
    if not re.search(rf"^{re.escape(top)}[./]", record, re.MULTILINE):  # installed under another name: the long way
        names = sorted(set(packages_distributions().get(top, ())))
        record = "".join(distribution(name).read_text("RECORD") or distribution(name).version for name in names)
    return hashlib.sha256(record.encode()).hexdigest() if record else None
