"""Stored results: whole or not at all, bounded, shared by processes, and never the end of a sweep."""

import hashlib
import importlib
import multiprocessing
import os
import resource
import runpy
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
import torch
import xarray as xr

import descent
from descent import Task, cache, data, models, optimizers, probes, sweep

engine = importlib.import_module("descent.sweep")
BOWL = Task(models.Quadratic((1.0, 4.0), start=(1.0, 1.0)), data.nothing(2), loss="output")
fork = multiprocessing.get_context("fork")


@pytest.fixture
def stored(monkeypatch, tmp_path):
    monkeypatch.setenv("DESCENT_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def told():
    """The warnings that are given."""
    cache._tell.cache_clear()
    with warnings.catch_warnings(record=True) as messages:
        warnings.simplefilter("always")
        yield messages


def key(n) -> str:
    return hashlib.sha256(str(n).encode()).hexdigest()


def result(n=0, size=1000) -> xr.Dataset:
    """A Dataset of about 8 `size` bytes whose values say which one it is."""
    attrs = {"task": f"task {n % 3}", "seconds": 2.5, "recipe": "{\"µ\": 1}"}
    return xr.Dataset({"loss": (("lr", "step"), np.full((2, size // 2), float(n)))}, {"lr": [0.1, 0.2], "step": np.arange(size // 2)}, attrs)


def train(**arguments) -> xr.Dataset:
    return sweep(BOWL, **{"lr": [0.1, 0.2], "steps": 10, "record_every": 5} | arguments)


def run(*functions, timeout=60) -> list[int]:
    """Run functions in processes of their own, all at once; their exit codes."""
    processes = [fork.Process(target=f) for f in functions]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout)
    return [process.exitcode for process in processes]


@pytest.fixture
def trained(monkeypatch):
    """Counts how often the engine really trains."""
    runs, original = [], engine._run
    monkeypatch.setattr(engine, "_run", lambda *arguments: runs.append(1) or original(*arguments))
    return runs


# -- what is stored ----------------------------------------------------------------------


def test_a_stored_result_is_the_result(stored, trained):
    """...in every value, type and attribute, and can be changed without changing what is stored."""
    named = probes.probe("a/b ü", dims=("c d",))(lambda n: n.w)
    arguments = dict(seed=[0, 2**32 - 1], optimizer=["sgd", "adam"], record=["loss", named], dtype=torch.float64)
    first = train(**arguments)
    second = train(**arguments)
    second["loss"][:] = 0
    third = train(**arguments)
    assert len(trained) == 1
    xr.testing.assert_identical(first, third)
    for name in first.variables:
        assert first[name].dtype == third[name].dtype and type(first[name].values) is type(third[name].values)
    assert [*map(type, first.attrs.values())] == [*map(type, third.attrs.values())] and [*first.variables] == [*third.variables]


@pytest.mark.parametrize("dataset", [xr.Dataset(), result(), xr.Dataset({"a": ((), 1), "b": ("x", [])}), xr.Dataset({"a": ("x", np.array([True, False]))}),
                                     xr.Dataset({"a": ("x", np.array(["2020-01-01"], "M8[ns]"), {"units": "µs"})}, {"x": ["é"]})])  # fmt: skip
def test_any_dataset_of_numbers_and_words(stored, dataset):
    cache.save(key(0), dataset)
    xr.testing.assert_identical(cache.load(key(0)), dataset)


def test_a_user_s_probe_counts_by_its_content(stored, trained):
    def measure(factor):
        return probes.probe("first")(lambda n: factor * n.w[:, 0])

    values = [train(lr=0.1, record=measure(factor)).first.values[0, 0] for factor in (1.0, 2.0, 1.0)]
    assert values == [1, 2, 1] and len(trained) == 2


def test_a_changed_global_is_trained_again(stored, trained):
    """The model reads a global variable, as cells of a notebook do."""
    space = {"__name__": "__main__", "strength": 1.0}
    exec("def bowl(w, x): return (strength * w * w).sum(-2)", space)
    losses = []
    for strength in (1.0, 2.0, 1.0):
        space["strength"] = strength
        losses.append(sweep(Task(models.Function(space["bowl"], 1, start=(1.0,)), data.nothing(1), "output"), steps=3).loss.values[0, 0])
    assert losses == [1, 2, 1] and len(trained) == 2


def test_what_cannot_be_read_is_trained_every_time(stored, trained, told):
    endless = (1.0 for _ in range(10**9))
    task = Task(models.Function(lambda w, x: (w * w * next(endless)).sum(-2), 1), data.nothing(1), "output")
    one, two = sweep(task, steps=3), sweep(task, steps=3)
    assert len(trained) == 2 and not list(stored.iterdir()) and one.loss.identical(two.loss)
    (warning,) = told
    assert "cannot be read" in str(warning.message) and "generator" in str(warning.message)


@pytest.mark.parametrize("kind", [np.int64, np.uint8, lambda v: np.array(v), lambda v: torch.tensor(v), lambda v: xr.DataArray(v)])
def test_numbers_of_other_libraries_are_kept_as_python_ones(stored, trained, told, kind):
    usual = train(steps=20, seed=3, record_every=5)
    other = train(steps=kind(20), seed=kind(3), record_every=kind(5), autograd=np.False_, lr=np.array([0.1, 0.2]))
    assert len(trained) == 1 and other.identical(usual) and type(other.attrs["steps"]) is int and not told
    heavy_ball = optimizers.OPTIMIZERS["heavy_ball"](momentum=np.float32(0.5))
    ds = sweep(Task(models.Quadratic(np.array([1.0, 4.0])), data.nothing(2), "output"), steps=np.int16(4), optimizer=heavy_ball)
    assert "float32(" not in ds.attrs["recipe"] and len(cache.contents()) == 2 and not told


# -- damage ------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Data type alias")  # a flipped bit made it
def test_damage_anywhere_is_noticed_and_removed(stored):
    cache.save(key(0), result(size=40))
    (file,) = stored.iterdir()
    whole = file.read_bytes()
    changed = [whole[:i] + bytes([whole[i] ^ 1 << i % 8]) + whole[i + 1 :] for i in range(len(whole))]
    torn = [whole[:i] for i in range(len(whole))]
    foreign = [whole + b"x", b"descent 1\n" + whole[10:], b"\x89HDF\r\n", b"{}", whole[:74] + b"[]\n", whole[:74] + b'{"attrs": 1, "variables": 3}\n', b"\0" * 5000]
    for content in changed + torn + foreign:
        file.write_bytes(content)
        assert cache.load(key(0)) is None and not file.exists()
    file.write_bytes(whole)
    xr.testing.assert_identical(cache.load(key(0)), result(size=40))


def test_files_of_others_stay(stored):
    for name in ("notes.txt", "f" * 63, "F" * 64, key(1) + ".nc"):
        (stored / name).write_text("not ours")
        os.utime(stored / name, (0, 0))
    (stored / key(2)).mkdir()
    (stored / key(3)).symlink_to(stored / "notes.txt")
    cache.save(key(0), result())
    assert cache.clear() == 1
    assert len(list(stored.iterdir())) == 6


# -- bounds ------------------------------------------------------------------------------


@pytest.mark.parametrize("written, size", [("2GB", 2e9), ("500 MB", 5e8), ("1.5gb", 1.5e9), ("4GiB", 2**32), ("10k", 1e4), ("0", 0), ("123", 123), ("", 2e9), (None, 2e9)])
def test_sizes_are_understood(monkeypatch, written, size):
    monkeypatch.setenv("DESCENT_CACHE_LIMIT", written) if written is not None else monkeypatch.delenv("DESCENT_CACHE_LIMIT", raising=False)
    assert cache.limit() == size


@pytest.mark.parametrize("written", ["lots", "-1GB", "nan", "2 gigs", "GB", "1e9", "2,5GB", "5i"])
def test_nonsense_sizes_are_refused_before_training(stored, monkeypatch, trained, written):
    monkeypatch.setenv("DESCENT_CACHE_LIMIT", written)
    with pytest.raises(ValueError, match=f"DESCENT_CACHE_LIMIT='{written}' is no size; give one such as '500MB'"):
        train()
    assert not trained
    assert train(cache=False).attrs["interrupted"] == 0


def test_the_least_recently_used_go_first(stored, monkeypatch):
    cache.save(key(0), result(0))
    size = next(stored.iterdir()).stat().st_size
    monkeypatch.setenv("DESCENT_CACHE_LIMIT", str(int(3.5 * size)))
    for n in range(1, 3):
        cache.save(key(n), result(n))
    for n in range(3):  # stored 30, 20, 10 minutes ago
        then = time.time() - 600 * (3 - n)
        os.utime(stored / key(n), (then, then))
    assert cache.load(key(0)) is not None
    cache.save(key(3), result(3))
    assert {f.name for f in stored.iterdir()} == {key(0), key(2), key(3)}


def test_what_exceeds_the_limit_is_not_stored(stored, monkeypatch, trained, told):
    cache.save(key(0), result())
    monkeypatch.setenv("DESCENT_CACHE_LIMIT", "5kB")
    cache.save(key(1), result(1))
    assert [f.name for f in stored.iterdir()] == [key(0)] and "larger than 5 kB" in str(told[0].message)
    monkeypatch.setenv("DESCENT_CACHE_LIMIT", "0")
    train(), train()
    assert len(trained) == 2


def test_what_a_killed_process_left_is_removed_when_it_is_old(stored):
    for name, age in (("part-new", 60), ("part-old", 7200)):
        (stored / name).write_bytes(b"half")
        os.utime(stored / name, (time.time() - age,) * 2)
    cache.save(key(0), result())
    assert {f.name for f in stored.iterdir()} == {"part-new", key(0)}
    assert len(cache.contents()) == 1


# -- several processes -------------------------------------------------------------------


def test_writers_and_readers_of_the_same_key(stored):
    """Every result read is one of those written, and whole."""

    def write(n):
        for _ in range(40):
            cache.save(key(0), result(n, size=20_000))

    def read():
        seen = 0
        for _ in range(120):
            found = cache.load(key(0))
            if found is not None:
                seen += 1
                assert found.identical(result(int(found.loss[0, 0]), size=20_000))
        assert seen > 20

    assert run(lambda: write(1), lambda: write(2), read, read) == [0] * 4
    assert [f.name for f in stored.iterdir()] == [key(0)] and cache.load(key(0)) is not None


def test_writers_of_many_keys_stay_within_the_limit(stored, monkeypatch):
    """Processes that write, read and evict at the same moment, each seeing the other's files vanish."""
    cache.save(key(0), result())
    size = next(stored.iterdir()).stat().st_size
    monkeypatch.setenv("DESCENT_CACHE_LIMIT", str(int(5.5 * size)))

    def work(which):
        for n in range(which, 160, 4):
            cache.save(key(n), result(n))
            for other in (n, n - 3, n - 6):
                found = cache.load(key(other))
                assert found is None or found.identical(result(other))
            assert len(cache.contents()) <= 5 + 4  # four writers may each be one ahead

    assert run(*[lambda which=which: work(which) for which in range(4)]) == [0] * 4
    left = list(stored.iterdir())
    assert len(left) == 5 and all(cache.load(f.name) is not None for f in left)


def test_a_writer_killed_in_the_middle(stored):
    """The kernel kills it when its file reaches 4 kB; the next one is not disturbed."""

    def killed():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        cache.save(key(0), result())

    assert run(killed) == [-signal.SIGXFSZ]
    (part,) = stored.iterdir()
    assert part.stat().st_size == 4096 and cache.load(key(0)) is None and len(cache.contents()) == 0
    cache.save(key(0), result())
    assert cache.load(key(0)).identical(result())
    os.utime(part, (0, 0))
    assert cache.clear() == 1 and not list(stored.iterdir())


# -- whatever happens, a sweep trains ------------------------------------------------------


def test_a_full_disk_loses_only_the_cache(stored, told):
    def full():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        cache.save(key(0), result())

    assert run(full) == [0]
    assert not list(stored.iterdir())


def as_nobody(work) -> None:
    """In a process that may do no more than any user."""

    def inside():
        if os.getuid() == 0:
            os.setgid(65534), os.setuid(65534)
        work()

    assert run(inside) == [0]


def test_a_folder_that_may_not_be_read_or_written(stored, monkeypatch):
    inner = stored / "inner"
    inner.mkdir()
    monkeypatch.setenv("DESCENT_CACHE", str(inner))
    cache.save(key(0), result())
    for path in stored.parents:  # others may come this far
        if path.stat().st_uid == os.getuid() and len(path.parts) > 2:
            path.chmod(path.stat().st_mode | 0o011)

    def readable():
        assert cache.load(key(0)) is None  # the file is its owner's
        cache.save(key(1), result())
        assert cache.clear() == 0

    def unreadable():
        assert cache.load(key(0)) is None
        cache.save(key(1), result())
        assert len(cache.contents()) == cache.clear() == 0

    stored.chmod(0o755)
    inner.chmod(0o555)
    as_nobody(readable)
    inner.chmod(0o000)
    as_nobody(unreadable)
    inner.chmod(0o755)
    assert [f.name for f in inner.iterdir()] == [key(0)]


@pytest.mark.parametrize("place", ["/dev/null", "/dev/null/sub", "/proc/none/sub", "a file", "a" * 300, "key is a folder"])
def test_odd_places_do_not_disturb(tmp_path, monkeypatch, trained, place, told):
    (tmp_path / "a file").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DESCENT_CACHE", "here" if place == "key is a folder" else place)
    if place == "key is a folder":
        (tmp_path / "here" / train(cache=False).attrs["recipe_id"]).mkdir(parents=True)
        trained.clear()
    first, second = train(), train()
    assert len(trained) == 2 and first.loss.identical(second.loss)
    assert len(cache.contents()) == cache.clear() == 0
    assert "not kept" in str(told[0].message)


def test_files_that_vanish(stored, monkeypatch):
    """Another process may remove any file between two of our steps."""
    scandir = os.scandir

    class Vanishing:
        """A listing whose first file is gone by the time one looks at it."""

        def __init__(self, where):
            self.found = sorted(scandir(where), key=lambda entry: entry.name)

        def __enter__(self):
            os.unlink(self.found[0].path)
            return iter(self.found)

        def __exit__(self, *_):
            pass

    names = sorted(key(n) for n in range(4))
    for name in names[1:]:
        cache.save(name, result())
    monkeypatch.setattr(os, "scandir", Vanishing)
    assert {e.key for e in cache.contents()} == set(names[2:])
    cache.save(names[0], result())  # removed while we tidy up
    assert cache.load(names[0]) is None and cache.load(names[2]) is not None


def test_a_home_that_is_not_there(monkeypatch, trained):
    monkeypatch.delenv("DESCENT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    assert cache.folder().name == "sweeps"
    assert train().loss.identical(train().loss) and len(trained) == 2


# -- to see and clear it -------------------------------------------------------------------


def test_contents_and_clear(stored):
    first = train(lr=[0.1, 0.2, 0.3], seed=[0, 1])
    cache.save(key(1), result(1))
    (stored / key(2)).write_bytes(b"torn")
    os.utime(stored / key(1), (0, 0))
    shown = descent.cache.contents()
    (entry,) = [e for e in shown if e.task == BOWL.name]
    assert len(shown) == 3 and entry.grid == "3 lr × 2 seed × 3 step" and entry.seconds == first.attrs["seconds"]
    assert entry.size == (stored / entry.key).stat().st_size and abs(entry.used.timestamp() - time.time()) < 60
    words = repr(shown)
    assert BOWL.name in words and "(not readable)" in words and "1970" in words.splitlines()[-2]
    assert words.splitlines()[-1].startswith("3 results, ") and f"of at most 2 GB, 2.5 s of training, in {stored}" in words
    assert shown._repr_html_().count("<tr>") == 4 and "3 lr × 2 seed" in shown._repr_html_()
    with pytest.raises(ValueError, match="unused_days=-1"):
        cache.clear(unused_days=-1)
    assert cache.clear("MNIST") == 0 and cache.clear(unused_days=30) == 1 and cache.clear("Quadratic") == 1
    assert [f.name for f in stored.iterdir()] == [key(2)] and cache.clear() == 1
    assert repr(cache.contents()).startswith("0 results, 0 B of at most 2 GB")


def test_off(monkeypatch):
    monkeypatch.setenv("DESCENT_CACHE", "off")
    assert "off" in repr(cache.contents()) and cache.clear() == 0 and "off" in cache.contents()._repr_html_()


def test_markup_in_names_is_escaped(stored):
    cache.save(key(0), result().assign_attrs(task="<script>"))
    assert "<script>" not in cache.contents()._repr_html_()


def test_from_a_terminal(stored, monkeypatch, capsys):
    for n in range(3):
        cache.save(key(n), result(n))
    command = [sys.executable, "-W", "error::RuntimeWarning", "-m", "descent.cache"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert "task 1" in shown.stdout and "3 results" in shown.stdout and not shown.stderr

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["descent.cache", *arguments])
        runpy.run_module("descent.cache")
        return capsys.readouterr().out

    with pytest.raises(SystemExit):
        call("clear", "--unused-days", "-1")
    assert "unused_days=-1.0 must be" in capsys.readouterr().err and len(list(stored.iterdir())) == 3
    assert call("clear", "--task", "task 2") == "removed 1 result\n" and call("clear") == "removed 2 results\n"
