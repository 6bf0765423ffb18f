"""Workers find each other, take over from the dead, and leave one at a time, the largest first."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotpath.errors import UnusableSlots
from hotpath.guard.worker_slots import (
    FORGET_SECONDS,
    HOLD_SECONDS,
    PAGE_BYTES,
    RECYCLE_APART_SECONDS,
    SETTLE_SECONDS,
    SILENT_SECONDS,
    SLOT_BYTES,
    SLOTS,
    Worker,
    WorkerSlots,
    process_start,
    slots_path,
)
from hotpath.process.lock import LOCK_SECONDS
from hotpath.testing import FakeClock
from tests.guard.ending import ended
from tests.guard.locks import PATIENT_SECONDS, held, patient
from tests.store.faults.mounts import leave_bytes, needs_root, tmpfs

MIB = 1024 * 1024


class World:
    """Processes that live as long as the test says, beside one page."""

    def __init__(self, path: Path, hold_seconds: float = HOLD_SECONDS) -> None:
        self.path = path
        self.hold_seconds = hold_seconds
        self.clock = FakeClock(5_000.0)
        self.living: dict[int, int] = {}
        self.opened: list[WorkerSlots] = []

    def start(self, pid: int) -> WorkerSlots:
        """A process with this id, and a slot if there is one."""
        self.living[pid] = int(self.clock.now * 100) + pid
        worker = WorkerSlots(
            self.path,
            hold_seconds=self.hold_seconds,
            clock=self.clock,
            process_start=self.living.get,
            own_pid=lambda: pid,
        )
        self.opened.append(worker)
        worker.take()
        return worker

    def close(self) -> None:
        for worker in self.opened:
            worker.release()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    found = World(tmp_path / "slots")
    yield found
    found.close()


def beat(worker: WorkerSlots, mebibytes: int = 50, *, state: int = 0, in_flight: int = 0) -> None:
    worker.beat(state=state, unique_bytes=mebibytes * MIB, in_flight=in_flight)


# Slots


def test_each_worker_has_one_slot_the_lowest_there_is(world: World) -> None:
    workers = [world.start(pid) for pid in (100, 200, 300)]
    assert [worker.take() for worker in workers] == [0, 1, 2]
    assert [worker.take() for worker in workers] == [0, 1, 2]


def test_what_a_worker_says_the_others_read(world: World) -> None:
    first, second = world.start(100), world.start(200)
    beat(second, 70, state=2, in_flight=9)
    world.clock.advance(3)
    beat(first, 60, state=1)
    expected = (
        Worker(0, 100, world.living[100], world.clock(), 1, 60 * MIB, 0, None),
        Worker(1, 200, world.living[200], world.clock() - 3, 2, 70 * MIB, 9, None),
    )
    assert first.workers() == second.workers() == expected


def test_the_slot_of_a_dead_worker_is_taken_over_with_nothing_of_it_left(world: World) -> None:
    first, second = world.start(100), world.start(200)
    beat(first, 500, state=4)
    first.want_recycle(True)
    del world.living[100]
    assert [worker.pid for worker in second.workers()] == [200]
    fresh = world.start(300)
    assert fresh.take() == 0
    assert fresh.workers()[0] == Worker(0, 300, world.living[300], world.clock(), 0, 0, 0, None)


def test_another_process_with_the_id_of_a_dead_worker_is_not_that_worker(world: World) -> None:
    first, second = world.start(100), world.start(200)
    beat(first)
    world.living[100] += 1
    assert [worker.pid for worker in second.workers()] == [200]
    assert world.start(300).take() == 0


def test_a_worker_that_is_only_silent_keeps_its_slot(world: World) -> None:
    world.start(100)
    world.clock.advance(86400)
    assert world.start(200).take() == 1


def test_a_slot_that_is_given_back_is_free_at_once(world: World) -> None:
    first = world.start(100)
    first.release()
    assert world.start(200).take() == 0
    assert first.take() == 1


def test_the_last_one_takes_the_file_away(world: World) -> None:
    first, second = world.start(100), world.start(200)
    first.release()
    assert world.path.exists()
    second.release()
    assert not world.path.exists()


def test_what_happened_lately_stays_for_the_next_one(world: World) -> None:
    worker = world.start(100)
    worker.want_recycle(True)
    world.clock.advance(SETTLE_SECONDS)
    assert worker.try_recycle()
    worker.release()
    fresh = world.start(200)
    assert fresh.recycles(600) == 1
    world.clock.advance(FORGET_SECONDS)
    fresh.release()
    assert not world.path.exists()


def test_nothing_is_kept_open_after_the_end_and_it_may_begin_again(world: World) -> None:
    before = descriptors()
    worker = world.start(100)
    assert descriptors() > before
    worker.release()
    assert descriptors() == before
    worker.release()
    assert descriptors() == before
    assert worker.take() == 0


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_one_worker_more_than_slots_does_without_until_one_is_free(world: World) -> None:
    workers = [world.start(1000 + number) for number in range(SLOTS)]
    extra = world.start(9999)
    assert extra.take() is None
    beat(extra)
    extra.want_recycle(True)
    world.clock.advance(SETTLE_SECONDS)
    assert not extra.try_recycle()
    assert len(extra.workers()) == SLOTS
    del world.living[1000 + 7]
    beat(extra, 80)
    assert workers[0].workers()[7].pid == 9999
    assert workers[0].workers()[7].unique_bytes == 80 * MIB


# Whose turn it is


def wait(world: World, seconds: float, *workers: tuple[WorkerSlots, int]) -> None:
    """Time passes, and each worker beats with its size as a guard does."""
    until = world.clock() + seconds
    while world.clock() < until:
        world.clock.advance(min(1.0, until - world.clock()))
        for worker, mebibytes in workers:
            beat(worker, mebibytes)


def two_who_want_to_go(world: World) -> tuple[WorkerSlots, WorkerSlots]:
    """A small one and a large one, and it is known of both."""
    small, large = world.start(100), world.start(200)
    small.want_recycle(True)
    large.want_recycle(True)
    wait(world, SETTLE_SECONDS, (small, 50), (large, 90))
    return small, large


def test_nobody_leaves_who_did_not_ask(world: World) -> None:
    worker = world.start(100)
    wait(world, 100, (worker, 50))
    assert not worker.try_recycle()


def test_the_largest_of_those_that_want_to_goes_first(world: World) -> None:
    small, large, content = world.start(100), world.start(200), world.start(300)
    sizes = ((small, 50), (large, 90), (content, 500))
    small.want_recycle(True)
    assert not small.try_recycle()
    world.clock.advance(1)
    large.want_recycle(True)
    wait(world, SETTLE_SECONDS - 1, *sizes)
    assert not small.try_recycle()  # it has waited long enough, but is not the largest
    assert not large.try_recycle()
    wait(world, 1, *sizes)
    assert large.try_recycle()
    assert large.try_recycle()
    assert not small.try_recycle()


def test_of_two_of_the_same_size_one_goes(world: World) -> None:
    first, second = world.start(100), world.start(200)
    for worker in (first, second):
        worker.want_recycle(True)
    wait(world, SETTLE_SECONDS, (first, 50), (second, 50))
    assert [second.try_recycle(), first.try_recycle(), second.try_recycle()] == [False, True, False]


def test_the_next_one_goes_a_minute_later(world: World) -> None:
    small, large = two_who_want_to_go(world)
    assert large.try_recycle()
    wait(world, 5, (small, 50))
    del world.living[200]
    fresh = world.start(300)
    wait(world, RECYCLE_APART_SECONDS - 5.5, (small, 50), (fresh, 30))
    assert not small.try_recycle()
    wait(world, 0.5, (small, 50), (fresh, 30))
    assert small.try_recycle()


def test_while_the_one_whose_turn_it_is_lives_nobody_else_goes(world: World) -> None:
    small, large = two_who_want_to_go(world)
    assert large.try_recycle()
    wait(world, HOLD_SECONDS - 1, (small, 50), (large, 90))
    assert not small.try_recycle()
    del world.living[200]
    world.start(300)
    assert small.try_recycle()


def test_a_turn_can_be_held_for_longer_where_a_drain_takes_longer(tmp_path: Path) -> None:
    world = World(tmp_path / "slots", hold_seconds=400)
    small, large = two_who_want_to_go(world)
    assert large.try_recycle()
    wait(world, 399, (small, 50))
    assert not small.try_recycle()
    wait(world, 1, (small, 50))
    assert small.try_recycle()
    world.close()


def test_one_that_has_its_turn_and_does_not_leave_holds_the_others_up_for_two_minutes(world: World) -> None:
    small, large = two_who_want_to_go(world)
    assert large.try_recycle()
    wait(world, HOLD_SECONDS, (small, 50))
    assert small.try_recycle()


def test_nobody_goes_before_another_is_in_the_place_of_the_last_one(world: World) -> None:
    """A fresh worker may take minutes to start, and the others carry its load."""
    small, large = two_who_want_to_go(world)
    assert large.try_recycle()
    del world.living[200]
    wait(world, RECYCLE_APART_SECONDS + 10, (small, 50))
    assert not small.try_recycle()
    fresh = world.start(300)
    beat(fresh, 30)
    assert small.try_recycle()


def test_a_place_that_nobody_takes_holds_the_others_up_for_two_minutes(world: World) -> None:
    small, large = two_who_want_to_go(world)
    assert large.try_recycle()
    del world.living[200]
    wait(world, HOLD_SECONDS, (small, 50))
    assert small.try_recycle()


def test_one_that_wants_to_no_longer_gives_its_turn_back_but_not_its_minute(world: World) -> None:
    small, large = two_who_want_to_go(world)
    assert large.try_recycle()
    large.want_recycle(False)
    assert not large.try_recycle()
    assert not small.try_recycle()
    wait(world, RECYCLE_APART_SECONDS, (small, 50), (large, 90))
    assert small.try_recycle()


def test_one_that_has_fallen_silent_holds_nobody_up(world: World) -> None:
    small, large = world.start(100), world.start(200)
    small.want_recycle(True)
    large.want_recycle(True)
    beat(large, 90)
    wait(world, SILENT_SECONDS, (small, 50))
    assert not small.try_recycle()
    wait(world, 1, (small, 50))
    assert small.try_recycle()


def test_how_often_it_happened_outlives_the_workers(world: World) -> None:
    for number in range(3):
        worker = world.start(100 + number)
        worker.want_recycle(True)
        wait(world, RECYCLE_APART_SECONDS, (worker, 50))
        assert worker.try_recycle()
        del world.living[100 + number]
    other, same = world.start(500), world.start(600)
    assert (other.take(), same.take()) == (0, 1)
    assert [other.recycles(seconds) for seconds in (0, 59, 60, 119, 120, 600)] == [1, 1, 2, 2, 3, 3]
    assert other.recycles(600, of_this_slot=True) == 3
    assert same.recycles(600, of_this_slot=True) == 0
    world.clock.now = 10.0  # the machine was started again, and its clock with it
    assert other.recycles(600) == 0


EVENTS = st.lists(
    st.tuples(st.sampled_from(["want", "content", "die", "silent", "beat"]), st.integers(0, 3), st.integers(1, 500)),
    max_size=60,
)


@pytest.mark.slow
@given(events=EVENTS, pauses=st.lists(st.sampled_from([0.0, 0.5, 1.0, 10.0, 30.0]), min_size=60, max_size=60))
@settings(max_examples=60)
def test_whatever_happens_one_at_a_time_leaves_the_largest_and_a_minute_apart(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[str, int, int]], pauses: list[float]
) -> None:
    world = World(tmp_path_factory.mktemp("slots") / "slots")
    pids = iter(range(1000, 9999))
    ids = [next(pids) for _ in range(4)]
    workers = [world.start(pid) for pid in ids]
    sizes, loud, wants = [50] * 4, [True] * 4, [False] * 4
    holder, granted = None, -1e9
    for (event, number, size), pause in zip(events, pauses, strict=False):
        if event in ("die", "content") and holder == ids[number]:
            holder = None
        if event == "die":
            del world.living[ids[number]]
            ids[number] = next(pids)
            workers[number], loud[number], wants[number] = world.start(ids[number]), True, False
        elif event in ("want", "content"):
            wants[number] = event == "want"
            workers[number].want_recycle(wants[number])
        loud[number] = event != "silent" and loud[number]
        world.clock.advance(pause)
        if loud[number]:
            sizes[number] = size
        for worker, mebibytes, speaks in zip(workers, sizes, loud, strict=True):
            if speaks:
                beat(worker, mebibytes)
        for index, worker in enumerate(workers):
            if not worker.try_recycle() or holder == ids[index]:
                continue
            assert wants[index]
            assert world.clock() - granted >= RECYCLE_APART_SECONDS
            assert holder is None or world.clock() - granted >= HOLD_SECONDS
            rivals = [sizes[other] for other in range(4) if wants[other] and loud[other]]
            assert not any(rival > sizes[index] for rival in rivals)
            holder, granted = ids[index], world.clock()
    # And of those who go on wanting to, one gets there.
    for worker in workers:
        worker.want_recycle(True)
    wait(world, RECYCLE_APART_SECONDS + HOLD_SECONDS, *zip(workers, sizes, strict=True))
    assert any(worker.try_recycle() for worker in workers)
    world.close()


# The page


@given(st.lists(st.tuples(st.integers(0, PAGE_BYTES - 1), st.binary(min_size=1, max_size=300)), max_size=5))
@settings(max_examples=60)
def test_a_damaged_page_is_an_empty_one_and_fills_again(
    tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[int, bytes]]
) -> None:
    world = World(tmp_path_factory.mktemp("slots") / "slots")
    first, second = world.start(100), world.start(200)
    for worker in (first, second):
        worker.want_recycle(True)
    wait(world, SETTLE_SECONDS, (first, 50), (second, 60))
    second.try_recycle()
    with world.path.open("r+b") as file:
        for place, data in damage:
            file.seek(place)
            file.write(data[: PAGE_BYTES - place])
    for worker in (first, second):
        worker.workers()
        worker.recycles(600)
        worker.try_recycle()
        worker.take()
        beat(worker, 70)
    assert {worker.pid for worker in first.workers()} == {100, 200}
    assert all(worker.unique_bytes == 70 * MIB for worker in first.workers())
    for worker in (first, second):
        worker.want_recycle(True)
    wait(world, RECYCLE_APART_SECONDS + HOLD_SECONDS, (first, 70), (second, 70))
    assert first.try_recycle() != second.try_recycle()
    world.close()


def test_no_damaged_byte_is_taken_for_a_figure(world: World) -> None:
    first, second = world.start(100), world.start(200)
    beat(second, 70, state=2, in_flight=9)
    second.want_recycle(True)
    good = world.path.read_bytes()
    (before,) = first.workers()[1:]
    seen: set[Worker | int] = set()
    for place in range(PAGE_BYTES - SLOTS * SLOT_BYTES + SLOT_BYTES, PAGE_BYTES - (SLOTS - 2) * SLOT_BYTES):
        with world.path.open("r+b") as file:
            file.write(good[:place] + bytes([good[place] ^ 0x55]) + good[place + 1 :])
        for found in first.workers()[1:]:
            assert found.pid == 200
            assert (found.heartbeat, found.unique_bytes, found.state, found.in_flight) in {
                (before.heartbeat, 70 * MIB, 2, 9),
                (float("-inf"), 0, 0, 0),
            }
            assert found.wants_recycle_since in {before.wants_recycle_since, None}
            seen.add(found)
        seen.add(len(first.workers()))
    assert len(seen) == 5  # whole, without what it said, without its wish, and gone: two workers or one


@pytest.mark.parametrize("call", ["take()", "try_recycle()", "want_recycle(True)", "release()"])
def test_slots_and_token_are_given_to_one_at_a_time(tmp_path: Path, call: str) -> None:
    path = tmp_path / "slots"
    with ended(start(path, f"{SAY_THAT_IT_WAITS}slots.{call}\nsay('done')")) as process:
        WorkerSlots(path).take()
        with held(path):
            tell(process)
            assert hear(process) == "waits"
        assert hear(process) == "done"


def test_a_lock_that_somebody_keeps_is_an_error_within_a_second(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was stopped in the middle must not stop the guards of all others."""
    assert LOCK_SECONDS == 1.0
    monkeypatch.setattr("hotpath.process.lock.LOCK_SECONDS", 0.1)
    worker = world.start(100)
    with held(world.path), pytest.raises(UnusableSlots, match="another process has had the lock for too long"):
        worker.want_recycle(True)
    worker.want_recycle(True)
    world.clock.advance(SETTLE_SECONDS)
    assert worker.try_recycle()


