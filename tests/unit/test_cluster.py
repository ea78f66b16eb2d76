"""Sweeps on a client's workers: results as here, workers lost, interrupts, errors, other software."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import psutil
import pytest
import torch
import xarray as xr

from descent import Task, cluster, data, models, probes, retrain, sweep

DIGITS = data.digits(120, val=30)
TASK = Task(models.MLP((64, 16, 10)), DIGITS, loss="mse")
#: four batch sizes are four jobs
FOUR = dict(batch_size=[10, 20, 40, 60], seed=[0, 1])


def train(task=TASK, **arguments):
    return sweep(task, **{"steps": 20, "cache": False} | arguments)


def assert_same(there: xr.Dataset, here: xr.Dataset) -> None:
    """Equal to the last bit, in values, labels and every attribute but the time taken and the place."""
    assert "cluster" in there.attrs and "cluster" not in here.attrs
    attributes = [{k: v for k, v in ds.attrs.items() if k not in ("seconds", "cluster")} for ds in (there, here)]
    assert attributes[0] == attributes[1]
    xr.testing.assert_equal(there, here)


def eventually(condition, seconds=60):
    """Wait for a condition; on a loaded machine that takes its time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def is_idle(client):
    return not any(client.run(lambda dask_worker: dask_worker.state.executing_count).values())


@pytest.fixture(scope="module")
def client():
    """Two processes of one thread. At the end, nothing of them may be left."""
    with cluster.local(2) as client:
        client.run(lambda: sys.path.append(os.path.dirname(__file__)))
        processes = [psutil.Process(pid) for pid in client.run(os.getpid).values()]
        yield client
        processes += [psutil.Process(pid) for pid in client.run(os.getpid).values()]
    eventually(lambda: not any(p.is_running() for p in processes))


@pytest.fixture
def stored(monkeypatch, tmp_path):
    monkeypatch.setenv("DESCENT_CACHE", str(tmp_path))
    return tmp_path


# -- the same results ----------------------------------------------------------------------


def norms(networks):
    """A probe with an extra dimension."""
    return torch.stack([networks.w.norm(dim=1), networks.w0.norm(dim=1)], 1)


@pytest.mark.parametrize("model", [models.MLP((64, 16, 10)), models.CNN((1, 8, 8), (4, 4))], ids=["MLP", "CNN"])
def test_the_results_are_those_of_a_local_sweep(client, model):
    """Also where the company in a job changes the last bits (batch 1, convolutions), and where networks diverge."""
    arguments = dict(lr=[0.01, 0.1, 1e4], batch_size=[1, 16, None], optimizer=["sgd", "adam"], seed=[0, 1], sampling="replacement",
                     record=["loss", "val_accuracy", probes.probe("norms", dims=("which",))(norms)], record_every=5)  # fmt: skip
    task = Task(model, DIGITS, loss="mse")
    there, here = train(task, **arguments, client=client), train(task, **arguments)
    assert_same(there, here)
    assert here.diverged_at.notnull().any() and here.diverged_at.isnull().any()
    assert there.attrs["cluster"] == "2 threads in 2 workers"


def test_functions_without_a_name_travel(client):
    shift = 0.5
    task = Task(models.Function(lambda w, x: ((w - shift) ** 2).sum(-2), 1, start=(2.0,)), data.nothing(1), "output")
    square = probes.probe("square", needs=())(lambda networks: networks.w[:, 0] ** 2 + shift)
    arguments = dict(lr=[0.1, 0.2, 1.5], steps=300, record=["loss", square], dtype=torch.float64)
    assert_same(train(task, **arguments, client=client), train(task, **arguments))


def test_a_worker_with_several_threads_keeps_its_settings():
    from distributed import Client

    with Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address="127.0.0.1:0") as client:

        def settings(_):
            time.sleep(0.2)  # so that each thread has one of them to do
            return torch.get_num_threads(), torch.tensor(1e-40).mul(1.0).item() > 0

        before = client.gather(client.map(settings, range(2), pure=False))
        assert_same(train(**FOUR, client=client), train(**FOUR))
        assert client.gather(client.map(settings, range(2), pure=False)) == before


