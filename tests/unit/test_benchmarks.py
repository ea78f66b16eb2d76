"""The page of benchmarks: its arithmetic, its words, and that it is what the committed record says."""

import json
import re
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from bench import peers_torch, problems
from descent import Task, data, models

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tools"))

import benchmarks  # noqa: E402


@pytest.fixture(scope="module")
def record() -> dict:
    return json.loads(benchmarks.JSON.read_text("utf-8"))


def small_record(**changes) -> dict:
    """One benchmark of a loop that took ten times as long as we did."""
    peer = {"seconds": [5.0, 6.0, 4.0], "share": 2.0, "least": 8.0, "most": None, "difference": 1e-6}
    return {
        "group": "training", "title": "a network", "ours": [1.0, 1.0, 1.0], "networks": 4, "steps": 10, "peers": {"loop": peer},
        "gpu": None, "sgemm": [100.0, 200.0, 100.0], "flops": 1.0, "peak": 0.5,
    } | changes  # fmt: skip


# -- arithmetic --------------------------------------------------------------------------


def test_ratios_are_taken_within_rounds():
    assert benchmarks.ratios([2.0, 30.0], [1.0, 10.0], share=4.0) == [8.0, 12.0]
    with pytest.raises(ValueError):
        benchmarks.ratios([1.0], [1.0, 2.0])


def test_a_peer_that_did_a_part_counts_as_a_whole():
    (row,) = benchmarks.against(small_record())
    assert (row.median, min(row.values), max(row.values)) == (10.0, 8.0, 12.0)
    assert (row.target, row.verdict) == ("at least 8\xa0×", "met")


def test_a_peer_may_have_times_of_ours_to_itself():
    peer = small_record()["peers"]["loop"] | {"ours": [10.0, 10.0, 10.0]}
    (row,) = benchmarks.against(small_record(peers={"loop": peer}))
    assert row.median == 1.0 and row.verdict == "missed"


def test_share_of_the_peak_is_taken_within_rounds():
    row = benchmarks.share_of_peak(small_record())
    assert row.values == [40.0, 20.0, 40.0]  # percent: 40 operations in a second, of 100 or 200
    assert row.verdict == "missed"
    assert benchmarks.share_of_peak(small_record(flops=None)) is None


@pytest.mark.parametrize(
    "values, least, most, verdict",
    [([1, 2, 3], 2, None, "met"), ([1, 1.9, 3], 2, None, "missed"), ([1, 2, 3], None, 2, "met"), ([1, 2.1, 3], None, 2, "missed"),
     ([1], None, None, "")],
)  # fmt: skip
def test_the_median_decides(values, least, most, verdict):
    assert benchmarks.Row("", values, least, most).verdict == verdict


def test_where_a_time_is_flat():
    assert benchmarks.flat([1, 2, 4, 8, 16], [9.0, 3.0, 1.4, 1.0, 1.1]) == (4, None)
    assert benchmarks.flat([1, 2, 4, 8, 16], [9.0, 1.0, 1.4, 1.6, 5.0]) == (2, 8)


def test_difference_is_the_largest_relative_one():
    assert benchmarks.difference(np.array([1.0, 2.2]), np.array([1.0, 2.0])) == pytest.approx(0.1)


def test_rounded_keeps_what_is_no_number():
    assert benchmarks.rounded({"a": [1.23456, None, "x", 12345678, True]}) == {"a": [1.235, None, "x", 12345678, True]}


# -- the page ----------------------------------------------------------------------------


def page_of(record: dict, **results: dict) -> str:
    return benchmarks.page(record | {"results": results})[0]


def test_page_says_what_was_missed_and_what_failed(record):
    slow = small_record(ours=[2.0, 2.0, 2.0], flops=None)
    text = page_of(record, slow=slow, broken={"group": "training", "failed": "ZeroDivisionError"})
    assert "0 of 1 targets are met. Missed: a network (loop), 5\xa0× where at least 8\xa0× was asked." in text
    assert "`broken` (ZeroDivisionError)" in text


def test_page_says_that_there_was_no_gpu(record):
    assert "| not measured |" in page_of(record, one=small_record())
    assert "| 4\xa0× (4\xa0to\xa04) |" in page_of(record, one=small_record(gpu=[0.25, 0.25, 0.25]))


def test_page_is_written_from_the_committed_record(record):
    text, figures = benchmarks.page(record)
    assert benchmarks.JSON.with_suffix(".md").read_text("utf-8") == text, "run tools/benchmarks.py"
    folder = benchmarks.JSON.with_suffix("")
    assert {p.stem for p in folder.glob("*.html")} == set(figures)
    words = lambda html: re.findall(r">([^<>]+)<", html)
    for name, figure in figures.items():
        assert words((folder / f"{name}.html").read_text("utf-8")) == words(figure.html() + "\n"), f"{name}: run tools/benchmarks.py"
        assert f":file: benchmarks/{name}.html" in text


def test_record_is_complete_and_names_no_machine(record):
    assert {r["group"] for r in record["results"].values()} == set(benchmarks.GROUPS)
    text = json.dumps(record)
    assert socket.gethostname() not in text
    assert not re.search(r'"[^"]*(/home/|/root|/work|/tmp|/Users)', text)


# -- the sides train the same ------------------------------------------------------------


@pytest.mark.parametrize(
    "model, loss, batch_size, scale",
    [(models.MLP((64, 8, 10)), "cross_entropy", 16, 1.0), (models.CNN(channels=(2, 3)), "mse", 16, 1.0),
     (models.DiagonalLinear(64), "mse", None, 0.1)],
)  # fmt: skip
def test_the_peers_train_what_a_sweep_trains(model, loss, batch_size, scale):
    digits = data.digits(50)
    if isinstance(model, models.DiagonalLinear):
        digits = data.sparse_regression(20, 64, support=3)
    p = problems.Problem(Task(model, digits, loss), batch_size, 7, 0.02, range(3), scale)
    ours = problems.ours(p)
    torch.testing.assert_close(ours, peers_torch.loop(p), rtol=1e-4, atol=0)
    torch.testing.assert_close(ours, peers_torch.functional(p, chunk=2), rtol=1e-4, atol=0)
    other = problems.Problem(p.task, batch_size, 7, 0.03, range(3), scale)
    assert not torch.allclose(ours, peers_torch.loop(other), rtol=1e-4), "the comparison cannot fail"


def test_one_network_by_hand():
    p = problems.Problem(Task(models.MLP((64, 8, 10)), data.digits(50)), 16, 7, 0.1, range(1))
    torch.testing.assert_close(problems.ours(p), peers_torch.by_hand(p), rtol=1e-4, atol=0)
