"""The worker trains in Chromium, from a page on disk, what `sweep` trains in PyTorch."""

import importlib
import json

import numpy as np
import pytest

from descent import Task, browser, data, models, sweep

pytestmark = pytest.mark.browser
engine = importlib.import_module("descent.sweep")

PAGE = """<!doctype html><meta charset="utf-8"><title>worker</title><script>
const content = %s;
const worker = new Worker(URL.createObjectURL(new Blob([content.worker], {type: "text/javascript"})));
const messages = [];
let wake = () => {};
worker.onmessage = ({data}) => { messages.push(data); wake(); };
worker.onerror = (event) => { messages.push({type: "crash", message: event.message}); wake(); };
// resolves with the first message that ends what was asked for
async function ask(message, ends = ["done", "error", "ready", "crash", "cancelled"]) {
  const from = messages.length;
  worker.postMessage(message);
  for (;;) {
    const found = messages.slice(from).find((m) => ends.includes(m.type) && (message.id === undefined || m.id === undefined || m.id === message.id));
    if (found) return found;
    await new Promise((resolve) => { wake = resolve; });
  }
}
const plain = (m) => m.curves ? {...m, curves: Object.fromEntries(Object.entries(m.curves).map(([k, v]) => [k, Array.from(v, String)])),
                                 diverged_at: (m.diverged_at ?? []).map(String)} : m;
const load = () => ask({type: "load", package: content});
const train = async (id, setting) => plain(await ask({type: "train", id, setting}));
</script>"""


@pytest.fixture
def open_package(open_page, tmp_path):
    """`open_package(package)` -> a page from disk whose worker has loaded it."""

    def open_(package):
        path = tmp_path / "worker.html"
        path.write_text(PAGE % json.dumps(package.json()), encoding="utf-8")
        page = open_page(path)
        loaded = page.evaluate("load()")
        assert loaded["type"] == "ready", loaded
        return page

    return open_


def curve(message, name, seeds):
    return np.array([float(v) for v in message["curves"][name]]).reshape(seeds, -1)


@pytest.fixture(scope="module")
def digits():
    task = Task(models.MLP((64, 64, 10)), data.digits(train=1000))
    arguments = dict(lr=[0.1, 0.2], batch_size=[32, 64], seed=[0, 1], steps=500, record=["loss", "test_accuracy"])
    dataset = sweep(task, **arguments)
    return dataset, browser.compile(*engine._recipes[dataset.attrs["recipe_id"]])


def test_trains_what_sweep_trains(digits, open_package):
    dataset, package = digits
    page = open_package(package)
    done = page.evaluate("train(1, {lr: 0.123, batch_size: 48, seeds: [0, 1]})")
    assert done["type"] == "done" and done["step"] == 500
    there = engine.retrain(dataset, lr=0.123, batch_size=48)
    for name in ("loss", "test_accuracy"):
        np.testing.assert_allclose(curve(done, name, 2), there[name].values, rtol=1e-4)
    assert done["diverged_at"] == ["NaN", "NaN"]
    assert not page.problems
