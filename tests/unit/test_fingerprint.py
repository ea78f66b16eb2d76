"""Fingerprints of recipes: a change is never missed, and what is no change keeps the stored result."""

import copy
import functools
import importlib
import os
import pickle
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from descent import Task, data, models, optimizers, probes
from descent.cache import digest, fingerprint
from descent.seeding import generator

engine = importlib.import_module("descent.sweep")
LIBRARY = Path(models.__file__).parent

SOURCE = """
import functools, math, torch
from dataclasses import dataclass
from descent import Task, data, models, optimizers, probes, schedules

constant = 2.0
table = {"power": 2}
tensor = torch.arange(4.0)

def factor():
    return 1.5

def helper(w):
    return factor() * w ** table["power"]

@functools.cache
def remembered(n):
    return n + 10

def decorated(f):
    @functools.wraps(torch.relu)
    def inner(*arguments):
        return 20 * f(*arguments)
    return inner

def enclosed(k):
    return lambda w, x: (k * w * w).sum(-2)

@decorated
def function(w, x, shift=3.0, *, tilt=4.0):
    '''Loss of a landscape.'''
    import math
    return (constant * helper(w) + shift + tilt + remembered(5) + tensor.sum() + [i for i in range(6)][-1] + math.pi).sum(-2)

class Between(models.MLP):
    pass

class Unit:
    def __call__(self, w, x):
        return 30 * w.sum(-2)

@dataclass(frozen=True)
class Mine(models.MLP):
    depth: int = 7
    widths: tuple = (2, 8)

    @functools.cached_property
    def doubled(self):
        return 2 * self.depth

    @property
    def nine(self):
        return 9

    @staticmethod
    def eleven(x):
        return x + 11

    @classmethod
    def twelve(cls):
        return 12

    def apply(self, params, x):
        return super().apply(params, x) * 13

@probes.probe("mine")
def mine(networks):
    return networks.w[:, 0] * 14

def rule(g, state, h):
    return -h.lr * g * 15, state

shares = {"a": [16], "b": {17, 18, "nineteen", "twenty"}}
point = data.Data("point", torch.zeros(1, 2), torch.zeros(1, 8))
recipe = [Unit, models.Function(function, 2), models.Function(enclosed(21.0), 2), Unit(), Task(Mine(), point, "mse"), mine,
          optimizers.Optimizer("mine", rule), optimizers.adam(eps=1e-6), shares, functools.partial(helper, 22), Mine(depth=23).apply]
"""

CHANGES = [
    ("constant = 2.0", "constant = 2.5"), ('"power": 2', '"power": 3'), ("torch.arange(4.0)", "torch.arange(4.0) + 1e-6"),
    ("torch.arange(4.0)", "torch.arange(4.0, dtype=torch.float64)"), ("return 1.5", "return 1.25"), ("* w **", "+ w **"),
    ("n + 10", "n + 11"), ("20 * f", "21 * f"), ("k * w * w", "k * w + w"), ("shift=3.0", "shift=3.5"), ("tilt=4.0", "tilt=4.5"),
    ("remembered(5)", "remembered(6)"), ("range(6)", "range(7)"), ("math.pi", "math.e"), (".sum(-2)\n\n@dataclass", ".mean(-2)\n\n@dataclass"),
    ("depth: int = 7", "depth: int = 8"), ("2 * self", "3 * self"), ("return 9", "return 10"), ("x + 11", "x + 12"), ("return 12", "return 13"),
    ("* 13", "* 14"), ("Mine(models.MLP)", "Mine(Between)"), ("30 * w", "31 * w"), ("* 14", "* 15"), ("g * 15", "g * 16"), ("[16]", "[17]"), ("17, 18", "17, 19"),
    ("enclosed(21.0)", "enclosed(22.0)"), ("eps=1e-6", "eps=1e-7"), ("(helper, 22)", "(helper, 23)"), ("depth=23", "depth=24"),
    ("torch.zeros(1, 2)", "torch.ones(1, 2)"), ('"mse")', '"cross_entropy")'), ("torch.zeros(1, 8)", "torch.tensor([7])"),
    ("(2, 8)", "(2, 5, 8)"), ("functools.cached_property", "property"), ("@functools.cache\n", ""), ("(frozen=True)", "(frozen=True, order=True)"),
]  # fmt: skip


def key_of(source: str, name: str = "recipe", file: str = "<cell>") -> str:
    """The fingerprint of a variable after running source as a notebook would, in __main__."""
    space = {"__name__": "__main__"}
    exec(compile(source, file, "exec"), space)
    return digest(space[name])


