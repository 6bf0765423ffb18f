"""What a run takes from the runs before it, and what it must not."""

from __future__ import annotations

import errno
import os
import sqlite3
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from hotpath.batch import reports as runs
from hotpath.batch import run as batch
from hotpath.batch import verdict as judging
from hotpath.batch.progress import Done
from hotpath.batch.rules import Rules
from hotpath.batch.run import build
from hotpath.batch.sqlite import sqlite_snapshot
from hotpath.batch.verdict import accepted_runs
from hotpath.errors import BuildFailed, DeclarationError, Implausible, NothingToRetry
from hotpath.ops.status import lines, status
from hotpath.site import Hotpath
from hotpath.store.quarantine import approve
from hotpath.testing import FakeClock

DAY = 86400


class Site:
    """Twenty pages of a few rows, on a clock; each of its functions may be broken."""

    def __init__(self, root: Path) -> None:
        self.clock = FakeClock()
        self.hot = Hotpath(root)
        self.hot.store.clock = self.clock
        self.rows = [{"id": f"R{n}", "name": f"name {n}"} for n in range(40)]
        self.broken: set[int] = set()
        self.complaint = "no data"
        self.hot.route("/p/{n}", each={"n": range(20)}, records="items", row_key="id")(self.page)

    def page(self, n: int) -> dict[str, Any]:
        if n in self.broken:
            print(f"asking for {n}")
            raise ValueError(self.complaint)
        return {"n": n, "items": self.rows}

    def night(self, seconds: float = DAY, **options: Any) -> int:
        """Build, a while later; the generation."""
        self.clock.advance(seconds)
        return build(self.hot, **options).published.generation

    def names(self, n: int) -> list[str]:
        """What the served page holds."""
        store = self.hot.store
        served = orjson.loads((store.files_path(store.chosen_sequence()) / f"p/{n}.json").read_bytes())
        return [row["name"] for row in served["items"]]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "hot")


def publish_wrong_data_and_go_back(site: Site) -> None:
    site.night()
    site.rows = [row | {"name": "wrong"} for row in site.rows]
    site.night()
    site.hot.store.rollback()


def test_bytes_of_a_generation_that_was_rolled_back_from_are_never_last_good_bytes(site: Site) -> None:
    right = site.rows
    publish_wrong_data_and_go_back(site)
    site.rows = right
    site.broken = {3}
    site.night()
    site.hot.store.unpin()
    assert site.hot.store.chosen_sequence() == 3
    assert site.names(3) == [row["name"] for row in right]
    assert site.hot.store.read_manifest(3).head.parent == 1


def test_a_run_that_was_rolled_back_from_is_not_retried(site: Site) -> None:
    publish_wrong_data_and_go_back(site)
    with pytest.raises(DeclarationError, match="generation 2, which was rolled back from; run the whole batch"):
        site.night(60, retry_failed=True)


@pytest.mark.slow
def test_an_approved_run_is_the_last_run(site: Site) -> None:
    for _ in range(3):
        site.night()
    site.rows = [row | {"name": "other"} for row in site.rows]
    with pytest.raises(Implausible):
        site.night()
    assert lines(status(site.hot))[-2].strip() == "if it is right after all: 'hotpath approve TARGET 4 --reason …'"
    with pytest.raises(DeclarationError, match="that run was quarantined and none of its pages were kept"):
        site.night(60, retry_failed=True)
    approve(site.hot.store, 4, "they were renamed")
    assert "right after all" not in "".join(lines(status(site.hot)))
    with pytest.raises(NothingToRetry, match="nothing failed in the last run"):
        site.night(60, retry_failed=True)


def test_a_run_of_days_ago_is_not_retried(site: Site) -> None:
    site.night()
    site.broken = {3}
    site.night()
    assert site.night(20 * 3600, retry_failed=True) == 3, "it fails again"
    with pytest.raises(DeclarationError, match="takes over what was built 40 h ago; run the whole batch"):
        site.night(20 * 3600, retry_failed=True)


@pytest.mark.slow
def test_quarantine_does_not_wear_out(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "KEEP_RUNS", 4)
    for _ in range(6):
        site.night()
    del site.rows[20:]
    for _ in range(6):
        with pytest.raises(Implausible):
            site.night(900)
    kept = [run["outcome"] for run in runs.newest_runs(site.hot.store)]
    assert kept == ["quarantined"] * 4 + ["published"] * 4


