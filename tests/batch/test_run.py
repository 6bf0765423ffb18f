"""A build publishes everything or nothing, names what failed, and does not touch what did not change."""

from __future__ import annotations

import asyncio
import math
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from hotpath.batch.progress import Done
from hotpath.batch.reports import last_run, newest_runs
from hotpath.batch.run import build
from hotpath.batch.sqlite import sqlite_snapshot
from hotpath.errors import BuildFailed, DeclarationError, Implausible, StoreBusy, StoreError
from hotpath.ops.status import status
from hotpath.site import Hotpath
from hotpath.store.quarantine import approve
from hotpath.store.store import Store
from hotpath.testing import FakeClock
from tests.store.faults.sites import edit


class Seen:
    """A progress that remembers."""

    def __init__(self) -> None:
        self.total = 0
        self.items: list[tuple[str, str | None]] = []
        self.finished = False

    def start(self, total: int) -> None:
        self.total = total

    def done(self, done: Done) -> None:
        self.items.append((done.key, done.error.problem if done.error else None))

    def finish(self) -> None:
        self.finished = True


@pytest.fixture
def hot(tmp_path: Path) -> Hotpath:
    return Hotpath(tmp_path / "hot")


def body(store: Store, file: str) -> bytes:
    return (store.root / "current" / file).read_bytes()


def test_routes_that_nobody_declares_any_more_are_a_warning_once(hot: Hotpath, tmp_path: Path) -> None:
    for path in ("/a", "/b", "/c", "/d", "/e"):
        hot.route(path)(lambda: [1])
    assert build(hot).warnings == ()
    other = Hotpath(tmp_path / "hot")
    other.route("/e")(lambda: [1])
    (warning,) = build(other).warnings
    assert warning.startswith("'/a', '/b', '/c' …: built last time and declared no more")
    assert build(other).warnings == ()


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
    assert report.published.generation == 1
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
    edit(rotten, b"\0" * rotten.stat().st_size)
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


def pages(hot: Hotpath, count: int, *, critical: bool = False) -> list[int]:
    """Items that fail when their number is put into the returned list."""
    broken: list[int] = []

    @hot.route("/r/{n}", each={"n": list(range(count))}, critical=critical)
    def page(n: int) -> dict[str, float]:
        if n in broken:
            raise ValueError(f"no data for {n}")
        return {"n": n, "run": len(broken)}

    return broken


@pytest.mark.slow
def test_a_failed_item_keeps_its_last_good_bytes_and_says_since_when(tmp_path: Path) -> None:
    clock = FakeClock()
    hot = Hotpath(tmp_path)
    hot.store.clock = clock
    broken = pages(hot, 3)
    build(hot)
    first = int(clock.now)
    for _ in range(2):  # the second night it is still the first night's
        broken[:] = [1]
        clock.advance(86400)
        report = build(hot)
        assert [error.key for error in report.failures] == ["/r/1"]
        assert report.carried == ("/r/1",)
        items = hot.store.read_manifest(report.published.generation).items
        assert {key: item.stale_since for key, item in items.items()} == {"/r/0": None, "/r/1": first, "/r/2": None}
        assert body(hot.store, "r/1.json") == b'{"n":1,"run":0}'
        assert hot.store.verify_generation(report.published.generation) == []
    broken.clear()
    report = build(hot)
    assert hot.store.read_manifest(report.published.generation).items["/r/1"].stale_since is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "fail", "options", "reason"),
    [
        (1, 1, {}, "nothing was built at all"),
        (20, 2, {}, "more than may fail"),
        (40, 2, {}, None),
        (40, 3, {}, "more than may fail"),
        (40, 3, {"max_failures": 0.1}, None),
        (40, 1, {"max_failures": 0}, "more than may fail"),
        (3, 1, {}, None),
    ],
)
def test_how_many_may_fail(hot: Hotpath, count: int, fail: int, options: dict[str, Any], reason: str | None) -> None:
    broken = pages(hot, count)
    build(hot)
    broken += range(fail)
    if reason is None:
        assert len(build(hot, **options).carried) == fail
    else:
        with pytest.raises(BuildFailed, match=reason) as caught:
            build(hot, **options)
        assert caught.value.reason
        assert hot.store.sequences() == [1]


def test_an_item_of_a_critical_route_fails_the_run(hot: Hotpath) -> None:
    broken = pages(hot, 40, critical=True)
    build(hot)
    broken.append(7)
    with pytest.raises(BuildFailed, match="/r/7 belongs to a route that is critical=True"):
        build(hot)


def test_on_the_first_run_nothing_may_fail(hot: Hotpath) -> None:
    pages(hot, 40).append(7)
    with pytest.raises(BuildFailed, match="first run"):
        build(hot)


