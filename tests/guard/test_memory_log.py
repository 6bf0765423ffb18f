"""The CSV of memory: a line each five minutes, whole, and no more files than were asked for."""

from __future__ import annotations

import csv
import logging
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from hotpath.errors import DeclarationError
from hotpath.guard.memory_log import COLUMNS, MemoryLog
from hotpath.guard.outlook import MemoryReading
from hotpath.testing import FakeClock
from tests.guard.ending import ended
from tests.guard.locks import held, patient

READING = MemoryReading(
    at=7.0, limit=1000, usage=800, unreclaimable=600, available=5000, resident=300, anonymous=200, source="cgroup2"
)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_line_has_a_name_for_each_figure(tmp_path: Path) -> None:
    log = MemoryLog(tmp_path / "memory.csv", clock=FakeClock(1_800_000_000.9))
    assert log.record(READING, "TRIM")
    (row,) = rows(log.path)
    assert tuple(row) == COLUMNS
    assert row == {
        "time": "2027-01-15T08:00:00Z",
        "pid": str(os.getpid()),
        "state": "TRIM",
        "limit": "1000",
        "usage": "800",
        "unreclaimable": "600",
        "available": "5000",
        "resident": "300",
        "source": "cgroup2",
    }


def test_one_line_each_five_minutes_however_often_it_is_asked(tmp_path: Path) -> None:
    clock = FakeClock()
    log = MemoryLog(tmp_path / "memory.csv", clock=clock)
    written = []
    for _ in range(901):
        written.append(log.record(READING, "NORMAL"))
        clock.advance(1)
    assert [second for second, wrote in enumerate(written) if wrote] == [0, 300, 600, 900]
    assert len(rows(log.path)) == 4


def test_a_clock_that_was_set_back_does_not_stop_it(tmp_path: Path) -> None:
    clock = FakeClock()
    log = MemoryLog(tmp_path / "memory.csv", clock=clock)
    assert log.record(READING, "NORMAL")
    clock.advance(-86400)
    assert log.record(READING, "NORMAL")
    assert not log.record(READING, "NORMAL")


def test_an_old_file_is_gone_on_with(tmp_path: Path) -> None:
    for _ in range(3):
        assert MemoryLog(tmp_path / "memory.csv").record(READING, "NORMAL")
    assert len(rows(tmp_path / "memory.csv")) == 3


def test_files_stay_as_small_and_as_few_as_asked_for(tmp_path: Path) -> None:
    clock = FakeClock()
    log = MemoryLog(tmp_path / "memory.csv", every_seconds=1, max_bytes=1000, keep=2, clock=clock)
    for _ in range(60):
        assert log.record(READING, "NORMAL")
        clock.advance(1)
    names = ["memory.csv", "memory.csv.1", "memory.csv.2"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    times = []
    for name in reversed(names):
        assert (tmp_path / name).stat().st_size <= 1000
        found = rows(tmp_path / name)
        assert found[0].keys() == set(COLUMNS)
        times += [row["time"] for row in found]
    assert times == sorted(times)
    assert len(set(times)) == len(times) > 15
    assert times[-1].endswith("08:00:59Z")


def test_what_cannot_be_written_is_a_warning_and_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    log = MemoryLog(tmp_path / "absent" / "memory.csv", clock=clock)
    with caplog.at_level(logging.WARNING):
        assert not log.record(READING, "NORMAL")
    assert "absent" in caplog.text
    (tmp_path / "absent").mkdir()
    clock.advance(300)
    assert log.record(READING, "NORMAL")


WRITER = """
import sys
from hotpath.guard.memory_log import MemoryLog
from hotpath.guard.outlook import MemoryReading
from hotpath.testing import FakeClock
clock = FakeClock()
log = MemoryLog(sys.argv[1], every_seconds=1, max_bytes=20_000, keep=50, clock=clock)
for number in range(400):
    assert log.record(MemoryReading(0.0, number, 0, 0, 0, 0, 0, "process"), "NORMAL")
    clock.advance(1)
"""


@pytest.mark.slow
def test_several_workers_lose_no_line_of_each_other(tmp_path: Path) -> None:
    path = tmp_path / "memory.csv"
    with ExitStack() as stack:
        command = [sys.executable, "-c", WRITER, str(path)]
        writers = [stack.enter_context(ended(subprocess.Popen(command), 120)) for _ in range(4)]
        assert [writer.wait(120) for writer in writers] == [0] * 4
    found = [row for file in tmp_path.iterdir() for row in rows(file)]
    assert {path.stat().st_size <= 20_000 for path in tmp_path.iterdir()} == {True}
    for writer in writers:
        mine = [int(row["limit"]) for row in found if row["pid"] == str(writer.pid)]
        assert sorted(mine) == list(range(400))


def test_a_lock_that_somebody_keeps_is_a_warning_and_holds_the_guard_up_for_a_second(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    log = MemoryLog(tmp_path / "memory.csv", clock=clock)
    assert log.record(READING, "NORMAL")
    clock.advance(300)
    with held(log.path), caplog.at_level(logging.WARNING):
        assert not log.record(READING, "NORMAL")
    assert "another process has had the lock for too long" in caplog.text
    clock.advance(300)
    assert log.record(READING, "NORMAL")


def test_a_line_goes_to_the_new_file_when_another_worker_moves_the_old_one_away(tmp_path: Path) -> None:
    log = MemoryLog(tmp_path / "memory.csv")
    log.path.touch()
    with ThreadPoolExecutor(1) as pool, patient() as waits:
        with held(log.path):
            recorded = pool.submit(log.record, READING, "NORMAL")
            assert waits.wait(30)
            log.path.rename(tmp_path / "memory.csv.1")
        assert recorded.result(60)
    assert len(rows(log.path)) == 1
    assert (tmp_path / "memory.csv.1").stat().st_size == 0


@pytest.mark.parametrize("name", ["every_seconds", "max_bytes", "keep"])
def test_nothing_and_less_than_nothing_are_refused(tmp_path: Path, name: str) -> None:
    for value in (0, -1):
        with pytest.raises(DeclarationError, match=f"{name}={value}"):
            MemoryLog(tmp_path / "memory.csv", **{name: value})  # type: ignore[arg-type]
