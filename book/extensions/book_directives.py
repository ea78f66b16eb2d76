"""Directives whose content is made from stored notebooks, the bibliography and the library."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from html import escape
from pathlib import Path

import book_records as records
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

from descent import quantities
from descent.claims import SUPPORT, Claim


class late(nodes.General, nodes.Element):
    """Placeholder of a directive in `LATE`: its content needs every chapter read, or their addresses, which the builder knows."""


#: Directive -> what makes its content: (app, name of the page) -> nodes.
LATE: dict[str, Callable[[Sphinx, str], list[nodes.Node]]] = {}


def chapters(env) -> list[records.Notebook]:
    """The chapters that are in the book, in the order of its table of contents."""
    # The root's toctrees name the chapters in order; found_docs alone is unordered.
    root = env.config.root_doc
    ordered = [d for tree in env.get_doctree(root).findall() if "includefiles" in tree for d in tree["includefiles"]]
    return [records.read_notebook(env.doc2path(d)) for d in ordered if d.startswith("chapters/")]


def raw(html: str) -> nodes.raw:
    return nodes.raw("", html, format="html")


class Late(SphinxDirective):
    """A directive of `LATE`. Its page is rebuilt whenever a notebook or the bibliography changes."""

    def run(self):
        root = Path(self.env.srcdir)
        for path in (*sorted(root.glob("chapters/*.ipynb")), *sorted(root.glob("exercises/*.ipynb")), root / "book/references.bib"):
            self.env.note_dependency(str(path))
        return [late(directive=self.name)]


class Explorer(SphinxDirective):
    """The stored slider figure of the chapter named in the argument, with a link to it."""

    required_arguments = 1
    option_spec = {"no-link": directives.flag}

    def run(self):
        slug = self.arguments[0]
        path = Path(self.env.srcdir, "chapters", f"{slug}.ipynb")
        if not path.exists():
            known = sorted(p.stem for p in path.parent.glob("*.ipynb"))
            raise self.error(f"explorer: there is no chapter {slug!r}; there are {known}")
        self.env.note_dependency(str(path))
        figure = records.read_notebook(path).explorer
        if not figure:
            raise self.error(f"explorer: chapter {slug!r} has no stored slider figure; run `make execute CHAPTER={slug}`")
        return [raw(f'<div class="d-landing-explorer">{figure}</div>')]


class Symbols(SphinxDirective):
    """Table of the symbols of `descent.quantities`: `quantities` or `hyperparameters`."""

    required_arguments = 1

    def run(self):
        tables = {"quantities": quantities.QUANTITIES, "hyperparameters": quantities.HYPERPARAMETERS}
        if self.arguments[0] not in tables:
            raise self.error(f"symbols: {self.arguments[0]!r} is not one of {sorted(tables)}")
        self.env.note_dependency(quantities.__file__)
        header = ["Symbol", "Quantity", "Unit", "Name in code"]
        lines = ["| " + " | ".join(header) + " |", "| --- | --- | --- | --- |"]
        for name, q in tables[self.arguments[0]].items():
            # A bare "|" would end the table's cell.
            symbol = "$" + q.tex.replace(r"\|", r"\Vert ") + "$" if q.tex else "–"
            swatch = f"[{q.label}]{{.d-ink-{q.role}}}" if q.role != "ink" else q.label
            lines.append(f"| {symbol} | {swatch} | {q.unit or '–'} | `{name}` |")
        return self.parse_text_to_nodes("\n".join(lines))


def resolve(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Replace the placeholders, now that every page is read."""
    for node in list(doctree.findall(late)):
        node.replace_self(LATE[node["directive"]](app, docname))


# --------------------------------------------------------------------- the gallery


