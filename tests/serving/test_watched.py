"""Files that another program rewrites in place: only whole, settled, valid bytes ever replace the good ones."""

from __future__ import annotations

import errno
import gc
import os
import resource
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from hotpath.pages.routes import MAX_BYTES
from hotpath.serving import reader_of
from hotpath.serving.watched import UNCHANGED_SECONDS, WatchedDirectory
from hotpath.site import Hotpath
from hotpath.store.disk import Disk
from hotpath.store.publish import staging
from tests.store.faults.sites import get

NOW = 1_800_000_000.0


class Counting(Disk):
    reads = 0

    def read(self, path: Path) -> bytes:
        self.reads += 1
        return super().read(path)


class Site:
    """A site with one watched directory, and a hand on the clock and the files."""

    def __init__(self, root: Path) -> None:
        self.hot = Hotpath(root / "hot", refresh=3600)
        self.directory = root / "data"
        self.directory.mkdir()
        self.hot.directory("/indices/{name}", self.directory / "{name}.json")
        self.disk = Counting()
        self.watched = WatchedDirectory(self.hot.directories[0], self.hot.reading, disk=self.disk)
        self.now = NOW

    def write(self, name: str, data: bytes, at: float | None = None) -> None:
        path = self.directory / name
        path.write_bytes(data)
        os.utime(path, (at or self.now, at or self.now))

    def look(self, seconds: float = 0.5) -> bool:
        self.now += seconds
        return self.watched.poll(self.now)

    def body(self, key: str) -> bytes | None:
        page = self.watched.pages.get(key.encode())
        return page.bodies["identity"] if page else None


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_an_old_file_counts_at_the_first_look(site: Site) -> None:
    site.write("kospi.json", b"[1]", at=NOW - 60)
    assert site.look()
    assert site.body("/indices/kospi") == b"[1]"


def test_a_fresh_file_has_to_be_seen_settled_and_shows_within_two_seconds(site: Site) -> None:
    site.write("kospi.json", b"[1]")
    looks = 0
    while site.body("/indices/kospi") is None:
        site.look()
        looks += 1
        assert looks * 0.5 <= 2
    assert looks >= 2


def test_a_torn_prefix_that_parses_is_never_taken(site: Site) -> None:
    site.write("kospi.json", b"[1]", at=NOW - 60)
    site.look()
    for step in range(1, 20):
        site.write("kospi.json", b"1" * step)  # every prefix of a number is a number
        site.look()
        assert site.body("/indices/kospi") == b"[1]"
    for _ in range(3):
        site.look()
    assert site.body("/indices/kospi") == b"1" * 19


