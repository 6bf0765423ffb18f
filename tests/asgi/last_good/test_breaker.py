"""A failing app is asked by one request after 1, 2, 4 … 30 seconds, and as before once it answers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hotpath.asgi.last_good.breaker import FAILURES_IN_A_ROW, MAX_SECONDS, Breaker


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES_IN_A_ROW):
        assert breaker.admits(now)
        breaker.failed(now)
    return breaker


def test_four_failures_change_nothing() -> None:
    breaker = Breaker()
    for _ in range(3):
        for _ in range(FAILURES_IN_A_ROW - 1):
            breaker.failed(0.0)
        breaker.succeeded()
    assert breaker.admits(0.0)
    assert not breaker.is_open


def test_the_trace_of_a_failing_app() -> None:
    breaker, asked = opened(), []
    for tenth in range(1500):
        now = tenth / 10
        if breaker.admits(now):
            asked.append(now)
            breaker.failed(now)
    assert asked == [1, 3, 7, 15, 31, 61, 91, 121]


def test_one_good_answer_and_all_is_as_before() -> None:
    breaker = opened()
    assert not breaker.admits(0.5)
    assert breaker.admits(1.0)
    breaker.succeeded()
    assert all(breaker.admits(1.0) for _ in range(100))
    for _ in range(FAILURES_IN_A_ROW):
        breaker.failed(2.0)
    assert not breaker.admits(2.9)
    assert breaker.admits(3.0)  # the pauses begin at one second again


def test_retry_after_is_until_the_next_question() -> None:
    breaker = opened()
    assert breaker.retry_after(0.0) == 1
    for now in (1.0, 3.0, 7.0):
        breaker.admits(now)
    assert breaker.retry_after(7.0) == 8
    assert breaker.retry_after(1000.0) == 1


@given(st.lists(st.integers(0, 5), max_size=60))  # whole seconds, whose sums are exact
def test_never_more_than_one_question_in_its_pause(waits: list[int]) -> None:
    breaker, now, last, pause = opened(), 0.0, 0.0, 1.0
    for wait in waits:
        now += wait
        if breaker.admits(now):
            assert now - last >= pause
            last, pause = now, min(pause * 2, MAX_SECONDS)
            breaker.failed(now)
