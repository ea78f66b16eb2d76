"""What the library shows is readable in hosts that paint their page dark in their own way, and in the reader's forced colours."""

import io

import pytest
from explorer_data import TEXT, runs
from pages import write_page
from PIL import Image

from descent import explore, plots
from descent.claims import build
from descent.exercises import right, wrong
from descent.trainability import Window, network, survey
from descent.zoom import static_assets as zoom_assets
from descent.zoom import zoom

pytestmark = pytest.mark.browser


class Output:
    """Any output as a figure of `write_page`."""

    def __init__(self, html: str):
        self.to_html = lambda: html


def outputs() -> list[Output]:
    rows = [build("It is so", measured=m, below=2.0, paper=None, reproduces=m < 2, reason="It is small." * (m > 2)).html() for m in (1.0, 3.0)]
    feedback = [f._repr_mimebundle_()["text/html"] for f in (right("So it is."), wrong("Why not?"))]
    still = plots.curves(runs().loss.isel(batch_size=0, init_scale=1, optimizer=0), hue="lr", threshold={"2/η": 0.5}, **TEXT).html()
    return [Output(html) for html in (*rows, *feedback, still)]


TEXTS = {
    "explore": ".dx-name, .dx-value, .dx-segments label, output.dx-readout, .descent-explorer figcaption, .descent-explorer svg text",
    "zoom": ".dz-readout, .dz-mark, .dz-how, .dz-title, .descent-zoom figcaption",
    "still": ".descent-figure .d-wide svg text, .descent-figure figcaption",
    "claim": ".d-claim-statement, .descent-claim dd",
    "feedback": ".descent-feedback",
}
# the smallest contrast of some texts with what is painted behind them, and of the borders on the left
CONTRAST = """(selector) => {
  const paint = (text) => { const c = document.createElement("canvas").getContext("2d"); c.fillStyle = text; c.fillRect(0, 0, 1, 1); return [...c.getImageData(0, 0, 1, 1).data]; };
  const light = (rgb) => { const [r, g, b] = rgb.map((v) => v / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = (element) => { for (let at = element; at; at = at.parentElement) { const c = paint(getComputedStyle(at).backgroundColor); if (c[3] > 200) return c; }
    const canvas = document.createElement("i"); canvas.style.background = "Canvas"; document.body.append(canvas);
    const c = paint(getComputedStyle(canvas).backgroundColor); canvas.remove(); return c; };
  const ratio = (a, b) => { const [x, y] = [light(a), light(b)]; return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05); };
  const found = [...document.querySelectorAll(selector)].filter((element) => element.getClientRects().length);
  if (!found.length) throw new Error("nothing is " + selector);
  return Math.min(...found.map((element) => { const s = getComputedStyle(element); return ratio(paint(element instanceof SVGElement ? s.fill : s.color), behind(element)); }));
}"""
BARE = "document.documentElement.removeAttribute('data-theme');"
HOSTS = {  # script of the host, what the browser says of the system
    "VS Code": ("document.body.classList.add('vscode-dark'); document.body.style.cssText = 'background: #1e1e1e; color: #cccccc'", "light"),
    "VS Code, text left black": ("document.body.classList.add('vscode-dark'); document.body.style.background = '#1e1e1e'", "dark"),
    "Colab": ("document.documentElement.setAttribute('theme', 'dark'); document.body.style.background = '#383838'", "dark"),
    "classic Notebook with a dark style sheet": ("document.head.append(Object.assign(document.createElement('style'), {textContent: 'body { background: #202124; color: #e8eaed }'}))", "light"),
    "the system's choice": ("document.documentElement.style.colorScheme = 'light dark'", "dark"),
    "a dark box in a light page": ("document.querySelector('main').style.cssText = 'background: oklch(25% 0.02 250); color: oklch(90% 0.01 90)'", "light"),
    "a gradient": ("document.querySelector('main').style.cssText = 'background: linear-gradient(#101418, #202428) #111; color: #ddd'", "light"),
    "says nothing, text left black": ("document.body.style.background = '#1b1b1b'", "light"),
    "light on a dark system": ("", "dark"),
    "white in a dark VS Code": ("document.body.classList.add('vscode-dark'); document.body.style.cssText = 'background: #fff; color: #111'", "dark"),
}


@pytest.fixture(scope="module")
def figures():
    return [explore(runs(), **TEXT), zoom(survey(network(0), Window(100.0, 40.0, 2.0), 9, [0], steps=20), browser=False, **TEXT)]


@pytest.fixture
def everything(open_page, tmp_path, figures):
    def visit(**options):
        page = open_page(write_page(tmp_path, *outputs(), *figures, more=zoom_assets()), **options)
        page.evaluate(BARE)
        return page

    return visit


