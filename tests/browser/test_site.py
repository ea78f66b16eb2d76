"""The built site in Chromium, with every other host out of reach: `make book` has to come first."""

from __future__ import annotations

import functools
import html
import http.server
import re
import threading
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import nbformat
import pytest
from axe_playwright_python.sync_playwright import Axe
from bs4 import BeautifulSoup

ROOT = Path(__file__).parents[2]
HTML = ROOT / "_build" / "html"
#: Every page that a reader can reach; `index.html` only sends one on to `book/index.html`.
PAGES = sorted(p.relative_to(HTML).as_posix() for p in HTML.rglob("*.html") if "_static" not in p.parts)
CONTENT = [p for p in PAGES if p not in ("index.html", "genindex.html", "search.html")]
WITH_SLIDERS = [p for p in CONTENT if 'class="descent-explorer"' in (HTML / p).read_text("utf-8")]
pytestmark = pytest.mark.browser


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Files of the built site, without a line in the terminal for each."""

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def site():
    """Address of the built site, served on this machine."""
    assert PAGES, f"there is no site in {HTML}: run `make book` first"
    handler = functools.partial(Quiet, directory=str(HTML))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def visit(chromium, site):
    """`visit(page, disk=False, width=..., ...)` -> the page; `page.problems` collects whatever went wrong on it."""
    contexts = []

    def visit_(address: str, disk: bool = False, width: int = 1280, height: int = 900, **options):
        home = f"file://{HTML}" if disk else site
        context = chromium.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        problems = []

        def gate(route):
            if route.request.url.startswith((home, "data:", "blob:")):
                return route.continue_()
            problems.append(f"request to {route.request.url}")
            route.abort()

        context.route("**/*", gate)
        page = context.new_page()
        page.problems = problems
        page.on("console", lambda m: problems.append(f"console: {m.text}") if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: problems.append(f"exception: {error}"))
        page.on("response", lambda r: problems.append(f"{r.status} for {r.url}") if r.status >= 400 else None)
        page.goto(f"{home}/{address}", wait_until="load")
        page.evaluate("window.MathJax && MathJax.startup && MathJax.startup.promise.then(() => null)")
        page.wait_for_function("!document.querySelector('figure.descent-explorer[data-spec]:not(.dx-ready)')")
        return page

    yield visit_
    for context in contexts:
        context.close()


def test_there_is_a_site():
    assert PAGES, f"there is no site in {HTML}: run `make book` first"
    assert {"book/index.html", "book/ledger.html", "search.html"} <= set(PAGES)


@pytest.mark.parametrize("address", [*CONTENT, "search.html"])
def test_page(visit, address):
    """One visit: quiet, one title, two themes, no serious accessibility finding in either."""
    page = visit(address, color_scheme="light", reduced_motion="reduce")
    page.wait_for_load_state("networkidle")
    assert page.problems == []
    assert page.locator("h1:visible").count() == 1
    backgrounds = {}
    for _ in range(3):  # the switch goes round light, dark and the system's choice
        page.locator(".theme-switch-button").first.click()
        theme = page.locator("html").get_attribute("data-theme")
        if theme not in backgrounds:
            backgrounds[theme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
            page.mouse.move(0, 0)
            page.wait_for_timeout(200)  # colours fade from one theme to the other
            assert grave(page) == [], f"in the {theme} theme"
    assert set(backgrounds) == {"light", "dark"} and len(set(backgrounds.values())) == 2


def grave(page) -> list[str]:
    """The serious and critical findings of axe, each with the first element it is about."""
    found = [v for v in Axe().run(page).response["violations"] if v["impact"] in ("serious", "critical")]
    return [f"{v['id']} ({len(v['nodes'])} times): {v['nodes'][0]['html'][:200]}" for v in found]


@functools.cache
def soup(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text("utf-8"), "html.parser")


@pytest.mark.parametrize("address", PAGES)
def test_links_lead_somewhere(address):
    """Every link inside the site has a file at its end and every anchor an element."""
    broken = []
    for tag, attribute in [("a", "href"), ("link", "href"), ("script", "src"), ("img", "src")]:
        for element in soup(HTML / address).find_all(tag):
            value = element.get(attribute)
            if value is None:
                continue
            parts = urlsplit(urljoin(f"http://site/{address}", value))
            if parts.netloc != "site":
                assert tag == "a", f"{tag} loads {value} from another host"
                continue
            path = HTML / unquote(parts.path).lstrip("/")
            path = path / "index.html" if path.is_dir() else path
            if not path.is_file():
                broken.append(value)
            elif parts.fragment and path.suffix == ".html" and not soup(path).find(id=unquote(parts.fragment)):
                broken.append(value)
    assert broken == []


@pytest.mark.parametrize("address", [*CONTENT, "search.html", "genindex.html"])
def test_page_fits_a_phone(visit, address):
    page = visit(address, width=360, height=740)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("address", WITH_SLIDERS)
def test_sliders_move_the_figure(visit, address):
    """From the disk, each slider of each figure, moved with the keyboard, changes the drawing and its readout."""
    page = visit(address, disk=True)
    figures = page.locator("figure.descent-explorer")
    moved = 0
    for i in range(figures.count()):
        figure = figures.nth(i)
        sliders = figure.locator("input[type=range]")
        for j in range(sliders.count()):
            slider = sliders.nth(j)
            slider.focus()
            seen = {look(figure)}
            for key in ("Home", "ArrowRight", "End"):
                slider.press(key)
                page.wait_for_function("figure => figure.dataset.state === 'exact'", arg=figure.element_handle())  # trained, if need be
                seen.add(look(figure))
            name = slider.get_attribute("aria-label") or slider.get_attribute("id")
            assert len({drawing for drawing, _ in seen}) > 1, f"slider {name} of figure {i} does not change the drawing"
            assert len({readout for _, readout in seen}) > 1, f"slider {name} of figure {i} does not change its readout"
            moved += 1
    assert moved > 0
    assert page.problems == []


def look(figure) -> tuple[str, str]:
    """What the figure draws, and what its readouts say."""
    drawing = figure.evaluate(
        """f => [...f.querySelectorAll('svg path, svg circle, svg rect, svg text')].map(e => e.outerHTML).join('')
              + [...f.querySelectorAll('canvas')].map(c => c.toDataURL()).join('')"""
    )
    readout = figure.evaluate("f => [...f.querySelectorAll('output')].map(o => o.textContent).join('|')")
    return drawing, readout


@pytest.mark.parametrize("disk", [False, True], ids=["served", "disk"])
def test_search_finds_a_word(visit, disk):
    page = visit("search.html?q=sharpness", disk=disk)
    # the hits are listed one after the other
    page.locator("ul.search li a", has_text="Notation").first.wait_for(timeout=10_000)
    assert page.problems == []


def test_ledger_filters(visit):
    page = visit("book/ledger.html")
    rows = page.locator(".d-ledger tbody")
    total = rows.count()
    assert page.locator(".d-ledger tbody:visible").count() == total
    page.select_option("form.d-filter select[name=chapter]", "edge-of-stability")
    shown = page.locator(".d-ledger tbody:visible")
    assert 0 < shown.count() < total
    assert {shown.nth(i).get_attribute("data-chapter") for i in range(shown.count())} == {"edge-of-stability"}
    assert page.locator("form.d-filter output").inner_text().startswith(f"{shown.count()} of {total}")
    page.fill("form.d-filter input[name=words]", "no such words anywhere")
    assert shown.count() == 0


def test_ledger_without_scripts_shows_everything(visit):
    shown = soup(HTML / "book/ledger.html")
    assert shown.select_one("form.d-filter").has_attr("hidden")
    assert shown.select(".d-ledger tbody")
    assert not [body for body in shown.select(".d-ledger tbody") if body.has_attr("hidden")]


def test_gallery_shows_every_chapter():
    cards = soup(HTML / "book/index.html").select(".d-card")
    written = sorted(p.stem for p in (ROOT / "chapters").glob("*.ipynb"))
    assert sorted(Path(card.select_one("h3 a")["href"]).stem for card in cards) == written
    for card in cards:
        assert card.select_one(".d-card-picture svg"), f"{card.h3.get_text()} has no picture"
        assert card.select_one("p").get_text().strip()


# ------------------------------------------------------------------ exercises

EXERCISES = [p for p in CONTENT if p.startswith("exercises/")]


def solutions() -> dict[str, str]:
    """What stands in the sources of the exercises and not in the students' notebooks, without spaces -> where."""
    out = {}
    for path in sorted((ROOT / "book/exercises").glob("*.ipynb")):
        students = "".join(c.source for c in nbformat.read(ROOT / "exercises" / path.name, as_version=4).cells)
        for cell in nbformat.read(path, as_version=4).cells:
            for hidden in re.findall(r"### BEGIN (?:SOLUTION|HIDDEN TESTS)\n(.*?)\n### END", cell.source, re.S):
                for line in (re.sub(r"\s", "", line) for line in hidden.splitlines()):
                    if len(line) > 8 and line not in re.sub(r"\s", "", students):
                        out[line] = f"{path.name}, {cell.id}"
    return out


