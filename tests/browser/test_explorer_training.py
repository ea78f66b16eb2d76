"""The slider figure trains settings off its grid in the page: from disk, with the network cut, held to `sweep`."""

import csv
import importlib
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from explorer_data import TEXT
from pages import FAILURES, failing, write_page
from test_explorer_js import MODEL, path, readout

from descent import Task, data, explore, models, sweep
from descent.explore import Explorer

pytestmark = pytest.mark.browser
engine = importlib.import_module("descent.sweep")

TASK = Task(models.MLP((64, 12, 10)), data.digits(train=200, test=100))
ARGUMENTS = dict(
    lr=[0.01, 0.1, 0.2], batch_size=[16, 64], optimizer=["sgd", "adam"], seed=[0, 1], steps=300,
    record=["loss", "test_accuracy"], record_every=5,
)  # fmt: skip
THEORY = {"loss": ("10 η", lambda lr: 10 * lr), "test_accuracy": ("rise", lambda lr, step: 1 - np.exp(-lr * step / 5))}
LR, BATCH = "input[data-dim=lr]", "input[data-dim=batch_size]"
WORKER = """const Original = window.Worker; window.log = [];
window.Worker = class extends Original {
  constructor(...a) { super(...a); this.addEventListener("message", ({data}) => log.push(["from", data.type, data.id])); }
  postMessage(m) { log.push(["to", m.type, m.id, m.setting]); super.postMessage(m); }
};"""


@pytest.fixture(scope="module")
def dataset():
    return sweep(TASK, **ARGUMENTS)


@pytest.fixture(scope="module")
def figure(dataset):
    return explore(dataset, ["loss", "test_accuracy"], theory=THEORY, start={"lr": 0.1}, browser=True, **TEXT)


@pytest.fixture
def visit(open_page, tmp_path, figure):
    """`visit(before="script", hash="#...", theme=...)` -> the figure's page, its worker's messages in `log`."""

    def visit_(before=WORKER, hash="", theme="light", **options):
        return open_page(write_page(tmp_path, figure, theme=theme).as_uri() + hash, before=before, **options)

    return visit_


@pytest.fixture
def page(visit):
    page = visit()
    yield page
    assert page.problems == []


def mark(page) -> str:
    return page.locator(".dx-mark").inner_text()


def settled(page) -> str:
    """What the mark says once the curves are whole and it is known whose run they are."""
    page.locator(".dx-mark", has_text=re.compile(r"(run|made)$")).wait_for()  # a strict policy forbids waiting for a function, which is text
    return mark(page)


