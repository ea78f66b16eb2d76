"""The deep-zoom figure trains its windows in the page: from disk, with the network cut, held to `sweep`."""

import base64
import json
import re

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from pages import FAILURES, failing, write_page

from descent.sweep import sweep
from descent.trainability import Window, network, survey
from descent.zoom import LEVELS, Zoom, codes, zoom
from descent.zoom import static_assets as zoom_assets

pytestmark = pytest.mark.browser

SMALL = Window(100.0, 40.0, 2.0)
TEXT = {"alt": "A map of two learning rates: blue below, red above.", "caption": "Where does training stop converging?"}
WORKER = """const Original = window.Worker; window.log = [];
window.Worker = class extends Original {
  constructor(...a) { super(...a); this.addEventListener("message", ({data}) => { log.push(["from", data.type, data.id]); if (data.type === "runs") dispatchEvent(new Event("some-runs")); }); }
  postMessage(m) { log.push(["to", m.type, m.id, m.settings]); super.postMessage(m); }
};
// presses a key as soon as the first networks are there: pressed from outside, it would race with the last ones
window.press = (key) => addEventListener("some-runs", () =>
  document.querySelector(".dz-map").dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true, cancelable: true})), {once: true});"""


@pytest.fixture(scope="module")
def figure():
    return zoom(survey(network(0), SMALL, 17, [0], steps=100), places={"A": Window(150.0, 60.0, 0.2)}, browser=True, **TEXT)


@pytest.fixture
def visit(open_page, tmp_path, figure):
    """`visit(hash="#...", theme=..., before="script")` -> the figure's page."""

    def visit_(hash="", theme="light", before=WORKER, **options):
        return open_page(write_page(tmp_path, figure, theme=theme, more=zoom_assets()).as_uri() + hash, before=before, **options)

    return visit_


@pytest.fixture
def page(visit):
    page = visit()
    yield page
    assert page.problems == []


def trained(page):
    """Waits until a window is whole; what the mark says then."""
    page.wait_for_function("document.querySelector('.dz-mark').textContent.includes('turns')", timeout=120_000)
    return page.locator(".dz-mark").inner_text()


def window(page):
    return page.evaluate("document.querySelector('figure').descentZoom.window()")


def colours(page, points):
    """Whether each point of the picture is blue rather than red, the first axis across, the second up."""
    got = page.evaluate(
        """(n) => { const c = document.querySelector(".dz-map"), s = c.width / n, out = [];
        const copy = new OffscreenCanvas(c.width, c.width).getContext("2d", {willReadFrequently: true});
        copy.drawImage(c, 0, 0);
        const d = copy.getImageData(0, 0, c.width, c.width).data;
        for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) { const k = 4 * (Math.floor((n - j - 0.5) * s) * c.width + Math.floor((i + 0.5) * s)); out.push(d[k + 2] - d[k]); }
        return out; }""",
        points,
    )
    return np.array(got).reshape(points, points) > 0


def test_the_map_comes_first_and_nothing_is_trained(page, figure):
    assert re.match(r"trained when this page was made: 289 networks of 100 steps in [\d.]+ s, [\d,]+ a second \(float32\)", page.locator(".dz-mark").inner_text())
    here = np.frombuffer(figure._grid, "<i2").reshape(17, 17) > 0
    np.testing.assert_array_equal(colours(page, 17), here)
    assert page.evaluate("log.length") == 0


def test_a_click_trains_the_window_that_sweep_trains(page, figure):
    box = page.locator(".dz-map").bounding_box()
    page.mouse.click(box["x"] + 0.5 * box["width"], box["y"] + 0.24 * box["height"])  # on the border
    said = trained(page)
    n = LEVELS[-1]
    assert re.match(rf"trained here: {n * n:,} networks of 100 steps in [\d.]+ s, [\d,]+ a second \(float32\); magnified 5×", said)
    w = window(page)
    assert 10 ** w["x"] == pytest.approx(100, rel=0.02) and w["w"] == pytest.approx(2 * 17 / 16 / 5)
    steps = w["w"] * ((np.arange(n) + 0.5) / n - 0.5)
    some = np.arange(4, n, 8)
    there = sweep(network(0), lr=10 ** (w["x"] + steps[some]), readout_lr=10 ** (w["y"] + steps[some]), seed=[0], steps=100, record_every=[*range(0, 81, 20), *range(81, 101)], cache=False)  # fmt: skip
    agree = colours(page, n)[np.ix_(some, some)] == (codes(there) > 0)
    assert agree.mean() > 0.97
    lost = codes(there)[codes(there) < 0]
    fast = (codes(there) < 0) & (codes(there) >= np.median(lost))  # away from the border divergence comes early
    assert agree[fast].all() and 30 < len(lost) < there.lr.size**2 - 30
    sent = page.evaluate("log.filter(([, type]) => type === 'several').flatMap(([, , , settings]) => settings.map((s) => [s.lr, s.readout_lr]))")
    assert len({tuple(s) for s in sent[: n * n]}) == n * n, "no network is trained twice"


