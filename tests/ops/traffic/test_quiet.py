"""How long to wait for a time at which few crawlers come. What the quietest window is, is in test_report.py."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from hotpath.ops.traffic.quiet import MINUTES_OF_WEEK, minute_of_week, next_quiet

DAY = 1440


def busy_but(*quiet: int, period: int = DAY) -> dict[int, int]:
    return {minute: 0 if minute in quiet else 10 for minute in range(period)}


def test_the_next_quiet_window_is_waited_for() -> None:
    day = busy_but(*range(200, 220))
    wait, window = next_quiet(day, DAY, 10, now=100, most=DAY) or (None, None)
    assert window is not None
    # The first that has at most half of an average one: 49 of 98.6.
    assert (wait, window.starts, window.expected, window.is_quiet) == (96, "03:16", 40, True)


def test_now_is_taken_where_it_is_quiet() -> None:
    found = next_quiet(busy_but(*range(200, 220)), DAY, 10, now=205, most=DAY)
    assert found is not None
    assert (found[0], found[1].expected) == (0, 0)


def test_the_wait_goes_over_the_end_of_the_week() -> None:
    week = busy_but(*range(30), period=MINUTES_OF_WEEK)
    found = next_quiet(week, MINUTES_OF_WEEK, 20, now=MINUTES_OF_WEEK - 60, most=120)
    assert found is not None
    assert found[0] <= 60
    assert found[1].is_quiet


def test_beyond_the_maximum_it_is_the_least_in_reach() -> None:
    day = busy_but(*range(600, 700))
    day[130] = 9
    found = next_quiet(day, DAY, 1, now=100, most=60)
    assert found is not None
    wait, window = found
    assert (wait, window.starts, window.is_quiet) == (30, "02:10", False)


def test_without_crawlers_nothing_is_known() -> None:
    assert next_quiet({}, DAY, 10, now=0, most=60) is None
    assert next_quiet({5: 1}, 0, 10, now=0, most=60) is None


def test_minutes_are_counted_in_utc() -> None:
    here = timezone(timedelta(hours=9))
    assert minute_of_week(datetime(2026, 11, 30, 9, 5, tzinfo=here)) == 5  # Monday 00:05 UTC
    assert minute_of_week(datetime(2026, 11, 30, 8, 0, tzinfo=here)) == MINUTES_OF_WEEK - 60
