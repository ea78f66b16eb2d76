"""Claims: a sentence about training, what was measured, and whether it holds.

`claim(...)` is the book's unit of truth. It judges a measurement, displays one row and
fails the notebook when the verdict is not the one stated. There are four kinds::

    claim("late sharpness sits at 2/η", measured=late, expected=2 / 0.1, rel=0.03, paper="second-order-regression")
    claim("AdamW forgets more than SGD", measured=spread_adamw / spread_sgd, below=0.25, paper="forget-initialization")
    claim("the averaged iterate's error falls as T^-1/2", x=steps, y=error, exponent=-0.5, abs=0.05, paper=None)
    claim("sharpness rises before it stops", holds=late > early, at_least=0.8, evidence="late against first sharpness", paper=None)

A claim says something only if it excludes a rival. `control` is the same measurement, taken on
what the claim should not hold for, and `against` names that in words::

    claim("the selected images carry half of the change", measured=share, above=0.5,
          control=share_of_random, against="as many images drawn at random", paper="opposing-signals")

The claim holds if the relation holds for `measured` and fails for `control`.

`measured` holds one value per seed: the median decides, `over="all"` asks it of every seed
and `over=0.8` of that fraction of them; the relation must fail for the same share of the control. Expectations, bounds and tolerances are constants
of the claim; to compare two measurements, claim their difference or their ratio, so that
each seed is compared with itself. Nothing measured is written into the statement, for the
plain text of a row (statement, expectation, tolerance, verdict) is what the tests compare
between machines; the measured digits stand in the HTML row and in the output's metadata.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
import xarray as xr

from descent.quantities import css_line

__all__ = ["Claim", "ClaimError", "claim"]

#: Arguments that state each kind of claim, beside those that every kind has.
KINDS = {
    "numeric": ("expected", "rel", "abs", "over"),
    "ordering": ("below", "above", "between", "over"),
    "scaling": ("exponent", "abs", "over"),
    "boolean": ("at_least",),
}
#: What a claim rests on, as `support=` names it and as the ledger says it.
SUPPORT = {"identity": "identity", "theory": "theory against simulation", "networks": "measured on networks"}
_PAPER = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


class ClaimError(AssertionError):
    """A claim whose verdict is not the one it states."""


@dataclass(frozen=True)
class Claim:
    """A statement, the relation that decides it, and what was measured.

    Attributes:
        statement: the sentence, without any measured digit.
        kind: "numeric", "ordering", "scaling" or "boolean".
        relation: the arguments of `KINDS[kind]` that were given.
        measured: one value per seed (or per case of a boolean claim); slopes if scaling.
        papers: ids of the papers it speaks for, () for a claim of the book's own.
        reproduces: False for a claim stated not to reproduce here, with its `reason`.
        evidence: what was looked at, in words; like `reason`, it may hold measured digits.
        control: the same measurement on what the claim should not hold for, () without one.
        against: what that is, in words without a measured digit.
        support: a key of `SUPPORT`, "" where it is not said.
    """

    statement: str
    kind: str
    relation: dict[str, Any]
    measured: tuple[float, ...] = field(repr=False)
    papers: tuple[str, ...] = ()
    reproduces: bool = True
    reason: str = ""
    evidence: str = ""
    control: tuple[float, ...] = field(default=(), repr=False)
    against: str = ""
    support: str = ""

    # ------------------------------------------------------------------ verdict

    def judge(self, measured: Any) -> bool:
        """Whether the relation holds for `measured` (number or array; slopes if scaling).

        A value that is not finite never satisfies a relation.
        """
        values = np.asarray(measured, dtype=float).ravel()
        if values.size == 0:
            return False
        if self.share is None:
            return bool(np.all(np.isfinite(values)) and self._holds(float(np.median(values))))
        return bool(np.mean([self._holds(float(v)) for v in values]) >= self.share - 1e-12)

    def excludes(self, control: Any) -> bool:
        """Whether the relation fails for `control`: for its median, or for the share of its values that `measured` is asked for.

        A value that is not finite is no control: it would fail any relation.
        """
        values = np.asarray(control, dtype=float).ravel()
        if values.size == 0 or not np.all(np.isfinite(values)):
            return False
        if self.share is None:
            return not self._holds(float(np.median(values)))
        return bool(np.mean([not self._holds(float(v)) for v in values]) >= self.share - 1e-12)

    @property
    def share(self) -> float | None:
        """The share of the values that must satisfy the relation; None if their median decides."""
        if self.kind == "boolean":
            return self.relation["at_least"]
        over = self.relation.get("over", "median")
        return None if over == "median" else 1.0 if over == "all" else over

    def _holds(self, value: float) -> bool:
        if not math.isfinite(value):
            return False
        r = self.relation
        if self.kind == "boolean":
            return value == 1
        if self.kind == "ordering":
            low, high = r.get("between", (-math.inf, math.inf))
            return low <= value <= high and value < r.get("below", math.inf) and value > r.get("above", -math.inf)
        return math.fabs(value - self._centre) <= self._tolerance

    @property
    def _centre(self) -> float:
        return self.relation["expected" if self.kind == "numeric" else "exponent"]

    @property
    def _tolerance(self) -> float:
        rel = self.relation.get("rel")
        return self.relation["abs"] if rel is None else rel * math.fabs(self._centre)

    @property
    def holds(self) -> bool:
        """Whether the relation holds for what was measured and fails for the control, if there is one."""
        return self.judge(self.measured) and (not self.control or self.excludes(self.control))

    @property
    def verdict(self) -> str:
        """ "holds", "does not hold", or, for `reproduces=False`, "does not reproduce here"."""
        return "holds" if self.holds else "does not hold" if self.reproduces else "does not reproduce here"

    def wrong(self) -> list[tuple[float, ...]]:
        """Measurements, shaped as the stored one, that `judge` must reject.

        Each moves just as many seeds as decide the verdict to a value that is wrong, by a
        little in every direction the relation excludes, and by not being a number at all.
        A test calls `judge` on them: a claim that accepts one could not fail.
        """
        moved, right = self._deciding(len(self.measured)), self.right()
        return [(value,) * moved + right[moved:] for value in (*self._wrong_values(), math.nan)]

    def wrong_controls(self) -> list[tuple[float, ...]]:
        """Controls, shaped as the stored one, that `excludes` must reject: for just as many of their values as decide, the relation holds.

        The rest fail it in every direction that the relation excludes, and one control is not a number at all.
        """
        n = len(self.control)
        moved = self._deciding(n) if n else 0
        rest = [(value,) * (n - moved) for value in self._wrong_values()]
        return [self.right()[:moved] + values for values in rest] + [(math.nan,) * n] if n else []

    def _deciding(self, n: int) -> int:
        """The smallest number of n values that overturn a verdict when they change sides."""
        return n // 2 + 1 if self.share is None else n - math.ceil(self.share * n - 1e-9) + 1

    def _wrong_values(self) -> list[float]:
        if self.kind == "boolean":
            return [0.0]
        if self.kind != "ordering":
            return [self._centre - 1.1 * self._tolerance, self._centre + 1.1 * self._tolerance]
        low, high = self.relation.get("between", (None, None))
        under = [v - 1e-3 * max(1.0, math.fabs(v)) for v in (low, self.relation.get("above")) if v is not None]
        beyond = [v + 1e-3 * max(1.0, math.fabs(v)) for v in (high, self.relation.get("below")) if v is not None]
        return under + beyond + [self.relation[k] for k in ("above", "below") if k in self.relation]

    def right(self) -> tuple[float, ...]:
        """A measurement, shaped as the stored one, that satisfies the relation."""
        n, r = len(self.measured), self.relation
        if self.kind == "boolean":
            return (1.0,) * n
        if self.kind != "ordering":
            return (self._centre,) * n
        if "between" in r:
            return (sum(r["between"]) / 2,) * n
        if "above" in r and "below" in r:
            return ((r["above"] + r["below"]) / 2,) * n
        step = max(1.0, math.fabs(r.get("above", r.get("below"))))
        return (r["above"] + step if "above" in r else r["below"] - step,) * n

    @property
    def interval(self) -> tuple[float, float]:
        """The values that satisfy the relation lie between these two, of which one may be infinite."""
        r = self.relation
        if self.kind == "boolean":
            return 0.5, math.inf
        if self.kind == "ordering":
            return r.get("between", (r.get("above", -math.inf), r.get("below", math.inf)))
        return self._centre - self._tolerance, self._centre + self._tolerance

    # ------------------------------------------------------------------ words

    @property
    def expectation(self) -> str:
        """What the claim expects, in words: "20", "below 0.25", "exponent -0.5", "true"."""
        r = self.relation
        if self.kind == "numeric":
            return _digits(r["expected"])
        if self.kind == "scaling":
            return f"exponent {_digits(r['exponent'])}"
        if self.kind == "boolean":
            return "true"
        if "between" in r:
            return f"between {_digits(r['between'][0])} and {_digits(r['between'][1])}"
        return " and ".join(f"{word} {_digits(r[word])}" for word in ("above", "below") if word in r)

    @property
    def tolerance(self) -> str:
        """How far and how often it may miss: "±3 %, median of 3 seeds", "in at least 80 % of 5 cases"."""
        r, n = self.relation, len(self.measured)
        if self.kind == "boolean":
            if n == 1:
                return "one case"
            return f"in all {n} cases" if r["at_least"] == 1 else f"in at least {_percent(r['at_least'])} of {n} cases"
        parts = [f"±{_percent(r['rel'])}" if "rel" in r else f"±{_digits(r['abs'])}"] if self.kind != "ordering" else []
        over = r.get("over", "median")
        if n > 1:
            asked = {"median": f"median of {n}", "all": f"each of {n}"}
            parts.append(asked[over] if isinstance(over, str) else f"{_percent(over)} of {n}")
        return ", ".join(parts) or "strict" * (self.kind == "ordering")

    @property
    def summary(self) -> str:
        """What was measured, in words: median and range, or how many cases were true."""
        return self._sum_up(self.measured)

    @property
    def control_summary(self) -> str:
        """The same of the control; "" without one."""
        return self._sum_up(self.control) if self.control else ""

    def _sum_up(self, numbers: tuple[float, ...]) -> str:
        values = np.asarray(numbers, dtype=float)
        if self.kind == "boolean":
            return f"{int(np.nansum(values))} of {values.size}"
        text = _digits(float(np.median(values)))
        return text + (f" ({_digits(values.min())} to {_digits(values.max())})" if values.size > 1 else "")

    # ------------------------------------------------------------------ records and rows

    def to_record(self) -> dict[str, Any]:
        """The claim as JSON: its words for readers, its relation and values for tests."""
        cast = bool if self.kind == "boolean" and np.all(np.isfinite(self.measured)) else _to_json
        return {
            "statement": self.statement,
            "kind": self.kind,
            "expected": self.expectation,
            "tolerance": self.tolerance,
            "measured": [cast(v) for v in self.measured],
            "control": [cast(v) for v in self.control],
            "against": self.against,
            "support": self.support,
            "verdict": self.verdict,
            "paper": list(self.papers),
            "reproduces": self.reproduces,
            "reason": self.reason,
            "evidence": self.evidence,
            "relation": {k: list(v) if isinstance(v, tuple) else v for k, v in self.relation.items()},
        }

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Claim:
        """The claim that `to_record` wrote.

        Raises:
            ValueError: the record lacks a field or its relation is ill-posed.
        """
        try:
            kind, relation = record["kind"], dict(record["relation"])
            measured = tuple(float(v) for v in record["measured"])
            statement, papers = record["statement"], tuple(record["paper"])
        except KeyError as error:
            raise ValueError(f"a claim's record lacks {error}; it has {sorted(record)}") from None
        if "between" in relation:
            relation["between"] = tuple(relation["between"])
        _check_relation(kind, relation)
        rest = {k: record[k] for k in ("reproduces", "reason", "evidence", "against", "support") if k in record}
        control = tuple(float(v) for v in record.get("control", ()))
        return cls(statement, kind, relation, measured, papers, control=control, **rest)

    def __str__(self) -> str:
        control = (f"control: {self.against}",) if self.control else ()
        return " | ".join((self.statement, self.expectation, self.tolerance, *control, self.verdict))

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict[str, str], dict[str, Any]]:
        return {"text/plain": str(self), "text/html": self.html()}, {"descent": self.to_record()}

    def html(self) -> str:
        """The row for readers. Words that may hold measured digits stand in `<data class="measured">` only."""
        mark = {"holds": "✓", "does not hold": "✗"}.get(self.verdict, "○")
        state = {"holds": "reproduced", "does not hold": "false"}.get(self.verdict, "not-at-this-scale")
        cells = [
            ("Expected", f"{escape(self.expectation)} <small>{escape(self.tolerance)}</small>"),
            ("Measured", f'<data class="measured">{escape(self.summary)}</data>'),
            ("Verdict", f'<span class="d-verdict d-{state}"><span aria-hidden="true">{mark}</span> {self.verdict}</span>'),
        ]
        if self.control:
            outcome = "fails, as it should" if self.excludes(self.control) else "holds too"
            text = f'<data class="measured">{escape(self.control_summary)} {outcome}</data> <small>{escape(self.against)}</small>'
            cells.insert(2, ("Control", text))
        columns = "".join(f'<div class="d-claim-{name.lower()}"><dt>{name}</dt><dd>{text}</dd></div>' for name, text in cells)
        words = " ".join(f'<data class="measured">{escape(text)}</data>' for text in (self.evidence, self.reason) if text)
        note = words and f'<p class="d-claim-note">{words}</p>'
        return (
            f'<div class="descent-claim" data-verdict="{state}" data-paper="{" ".join(self.papers)}">'
            f'<style>{_STYLE}</style><p class="d-claim-statement">{escape(self.statement)}</p>'
            f"<dl>{columns}</dl>{note}</div>"
        )


# Zero specificity (:where), so that a page's own style sheet wins wherever it says something.
_STYLE = css_line("ink", "paper", "accuracy", "noise", "divergence") + (
    ":where(.descent-claim){margin:.6rem 0;padding:.5rem 0 .5rem .9rem;border-left:3px solid var(--d-accuracy);color:var(--d-ink);background:var(--d-paper);line-height:1.4}"
    ":where(.descent-claim[data-verdict=not-at-this-scale]){border-left-color:var(--d-noise)}"
    ":where(.descent-claim[data-verdict=false]){border-left-color:var(--d-divergence)}"
    ":where(.descent-claim p){margin:0}"
    ":where(.descent-claim dl){display:flex;flex-wrap:wrap;gap:.1rem 1.8rem;margin:.15rem 0 0;font-size:.92em}"
    ":where(.descent-claim dl>div){display:flex;gap:.4rem;align-items:baseline}"
    ":where(.descent-claim dt){font-weight:400;font-style:italic;opacity:.8}"
    ":where(.descent-claim dd){margin:0;font-variant-numeric:tabular-nums lining-nums}"
    ":where(.descent-claim small,.d-claim-note){opacity:.85}"
    ":where(.d-claim-note){font-size:.88em}"
)


def claim(
    statement: str,
    *,
    paper: str | list[str] | None,
    measured: Any = None,
    expected: Any = None,
    rel: float | None = None,
    abs: float | None = None,
    below: Any = None,
    above: Any = None,
    between: tuple[Any, Any] | None = None,
    x: Any = None,
    y: Any = None,
    exponent: float | None = None,
    holds: Any = None,
    at_least: float = 1.0,
    evidence: str = "",
    over: str | float = "median",
    control: Any = None,
    against: str = "",
    support: str = "",
    reproduces: bool = True,
    reason: str = "",
) -> None:
    """Judge a claim, display its row, and fail when the verdict is not the one stated.

    Args:
        statement: one sentence; no measured digits, no "|".
        paper: id in `book/references.bib`, or several, or None for the book's own claim.
        measured: number or array over seeds, in the units of the expectation.
        expected: a constant, met within `rel` (a fraction of it) or `abs` (in its units).
        below, above: strict bounds, together or alone; `between=(low, high)` includes its ends.
        x, y: positive values of shape (n,) and (n,) or (seeds, n), n >= 3, whose log-log least-squares
            slope is `exponent` within `abs`; a DataArray `y` is read by the name of `x`'s dimension.
        holds: boolean or boolean array over cases, true in a share of at least `at_least`;
            `evidence` says in words what was looked at.
        over: "median", "all", or the fraction of seeds that must satisfy the relation.
        control: the same measurement, of the same shape and units as `measured` (`y`, `holds`), on what the
            claim should not hold for: random instead of selected examples, shuffled labels, the untrained
            network, the rival formula. The claim holds only if the relation fails for it. Finite.
        against: what the control is, in a few words without a measured digit.
        support: what the claim rests on: "identity", "theory" (a theory against a simulation of it) or
            "networks" (measured on networks that were trained); the ledger shows it.
        reproduces: False states that the claim does not reproduce here; `reason` says why.

    Raises:
        ValueError, TypeError: the claim is ill-posed.
        ClaimError: it does not hold, or holds although stated with `reproduces=False`, or
            nothing finite was measured for one stated so.
    """
    result = build(**locals())
    _display(result)
    if result.holds and not result.reproduces:
        raise ClaimError(f"{statement!r} is stated with reproduces=False, yet it holds: measured {result.summary}, expected {result.expectation}")
    if result.judge(result.measured) and not result.holds and result.reproduces:
        raise ClaimError(f"{statement!r} holds for its control too ({result.against}: {result.control_summary}), so it says nothing of {result.summary}")
    if not result.holds and result.reproduces:
        raise ClaimError(f"{statement!r} does not hold: measured {result.summary}, expected {result.expectation}, {result.tolerance}")
    if not result.reproduces and not np.any(np.isfinite(result.measured)):
        raise ClaimError(f"{statement!r} is stated with reproduces=False, but nothing finite was measured")


def build(statement: str, **given: Any) -> Claim:
    """The `Claim` of `claim`'s arguments, neither displayed nor enforced.

    Raises:
        ValueError, TypeError: the claim is ill-posed.
    """
    if not isinstance(statement, str) or not statement.strip() or "|" in statement or "\n" in statement:
        raise ValueError(f"a claim's statement is one line without '|', got {statement!r}")
    given = {k: v for k, v in given.items() if v is not None}
    kind = _kind(statement, given)
    over, at_least = given.pop("over", "median"), given.pop("at_least", 1.0)
    relation = {k: _constant(k, given[k]) for k in KINDS[kind] if k in given}
    if kind == "boolean":
        relation["at_least"] = at_least
        if over != "median":
            raise ValueError(f"a claim with holds= takes at_least=, not over= (got {over!r})")
    elif at_least != 1.0:
        raise ValueError(f"at_least= belongs to holds=; with measured= or exponent= use over= (got at_least={at_least!r})")
    else:
        relation["over"] = over
    _check_relation(kind, relation)
    values, seen = _measured(kind, given)
    control, against = _control(kind, given, values)
    if (support := given.get("support", "")) not in ("", *SUPPORT):
        raise ValueError(f"support is one of {', '.join(SUPPORT)}, got {support!r}")
    reproduces, reason = given.get("reproduces", True), given.get("reason", "").strip()
    if not isinstance(reproduces, bool | np.bool_):
        raise TypeError(f"reproduces is True or False, got {reproduces!r}")
    if bool(reason) == bool(reproduces):
        raise ValueError("reproduces=False needs a reason=, and only it has one")
    return Claim(statement.strip(), kind, relation, values, _papers(given.get("paper")), bool(reproduces), reason, seen, control, against, support)


def _kind(statement: str, given: dict[str, Any]) -> str:
    """The one kind of claim that the arguments state."""
    signs = {"numeric": ["expected"], "ordering": ["below", "above", "between"], "scaling": ["exponent"], "boolean": ["holds"]}
    stated = {kind: names for kind, all_names in signs.items() if (names := [n for n in all_names if n in given])}
    if len(stated) != 1:
        found = " and ".join(f"{n}=" for names in stated.values() for n in names) or "none"
        raise ValueError(f"claim {statement!r} needs exactly one of expected=, below=/above=/between=, exponent=, holds=; got {found}")
    (kind,) = stated
    common = {"paper", "evidence", "reproduces", "reason", "at_least", "over", "control", "against", "support"}
    takes = {"numeric": {"measured"}, "ordering": {"measured"}, "scaling": {"x", "y"}, "boolean": {"holds"}}[kind]
    if missing := takes - set(given):
        raise ValueError(f"a {kind} claim needs {', '.join(f'{n}=' for n in sorted(missing))}: {statement!r}")
    if stray := set(given) - common - takes - set(KINDS[kind]):
        raise ValueError(f"a {kind} claim does not take {', '.join(f'{n}=' for n in sorted(stray))}: {statement!r}")
    return kind


def _constant(name: str, value: Any) -> Any:
    """A number of the claim's relation, as a float; a pair for `between`."""
    if name == "between":
        if not isinstance(value, tuple | list) or len(value) != 2:
            raise ValueError(f"between is a pair (low, high), got {value!r}")
        return tuple(_constant("between's end", v) for v in value)
    values = np.asarray(value)
    if values.size != 1 or values.dtype.kind not in "iuf":
        raise TypeError(
            f"{name} is one number, got {value!r}; to compare two measurements claim their ratio or difference, "
            "such as measured=a / b, below=1"
        )
    return float(values.reshape(()))


