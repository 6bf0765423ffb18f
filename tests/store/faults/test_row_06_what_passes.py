"""Row 6, what passes: too many open files, rights that are mended. Nothing has to be published or restarted for it."""

from __future__ import annotations

import errno
import gc
import os
import shutil
from pathlib import Path

import pytest

from hotpath.batch.run import build
from hotpath.serving import index, loader, page_source, reader_of
from hotpath.serving.page_cache import cost_of
from hotpath.serving.snapshot import Freshness
from hotpath.site import Hotpath
from hotpath.store.disk import Disk
from hotpath.store.store import Store
from hotpath.testing import FakeClock
from tests.store.faults.sites import APP_STATUS, edit, get, publish, site_of


class Troubled(Disk):
    """EMFILE for every file whose name ends like one of ``names``; counts the files and the manifests opened."""

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self.manifests = 0
        self.opened = 0

    def open_regular(self, path: Path) -> int:
        self.opened += 1
        self.manifests += path.name == "manifest.json"
        if str(path).endswith(self.names or "\0"):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))
        return super().open_regular(path)


def open_descriptors() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


def count_freshness() -> int:
    gc.collect()
    return sum(type(value) is Freshness for value in gc.get_objects())


@pytest.fixture
def disk() -> Troubled:
    return Troubled()


@pytest.fixture
def store(tmp_path: Path, disk: Troubled) -> Store:
    store = Store(tmp_path / "hot", disk=disk)
    publish(store, a=b"[1]", b=b"[1]")
    return store


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What went wrong is tried again without a pause."""
    monkeypatch.setattr(loader, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(page_source, "RETRY_SECONDS", 0.0)


@pytest.mark.usefixtures("at_once")
def test_a_load_that_failed_is_tried_again(store: Store, disk: Troubled) -> None:
    hot = site_of(store)
    publish(store, a=b"[2]", b=b"[2]")
    disk.names = ("manifest.json", "CURRENT")
    reader_of(hot).refresh()
    assert (get(hot, "/a").body, bool(reader_of(hot).loader.degraded)) == (b"[1]", True)
    disk.names = ()
    assert reader_of(hot).refresh()
    assert (get(hot, "/a").body, reader_of(hot).loader.degraded) == (b"[2]", None)


@pytest.mark.usefixtures("at_once")
def test_what_stays_wrong_is_not_loaded_again_and_again(store: Store) -> None:
    publish(store, a=b"[2]", b=b"[2]")
    edit(store.current_path, b"nonsense")
    hot = site_of(store)
    assert get(hot, "/a").body == b"[2]"
    before = reader_of(hot).snapshot
    for _ in range(3):
        assert not reader_of(hot).refresh()
    assert reader_of(hot).snapshot is before
    assert reader_of(hot).loader.degraded


@pytest.mark.usefixtures("at_once")
def test_a_page_whose_file_could_not_be_opened_is_not_lost(store: Store, disk: Troubled) -> None:
    hot = site_of(store)
    publish(store, a=b"[2]", c=b"[2]")
    disk.names = ("2/files/c.json",)
    reader_of(hot).refresh()
    assert [get(hot, "/c").status for _ in range(2)] == [APP_STATUS] * 2
    assert reader_of(hot).loader.corrupt_items == 1
    disk.names = ()
    assert get(hot, "/c").body == b"[2]"


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("file", ["a.json", "a.json.gz"])
def test_a_page_that_stayed_as_it_was_because_its_file_could_not_be_opened_follows(
    store: Store, disk: Troubled, file: str
) -> None:
    """Nothing is published and nobody restarts anything: yesterday's page is not served for another day."""
    before, after = (b"[%s]" % b",".join([number] * 1000) for number in (b"1", b"2"))
    publish(store, a=before, b=b"[1]")
    hot = site_of(store)
    publish(store, a=after, b=b"[2]")
    disk.names = (f"3/files/{file}",)
    reader_of(hot).refresh()
    before_retries = count_freshness()
    for _ in range(3):
        reader_of(hot).refresh()
    assert get(hot, "/a").body == (before if file == "a.json" else after)
    assert (get(hot, "/b").body, reader_of(hot).loader.corrupt_items) == (b"[2]", int(file == "a.json"))
    assert count_freshness() == before_retries, "what is tried again and again takes no memory"
    disk.names = ()
    assert not reader_of(hot).refresh(), "the generation is the same"
    assert (get(hot, "/a").body, get(hot, "/a").header("x-hotpath-generation")) == (after, "3")
    assert "gzip" in reader_of(hot).snapshot.pages[b"/a"].bodies
    assert reader_of(hot).loader.body_bytes == sum(map(cost_of, reader_of(hot).snapshot.pages.values()))
    opened = disk.opened
    reader_of(hot).refresh()
    assert disk.opened == opened, "nothing is tried again"


