"""Pages with slider figures on disk, and a browser to open them."""

import os
import shutil
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import sync_playwright

from descent.explore import Explorer, static_assets

ARGUMENTS = ["--no-sandbox", "--disable-quic", "--disable-background-networking"]


@contextmanager
def launched():
    """A Chromium, closed at the end."""
    found = os.environ.get("DESCENT_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield browser
        browser.close()


def write_page(folder: Path, *figures: Explorer, theme: str = "light") -> Path:
    """A page `page.html` in the folder, as the site has them."""
    for name, text in static_assets().items():
        (folder / name).write_text(text, encoding="utf-8")
    page = folder / "page.html"
    page.write_text(
        f'<!doctype html><html lang="en" data-theme="{theme}"><head><meta charset="utf-8"><title>A page</title>'
        '<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="explore.css">'
        '<script src="explore.js"></script><style>html[data-theme="dark"] body { background: #16181d; color: #e8e4db }</style></head>'
        f"<body><main><h1>A page</h1>{''.join(figure.to_html() for figure in figures)}</main></body></html>",
        encoding="utf-8",
    )
    return page