def _check_relation(kind: str, relation: dict[str, Any]) -> None:
    """Refuse a relation that no measurement could fail, or none could satisfy."""
    if kind not in KINDS:
        raise ValueError(f"unknown kind of claim {kind!r}; one of {', '.join(KINDS)}")
    for name, value in relation.items():
        numbers = value if isinstance(value, tuple) else (value,) if not isinstance(value, str) else ()
        if not all(math.isfinite(v) for v in numbers):
            raise ValueError(f"{name} must be finite, got {value!r}")
    if kind in ("numeric", "scaling"):
        given = [name for name in ("rel", "abs") if name in relation]
        if len(given) != 1:
            want = "rel= or abs=" if kind == "numeric" else "abs="
            raise ValueError(f"a {kind} claim needs a tolerance, {want}; got {' and '.join(given) or 'none'}")
        if relation[given[0]] <= 0:
            raise ValueError(f"the tolerance {given[0]} must be positive, got {relation[given[0]]!r}")
        if relation.get("rel", 0) >= 1:
            raise ValueError(f"rel is a fraction below 1 (a relative tolerance of 1 accepts zero), got {relation['rel']!r}")
        if relation.get("expected") == 0 and "rel" in relation:
            raise ValueError("an expectation of 0 needs abs=: no relative tolerance reaches beyond it")
    if kind == "ordering":
        if "between" in relation and ("below" in relation or "above" in relation):
            raise ValueError("between= already has both bounds; drop below= and above=")
        low, high = relation.get("between", (relation.get("above", -math.inf), relation.get("below", math.inf)))
        if low >= high:
            raise ValueError(f"the lower bound must be below the upper, got {low!r} and {high!r}")
    if kind == "boolean" and not 0 < relation["at_least"] <= 1:
        raise ValueError(f"at_least is a share in (0, 1], got {relation['at_least']!r}")
    over = relation.get("over", "median")
    fraction = isinstance(over, int | float) and not isinstance(over, bool) and 0 < over <= 1
    if over not in ("median", "all") and not fraction:
        raise ValueError(f'over is "median", "all" or a fraction in (0, 1], got {over!r}')