class Opened:
    """Leaves a line in a file when it is unpacked."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return unpacked, (self.path,)

    def __call__(self, networks):
        return networks.w[:, 0]


def unpacked(path):
    with open(path, "a") as file:
        file.write(f"{os.getpid()}\n")
    return Opened(path)


def test_the_plan_is_sent_once_to_each_worker_and_large_data_without_a_warning(client, tmp_path):
    big = data.Data("big", torch.rand(4000, 1000), torch.rand(4000, 1))
    task, path = Task(models.MLP((1000, 2, 1)), big, "mse"), tmp_path / "opened"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(task, record=probes.probe("first")(Opened(str(path))), batch_size=[1, 2, 3, 4, 5, 6, 7, 8], client=client)
    pids = path.read_text().split()
    assert len(pids) == len(set(pids)) and set(pids) <= {str(pid) for pid in client.run(os.getpid).values()}


def test_the_cache_does_not_ask_where(client, stored):
    there = train(**FOUR, cache=True, client=client)
    assert len(list(stored.iterdir())) == 1
    assert train(**FOUR, cache=True).identical(there)


def test_retrain_on_a_client(client):
    ds = train(lr=[0.1, 0.2], seed=[0, 1])
    assert_same(retrain(ds, lr=0.15, client=client), retrain(ds, lr=0.15))


# -- what goes wrong -----------------------------------------------------------------------


def test_workers_killed_half_way_are_made_up_for(client, tmp_path):
    """Twice a worker process is killed (SIGKILL) in the middle of its steps, so that both copies of the data are lost."""

    def deadly(networks):
        for i in range(2):
            try:
                if networks.step == 10:
                    os.close(os.open(tmp_path / str(i), os.O_CREAT | os.O_EXCL))
                    os.kill(os.getpid(), signal.SIGKILL)
            except FileExistsError:
                pass
        return networks.w[:, 0]

    before = set(client.run(os.getpid).values())
    there = train(**FOUR, record=["loss", probes.probe("first_weight")(deadly)], record_every=5, client=client)
    assert len(list(tmp_path.iterdir())) == 2
    assert there.loss.notnull().all() and there.attrs["interrupted"] == 0
    assert_same(there, train(**FOUR, record=["loss", probes.probe("first_weight")(deadly)], record_every=5))
    eventually(lambda: len(client.nthreads()) == 2)
    assert not before & set(client.run(os.getpid).values())


def broken(networks):
    if networks.batch_size == 20:
        raise ArithmeticError("this probe fails")
    return networks.w[:, 0]


def test_a_failing_probe_raises_its_own_error_and_ends_the_sweep(client):
    with pytest.raises(ArithmeticError, match="^this probe fails$"):
        train(batch_size=[10, 20], steps=10**6, record=probes.probe("broken")(broken), record_every=[0], client=client)
    eventually(lambda: is_idle(client))
    assert train(client=client).loss.notnull().all()


@pytest.mark.parametrize("name, other, message", [
    ("torch.__version__", "1.0.0+cpu", r"worker tcp://127\S+ has torch 1.0.0, but the sweep was started with torch 2\.\S+; install the same on both"),
    ("descent.cluster.version", lambda package: "9.9", r"has descent 9.9 \(source \w{8}\), but the sweep was started with descent \d\S+ \(source \w{8}\);"),
])  # fmt: skip
def test_workers_with_other_software_are_refused(client, name, other, message):
    def patch(value):
        module, _, attribute = name.rpartition(".")
        before = getattr(sys.modules[module], attribute)
        setattr(sys.modules[module], attribute, value)
        return before

    before = next(iter(client.run(patch, other).values()))
    try:
        with pytest.raises(RuntimeError, match=message):
            train(client=client)
    finally:
        client.run(patch, before)
    assert train(client=client).loss.notnull().all()


@pytest.mark.skipif(torch.cuda.is_available(), reason="the workers have a CUDA device")
def test_workers_without_the_device_are_refused(client, monkeypatch):
    engine = importlib.import_module("descent.sweep")
    plan = engine._plan
    monkeypatch.setattr(engine, "_plan", lambda *a: change(plan(*a)))

    def change(made):
        assert made.jobs  # laid out here, where there is no such device
        made.device = torch.device("cuda")
        return made

    with pytest.raises(RuntimeError, match="worker tcp://.* has no CUDA device, but the sweep was started for cuda"):
        train(client=client)


def test_only_running_clients_are_taken():
    from distributed import Client

    with pytest.raises(TypeError, match=r"client='tcp://1.2.3.4:5'; allowed: a synchronous dask.distributed.Client"):
        train(client="tcp://1.2.3.4:5")
    client = Client(processes=False, n_workers=1, dashboard_address="127.0.0.1:0")
    client.close()
    with pytest.raises(ValueError, match="is closed; allowed: one that is running"):
        train(client=client)
    with pytest.raises(ValueError, match="workers=0; allowed: an integer of at least 1"):
        cluster.local(0)


def test_a_script_without_its_guard_is_told(tmp_path):
    script = tmp_path / "unguarded.py"
    script.write_text("from descent import cluster\ncluster.local(1)\n")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=200)
    assert done.stderr.strip().endswith('in a script, call cluster.local() below `if __name__ == "__main__":`')


INTERRUPTED = """
import json, os, signal
from descent import Task, cluster, data, models, probes, sweep

