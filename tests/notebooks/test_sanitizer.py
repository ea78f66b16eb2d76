"""nbval compares everything of a claim but its measured digits, and does so quickly."""

import configparser
import re
import time
from pathlib import Path

from descent.claims import build

CONFIG = Path(__file__).with_name("nbval_sanitize.cfg")


def sanitize(text):
    config = configparser.RawConfigParser()
    config.read(CONFIG)
    for section in config.sections():
        text = re.sub(config.get(section, "regex"), config.get(section, "replace"), text)
    return text


def row(measured, **change):
    return build("it is", measured=measured, paper="p", **{"expected": 20, "rel": 0.03} | change).html()


def test_rows_that_differ_in_digits_only_compare_equal():
    assert row([19.9, 20.0]) != row([20.1, 20.2])
    assert sanitize(row([19.9, 20.0])) == sanitize(row([20.1, 20.2]))


def test_another_verdict_expectation_or_tolerance_is_seen():
    reference = sanitize(row(20))
    assert reference != sanitize(row(25)), "verdict"
    assert reference != sanitize(row(20, expected=20.1)), "expectation"
    assert reference != sanitize(row(20, rel=0.04)), "tolerance"


def test_large_outputs_take_no_time():
    hostile = '<data class="measured">' * 20_000 + "A" * 400_000
    start = time.perf_counter()
    sanitize(hostile)
    assert time.perf_counter() - start < 5