def table(page) -> list[dict]:
    with page.expect_download() as waiting:
        page.get_by_role("button", name="CSV").click()
    with open(waiting.value.path(), newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def held(rows, run, quantity="loss", rtol=1e-4):
    """The rows of one run are those of a Dataset."""
    for seed in run.seed.values:
        wanted = run[quantity].sel(seed=seed).squeeze()
        found = {int(row["step"]): float(row[quantity]) for row in rows if int(row["seed"]) == seed}
        assert list(found) == run.step.values.tolist()
        np.testing.assert_allclose(list(found.values()), wanted.values, rtol=rtol)


def test_the_grid_comes_first_and_the_worker_after_it(page):
    assert mark(page) == "trained when this page was made" and len(path(page)) > 100
    page.wait_for_function("log.some(([, type]) => type === 'ready')")
    assert page.evaluate("log.map(([, type]) => type)") == ["load", "ready"], "nothing is trained before it is asked for"


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_off_the_grid_the_page_trains_what_sweep_trains(page, dataset, optimizer):
    page.locator("figure").get_by_text(optimizer, exact=True).click()
    for slider, keys in {LR: ["ArrowLeft"] * 8, BATCH: ["ArrowRight"] * 4}.items():
        for key in keys:
            page.locator(slider).press(key)
    assert re.fullmatch(r"trained here, 300 steps in \d+ ms: the notebook’s run", settled(page))
    assert page.locator("figure").get_attribute("data-state") == "exact"
    rows = table(page)
    setting = {"lr": float(rows[0]["lr"]), "batch_size": int(rows[0]["batch_size"]), "optimizer": optimizer}
    assert setting["lr"] not in dataset.lr and setting["batch_size"] not in dataset.batch_size
    there = engine.retrain(dataset, **setting)
    held(rows, there)
    held(rows, there, "test_accuracy")
    assert f"final training loss {float(there.loss.isel(step=-1).median()):.3g}" in readout(page)


def test_another_seed(page, dataset):
    field = page.get_by_label("first of 2 seeds")
    field.fill("7")
    field.press("Enter")
    settled(page)
    held(table(page), sweep(TASK, **(ARGUMENTS | {"lr": 0.1, "batch_size": 16, "optimizer": "sgd", "seed": [7, 8]})))
    field.fill("0")
    field.press("Enter")
    assert settled(page) == "trained when this page was made"
    for wrong, kept in {"-3": "0", "2.5": "0", "1e99": "4294967294", "4294967295": "4294967294"}.items():
        field.fill(wrong)
        field.press("Enter")
        assert field.input_value() == kept


def test_a_run_that_rounding_decides_is_called_this_run(page):
    """Far above the stable learning rates of Adam the loss jumps about, and the last digit decides how."""
    page.locator("figure").get_by_text("adam", exact=True).click()
    page.locator(LR).press("End")
    assert settled(page).endswith("ms: this run")
    assert "one part in a million" in page.locator(".dx-whose").get_attribute("title")


def test_what_is_called_the_notebooks_run_is_that(page, dataset):
    """From calm learning rates of Adam to wild ones: whatever is said to be the notebook's run agrees with it."""
    page.locator("figure").get_by_text("adam", exact=True).click()
    said = []
    page.locator(LR).press("PageDown")
    for _ in range(9):
        page.locator(LR).press("ArrowRight")
        said.append(settled(page).split(": ")[1])
        if said[-1] == "the notebook’s run":
            rows = table(page)
            held(rows, engine.retrain(dataset, lr=float(rows[0]["lr"]), batch_size=16, optimizer="adam"))
    assert said[0] == "the notebook’s run" and said[-1] == "this run"


def test_settings_that_nobody_could_see_are_not_trained(page):
    page.wait_for_function("log.some(([, type]) => type === 'ready')")
    page.evaluate(
        """() => { const input = document.querySelector("input[data-dim=lr]");
        for (let k = 0; k < 30; k++) { input.value = 0.3 + k / 100; input.dispatchEvent(new Event("input")); } }"""
    )
    settled(page)
    assert page.evaluate("log.filter(([, type]) => type === 'train').length") <= 3, "the first, the last, and its neighbour"


def test_a_new_setting_cancels_the_one_before(open_page, tmp_path):
    long = sweep(TASK, **(ARGUMENTS | {"optimizer": "sgd", "steps": 20_000, "record_every": 1000}))
    where = write_page(tmp_path, explore(long, browser=True, **TEXT))
    page = open_page("about:blank")
    page.add_init_script(WORKER)
    page.goto(where.as_uri())
    page.locator(LR).press("ArrowRight")
    page.wait_for_function("log.some(([, type]) => type === 'progress')")
    assert mark(page) == "training here …" and page.locator(".dx-under").count() == 1
    page.locator(LR).press("ArrowRight")
    page.wait_for_function("log.some(([, type]) => type === 'cancelled')")
    settled(page)
    log = page.evaluate("log")
    first, *_, neighbour = [entry[2] for entry in log if entry[:2] == ["to", "train"]]
    assert ["from", "cancelled", first] in log and ["from", "done", first] not in log
    assert log[-1] == ["from", "done", neighbour] and page.problems == []


def test_a_still_slider_keeps_no_core_busy(page):
    page.locator(LR).press("ArrowRight")
    settled(page)
    before = page.evaluate("log.length")
    page.wait_for_timeout(700)
    assert page.evaluate("log.length") == before


def test_back_on_the_grid_training_stops(page):
    page.wait_for_function("log.some(([, type]) => type === 'ready')")
    page.evaluate(  # at once, or else the run may be over in between
        """() => { const input = document.querySelector("input[data-dim=lr]"), start = input.value;
        for (const value of [0.3, start]) { input.value = value; input.dispatchEvent(new Event("input")); } }"""
    )
    assert settled(page) == "trained when this page was made" and "η = 0.1," in readout(page)
    page.wait_for_timeout(300)
    assert page.evaluate("log.filter(([, type]) => ['train', 'cancel'].includes(type)).map(([, type]) => type)") == ["train", "cancel"]


def test_theory_is_drawn_between_the_values_of_the_grid(page):
    page.locator(LR).press("ArrowRight")
    settled(page)
    lr = float(table(page)[0]["lr"])
    assert f"10 η = {10 * lr:.3g}" in readout(page)
    assert page.locator(".dx-theory").count() == 1
    d = [float(y) for y in re.findall(r",([\d.]+)", page.locator(".dx-theory").get_attribute("d"))]
    curve = 1 - np.exp(-lr * np.arange(0, 301, 5) / 5)
    heights = np.interp(curve, [curve[0], curve[-1]], [d[0], d[-1]])
    np.testing.assert_allclose(d, heights, atol=0.5)  # pixels


def test_a_run_can_be_kept_and_removed(page, dataset):
    page.get_by_role("button", name="Keep to compare").click()
    page.locator(LR).press("PageUp")
    assert page.locator(".dx-kept").count() == 2 and "A η = 0.1, B = 16, optimizer = sgd" in page.locator(".dx-kept-list").inner_text()
    rows = table(page)
    assert {row["lr"] for row in rows} == {"0.1", "0.2"}
    for lr in (0.1, 0.2):
        held([row for row in rows if float(row["lr"]) == lr], dataset.sel(lr=lr, batch_size=16, optimizer="sgd"), rtol=1e-6)
    for key in ("Home", "End"):
        page.locator(LR).press(key)
        settled(page)
        page.get_by_role("button", name="Keep to compare").click()
    page.get_by_role("button", name="Remove run A").click()
    assert page.locator(".dx-kept-list li").all_inner_texts()[0].startswith("B ")


def test_a_link_restores_the_setting(page, visit, dataset):
    page.locator(LR).press("ArrowRight")
    page.locator("figure").get_by_text("adam", exact=True).click()
    page.get_by_label("first of 2 seeds").fill("5")
    page.get_by_label("first of 2 seeds").press("Enter")
    settled(page)
    said = readout(page)
    page.get_by_role("button", name="Copy link").click()
    page.locator(".dx-status", has_text="address bar").wait_for()
    link = page.url
    assert link.startswith("file:") and "#explore=1&lr=" in link
    other = visit(hash=link[link.index("#") :])
    settled(other)
    assert readout(other) == said and other.get_by_label("first of 2 seeds").input_value() == "5" and other.problems == []
    other.evaluate("location.hash = '#explore=1&lr=0.2&seed=0'")
    assert settled(other) == "trained when this page was made" and "η = 0.2, " in readout(other)


@pytest.mark.parametrize(
    ("hash", "expected"),
    [
        ("#explore=1&lr=1e9&batch_size=1e9&seed=99999999999", "η = 0.28, B = 128, "),
        ("#explore=1&lr=-5&batch_size=-1", "η = 0.0032, B = 8, "),
        ("#explore=1&lr=1e999&batch_size=-Infinity", "η = 0.1, B = 16, "),
        ("#explore=1&lr=<img src=x onerror=alert(1)>&batch_size=NaN&optimizer=lion&seed=x", "η = 0.1, B = 16, optimizer = sgd"),
        ("#explore=1&__proto__=1&constructor=2&lr=&batch_size=0x10&lr=3", "η = 0.1, B = 16, optimizer = sgd"),
        ("#explore=2&lr=0.2", "η = 0.1, B = 16"),
        ("#explore", "η = 0.1, B = 16"),
        ("#%", "η = 0.1, B = 16"),
    ],
)
def test_hostile_links_are_refused_quietly(visit, hash, expected):
    page = visit(hash=hash)
    settled(page)
    assert expected in readout(page)
    assert page.problems == [] and page.locator("figure img").count() == 0
    sent = page.evaluate("log.filter(([, type]) => type === 'train').map((entry) => entry[3])")
    assert all(0.003 <= s["lr"] <= 0.3 and 1 <= s["batch_size"] <= 200 and max(s["seeds"]) < 2**32 for s in sent)


def test_the_drawing_is_a_file_of_its_own(page, tmp_path):
    page.get_by_role("button", name="Keep to compare").click()
    page.locator(LR).press("ArrowRight")
    settled(page)
    with page.expect_download() as waiting:
        page.get_by_role("button", name="SVG").click()
    source = waiting.value.path().read_text("utf-8")
    root = ElementTree.fromstring(source)
    assert root.tag == "{http://www.w3.org/2000/svg}svg" and root[0].text == TEXT["alt"]
    assert "var(" not in source and "class=" not in re.sub(r"<svg[^>]*>", "", source)
    assert re.search(r'<path[^>]*style="[^"]*stroke:\s?rgb\(0, 99, 166\)', source)
    words = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text") if text.text]
    assert words[-3] == "A: η = 0.1, B = 16, optimizer = sgd" and words[-2].startswith("η = ") and "the notebook’s run" in words[-1]


@pytest.mark.parametrize("missing", ["WebAssembly", "Worker", "DecompressionStream"])
def test_without_what_it_needs_the_figure_is_the_grid(visit, missing):
    page = visit(before=f"delete window.{missing};", hash="#explore=1&lr=0.12")
    assert page.locator(".dx-mark, .dx-tools").count() == 0
    assert page.locator(".dx-status").inner_text() == f"This page cannot train here (the browser has no {missing})."
    for wanted in ["0.01", "0.1", "0.2"]:
        page.locator(LR).press("Home" if wanted == "0.01" else "ArrowRight")
        assert page.locator(LR).get_attribute("aria-valuetext") == wanted
        assert page.locator("figure").get_attribute("data-state") == "exact"
    assert page.problems == []


def test_where_the_worker_does_not_start_the_grid_stays(visit):
    page = visit(before="window.Worker = class { constructor() { throw new Error('forbidden here'); } };")
    page.locator(".dx-status", has_text="forbidden here").wait_for()
    assert page.locator(".dx-mark, .dx-tools").count() == 0 and "η = 0.1," in readout(page)
    page.locator(LR).press("ArrowRight")
    assert page.locator("figure").get_attribute("data-state") == "exact"
    assert page.locator(LR).get_attribute("aria-valuetext") == "0.2" and page.problems == []


@pytest.mark.parametrize("failure", FAILURES)
def test_a_worker_that_fails_in_any_way_leaves_the_grid_and_says_so(visit, failure):
    answer, says = FAILURES[failure]
    page = visit(before=failing(answer))
    page.locator(LR).press("ArrowRight")  # a tenth of the way: only training could show it
    page.locator(".dx-status", has_text=says).wait_for(timeout=5000)
    assert page.locator(".dx-mark, .dx-tools").count() == 0 and page.locator(LR).get_attribute("aria-valuetext") in ("0.1", "0.2")
    for wanted in ["0.01", "0.1"]:
        page.keyboard.press("Home" if wanted == "0.01" else "ArrowRight")  # the slider has kept the focus
        assert page.locator(LR).get_attribute("aria-valuetext") == wanted
        assert page.locator("figure").get_attribute("data-state") == "exact" and "training" not in readout(page).replace("training loss", "")
    assert says in page.locator(".dx-status").inner_text() and page.problems == []


#: content policies -> what the figure says; drawn is the grid
POLICIES = {"worker-src 'none'": "a content policy forbids it", "script-src file: blob:; worker-src blob:": "a content policy forbids WebAssembly", "default-src file: data:": "cannot train here"}


def test_the_policy_that_the_book_names_lets_the_page_train(open_page, tmp_path, figure):
    named = re.search(r"`(script-src [^`]*)`", (Path(__file__).parents[2] / "book/how-to-read.md").read_text("utf-8"))[1].replace("'self'", "file:")  # a page on disk has no self
    path = write_page(tmp_path, figure)
    path.write_text(path.read_text("utf-8").replace("<title>", f'<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; {named}"><title>', 1), "utf-8")
    page = open_page(path)
    page.locator(LR).press("ArrowRight")
    assert settled(page).startswith("trained here") and page.problems == []


@pytest.mark.parametrize("policy", POLICIES)
def test_under_a_strict_content_policy_the_grid_is_drawn(open_page, tmp_path, figure, policy):
    path = write_page(tmp_path, figure)
    path.write_text(path.read_text("utf-8").replace("<title>", f'<meta http-equiv="Content-Security-Policy" content="{policy}"><title>', 1), "utf-8")
    page = open_page(path)
    page.locator(".dx-status", has_text=POLICIES[policy]).wait_for()
    page.locator(LR).press("ArrowRight")
    assert page.locator("figure").get_attribute("data-state") == "exact"
    assert page.locator(".dx-median").first.evaluate("(path) => getComputedStyle(path).stroke") == "rgb(0, 99, 166)"
    ticks = page.locator(".dx-tick").evaluate_all("(ticks) => ticks.map((t) => t.getBoundingClientRect().x)")
    assert len(set(ticks)) == len(ticks) > 1


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1000])
def test_no_accessibility_findings(visit, theme, width):
    page = visit(theme=theme, width=width)
    page.get_by_role("button", name="Keep to compare").click()
    page.locator(LR).press("ArrowRight")
    settled(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width and page.problems == []
    for target in page.locator(".dx-tools button, .dx-tools input, .dx-kept-list button").all():
        box = target.bounding_box()
        assert box["height"] >= 36 and box["width"] >= 36
    found = Axe().run(page).response["violations"]
    assert not found, json.dumps([(v["id"], v["impact"], [n["html"][:120] for n in v["nodes"]]) for v in found], indent=1)


def test_a_run_without_sliders_has_its_seed(open_page, tmp_path):
    run = sweep(TASK, **(ARGUMENTS | {"lr": 0.1, "batch_size": 16, "optimizer": "sgd"}))
    page = open_page(write_page(tmp_path, explore(run, browser=True, **TEXT)))
    page.get_by_label("first of 2 seeds").fill("4")
    page.get_by_label("first of 2 seeds").press("Enter")
    assert settled(page).endswith("ms: this run"), "nothing can be nudged"
    held(table(page), sweep(TASK, **(ARGUMENTS | {"lr": 0.1, "batch_size": 16, "optimizer": "sgd", "seed": [4, 5]})))
    assert page.problems == []


def test_a_setting_that_fails_is_said(visit):
    page = visit(
        before="""const post = Worker.prototype.postMessage; Worker.prototype.postMessage = function (m) {
        if (m.type === "train") setTimeout(() => this.onmessage({data: {type: "error", id: m.id, message: "lr=7; allowed"}})); else post.call(this, m); };"""
    )
    page.locator(LR).press("ArrowRight")
    page.locator(".dx-status", has_text="lr=7; allowed").wait_for()
    assert mark(page) == "" and readout(page).endswith("not trained.") and page.problems == []


def test_a_widget_trains_in_the_page_and_tells_the_kernel(open_page, tmp_path, figure):
    import base64

    page = open_page(write_page(tmp_path))
    state = {name: getattr(figure, name) for name in ["_spec", "_live", "_status", "_slots", "selection", "_package"]}
    page.evaluate(MODEL, state | {"_grid": base64.b64encode(figure._grid).decode(), "_runs": [], "_theory": {}})
    page.evaluate(
        """async (source) => { const module = await import("data:text/javascript;base64," + source);
        const el = document.createElement("div"); document.querySelector("main").append(el); module.default.render({model, el}); }""",
        base64.b64encode(Explorer._esm.encode()).decode(),
    )
    assert figure._live and page.locator(".dx-train").count() == 0, "the page trains, the kernel need not"
    page.locator(LR).press("Home")
    assert settled(page).startswith("trained here")
    selection = page.evaluate("model.get('selection')")
    figure.selection = selection
    assert figure.selection["lr"] == selection["lr"] < 0.01
    assert page.get_by_role("button", name="Copy link").count() == 0, "a notebook has no page to link to"
    assert page.problems == [] and page.evaluate("sent") == []
