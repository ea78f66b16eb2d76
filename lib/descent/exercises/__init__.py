"""Instant checks for a reader's answers: `check("edge-of-stability/3", answer)`.

Each chapter has one module here, named like it (`edge_of_stability.py` for
"edge-of-stability"), which registers its exercises when it is imported::

    from descent.exercises import compare, exercise, number, predict

    @predict(                                   # answered first, then the experiment is run
        "edge-of-stability/1",
        options=("it grows", "it settles", "it falls"),
        right="So it does wherever the loss has a threshold.",
        wrong="Follow one eigendirection: what happens to a step once η λ passes 2?",
    )
    def _(run):                                 # what the run shows: an option, and the numbers that say so
        late = float(run.sharpness[0, -20:].mean())
        return "it settles", f"The sharpness ends at {late:.1f}."

    @exercise("edge-of-stability/2")            # measure: judged by what the answer must satisfy
    def _(answer):
        threshold = number(answer, "a learning rate")
        return compare(threshold, 2 / 20, rel=0.02, mistakes={1 / 20: "You have the rate of fastest convergence."})

A message teaches and never gives the answer away; tests hold every module to that.

No answer is stored anywhere. That of a prediction is what the reader's own run shows, that
of a measurement is computed when it is checked, from a theory or a simulation. So nobody
meets an answer by accident, in a notebook or here. It does not protect an exam: whoever
calls the same functions, or tries every option, has the answer, and whoever can run code
in a notebook can replace the check in it.
"""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from descent.quantities import css_line

__all__ = ["PART", "Feedback", "NotAnAnswer", "check", "compare", "exercise", "modules", "names", "nearest", "number", "predict", "right", "wrong"]

_ID = re.compile(r"([a-z0-9]+(?:-[a-z0-9]+)*)/(\d+)")
_CHECKS: dict[str, Callable[..., Feedback]] = {}

#: The share of an exercise's points for an answer that a known mistake explains.
PART = 0.5


class NotAnAnswer(ValueError):
    """The answer is of another kind than the exercise asks for; the message says which."""


@dataclass(frozen=True)
class Feedback:
    """What a check says: `right` is True, False, or None where nothing was answered; `share`, of the exercise's points."""

    right: bool | None
    message: str
    share: float

    @property
    def word(self) -> str:
        return {True: "Right", False: "Not yet", None: "Open"}[self.right]

    def grade(self, points: float) -> float:
        """The points of the answer, of `points`; shows the feedback, which a graded cell would not show beside them."""
        from IPython.display import display

        display(self)
        return self.share * points

    def __bool__(self) -> bool:
        return self.right is True

    def __str__(self) -> str:
        return f"{self.word}. {self.message}"

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        mark = {True: "✓", False: "✗", None: "○"}[self.right]
        role = {True: "accuracy", False: "divergence", None: "muted"}[self.right]
        html = (
            f'<div class="descent-feedback" role="status" style="padding:.3rem 0 .3rem .9rem;border-left:3px solid var(--d-{role});color:var(--d-ink);background:var(--d-paper)">'
            f"<style>{css_line('ink', 'paper', role)}</style>"
            f'<strong><span aria-hidden="true">{mark}</span> {self.word}.</strong> {escape(self.message)}</div>'
        )
        return {"text/plain": str(self), "text/html": html}


def right(message: str) -> Feedback:
    """The feedback for a right answer."""
    return Feedback(True, message, 1.0)


def wrong(message: str, share: float = 0.0) -> Feedback:
    """The feedback for an answer that is not right yet: a question or a hint, not the answer."""
    return Feedback(False, message, share)


def check(name: str, *answer: Any) -> Feedback:
    """Judge the answer to the exercise `name`, such as "edge-of-stability/3".

    `...` or None stand for an open answer. A prediction is followed by the function that
    runs its experiment, which is called once the prediction is one of the options.

    Raises:
        KeyError: there is no exercise of that name; the message lists those that exist.
        TypeError: the exercise asks for another number of answers.
    """
    known = _load(name)
    if name not in known:
        raise KeyError(f"no exercise {name!r}; there are {', '.join(sorted(known, key=_order)) or 'none'}")
    wanted = len(inspect.signature(known[name]).parameters)
    if len(answer) != wanted:
        raise TypeError(f'{name} is checked by check("{name}", ...) with {wanted} value{"s" * (wanted > 1)} after its name, got {len(answer)}')
    if any(a is None or a is ... for a in answer):
        return Feedback(None, "Put your answer in place of the dots, run that cell, and then this one again.", 0.0)
    try:
        return known[name](*answer)
    except NotAnAnswer as error:
        return wrong(str(error))


def exercise(name: str) -> Callable[[Callable[..., Feedback]], Callable[..., Feedback]]:
    """Register the decorated function `answer -> Feedback` as the check of an exercise; it may ask for several answers.

    Raises:
        ValueError: the name is not "slug/number", or is taken.
    """
    if not _ID.fullmatch(name):
        raise ValueError(f"an exercise is named 'chapter-slug/number', got {name!r}")
    if name in _CHECKS:
        raise ValueError(f"the exercise {name!r} is registered twice")

    def register(function: Callable[..., Feedback]) -> Callable[..., Feedback]:
        _CHECKS[name] = function
        return function

    return register


def predict(name: str, *, options: Sequence[str], right: str, wrong: str) -> Callable[[Callable[[Any], tuple[str, str]]], None]:
    """Register a prediction: `check(name, prediction, experiment)` runs `experiment()` once the prediction is made.

    The decorated function reads the result: it returns the option that the run shows and a
    sentence with the numbers that show it. The prediction is held to that, and to nothing stored.

    Args:
        right, wrong: what follows that sentence; `wrong` asks a question, it does not name the option.

    Raises:
        ValueError: fewer than two options, or an empty message.
    """
    if len(set(map(_plain, options))) != len(options) or len(options) < 2:
        raise ValueError(f"{name} needs two different options or more, got {list(options)}")
    if not right.strip() or not wrong.strip():
        raise ValueError(f"{name} needs a message for the right answer and one for the others")

    def register(judge: Callable[[Any], tuple[str, str]]) -> None:
        @exercise(name)
        def _(prediction: Any, experiment: Callable[[], Any]) -> Feedback:
            if _plain(prediction) not in map(_plain, options):
                raise NotAnAnswer(f"Choose one of: {'; '.join(options)}.")
            shown, numbers = judge(experiment())
            if shown not in options:
                raise ValueError(f"{name}: the run shows {shown!r}, which is none of {list(options)}")
            hit = _plain(prediction) == _plain(shown)
            return Feedback(hit, f"{numbers} {right if hit else wrong}", float(hit))

    return register


def nearest(ratio: float, factors: Mapping[str, float]) -> str:
    """The option whose factor lies nearest to a measured ratio, on a logarithmic scale."""
    return min(factors, key=lambda option: abs(math.log(ratio / factors[option])))


def number(answer: Any, what: str = "a number") -> float:
    """The answer as a finite float.

    Raises:
        NotAnAnswer: it is something else.
    """
    try:
        values = np.asarray(answer)
    except (TypeError, ValueError):  # a Dataset, a ragged list
        values = np.empty(0)
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
        mistakes: {wrong value: what leads to it, said without the right one}; they earn `PART` of the points.
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
        return Feedback(True, right, 1.0)
    for mistake, message in (mistakes or {}).items():
        if np.abs(answer - mistake) <= (tolerance if rel is None else rel * np.abs(mistake)):
            return Feedback(False, message, PART)
    return Feedback(False, wrong or f"Your value is too {'small' if answer < value else 'large'}.", 0.0)


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
