"""The record of a follower: what other processes read of it, and what they make of one that is damaged or old."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hotpath.store.follow_record import FILE, FollowRecord, read_record, write_record
from hotpath.store.store import Store

RECORD = FollowRecord("s3://bucket/site", "web-1", 1000.0, 10.0, 41, 42, 900.0, "no answer in time")


def test_it_is_read_as_it_was_written_also_in_a_store_that_is_not_there_yet(tmp_path: Path) -> None:
    store = Store(tmp_path / "new" / "hot")
    assert read_record(store) is None
    write_record(store, RECORD)
    write_record(store, replace(RECORD, time=1010.0))
    assert read_record(store) == replace(RECORD, time=1010.0)
    assert [path.name for path in store.root.iterdir() if path.is_file()] == [FILE]


@pytest.mark.parametrize("damaged", [b"", b"{}", b"[1]", b'{"origin": 1', b"\xff"])
def test_a_damaged_one_is_none(tmp_path: Path, damaged: bytes) -> None:
    store = Store(tmp_path)
    (tmp_path / FILE).write_bytes(damaged)
    assert read_record(store) is None


def test_the_times_are_never_negative_and_a_silent_follower_shows() -> None:
    assert (RECORD.age_seconds(1060.0), RECORD.lag_seconds(1060.0)) == (60.0, 160.0)
    assert (RECORD.age_seconds(10.0), RECORD.lag_seconds(10.0)) == (0.0, 0.0)
    assert replace(RECORD, behind_since=None).lag_seconds(1060.0) == 0.0
    assert not RECORD.is_silent(1089.0)
    assert RECORD.is_silent(1091.0)
    assert not replace(RECORD, every=60.0).is_silent(1350.0)


def test_what_a_killed_writer_left_goes_with_the_next_publish(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (tmp_path / f".new-{FILE}-4711").write_bytes(b"half")
    with store.locked():
        pass
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".new")]