def test_one_that_waits_while_the_last_one_ends_is_where_the_others_are(world: World) -> None:
    worker = world.start(100)
    with ThreadPoolExecutor(1) as pool, patient() as waits:
        with held(world.path):
            taken = pool.submit(worker.take)
            assert waits.wait(30)
            world.path.unlink()
        assert taken.result(60) == 0
    assert [one.pid for one in world.start(200).workers()] == [100, 200]


@pytest.mark.parametrize("content", [b"", b"x", b"not a page" * 1000])
def test_a_file_that_holds_something_else_becomes_a_page(world: World, content: bytes) -> None:
    world.path.write_bytes(content)
    worker = world.start(100)
    assert worker.take() == 0
    beat(worker, 40)
    assert [one.unique_bytes for one in worker.workers()] == [40 * MIB]


def test_workers_meet_again_after_the_file_was_taken_away(world: World) -> None:
    first = world.start(100)
    world.path.unlink()
    second = world.start(200)
    beat(second)
    beat(first, 60)
    assert [worker.pid for worker in second.workers()] == [worker.pid for worker in first.workers()] == [200, 100]


def test_a_file_that_was_cut_off_under_them_is_made_whole(world: World) -> None:
    worker = world.start(100)
    os.truncate(world.path, 0)
    beat(worker, 60)
    assert [one.unique_bytes for one in worker.workers()] == [60 * MIB]


