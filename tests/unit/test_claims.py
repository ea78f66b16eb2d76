"""Claims accept what is right, reject what is wrong, and refuse to be vague."""

import json
import math
import re

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from descent.claims import Claim, ClaimError, build, claim

SEEDS = xr.DataArray([19.5, 20.1, 20.4], dims="seed", coords={"seed": [0, 1, 2]})
STEPS = np.array([1.0, 10.0, 100.0, 1000.0])

WELL_POSED = {
    "relative": dict(measured=SEEDS, expected=2 / 0.1, rel=0.03),
    "absolute": dict(measured=0.01, expected=0, abs=0.05),
    "all seeds": dict(measured=SEEDS, expected=20, abs=1, over="all"),
    "two of three seeds": dict(measured=[19.5, 20.1, 25.0], expected=20, abs=1, over=0.6),
    "below": dict(measured=SEEDS, below=21),
    "above": dict(measured=SEEDS, above=0),
    "above and below": dict(measured=SEEDS, above=19, below=21, over="all"),
    "between": dict(measured=[3, 3, 4], between=(3, 4)),
    "negative": dict(measured=[-3.0, -2.0], below=-1),
    "slope": dict(x=STEPS, y=2 * STEPS**-0.5, exponent=-0.5, abs=0.05),
    "slope per seed": dict(x=STEPS, y=np.outer([1, 2, 3], STEPS**2), exponent=2, abs=0.1, over="all"),
    "boolean": dict(holds=True, evidence="one look"),
    "share": dict(holds=[True, True, False, True, True], at_least=0.8, evidence="five runs"),
}

#: A control for each of them, which fails the relation.
CONTROLS = {
    "relative": SEEDS + 1,
    "absolute": 0.06,
    "all seeds": SEEDS + 3,
    "two of three seeds": [18.0, 18.0, 20.0],
    "below": SEEDS + 2,
    "above": -SEEDS,
    "above and below": SEEDS * 2,
    "between": [1, 1, 3],
    "negative": [0.0, 1.0],
    "slope": STEPS**-1.0,
    "slope per seed": np.outer([1, 2, 3], STEPS),
    "boolean": False,
    "share": [False, False, True, False, False],
}


@pytest.mark.parametrize("arguments", WELL_POSED.values(), ids=WELL_POSED)
def test_a_claim_holds_for_what_is_right_and_for_nothing_wrong(arguments):
    c = build("it does", paper=None, **arguments)
    assert c.holds
    assert c.judge(c.right())
    assert c.wrong()
    for measured in c.wrong():
        assert len(measured) == len(c.measured)
        assert not c.judge(measured), measured


@pytest.mark.parametrize("name", WELL_POSED)
def test_a_control_must_fail_the_relation_that_the_measurement_satisfies(name):
    c = build("it does", paper=None, control=CONTROLS[name], against="something else", **WELL_POSED[name])
    assert c.holds and c.excludes(c.control) and not c.excludes(c.measured)
    assert c.wrong_controls()
    for control in c.wrong_controls():
        assert len(control) == len(c.measured)
        assert not c.excludes(control), control


def test_a_claim_that_holds_for_its_control_too_fails_and_says_so(capsys):
    arguments = dict(measured=[-0.99, -0.98], below=-0.9, over="all", control=[-0.97, -0.5], against="images drawn at random")
    with pytest.raises(ClaimError, match=re.escape("holds for its control too (images drawn at random: -0.735 (-0.97 to -0.5))")):
        claim("opposing groups are anticorrelated", paper=None, **arguments)
    assert "does not hold" in capsys.readouterr().out
    assert build("they are", paper=None, **arguments | dict(control=[-0.7, -0.5])).holds


def test_the_control_answers_for_the_share_of_seeds_that_the_claim_is_asked_of():
    asked = dict(measured=[1, 1, 1, 1, 1], below=2, against="the rival")
    assert build("it is", paper=None, control=[3, 3, 3, 1, 1], **asked).holds
    assert not build("it is", paper=None, control=[3, 3, 1, 1, 1], **asked).holds
    assert build("it is", paper=None, over=0.6, control=[3, 3, 3, 1, 1], **asked).holds
    assert not build("it is", paper=None, over="all", control=[3, 3, 3, 3, 1], **asked).holds


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(measured=[1, 1], below=2, control=[3, 3]), "needs against="),
        (dict(measured=[1, 1], below=2, against="the rival"), "needs against="),
        (dict(measured=[1, 1], below=2, control=3, against="x"), "shaped as measured="),
        (dict(measured=[1, 1], below=2, control=[3, 3, 3], against="x"), "one value for each"),
        (dict(measured=[1, 1], below=2, control=["a", "b"], against="x"), "of the same kind as measured="),
        (dict(measured=[1, 1], below=2, control=[3, math.nan], against="x"), "must be finite"),
        (dict(measured=[1, 1], below=2, control=[3, math.inf], against="x"), "must be finite"),
        (dict(measured=[1, 1], below=2, control=[1, 1], against="x"), "the measurement itself"),
        (dict(measured=[1, 1], below=2, control=[3, 3], against="a | b"), "in a few words"),
        (dict(holds=[True], evidence="x", control=[0.0], against="x"), "of the same kind as holds="),
        (dict(x=STEPS, y=STEPS, exponent=1, abs=0.1, control=STEPS[:2], against="x"), "shape"),
        (dict(x=STEPS, y=STEPS, exponent=1, abs=0.1, control=-STEPS, against="x"), "must be finite"),
        (dict(measured=1, below=2, support="belief"), "support is one of identity, theory, networks"),
    ],
)
def test_a_wrong_control_is_refused(arguments, message):
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        build("it does", paper=None, **arguments)


