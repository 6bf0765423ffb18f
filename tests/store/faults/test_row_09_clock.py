"""Row 9: clock back a year, forward a year: order by sequence; ages clamped; current and pinned never pruned."""

from __future__ import annotations

import email.utils
from pathlib import Path

import pytest

from hotpath.ops.status import lines, status
from hotpath.serving import reader_of
from hotpath.site import Hotpath
from hotpath.store.store import Store
from hotpath.testing import FakeClock
from tests.store.faults.sites import get, publish

YEAR = 365 * 86400.0


def served_at(store: Store, clock: FakeClock) -> Hotpath:
    hot = Hotpath(store.root, refresh=3600)
    hot.store = store
    reader_of(hot).loader.clock = clock
    reader_of(hot).refresh()
    return hot


@pytest.mark.parametrize("jump", [-YEAR, YEAR])
def test_the_newest_by_number_is_served_whatever_the_clock_says(tmp_path: Path, jump: float) -> None:
    clock = FakeClock()
    store = Store(tmp_path / "hot", keep=2, clock=clock)
    for number in range(3):
        publish(store, a=b"[%d]" % number)
    store.pin(2)
    clock.advance(jump)
    for number in range(3, 6):
        publish(store, a=b"[%d]" % number)
    assert store.sequences() == [2, 5, 6], "the pinned one, and the last two"
    assert store.chosen_sequence() == 2
    store.unpin()
    assert store.chosen_sequence() == 6
    hot = served_at(store, clock)
    assert get(hot, "/a").body == b"[5]"
    assert all((one.age_seconds or 0) >= 0 for one in status(store).generations)
    assert not any("-" in line.split("old")[0] for line in lines(status(store))[2:])


def test_last_modified_is_never_later_than_now(tmp_path: Path) -> None:
    clock = FakeClock()
    store = Store(tmp_path / "hot", clock=clock)
    publish(store, a=b"[1]")
    clock.advance(-YEAR)
    told = get(served_at(store, clock), "/a").header("last-modified")
    assert told is not None
    assert email.utils.parsedate_to_datetime(told).timestamp() <= clock.now
    publish(store, a=b"[1]")
    assert store.read_manifest(2).items["/a"].last_modified <= clock.now


def test_a_page_of_the_future_is_fresh_and_one_of_long_ago_is_stale_and_served(tmp_path: Path) -> None:
    clock = FakeClock()
    store = Store(tmp_path / "hot", clock=clock)
    publish(store, a=b"[1]")
    clock.advance(2 * YEAR)
    answer = get(served_at(store, clock), "/a")
    assert (answer.status, answer.body) == (200, b"[1]")
    assert "ttl=-" in (answer.header("cache-status") or "")
    clock.advance(-4 * YEAR)
    answer = get(served_at(store, clock), "/a")
    assert answer.status == 200
    assert "ttl=-" not in (answer.header("cache-status") or "")