def test_a_place_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableSlots) as caught:
        WorkerSlots(tmp_path / "absent/slots")
    assert caught.value.path == tmp_path / "absent/slots"


def of_another_user(path: Path) -> None:
    path.touch(0o600)
    os.chown(path, 65534, 65534)


def linked(path: Path) -> None:
    (path.parent / "mine").write_bytes(b"data of this user")
    (path.parent / "mine").chmod(0o600)
    path.hardlink_to(path.parent / "mine")


def open_to_all(path: Path) -> None:
    path.touch()
    path.chmod(0o666)


PLANTED = {
    "a link": lambda path: path.symlink_to(path.parent / "target"),
    "a link to nothing here": lambda path: path.symlink_to("/proc/self/mem"),
    "a hard link to a file of ours": linked,
    "a directory": lambda path: path.mkdir(),
    "a FIFO": os.mkfifo,
    "a file that others may write": open_to_all,
    "a file of another user": of_another_user,
}


@pytest.mark.parametrize("kind", PLANTED)
def test_what_is_planted_under_the_known_name_is_passed_over(tmp_path: Path, kind: str) -> None:
    """Anybody can compute the name; the workers then meet beside it, and go one at a time as ever."""
    if kind == "a file of another user" and os.geteuid() != 0:
        pytest.skip("needs root")
    world = World(tmp_path / "slots")
    PLANTED[kind](world.path)
    try:
        first, second = world.start(100), world.start(200)
        assert [one.pid for one in second.workers()] == [one.pid for one in first.workers()] == [100, 200]
        assert first.path == second.path != world.path
        for worker, size in ((first, 60), (second, 50)):
            beat(worker, size)
            worker.want_recycle(True)
        world.clock.advance(SETTLE_SECONDS)
        assert [second.try_recycle(), first.try_recycle(), second.try_recycle()] == [False, True, False]
    finally:
        for worker in world.opened:
            worker.let_go()
    assert not (tmp_path / "target").exists()
    if kind.startswith("a hard"):
        assert (tmp_path / "mine").read_bytes() == b"data of this user"