def test_a_manifest_whose_lines_cannot_be_read_costs_no_descriptor(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    hot = site_of(store)
    before = open_descriptors()

    def fail(*arguments: object) -> None:
        raise ValueError("not as a manifest has them")

    monkeypatch.setattr(index, "item_lines", fail)
    for number in range(5):
        publish(store, a=b"[%d]" % number)
        reader_of(hot).refresh()
    assert open_descriptors() == before
    assert "not as a manifest has them" in (reader_of(hot).loader.degraded or "")
    assert get(hot, "/a").body == b"[1]"


@pytest.mark.slow
def test_a_generation_without_its_files_is_looked_for_in_the_one_before_at_once(tmp_path: Path, disk: Troubled) -> None:
    hot = Hotpath(tmp_path / "many")
    hot.store.disk = disk
    hot.route("/p/{n}", each={"n": range(300)})(lambda n: [n])
    build(hot)
    build(hot)
    shutil.rmtree(hot.store.files_path(2))
    disk.manifests = 0
    reader_of(hot).start()
    assert get(hot, "/p/299").body == b"[299]"
    assert reader_of(hot).loader.corrupt_items == 300
    assert disk.manifests < 10, "not once for every page"


@pytest.mark.usefixtures("at_once")
def test_one_bad_page_where_older_generations_cannot_be_listed_costs_no_other_page(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a directory that the web user may pass and not list, or with no descriptor left."""
    publish(store, a=b"[2]", b=b"[2]")
    edit(store.files_path(2) / "a.json", b"[")

    def fail() -> list[int]:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(store.generations_path))

    hot = Hotpath(store.root, refresh=3600)
    monkeypatch.setattr(hot.store, "sequences", fail)
    reader_of(hot).refresh()
    assert [get(hot, "/a").status, get(hot, "/b").body] == [APP_STATUS, b"[2]"]
    monkeypatch.undo()
    assert get(hot, "/a").body == b"[1]"


def test_a_page_that_is_kept_from_before_goes_on_to_age(tmp_path: Path) -> None:
    clock = FakeClock()
    hot = Hotpath(tmp_path / "hot", lifetime="1h", refresh=3600)
    hot.store.clock = reader_of(hot).loader.clock = clock
    hot.route("/p")(lambda: [int(clock())])
    build(hot)
    reader_of(hot).start()
    clock.advance(60)
    build(hot)
    edit(hot.store.files_path(2) / "p.json", b"{}")
    reader_of(hot).refresh()
    clock.advance(7200)
    reader_of(hot).refresh()
    status = dict(get(hot, "/p").headers)[b"cache-status"]
    assert b"ttl=-3660" in status


def test_a_site_with_a_directory_hears_that_its_store_is_broken(tmp_path: Path) -> None:
    (tmp_path / "live").mkdir()
    hot = Hotpath(tmp_path / "hot")
    hot.directory("/live", tmp_path / "live")
    reader_of(hot).start()
    assert reader_of(hot).loader.degraded is None
    hot.route("/p")(lambda: [1])
    build(hot)
    edit(hot.store.manifest_path(1), b"{}")
    reader_of(hot).refresh()
    assert reader_of(hot).loader.degraded


def test_a_coding_that_was_mended_comes_back(store: Store) -> None:
    body = b"[%s]" % b",".join([b"1"] * 1000)
    publish(store, a=body)
    file = store.files_path(2) / "a.json.gz"
    good = file.read_bytes()
    edit(file, b"x")
    hot = site_of(store)
    assert b"content-encoding" not in dict(get(hot, "/a").headers)
    edit(file, good)
    publish(store, a=body)
    reader_of(hot).refresh()
    snapshot = reader_of(hot).snapshot
    assert "gzip" in snapshot.pages[b"/a"].bodies