@pytest.mark.parametrize("host", HOSTS)
def test_every_text_has_contrast_with_what_the_host_paints(everything, host):
    script, system = HOSTS[host]
    page = everything(color_scheme=system)
    page.evaluate(f"() => {{ {script} }}")
    page.wait_for_timeout(250)  # the segments fade
    found = {name: round(page.evaluate(CONTRAST, selector), 2) for name, selector in TEXTS.items()}
    assert min(found.values()) >= 4.5, found
    assert page.problems == []


def test_a_figure_follows_a_host_that_changes_its_mind(everything):
    page = everything()
    tone = lambda: {f.get_attribute("data-descent-tone") for f in page.locator(".dx-ready, .dz-ready").all()}  # noqa: E731
    assert tone() == {"light"}
    page.evaluate("document.body.style.cssText = 'transition: background-color .2s; background: #fff'")
    page.evaluate("document.body.style.background = '#111'")
    page.wait_for_function("[...document.querySelectorAll('.dx-ready, .dz-ready')].every((f) => f.dataset.descentTone === 'dark')", timeout=5000)
    page.evaluate("const style = document.createElement('style'); style.textContent = 'body { background: #fff !important; transition: none !important }'; document.head.append(style)")
    assert tone() == {"light"}
    page.evaluate("document.querySelector('main').className = 'night'; document.querySelector('main').style.background = 'rgb(10 10 10)'")
    assert tone() == {"dark"}


def test_a_figure_in_a_shadow_root_and_one_put_in_later(open_page, tmp_path, figures):
    """As marimo mounts widgets, and as JupyterLab renders outputs before they are in the page."""
    page = open_page(write_page(tmp_path, figures[0]))
    page.evaluate(
        """() => { const dark = document.createElement("div"), inner = document.createElement("div"), figure = document.querySelector("figure");
        dark.style.background = "#111"; dark.attachShadow({mode: "open"}).append(inner); figure.remove(); inner.append(figure); window.moved = figure; document.body.append(dark); }"""
    )
    page.wait_for_function("window.moved.dataset.descentTone === 'dark'", timeout=5000)


# -- forced colours ------------------------------------------------------------------------


@pytest.mark.parametrize("system", ["light", "dark"])
def test_forced_colours_hide_nothing(everything, system):
    page = everything(forced_colors="active", color_scheme=system)
    found = {name: round(page.evaluate(CONTRAST, selector), 2) for name, selector in TEXTS.items() if name in ("explore", "zoom", "still")}
    assert min(found.values()) >= 4.5, found
    track = page.locator("input[data-dim=lr]").locator("xpath=..")
    ground, drawn = visible(track, 20)
    assert drawn > 0.8, "the slider's track"
    assert visible(track, 32, ground)[1] > 0.02, "its ticks"
    pictures = []
    for focused in (False, True):
        page.evaluate(f"document.querySelector('input[data-dim=lr]').{'focus' if focused else 'blur'}()")
        if focused:
            page.keyboard.press("Tab")
            page.keyboard.press("Shift+Tab")
        pictures.append(track.screenshot())
    assert pictures[0] != pictures[1], "focus"
    chosen, other = (page.locator(f".dx-segments input{which} + label").first.evaluate("(l) => getComputedStyle(l).backgroundColor") for which in (":checked", ":not(:checked)"))
    assert chosen != other and not chosen.endswith(" 0)")
    for legend in (".dz-key .dz-in", ".dz-key .dz-out"):
        assert len(set(pixels(page.locator(legend)).getdata())) > 20, "a ramp"
    assert page.problems == []


def pixels(locator) -> Image.Image:
    return Image.open(io.BytesIO(locator.screenshot())).convert("RGB")


def visible(locator, y: int, ground=None):
    """The background's colour, and the part of a row of pixels that differs from it."""
    picture = pixels(locator)
    ground = ground or picture.getpixel((3, 3))
    return ground, sum(picture.getpixel((x, y)) != ground for x in range(picture.width)) / picture.width


def test_a_heat_map_keeps_its_legend_and_hatching_in_forced_colours(open_page, tmp_path):
    figure = explore(runs(steps=120), x="lr", y="init_scale", color="loss", kind="heatmap", **TEXT)
    page = open_page(write_page(tmp_path, figure), forced_colors="active", color_scheme="dark")
    fills = page.locator(".dx-cell").evaluate_all("(cells) => cells.map((c) => getComputedStyle(c).fill)")
    assert len(set(fills)) > 5
    hatched = pixels(page.locator(".dx-diverged").first)
    assert len(set(hatched.getdata())) > 3
    assert page.problems == []
