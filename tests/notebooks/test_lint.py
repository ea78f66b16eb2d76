"""What can be seen from the source of a cell: a hidden filter, a median over unlike cases, a comparison that nobody checks."""

import ast
import re

import pytest

NUMBER = r"(\d[\d,]*|\{[^{}]*\}|two|three|four|five|six|seven|eight|nine|ten|both)"
COUNT = re.compile(rf"{NUMBER} of (the |its |all )?{NUMBER}|\b(all|each|every)( of)?( the| its)? {NUMBER}\b")
MEDIAN = re.compile(r"\.median\(([^()]*)\)|np\.(?:nan)?median\(")
COMPARATIVE = re.compile(
    r"(?<!\bno )\b(more|less|fewer|better|worse|larger|smaller|higher|lower|faster|slower|longer|shorter|earlier|later|closer|further|nearer|greater|stronger|weaker|deeper"
    r"|rises?|falls?|grows?|shrinks?|exceeds?)\b"
)
#: What decides such a word: `comparison`, or a choice between two words in the sentence itself.
DECIDED = re.compile(r"comparison\(| if .* else ")


def hidden_filters(source: str, statements: list[str]) -> list[str]:
    """Claims in a cell that rest on filtered values and whose statements do not say how many of how many are left."""
    if not statements:
        return []
    filtered, problems = set(), []
    for node in ast.walk(ast.parse(source)):
        names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
        rests = bool(names & filtered) or any(_filters(n) for n in ast.walk(node))
        if isinstance(node, ast.Assign) and rests:
            filtered |= {n.id for target in node.targets for n in ast.walk(target) if isinstance(n, ast.Name)}
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "claim" and rests and not COUNT.search(said := ast.unparse(node.args[0])):
            problems.append(f"rests on filtered values and does not say how many are left: {said}")
    return problems


def _filters(node: ast.AST) -> bool:
    """Whether it is `x.dropna(...)` or `x.where(condition)`; with a second value, `where` replaces and drops nothing."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    return node.func.attr == "dropna" or node.func.attr == "where" and len(node.args) == 1


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


def filters(source: str) -> list[str]:
    return hidden_filters(source, ["a claim"])


@pytest.mark.parametrize(
    ("check", "bad", "good"),
    [
        (filters, "t = t.dropna('x'); claim('it forgets', measured=t)", "t = t.dropna('x'); claim('5 of 8 runs forget', measured=t)"),
        (filters, "claim('at 2 they end', measured=r.where(r > 1).mean())", "claim('they end', measured=r.where(r > 1, 0).mean())"),
        (filters, "r = r.where(r > 1)\ns = r + 1\nclaim('they end', measured=s)", "r = r.where(r > 1)\nclaim('they end', measured=s)"),
        (medians_of_unlike_cases, "claim('x', measured=float(r.median()))", "claim('x', measured=r.median('seed'))"),
        (medians_of_unlike_cases, "claim('x', measured=np.median(r))", "m = np.median(r)"),
        (medians_of_unlike_cases, "claim('x', measured=r.median(['lr', 'seed']))", "claim('x', measured=r.median(dim='seed'))"),
        (typed_comparisons, 'prose(f"A is {a:.1f}, more than {b:.1f}.")', 'prose(f"A is {a:.1f}, {comparison(a, b, 1)} than {b:.1f}, more or less.")'),
        (typed_comparisons, 'prose(f"It falls to {a:.1f}.")', 'prose(f"It {\'falls\' if a < b else \'goes\'} to {a:.1f}.")'),
    ],
)
def test_the_lint_finds_what_it_should(check, bad, good):
    assert check(bad) and not check(good)
