"""Instant checks for a reader's answers: `check("edge-of-stability/3", answer)`.

Each chapter has one module here, named like it (`edge_of_stability.py` for
"edge-of-stability"), which registers its exercises when it is imported::

    from descent.exercises import choice, compare, exercise, number, right, wrong

    choice(                                     # predict: answered before anything is run
        "edge-of-stability/1",
        options=("it grows", "it settles", "it falls"),
        digest="5f0c...",                       # python -m descent.exercises edge-of-stability/1 "it settles"
        right="It does, and the next figure shows where.",
        wrong="Follow one eigendirection: what happens to a step once η λ passes 2?",
    )

    @exercise("edge-of-stability/2")            # measure: judged by what the answer must satisfy
    def _(answer):
        threshold = number(answer, "a learning rate")
        return compare(threshold, 2 / 20, rel=0.02, mistakes={1 / 20: "You have the rate of fastest convergence."})

A message teaches and never gives the answer away; tests hold every module to that.

Choices are stored as salted digests. This keeps a reader from meeting the answer by
accident, in the notebook or in this package. It does not protect an exam: with three
options anyone can try all three, as with the check itself.
"""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

__all__ = ["Feedback", "NotAnAnswer", "check", "choice", "compare", "digest", "exercise", "modules", "names", "number", "right", "wrong"]

_ID = re.compile(r"([a-z0-9]+(?:-[a-z0-9]+)*)/(\d+)")
_CHECKS: dict[str, Callable[[Any], Feedback]] = {}


class NotAnAnswer(ValueError):
    """The answer is of another kind than the exercise asks for; the message says which."""


@dataclass(frozen=True)
class Feedback:
    """What a check says: `right` is True, False, or None where nothing was answered."""

    right: bool | None
    message: str

    @property
    def word(self) -> str:
        return {True: "Right", False: "Not yet", None: "Open"}[self.right]

    def __bool__(self) -> bool:
        return self.right is True

    def __str__(self) -> str:
        return f"{self.word}. {self.message}"

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        mark = {True: "✓", False: "✗", None: "○"}[self.right]
        role = {True: "accuracy", False: "divergence", None: "muted"}[self.right]
        html = (
            f'<div class="descent-feedback" role="status" style="padding:.3rem 0 .3rem .9rem;border-left:3px solid var(--d-{role},currentColor)">'
            f'<strong><span aria-hidden="true">{mark}</span> {self.word}.</strong> {escape(self.message)}</div>'
        )
        return {"text/plain": str(self), "text/html": html}


def right(message: str) -> Feedback:
    """The feedback for a right answer."""
    return Feedback(True, message)


def wrong(message: str) -> Feedback:
    """The feedback for an answer that is not right yet: a question or a hint, not the answer."""
    return Feedback(False, message)


def check(name: str, answer: Any) -> Feedback:
    """Judge `answer` to the exercise `name`, such as "edge-of-stability/3".

    `...` or None stand for an open answer.

    Raises:
        KeyError: there is no exercise of that name; the message lists those that exist.
    """
    known = _load(name)
    if name not in known:
        raise KeyError(f"no exercise {name!r}; there are {', '.join(sorted(known, key=_order)) or 'none'}")
    if answer is None or answer is ...:
        return Feedback(None, "Put your answer in place of the dots and run the cell again.")
    try:
        return known[name](answer)
    except NotAnAnswer as error:
        return wrong(str(error))


def exercise(name: str) -> Callable[[Callable[[Any], Feedback]], Callable[[Any], Feedback]]:
    """Register the decorated function `answer -> Feedback` as the check of an exercise.

    Raises:
        ValueError: the name is not "slug/number", or is taken.
    """
    if not _ID.fullmatch(name):
        raise ValueError(f"an exercise is named 'chapter-slug/number', got {name!r}")
    if name in _CHECKS:
        raise ValueError(f"the exercise {name!r} is registered twice")

    def register(function: Callable[[Any], Feedback]) -> Callable[[Any], Feedback]:
        _CHECKS[name] = function
        return function

    return register


