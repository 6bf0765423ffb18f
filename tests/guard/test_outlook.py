"""Growth, headroom, time to exhaustion; what a reading cannot be; what routes cost."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotpath.guard.outlook import Growth, MemoryReading, implausible, look_ahead, next_sample_seconds
from hotpath.guard.route_costs import LEAST_BYTES, RouteCosts, route_of

MIB = 1024 * 1024
READING = MemoryReading(0.0, 1000 * MIB, 500 * MIB, 400 * MIB, 4000 * MIB, 300 * MIB, 250 * MIB, "cgroup2")


def grown(*samples: tuple[float, int]) -> float:
    growth = Growth()
    for at, used in samples:
        growth.add(at, used)
    return growth.bytes_per_second


@given(st.integers(-(2**40), 2**40), st.floats(0.25, 10), st.integers(4, 30))
def test_a_straight_line_has_its_slope(slope: int, interval: float, count: int) -> None:
    samples = [(number * interval, int(number * interval * slope)) for number in range(count)]
    assert grown(*samples) == pytest.approx(slope, rel=0.01, abs=10)


@given(st.integers(0, 7), st.integers(0, 2**40))
def test_one_step_is_no_growth(where: int, size: int) -> None:
    assert grown(*[(float(n), size if n >= where else 0) for n in range(8)]) == 0


def test_few_samples_say_nothing() -> None:
    assert grown((0, 0), (1, 10**9), (2, 2 * 10**9)) == 0


def test_samples_that_come_fast_still_cover_two_seconds() -> None:
    """A step of 10 MiB each quarter of a second, looked at every 50 ms."""
    samples = [(n * 0.05, int(n * 0.05 / 0.25) * 10 * MIB) for n in range(60)]
    assert grown(*samples) == pytest.approx(40 * MIB, rel=0.3)


def test_headroom_is_what_is_left_of_the_group_or_of_the_machine() -> None:
    def headroom(reading: MemoryReading) -> int:
        return look_ahead(reading, floor=8 * MIB, growth=0, reserve=48 * MIB, largest_request=0).headroom

    assert headroom(READING) == 592 * MIB
    assert headroom(replace(READING, available=100 * MIB)) == 92 * MIB


@pytest.mark.parametrize(("growth", "seconds"), [(0, inf), (-5, inf), (1, inf), (10 * MIB, 59.2), (1000 * MIB, 0.592)])
def test_time_to_exhaustion(growth: float, seconds: float) -> None:
    found = look_ahead(READING, floor=8 * MIB, growth=growth, reserve=0, largest_request=0)
    assert found.seconds_left == pytest.approx(seconds)
    assert found.share == 0.4


def test_nothing_left_is_no_negative_time() -> None:
    full = replace(READING, unreclaimable=1100 * MIB)
    assert look_ahead(full, floor=0, growth=MIB, reserve=0, largest_request=0).seconds_left == 0


@pytest.mark.parametrize(
    ("limit", "largest", "reserve"),
    [(1000, 0, 48), (1000, 30, 60), (1000, 500, 250), (256, 0, 38), (128, 0, 19)],
)
def test_the_reserve_of_brake(limit: int, largest: int, reserve: int) -> None:
    reading = replace(READING, limit=limit * MIB, unreclaimable=0)
    found = look_ahead(reading, floor=0, growth=0, reserve=48 * MIB, largest_request=largest * MIB)
    assert found.reserve // MIB == reserve
    assert not found.signal.is_tight
    tight = replace(reading, unreclaimable=reading.limit - found.reserve + 1)
    assert look_ahead(tight, floor=0, growth=0, reserve=48 * MIB, largest_request=largest * MIB).signal.is_tight


@pytest.mark.parametrize(("headroom", "seconds"), [(4000, 1.0), (200, 0.5), (20, 0.05), (0, 0.05), (-100, 0.05)])
def test_how_soon_to_look_again(headroom: int, seconds: float) -> None:
    assert next_sample_seconds(headroom * MIB, 100 * MIB, least=0.05, most=1.0) == seconds


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, None),
        ({"limit": 0}, "limit"),
        ({"usage": -1, "unreclaimable": -1}, "negative"),
        ({"unreclaimable": 900 * MIB}, "more is unreclaimable"),
        ({"usage": 5000 * MIB, "unreclaimable": 5000 * MIB}, None),  # above the limit is above the limit
        ({"usage": 64 * 1024 * MIB}, None),  # page cache, in a group that only a budget limits
        ({"usage": 1001 * MIB, "unreclaimable": 1001 * MIB}, None),
    ],
)
def test_a_reading_that_cannot_be_true(changed: dict[str, int], said: str | None) -> None:
    problem = implausible(replace(READING, **changed), None)  # type: ignore[arg-type]
    assert (problem is None) if said is None else said in (problem or "")


def test_a_count_that_stands_still_is_no_fault_while_only_what_is_shared_moves() -> None:
    """A file that is mapped, and in the page cache already, is resident and costs the group nothing."""
    assert implausible(replace(READING, resident=900 * MIB), READING) is None
    grown = replace(READING, resident=400 * MIB, anonymous=350 * MIB)
    assert "stands still" in (implausible(grown, READING) or "")
    assert implausible(replace(grown, usage=READING.usage + 1), READING) is None


def test_a_route_is_known_by_its_shape() -> None:
    assert route_of("GET", "/reports/17/rows") == route_of("GET", "/reports/8/rows") == "GET /reports/{}/rows"
    assert route_of("GET", "/u/" + "deadbeef" * 4) == route_of("GET", "/u/" + "x" * 40) == "GET /u/{}"
    assert route_of("POST", "/reports/17") != route_of("GET", "/reports/17")
    assert len(route_of("GET", "/a" * 500).split("/")) < 12


def test_costs_are_maxima_that_fade_and_are_bounded_in_number() -> None:
    costs = RouteCosts(half_life_seconds=10, maximum=3)
    costs.note("a", LEAST_BYTES - 1, 0)
    assert len(costs) == 0
    costs.note("a", 100 * MIB, 0)
    costs.note("a", 50 * MIB, 1)
    assert costs.expected("a", 0) == 100 * MIB
    assert costs.expected("a", 10) == 50 * MIB
    costs.note("a", 60 * MIB, 10)
    assert costs.expected("a", 10) == 60 * MIB
    for name in "bcd":
        costs.note(name, 20 * MIB, 10)
    assert len(costs) == 3
    assert costs.expected("a", 10) == 0, "the oldest goes"
    assert costs.largest(10) == 20 * MIB
    assert costs.largest(1000) == 0
    assert len(costs) == 0
