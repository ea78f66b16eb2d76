"""The full size of the chapter on the fractal boundary holds the paper's check: 256 squares a side or more, in float64."""

from pathlib import Path

import nbformat
import pytest
import torch

CHAPTER = Path(__file__).parents[2] / "chapters" / "fractal-boundary.ipynb"


@pytest.mark.parametrize(("size", "points", "dtype"), [("full", 257, torch.float64), ("small", 129, torch.float32)])
def test_the_sizes(monkeypatch, size, points, dtype):
    monkeypatch.setenv("DESCENT_SIZE", size)
    (setup,) = [c.source for c in nbformat.read(CHAPTER, as_version=4).cells if c.cell_type == "code" and "DESCENT_SIZE" in c.source]
    names = {}
    exec(setup, names)
    assert names["FINE"] >= points and names["DTYPE"] == dtype
    assert (names["FINE"] - 1) % (names["COARSE"] - 1) == 0, "the views of the first seed are cut from the reader's map"
