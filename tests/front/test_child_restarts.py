"""When a child is started again, as values."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hotpath.front.restarts import DELAYS, GOOD_SECONDS, LOOP, Restarts


def test_the_first_is_at_once_and_then_after_1_2_4_to_30_seconds() -> None:
    restarts = Restarts()
    delays = [restarts.ended(None).delay for _ in range(9)]
    assert delays == [0, 1, 2, 4, 8, 16, 30, 30, 30]


def test_one_that_served_for_a_while_is_replaced_at_once_every_time() -> None:
    restarts = Restarts()
    assert {restarts.ended(GOOD_SECONDS).delay for _ in range(50)} == {0}


def test_a_good_run_ends_the_row() -> None:
    restarts = Restarts()
    for _ in range(5):
        restarts.ended(0.1)
    assert restarts.ended(GOOD_SECONDS).delay == 0
    assert restarts.ended(0.1).delay == 1


def test_one_that_was_ready_comes_back_while_requests_still_wait_for_it() -> None:
    restarts = Restarts()
    assert [restarts.ended(0.1).delay for _ in range(6)] == [0, 1, 2, 4, 4, 4]
    assert restarts.ended(None).delay == 30


def test_one_that_never_starts_is_said_at_once_and_only_once() -> None:
    restarts = Restarts()
    assert [restarts.ended(None).is_loop for _ in range(5)] == [True, False, False, False, False]


def test_one_that_starts_and_dies_is_a_loop_from_the_third_time_on() -> None:
    restarts = Restarts()
    assert [restarts.ended(0.5).is_loop for _ in range(LOOP + 2)] == [False, False, True, False, False]


def test_after_a_repair_it_is_said_again() -> None:
    restarts = Restarts()
    restarts.ended(None)
    restarts.forget()
    assert restarts.ended(None).is_loop
    assert restarts.failures == 1


@given(st.lists(st.none() | st.floats(0, 100)))
def test_no_history_gives_another_delay_or_says_a_row_twice(history: list[float | None]) -> None:
    restarts, said = Restarts(), 0
    for served in history:
        following = restarts.ended(served)
        assert following.delay in DELAYS
        said = following.is_loop + (0 if served is not None and served >= GOOD_SECONDS else said)
        assert said <= 1