def test_a_new_window_gives_up_the_one_before(page):
    page.evaluate("press('ArrowUp')")
    page.locator(".dz-map").press("+")
    page.wait_for_function("log.some(([, type]) => type === 'runs')")
    trained(page)
    log = page.evaluate("log.map(([way, type]) => `${way} ${type}`)")
    assert "to cancel" in log and "from cancelled" in log
    before = page.evaluate("log.length")
    page.wait_for_timeout(400)
    assert page.evaluate("log.length") == before, "a finished window keeps no core busy"


def test_escape_stops(page):
    page.evaluate("press('Escape')")
    page.locator(".dz-map").press("+")
    page.wait_for_function("log.some(([, type]) => type === 'runs')")
    page.wait_for_timeout(200)
    before = page.evaluate("log.length")
    page.wait_for_timeout(400)
    assert page.evaluate("log.length") == before and "stopped" in page.locator(".dz-mark").inner_text()


def test_the_keyboard_goes_everywhere(page):
    canvas = page.locator(".dz-map")
    canvas.focus()
    home = window(page)
    canvas.press("+")
    assert window(page)["w"] == pytest.approx(home["w"] / 5)
    canvas.press("ArrowRight")
    assert window(page)["x"] == pytest.approx(home["x"] + home["w"] / 20)
    canvas.press("ArrowDown")
    assert window(page)["y"] == pytest.approx(home["y"] - home["w"] / 20)
    canvas.press("Backspace")
    assert window(page)["y"] == pytest.approx(home["y"])
    canvas.press("-")
    assert window(page)["w"] == pytest.approx(home["w"])
    canvas.press("Home")
    assert window(page) == home and "when this page was made" in page.locator(".dz-mark").inner_text()


def test_a_drag_chooses_the_window(page):
    box, home = page.locator(".dz-map").bounding_box(), window(page)
    x, y = box["x"] + 0.25 * box["width"], box["y"] + 0.25 * box["height"]
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 0.1 * box["width"], y + 0.02 * box["height"])
    page.mouse.up()
    w = window(page)
    assert w["w"] == pytest.approx(0.2 * home["w"], rel=0.02)
    assert w["x"] == pytest.approx(home["x"] - 0.25 * home["w"], abs=0.02) and w["y"] == pytest.approx(home["y"] + 0.25 * home["w"], abs=0.02)


def test_a_centre_can_be_typed_and_a_place_visited(page):
    for label, value in {"centre, learning rate": "123.4", "width of the window in decades": "0.5"}.items():
        field = page.get_by_label(label, exact=True)
        field.fill(value)
        field.press("Enter")
    w = window(page)
    assert 10 ** w["x"] == pytest.approx(123.4) and w["w"] == pytest.approx(0.5)
    field.fill("-3")
    field.press("Enter")
    assert "a positive number" in page.locator(".dz-message").inner_text() and window(page) == w
    page.get_by_role("button", name="Go to the window “A”").click()
    w = window(page)
    assert 10 ** w["x"] == pytest.approx(150) and 10 ** w["y"] == pytest.approx(60) and w["w"] == 0.2


def test_float32_ends_and_says_so(page):
    page.get_by_label("width of the window in decades").fill("1e-7")
    page.get_by_label("width of the window in decades").press("Enter")
    assert "float32" in page.locator(".dz-message").inner_text() and "float64 goes on" in page.locator(".dz-message").inner_text()
    assert window(page)["w"] == pytest.approx(1e-4)
    page.locator(".dz-map").press("+")
    assert window(page)["w"] == pytest.approx(1e-4) and "No deeper" in page.locator(".dz-message").inner_text()


def test_a_link_restores_the_window(page, visit):
    page.locator(".dz-map").press("+")
    page.locator(".dz-map").press("ArrowUp")
    page.get_by_role("button", name="Copy a link to this window").click()
    page.locator(".dz-message", has_text="address bar").wait_for()
    link = page.url
    assert "#zoom=1&lr=" in link
    other = visit(hash=link[link.index("#") :])
    for name, value in window(page).items():
        assert window(other)[name] == pytest.approx(value, abs=1e-9)
    assert other.problems == []


@pytest.mark.parametrize("hash", ["#zoom=1&lr=<img src=x>&readout_lr=1&decades=1", "#zoom=1&lr=-1&readout_lr=1&decades=1", "#zoom=2&lr=1&readout_lr=1&decades=1",
                                  "#zoom=1&lr=1e999&readout_lr=1&decades=1", "#explore=1&lr=3", "#%"])  # fmt: skip
def test_hostile_links_are_refused_quietly(visit, hash):
    page = visit(hash=hash)
    assert "when this page was made" in page.locator(".dz-mark").inner_text() and page.problems == []


