"""A problem is logged once, and again after it was forgotten."""

from __future__ import annotations

import logging
from contextlib import suppress

import pytest

from hotpath.log import MAX_REMEMBERED, Once, held_back, logger


def test_a_problem_is_logged_once_by_its_text_or_its_key(caplog: pytest.LogCaptureFixture) -> None:
    once = Once()
    with caplog.at_level(logging.WARNING, "hotpath"):
        once.warn("a file is gone")
        once.warn("a file is gone")
        once.warn("gone at 10:00", key="page")
        once.warn("gone at 10:01", key="page")
    assert caplog.messages == ["hotpath: a file is gone", "hotpath: gone at 10:00"]


def test_it_is_logged_again_after_it_was_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    once = Once()
    once.warn("a")
    once.forget("a")
    once.warn("a")
    once.clear()
    once.warn("a")
    assert caplog.messages == ["hotpath: a"] * 3


def test_ever_new_problems_do_not_fill_memory() -> None:
    once = Once()
    assert all(once.is_new(str(number)) for number in range(3 * MAX_REMEMBERED))
    assert once.is_new("0")


def test_what_is_held_back_is_logged_afterwards_unless_it_is_taken_out(caplog: pytest.LogCaptureFixture) -> None:
    with held_back() as records:
        logger.warning("one")
        logger.warning("two")
        assert caplog.messages == []
        del records[0]
    logger.warning("three")
    assert caplog.messages == ["two", "three"]
    with suppress(KeyError), held_back():
        logger.warning("four")
        raise KeyError
    assert caplog.messages[2:] == ["four"]
