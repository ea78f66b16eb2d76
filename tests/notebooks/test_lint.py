"""What can be seen from the source of a cell: a hidden filter, a median over unlike cases, a comparison that nobody checks."""

import re

import pytest

FILTERS = re.compile(r"\.(dropna|where)\(")
NUMBER = r"(\d[\d,]*|two|three|four|five|six|seven|eight|nine|ten|both)"
COUNT = re.compile(rf"{NUMBER} of (the |its |all )?{NUMBER}|\b(all|each|every)( of)?( the| its)? {NUMBER}\b")
MEDIAN = re.compile(r"\.median\(([^()]*)\)|np\.(?:nan)?median\(")
COMPARATIVE = re.compile(
    r"(?<!\bno )\b(more|less|fewer|better|worse|larger|smaller|higher|lower|faster|slower|longer|shorter|earlier|later|closer|further|nearer|greater|stronger|weaker|deeper"
    r"|rises?|falls?|grows?|shrinks?|exceeds?)\b"
)
#: What decides such a word: `comparison`, or a choice between two words in the sentence itself.
DECIDED = re.compile(r"comparison\(| if .* else ")


def hidden_filters(source: str, statements: list[str]) -> list[str]:
    """Filters in a cell whose claims do not say how many of how many are left."""
    if not statements or not FILTERS.search(source):
        return []
    return [f"{FILTERS.search(source)[0]}...) beside a claim that does not say how many are left: {s!r}" for s in statements if not COUNT.search(s)]


def medians_of_unlike_cases(source: str) -> list[str]:
    """Medians inside a claim over something else than seeds."""
    problems = []
    for call in calls(source, "claim"):
        for found in MEDIAN.finditer(call):
            if found[1] is None or not re.fullmatch(r"""\s*((dim=)?\[?["']seed["']\]?)\s*""", found[1]):
                problems.append(f"{found[0]} in {call.splitlines()[0][:80]}")
    return problems


def typed_comparisons(source: str) -> list[str]:
    """Sentences made from values that compare in typed words."""
    problems = []
    for call in calls(source, "prose"):
        typed = re.sub(r"\{[^{}]*\}", " ", call)
        if "{" in call and (found := COMPARATIVE.search(typed)) and not DECIDED.search(call):
            problems.append(f"{found[0]!r} in {call[:90]!r}")
    return problems


def calls(source: str, name: str) -> list[str]:
    """The texts of the calls `name(...)` in a source, with balanced brackets."""
    found = []
    for start in re.finditer(rf"\b{name}\(", source):
        depth = 0
        for i in range(start.end() - 1, len(source)):
            depth += {"(": 1, ")": -1}.get(source[i], 0)
            if depth == 0:
                found.append(source[start.start() : i + 1])
                break
    return found


def statements(chapter, cell: int) -> list[str]:
    return [o.metadata["descent"]["statement"] for i, o in chapter.claims if i == cell]


def fail_with(chapter, problems):
    if problems:
        pytest.fail("\n  ".join(["", *(f"{chapter.at(i)}: {p}" for i, p in problems)]), pytrace=False)


def test_a_filter_beside_a_claim_is_counted_in_its_statement(chapter):
    fail_with(chapter, [(i, p) for i, cell in chapter.code for p in hidden_filters(cell.source, statements(chapter, i))])


def test_medians_in_claims_are_over_seeds(chapter):
    fail_with(chapter, [(i, p) for i, cell in chapter.code for p in medians_of_unlike_cases(cell.source)])


def test_comparisons_beside_numbers_are_made_from_them(chapter):
    fail_with(chapter, [(i, p) for i, cell in chapter.code for p in typed_comparisons(cell.source)])


@pytest.mark.parametrize(
    ("check", "bad", "good"),
    [
        (lambda s: hidden_filters(s, ["it forgets"]), "claim('it forgets', measured=t.dropna('x'))", "claim('it forgets', measured=t)"),
        (lambda s: hidden_filters(s, [s]), "t.where(x); 'at 2, runs that converge end'", "t.where(x); 'the 7 of 8 runs that converge end'"),
        (medians_of_unlike_cases, "claim('x', measured=float(r.median()))", "claim('x', measured=r.median('seed'))"),
        (medians_of_unlike_cases, "claim('x', measured=np.median(r))", "m = np.median(r)"),
        (medians_of_unlike_cases, "claim('x', measured=r.median(['lr', 'seed']))", "claim('x', measured=r.median(dim='seed'))"),
        (typed_comparisons, 'prose(f"A is {a:.1f}, more than {b:.1f}.")', 'prose(f"A is {a:.1f}, {comparison(a, b, 1)} than {b:.1f}, more or less.")'),
        (typed_comparisons, 'prose(f"It falls to {a:.1f}.")', 'prose(f"It {\'falls\' if a < b else \'goes\'} to {a:.1f}.")'),
    ],
)
def test_the_lint_finds_what_it_should(check, bad, good):
    assert check(bad) and not check(good)