def choice(name: str, *, options: Sequence[str], digest: str, right: str, wrong: str) -> None:
    """Register a question with one right option, stored as its digest.

    Raises:
        ValueError: fewer than two options, a digest that is none, or an empty message.
    """
    if len(set(options)) != len(options) or len(options) < 2:
        raise ValueError(f"{name} needs two different options or more, got {list(options)}")
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise ValueError(f"{name} needs a digest of 64 hexadecimal digits (python -m descent.exercises {name} ANSWER), got {digest!r}")
    if not right.strip() or not wrong.strip():
        raise ValueError(f"{name} needs a message for the right answer and one for the others")

    @exercise(name)
    def _(answer: Any) -> Feedback:
        words = _plain(answer)
        if words not in map(_plain, options):
            raise NotAnAnswer(f"Choose one of: {'; '.join(options)}.")
        return Feedback(True, right) if _digest(name, words) == digest else Feedback(False, wrong)


def number(answer: Any, what: str = "a number") -> float:
    """The answer as a finite float.

    Raises:
        NotAnAnswer: it is something else.
    """
    values = np.asarray(answer)
    if values.size != 1 or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise NotAnAnswer(f"The answer is {what}, one finite number; this is {_short(answer)}.")
    return float(values.reshape(()))


def compare(
    answer: float,
    value: float,
    *,
    rel: float | None = None,
    abs: float | None = None,
    mistakes: Mapping[float, str] | None = None,
    right: str = "That is it.",
    wrong: str | None = None,
) -> Feedback:
    """Judge a number by its distance from `value`, and recognise the usual mistakes.

    Args:
        rel, abs: the tolerance, as a fraction of `value` or in its units; one of them.
        mistakes: {wrong value: what leads to it, said without the right one}.
        wrong: what to say of any other value; by default whether it is too small or too large.

    Raises:
        ValueError: no tolerance, or a mistake that would count as right.
    """
    if (rel is None) == (abs is None):
        raise ValueError("compare needs a tolerance: rel= or abs=")
    tolerance = abs if rel is None else rel * np.abs(value)
    if not tolerance > 0:
        raise ValueError(f"the tolerance must be positive, got {tolerance!r}")
    for mistake, message in (mistakes or {}).items():
        if np.abs(mistake - value) <= tolerance:
            raise ValueError(f"the mistake {mistake!r} ({message!r}) lies within the tolerance of the right value")
    if np.abs(answer - value) <= tolerance:
        return Feedback(True, right)
    for mistake, message in (mistakes or {}).items():
        if np.abs(answer - mistake) <= (tolerance if rel is None else rel * np.abs(mistake)):
            return Feedback(False, message)
    return Feedback(False, wrong or f"Your value is too {'small' if answer < value else 'large'}.")


def digest(name: str, answer: str) -> str:
    """The stored form of a choice: scrypt of the answer, salted with the exercise's name."""
    if not _ID.fullmatch(name):
        raise ValueError(f"an exercise is named 'chapter-slug/number', got {name!r}")
    return _digest(name, _plain(answer))


def _digest(name: str, words: str) -> str:
    return hashlib.scrypt(words.encode(), salt=name.encode(), n=2**13, r=8, p=1, dklen=32).hex()


def _plain(answer: Any) -> str:
    """A choice as it is compared: case and spaces do not count."""
    return " ".join(str(answer).lower().split())


def _short(answer: Any) -> str:
    text = repr(answer)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _order(name: str) -> tuple[str, int]:
    slug, n = name.split("/")
    return slug, int(n)


def modules() -> list[str]:
    """The slugs of the chapters that have exercises."""
    return sorted(m.name.replace("_", "-") for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def names(slug: str) -> list[str]:
    """The exercises that a chapter's module registers, in order; none if it has no module."""
    return sorted(_load(f"{slug}/1"), key=_order) if slug in modules() else []


def _load(name: str) -> dict[str, Callable[[Any], Feedback]]:
    """The exercises of the chapter that `name` speaks of, or of all if it is none."""
    match = _ID.fullmatch(name) if isinstance(name, str) else None
    slugs = [match[1]] if match and match[1] in modules() else modules()
    for slug in slugs:
        importlib.import_module(f"{__name__}.{slug.replace('-', '_')}")
    return {key: value for key, value in _CHECKS.items() if key.split("/")[0] in slugs}
