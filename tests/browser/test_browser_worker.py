"""The worker trains in Chromium, from a page on disk, what `sweep` trains in PyTorch."""

import json

import numpy as np
import pytest
from browser_families import FAMILIES

pytestmark = pytest.mark.browser

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


@pytest.mark.parametrize("name", FAMILIES)
def test_agrees_with_sweep(name, open_package):
    """Loss curves at a setting off the grid, to 1e-4 relative over the whole run; the slowest in two seconds for 200 steps."""
    family = FAMILIES[name]
    package = family.package()
    page = open_package(package)
    done = page.evaluate("setting => train(1, setting)", family.setting | {"seeds": [0, 7]})
    assert done["type"] == "done" and done["step"] == package.description["steps"]
    family.compare({quantity: curve(done, quantity, 2) for quantity in package.description["record"]})
    assert done["diverged_at"] == ["NaN", "NaN"]
    if name in ("cnn", "transformer"):
        assert done["ms"] / done["step"] * 200 < 2000
    assert not page.problems


@pytest.fixture(scope="module")
def digits():
    family = FAMILIES["the digits"]
    family.arguments["steps"] = 3000
    try:
        return family.package()
    finally:
        del family.arguments["steps"]


SETTING = {"lr": 0.1, "batch_size": 64, "seeds": [0, 1]}


def test_reports_progress(digits, open_package):
    page = open_package(digits)
    assert page.evaluate("s => train('a', s)", SETTING)["id"] == "a"
    seen = page.evaluate("messages.filter(m => m.type === 'progress').map(m => [m.step, Array.from(m.curves.loss.slice(0, 151), String)])")
    assert len(seen) > 1
    done = curve(page.evaluate("plain(messages.at(-1))"), "loss", 2)[0]
    for step, so_far in seen:
        so_far = np.array([float(v) for v in so_far])
        known = np.array(digits.description["record_steps"]) <= step - 1
        np.testing.assert_array_equal(so_far[known], done[known].astype(np.float32))
        assert np.isnan(so_far[np.array(digits.description["record_steps"]) > step]).all()


def test_a_new_training_cancels_the_one_under_way(digits, open_package):
    page = open_package(digits)
    page.evaluate("s => { worker.postMessage({type: 'train', id: 1, setting: s}); worker.postMessage({type: 'train', id: 2, setting: s}); }", SETTING)
    page.wait_for_function("messages.some(m => m.type === 'done')")
    ends = page.evaluate("messages.filter(m => ['cancelled', 'done', 'error'].includes(m.type)).map(m => [m.type, m.id])")
    assert ends == [["cancelled", 1], ["done", 2]]


def test_cancelling_stops_all_work(digits, open_package):
    page = open_package(digits)
    page.evaluate("s => { worker.postMessage({type: 'train', id: 1, setting: s}); worker.postMessage({type: 'cancel'}); }", SETTING)
    page.wait_for_function("messages.some(m => m.type === 'cancelled')")
    before = page.evaluate("messages.length")
    page.wait_for_timeout(300)
    assert page.evaluate("messages.length") == before


def test_the_same_setting_after_others_gives_the_same_curve(digits, open_package):
    page = open_package(digits)
    first = page.evaluate("s => train(1, s)", SETTING)
    page.evaluate("s => train(2, s)", SETTING | {"batch_size": 1000, "lr": 1.0, "seeds": [4294967295, 0]})
    again = page.evaluate("s => train(3, s)", SETTING)
    assert first["curves"] == again["curves"]


def test_training_ends_where_every_network_has_diverged(open_package):
    page = open_package(FAMILIES["bowl"].package())
    done = page.evaluate("s => train(1, s)", {"lr": 0.26, "batch_size": 4, "init_scale": 4.0, "momentum": 0.0, "seeds": [1, 2]})
    assert done["step"] == 500
    page = open_package(FAMILIES["ntk relu"].package())
    done = page.evaluate("s => train(1, s)", {"lr": 6.0, "batch_size": 4, "init_scale": 16.0, "seeds": [1, 2]})
    assert done["type"] == "done" and done["step"] < 500
    assert all(0 <= float(at) < done["step"] for at in done["diverged_at"])
    assert np.isnan(curve(done, "loss", 2)[:, -1]).all()


