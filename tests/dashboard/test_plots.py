"""Figures become plots that say the same in a picture, in words and in a table."""

from __future__ import annotations

from hotpath.dashboard.facts import BatchRun, StoredGeneration, StoreFacts
from hotpath.dashboard.plot import Curve, Dot
from hotpath.dashboard.plots import (
    age_plot,
    crawl_plot,
    duration,
    latency_plot,
    run_plots,
    share_plot,
    size,
)
from hotpath.dashboard.runs import with_expectations
from hotpath.dashboard.traffic import Traffic
from hotpath.testing import FakeClock

NOW = 1_800_000_000.0


def test_nothing_measured_is_no_plot() -> None:
    assert share_plot([], NOW) is None
    assert latency_plot([], NOW) is None
    assert crawl_plot({}) is None
    assert run_plots([]) == []
    assert age_plot(StoreFacts("/hot"), NOW) is None


def run(night: int, rows: int, outcome: str = "published") -> BatchRun:
    return BatchRun(
        int(NOW) + night * 86400, night, outcome, rows, rows * 10, 9, 0, 1.5, is_accepted=outcome == "published"
    )


def test_a_refused_night_stands_out_and_the_line_goes_on_over_it() -> None:
    nights = [run(n, 1000 + n % 3) for n in range(30)]
    nights[20] = run(20, 400, "failed")
    runs = with_expectations(nights)
    rows, size_of, failures, seconds = run_plots(runs)
    for plot in (rows, size_of):
        assert [dot.x for dot in plot.layers if isinstance(dot, Dot)] == [20.5]
        (curve,) = [layer for layer in plot.layers if isinstance(layer, Curve)]
        assert len(curve.points) == 29
    assert rows.slots[20].text.endswith("failed")
    assert "expected 9" in rows.slots[20].text
    assert [len(plot.rows) for plot in (rows, size_of, failures, seconds)] == [30] * 4
    assert failures.top == 1


def test_requests_are_a_share_and_their_times() -> None:
    clock = FakeClock(NOW)
    traffic = Traffic(clock)
    for _ in range(3):
        traffic.add(hot=1, seconds=0.0002)
        traffic.add(cold=1, seconds=0.08)
        clock.advance(60)
    clock.advance(600)
    traffic.add(hot=1)
    share, latency = share_plot(traffic.minutes(), clock.now), latency_plot(traffic.minutes(), clock.now)
    assert share is not None
    assert latency is not None
    assert share.summary == "57.1% of 7 requests in the last hour"
    assert share.slots[0].text.endswith("50.0% (1 hot, 1 to the app)")
    assert [name for _, name in latency.legend] == ["hot p50", "hot p99", "app p50", "app p99"]
    assert len(latency.slots) == 3


def test_times_that_were_counted_elsewhere_are_those_of_hot_pages() -> None:
    traffic = Traffic(FakeClock(NOW))
    traffic.add(hot=100, hot_seconds=[0, 99, 0, 1])
    (minute,) = traffic.minutes()
    assert (sum(minute.hot_seconds), sum(minute.cold_seconds)) == (100, 0)
    latency = latency_plot([minute], NOW)
    assert latency is not None
    assert [name for _, name in latency.legend] == ["hot p50", "hot p99"]
    assert latency.slots[0].text.endswith("hot p50 12 µs, p99 12 µs; app p50 –, p99 –")


def test_generations_say_which_is_served_and_which_is_bad() -> None:
    generations = (
        StoredGeneration(1, int(NOW) - 90000, bad="wrong prices"),
        StoredGeneration(2, None, problem="damaged"),
        StoredGeneration(3, int(NOW) + 60, is_serving=True),
    )
    plot = age_plot(StoreFacts("/hot", generations=generations, lifetime=3600), NOW)
    assert plot is not None
    assert [row[0] for row in plot.rows] == ["3", "1"]
    assert plot.rows[1][3] == "marked bad: wrong prices"
    assert plot.rows[0][1] == "0 s"


def test_crawlers_by_day_have_the_share_of_errors() -> None:
    plot = crawl_plot({"2026-11-28": (100, 4), "2026-11-27": (0, 0)})
    assert plot is not None
    assert plot.summary == "4.00% of 100 requests got 5xx or no answer"
    assert plot.rows == [("2026-11-28", "100", "4", "4.00%"), ("2026-11-27", "0", "0", "–")]


def test_figures_are_short() -> None:
    assert [duration(value) for value in (0.00012, 0.0034, 1.25)] == ["120 µs", "3.4 ms", "1.25 s"]
    assert [size(value) for value in (0, 600 * 1024**2, 1.5 * 1024**3)] == ["0 B", "600 MiB", "1.5 GiB"]
