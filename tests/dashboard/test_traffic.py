"""Requests by the minute."""

from __future__ import annotations

import pytest

from hotpath.dashboard.traffic import BOUNDS, KEPT_MINUTES, Traffic, quantile
from hotpath.testing import FakeClock


def test_each_minute_counts_for_itself_and_an_hour_is_kept() -> None:
    clock = FakeClock()
    traffic = Traffic(clock)
    for _ in range(KEPT_MINUTES + 30):
        traffic.add(hot=1, seconds=0.001)
        traffic.add(hot=2)
        traffic.add(cold=1, seconds=0.2)
        clock.advance(60)
    minutes = traffic.minutes()
    assert len(minutes) == KEPT_MINUTES
    assert {(each.hot, each.cold, each.share) for each in minutes} == {(3, 1, 0.75)}


@pytest.mark.parametrize("seconds", [0, 1e-5, 0.003, 0.2, 99, 1e9])
def test_a_quantile_is_at_most_a_quarter_too_much(seconds: float) -> None:
    traffic = Traffic(FakeClock())
    traffic.add(cold=1, seconds=seconds)
    (minute,) = traffic.minutes()
    value = quantile(minute.cold_seconds, 0.5)
    assert value is not None
    assert value == pytest.approx(min(max(seconds, BOUNDS[0]), BOUNDS[-1]), rel=0.2501)
    assert quantile(minute.hot_seconds, 0.5) is None