def test_the_row_shows_the_control_and_compares_its_words_only():
    c = build("it is", measured=[1.23, 1.23], below=2, control=[3.21, 3.21], against="the <rival> formula", support="theory", paper="p")
    assert str(c) == "it is | below 2 | median of 2 | control: the <rival> formula | holds"
    assert "3.21" in c.html() and "fails, as it should" in c.html() and "the &lt;rival&gt; formula" in c.html()
    blank = re.sub(r'<data class="measured">[^<]{0,600}</data>', "", c.html())
    assert "3.21" not in blank and "rival" in blank


def test_the_interval_is_what_the_relation_accepts():
    assert build("it is", measured=1, below=2, paper=None).interval == (-math.inf, 2)
    assert build("it is", measured=1, between=(0, 2), paper=None).interval == (0, 2)
    assert build("it is", measured=20, expected=20, rel=0.1, paper=None).interval == (18, 22)


@pytest.mark.parametrize("name", WELL_POSED)
def test_a_record_survives_json(name):
    c = build("it does", paper=["one-paper", "two-papers"], control=CONTROLS[name], against="the rival", support="theory", **WELL_POSED[name])
    text = json.dumps(c.to_record(), allow_nan=False)
    assert Claim.from_record(json.loads(text)) == c


@pytest.mark.parametrize(
    ("arguments", "measured"),
    [
        (dict(expected=20, rel=0.03), [19, 19, 20]),
        (dict(expected=20, rel=0.03), math.nan),
        (dict(expected=20, rel=0.03), [20, 20, math.nan]),
        (dict(expected=20, rel=0.03, over="all"), [20, 20, 21]),
        (dict(expected=20, rel=0.03, over=0.8), [20, 20, 20, 21]),
        (dict(below=1), 1),
        (dict(below=1), math.nan),
        (dict(below=1), -math.inf),
        (dict(above=1), [0, 1, 2]),
        (dict(between=(1, 2)), 2.01),
    ],
)
def test_a_wrong_measurement_is_false(arguments, measured):
    assert not build("it does", paper=None, measured=measured, **arguments).holds


def test_a_slope_of_something_not_positive_is_false():
    assert not build("it falls", paper=None, x=STEPS, y=[1, 0.1, 0, -1], exponent=-1, abs=0.5).holds


def test_a_fit_is_the_least_squares_slope_of_the_logarithms():
    y = np.array([3.0, 1.1, 0.25, 0.12])
    c = build("it falls", paper=None, x=STEPS, y=y, exponent=-0.5, abs=0.1)
    assert c.measured[0] == pytest.approx(np.polyfit(np.log(STEPS), np.log(y), 1)[0])


