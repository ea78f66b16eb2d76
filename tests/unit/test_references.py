"""The bibliography is what the ledger is built from, so its form is part of the contract."""

import re
from pathlib import Path

import pytest
from pybtex.database import parse_file, parse_string
from pybtex.exceptions import PybtexError

BIB = Path(__file__).resolve().parents[2] / "book" / "references.bib"

SLUG = r"[a-z0-9]+(?:-[a-z0-9]+)*"
KEY = re.compile(SLUG)
LEDGER = re.compile(rf"chapter:(?P<chapter>{SLUG}), scope:(?P<scope>core|adjacent)")
ARXIV = re.compile(r"(?P<yy>\d{2})(?P<mm>0[1-9]|1[0-2])\.\d{4,5}")
UNVERIFIED = "Authors not verified"


def problems(key, entry):
    """What is wrong with one entry, as a list of sentences; empty when nothing is."""
    fields, found = entry.fields, []
    if not KEY.fullmatch(key):
        found.append("key is not lower-case words joined by hyphens")
    if not fields.get("title", "").strip("{} "):
        found.append("no title")
    if not re.fullmatch(r"(19|20)\d{2}", fields.get("year", "")):
        found.append("no four-digit year")

    keywords = fields.get("keywords", "")
    ledger = LEDGER.fullmatch(keywords)
    if not ledger and keywords != "background":
        found.append(f"keywords {keywords!r} have neither agreed form")

    names = [str(person) for person in entry.persons.get("author", [])]
    note = fields.get("note", "")
    if not any(name.strip() and name != "others" for name in names):
        if note != UNVERIFIED:
            found.append(f"no author and no note {UNVERIFIED!r}")
        if not fields.get("key"):
            found.append("no author and no `key` field for the label")
    elif note == UNVERIFIED:
        found.append("names authors and says that they are not verified")

    url, eprint = fields.get("url"), fields.get("eprint")
    if url is not None and not re.fullmatch(r"https?://[^\s/]+\.[^\s/]+(/\S*)?", url):
        found.append(f"url {url!r} is not a web address")
    if eprint is None:
        if "archivePrefix" in fields:
            found.append("archivePrefix without eprint")
        if ledger and url is None:
            found.append("a ledger entry with neither eprint nor url")
        if url is not None and "arxiv.org" in url:
            found.append("an arXiv url without eprint")
    else:
        match = ARXIV.fullmatch(eprint)
        if not match:
            found.append(f"eprint {eprint!r} is not an arXiv identifier")
        elif ledger and fields.get("year") != "20" + match["yy"]:
            found.append(f"year {fields.get('year')} is not that of arXiv:{eprint}")
        if fields.get("archivePrefix") != "arXiv":
            found.append("eprint without archivePrefix = {arXiv}")
        if url != f"https://arxiv.org/abs/{eprint}":
            found.append(f"url {url!r} does not lead to arXiv:{eprint}")
    return found


@pytest.fixture(scope="module")
def entries():
    return parse_file(str(BIB), "bibtex").entries  # pybtex rejects a repeated key by itself


def test_every_entry_has_the_agreed_form(entries):
    wrong = {key: found for key, entry in entries.items() if (found := problems(key, entry))}
    assert not wrong, wrong


def test_keys_are_unique():
    keys = re.findall(r"^@\w+\{([^,\s]+),", BIB.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(keys) == len({key.lower() for key in keys})
    assert set(keys) == set(parse_file(str(BIB), "bibtex").entries)


def test_no_two_entries_are_the_same_paper(entries):
    eprints = [e.fields["eprint"] for e in entries.values() if "eprint" in e.fields]
    titles = [re.sub(r"[^a-z0-9]", "", e.fields["title"].lower()) for e in entries.values()]
    assert len(eprints) == len(set(eprints))
    assert len(titles) == len(set(titles))


def test_capitals_that_a_style_would_lower_stand_in_braces(entries):
    bare = {}
    for key, entry in entries.items():
        title = entry.fields["title"]
        while (rest := re.sub(r"\{[^{}]*\}", "", title)) != title:
            title = rest
        acronyms = re.findall(r"\w*[^\W_]+[A-Z]\w*", title)
        if acronyms:
            bare[key] = acronyms
    assert not bare, bare


def test_the_ledger_is_complete(entries):
    forms = [LEDGER.fullmatch(e.fields["keywords"]) for e in entries.values()]
    scopes = [form["scope"] for form in forms if form]
    assert scopes.count("core") == 161
    assert scopes.count("adjacent") == 44


GOOD = {
    "title": "A Title",
    "author": "Last, First and others",
    "year": "2023",
    "eprint": "2301.11235",
    "archivePrefix": "arXiv",
    "url": "https://arxiv.org/abs/2301.11235",
    "keywords": "chapter:quadratic-bowl, scope:core",
}
NAMELESS = {"author": None, "note": UNVERIFIED, "key": "a-key"}


def parse(key, fields):
    lines = "".join(f"{name} = {{{value}}},\n" for name, value in fields.items() if value is not None)
    return parse_string(f"@misc{{{key},\n{lines}}}", "bibtex").entries[key]


@pytest.mark.parametrize("change", [{}, NAMELESS, {"keywords": "background", "year": "2024"}])
def test_a_good_entry_passes(change):
    assert problems("a-key", parse("a-key", GOOD | change)) == []


@pytest.mark.parametrize(
    "change",
    [
        {"title": None},
        {"year": None},
        {"year": "2024"},
        {"keywords": None},
        {"keywords": "chapter:quadratic-bowl,scope:core"},
        {"keywords": "chapter:Quadratic Bowl, scope:core"},
        {"keywords": "chapter:quadratic-bowl, scope:off-topic"},
        {"author": None},
        {"author": ""},
        {"author": "others"},
        {"note": UNVERIFIED},
        NAMELESS | {"key": None},
        {"eprint": "2313.11235"},
        {"eprint": "arXiv:2301.11235"},
        {"eprint": None},
        {"archivePrefix": None},
        {"url": None},
        {"url": "https://arxiv.org/abs/2301.11236"},
        {"url": "/home/reader/paper.pdf"},
    ],
    ids=str,
)
def test_a_bad_entry_is_caught(change):
    assert problems("a-key", parse("a-key", GOOD | change))


def test_a_bad_key_is_caught():
    assert problems("Bad_Key", parse("Bad_Key", GOOD))


def test_a_repeated_key_is_caught():
    with pytest.raises(PybtexError):
        parse_string("@misc{a, title={x}}\n@misc{a, title={y}}", "bibtex")
