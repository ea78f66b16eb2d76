"""The map of the chapters: which leans on which, as each says of itself ("The chapter leans on ...")."""

from __future__ import annotations

from html import escape
from textwrap import wrap

import book_records as records
import networkx as nx
from book_directives import LATE, chapters, raw
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

WIDTH, HEIGHT, GAP, RISE = 150, 52, 18, 46  # of a chapter's box, and the space between boxes and between rows


def graph(leans_on: dict[str, list[str]]) -> nx.DiGraph:
    """An edge to each chapter from every one that it leans on.

    Raises:
        ValueError: a chapter leans on one that there is not, or on itself in a circle.
    """
    edges = nx.DiGraph([(other, slug) for slug, others in leans_on.items() for other in others])
    edges.add_nodes_from(leans_on)
    if set(edges) != set(leans_on) or not nx.is_directed_acyclic_graph(edges):
        raise ValueError(f"chapters that lean on a missing chapter or on each other in a circle: {leans_on}")
    return edges


def rows(leans_on: dict[str, list[str]]) -> list[list[str]]:
    """The chapters in rows, each below all that it leans on and as high as that allows.

    Within a row they stand in the order of the chapters that they lean on, so that few lines cross.
    """
    out: list[list[str]] = []
    place: dict[str, float] = {}
    for generation in nx.topological_generations(graph(leans_on)):
        row = [s for s in leans_on if s in generation]
        row.sort(key=lambda s: sum(place[o] for o in leans_on[s]) / max(len(leans_on[s]), 1))
        place |= {s: i - (len(row) - 1) / 2 for i, s in enumerate(row)}
        out.append(row)
    return out


def drawing(titles: dict[str, str], leans_on: dict[str, list[str]], links: dict[str, str]) -> str:
    """The map as SVG: a box with a link for each chapter, a line to each that it leans on unless a longer way says so."""
    levels = rows(leans_on)
    width = max(len(row) for row in levels) * (WIDTH + GAP) + GAP
    height = len(levels) * (HEIGHT + RISE) - RISE + 4
    at = {
        slug: (width / 2 + (i - (len(row) - 1) / 2) * (WIDTH + GAP), 2 + level * (HEIGHT + RISE)) for level, row in enumerate(levels) for i, slug in enumerate(row)
    }
    lines, boxes = [], []
    for other, slug in nx.transitive_reduction(graph(leans_on)).edges:
        (x0, y0), (x, y) = at[other], at[slug]
        lines.append(f'<path d="M{x0:g} {y0 + HEIGHT:g}C{x0:g} {y0 + HEIGHT + RISE:g} {x:g} {y - RISE:g} {x:g} {y:g}"/>')
    for slug, (x, y) in at.items():
        words = wrap(titles[slug], 20)
        text = "".join(f'<tspan x="{x:g}" dy="{1.25 if i else 0}em">{escape(line)}</tspan>' for i, line in enumerate(words))
        boxes.append(
            f'<a href="{escape(links[slug])}"><rect x="{x - WIDTH / 2:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="4"/>'
            f'<text x="{x:g}" y="{y + HEIGHT / 2 + 5 - 8.5 * (len(words) - 1):g}">{text}</text></a>'
        )
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="group" aria-label="Map of the chapters, each below those that it leans on" '
        f'style="min-width: {0.8 * width:.0f}px; max-width: {width:g}px"><g class="d-map-lines">{"".join(lines)}</g>{"".join(boxes)}</svg>'
    )


def map_nodes(app: Sphinx, docname: str) -> list[nodes.Node]:
    """Every chapter, below those that it leans on."""
    written = {c.slug: c for c in chapters(app.env)}
    links = {slug: app.builder.get_relative_uri(docname, f"chapters/{slug}") for slug in written}
    titles = {slug: c.title for slug, c in written.items()}
    try:
        svg = drawing(titles, {slug: c.leans_on for slug, c in written.items()}, links)
    except ValueError as error:
        raise ExtensionError(str(error)) from error
    return [raw(f'<div class="d-map" tabindex="0" role="region" aria-label="Map of the chapters">{svg}</div>')]


def leans_node(notebook: records.Notebook) -> nodes.raw:
    """The chapters that this one leans on, as a line below its facts."""
    others = [records.read_notebook(notebook.path.with_name(f"{slug}.ipynb")) for slug in notebook.leans_on]
    links = ", ".join(f'<a href="{other.slug}.html">{escape(other.title)}</a>' for other in others)
    return raw(f'<p class="d-leans">Leans on: {links}</p>')


LATE["map"] = map_nodes
