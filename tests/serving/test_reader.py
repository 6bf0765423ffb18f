"""What a process holds: bounded bodies, verified bytes, last good ones where the disk has none."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from hotpath.asgi.middleware import HotpathMiddleware
from hotpath.batch.run import build
from hotpath.serving import index, loader, reader_of
from hotpath.serving.page_cache import PAGE_OVERHEAD_BYTES
from hotpath.site import Hotpath
from hotpath.testing import FakeClock, Response, asgi_get
from tests.store.faults.sites import edit

pytestmark = pytest.mark.usefixtures("items_in_this_process")


async def cold_app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 418, "headers": []})
    await send({"type": "http.response.body", "body": b"app"})


def get(hot: Hotpath, target: str, **options: Any) -> Response:
    return asyncio.run(asgi_get(HotpathMiddleware(cold_app, hot=hot), target, **options))


def watchers() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "hotpath"}


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def declare(hot: Hotpath, count: int = 3, size: int = 100) -> dict[str, int]:
    state = {"n": 0}
    pages = {"i": list(range(count))}
    hot.route("/p/{i}", each=pages)(lambda i: {"i": i, "n": state["n"], "fill": os.urandom(size // 2).hex()})
    return state


@pytest.fixture
def hot(tmp_path: Path) -> Iterator[Hotpath]:
    hot = Hotpath(tmp_path / "hot", refresh=3600)
    yield hot
    reader_of(hot).close()


def test_a_corrupt_file_of_a_new_generation_keeps_the_last_good_bytes(
    hot: Hotpath, caplog: pytest.LogCaptureFixture
) -> None:
    declare(hot)
    build(hot)
    before = get(hot, "/p/1")
    build(hot)
    edit(hot.store.files_path(2) / "p" / "1.json", b"{}")
    reader_of(hot).refresh()
    answer = get(hot, "/p/1")
    assert (answer.status, answer.body) == (200, before.body)
    assert answer.header("x-hotpath-generation") == "1", "it says which generation the bytes are of"
    assert get(hot, "/p/2").header("x-hotpath-generation") == "2"
    assert reader_of(hot).loader.corrupt_items == 1
    assert len([record for record in caplog.records if "/p/1" in record.getMessage()]) == 1


def test_at_start_the_last_good_bytes_come_from_the_generation_before(hot: Hotpath) -> None:
    declare(hot)
    build(hot)
    first = (hot.store.files_path(1) / "p" / "1.json").read_bytes()
    build(hot)
    (hot.store.files_path(2) / "p" / "1.json").unlink()
    answer = get(hot, "/p/1")
    assert (answer.status, answer.body, answer.header("x-hotpath-generation")) == (200, first, "1")


def test_without_any_good_bytes_the_app_is_asked(hot: Hotpath) -> None:
    declare(hot)
    build(hot)
    edit(hot.store.files_path(1) / "p" / "1.json", b"garbage")
    assert get(hot, "/p/1").status == 418
    assert get(hot, "/p/2").status == 200


def test_a_corrupt_coding_is_left_out(hot: Hotpath) -> None:
    hot.route("/a")(lambda: {"fill": "x" * 1000})
    build(hot)
    edit(hot.store.files_path(1) / "a.json.gz", b"no gzip")
    answer = get(hot, "/a", headers=[(b"accept-encoding", b"gzip")])
    assert (answer.status, answer.header("content-encoding")) == (200, None)


def test_the_store_may_vanish_while_serving(hot: Hotpath) -> None:
    import shutil

    declare(hot)
    build(hot)
    before = get(hot, "/p/1")
    shutil.rmtree(hot.store.root)
    reader_of(hot).refresh()
    after = get(hot, "/p/1")
    assert (after.status, after.body, after.header("etag")) == (200, before.body, before.header("etag"))
    assert reader_of(hot).loader.degraded


@pytest.mark.slow
def test_bodies_stay_below_the_maximum_and_every_page_is_served(tmp_path: Path) -> None:
    maximum = 40 * (2 * 4000 + PAGE_OVERHEAD_BYTES)
    hot = Hotpath(tmp_path / "hot", refresh=3600, max_body_bytes=maximum)
    declare(hot, count=200, size=4000)
    build(hot)
    for _ in range(2):
        for number in range(200):
            answer = get(hot, f"/p/{number}")
            assert answer.status == 200
            assert answer.body.startswith(b'{"i":%d,' % number)
            assert reader_of(hot).loader.body_bytes <= maximum
    held = len(reader_of(hot).snapshot.pages)
    assert 0 < held < 100
    reader_of(hot).close()


def test_pages_in_use_stay_in_memory(tmp_path: Path) -> None:
    hot = Hotpath(tmp_path / "hot", refresh=3600, max_body_bytes=20 * (2 * 4000 + PAGE_OVERHEAD_BYTES))
    declare(hot, count=100, size=4000)
    build(hot)
    for number in range(1, 100):
        assert get(hot, "/p/0").status == 200
        if number > 1:
            assert b"/p/0" in reader_of(hot).snapshot.pages, number
        get(hot, f"/p/{number}")
    reader_of(hot).close()


def test_age_is_told_every_second_and_stale_is_served(hot: Hotpath) -> None:
    clock = FakeClock()
    hot.store.clock = clock
    reader_of(hot).loader.clock = clock
    hot.route("/a", lifetime="1h")(lambda: [1])
    build(hot)
    assert get(hot, "/a").header("cache-status") == "hotpath; hit; ttl=3600"
    clock.advance(3601)
    reader_of(hot).refresh()
    answer = get(hot, "/a")
    assert (answer.status, answer.header("cache-status")) == (200, "hotpath; hit; ttl=-1")


@pytest.mark.slow
def test_a_reader_that_nobody_holds_stops_its_thread_and_frees_its_lock(tmp_path: Path) -> None:
    hot = Hotpath(tmp_path / "hot", refresh=0.02, keep=1)
    hot.route("/a")(lambda: [1])
    build(hot)
    before = watchers()
    reader_of(hot).start()
    (thread,) = watchers() - before
    descriptors = open_descriptors()
    for _ in range(5):
        build(hot)
        reader_of(hot).refresh()
    assert open_descriptors() == descriptors, "one descriptor, whatever the number of generations"
    reader_of(hot).close()
    thread.join(5)
    assert not thread.is_alive()
    other = Hotpath(tmp_path / "hot", refresh=0.02)
    reader_of(other).start()
    (orphan,) = watchers() - before
    del other
    gc.collect()
    orphan.join(5)
    assert not orphan.is_alive()


def test_a_forked_child_goes_on_watching(hot: Hotpath) -> None:
    hot = Hotpath(hot.store.root, refresh=0.02)
    declare(hot)
    build(hot)
    reader_of(hot).start()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        threads = threading.active_count()
        assert get(hot, "/p/0").status == 200
        assert threading.active_count() > threads == 1, "nothing is started before the first request"
        deadline = time.monotonic() + 10
        while reader_of(hot).snapshot.generation == 1 and time.monotonic() < deadline:
            time.sleep(0.02)
        os.write(write, str(reader_of(hot).snapshot.generation).encode())
        os._exit(0)
    os.close(write)
    build(hot)
    with os.fdopen(read, "rb") as pipe:
        assert pipe.read() == b"2"
    os.waitpid(child, 0)
    reader_of(hot).close()


def test_the_garbage_collector_is_as_it_was_after_a_load_and_in_a_child_forked_meanwhile(hot: Hotpath) -> None:
    declare(hot)
    build(hot)
    before = gc.get_threshold()
    seen: list[tuple[int, int, int]] = []
    forked: list[int] = []
    read = hot.store.disk.read

    def reads(path: Path) -> bytes:
        seen.append(gc.get_threshold())
        if not forked:
            forked.append(os.fork())
            if not forked[0]:
                os._exit(gc.get_threshold() != before)
        return read(path)

    hot.store.disk.read = reads  # type: ignore[method-assign]
    reader_of(hot).start()
    reader_of(hot).close()
    _, status = os.waitpid(forked[0], 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert before not in seen
    assert gc.get_threshold() == before


def test_refreshing_goes_on_after_a_surprise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hot = Hotpath(tmp_path / "hot", refresh=0.02)
    hot.route("/a")(lambda: [1])
    build(hot)
    reader_of(hot).start()
    real = hot.store.signature
    failed = threading.Event()

    def fails_once() -> object:
        if not failed.is_set():
            failed.set()
            raise ZeroDivisionError
        return real()

    monkeypatch.setattr(hot.store, "signature", fails_once)
    with caplog.at_level(logging.ERROR):
        assert failed.wait(5)
    build(hot)
    deadline = time.monotonic() + 5
    while reader_of(hot).snapshot.generation != 2:
        assert time.monotonic() < deadline, "the watcher died"
        time.sleep(0.02)
    reader_of(hot).close()


@pytest.mark.slow
def test_pages_that_push_each_other_out_are_all_answered(tmp_path: Path) -> None:
    hot = Hotpath(tmp_path / "hot", refresh=3600, max_body_bytes=8 * (2 * 4000 + PAGE_OVERHEAD_BYTES))
    declare(hot, count=64, size=4000)
    build(hot)
    app = HotpathMiddleware(cold_app, hot=hot)

    async def ask(client: int) -> list[int]:
        order = [(client * 7 + step * 5) % 64 for step in range(64)]
        return [(await asgi_get(app, f"/p/{number}")).status for number in order]

    async def all_clients() -> list[list[int]]:
        return await asyncio.gather(*(ask(client) for client in range(16)))

    statuses = [status for answers in asyncio.run(all_clients()) for status in answers]
    assert set(statuses) == {200}, f"{statuses.count(418)} of {len(statuses)} reached the app"
    reader_of(hot).close()


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["lines", "pages"])
def test_nobody_who_needs_one_page_waits_for_a_generation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    hot = Hotpath(tmp_path / "hot", refresh=3600, max_body_bytes=2 * PAGE_OVERHEAD_BYTES)
    state = declare(hot, count=50)
    build(hot)
    reader_of(hot).start()
    assert b"/p/40" not in reader_of(hot).snapshot.pages
    state["n"] = 1
    build(hot)
    # The load stays at its first pause until a page that is waited for is answered.
    loads, answered = threading.Event(), threading.Event()
    monkeypatch.setattr(index, "LINES_PER_PAUSE", 1 if phase == "lines" else 10**6)
    monkeypatch.setattr(loader, "PAGES_PER_PAUSE", 1 if phase == "pages" else 10**6)
    pause = reader_of(hot).loader.pause

    def watched() -> None:
        if not loads.is_set():
            loads.set()
            until = time.monotonic() + 10
            while not answered.is_set() and time.monotonic() < until:
                pause()
            assert answered.is_set()

    monkeypatch.setattr(reader_of(hot).loader, "pause", watched)
    load = threading.Thread(target=reader_of(hot).refresh, daemon=True)
    load.start()
    assert loads.wait(10)
    found: list[Any] = []

    def ask() -> None:
        found.append(reader_of(hot).load_page(b"/p/40"))
        answered.set()

    asker = threading.Thread(target=ask, daemon=True)
    asker.start()
    asker.join(20)
    load.join(20)
    assert orjson.loads(found[0].bodies["identity"])["n"] == (0 if phase == "lines" else 1)
    assert reader_of(hot).snapshot.generation == 2
    reader_of(hot).close()
