"""The full size of the chapter on initialization memory, smoke-tested on a few random pictures."""

from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
import torch

from descent import data, models, seeds, sweep

CHAPTER = Path(__file__).parents[2] / "chapters" / "initialization-memory.ipynb"


def cells(word):
    found = [c.source for c in nbformat.read(CHAPTER, as_version=4).cells if c.cell_type == "code" and word in c.source]
    assert len(found) == 1, f"one cell of the chapter holds {word!r}; found {len(found)}"
    return found[0]


@pytest.fixture
def pictures(monkeypatch):
    """CIFAR-10 as 12 random pictures, whatever sizes are asked for; remembers what was asked."""
    asked = {}

    def cifar10(**sizes):
        asked.update(sizes)
        x, y = torch.randn(12, 3, 32, 32), torch.arange(12) % 10
        return data.Data("cifar10", x, y, x, y, x, y)

    monkeypatch.setattr(data, "cifar10", cifar10)
    return asked


def test_the_full_size_trains_resnet9_on_cifar10(pictures, monkeypatch):
    monkeypatch.setenv("DESCENT_SIZE", "full")
    names = {}
    exec(cells("from descent import Task"), names)
    exec(cells("DESCENT_SIZE"), names)
    task, image = names["image_task"], names["image"]
    assert isinstance(task.model, models.ResNet9) and task.data.name == "cifar10"
    assert pictures == {"train": 45_000, "val": 5_000} and image["batch_size"] == 128
    assert image["steps"] >= 200 * (45_000 // 128), "the full size trains for 200 epochs at least"

    tiny = replace(task, model=models.ResNet9(width=4))
    names |= {"image_task": tiny, "image": image | dict(batch_size=4, steps=2, record_every=1, init_scale=[1.0, 2.0], seed=seeds(1))}
    source = cells("sweep(image_task")
    exec(source[: source.index("plots.")], names)
    assert torch.isfinite(torch.tensor(names["photos"].test_accuracy.values)).all()
    assert names["photos"].sizes["step"] == 3


def test_the_small_size_needs_no_download(monkeypatch):
    monkeypatch.delenv("DESCENT_SIZE", raising=False)
    names = {}
    exec(cells("from descent import Task"), names)
    exec(cells("DESCENT_SIZE"), names)
    assert isinstance(names["image_task"].model, models.CNN) and names["image_task"].data.name == "digits"
