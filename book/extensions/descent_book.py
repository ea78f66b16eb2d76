"""The book's own Sphinx extension: its assets, its look, and the facts below each title.

Directives (`ledger`, `gallery`, `explorer`, `symbols`) are in `book_directives`, the map of the
chapters in `book_map`, the pages of exercises in `book_exercises`; what they show is read from
stored notebooks by `book_records`.
"""

from __future__ import annotations

import html
from pathlib import Path

import book_citations
import book_exercises
import book_map
from book_directives import add_directives
from book_records import Notebook, facts_line, read_notebook
from docutils import nodes
from sphinx.application import Sphinx

from descent import quantities
from descent.explore import static_assets
from descent.zoom import static_assets as zoom_assets

TEMPLATES = Path(__file__).parent / "templates"

#: Files that Jupyter Book or the theme put on every page and that no page of ours uses.
UNUSED = ("thebe", "design-tabs", "sphinx_comments")


def theme(app: Sphinx, config) -> None:
    """Settings that Jupyter Book's own defaults would overrule in `_config.yml`."""
    config.templates_path.insert(0, str(TEMPLATES))
    config.html_sidebars = {"**": ["brand.html", "sbt-sidebar-nav.html"]}
    config.html_title = "Descent"
    # An empty list, or the theme adds a second search box to the header.
    config.html_theme_options["navbar_persistent"] = []


def write_assets(app: Sphinx) -> None:
    """Write the files made from the library: the palette, and the slider figure's code."""
    folder = Path(app.doctreedir).parent / "generated"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {"quantities.css": quantities.css(), **static_assets(), **zoom_assets()}.items():
        (folder / name).write_text(text, encoding="utf-8")
        if name.endswith(".css"):
            app.add_css_file(name, priority=600)
    app.config.html_static_path.append(str(folder))
    app.add_css_file("book.css", priority=700)
    app.add_js_file("book.js", loading_method="defer")


def tidy_page(app: Sphinx, pagename: str, templatename: str, context: dict, doctree) -> None:
    """Add the slider figure's script to the pages that have one; drop what no page uses."""

    def used(asset) -> bool:
        text = f"{getattr(asset, 'filename', asset)} {getattr(asset, 'attributes', {}).get('body', '')}"
        return not any(word in text for word in UNUSED)

    # Entries of a bibliography have a role of their own, which is not allowed in a list.
    context["body"] = context.get("body", "").replace('<div role="list" class="citation-list">', '<div class="citation-list">')
    figures = {"descent-explorer": static_assets(), "descent-zoom": static_assets() | zoom_assets()}  # the map trains with the sliders' code
    scripts = {name: None for figure, assets in figures.items() if figure in context["body"] for name in assets if name.endswith(".js")}
    for name in scripts:
        app.add_js_file(name, loading_method="defer")
    for kind in ("script_files", "css_files"):
        context[kind] = [asset for asset in context[kind] if used(asset)]


def always_outdated(app: Sphinx, env, added, changed, removed) -> list[str]:
    """The landing page: a build without any page to write would not copy a changed style sheet."""
    return [env.config.root_doc]


def add_facts(app: Sphinx, doctree: nodes.document) -> None:
    """Put the line of facts below the page's title; in a chapter, below its first sentence."""
    section = next(iter(doctree.findall(nodes.section)), None)
    if section is None:
        return
    source = app.env.doc2path(app.env.docname)
    notebook = read_notebook(source) if source.endswith(".ipynb") else None
    line = facts_node(facts_line(words(doctree), notebook))
    where = section.first_child_matching_class(nodes.title) + 1
    lead = section[where] if where < len(section) else None
    if notebook and isinstance(lead, nodes.paragraph):
        lead["classes"].append("d-lead")
        where += 1
    section.insert(where, line)
    if notebook and notebook.leans_on:
        section.insert(where + 1, book_map.leans_node(notebook))


def facts_node(facts: list[str]) -> nodes.Node:
    """The facts as one quiet line."""
    items = "".join(f"<li>{html.escape(fact)}</li>" for fact in facts)
    return nodes.raw("", f'<ul class="d-facts" aria-label="Facts about this page">{items}</ul>', format="html")


def words(doctree: nodes.document) -> int:
    """The words of prose on a page. Code, raw output and displayed equations do not count."""
    skip = (nodes.literal_block, nodes.raw, nodes.math_block, nodes.comment)

    def inside(node: nodes.Node) -> int:
        if isinstance(node, skip):
            return 0
        if isinstance(node, nodes.Text):
            return len(node.split())
        return sum(inside(child) for child in node.children)

    return inside(doctree)


def setup(app: Sphinx) -> dict:
    book_citations.register()
    app.connect("config-inited", theme, priority=900)
    app.connect("builder-inited", write_assets)
    app.connect("source-read", book_exercises.read)
    app.connect("env-get-outdated", always_outdated)
    app.connect("html-page-context", tidy_page, priority=900)
    app.connect("doctree-read", add_facts)
    add_directives(app)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
