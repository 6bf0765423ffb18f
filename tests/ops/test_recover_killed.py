"""A recovery that is killed at any moment is finished by the next run, and the one after that changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ops.recovering import KILLED, SCENARIOS, Bench, Killer, Outcome, boundaries, forking
from tests.store.crash.operations import AFTER, BEFORE

# Where a kill is most likely to leave something half done; all of them are in the slow test.
PLAIN = {
    ("roll back", "begun"),
    ("roll back", "done, not noted"),
    ("build", "done, not noted"),
    ("publish", "done, not noted"),
    ("purge", "done, not noted"),
}


@pytest.fixture(scope="module")
def killer() -> Iterator[Killer]:
    with forking() as killer:
        yield killer


def hold(found: Outcome, whole: Outcome, what: object) -> None:
    """What every killed recovery comes to."""
    assert found.first.status == KILLED, what
    assert found.second.status == 0, what
    # A message that was sent before the kill is sent once more by the next run; none is left out and none comes early.
    lines = {"checklist": None, "history": None}
    assert {**found.end, **lines} == {**whole.end, **lines}, what
    for name in lines:
        assert dict.fromkeys(found.end[name]) == dict.fromkeys(whole.end[name]), what  # type: ignore[call-overload]
    assert found.purged_paths >= whole.purged_paths, what
    assert (found.third.status, found.third.changed, found.untouched) == (0, False, True), what


def whole(bench: Bench) -> Outcome:
    """A recovery that nobody kills."""
    found = bench.case()
    assert (found.first.status, found.first.changed) == (0, True)
    assert (found.second.status, found.second.changed, found.untouched) == (0, False, True)
    assert found.end["litter"] == []
    return found


@pytest.mark.slow
def test_killed_where_it_hurts(killer: Killer, tmp_path: Path) -> None:
    bench = Bench(killer, "wrong data", tmp_path)
    expected = whole(bench)
    assert (expected.end["serving"], expected.end["PIN"]) == (3, None)
    assert '"sequence":2' in str(expected.end["BAD"])
    assert expected.purged_paths == {"/rankings/kospi", "/rankings/nyse", "/stocks/s0"}
    cases = [case for case in boundaries(expected.first) if case[:2] in PLAIN and case[3] != "middle"]
    assert {case[:2] for case in cases} == PLAIN
    for step, when, number, moment in cases:
        hold(bench.case(number, moment), expected, (step, when))


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_killed_at_every_boundary(killer: Killer, tmp_path: Path, scenario: str) -> None:
    bench = Bench(killer, scenario, tmp_path)
    expected = whole(bench)
    cases = list(boundaries(expected.first))
    assert {step for step, *_ in cases} == {
        "verify", "roll back", "build", "validate", "publish", "purge", "warm", "check"
    }  # fmt: skip
    for step, when, number, moment in cases:
        hold(bench.case(number, moment), expected, (step, when))


@pytest.mark.slow
def test_killed_between_any_two_operations_of_a_rollback_and_its_end(killer: Killer, tmp_path: Path) -> None:
    bench = Bench(killer, "wrong data", tmp_path)
    expected = whole(bench)
    trace = expected.first.trace
    notes = {entry: number for number, (_, _, entry) in enumerate(trace) if entry}
    spans = [
        range(notes["roll back:doing"], notes["roll back:done"]),
        range(notes["publish:doing"], notes["publish:done"]),
    ]
    for number in [number for span in spans for number in span]:
        for moment in (BEFORE, AFTER):
            hold(bench.case(number, moment), expected, (number, moment, trace[number]))
