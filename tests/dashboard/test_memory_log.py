"""Memory over time in a file that other programs and newer versions may write too."""

from __future__ import annotations

import threading
from pathlib import Path

from hotpath.dashboard.facts import MemorySample
from hotpath.dashboard.memory_log import KEPT, LINE_SECONDS, MemoryLog, MemoryRecorder, merged
from hotpath.testing import FakeClock


def sample(time: float, pid: int = 1, state: str = "NORMAL", used: int = 10) -> MemorySample:
    return MemorySample(time, pid, state, 100, used)


def test_what_is_appended_is_read_in_the_order_of_time(tmp_path: Path) -> None:
    log = MemoryLog(tmp_path / "memory.csv")
    log.append([sample(1000), sample(3000)])
    log.append([sample(2000, pid=2, state="SHED", used=90)])
    assert log.read() == ([sample(1000), sample(2000, 2, "SHED", 90), sample(3000)], [])


def test_a_full_file_becomes_the_older_one(tmp_path: Path) -> None:
    log = MemoryLog(tmp_path / "memory.csv", max_bytes=200)
    for number in range(20):
        log.append([sample(1000 + number)])
    assert log.older.stat().st_size <= 200
    assert log.path.stat().st_size <= 200
    times = [each.time for each in log.read()[0]]
    assert times == sorted(times)
    assert times[-1] == 1019


def test_lines_that_make_no_sense_are_counted_and_the_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "memory.csv"
    path.write_bytes(
        b"used,limit,time,new column\n50,100,2026-11-28T10:00:00Z,x\n50,100,2026-11-28T11:00:00+01:00,x\n"
        b'1,2\n,,,\n\x00\xff"\n-5,100,1000\n5,0,1000\n5,100,1e999\n5,100,nan\n7,100,1000'
    )
    samples, notes = MemoryLog(path).read()
    assert [(each.time, each.used) for each in samples] == [(1000, 7), (1795860000, 50), (1795860000, 50)]
    assert notes == ["memory.csv: 7 of its lines cannot be read and are left out"]


def test_no_file_is_no_memory_and_a_link_is_not_followed(tmp_path: Path) -> None:
    assert MemoryLog(tmp_path / "memory.csv").read() == ([], [])
    (tmp_path / "link.csv").symlink_to(tmp_path / "memory.csv")
    assert MemoryLog(tmp_path / "link.csv").read()[1] == ["link.csv: Too many levels of symbolic links"]


def wait_for_writer() -> None:
    for thread in threading.enumerate():
        if thread.name == "hotpath-memory-log":
            thread.join(10)


def test_it_keeps_a_sample_every_five_seconds_writes_one_a_minute_and_each_change_of_state(tmp_path: Path) -> None:
    clock = FakeClock()
    recorder = MemoryRecorder(MemoryLog(tmp_path / "memory.csv"), clock)
    for second in range(180):
        recorder.note("SHED" if second == 90 else "NORMAL", 100, 10)
        wait_for_writer()
        clock.advance(1)
    assert recorder.log is not None
    written, _ = recorder.log.read()
    assert [each.state for each in written] == ["NORMAL", "NORMAL", "SHED", "NORMAL", "NORMAL"]
    assert 36 <= len(recorder.samples()) <= 40


def test_a_state_that_flaps_fills_neither_memory_nor_the_disk(tmp_path: Path) -> None:
    clock = FakeClock()
    recorder = MemoryRecorder(MemoryLog(tmp_path / "memory.csv"), clock)
    for number in range(3 * KEPT):
        recorder.note("TRIM" if number % 2 else "NORMAL", 100, 10)
        clock.advance(LINE_SECONDS / (3 * KEPT))
    wait_for_writer()
    assert recorder.log is not None
    assert len(recorder.log.read()[0]) <= 25
    assert len(recorder.samples()) <= KEPT


def test_a_clock_that_goes_back_stops_nothing(tmp_path: Path) -> None:
    clock = FakeClock()
    recorder = MemoryRecorder(MemoryLog(tmp_path / "memory.csv"), clock)
    recorder.note("NORMAL", 100, 10)
    clock.advance(-86400)
    recorder.note("NORMAL", 100, 11)
    assert [each.used for each in recorder.samples()] == [10, 11]


def test_no_directory_is_made_for_it(tmp_path: Path) -> None:
    recorder = MemoryRecorder(MemoryLog(tmp_path / "hot" / "memory.csv"), FakeClock())
    recorder.note("NORMAL", 100, 10)
    wait_for_writer()
    assert not (tmp_path / "hot").exists()
    assert len(recorder.samples()) == 1


def test_of_this_process_those_in_memory_count_and_of_others_those_of_the_file() -> None:
    logged = [sample(100), sample(200), sample(210, pid=2)]
    own = [sample(200), sample(205)]
    assert [(each.time, each.pid) for each in merged(logged, own)] == [(100, 1), (200, 1), (205, 1), (210, 2)]
    assert merged(logged, []) == tuple(logged)
