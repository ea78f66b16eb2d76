"""Pages with slider figures on disk, and a browser to open them."""

import os
import shutil
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from playwright.sync_api import sync_playwright

from descent.explore import Explorer, static_assets
from descent.zoom import Zoom

ARGUMENTS = ["--no-sandbox", "--disable-quic", "--disable-background-networking"]

#: ways in which a worker fails, beside throwing in its constructor -> what the figure says
FAILURES = {
    "an event without a message": ("setTimeout(() => this.onerror(new Event('error')))", "did not start"),
    "answers that cannot be read": ("setTimeout(() => this.onmessageerror(new MessageEvent('messageerror')))", "cannot be read"),
    "no answer": ("", "has not answered for 10 seconds"),
    "no memory": ("setTimeout(() => this.onmessage({data: {type: 'error', message: 'RangeError: could not allocate memory'}}))", "could not allocate memory"),
    "no memory, without a word, once it runs": (
        "setTimeout(() => { if (m.type === 'load') this.onmessage({data: {type: 'ready'}}); else this.onerror(new Event('error')); })", "as where memory runs out"),
    "no answer once it runs": ("if (m.type === 'load') setTimeout(() => this.onmessage({data: {type: 'ready'}}))", "has not answered for 10 seconds"),
}  # fmt: skip


def failing(answer: str) -> str:
    """A script with a worker that answers a message `m` so, and with seconds that pass faster."""
    return f"""window.Worker = class {{ postMessage(m) {{ {answer} }} terminate() {{}} }};
    const slow = setInterval; window.setInterval = (act, ms) => slow(act, ms / 50);"""


@contextmanager
def launched():
    """A Chromium, closed at the end."""
    found = os.environ.get("DESCENT_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield browser
        browser.close()


def write_page(folder: Path, *figures: Explorer | Zoom, theme: str = "light", more: Mapping[str, str] = MappingProxyType({})) -> Path:
    """A page `page.html` in the folder, as the site has them; `more`: further style sheets and scripts, name -> text."""
    for name, text in {**static_assets(), **more}.items():
        (folder / name).write_text(text, encoding="utf-8")
    styles = "".join(f'<link rel="stylesheet" href="{name}">' for name in ("explore.css", *more) if name.endswith(".css"))
    scripts = "".join(f'<script src="{name}"></script>' for name in ("explore.js", *more) if name.endswith(".js"))
    page = folder / "page.html"
    page.write_text(
        f'<!doctype html><html lang="en" data-theme="{theme}"><head><meta charset="utf-8"><title>A page</title>'
        f'<meta name="viewport" content="width=device-width">{styles}{scripts}'
        '<style>html[data-theme="dark"] body { background: #16181d; color: #e8e4db }</style></head>'
        f"<body><main><h1>A page</h1>{''.join(figure.to_html() for figure in figures)}</main></body></html>",
        encoding="utf-8",
    )
    return page
