"""Row 6: EIO on read: last good bytes or the app; counter +1; no 500; one log line, not one a request."""

from __future__ import annotations

import errno
import logging
from pathlib import Path

import pytest

from hotpath.serving import reader_of
from hotpath.store.disk import Disk
from hotpath.store.store import Store
from tests.store.faults.sites import APP_STATUS, get, publish, site_of


class Failing(Disk):
    """EIO for every file whose name ends like one of ``broken``."""

    def __init__(self) -> None:
        self.broken: tuple[str, ...] = ()
        self.reads = 0

    def open_regular(self, path: Path) -> int:
        if str(path).endswith(self.broken or "\0"):
            self.reads += 1
            raise OSError(errno.EIO, "Input/output error", str(path))
        return super().open_regular(path)


@pytest.fixture
def disk() -> Failing:
    return Failing()


@pytest.fixture
def store(tmp_path: Path, disk: Failing) -> Store:
    store = Store(tmp_path / "hot", disk=disk)
    publish(store, a=b"[1]", b=b"[1]")
    return store


def test_a_file_that_cannot_be_read_is_answered_by_the_generation_before(
    store: Store, disk: Failing, caplog: pytest.LogCaptureFixture
) -> None:
    publish(store, a=b"[2]", b=b"[2]")
    disk.broken = ("2/files/a.json",)
    with caplog.at_level(logging.WARNING, logger="hotpath"):
        hot = site_of(store)
        answers = [get(hot, "/a") for _ in range(20)]
    assert {(answer.status, answer.body, answer.header("x-hotpath-generation")) for answer in answers} == {
        (200, b"[1]", "1")
    }
    assert get(hot, "/b").body == b"[2]"
    assert reader_of(hot).loader.corrupt_items == 1
    assert len([record for record in caplog.records if "a.json" in record.message]) == 1


def test_where_there_is_nothing_before_the_app_answers(store: Store, disk: Failing) -> None:
    disk.broken = ("1/files/a.json",)
    hot = site_of(store)
    assert [get(hot, "/a").status for _ in range(3)] == [APP_STATUS] * 3
    assert get(hot, "/b").status == 200
    assert reader_of(hot).loader.corrupt_items == 1
    assert disk.reads == 1, "a page that is lost is not read again for every request"


@pytest.mark.parametrize("broken", ["CURRENT", "manifest.json", "PIN", "BAD"])
def test_what_is_loaded_stays_when_the_store_cannot_be_read(store: Store, disk: Failing, broken: str) -> None:
    hot = site_of(store)
    publish(store, a=b"[2]", b=b"[2]")
    disk.broken = (broken,)
    reader_of(hot).refresh()
    answer = get(hot, "/a")
    assert answer.status == 200
    assert answer.body in (b"[1]", b"[2]")
    assert reader_of(hot).loader.degraded
    disk.broken = ()
    hot.store.current_path.touch()
    reader_of(hot).refresh()
    assert get(hot, "/a").body == b"[2]"
    assert reader_of(hot).loader.degraded is None


def test_a_process_that_starts_on_a_store_it_cannot_read_asks_the_app(store: Store, disk: Failing) -> None:
    disk.broken = ("manifest.json",)
    assert get(site_of(store), "/a").status == APP_STATUS