@pytest.mark.slow
def test_who_builds_often_keeps_the_newest_of_each_day(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "KEEP_RUNS", 3)
    for _ in range(12):
        site.night(DAY / 4)
    times = [run["time"] for run in runs.newest_runs(site.hot.store)]
    assert times[:3] == [times[0] - n * DAY // 4 for n in range(3)]
    assert len({time // DAY for time in times}) == 3
    assert len(times) < 6


@pytest.mark.slow
def test_a_clock_that_was_wrong_for_one_run_hides_no_other(site: Site) -> None:
    for _ in range(4):
        site.night()
    site.night(-5 * 365 * DAY)
    site.night(10 * 365 * DAY)
    site.clock.advance(-5 * 365 * DAY)
    del site.rows[20:]
    with pytest.raises(Implausible):
        site.night()


@pytest.mark.slow
def test_of_many_findings_some_are_told_and_the_others_counted(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "MAX_FINDINGS", 7)
    for _ in range(4):
        site.night()
    del site.rows[20:]
    with pytest.raises(Implausible) as caught:
        site.night()
    *told, more = caught.value.problems
    assert told[0].startswith("/p/0: fewer ")
    assert [line for line in told if line.startswith("route /p/{n}: fewer rows")], "that of the route is always there"
    assert len(told) in range(8, 12)
    assert more.endswith("more like these")
    run = runs.last_run(site.hot.store)
    assert run is not None
    assert len([finding for finding in run["findings"] if finding["fails"]]) == len(told)


def test_thirty_nights_of_many_numbers_have_room(site: Site) -> None:
    items = {f"/p/{n}": {f"nulls:field_{name}": n * name + 1000 for name in range(100)} for n in range(100)}
    with site.hot.store.locked():
        for number in range(1, 6):
            record = {
                "sequence": number,
                "time": int(site.clock()),
                "outcome": "published",
                "routes": {},
                "items": items,
            }
            runs.write_run(site.hot.store, record)
    tracemalloc.start()
    try:
        found = judging.accepted_runs(site.hot.store, int(site.clock()), Rules())
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [dict(run.subjects["/p/7"]) for run in found] == [items["/p/7"]] * 5
    assert held / (5 * 100 * 100) < 20, "bytes a number; a dict takes about 80"


def test_where_everything_fails_each_is_named_and_little_is_kept(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "MAX_REPORT_CHARACTERS", 1000)
    site.broken = set(range(20))
    site.complaint = "no data " * 100
    with pytest.raises(BuildFailed) as caught:
        site.night()
    assert [failure.key for failure in caught.value.failures] == [f"/p/{n}" for n in range(20)]
    assert len(caught.value.failures[0].problem) > 800
    assert {len(failure.problem) for failure in caught.value.failures[3:]} == {batch.MAX_SHORT_CHARACTERS}
    run = runs.last_run(site.hot.store)
    assert run is not None
    assert [failure["output"] for failure in run["failures"]][::19] == ["asking for 0\n", ""]


@pytest.mark.slow
def test_an_approval_is_of_the_run_that_was_quarantined(site: Site) -> None:
    for _ in range(3):
        site.night()
    del site.rows[20:]
    with pytest.raises(Implausible) as caught:
        site.night()
    assert caught.value.sequence == 4
    site.broken = set(range(10))
    with pytest.raises(BuildFailed):
        site.night()
    approve(site.hot.store, 4, "half of it was delisted")
    baseline, *older = accepted_runs(site.hot.store, int(site.clock()), Rules())
    assert [set(run.subjects["/p/0"]) & {"rows", "removed", "common:name"} for run in older] == [{"common:name"}] * 3
    assert baseline.subjects["/p/0"]["rows"] == 20
    assert len([key for key in baseline.subjects if key.startswith("/p/")]) == 20


def test_functions_of_each_that_fail_are_a_failed_run(tmp_path: Path) -> None:
    hot = Hotpath(tmp_path / "hot")
    markets: list[dict[str, str]] = [{"m": "a"}]

    def each() -> list[dict[str, str]]:
        if not markets:
            raise sqlite3.OperationalError("no such table: markets")
        return markets

    hot.route("/m/{m}", each=each)(lambda m: [m])
    build(hot)
    markets.clear()
    with pytest.raises(BuildFailed, match=r"each= could not be asked \(OperationalError: no such table: markets\)"):
        build(hot)
    last = runs.last_run(hot.store)
    assert last is not None
    assert last["outcome"] == "failed"
    assert any("no such table" in line for line in lines(status(hot.store)))


def test_functions_of_each_see_the_same_moment_as_the_items(tmp_path: Path) -> None:
    database = tmp_path / "live.db"
    with closing(sqlite3.connect(database)) as db, db:
        db.execute("CREATE TABLE stocks (market TEXT)")
        db.executemany("INSERT INTO stocks VALUES (?)", [("a",), ("b",)])
    hot = Hotpath(tmp_path / "hot")
    snapshot = sqlite_snapshot(database)

    def markets() -> list[dict[str, str]]:
        with snapshot.connect() as db:
            found = [{"market": market} for (market,) in db.execute("SELECT market FROM stocks")]
        with closing(sqlite3.connect(database)) as live, live:  # a writer, between the plan and the items
            live.execute("DELETE FROM stocks WHERE market = 'b'")
        return found

    @hot.route("/m/{market}", each=markets)
    def page(market: str) -> list[int]:
        with snapshot.connect() as db:
            return [*db.execute("SELECT count(*) FROM stocks WHERE market = ?", (market,)).fetchone()]

    assert build(hot).published.items == 2
    for market in "ab":
        assert (hot.store.root / "current" / f"m/{market}.json").read_bytes() == b"[1]"


def test_what_a_failed_item_printed_is_kept(site: Site) -> None:
    site.night()
    site.broken = {7}
    told: dict[str, str] = {}

    class Told:
        def start(self, total: int) -> None:
            return None

        def done(self, done: Done) -> None:
            told[done.key] = done.output

        def finish(self) -> None:
            return None

    site.night(progress=Told())
    assert {key: output for key, output in told.items() if output} == {"/p/7": "asking for 7\n"}
    last = runs.last_run(site.hot.store)
    assert last is not None
    assert [failure["output"] for failure in last["failures"]] == ["asking for 7\n"]


def test_runs_that_cannot_be_listed_are_not_taken_for_none(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not looked at is not plausible; a new site is something else."""
    site.night()
    listed = Path.iterdir

    def fail(path: Path) -> Iterator[Path]:
        if path.name == "runs":
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", fail)
    with pytest.raises(OSError, match="Too many open files"):
        next(runs.newest_runs(site.hot.store))
    found = status(site.hot.store)
    assert (found.serving, "Too many open files" in str(found.degraded)) == (1, True)
