"""A build publishes everything or nothing, names what failed, and does not touch what did not change."""

from __future__ import annotations

import asyncio
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hotpath.batch import build
from hotpath.errors import BuildFailed, DeclarationError, ItemError, StoreBusy, StoreError
from hotpath.site import Hotpath
from hotpath.store import Store
from hotpath.testing import FakeClock


class Seen:
    """A progress that remembers."""

    def __init__(self) -> None:
        self.total = 0
        self.items: list[tuple[str, str | None]] = []
        self.finished = False

    def start(self, total: int) -> None:
        self.total = total

    def done(self, key: str, error: ItemError | None, length: int) -> None:
        self.items.append((key, error.problem if error else None))

    def finish(self) -> None:
        self.finished = True


@pytest.fixture
def hot(tmp_path: Path) -> Hotpath:
    return Hotpath(tmp_path / "hot")


def body(store: Store, file: str) -> bytes:
    return (store.root / "current" / file).read_bytes()


def test_sync_and_async_functions_are_run_and_published(hot: Hotpath) -> None:
    @hot.route("/sync/{n}", each={"n": [1, 2]})
    def sync(n: int) -> dict[str, int]:
        return {"n": n}

    @hot.route("/async")
    async def later() -> list[int]:
        await asyncio.sleep(0)
        return [1]

    progress = Seen()
    report = build(hot, progress)
    assert report.published.sequence == 1
    assert report.published.items == 3
    assert progress.total == 3
    assert progress.items == [("/sync/1", None), ("/sync/2", None), ("/async", None)]
    assert progress.finished
    assert body(hot.store, "sync/2.json") == b'{"n":2}'
    assert body(hot.store, "async.json") == b"[1]"
    assert (hot.store.root / "CURRENT").read_text().startswith("1 sha256:")


def test_what_did_not_change_keeps_bytes_etag_and_date(tmp_path: Path) -> None:
    clock = FakeClock()
    hot = Hotpath(tmp_path)
    hot.store.clock = clock
    number = [1]
    hot.route("/same")(lambda: {"a": [1] * 100})
    hot.route("/new")(lambda: {"n": number})
    build(hot)
    clock.advance(86400)
    number.append(2)
    report = build(hot)
    first, second = hot.store.read_manifest(1).items, hot.store.read_manifest(2).items
    assert report.published.unchanged == 1
    assert second["/same"] == first["/same"]
    assert second["/new"].last_modified == first["/new"].last_modified + 86400
    old, new = (hot.store.files_path(n) / "same.json.gz" for n in (1, 2))
    assert old.stat().st_ino == new.stat().st_ino, "unchanged bytes are not written again"


def test_a_file_that_rotted_is_not_taken_over(hot: Hotpath) -> None:
    hot.route("/same")(lambda: {"a": [1] * 100})
    build(hot)
    rotten = hot.store.files_path(1) / "same.json.gz"
    rotten.write_bytes(b"\0" * rotten.stat().st_size)
    build(hot)
    assert hot.store.verify_generation(2) == []


def test_a_clock_that_went_back_gives_no_date_in_the_future(tmp_path: Path) -> None:
    clock = FakeClock()
    hot = Hotpath(tmp_path)
    hot.store.clock = clock
    hot.route("/same")(lambda: [1])
    build(hot)
    clock.advance(-365 * 86400)
    build(hot)
    assert hot.store.read_manifest(2).items["/same"].last_modified == int(clock.now)
    assert hot.store.sequences() == [1, 2]


def test_every_failure_is_named_and_the_old_generation_stays(hot: Hotpath) -> None:
    broken: list[int] = []
    hot.route("/good")(lambda: [1])

    @hot.route("/r/{n}", each={"n": [1, 2, 3]})
    def page(n: int) -> dict[str, float]:
        if n in broken:
            raise ValueError(f"no data for {n}")
        return {"n": n}

    build(hot)
    before = (hot.store.root / "CURRENT").read_bytes()
    broken += [1, 3]
    progress = Seen()
    with pytest.raises(BuildFailed, match="2 of 4 items failed") as caught:
        build(hot, progress)
    assert [failure.key for failure in caught.value.failures] == ["/r/1", "/r/3"]
    failure = str(caught.value.failures[0])
    assert "ValueError: no data for 1" in failure
    assert f"{__file__}:" in failure
    assert "raise ValueError" in failure
    assert len(progress.items) == 4
    assert progress.finished
    assert (hot.store.root / "CURRENT").read_bytes() == before
    assert hot.store.sequences() == [1]
    assert not [path for path in hot.store.root.iterdir() if path.name.startswith(".")]