def test_the_last_of_two_runs_in_one_second_is_the_one_that_was_published(hot: Hotpath) -> None:
    hot.store.clock = FakeClock()
    pages(hot, 40).append(7)
    with pytest.raises(BuildFailed):
        build(hot)
    build(hot, partial=True)
    run = last_run(hot.store)
    assert run is not None
    assert run["outcome"] == "published"


def test_a_refused_first_run_names_what_publishes_it(hot: Hotpath) -> None:
    pages(hot, 108).extend(range(6))
    for max_failures in (0.05, 0.5):
        with pytest.raises(
            BuildFailed, match=r"max_failures has no effect here\); --partial publishes the 102 that could be built"
        ):
            build(hot, max_failures=max_failures)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"max_failures": 0.0}])
def test_a_partial_first_run_publishes_what_was_built_and_the_next_nights_go_on(
    hot: Hotpath, options: dict[str, Any]
) -> None:
    broken = pages(hot, 108)
    broken += range(6)
    for night in (1, 2):
        report = build(hot, partial=True, **options)
        assert (report.published.generation, report.published.items) == (night, 102)
        assert (len(report.failures), report.carried) == (6, ())
    with pytest.raises(BuildFailed, match=r"more than may fail .* --partial leaves .* to the app: 6"):
        build(hot)


def test_a_partial_first_run_is_retried(hot: Hotpath) -> None:
    broken = pages(hot, 10)
    broken += [1, 2, 3]
    build(hot, partial=True)
    broken.clear()
    report = build(hot, retry_failed=True)
    assert (report.published.items, report.failures) == (10, ())


def test_a_partial_run_counts_what_has_last_good_bytes(hot: Hotpath) -> None:
    broken = pages(hot, 20)
    build(hot)
    broken += range(5)
    with pytest.raises(BuildFailed, match="more than may fail"):
        build(hot, partial=True)


def test_new_items_that_fail_count_unless_the_run_is_partial(tmp_path: Path) -> None:
    hot = Hotpath(tmp_path)
    pages(hot, 20)
    build(hot)
    larger = Hotpath(tmp_path)
    pages(larger, 40).extend(range(20, 40))
    with pytest.raises(BuildFailed, match="to the app: 20"):
        build(larger)
    assert build(larger, partial=True).published.items == 20


def test_a_partial_run_needs_something_that_was_built_and_every_critical_page(hot: Hotpath, tmp_path: Path) -> None:
    pages(hot, 3).extend(range(3))
    with pytest.raises(BuildFailed, match="nothing was built at all"):
        build(hot, partial=True)
    critical = Hotpath(tmp_path / "critical")
    pages(critical, 3, critical=True).append(1)
    with pytest.raises(BuildFailed, match="critical=True"):
        build(critical, partial=True)


def test_a_new_item_that_fails_is_left_to_the_app(tmp_path: Path) -> None:
    hot = Hotpath(tmp_path)
    pages(hot, 3)
    build(hot)
    larger = Hotpath(tmp_path)
    pages(larger, 4).append(3)
    report = build(larger)
    assert (len(report.failures), report.carried) == (1, ())
    assert "/r/3" not in hot.store.read_manifest(2).items


def test_bytes_that_rotted_are_not_carried_forward(hot: Hotpath) -> None:
    broken = pages(hot, 3)
    build(hot)
    rotten = hot.store.files_path(1) / "r/1.json"
    edit(rotten, b"\0" * rotten.stat().st_size)
    broken.append(1)
    report = build(hot)
    assert report.carried == ()
    assert hot.store.verify_generation(2) == []


@pytest.mark.slow
def test_retrying_runs_only_what_failed(hot: Hotpath) -> None:
    broken = pages(hot, 40)
    build(hot)
    broken.append(7)
    build(hot)
    broken[:] = [8]  # would fail now, and is not asked
    progress = Seen()
    report = build(hot, progress, retry_failed=True)
    assert progress.items == [("/r/7", None)]
    assert (report.published.items, report.failures) == (40, ())
    assert hot.store.read_manifest(3).items["/r/7"].stale_since is None
    broken[:] = range(30)
    with pytest.raises(BuildFailed):
        build(hot)
    with pytest.raises(DeclarationError, match="that run was failed"):
        build(hot, retry_failed=True)


def test_a_page_that_is_other_bytes_each_time_is_warned_about(hot: Hotpath) -> None:
    hot.route("/time")(lambda: {"made": time.time_ns()})
    hot.route("/same")(lambda: [1])
    warned = build(hot).warnings
    assert len(warned) == 1
    assert warned[0].startswith("/time: built twice, it is not the same")


