"""Four workers leak together under load: one after the other is replaced, and no client notices.

The times are shortened by the guard's own options: 60 s between two recycles are 5, 20 s of BRAKE are 1, dwell times
of 15 s are 3. A fresh worker takes longer to start than the time between two recycles.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hotpath.guard.states import State
from tests.guard.groups import memory_group, needs_groups
from tests.guard.load import Load, Stream
from tests.guard.rig import HOT, MIB, Watch, report, served, workers_of
from tests.guard.waiting import wait_until

pytestmark = [pytest.mark.slow, needs_groups]

WORKERS = 4
# A fresh worker reads its modules, and the next one goes only when it serves: a slow disk takes its time.
SECONDS = 120.0
START_SECONDS = 7.0
TIMES = {"brake_seconds": 1.0, "shed_seconds": 2.0, "return_seconds": 3.0}
LEVELS = {"trim": (0.70, 0.62, 60.0, 2.0), "shed": (0.80, 0.72, 8.0, 3.0), "brake": (0.90, 0.82, 2.0, 3.0)}
GUARD = {"recycle": {"drain_seconds": 4.0}, "sampling": {"most_interval": 0.25}}
STREAMS = (
    *(Stream("hot", path, 20, 2) for path in HOT[:2]),
    Stream("cold", "/cold", 20, 2),
    Stream("leak", "/leak?mib=2", 40, 4),
)


def alive(root: Path) -> set[int]:
    return {worker.pid for worker in workers_of(root)}


@contextlib.contextmanager
def counted(root: Path) -> Iterator[list[int]]:
    """How many workers serve, ten times a second."""
    serving: list[int] = []
    stopping = threading.Event()

    def count() -> None:
        while not stopping.wait(0.1):
            serving.append(sum(worker.state != State.DRAIN for worker in workers_of(root)))

    counting = threading.Thread(target=count)
    counting.start()
    try:
        yield serving
    finally:
        stopping.set()
        counting.join(10)


def test_without_the_guard_workers_are_killed(tmp_path: Path) -> None:
    with memory_group(400 * MIB) as group, served(tmp_path, group, guard=None, workers=WORKERS) as rig:
        with Watch(rig) as watch, Load(rig.port, STREAMS) as load:
            wait_until(lambda: group.oom_kills() >= 2, 90, "nobody was killed, so the test proves nothing")
            time.sleep(2)
        report("08", load, watch, rig, guarded=False)
        assert load.broken, "clients of a killed worker have to see it, or the test proves nothing"


def test_one_at_a_time_and_no_connection_lost(tmp_path: Path) -> None:
    with (
        memory_group(400 * MIB) as group,
        served(
            tmp_path,
            group,
            guard=GUARD,
            workers=WORKERS,
            times=TIMES,
            levels=LEVELS,
            apart_seconds=5,
            start_seconds=START_SECONDS,
        ) as rig,
    ):
        wait_until(lambda: len(workers_of(tmp_path)) == WORKERS, 60, "the workers did not start")
        before = alive(tmp_path)
        with counted(tmp_path) as serving, Watch(rig) as watch, Load(rig.port, STREAMS) as load:
            wait_until(lambda: len(before - alive(tmp_path)) >= 2, SECONDS, "hardly anybody was replaced")
            time.sleep(2)  # and what clients see of it
        gone = before - alive(tmp_path)
        note = f"{len(gone)} of {WORKERS} workers replaced, {min(serving)} serving at least"
        report("08", load, watch, rig, note=note)
        assert min(serving) >= WORKERS - 1
        assert not load.broken
        assert load.count("hot", 200) == load.count("hot") > 0
        assert load.count("leak", 200) > 0
        assert group.oom_kills() == 0
        assert watch.peak <= 400 * MIB