def test_a_data_array_is_fitted_along_the_dimension_of_x():
    x = xr.DataArray(STEPS, dims="step")
    y = (x**-1.5).expand_dims(seed=4, axis=1)
    assert build("it falls", paper=None, x=x, y=y, exponent=-1.5, abs=0.01).measured == pytest.approx([-1.5] * 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(measured=1, expected=1), "needs a tolerance"),
        (dict(measured=1, expected=1, rel=0.1, abs=0.1), "rel and abs"),
        (dict(measured=1, expected=1, rel=0), "must be positive"),
        (dict(measured=1, expected=1, abs=-0.1), "must be positive"),
        (dict(measured=1, expected=1, abs=math.nan), "finite"),
        (dict(measured=1, expected=1, rel=1.5), "below 1"),
        (dict(measured=1, expected=0, rel=0.5), "needs abs="),
        (dict(measured=1, expected=math.inf, rel=0.5), "finite"),
        (dict(measured=1, expected=1, rel=0.1, below=2), "expected= and below="),
        (dict(measured=1), "exactly one"),
        (dict(expected=1, rel=0.1), "needs measured="),
        (dict(measured=1, below=2, rel=0.1), "does not take rel="),
        (dict(measured=1, between=(2, 1)), "lower bound"),
        (dict(measured=1, between=3), "pair"),
        (dict(measured=1, between=(1, 2), above=0), "both bounds"),
        (dict(measured=1, above=2, below=1), "lower bound"),
        (dict(measured=SEEDS, below=SEEDS), "ratio or difference"),
        (dict(measured=[], below=1), "not empty"),
        (dict(measured="20", below=1), "measured is a number"),
        (dict(measured=1, below=1, over="mean"), "over is"),
        (dict(measured=1, below=1, over=0), "over is"),
        (dict(measured=1, below=1, at_least=0.5), "at_least= belongs to holds="),
        (dict(holds=[True], evidence="x", over="all"), "at_least=, not over="),
        (dict(holds=[True]), "evidence="),
        (dict(holds=[1.0], evidence="x"), "holds is a boolean"),
        (dict(holds=[True], evidence="x", at_least=0), "at_least is a share"),
        (dict(x=[1, 2], y=[1, 2], exponent=1, abs=0.1), "three different"),
        (dict(x=[1, 2, 0], y=[1, 2, 3], exponent=1, abs=0.1), "three different"),
        (dict(x=[1, 2, 3], y=[1, 2], exponent=1, abs=0.1), "shape"),
        (dict(x=[1, 2, 3], y=[1, 2, 3], exponent=1), "needs a tolerance"),
        (dict(measured=1, below=2, paper=3), "paper is an id"),
        (dict(measured=1, below=2, paper="Cohen 2021"), "joined by hyphens"),
        (dict(measured=1, below=2, reproduces=False), "needs a reason"),
        (dict(measured=1, below=2, reason="because"), "only it has one"),
    ],
)
def test_an_ill_posed_claim_is_refused(arguments, message):
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        build("it does", **{"paper": None} | arguments)


@pytest.mark.parametrize("statement", ["", "  ", "two\nlines", "a | b", 3])
def test_a_statement_is_one_line(statement):
    with pytest.raises(ValueError, match="one line"):
        build(statement, paper=None, measured=1, below=2)


def test_a_false_claim_fails_after_showing_its_row(capsys):
    with pytest.raises(ClaimError, match="measured 3"):
        claim("it is small", measured=3, below=2, paper=None)
    assert "does not hold" in capsys.readouterr().out


def test_a_claim_that_does_not_reproduce_says_so_and_fails_when_it_does(capsys):
    honest = dict(below=2, paper="a-paper", reproduces=False, reason="too few parameters")
    claim("it is small", measured=3, **honest)
    assert capsys.readouterr().out.strip() == "it is small | below 2 | strict | does not reproduce here"
    with pytest.raises(ClaimError, match="yet it holds"):
        claim("it is small", measured=1, **honest)
    with pytest.raises(ClaimError, match="nothing finite"):
        claim("it is small", measured=math.nan, **honest)


def test_the_plain_row_is_the_same_whatever_was_measured():
    a, b = (build("it is", measured=m, expected=20, rel=0.03, paper="p") for m in ([19.9, 20.0, 20.1], [20.2, 20.3, 20.31]))
    assert str(a) == str(b) == "it is | 20 | ±3 %, median of 3 | holds"


def test_the_html_row_differs_only_where_the_sanitizer_looks():
    texts = [build("it <is>", measured=m, expected=20, rel=0.03, paper="p", evidence=f"saw {m}").html() for m in (19.9, 20.25)]
    assert "19.9" in texts[0] and "it &lt;is&gt;" in texts[0] and 'data-paper="p"' in texts[0]
    blank = [re.sub(r'<data class="measured">[^<]{0,600}</data>', "", t) for t in texts]
    assert texts[0] != texts[1] and blank[0] == blank[1]
    assert "holds" in blank[0], "the verdict is said in words, not only by colour"


def test_the_bundle_carries_the_record():
    c = build("it is", measured=SEEDS, expected=20, rel=0.03, paper="p")
    data, metadata = c._repr_mimebundle_()
    assert set(data) == {"text/plain", "text/html"}
    assert metadata["descent"]["measured"] == [19.5, 20.1, 20.4]
    assert metadata["descent"]["expected"] == "20"


def test_a_record_without_its_relation_is_refused():
    with pytest.raises(ValueError, match="lacks 'kind'"):
        Claim.from_record({"statement": "it is"})


@given(
    expected=st.floats(-1e6, 1e6).filter(lambda v: abs(v) > 1e-6),
    rel=st.floats(1e-6, 0.99),
    n=st.integers(1, 9),
    over=st.sampled_from(["median", "all", 0.5, 0.8, 1.0]),
)
def test_every_numeric_claim_can_fail(expected, rel, n, over):
    c = build("it is", measured=[expected] * n, expected=expected, rel=rel, over=over, paper=None)
    assert c.holds and not any(c.judge(w) for w in c.wrong())


@given(n=st.integers(1, 30), at_least=st.floats(0.01, 1))
def test_every_boolean_claim_can_fail(n, at_least):
    c = build("it is", holds=[True] * n, at_least=at_least, evidence="x", paper=None)
    assert c.holds and not any(c.judge(w) for w in c.wrong())
