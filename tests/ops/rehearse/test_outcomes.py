"""Counts and latencies: what counts as an error, and quantiles that are exact to 3 %."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotpath.ops.rehearse.outcomes import RESET, TIMED_OUT, Counted, Latencies, RunRecord


@given(st.lists(st.floats(1e-5, 3600), min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_is_within_three_percent_above(seconds: list[float], share: float) -> None:
    latencies = Latencies()
    for each in seconds:
        latencies.add(each)
    exact = sorted(seconds)[max(0, -(-int(share * len(seconds) * 1000) // 1000) - 1)]
    measured = latencies.quantile(share)
    assert measured is not None
    assert exact - 2e-6 <= measured
    assert any(each - 2e-6 <= measured <= each * 1.035 + 2e-6 for each in seconds)


def test_no_latency_has_no_quantile() -> None:
    assert Latencies().quantile(0.5) is None


def test_a_million_latencies_need_a_thousand_counters() -> None:
    latencies = Latencies()
    places = set()
    for exponent in range(40):
        for part in range(64):
            latencies.add(2**exponent * (1 + part / 64) / 1e6)
            places.add(latencies.quantile(1.0))
    assert len(places) <= 40 * 33


@pytest.mark.parametrize(
    ("status", "is_error"),
    [(200, False), (304, False), (404, False), (500, True), (503, True), (RESET, True), (TIMED_OUT, True)],
)
def test_errors_are_5xx_resets_and_timeouts(status: int, is_error: bool) -> None:
    counted = Counted()
    assert counted.add(status, 0.1) is is_error
    assert counted.errors == is_error
    assert counted.sheds == (status == 503)


def test_a_timeout_counts_with_all_its_time_and_a_reset_with_none() -> None:
    counted = Counted()
    counted.add(200, 0.01)
    counted.add(TIMED_OUT, 20.0)
    counted.add(RESET, 5.0)
    assert counted.latencies.count == 2
    assert (counted.latencies.quantile(1.0) or 0) > 19


def test_a_record_names_the_routes_that_were_hurt() -> None:
    record = RunRecord([True, False, False], ["/a", "/b/{b}", "/c"], seconds=10, moments=10)
    record.add(0, 0.5, 200, 0.01)
    record.add(1, 1.5, 503, 0.01)
    record.add(1, 99.0, RESET, 0.01)
    assert record.hurt == {"/b/{b}": 2}
    assert record.hurt_share == {"all": pytest.approx(1 / 3), "hot": 0.0}
    assert (record.both.requests, record.both.errors, record.hot.errors) == (3, 2, 0)
    assert [moment.cold_errors for moment in record.moments] == [0, 1, 0, 0, 0, 0, 0, 0, 0, 1]