@pytest.mark.parametrize("old, new", CHANGES, ids=[new.strip() for _, new in CHANGES])
def test_every_change_is_noticed(old, new):
    """...in bodies, defaults, globals, globals of functions called, closures, methods, bases, fields, tensors."""
    assert SOURCE.count(old) == 1
    changed = SOURCE.replace(old, new)
    if new == '"cross_entropy")':  # wants labels
        changed = changed.replace("torch.zeros(1, 8)", "torch.tensor([7])")
    assert key_of(changed) != key_of(SOURCE)


def test_the_same_source_has_one_fingerprint_wherever_it_stands():
    moved = "# a cell above\n" + SOURCE.replace("\ndef ", "\n# a comment\n\ndef ").replace("    return 9", "\n    # nine\n        return 9")
    assert re.fullmatch("[0-9a-f]{64}", key_of(SOURCE))
    assert key_of(SOURCE) == key_of(SOURCE) == key_of(moved, file="/tmp/ipykernel_123/456.py")


IN_A_SESSION = """
import sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
for cell in sys.argv[1:]:
    assert shell.run_cell(cell).success
"""


def in_sessions(*sessions: list[str], **environment: list[str]) -> list[str]:
    """What IPython sessions, each in a process of its own and all at once, print for their cells."""
    started = []
    for i, cells in enumerate(sessions):
        own = os.environ | {name: values[i] for name, values in environment.items()}
        command = [sys.executable, "-c", IN_A_SESSION, *cells]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=own))
    results = [process.communicate(timeout=200) for process in started]
    assert all(process.returncode == 0 for process in started), results
    return [printed.strip() for printed, _ in results]


def test_two_sessions_agree(tmp_path):
    """...with other hash seeds, and the cell moved: the sets, names and places in memory differ."""
    show = "from descent.cache import digest\nprint(digest(recipe))"
    first, second = in_sessions([SOURCE, show], ["unrelated = {'nineteen', 'a'}", "# moved\n\n" + SOURCE, "mine", show], PYTHONHASHSEED=["1", "2"])
    assert re.fullmatch("[0-9a-f]{64}", first) and second.splitlines()[-1] == first


LIBRARY_KEY = """
import importlib, torch
from descent import Task, data, models
from descent.cache import digest
engine = importlib.import_module("descent.sweep")
def key():
    point = data.Data("point", torch.zeros(1, 2), torch.zeros(1, 8))
    return digest(engine._jobs, engine._train, engine._dataset, Task(importlib.import_module("descent.models").MLP((2, 8)), point, "mse"))
print(key())
"""
RELOADED = """
from pathlib import Path
file = Path(models.__file__)
file.write_text(file.read_text().replace("activation(self._layer(", "activation(2 * self._layer("))
importlib.reload(models)
print(key())
"""


def test_the_library_counts_by_its_code(tmp_path):
    """The source of the model that is trained, in another process or reloaded in this one; not that of the plots."""
    for name, module, old, new in [("a", "models", "activation(self._layer(", "activation(-self._layer("), ("b", "plots", '"""', '"""Changed. ')]:
        shutil.copytree(LIBRARY, tmp_path / name / "descent", ignore=shutil.ignore_patterns("__pycache__"))
        file = tmp_path / name / "descent" / f"{module}.py"
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new, 1))
    model, plots = in_sessions([LIBRARY_KEY], [LIBRARY_KEY, RELOADED], PYTHONPATH=[str(tmp_path / name) for name in "ab"])
    space = {}
    exec(LIBRARY_KEY.replace("print", "here ="), space)
    plots, reloaded = [line for line in plots.splitlines() if len(line) == 64]
    assert plots == space["here"]
    assert len({space["here"], model, reloaded}) == 3