def test_the_same_data_gives_the_same_bytes_and_tags(hot: Hotpath) -> None:
    hot.route("/set")(lambda: {"b": 1, "a": [1.5, "é"]})
    build(hot)
    report = build(hot)
    assert report.published.unchanged == 1
    assert report.warnings == ()


CHECKS = [
    (lambda payload: None, None),
    (lambda payload: True, None),
    (lambda payload: False, "refuses the payload"),
    (lambda payload: "only 3 sectors", "says only 3 sectors"),
    (lambda payload: payload["nothing"], "KeyError: 'nothing'"),
]


@pytest.mark.parametrize(("check", "said"), CHECKS)
def test_the_users_own_check(hot: Hotpath, check: Callable[[Any], object], said: str | None) -> None:
    hot.route("/a", check=check)(lambda: {"rows": 1})
    if said is None:
        build(hot)
    else:
        with pytest.raises(BuildFailed) as caught:
            build(hot)
        assert said in caught.value.failures[0].problem


def test_every_run_is_kept_with_what_it_found(hot: Hotpath) -> None:
    broken = pages(hot, 3)
    first = build(hot)
    broken.append(1)
    build(hot)
    broken += [0, 2]
    with pytest.raises(BuildFailed):
        build(hot)
    failed, carried, good = newest_runs(hot.store)
    assert [run["outcome"] for run in (good, carried, failed)] == ["published", "published", "failed"]
    assert (good["sequence"], carried["sequence"], failed["sequence"]) == (1, 2, 3)
    assert carried["failures"][0]["key"] == "/r/1"
    assert carried["routes"]["/r/{n}"]["items"] == 3
    assert good["items"]["/r/0"]["bytes"] == len(b'{"n":0,"run":0}')
    assert failed["peak_bytes"] > 1_000_000
    assert first.path is not None
    assert first.path.parent == hot.store.root / "runs"


def stocks(tmp_path: Path, clock: FakeClock) -> tuple[Hotpath, list[dict[str, Any]]]:
    """A site of one table, and its rows."""
    hot = Hotpath(tmp_path)
    hot.store.clock = clock
    rows = [{"ticker": f"T{n}", "sector": f"S{n * 7 % 11}", "pe": 10 + n % 13} for n in range(200)]
    hot.route("/stocks", records="items", required=("ticker",))(lambda: {"items": rows})
    return hot, rows


def nights(hot: Hotpath, clock: FakeClock, count: int) -> None:
    for _ in range(count):
        clock.advance(86400)
        build(hot)


@pytest.mark.slow
def test_a_night_with_a_missing_sector_is_quarantined_and_the_page_keeps_serving(tmp_path: Path) -> None:
    clock = FakeClock()
    hot, rows = stocks(tmp_path, clock)
    nights(hot, clock, 5)
    whole = list(rows)
    rows[:] = [row for row in rows if row["sector"] != "S0"]
    clock.advance(86400)
    with pytest.raises(Implausible) as caught:
        build(hot)
    assert caught.value.problems[0].startswith("/stocks: fewer rows: expected at least 190")
    assert "found 181" in caught.value.problems[0]
    assert body(hot.store, "stocks.json") == orjson.dumps({"items": whole})
    assert hot.store.quarantined() == [6]
    (quarantined,) = (run for run in newest_runs(hot.store) if run["outcome"] == "quarantined")
    assert quarantined["findings"][0]["rule"] == "fewer rows"
    # The same again tomorrow is refused again: what was refused is no part of what it is compared with.
    clock.advance(86400)
    with pytest.raises(Implausible):
        build(hot)


@pytest.mark.slow
def test_an_approved_generation_is_what_the_next_is_compared_with(tmp_path: Path) -> None:
    clock = FakeClock()
    hot, rows = stocks(tmp_path, clock)
    nights(hot, clock, 5)
    del rows[100:]
    clock.advance(86400)
    with pytest.raises(Implausible) as caught:
        build(hot)
    approve(hot.store, caught.value.sequence, "half the market was delisted")
    nights(hot, clock, 3)
    del rows[50:]
    clock.advance(86400)
    with pytest.raises(Implausible, match="expected at least 95"):
        build(hot)


@pytest.mark.slow
def test_a_column_that_is_shifted_by_one_row_is_caught_on_its_first_night(tmp_path: Path) -> None:
    clock = FakeClock()
    hot, rows = stocks(tmp_path, clock)
    nights(hot, clock, 5)
    sectors = [row["sector"] for row in rows]
    for row, sector in zip(rows, sectors[1:] + sectors[:1], strict=True):
        row["sector"] = sector
    clock.advance(86400)
    with pytest.raises(Implausible, match="sector is another value for the same row"):
        build(hot)


