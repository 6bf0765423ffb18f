"""Virtual days in the seconds of a run: requests as the log has them, faults at set times."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from hotpath.errors import DeclarationError
from hotpath.ops.rehearse.schedule import Clock, parse_fault, plan_faults, times


def test_requests_come_when_they_came_in_the_log() -> None:
    clock = Clock(days=2, seconds=48)  # an hour is a second
    minutes = [60 * 3] * 9 + [60 * 30]
    made = times(minutes, 48 * 60, 1000, clock)
    assert len(made) == 1000
    assert made == sorted(made)
    hours = Counter(int(at) for at, _ in made)
    assert set(hours) == {3, 30}
    assert 800 < hours[3] < 980


def test_a_short_log_is_repeated() -> None:
    clock = Clock(days=1, seconds=24)
    made = times([30], 60, 2000, clock)  # one hour, its middle
    assert {int(at) for at, _ in made} == set(range(24))


def test_of_a_long_log_the_last_days_count() -> None:
    clock = Clock(days=1, seconds=24)
    made = times([0, 10 * 1440 - 30], 10 * 1440, 50, clock)
    assert {place for _, place in made} == {1}
    assert all(23 <= at < 24 for at, _ in made)


def test_without_times_requests_are_spread_evenly() -> None:
    clock = Clock(days=30, seconds=10)
    made = times([None, None], None, 1000, clock)
    assert all(60 < count < 140 for count in Counter(int(at) for at, _ in made).values())


def test_the_same_log_gives_the_same_schedule() -> None:
    clock = Clock(days=1, seconds=24)
    assert times([1, 2, 3], 60, 50, clock) == times([1, 2, 3], 60, 50, clock)


def test_a_fault_every_two_virtual_hours_is_360_in_30_days() -> None:
    faults = plan_faults(["leak@2h"], [0.0], Clock(days=30, seconds=1440))
    assert len(faults) == 360
    gaps = [after.at - before.at for before, after in pairwise(faults)]
    assert max(gaps) == pytest.approx(4.0)
    assert faults[-1].at < 1440


def test_faults_of_several_kinds_do_not_strike_at_one_moment() -> None:
    faults = plan_faults(["kill", "slow@1d", "leak@1d"], [0.0], Clock(days=10, seconds=100))
    assert len({fault.at for fault in faults}) == len(faults)
    assert faults == sorted(faults, key=lambda fault: fault.at)


def test_a_deploy_strikes_in_the_busiest_hour() -> None:
    clock = Clock(days=3, seconds=72)
    busy = [14.2, 14.7, 38.5, 3.0]
    faults = plan_faults(["deploy"], busy, clock)
    assert [int(fault.at) % 24 for fault in faults] == [14, 14, 14]


def test_what_lasts_ends_before_the_next() -> None:
    faults = plan_faults(["slow@6h"], [0.0], Clock(days=1, seconds=24))
    assert len(faults) == 4
    assert all(0 < fault.lasts <= 1.5 for fault in faults)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("leak", ("leak", 24.0)),
        ("leak@2h", ("leak", 2.0)),
        ("kill@1.5d", ("kill", 36.0)),
        ("block@30m", ("block", 0.5)),
    ],
)
def test_a_fault_names_its_kind_and_time(text: str, expected: tuple[str, float]) -> None:
    assert parse_fault(text) == expected


@pytest.mark.parametrize("text", ["", "leek", "leak@", "leak@2", "leak@0h", "leak@-1h", "leak@xh", "leak@2h@3h", "@2h"])
def test_anything_else_is_no_fault(text: str) -> None:
    with pytest.raises(DeclarationError, match="write leak, kill"):
        parse_fault(text)


@pytest.mark.parametrize(
    ("text", "why"), [("leak@1m", "faster than any process starts"), ("leak@60d", "ends before the first")]
)
def test_faults_that_cannot_be_rehearsed_are_refused(text: str, why: str) -> None:
    with pytest.raises(DeclarationError, match=why):
        plan_faults([text], [0.0], Clock(days=30, seconds=120))