@pytest.mark.parametrize("bad", [b"", b"[1", b"nonsense", b"\0\0\0\0"])
def test_bad_bytes_never_replace_good_ones_however_long_they_stay(
    site: Site, bad: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    site.write("kospi.json", b"[1]", at=NOW - 60)
    site.look()
    site.write("kospi.json", bad)
    for _ in range(20):
        site.look()
        assert site.body("/indices/kospi") == b"[1]"
    assert caplog.text.count("kospi.json") == 1
    site.write("kospi.json", b"[2]")
    for _ in range(4):
        site.look()
    assert site.body("/indices/kospi") == b"[2]"


def test_a_rewrite_of_the_same_size_and_time_is_seen_by_its_digest(site: Site) -> None:
    site.write("kospi.json", b"[1]")
    site.look()
    site.look()
    site.look()
    assert site.body("/indices/kospi") == b"[1]"
    site.write("kospi.json", b"[2]")
    for _ in range(4):
        site.look()
    assert site.body("/indices/kospi") == b"[2]"


def test_deleting_is_a_miss_and_a_short_gap_is_not(site: Site) -> None:
    site.write("kospi.json", b"[1]", at=NOW - 60)
    site.look()
    (site.directory / "kospi.json").unlink()
    site.look()
    assert site.body("/indices/kospi") == b"[1]"
    site.write("kospi.json", b"[1]", at=NOW - 60)
    site.look()
    site.look()
    assert site.body("/indices/kospi") == b"[1]"
    (site.directory / "kospi.json").unlink()
    site.look()
    site.look()
    assert site.body("/indices/kospi") is None


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EACCES, errno.EIO])
def test_a_directory_that_cannot_be_listed_is_no_deletion(
    site: Site, code: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As in a process whose backend has leaked its last descriptor, when the hot pages are needed most."""
    site.write("kospi.json", b"[1]", at=NOW - 60)
    site.write("kosdaq.json", b"[1]", at=NOW - 60)
    site.look()
    listed = os.scandir

    def fail(path: str) -> None:
        raise OSError(code, os.strerror(code), str(path))

    for _ in range(2):
        monkeypatch.setattr(os, "scandir", fail)
        for _ in range(4):
            site.look()
        assert [site.body("/indices/kospi"), site.body("/indices/kosdaq")] == [b"[1]", b"[1]"]
        monkeypatch.setattr(os, "scandir", listed)
        site.look()
    assert caplog.text.count(os.strerror(code)) == 2, "once for each time that it began"
    site.write("kospi.json", b"[2]", at=NOW - 60)
    (site.directory / "kosdaq.json").unlink()
    for _ in range(3):
        site.look()
    assert [site.body("/indices/kospi"), site.body("/indices/kosdaq")] == [b"[2]", None]


def open_until_refused(held: list[int]) -> None:
    while True:
        held.append(os.open(os.devnull, os.O_RDONLY))


def test_a_process_without_a_descriptor_left_goes_on_with_its_files(site: Site) -> None:
    site.write("kospi.json", b"[1]", at=NOW - 60)
    site.look()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    held: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 20, before[1]))
        with pytest.raises(OSError, match="Too many open files"):
            open_until_refused(held)
        for _ in range(3):
            site.look()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for descriptor in held:
            os.close(descriptor)
    assert site.body("/indices/kospi") == b"[1]"


def test_a_rewrite_that_puts_size_and_time_back_is_seen(site: Site) -> None:
    """As cp -p or rsync --inplace leave it, where the time is that of the source."""
    site.write("kospi.json", b"[1]", at=NOW - 60)
    site.look()
    site.write("kospi.json", b"[2]", at=NOW - 60)
    for _ in range(2):
        site.look()
    assert site.body("/indices/kospi") == b"[2]"


@pytest.mark.parametrize("interval", [0.01, 0.1, 0.5])
def test_a_pause_of_the_writer_is_waited_for_however_often_one_looks(site: Site, interval: float) -> None:
    site.write("kospi.json", b"[1]", at=NOW - 60)
    site.look()
    site.write("kospi.json", b"1")  # of 12
    waited = 0.0
    while waited < UNCHANGED_SECONDS - interval:
        site.look(interval)
        waited += interval
        assert site.body("/indices/kospi") == b"[1]"
    site.write("kospi.json", b"12")
    while waited < 2 * UNCHANGED_SECONDS - 2 * interval:
        site.look(interval)
        waited += interval
        assert site.body("/indices/kospi") == b"[1]"
    for _ in range(4):
        site.look()
    assert site.body("/indices/kospi") == b"12"


@pytest.mark.parametrize("jump", [-365 * 86400.0, 365 * 86400.0])
def test_a_clock_that_jumps_holds_nothing_up(site: Site, jump: float) -> None:
    site.write("kospi.json", b"[1]")
    site.look()
    site.now += jump
    for _ in range(3):
        site.look()
    assert site.body("/indices/kospi") == b"[1]"


def test_another_name_for_the_same_page_is_no_deletion(tmp_path: Path) -> None:
    """Where case is folded, a file that comes under another name has the key of the one that goes."""
    site = Site(tmp_path)
    site.hot.directory("/folded/{name}", site.directory / "{name}.txt", media_type="text/plain", fold_case=True)
    watched = WatchedDirectory(site.hot.directories[1], site.hot.reading)
    site.write("A.txt", b"1", at=NOW - 60)
    watched.poll(NOW)
    (site.directory / "A.txt").unlink()
    watched.poll(NOW)
    site.write("a.txt", b"2", at=NOW - 60)
    watched.poll(NOW)
    assert watched.pages[b"/folded/a"].bodies["identity"] == b"2"


def test_touching_a_file_changes_nothing(site: Site) -> None:
    site.write("kospi.json", b"[1]", at=NOW - 60)
    site.look()
    page = site.watched.pages[b"/indices/kospi"]
    site.write("kospi.json", b"[1]")
    for _ in range(4):
        assert not site.look()
    assert site.watched.pages[b"/indices/kospi"] is page


def test_backups_and_half_written_files_are_no_pages(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where the template takes any ending; a template that names such an ending means it."""
    site = Site(tmp_path)
    site.hot.directory("/any/{name}", site.directory / "{name}")
    site.hot.directory("/kept/{name}", site.directory / "{name}.bak")
    for name in ("a.json", "a.json~", "#a.json#", "a.json.tmp", "a.json.bak"):
        site.write(name, b"[1]", at=NOW - 60)
    seen = [WatchedDirectory(directory, site.hot.reading) for directory in site.hot.directories[1:]]
    for watched in seen:
        watched.poll(NOW)
    assert [[*watched.pages] for watched in seen] == [[b"/any/a.json"], [b"/kept/a.json"]]
    assert caplog.text.count("is a backup or a temporary file") == 4


def test_links_and_devices_and_other_names_are_passed_over(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    secret = site.directory.parent / "secret.json"
    secret.write_bytes(b'"secret"')
    (site.directory / "link.json").symlink_to(secret)
    os.mkfifo(site.directory / "fifo.json")
    (site.directory / "notes.txt").write_text("[1]")
    for _ in range(4):
        site.look(seconds=5)
    assert not site.watched.pages
    assert "link.json" in caplog.text
    assert "fifo.json" in caplog.text


def test_it_is_in_the_snapshot(site: Site) -> None:
    site.write("kospi.json", b'{"n": 1}', at=NOW - 60)
    reader_of(site.hot).loader.clock = lambda: site.now
    reader_of(site.hot).refresh()
    assert reader_of(site.hot).snapshot.pages[b"/indices/kospi"].bodies["identity"] == b'{"n": 1}'


@pytest.mark.parametrize("data", [b"[1]", b"[1"], ids=["good", "bad"])
def test_what_was_judged_is_read_no_more_until_it_changes(site: Site, data: bytes) -> None:
    disk = site.disk
    site.write("kospi.json", data)
    for _ in range(20):
        site.look()
    assert disk.reads == 2
    site.write("kospi.json", b"[2]")
    for _ in range(20):
        site.look()
    assert disk.reads == 4
    assert site.body("/indices/kospi") == b"[2]"


def test_a_directory_that_outgrows_memory_loses_no_page_and_takes_more_when_there_is_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hot = Hotpath(tmp_path / "hot")
    hot.directory("/t/{name}", tmp_path / "{name}.bin", media_type="application/octet-stream")
    watched = WatchedDirectory(hot.directories[0], replace(hot.reading, max_body_bytes=1000))
    for name in "abc":
        (tmp_path / f"{name}.bin").write_bytes(b"x" * 400)
        os.utime(tmp_path / f"{name}.bin", (NOW - 60, NOW - 60))
    for turn in range(5):
        watched.poll(NOW + turn)
    assert sorted(watched.pages) == [b"/t/a", b"/t/b"]
    assert caplog.text.count("has no room: the directory holds more than max_body_bytes=1,000") == 1
    (tmp_path / "a.bin").unlink()
    for turn in range(5):
        watched.poll(NOW + turn)
    assert sorted(watched.pages) == [b"/t/b", b"/t/c"]


def test_a_file_larger_than_a_page_may_be_is_not_read(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.write("kospi.json", b"[1]", at=NOW - 60)
    site.look()
    site.disk.reads = 0
    with (site.directory / "kospi.json").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    for _ in range(5):
        site.look(5)
    assert (site.disk.reads, site.body("/indices/kospi")) == (0, b"[1]")
    assert "has 33,554,433 bytes, and a hot page at most 33,554,432" in caplog.text


def test_names_that_come_and_go_are_forgotten(site: Site) -> None:
    def come_and_go(names: range) -> None:
        for name in names:
            site.write(f"{name}.json", b"[")
            site.look()
            (site.directory / f"{name}.json").unlink()
        site.look()
        gc.collect()

    come_and_go(range(20))  # what is made once is there now
    tracemalloc.start()
    try:
        come_and_go(range(20, 320))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 30_000, "names and signatures of 300 files have 100 kB and more"


def test_a_file_goes_and_the_page_of_the_generation_is_back(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with staging(site.hot.store) as stage:
        policy = site.hot.directories[0].policy
        stage.add("/indices/kospi", "kospi.json", b'"built"', policy)
        stage.publish()
    reader_of(site.hot).loader.clock = lambda: site.now
    site.write("kospi.json", b'"written"', at=NOW - 60)
    reader_of(site.hot).refresh()
    assert get(site.hot, "/indices/kospi").body == b'"written"'
    (site.directory / "kospi.json").unlink()
    for _ in range(3):
        reader_of(site.hot).refresh()
    assert get(site.hot, "/indices/kospi").body == b'"built"'


def linked(tmp_path: Path) -> WatchedDirectory:
    """Folders below the one that is declared: one of its own, and links of every kind beside it."""
    (tmp_path / "data" / "real").mkdir(parents=True)
    (tmp_path / "data" / "real" / "a.json").write_bytes(b"[1]")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "a.json").write_bytes(b'"secret"')
    (tmp_path / "data-2").mkdir()
    (tmp_path / "data-2" / "a.json").write_bytes(b'"a name that begins so"')
    (tmp_path / "a.json").write_bytes(b'"above"')
    for name, target in {
        "inside": "real", "outside": str(tmp_path / "secrets"), "dots": "../secrets", "dots-2": "real/../../secrets",
        "chain": "outside", "above": "..", "beside": "../data-2", "loop": "loop", "self": ".", "back": "../data/real",
    }.items():  # fmt: skip
        (tmp_path / "data" / name).symlink_to(target)
    hot = Hotpath(tmp_path / "hot")
    hot.directory("/i/{a}/{b}", tmp_path / "data" / "{a}" / "{b}.json")
    return WatchedDirectory(hot.directories[0], hot.reading)


def test_a_linked_folder_leads_nowhere_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    watched = linked(tmp_path)
    for seconds in range(0, 20, 5):
        watched.poll(NOW + seconds)
    assert set(watched.pages) == {b"/i/real/a", b"/i/inside/a", b"/i/back/a"}
    assert "a linked folder leads out" in caplog.text


def test_a_folder_that_becomes_a_link_keeps_its_last_good_bytes(tmp_path: Path) -> None:
    watched = linked(tmp_path)
    watched.poll(NOW)
    (tmp_path / "data" / "real" / "a.json").unlink()
    (tmp_path / "data" / "real").rmdir()
    (tmp_path / "data" / "real").symlink_to("../secrets")
    for seconds in range(5, 20, 5):
        watched.poll(NOW + seconds)
    assert watched.pages[b"/i/real/a"].bodies["identity"] == b"[1]"


def test_the_declared_directory_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "v2" / "x").mkdir(parents=True)
    (tmp_path / "v2" / "x" / "a.json").write_bytes(b"[2]")
    (tmp_path / "current").symlink_to("v2")
    hot = Hotpath(tmp_path / "hot")
    hot.directory("/i/{a}/{b}", tmp_path / "current" / "{a}" / "{b}.json")
    watched = WatchedDirectory(hot.directories[0], hot.reading)
    watched.poll(NOW)
    assert watched.pages[b"/i/x/a"].bodies["identity"] == b"[2]"
