"""Every stored claim can fail, and says what its record says."""

from descent.claims import Claim


def test_it_rejects_wrong_measurements(output):
    claim = Claim.from_record(output.metadata["descent"])
    wrong = claim.wrong()
    assert wrong, "nothing could contradict this claim"
    for measured in wrong:
        assert not claim.judge(measured), f"{claim.statement!r} accepts {measured}"


def test_it_rejects_controls_that_satisfy_it(output):
    claim = Claim.from_record(output.metadata["descent"])
    assert bool(claim.wrong_controls()) == bool(claim.control)
    for control in claim.wrong_controls():
        assert not claim.excludes(control), f"{claim.statement!r} accepts the control {control}"


def test_something_could_satisfy_it(output):
    claim = Claim.from_record(output.metadata["descent"])
    assert claim.judge(claim.right()), f"{claim.statement!r} could never hold"


def test_the_stored_verdict_follows_from_what_was_measured(output):
    record = output.metadata["descent"]
    claim = Claim.from_record(record)
    assert claim.holds == claim.reproduces, f"{claim.statement!r}: measured {claim.summary}, expected {claim.expectation}"
    assert claim.verdict == record["verdict"]
    assert claim.reproduces or claim.reason, "a claim that does not reproduce says why"


def test_the_row_shows_the_record(output):
    claim = Claim.from_record(output.metadata["descent"])
    assert output.data["text/plain"] == str(claim)
    assert output.data["text/html"] == claim.html(), "the stored row is not what the library writes; execute the chapter again"
    assert claim.to_record() == output.metadata["descent"]