def gallery_nodes(app: Sphinx, docname: str) -> list[nodes.Node]:
    """A card for each chapter: its first figure, title, phenomenon, minutes to read."""
    from descent_book import words

    out: list[nodes.Node] = [raw('<div class="d-gallery">')]
    for chapter in chapters(app.env):
        target = f"chapters/{chapter.slug}"
        uri = app.builder.get_relative_uri(docname, target)
        page = app.env.get_doctree(target)
        facts = records.facts_line(words(page), chapter)
        out += [
            raw(
                f'<article class="d-card"><a class="d-card-picture" href="{uri}" tabindex="-1" aria-hidden="true">'
                f'{chapter.picture}</a><h3><a href="{uri}">{escape(chapter.title)}</a></h3>'
            ),
            *phenomenon(app, docname, page),
            raw(f'<p class="d-card-facts">{escape(" · ".join(facts))}</p></article>'),
        ]
    return [*out, raw("</div>")]


def phenomenon(app: Sphinx, docname: str, page: nodes.document) -> list[nodes.Node]:
    """The chapter's first sentence, copied for use on another page."""
    lead = next((p for p in page.findall(nodes.paragraph)), None)
    if lead is None:
        return []
    lead = lead.deepcopy()
    lead["classes"] = []
    for reference in list(lead.findall(pending_xref)):
        reference.replace_self(reference.children)
    if any(lead.findall(nodes.math)):
        # MathJax is loaded only by pages that the math domain knows to hold equations.
        app.env.get_domain("math").data["has_equations"][docname] = True
    return [lead]


# ---------------------------------------------------------------------- the ledger


def ledger_nodes(app: Sphinx, docname: str) -> list[nodes.Node]:
    """Every paper of the bibliography with its claims, what was measured, and the verdict; the script on the page only hides rows."""
    written = {c.slug: c for c in chapters(app.env)}
    papers = records.read_papers(Path(app.srcdir, "book/references.bib"))
    unknown = {k for c in written.values() for r in c.claims for k in r.papers} - {p.key for p in papers}
    if unknown:
        raise ExtensionError(f"claims name papers that are not in book/references.bib: {sorted(unknown)}")

    def where(slug: str) -> str:
        if slug not in written:
            return escape(records.chapter_title(slug))
        uri = app.builder.get_relative_uri(docname, f"chapters/{slug}")
        return f'<a href="{uri}">{escape(written[slug].title)}</a>'

    order = {slug: i for i, slug in enumerate(written)}
    papers.sort(key=lambda p: (order.get(p.chapter, len(order)), p.chapter, p.scope != "core"))
    bodies, states = [], Counter()
    for paper in papers:
        claims = [claim for c in written.values() for claim in c.claims if paper.key in claim.papers]
        state = records.status(claims)
        states[state] += 1
        span = f'scope="rowgroup" rowspan="{len(claims)}"' if claims else 'scope="row" colspan="5"'
        cell = (
            f'<th {span} class="d-paper">{title_html(paper)}'
            f'<span class="d-authors">{escape(", ".join(filter(None, (paper.authors, paper.year))))}</span>'
            f'<span class="d-where">{where(paper.chapter)}</span></th>'
        )
        bodies.append(body_html(cell, paper.chapter, state, claims))
    for slug, chapter in written.items():
        own = [r for r in chapter.claims if not r.papers]
        if own:
            cell = (
                f'<th scope="rowgroup" rowspan="{len(own)}" class="d-paper"><span class="d-title">The book’s own checks</span>'
                f'<span class="d-where">{where(slug)}</span></th>'
            )
            bodies.append(body_html(cell, slug, records.status(own), own))

    claims = [r for c in written.values() for r in c.claims]
    held = sum(records.reproduced(r) for r in claims)
    html = (
        f'<section class="d-ledger" aria-label="Ledger">{summary_html(papers, states, len(claims), held)}'
        f"{filter_html(papers, written, states)}"
        '<div class="d-ledger-scroll" tabindex="0" role="region" aria-label="Papers and claims"><table>'
        '<thead><tr><th scope="col">Paper and chapter</th><th scope="col">Claim</th><th scope="col">Expected</th>'
        '<th scope="col">Measured</th><th scope="col">Control</th><th scope="col">Verdict</th></tr></thead>'
        f"{''.join(bodies)}</table></div></section>"
    )
    return [raw(html)]


