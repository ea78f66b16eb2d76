"""How the book cites: (Cohen et al., 2021) in the text, and one link for each work in a list."""

from __future__ import annotations

import pybtex.plugin
from pybtex.style.formatting.plain import Style as PlainStyle
from pybtex.style.template import field, first_of, href, optional, sentence
from sphinxcontrib.bibtex.plugin import register_plugin
from sphinxcontrib.bibtex.style.referencing import BracketStyle
from sphinxcontrib.bibtex.style.referencing.author_year import AuthorYearReferenceStyle


class RoundBrackets(AuthorYearReferenceStyle):
    """Author and year in round brackets."""

    def __init__(self):
        brackets = BracketStyle(left="(", right=")")
        super().__init__(
            bracket_textual=brackets,
            bracket_parenthetical=brackets,
            bracket_author=brackets,
            bracket_label=brackets,
            bracket_year=brackets,
        )


class OneLink(PlainStyle):
    """Sorted by author; a work's arXiv page, DOI or address, whichever it has first."""

    def format_web_refs(self, entry):
        return sentence[optional[first_of[optional[self.format_eprint(entry)], optional[self.format_doi(entry)], optional[self.format_page()]]]]

    def format_page(self):
        url = field("url", raw=True)
        return href(url)[url]


def register() -> None:
    """Make both known under the names that `_config.yml` uses."""
    register_plugin("sphinxcontrib.bibtex.style.referencing", "book", RoundBrackets)
    pybtex.plugin.register_plugin("pybtex.style.formatting", "book", OneLink)