def test_nan_and_foreign_types_are_named_with_their_place(hot: Hotpath) -> None:
    hot.route("/nan")(lambda: {"items": [{"pe": math.nan}]})
    hot.route("/set")(lambda: {"a": {1}})
    with pytest.raises(BuildFailed) as caught:
        build(hot)
    assert [failure.path for failure in caught.value.failures] == ["$.items[0].pe", "$.a"]
    assert all(failure.where and failure.where.startswith(__file__) for failure in caught.value.failures)


def test_records_and_required_fields(hot: Hotpath) -> None:
    rows: list[dict[str, object]] = [{"ticker": "A"}, {"ticker": "B"}]
    hot.route("/r", records="items", required=("ticker",))(lambda: {"items": rows})
    build(hot)
    assert hot.store.read_manifest(1).items["/r"].metrics == {"rows": 2}
    rows[1]["ticker"] = None
    with pytest.raises(BuildFailed) as caught:
        build(hot)
    assert caught.value.failures[0].path == "$.items[1].ticker"


def test_records_that_are_not_there(hot: Hotpath) -> None:
    hot.route("/r", records="items")(lambda: {"rows": []})
    with pytest.raises(BuildFailed) as caught:
        build(hot)
    assert "has ['rows']" in caught.value.failures[0].problem


def test_a_wrong_declaration_runs_nothing_and_makes_no_store(hot: Hotpath) -> None:
    ran = []

    def page(m: str = "a") -> None:
        ran.append(m)

    hot.route("/a")(page)
    hot.route("/r/{m}", each={"m": ["x", "x"]})(page)
    with pytest.raises(DeclarationError):
        build(hot)
    assert not ran
    assert not hot.store.root.exists()


def test_a_second_build_at_the_same_time_is_busy_and_says_who(hot: Hotpath) -> None:
    hot.route("/a")(lambda: [1])
    script = (
        "import sys, time; from hotpath.store import Store\n"
        "with Store(sys.argv[1]).locked():\n print('locked', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", script, str(hot.store.root)], stdout=subprocess.PIPE)
    try:
        assert holder.stdout
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(StoreBusy) as caught:
            build(hot)
        assert caught.value.pid == holder.pid
        assert caught.value.exit_code == 75
        assert str(holder.pid) in str(caught.value)
    finally:
        holder.kill()
        holder.wait()
        if holder.stdout:
            holder.stdout.close()
    assert build(hot).published.sequence == 1, "the lock of a killed process is free at once"


def test_a_function_that_stops_the_run_leaves_nothing_behind(hot: Hotpath) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    hot.route("/a")(stop)
    with pytest.raises(KeyboardInterrupt):
        build(hot)
    assert hot.store.sequences() == []
    assert not [path for path in hot.store.root.iterdir() if path.name.startswith(".")]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_store_that_cannot_be_written_says_what_to_do(hot: Hotpath) -> None:
    hot.store.root.mkdir(mode=0o500)
    hot.route("/a")(lambda: [1])
    with pytest.raises(StoreError, match="chown"):
        build(hot)


def test_old_generations_are_pruned_and_the_numbers_go_on(tmp_path: Path) -> None:
    hot = Hotpath(tmp_path / "hot", keep=2)
    hot.route("/a")(lambda: [1])
    for _ in range(4):
        build(hot)
    assert hot.store.sequences() == [3, 4]
    assert (hot.store.root / "current").resolve() == hot.store.files_path(4)
    lines = (hot.store.root / "history.jsonl").read_text().splitlines()
    assert len(lines) == 4