def _measured(kind: str, given: dict[str, Any]) -> tuple[tuple[float, ...], str]:
    """What was measured, one value per seed, and the evidence in words."""
    evidence = given.get("evidence", "").strip()
    if kind == "scaling":
        slopes, x = _slopes(given["x"], given["y"])
        return slopes, evidence or f"log-log fit over {x.size} points from {_digits(x.min())} to {_digits(x.max())}"
    name = "holds" if kind == "boolean" else "measured"
    values = np.asarray(given[name])
    allowed = "b" if kind == "boolean" else "iuf"
    if values.dtype.kind not in allowed or values.size == 0:
        want = "a boolean or an array of them" if kind == "boolean" else "a number or an array of numbers"
        raise TypeError(f"{name} is {want}, not empty, got {given[name]!r}")
    if kind == "boolean" and not evidence:
        raise ValueError("holds= needs evidence=, the words for what was looked at")
    return tuple(float(v) for v in values.ravel()), evidence


def _control(kind: str, given: dict[str, Any], measured: tuple[float, ...]) -> tuple[tuple[float, ...], str]:
    """The control, one value for each of `measured`, and what it is in words."""
    against = given.get("against", "")
    if not isinstance(against, str) or "|" in against or "\n" in against:
        raise ValueError(f"against= says in a few words, without '|', what the control is, got {against!r}")
    if bool(against.strip()) != ("control" in given):
        raise ValueError("control= needs against=, the words for what it is, and only it has them")
    if "control" not in given:
        return (), ""
    name = {"scaling": "y", "boolean": "holds"}.get(kind, "measured")
    try:
        values, _ = _measured(kind, {**given, name: given["control"], "evidence": "control"})
    except (TypeError, ValueError) as error:
        raise type(error)(f"control= is of the same kind as {name}=: {error}") from None
    shapes = (np.shape(given["control"]), np.shape(given[name])) if kind != "scaling" else (len(values), len(measured))
    if shapes[0] != shapes[1]:
        raise ValueError(f"control= is shaped as {name}=: one value for each of its {shapes[1]}, got {shapes[0]}")
    if not np.all(np.isfinite(values)):
        raise ValueError(f"control= must be finite: a value that is not a number fails any claim, got {list(values)}")
    if values == measured:
        raise ValueError("control= is the measurement itself; take it on what the claim should not hold for")
    return values, against.strip()