def test_a_link_beyond_what_may_be_trained_is_brought_back(visit):
    page = visit(hash="#zoom=1&lr=1e30&readout_lr=1e-30&decades=50")
    trained(page)
    assert page.problems == [] and page.locator(".dz-message").inner_text() == ""


@pytest.mark.parametrize("missing", ["WebAssembly", "Worker", "DecompressionStream"])
def test_without_what_it_needs_the_figure_is_the_map(visit, missing):
    page = visit(before=f"delete window.{missing};")
    assert page.locator(".dz-message").inner_text() == f"This page cannot train here (the browser has no {missing})."
    assert page.locator(".dz-tool").count() == 0 and "when this page was made" in page.locator(".dz-mark").inner_text()
    page.locator(".dz-map").press("+")
    assert "when this page was made" in page.locator(".dz-mark").inner_text() and page.problems == []


def test_where_the_worker_does_not_start_it_is_said(visit):
    page = visit(before="window.Worker = class { constructor() { throw new Error('forbidden here'); } };")
    page.locator(".dz-map").press("+")
    page.locator(".dz-message", has_text="forbidden here").wait_for()
    page.locator(".dz-map").press("Home")
    assert "when this page was made" in page.locator(".dz-mark").inner_text() and page.problems == []


@pytest.mark.parametrize("failure", FAILURES)
def test_a_worker_that_fails_in_any_way_leaves_the_map_and_says_so(visit, failure):
    answer, says = FAILURES[failure]
    page = visit(before=failing(answer))
    page.locator(".dz-map").press("+")
    page.locator(".dz-message", has_text=says).wait_for(timeout=5000)
    assert "when this page was made" in page.locator(".dz-mark").inner_text() and page.locator(".dz-tool").count() == 0
    page.keyboard.press("+")  # the map has kept the focus
    assert says in page.locator(".dz-message").inner_text() and page.locator("figure").get_attribute("data-state") == "done"
    assert page.problems == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1000])
def test_no_accessibility_findings(visit, theme, width):
    page = visit(theme=theme, width=width)
    page.locator(".dz-map").press("+")
    assert page.evaluate("document.documentElement.scrollWidth") <= width and page.problems == []
    for target in page.locator(".dz-tools button:visible, .dz-tools input").all():
        box = target.bounding_box()
        assert box["height"] >= 36 and box["width"] >= 36
    found = Axe().run(page).response["violations"]
    assert not found, json.dumps([(v["id"], v["impact"], [n["html"][:120] for n in v["nodes"]]) for v in found], indent=1)


KERNEL = """async ([source, spec, grid]) => {
  const bytes = Uint8Array.from(atob(grid), (c) => c.charCodeAt(0)), listeners = [];
  window.sent = [];
  window.answer = (message, codes) => listeners.forEach((f) => f(message, [new DataView(Int16Array.from(codes).buffer)]));
  const state = {_spec: spec, _grid: new DataView(bytes.buffer), _live: true};
  const model = {get: (name) => state[name], on: (name, f) => name === "msg:custom" && listeners.push(f), off() {}, send: (m) => sent.push(m)};
  const module = await import("data:text/javascript;base64," + source), el = document.createElement("div");
  document.querySelector("main").replaceChildren(el);
  module.default.render({model, el});
}"""


def test_in_a_notebook_the_kernel_trains(page, figure):
    source = base64.b64encode(Zoom._esm.encode()).decode()
    page.evaluate(KERNEL, [source, figure._spec, base64.b64encode(figure._grid).decode()])
    page.locator(".dz-map").press("+")
    assert page.evaluate("sent.map((m) => [m.type, m.serial, m.decades])") == [["train", 1, pytest.approx(2 * 17 / 16 / 5)]]
    page.evaluate("answer({type: 'level', serial: 1, points: 32, ms: 1000}, Array(1024).fill(7000))")
    assert "training here: 1,024 networks" in page.locator(".dz-mark").inner_text() and colours(page, 8).all()
    page.locator(".dz-map").press("ArrowUp")
    page.evaluate("answer({type: 'level', serial: 1, points: 64, ms: 1000}, Array(4096).fill(-3))")
    assert page.locator(".dz-mark").inner_text() == "training here …", "what was given up is not drawn"
    page.evaluate("answer({type: 'level', serial: 2, points: 128, ms: 2000}, Array(128 * 128).fill(-3))")
    assert "trained here: 16,384 networks of 100 steps in 2.0 s, 8,192 a second (float64)" in page.locator(".dz-mark").inner_text()
    assert not colours(page, 8).any()
    page.locator(".dz-map").press("+")
    page.evaluate("answer({type: 'error', serial: 3, message: 'ValueError: no'}, [])")
    assert "ValueError: no" in page.locator(".dz-message").inner_text()
    assert page.get_by_role("button", name="Copy a link to this window").count() == 0