def test_two_that_made_a_name_at_the_same_moment_meet_at_one(world: World) -> None:
    world.path.mkdir()
    names = iter(("b", "a"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("hotpath.guard.worker_slots.secrets.token_hex", lambda _: next(names))
        first = world.start(100)
        assert first.path.stem.endswith("-b")
        hidden = first.path.rename(first.path.with_name("hidden"))  # the other looks before it is there
        second = world.start(200)
        hidden.rename(first.path)
    assert second.path.stem.endswith("-a")
    beat(first, 60)
    beat(second, 50)
    assert first.path == second.path
    assert {one.pid for one in first.workers()} == {one.pid for one in second.workers()} == {100, 200}
    assert [path.name for path in world.path.parent.glob("slots-*")] == [second.path.name]


def test_they_go_back_to_the_known_name_once_it_is_free(world: World) -> None:
    world.path.mkdir()
    first, second = world.start(100), world.start(200)
    world.path.rmdir()
    beat(first, 60)
    beat(second, 50)
    assert first.path == second.path == world.path
    assert {one.pid for one in second.workers()} == {100, 200}


@needs_root
def test_a_full_file_system_is_an_error_and_not_the_end_of_the_process(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "small", "size=64k") as disk:
        leave_bytes(disk, 0)
        with pytest.raises(UnusableSlots, match="No space left"):
            WorkerSlots(disk / "slots")


def test_the_path_is_one_for_a_key_and_a_user() -> None:
    assert slots_path("/srv/hot") == slots_path("/srv/hot")
    assert slots_path("/srv/hot") != slots_path("/srv/other")
    assert slots_path("x" * 9000 + "\udcff").parent.is_dir()
    assert len(slots_path("x" * 9000).name) < 60


def test_descriptors_stay_as_many(world: World) -> None:
    worker = world.start(100)
    count = descriptors()
    for _ in range(20):
        beat(worker)
        world.path.unlink()
        worker.want_recycle(True)
        worker.try_recycle()
        worker.workers()
    assert descriptors() == count


# Real processes

WORKER = """
import os, sys, time
from pathlib import Path
from hotpath.guard.worker_slots import WorkerSlots
slots = WorkerSlots(Path(sys.argv[1]))
sys.stdin.readline()
def say(*words):
    os.write(1, " ".join(map(str, words)).encode() + b"\\n")
"""


SAY_THAT_IT_WAITS = f"""
import hotpath.process.lock
def nap(seconds):
    said.append(seconds) or say("waits") if not said else time.sleep(seconds)
said = []
hotpath.process.lock.LOCK_SECONDS, hotpath.process.lock.sleep = {PATIENT_SECONDS}, nap
"""


def start(path: Path, code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WORKER + code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )


def tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")


def hear(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.slow
def test_eight_processes_at_once_have_a_slot_each_and_one_token(tmp_path: Path) -> None:
    code = f"""
say(slots.take())
slots.beat(state=0, unique_bytes=1, in_flight=0)
slots.want_recycle(True)
sys.stdin.readline()
until = time.monotonic() + {SETTLE_SECONDS} + 0.5
while time.monotonic() < until:
    mine = slots.try_recycle()
    time.sleep(0.01)
say(mine)
sys.stdin.readline()
"""
    path = tmp_path / "slots"
    with ExitStack() as stack:
        processes = [start(path, code) for _ in range(8)]
        for process in processes:
            stack.enter_context(ended(process))
        for process in processes:
            tell(process)
        assert sorted(int(hear(process)) for process in processes) == list(range(8))
        for process in processes:
            tell(process)
        assert sorted(hear(process) for process in processes) == ["False"] * 7 + ["True"]


def test_a_killed_process_is_gone_even_before_its_parent_has_looked(tmp_path: Path) -> None:
    path = tmp_path / "slots"
    slots = WorkerSlots(path)
    code = "slots.beat(state=0, unique_bytes=7, in_flight=0)\nsay('there')\nsys.stdin.readline()"
    with ended(start(path, code)) as process:
        tell(process)
        assert hear(process) == "there"
        assert [worker.pid for worker in slots.workers()] == [process.pid]
        process.send_signal(signal.SIGKILL)
        until = time.monotonic() + 10
        while slots.workers() and time.monotonic() < until:
            time.sleep(0.01)
        assert process_start(process.pid) is None
        assert Path(f"/proc/{process.pid}").exists()
        assert slots.take() == 0
    slots.release()


def test_a_forked_child_takes_a_slot_of_its_own(tmp_path: Path) -> None:
    code = """
slots.take()
child = os.fork()
slots.beat(state=0, unique_bytes=100 if child else 200, in_flight=0)
if child == 0:
    say("beaten")
    time.sleep(600)
    os._exit(0)
say("beaten", child)
sys.stdin.readline()
"""
    path = tmp_path / "slots"
    slots = WorkerSlots(path)
    with ended(start(path, code)) as process:
        tell(process)
        lines = [hear(process), hear(process)]
        (child,) = (int(line.split()[1]) for line in lines if " " in line)
        try:
            found = [(worker.slot, worker.pid, worker.unique_bytes) for worker in slots.workers()]
            assert found == [(0, process.pid, 100), (1, child, 200)]
        finally:
            os.kill(child, signal.SIGKILL)
    slots.release()


def test_process_start() -> None:
    assert process_start(os.getpid()) == process_start(os.getpid()) != process_start(1)
    with subprocess.Popen(["/bin/true"]) as process:
        process.wait(60)
    assert process_start(process.pid) is None