def _slopes(x: Any, y: Any) -> tuple[tuple[float, ...], np.ndarray]:
    """Least-squares slopes of log y over log x, one per seed, and x. NaN where y is not positive."""
    if isinstance(y, xr.DataArray):
        dims = x.dims if isinstance(x, xr.DataArray) else [d for d in y.dims if y.sizes[d] == np.size(x)]
        if len(dims) != 1 or dims[0] not in y.dims:
            raise ValueError(f"cannot tell which dimension of y {dict(y.sizes)} belongs to x of {np.size(x)} values")
        y = y.transpose(..., dims[0]).values
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if x.ndim != 1 or y.ndim not in (1, 2) or y.shape[-1] != x.size:
        raise ValueError(f"a fit needs x of shape (n,) and y of shape (n,) or (seeds, n), got {x.shape} and {y.shape}")
    if not np.all(np.isfinite(x)) or np.any(x <= 0) or np.unique(x).size < 3:
        raise ValueError(f"a fit needs at least three different positive x, got {x.tolist()}")
    centred = np.log(x) - np.log(x).mean()
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(np.where(y > 0, y, np.nan))
    return tuple(float(v) for v in np.atleast_2d(logs) @ centred / (centred @ centred)), x


def _papers(paper: Any) -> tuple[str, ...]:
    papers = () if paper is None else (paper,) if isinstance(paper, str) else paper
    if not isinstance(papers, tuple | list) or not all(isinstance(p, str) for p in papers):
        raise TypeError(f"paper is an id of book/references.bib, a list of them, or None, got {paper!r}")
    if bad := [p for p in papers if not _PAPER.fullmatch(p)]:
        raise ValueError(f"a paper's id is lower-case words joined by hyphens, got {bad[0]!r}")
    return tuple(papers)


def _to_json(value: float) -> float | str:
    """JSON has no NaN: a value that is not finite travels as the word float() reads."""
    return value if math.isfinite(value) else repr(value)


def _digits(value: float) -> str:
    return f"{value:.4g}"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.4g} %"


def _display(result: Claim) -> None:
    """Display the row in a notebook; print it elsewhere."""
    from IPython import get_ipython
    from IPython.display import display

    if get_ipython() is None:
        print(result)
    else:
        data, metadata = result._repr_mimebundle_()
        display(data, raw=True, metadata=metadata)