@pytest.mark.slow
def test_an_item_that_is_carried_forward_is_not_judged_again(tmp_path: Path) -> None:
    clock = FakeClock()
    hot, rows = stocks(tmp_path, clock)
    hot.route("/other")(lambda: [1])
    nights(hot, clock, 5)
    rows.clear()
    clock.advance(86400)
    assert build(hot).carried == ("/stocks",)


@pytest.mark.slow
def test_a_page_that_is_gone_is_missed_unless_its_route_went_too(tmp_path: Path) -> None:
    clock = FakeClock()
    keys = [f"k{n}" for n in range(20)]

    def site(*routes: str) -> Hotpath:
        hot = Hotpath(tmp_path)
        hot.store.clock = clock
        for route in routes:
            hot.route(route, each={"key": keys})(lambda key: {"key": key})
        clock.advance(86400)
        return hot

    for _ in range(4):
        build(site("/a/{key}", "/b/{key}"))
    build(site("/a/{key}"))  # somebody took it out of the code
    keys.remove("k7")
    with pytest.raises(Implausible) as caught:
        build(site("/a/{key}"))
    assert caught.value.problems == ["/a/k7: it is gone: expected at most 0 gone, found 1 gone"]
    assert body(Store(tmp_path), "a/k7.json") == b'{"key":"k7"}'


@pytest.mark.slow
def test_pages_that_come_and_go_may_go(tmp_path: Path) -> None:
    """A page a stock: every night some are listed and some are delisted."""
    clock = FakeClock()
    hot = Hotpath(tmp_path)
    hot.store.clock = clock
    first = [0]
    hot.route("/a/{n}", each=lambda: [{"n": n} for n in range(first[0], first[0] + 30)])(lambda n: [n])
    for _ in range(8):
        first[0] += 1
        nights(hot, clock, 1)
    first[0] += 10
    with pytest.raises(Implausible, match="/a/9: it is gone: expected at most 2 gone, found 10 gone"):
        nights(hot, clock, 1)


@pytest.mark.slow
def test_growth_and_a_cold_start_are_no_alarm(tmp_path: Path) -> None:
    clock = FakeClock()
    hot, rows = stocks(tmp_path, clock)
    nights(hot, clock, 2)
    del rows[100:]
    nights(hot, clock, 4)
    rows += [{"ticker": f"N{n}", "sector": "S1", "pe": 1} for n in range(60)]
    clock.advance(86400)
    assert any("more rows" in warning for warning in build(hot).warnings)


def test_all_items_of_a_run_see_one_moment_of_a_database(tmp_path: Path) -> None:
    database = tmp_path / "live.db"
    with closing(sqlite3.connect(database)) as live:
        live.execute("CREATE TABLE t (n INTEGER)")
        live.execute("INSERT INTO t VALUES (1)")
        live.commit()
    snapshot = sqlite_snapshot(database)
    hot = Hotpath(tmp_path / "hot")

    @hot.route("/{n}", each={"n": [1, 2, 3]})
    def page(n: int) -> list[int]:
        with snapshot.connect() as view:
            (seen,) = view.execute("SELECT n FROM t").fetchone()
        with closing(sqlite3.connect(database)) as live:  # somebody writes meanwhile
            live.execute("UPDATE t SET n = n + 1")
            live.commit()
        return [seen]

    build(hot)
    assert [body(hot.store, f"{n}.json") for n in (1, 2, 3)] == [b"[1]"] * 3
    with snapshot.connect() as after:
        assert after.execute("SELECT n FROM t").fetchone()[0] > 3
    assert not [path for path in hot.store.root.iterdir() if path.name.startswith(".")]


def test_a_report_of_a_newer_version_is_told_before_anything_is_run(tmp_path: Path) -> None:
    clock = FakeClock()
    hot, _ = stocks(tmp_path, clock)
    nights(hot, clock, 1)
    (report,) = (tmp_path / "runs").iterdir()
    facts = orjson.loads(report.read_bytes())
    report.write_bytes(orjson.dumps(facts | {"format": facts["format"] + 1}))
    ran: list[int] = []
    hot.route("/other")(lambda: ran.append(1))
    with pytest.raises(StoreError, match=r"format 2 of a newer hotpath; this one reads 1; run that version") as caught:
        build(hot)
    assert (caught.value.path, ran) == (report, [])
    assert "newer hotpath" in str(status(hot.store).degraded)


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
    assert build(hot).published.generation == 1, "the lock of a killed process is free at once"


def test_a_run_that_is_stopped_leaves_nothing_behind(hot: Hotpath) -> None:
    class Stop(Seen):
        def done(self, done: Done) -> None:
            raise KeyboardInterrupt

    hot.route("/a")(lambda: [1])
    with pytest.raises(KeyboardInterrupt):
        build(hot, Stop())
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