def title_html(paper: records.Paper) -> str:
    title = escape(paper.title)
    return f'<a class="d-title" href="{escape(paper.url)}">{title}</a>' if paper.url else f'<span class="d-title">{title}</span>'


def body_html(paper_cell: str, chapter: str, state: str, claims: list[Claim]) -> str:
    """One `tbody` for each paper, so that a filter can hide a paper with all its claims."""
    if not claims:
        rows = f'<tr>{paper_cell}{verdict_html("to-come", records.STATUSES["to-come"])}</tr>'
    else:
        rows = ""
        for i, claim in enumerate(claims):
            verdict = verdict_html("reproduced" if records.reproduced(claim) else "not-at-this-scale", claim.verdict, claim.reason)
            rows += (
                f"<tr>{paper_cell if i == 0 else ''}"
                f'<td data-label="Claim">{escape(claim.statement)}<span class="d-support">{SUPPORT.get(claim.support, "")}</span></td>'
                f'<td data-label="Expected" class="d-number">{escape(claim.expectation)}'
                f'<span class="d-tolerance">{escape(claim.tolerance)}</span></td>'
                f'<td data-label="Measured" class="d-number">{escape(claim.summary)}</td>{control_html(claim)}{verdict}</tr>'
            )
    return f'<tbody data-chapter="{chapter}" data-status="{state}">{rows}</tbody>'


def control_html(claim: Claim) -> str:
    """What was measured where the claim should not hold, and what that was; an empty cell without a control."""
    if not claim.control:
        return '<td class="d-number"></td>'
    return f'<td data-label="Control" class="d-number">{escape(claim.control_summary)}<span class="d-against">{escape(claim.against)}</span></td>'


def verdict_html(state: str, verdict: str, reason: str = "") -> str:
    why = f'<span class="d-reason">{escape(reason)}</span>' if reason else ""
    return f'<td data-label="Verdict"><span class="d-verdict d-{state}">{escape(verdict)}</span>{why}</td>'


def summary_html(papers, states: Counter, claims: int, held: int) -> str:
    items = [(len(papers), "papers"), (claims, "claims checked"), (held, "claims reproduced")]
    items += [(states[s], f"papers {label}") for s, label in records.STATUSES.items() if states[s]]
    return '<dl class="d-counts">' + "".join(f"<div><dt>{label}</dt><dd>{n}</dd></div>" for n, label in items) + "</dl>"


def filter_html(papers, written: dict, states: Counter) -> str:
    """The form is hidden until the script that serves it runs."""
    slugs = list(written) + sorted({p.chapter for p in papers} - set(written))
    names = {s: written[s].title if s in written else records.chapter_title(s) for s in slugs}
    chapter_options = "".join(f'<option value="{s}">{escape(n)}</option>' for s, n in names.items())
    status_options = "".join(f'<option value="{s}">{n}</option>' for s, n in records.STATUSES.items() if states[s])
    return (
        '<form class="d-filter" hidden>'
        f'<label>Chapter <select name="chapter"><option value="">all</option>{chapter_options}</select></label>'
        f'<label>Verdict <select name="status"><option value="">all</option>{status_options}</select></label>'
        '<label>Words <input type="search" name="words" autocomplete="off"></label>'
        '<output aria-live="polite"></output></form>'
    )


def add_directives(app: Sphinx) -> None:
    LATE.update(gallery=gallery_nodes, ledger=ledger_nodes)
    app.add_node(late)
    for name in LATE:
        app.add_directive(name, Late)
    app.add_directive("explorer", Explorer)
    app.add_directive("symbols", Symbols)
    app.connect("doctree-resolved", resolve)