@pytest.mark.parametrize("change", ["function", "method", "registry", "constant", "torch", "dtype", "precision"])
def test_what_is_changed_at_run_time_counts(monkeypatch, change):
    task = Task(models.MLP((2, 8)), data.Data("point", torch.zeros(1, 2), torch.zeros(1, 8)), "mse")

    def key():
        return digest(engine._jobs, engine._train, engine._dataset, task)

    before = key()
    with monkeypatch.context() as patch:
        if change == "function":
            patch.setattr(models, "_affine", lambda weight, bias, x: weight @ x)
        elif change == "method":
            patch.setattr(models.MLP, "apply", models.DiagonalLinear.apply)
        elif change == "registry":
            patch.setitem(models.ACTIVATIONS, "tanh", (torch.sigmoid, 1.0))
        elif change == "constant":
            patch.setattr(engine, "DIVERGENCE", 1e3)
        elif change == "torch":
            patch.setattr(torch, "__version__", "9.9.9")
        elif change == "dtype":
            patch.setattr(torch, "get_default_dtype", lambda: torch.float64)
        else:
            patch.setattr(torch.backends.cudnn, "allow_tf32", False)
        assert key() != before
    assert key() == before


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="this PyTorch has one interface only")
def test_precision_set_through_the_newer_interface_counts():
    """...although the older one then raises an error when it is read."""
    before, conv = digest(), torch.backends.cudnn.conv
    usual, conv.fp32_precision = conv.fp32_precision, "ieee"
    try:
        with pytest.raises(RuntimeError):
            torch.backends.cudnn.allow_tf32
        assert re.fullmatch("[0-9a-f]{64}", digest()) and digest() != before
    finally:
        conv.fp32_precision = usual
    assert digest() == before


