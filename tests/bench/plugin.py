"""What `make bench` adds to pytest: paired measurements, and the record they leave.

A benchmark takes the fixture `paired` and names the sides. Every round runs each peer and then
ours in the same process, because a machine's speed drifts by more than the differences one wants
to see; what counts are the ratios within the rounds. The outputs are compared too: a fast
engine that trains something else would be no use.
"""

from __future__ import annotations

import itertools
import json
import platform
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.problems import CORES
from descent.probes.device import describe

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tools"))

import benchmarks as page  # noqa: E402

ROUNDS = 3
CUDA = torch.cuda.is_available()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="few networks and rounds, to try the benchmarks; writes nothing")


@pytest.fixture
def size(request: pytest.FixtureRequest) -> Callable[[Any, Any], Any]:
    """`size(full, quick)`: one of the two, as `--quick` says."""
    quick = request.config.getoption("quick")
    return lambda full, small: small if quick else full


# -- paired measurements -----------------------------------------------------------------


@dataclass(frozen=True)
class Peer:
    """Another way to do the same work.

    Attributes:
        run: does it once; returns what ours returns, or only its first rows.
        share: what its seconds are multiplied by if it does only a part of the work.
        least, most: what our target says of the ratio of its seconds to ours.
        within: how different its outputs may be from ours, if not as the benchmark says.
    """

    name: str
    run: Callable[[], Any]
    share: float = 1.0
    least: float | None = None
    most: float | None = None
    within: float | None = None


@pytest.fixture
def keep(request: pytest.FixtureRequest) -> Callable[..., None]:
    """`keep(**entries)`: put the results of this benchmark on record."""
    records, name = request.config.stash[RECORDS], request.node.name.removeprefix("bench_")
    records[name] = {"group": request.node.path.stem.removeprefix("bench_")}
    return records[name].update


@pytest.fixture
def paired(benchmark: Any, keep: Callable[..., None], size: Callable[[Any, Any], Any]) -> Callable[..., None]:
    """`paired(title, ours, peers, ...)`: measure, compare, keep.

    Args:
        ours: does the work on the device it is given.
        networks: how many are trained or measured.
        steps: of each of them, if it is training.
        flops: floating-point operations of the matrix products of a network-step.
        peak: the least share of the measured sgemm peak that our target asks for.
        compare: how different a peer's outputs and the same rows of ours are; `within` is the most it may be.
        rounds: how many count.
        warm: what makes caches fill and compilers compile; by default a round that does not count.
    """

    def measure(
        title: str,
        ours: Callable[[str], Any],
        peers: Sequence[Peer],
        *,
        networks: int,
        steps: int | None = None,
        flops: float | None = None,
        peak: float | None = None,
        compare: Callable[[np.ndarray, np.ndarray], float] = page.difference,
        within: float = 1e-3,
        rounds: int = ROUNDS,
        warm: Callable[[], Any] | None = None,
    ) -> None:
        rounds, idle = size(rounds, 2), 0 if warm else 1
        if warm:
            warm()
        sides = [(peer.name, peer.run) for peer in peers] + [("GPU", lambda: ours("cuda"))] * CUDA
        seconds, outputs, peaks, turn = {name: [] for name, _ in sides}, {}, [], itertools.count()

        def others() -> tuple[tuple[str], dict]:
            peaks.append(sgemm())
            first = next(turn) % len(sides)  # each in turn is the one that ours follows
            for name, run in sides[first:] + sides[:first]:
                start = time.perf_counter()
                outputs[name] = run()
                seconds[name].append(time.perf_counter() - start)
            return ("cpu",), {}

        result = benchmark.pedantic(ours, setup=others, rounds=rounds, warmup_rounds=idle)
        own, differences = benchmark.stats.stats.data, {}
        allowed = {peer.name: peer.within for peer in peers if peer.within is not None}
        for name, output in outputs.items():
            differences[name], most = float(compare(np.asarray(output), np.asarray(result)[: len(output)])), allowed.get(name, within)
            assert differences[name] <= most, f"{name} differs from ours by {differences[name]:.2g}, more than {most:g}"
        keep(
            title=title,
            ours=list(own),
            networks=networks,
            steps=steps,
            peers={
                peer.name: {"seconds": seconds[peer.name][idle:], "share": peer.share, "least": peer.least, "most": peer.most,
                            "difference": differences[peer.name]}
                for peer in peers
            },
            gpu=seconds["GPU"][idle:] if CUDA else None,
            sgemm=peaks[idle:],
            flops=flops,
            peak=peak,
        )  # fmt: skip

    return measure


# -- the machine -------------------------------------------------------------------------


def sgemm(seconds: float = 0.2) -> float:
    """Floating-point operations per second of large float32 matrix products, one Python thread per core."""
    n = 1024

    def products(_: int) -> float:
        a, count, start = torch.randn(n, n), 0, time.perf_counter()
        while time.perf_counter() < start + seconds:
            torch.mm(a, a)
            count += 1
        return count * 2 * n**3 / (time.perf_counter() - start)

    with ThreadPoolExecutor(CORES, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return sum(pool.map(products, range(CORES)))


@pytest.fixture(autouse=True)
def quiet(request: pytest.FixtureRequest) -> None:
    """One thread inside an operation; and the machine's speed before each benchmark."""
    torch.set_num_threads(1)
    request.config.stash[PEAKS].append(sgemm())


def machine(peaks: list[float]) -> dict[str, Any]:
    """What the results were measured on and with; no name or address of the machine."""
    found = describe()
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": found.core.name,
        "cores": found.cores,
        "memory": found.memory,
        "gpu": found.gpu.name if found.gpu else None,
        "sgemm": peaks,
        "sgemm_core": found.core.flops,
        "bandwidth": found.core.bandwidth,
        "versions": {"Python": platform.python_version()}
        | {name: version(name) for name in ("torch", "jax", "curvlinops-for-pytorch", "backpack-for-pytorch", "PyHessian", "joblib")},
    }


# -- the record --------------------------------------------------------------------------

RECORDS = pytest.StashKey[dict[str, dict]]()
PEAKS = pytest.StashKey[list[float]]()
START = pytest.StashKey[float]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RECORDS], config.stash[PEAKS], config.stash[START] = {}, [], time.perf_counter()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Any:
    """A benchmark that fails is on record as such; the others go on."""
    report = (yield).get_result()
    if report.failed and call.excinfo:
        name = item.name.removeprefix("bench_")
        item.config.stash[RECORDS][name] = {"group": item.path.stem.removeprefix("bench_"), "failed": call.excinfo.typename}


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int, config: pytest.Config) -> None:
    """Show the ratios; write the page if this was the whole suite at its full size."""
    records = config.stash[RECORDS]
    terminalreporter.section("medians over the rounds (smallest to largest)")
    for name, record in records.items():
        terminalreporter.write_line("\n".join(page.lines(name, record)))
    whole = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) and not config.getoption("keyword")
    if not whole or config.getoption("quick"):
        terminalreporter.write_line("Not the whole suite at its full size: book/benchmarks.json stays as it is.")
        return
    found = {
        "machine": machine(config.stash[PEAKS]),
        "seconds": time.perf_counter() - config.stash[START],
        "results": records,
        "chapters": page.chapters(ROOT / "chapters"),
    }
    page.JSON.write_text(json.dumps(page.rounded(found), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    page.write(page.JSON)
    terminalreporter.write_line("book/benchmarks.json and book/benchmarks.md are written.")
