"""JupyterLab, with a kernel behind it: the slider figure, and a students' notebook of exercises."""

import os
import re
import subprocess
import sys
import time

import nbformat
import pytest
from courses import ROOT, answered

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

CELLS = [
    """import ipywidgets
from explorer_data import TEXT, retrained, runs
from descent.explore import explore
buttons = ipywidgets.ToggleButtons(options=["sgd", "adamw"])
figure = explore(runs(), ["loss", "sharpness"], theory={"sharpness": ("2/η", lambda lr: 2 / lr)},
                 controls={"optimizer": buttons}, train=retrained, **TEXT)
other = explore(runs(), **TEXT)
together = ipywidgets.link((figure, "selection"), (other, "selection"))""",
    "figure",
    "ipywidgets.HBox([ipywidgets.Label('beside'), other])",
]


@pytest.fixture
def lab(chromium, tmp_path):
    """`lab(name)` opens a notebook in a JupyterLab that has two, "figure" and "exercises", and runs it; no other host can be reached."""
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in CELLS],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )
    work = tmp_path / "work"
    work.mkdir()
    nbformat.write(notebook, work / "figure.ipynb")
    students = nbformat.read(ROOT / "exercises/edge-of-stability.ipynb", as_version=4)
    nbformat.write(answered(students, {"edge-of-stability-3-answer": "gfs = (w**2).sum()"}), work / "exercises.ipynb")
    environment = os.environ | {
        "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    arguments = ["--no-browser", "--allow-root", "--ServerApp.port=0", "--IdentityProvider.token=", f"--ServerApp.root_dir={work}"]
    log = open(tmp_path / "lab.log", "w+")
    server = subprocess.Popen([sys.executable, "-m", "jupyterlab", *arguments], stdout=log, stderr=subprocess.STDOUT, env=environment)
    try:
        for _ in range(300):
            if found := re.search(r"(http://(?:localhost|127\.0\.0\.1):\d+)/lab", (tmp_path / "lab.log").read_text()):
                break
            time.sleep(0.2)
        else:
            pytest.fail("JupyterLab did not start:\n" + (tmp_path / "lab.log").read_text())
        context = chromium.new_context(viewport={"width": 1300, "height": 1500})
        context.route(re.compile(r"^https?://(?!localhost|127\.0\.0\.1)"), lambda route: route.abort())
        page = context.new_page()
        page.errors = []
        page.on("pageerror", lambda error: page.errors.append(str(error)))

        def open_and_run(name):
            page.goto(f"{found[1]}/lab/tree/{name}.ipynb")
            page.locator(".jp-NotebookPanel .jp-Cell").first.wait_for(timeout=60_000)
            page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=60_000)
            page.get_by_role("menuitem", name="Run", exact=True).click()
            page.get_by_text("Run All Cells", exact=True).click()
            return page

        yield open_and_run
        page.screenshot(path=str(tmp_path / "lab.png"))  # what it looked like, for whoever reads a failure
        context.close()
    finally:
        server.terminate()
        server.wait(30)
        log.close()


def test_the_slider_figure(lab):
    lab = lab("figure")
    first, second = lab.locator("figure.dx-ready").nth(0), lab.locator("figure.dx-ready").nth(1)
    second.wait_for(timeout=40_000)
    path = lambda figure: figure.locator(".dx-median").first.get_attribute("d")  # noqa: E731
    said = lambda figure: figure.locator("output.dx-readout").inner_text()  # noqa: E731

    # arrow keys reach the slider, and a linked figure follows through the kernel
    assert second.bounding_box()["width"] > 500, "in a box the figure takes the room that is left"
    before, other = path(first), path(second)
    first.locator("input[data-dim=lr]").press("PageUp")
    assert path(first) != before and "η = 0.5" in said(first)
    second.locator("output", has_text="η = 0.5").wait_for(timeout=10_000)
    assert path(second) != other

    # off the grid: the exact theory comes from Python, and the run is trained on request
    first.locator("input[data-dim=lr]").press("ArrowLeft")
    first.locator("text.dx-note", has_text="2/η").wait_for(timeout=10_000)
    assert "not trained yet" in said(first)
    button = first.get_by_role("button", name="Train here")
    assert button.is_enabled()
    button.click()
    first.locator("output", has_text="final training loss").wait_for(timeout=20_000)
    assert first.get_attribute("data-state") == "exact"
    assert first.locator(".dx-own").count() == 1 and button.is_disabled()

    # an ipywidgets control stands in for the built-in choice
    assert first.locator("fieldset").count() == 0
    first.get_by_role("button", name="adamw").click()
    first.locator("output", has_text="optimizer = adamw").wait_for(timeout=10_000)
    assert lab.errors == []


def test_the_students_notebook(lab):
    lab = lab("exercises")
    lab.get_by_text("The flow still has some way to go from there.").wait_for(timeout=60_000)
    feedback = lab.locator(".descent-feedback strong")
    lab.wait_for_function("document.querySelectorAll('.descent-feedback').length === 5", timeout=60_000)
    assert [re.sub(r"\W+", "", text) for text in feedback.all_inner_texts()] == ["Open", "Open", "Notyet", "Open", "Open"]
    hint = lab.locator(".jp-RenderedMarkdown details").first
    assert not hint.locator("p").first.is_visible()
    hint.locator("summary").click()
    assert hint.locator("p").first.is_visible()
    assert lab.errors == []
