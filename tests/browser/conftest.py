"""Chromium for the browser tests: pages are opened from disk, and no other host can be reached."""

import pytest
from pages import launched


@pytest.fixture(scope="session")
def chromium():
    """One Chromium for the whole session."""
    with launched() as browser:
        yield browser


@pytest.fixture
def open_page(chromium):
    """`open_page(path, width=..., before="script", ...)` -> a page with `page.problems`: console errors, exceptions, requests beyond file://."""
    contexts = []

    def open_(path, width=1000, height=900, before="", **options):
        context = chromium.new_context(viewport={"width": width, "height": height}, offline=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.problems = []
        page.on("console", lambda m: page.problems.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("request", lambda r: page.problems.append(r.url) if not r.url.startswith(("file:", "data:", "blob:")) else None)
        page.add_init_script(before)
        page.goto(path.as_uri() if hasattr(path, "as_uri") else path)
        return page

    yield open_
    for context in contexts:
        context.close()