BAD = {
    "NaN": "{lr: NaN}", "infinite": "{lr: Infinity}", "negative": "{lr: -1}", "text": "{lr: '0.1'}", "a list": "{lr: [0.1]}", "missing": "{lr: undefined}",
    "none": "{batch_size: 0}", "too many": "{batch_size: 1001}", "huge": "{batch_size: 1e300}", "a fraction": "{batch_size: 2.5}", "an object": "{batch_size: {}}",
    "few seeds": "{seeds: [1]}", "no seeds": "{seeds: null}", "seed beyond": "{seeds: [0, 4294967296]}", "seed of text": "{seeds: [0, '1']}",
    "unknown": "{momentum: 0.5}", "inherited": "{toString: 1}",
}  # fmt: skip


def test_bad_settings_are_refused_and_the_worker_goes_on(digits, open_package):
    page = open_package(digits)
    for change in BAD.values():
        answer = page.evaluate(f"s => train(7, {{...s, ...{change}}})", SETTING)
        assert answer["type"] == "error" and answer["id"] == 7, change
        name = change[1:].partition(":")[0].rstrip("s")
        assert name in answer["message"], (change, answer["message"])
    assert page.evaluate("s => train(8, s)", SETTING)["type"] == "done"


@pytest.mark.parametrize("change", ["{module: ''}", "{module: 'AAAA'}", "{data: btoa('x')}", "{description: {...content.description, variables: [['w', 1e9]]}}",
                                    "{description: {...content.description, variables: []}}"])  # fmt: skip
def test_a_damaged_package_is_an_error(digits, open_package, change):
    page = open_package(digits)
    answer = page.evaluate(f"ask({{type: 'load', package: {{...content, ...{change}}}}}, ['ready', 'error', 'crash'])")
    assert answer["type"] == "error"


def test_random_settings_never_fail(digits, open_package):
    """Whatever a link asks for is either refused or trained."""
    page = open_package(digits)
    answers = page.evaluate("""async () => {
      let state = 1;
      const random = () => (state = (state * 48271) % 2147483647) / 2147483647;
      const odd = [NaN, Infinity, -0, 0, 1, -1, 1e-300, 1e300, 2 ** 31, 2 ** 32, 2 ** 53, 0.5, "1", null, undefined, [], {}, true];
      const any = () => random() < 0.5 ? odd[Math.floor(random() * odd.length)] : random() * 10 ** (random() * 12 - 4);
      const types = {};
      for (let i = 0; i < 300; i++) {
        const setting = {lr: any(), batch_size: random() < 0.5 ? Math.floor(random() * 1010) : any(), seeds: random() < 0.8 ? [1, 2 ** 32 * random() | 0] : [any(), any()]};
        worker.postMessage({type: "train", id: i, setting});
        const end = await ask({type: "cancel"}, ["cancelled", "error", "crash"]);
        types[end.type] = (types[end.type] ?? 0) + 1;
      }
      return types;
    }""")
    assert set(answers) == {"cancelled", "error"}
    assert page.evaluate("s => train('x', s)", SETTING)["type"] == "done"


def test_several_settings_are_those_one_by_one(digits, open_package):
    page = open_package(digits)
    settings = [SETTING, SETTING | {"lr": 0.15}, SETTING | {"batch_size": 8}]
    alone = [page.evaluate("s => train(1, s)", s) for s in settings]
    done = page.evaluate("s => ask({type: 'several', id: 9, settings: s})", settings)
    assert done["type"] == "done" and done["ms"] > 0 and "curves" not in done
    runs = page.evaluate("messages.filter((m) => m.type === 'runs').flatMap((m) => m.runs).map(plain)")
    assert [(r["curves"], r["step"]) for r in runs] == [(a["curves"], a["step"]) for a in alone]
    assert page.evaluate("messages.some((m) => m.type === 'progress' && m.id === 9)") is False


def test_several_settings_can_be_cancelled_and_bad_ones_are_refused(digits, open_package):
    page = open_package(digits)
    page.evaluate("s => { worker.postMessage({type: 'several', id: 1, settings: Array(50).fill(s)}); worker.postMessage({type: 'cancel'}); }", SETTING)
    page.wait_for_function("messages.some(m => m.type === 'cancelled')")
    before = page.evaluate("messages.length")
    page.wait_for_timeout(300)
    assert page.evaluate("messages.length") == before
    for bad in ("[]", "null", "[s, {...s, lr: -1}]", "[{...s, lr: NaN}]"):
        answer = page.evaluate(f"s => ask({{type: 'several', id: 2, settings: {bad}}}, ['done', 'error'])", SETTING)
        assert answer["type"] == "error" and answer["id"] == 2, bad
    assert page.evaluate("s => train(8, s)", SETTING)["type"] == "done", "the worker goes on"