# whoever started the tests in the background may have left the signal ignored
signal.signal(signal.SIGINT, signal.default_int_handler)

def later(networks):
    if networks.step == 50 and not os.path.exists("interrupted"):
        open("interrupted", "w").close()
        os.killpg(os.getpgrp(), signal.SIGINT)  # as a terminal does: here, to the client and to all workers
    return networks.w[:, 0]

if __name__ == "__main__":
    task = Task(models.MLP((64, 16, 10)), data.digits(200))
    slow = probes.probe("first_weight", needs=())(later)
    arguments = dict(batch_size=[20, 21, 22, 23, 24, 25], record=["loss", slow], record_every=list(range(0, 101, 10)), cache=False)
    with cluster.local(2) as client:
        ds = sweep(task, steps=300_000, client=client, **arguments)
        again = sweep(task, steps=100, client=client, batch_size=20)
    known = ds.loss.squeeze().notnull()
    print(json.dumps([ds.attrs["interrupted"], known.sum("step").values.tolist(), again.loss.notnull().all().item()]))
"""


def test_an_interrupt_keeps_what_is_done(tmp_path):
    """Ctrl-C while training: the steps before it are there, of jobs under way too; the workers go on to the next sweep.

    In a process group of its own, because the signal goes to all of it.
    """
    script = tmp_path / "interrupted.py"
    script.write_text(INTERRUPTED)
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=200, start_new_session=True)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    interrupted, measurements, again = json.loads(done.stdout)
    assert interrupted == 1 and again
    # at least the first six of eleven measurements of the job that met the signal; at most two jobs had begun
    assert max(measurements) >= 6 and 1 <= np.count_nonzero(measurements) <= 2


DESERTED = """
import sys
from distributed import Client
from descent import Task, data, models, sweep

sweep(Task(models.MLP((64, 16, 10)), data.digits(200)), steps=10**6, record_every=[0], batch_size=[10, 20], client=Client(sys.argv[1]))
"""


def test_workers_stop_when_the_client_is_gone(client):
    process = subprocess.Popen([sys.executable, "-c", DESERTED, client.scheduler.address])
    try:
        eventually(lambda: not is_idle(client))
    finally:
        process.kill()
        process.wait()
    eventually(lambda: is_idle(client))


# -- the rest ------------------------------------------------------------------------------


def test_progress_comes_from_the_workers(client, monkeypatch):
    seen = []

    class Bar:
        n = 0

        def __init__(self, total, **_):
            self.total = total

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def update(self, more):
            self.n += more
            seen.append(self.n / self.total)

    def slow(networks):
        time.sleep(0.02)
        return networks.w[:, 0]

    monkeypatch.setattr(importlib.import_module("descent.sweep"), "tqdm", Bar)
    train(batch_size=[10, 20], steps=150, record=probes.probe("slow", needs=())(slow), record_every=1, client=client)
    assert seen[-1] == 1 and len({n for n in seen if 0 < n < 1}) >= 2


ALONE = """
import sys
import descent

def imported(*packages):
    return sorted({name.partition(".")[0] for name in sys.modules} & set(packages))

print(imported("dask", "distributed"))
descent.sweep(descent.Task(descent.models.MLP((64, 16, 10)), descent.data.digits(50)), steps=3, cache=False)
print(imported("distributed"))
"""


def test_dask_is_not_imported_without_a_client():
    """By this library: xarray imports dask's arrays, where they are installed, to tell its first array from one of them."""
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, timeout=100)
    assert done.stdout.split() == ["[]", "[]"], done.stderr