def test_no_solution_anywhere_in_the_site():
    """Neither on a page, nor in its source, nor in what can be downloaded or searched."""
    hidden = solutions()
    assert len(hidden) > 50
    found = []
    for path in sorted(p for p in HTML.rglob("*") if p.suffix in (".html", ".ipynb", ".md", ".txt", ".js", ".json", ".inv")):
        text = path.read_text("utf-8", errors="ignore")
        if path.suffix == ".html":
            text = html.unescape(re.sub(r"<[^>]*>", "", text))
        elif path.suffix == ".ipynb":
            text = text.replace("\\n", "\n").replace('\\"', '"')
        text = re.sub(r"\s", "", text)
        found += [f"{path.relative_to(HTML)} holds {line!r} of {where}" for line, where in hidden.items() if line in text]
        found += [f"{path.relative_to(HTML)} holds a solution's mark" for mark in ("BEGINSOLUTION", "BEGINHIDDENTESTS") if mark in text and "teaching" not in path.name]
    assert not found, found


@pytest.mark.parametrize("address", EXERCISES)
def test_hints_are_folded_and_the_notebook_can_be_had(visit, address):
    page = visit(address)
    hints = page.locator("div.exercise details")
    assert page.locator("div.exercise").count() >= 4 and hints.count() >= 3
    assert not hints.first.locator("p").first.is_visible()
    hints.first.locator("summary").focus()
    page.keyboard.press("Enter")
    assert hints.first.locator("p").first.is_visible()
    with page.expect_download() as download:
        page.get_by_text("Download the notebook").click()
    assert Path(download.value.path()).read_bytes() == (ROOT / address).with_suffix(".ipynb").read_bytes()
    assert page.problems == []


def test_the_map_leads_to_every_chapter(visit):
    page = visit("book/map.html")
    targets = page.locator(".d-map a").evaluate_all("links => links.map((a) => a.getAttribute('href'))")
    assert sorted(targets) == sorted(f"../{p}" for p in CONTENT if p.startswith("chapters/"))


def test_a_chapter_links_what_it_leans_on(visit):
    page = visit("chapters/edge-of-stability.html")
    page.locator(".d-leans a").click()
    assert page.url.endswith("/chapters/quadratic-bowl.html")
