"""Sweeps on many machines: the jobs of a grid on the workers of a `dask.distributed` client.

The jobs are those that a sweep on this machine would train, laid out here and trained by the
same code, so where a network is trained changes nothing about its curve. Each worker process
receives the plan once, data included, and trains as many jobs side by side as it has
threads. A job whose worker is lost is trained again by another one.

Nothing here imports `distributed` before a client is asked for.
"""

from __future__ import annotations

import hashlib
import logging
import platform
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import cloudpickle
import numpy as np
import torch
from tqdm import tqdm

from descent.sweep import Plan, _parts, _Run, _train, _worker, _workers
from descent.task import Part

if TYPE_CHECKING:
    from distributed import Client, Worker

#: seconds between a job's reports of its progress, and its looks at whether it is still wanted
REPORT = 0.5
#: seconds between looking for finished jobs
POLL = 0.1

#: a GPU trains one job at a time, whatever the number of its worker's threads
_gpu = threading.Lock()


def local(workers: int | None = None) -> Client:
    """A client with worker processes of its own on this machine: `sweep(..., client=cluster.local())`.

    The processes end with `client.close()`, at the end of a `with` block, or with this process. A
    script, unlike a notebook, must call this below `if __name__ == "__main__":`, because every
    worker process imports the script.

    Args:
        workers: number of processes, between which the cores are divided; by default one per core.

    Raises:
        ValueError: `workers` is not an integer of at least 1.
        RuntimeError: no process could be started, as in a script without that line.
    """
    from distributed import Client

    cores = _workers(torch.device("cpu"))
    workers = cores if workers is None else workers
    if not isinstance(workers, int) or workers < 1:
        raise ValueError(f"workers={workers!r}; allowed: an integer of at least 1")
    try:
        # no memory limit, because the engine bounds its memory itself; no dashboard, and no port that may be taken
        return Client(n_workers=workers, threads_per_worker=max(1, cores // workers), host="127.0.0.1", memory_limit=0,
                      dashboard_address="127.0.0.1:0", scheduler_kwargs={"dashboard": False},
                      silence_logs=logging.CRITICAL, preload="descent.cluster")  # fmt: skip
    except RuntimeError as error:
        raise RuntimeError('no worker started; in a script, call cluster.local() below `if __name__ == "__main__":`') from error


def dask_setup(worker: Worker) -> None:
    """What dask calls in every process that `local` starts.

    Ctrl-C reaches all processes of a terminal or a notebook; the workers must outlive it to hand in what they have.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def check(client: Client) -> None:
    """See whether a sweep can use this client.

    Raises:
        TypeError: it is no synchronous `dask.distributed.Client`.
        ValueError: it is closed.
    """
    from distributed import Client

    if not isinstance(client, Client) or client.asynchronous:
        raise TypeError(f"client={client!r}; allowed: a synchronous dask.distributed.Client, such as descent.cluster.local()")
    if client.status != "running":
        raise ValueError(f"client={client!r} is {client.status}; allowed: one that is running")


def size(client: Client) -> str:
    """The workers of a client in words."""
    threads = client.nthreads().values()
    return f"{sum(threads)} threads in {len(threads)} workers"


# -- here ----------------------------------------------------------------------------------


def train(run: _Run, client: Client, bar: tqdm) -> bool:
    """Train the jobs of `run` on the client's workers; True if an interrupt ended it early.

    Raises:
        RuntimeError: a worker has other software than this process, or lacks the plan's device.
        distributed.KilledWorker: several workers were lost one after the other while training the same job.
        Exception: whatever a probe or a model raised on a worker.
    """
    import dask

    jobs, token = run.plan.jobs, uuid4().hex
    name, sent = f"descent-job-{token}", (f"descent-plan-{token}", 0)
    updates, waiting = [0] * len(jobs), {}

    def report(event: tuple[float, list[int]]) -> None:
        job, done = event[1]
        updates[job] = done

    def collect() -> None:
        time.sleep(POLL)
        finished = [future for future in waiting if future.done()]
        for future, result in zip(finished, client.gather(finished)):
            job = waiting[future]
            if result is not None:
                _put(run, jobs[job].rows, *result)
            updates[job] = len(jobs[job].rows) * run.plan.steps
            del waiting[future]  # last, so that an interrupt in between loses nothing
        bar.update(sum(updates) - bar.n)

    client.subscribe_topic(name, report)
    try:
        # a task, unlike scattered data, can be made again when the only worker that held it is lost
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 PiB"}):
            parcel = client.submit(Parcel, _software(), cloudpickle.dumps(run.plan), key=sent, pure=False)
        slots = [worker for _, worker in sorted((i, w) for w, threads in client.nthreads().items() for i in range(threads))]
        common = dict(parcel=parcel, topic=name, pure=False)
        if len(jobs) > 2 * len(slots):
            futures = client.map(_job, range(len(jobs)), key=[(name, i) for i in range(len(jobs))], **common)
        else:  # so few tasks dask would give to those workers that have the plan already
            futures = [client.submit(_job, i, key=(name, i), priority=-i, workers=slots[i % len(slots)],
                                     allow_other_workers=True, **common) for i in range(len(jobs))]  # fmt: skip
        waiting |= {future: i for i, future in enumerate(futures)}
        while waiting:
            collect()
        return False
    except KeyboardInterrupt:
        while waiting:
            begun = {key for keys in client.processing().values() for key in keys}
            client.run(_halt, sent, on_error="ignore")
            collect()
            # not begun, or its worker is gone
            client.cancel(dropped := [future for future in waiting if future.key not in begun])
            for future in dropped:
                del waiting[future]
        return True
    finally:
        client.cancel(list(waiting))
        client.unsubscribe_topic(name)


def _put(run: _Run, rows: np.ndarray, results: dict[str, np.ndarray], diverged_at: np.ndarray) -> None:
    """Write the results of one job into those of the whole run."""
    for name, values in results.items():
        if name not in run.results:
            run.results[name] = np.full((run.plan.networks, *values.shape[1:]), np.nan, values.dtype)
        run.results[name][rows] = values
    run.diverged_at[rows] = diverged_at


# -- on a worker ---------------------------------------------------------------------------


def _software() -> dict[str, str]:
    """What must be the same here and on a worker. Builds of PyTorch for different devices may differ."""
    sources = sorted(Path(__file__).parent.rglob("*.py"))
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    return {
        "descent": f"{version('descent')} (source {digest[:8]})",
        "torch": torch.__version__.split("+")[0],
        "Python": ".".join(platform.python_version_tuple()[:2]),
    }


class Parcel:
    """A plan on its way to the workers, each of which opens it once, when its first job asks for it."""

    def __init__(self, software: dict[str, str], content: bytes) -> None:
        self.software, self.content, self.stopped = software, content, False
        self._lock = threading.Lock()
        self._opened: tuple[Plan, dict[str, Part]] | None = None

    def __reduce__(self) -> tuple:
        return Parcel, (self.software, self.content)

    def open(self, worker: str) -> tuple[Plan, dict[str, Part]]:
        """The plan, and its data on the device of this worker.

        Raises:
            RuntimeError: this worker has other software than the sender, or lacks the plan's device.
        """
        with self._lock:
            if self._opened is None:
                for name, here in _software().items():
                    if here != self.software[name]:
                        raise RuntimeError(f"worker {worker} has {name} {here}, but the sweep was started with "
                                           f"{name} {self.software[name]}; install the same on both")  # fmt: skip
                plan = cloudpickle.loads(self.content)
                if plan.device.type == "cuda" and not torch.cuda.is_available():
                    raise RuntimeError(f"worker {worker} has no CUDA device, but the sweep was started for {plan.device}")
                self._opened = plan, _parts(plan)
        return self._opened


def _job(index: int, parcel: Parcel, topic: str) -> tuple[dict[str, np.ndarray], np.ndarray] | None:
    """Train one job: its rows of what is recorded and of `diverged_at`; None if it was stopped before it began."""
    from distributed import Reschedule, get_worker

    if parcel.stopped:
        return None
    worker, unwanted = get_worker(), False
    task = worker.state.tasks[worker.get_current_task()]
    plan, parts = parcel.open(worker.address)
    job = plan.jobs[index]
    # a run of the job's own networks alone, so that results have no rows but theirs
    run = _Run(replace(plan, columns={name: values[job.rows] for name, values in plan.columns.items()}), parts)
    # on a thread of its own, so that dask's thread keeps its settings
    with _gpu if plan.device.type == "cuda" else nullcontext(), ThreadPoolExecutor(1, initializer=_worker) as pool:
        training = pool.submit(_train, run, replace(job, rows=np.arange(len(job.rows))))
        while wait([training], timeout=REPORT).not_done:
            worker.log_event(topic, [index, run.done])
            unwanted |= task.state == "cancelled"  # the sweep has failed, or its process is gone
            if unwanted or parcel.stopped:
                run.stop.set()
        training.result()
    if unwanted:
        raise Reschedule  # in case somebody wants it after all: they must not get half a job
    return run.results, run.diverged_at


def _halt(sent: tuple[str, int], dask_worker: Worker) -> None:
    """Let this worker's jobs of a sweep end now and return what they have."""
    parcel = dask_worker.data.get(sent)
    if parcel is not None:
        parcel.stopped = True