def test_modules_of_ones_own_count_by_content(tmp_path, monkeypatch):
    """A function imported from a file is pickled by its name alone: here its code, and its module's, must count."""
    (tmp_path / "landscape_of_mine.py").write_text("import landscape_helpers\ndef f(w, x):\n    return landscape_helpers.square(w).sum(-2)\n")
    helpers = tmp_path / "landscape_helpers.py"
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    keys = []
    for source in ("scale = 1\ndef square(w): return scale * w * w\n", "scale = 1\ndef square(w): return scale * w * w * w\n", "scale = 2\ndef square(w): return scale * w * w\n"):
        helpers.write_text(source)
        for name in ("landscape_of_mine", "landscape_helpers"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        module = importlib.import_module("landscape_of_mine")
        keys.append(digest(models.Function(module.f, 2)))
    module.landscape_helpers.scale = 3
    keys.append(digest(models.Function(module.f, 2)))
    # the same through the module itself, and imported when the function runs
    keys.append(key_of("import landscape_of_mine\nrecipe = lambda w, x: landscape_of_mine.f(w, x)"))
    keys.append(key_of("def recipe(w, x):\n    import landscape_of_mine\n    return landscape_of_mine.f(w, x)"))
    module.landscape_helpers.scale = 4
    keys.append(key_of("import landscape_of_mine\nrecipe = lambda w, x: landscape_of_mine.f(w, x)"))
    keys.append(key_of("def recipe(w, x):\n    import landscape_of_mine\n    return landscape_of_mine.f(w, x)"))
    assert len(set(keys)) == len(keys) == 8


def test_installed_packages_count_by_their_record(tmp_path, monkeypatch):
    site = tmp_path / "site-packages"
    (site / "Landscape_Kit-1.0.dist-info").mkdir(parents=True)
    (site / "landscapekit.py").write_text("def f(w, x):\n    return w.sum(-2)\n")
    (site / "Landscape_Kit-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: Landscape-Kit\nVersion: 1.0\n")
    record = site / "Landscape_Kit-1.0.dist-info" / "RECORD"
    monkeypatch.syspath_prepend(site)
    keys = []
    for checksum in ("aa", "bb", "aa"):
        record.write_text(f"landscapekit.py,sha256={checksum},40\n")
        fingerprint._package.cache_clear(), fingerprint._record.cache_clear()
        module = importlib.import_module("landscapekit")
        keys.append(digest(module.f))
    assert keys[0] == keys[2] != keys[1]
    # what was put into it here does not hide behind its record
    monkeypatch.setattr(module, "f", lambda w, x: w.mean(-2))
    assert digest(module.f) not in keys


plain = st.none() | st.booleans() | st.integers() | st.floats() | st.complex_numbers() | st.text() | st.binary()
nested = st.recursive(plain, lambda s: st.lists(s, max_size=3) | st.lists(s, max_size=3).map(tuple) | st.dictionaries(st.text(), s, max_size=3), max_leaves=8)


@settings(max_examples=300, deadline=None)
@given(nested, nested)
def test_values_have_one_fingerprint_exactly_if_they_are_written_alike(a, b):
    assert (digest(a) == digest(b)) == (repr(a) == repr(b))
    assert digest(copy.deepcopy(a)) == digest(a) == digest(pickle.loads(pickle.dumps(a)))


def test_look_alikes_differ():
    values = [
        ["ab", "c"], ["a", "bc"], ("ab", "c"), ["abc"], [["ab"], "c"], {"ab": "c"}, {"ab", "c"}, frozenset({"ab", "c"}), "['ab', 'c']", b"ab",
        0, 0.0, -0.0, False, "0", None, "None", float("nan"), float("inf"), 0j, np.float32(0), np.float64(0), np.int64(0),
        torch.tensor(0.0), torch.tensor(0), torch.zeros(1), torch.zeros(1, 1), torch.zeros(2), torch.zeros(1, dtype=torch.bfloat16),
        torch.zeros(1, requires_grad=True), torch.nn.Parameter(torch.zeros(1)), np.zeros(1), np.zeros(1, np.float32), np.zeros((1, 1)),
        np.zeros(0), np.zeros((0, 3)), np.array([0], object), np.array([None], object), np.array(["0"]), np.ma.masked_array([0.0], [True]),
        np.ma.masked_array([0.0], [False]), range(3), slice(3), torch.float32, torch.float64, torch.device("cpu"), torch.Size([1]), (1,), len, max,
        torch.tanh, torch.Tensor.tanh, torch.relu, torch.nn.functional.relu, torch.nn.ReLU(), torch.nn.ReLU(inplace=True), np.tanh, np.sin, math_pi,
        functools.partial(torch.add, 1), functools.partial(torch.add, 2),
        torch.func.grad(torch.sin), torch.func.grad(torch.cos), torch.func.vmap(lambda w: w), torch.func.vmap(lambda w: -w), torch.nn.Linear, generator(0, "init"), generator(1, "init"),
        np.random.default_rng(0), np.random.default_rng(1), types.SimpleNamespace(a=1), types.SimpleNamespace(a=2), [].append, [1].append, *ENUMS,
    ]  # fmt: skip
    keys = [digest(v) for v in values]
    assert all(re.fullmatch("[0-9a-f]{64}", key) for key in keys) and len(set(keys)) == len(keys)
    assert keys == [digest(v) for v in values]


def math_pi(x):
    return x * 3.14


#: with the same names and other members
ENUMS = [importlib.import_module("enum").Enum("Kind", {"a": 1, "b": v}) for v in (2, 3)]


def test_a_name_in_main_says_nothing(monkeypatch):
    """...although the program that runs the session is an installed one."""
    keys = []
    for value in (1, 2):
        kind = type("Kind", (), {"value": value, "__module__": "__main__"})
        monkeypatch.setattr(sys.modules["__main__"], "Kind", kind, raising=False)
        monkeypatch.setattr(sys.modules["__main__"], "__file__", torch.__file__, raising=False)
        keys += [digest(kind), digest(kind())]
    assert len(set(keys)) == 4


def test_aliases_and_cycles():
    shared, alike = [1], [1]
    loop, other = [shared], [shared]
    loop.append(loop), other.append([shared])
    assert digest([shared, shared]) != digest([shared, alike]) and digest([shared, alike]) == digest([alike, shared])
    assert len({digest(loop), digest(other)}) == 2 and digest(loop) == digest(copy.deepcopy(loop))
    source = "def even(n): return n == 0 or odd(n - 1)\ndef odd(n): return n != 0 and even(n - 1)\nclass A:\n    def me(self): return A\n"
    assert key_of(source, "even") == key_of(source, "even") != key_of(source, "odd")
    assert key_of(source, "A") == key_of(source, "A")


def test_running_a_function_does_not_change_it():
    """The interpreter rewrites code that runs often, pickle and caches leave notes in classes and objects."""
    space = {"__name__": "__main__"}
    exec(SOURCE, space)
    before = digest(space["recipe"])
    model = space["recipe"][4].model
    assert model.doubled == 14
    for _ in range(5000):
        space["function"](torch.ones(2, 1), None) if _ < 50 else space["factor"]()
    pickle.dumps(optimizers.adam), copy.copy(probes.PROBES["loss"])
    assert digest(space["recipe"]) == before


def test_what_has_no_content_is_never_found():
    with open(os.devnull) as file:
        for value in ((i for i in range(3)), file, torch.eye(2).to_sparse()):
            one, two = digest(value), digest(value)
            assert one != two and "Error: " in one


def test_data_are_read_once(monkeypatch):
    fed = []
    put = fingerprint._Fingerprint.put
    monkeypatch.setattr(fingerprint._Fingerprint, "put", lambda self, kind, content=b"": fed.append(len(content)) or put(self, kind, content))
    x = torch.zeros(1000, 1000)
    task = Task(models.MLP((1000, 2)), data.Data("large", x, torch.zeros(1000, 2), x, torch.zeros(1000, 2)), "mse")
    digest(engine._jobs, engine._train, engine._dataset, task, [x, x[:]])
    assert 8e6 < sum(fed) < 8.2e6  # x, and the view of it, which is another object
