"""The guard: what it does with readings, what it tells, when it leaves, and what it does not accept."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hotpath.caching.lru import LRUCache
from hotpath.errors import DeclarationError, UnusableSlots
from hotpath.guard.alarms import Alarm, Alarms
from hotpath.guard.departure import Departure, Surroundings
from hotpath.guard.guard import TICK_SECONDS, MemoryGuard
from hotpath.guard.recycling import Recycle
from hotpath.guard.sampling import Sampling
from hotpath.guard.states import State, Thresholds
from hotpath.guard.worker_slots import WorkerSlots
from tests.guard.fakes import LIMIT, MIB, Rigged, state_of
from tests.guard.locks import held
from tests.guard.waiting import wait_until

FAST = Sampling(least_interval=0.01, most_interval=0.01)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MemoryGuard(limit="lots"), "limit='lots' is no positive number of bytes"),
        (lambda: MemoryGuard(limit=0), "no positive number"),
        (lambda: MemoryGuard(limit="900T"), "more than this machine has"),
        (lambda: MemoryGuard(limit="1MiB"), "less than this process holds already"),
        (lambda: MemoryGuard(limit=True), "no positive number"),
        (lambda: MemoryGuard(limit="1,5G"), "limit='1,5G' is no positive number of bytes"),
        (
            lambda: MemoryGuard(limit="1500MiB", sampling=Sampling(floor="1500MiB")),
            "floor='1500MiB' is never counted as free",
        ),
        (lambda: MemoryGuard(thresholds=0.8), "thresholds=0.8: write Thresholds"),  # type: ignore[arg-type]
        (lambda: MemoryGuard(sampling=1.0), "sampling=1.0: write Sampling"),  # type: ignore[arg-type]
        (lambda: MemoryGuard(recycle=2), "recycle=2: write Recycle"),  # type: ignore[arg-type]
        (lambda: MemoryGuard(reserve="much"), "reserve='much' is no positive number"),
        (lambda: MemoryGuard(alarm="mail"), "alarm='mail': write a plain function"),  # type: ignore[arg-type]
        (lambda: MemoryGuard(alarm=asyncio.sleep), "write a plain function"),  # type: ignore[arg-type]
        (lambda: MemoryGuard(leave="perhaps"), "True, False or 'auto'"),  # type: ignore[arg-type]
        (lambda: MemoryGuard(readiness="/readyz"), "write paths"),
        (lambda: MemoryGuard(readiness=None), "write paths"),  # type: ignore[arg-type]
        (lambda: MemoryGuard(readiness=[b"/readyz"]), "write paths"),  # type: ignore[list-item]
        (lambda: MemoryGuard(priority=asyncio.sleep), "or a function of the scope that is not async"),  # type: ignore[arg-type]
        (lambda: MemoryGuard(priority={"/a*b": 1}), "is no pattern"),
        (lambda: Sampling(floor="-1"), "floor"),
        (lambda: Sampling(fastest_growth="fast"), "fastest_growth='fast' is no positive number"),
        (lambda: Sampling(least_interval=2.0), "0.01 ≤ least ≤ most ≤ 10"),
        (lambda: Sampling(least_interval="soon"), "least_interval='soon' is no number of seconds"),
        (lambda: Recycle(drain_seconds=0), "drain_seconds=0"),
        (lambda: Recycle(drain_seconds="2h"), "drain_seconds='2h': an hour is the most"),
        (lambda: Recycle(most=0), "most=0 is no whole number of 1 or more"),
        (lambda: Recycle(most=2.5), "most=2.5 is no whole number"),  # type: ignore[arg-type]
        (lambda: Recycle(most="2"), "most='2' is no whole number"),  # type: ignore[arg-type]
        (lambda: Recycle(within=float("nan")), "within=nan"),
        (lambda: Thresholds(blind_in_flight=True), "blind_in_flight=True is no whole number"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_made(make: Callable[[], object], message: str) -> None:
    with pytest.raises(DeclarationError, match=message):
        make()


@pytest.mark.parametrize(
    ("limit", "count"),
    [("1.5G", 1536 * MIB), ("1500M", 1500 * MIB), ("1500MiB", 1500 * MIB), ("1500MB", 1500 * 10**6), (2**30, 2**30)],
)
def test_a_limit_as_people_write_it(limit: int | str, count: int) -> None:
    guard = MemoryGuard(limit=limit)
    try:
        guard.sample()
        assert guard.reading is not None
        assert guard.reading.limit == count, "this machine has more than that"
    finally:
        guard.close()


def test_caches_shrink_step_by_step_and_begin_again_after_calm() -> None:
    rigged = Rigged()
    kept: list[float] = []

    def shrink(keep: float) -> int:
        kept.append(keep)
        return 0

    rigged.guard.shrinks.append(shrink)
    rigged.see(0.5, samples=5)
    assert not kept
    rigged.see(0.75, samples=20)
    assert kept == [0.5, 0.25, 0.0, 0.0]
    rigged.see(0.3, samples=20)
    assert rigged.guard.state is State.NORMAL
    kept.clear()
    rigged.see(0.75, samples=3)
    assert kept == [0.5]


def test_every_bounded_cache_shrinks_without_being_told_of() -> None:
    cache: LRUCache[int, bytes] = LRUCache(max_entries=100, name="guarded")
    for number in range(100):
        cache[number] = b"x" * 1000
    rigged = Rigged()
    rigged.see(0.75, samples=3)
    assert len(cache) == 50
    rigged.see(0.75, samples=20)
    assert len(cache) == 0


def test_a_cache_that_fails_to_shrink_does_not_stop_the_others() -> None:
    rigged = Rigged()
    kept: list[float] = []

    def broken(keep: float) -> int:
        raise ZeroDivisionError

    def shrink(keep: float) -> int:
        kept.append(keep)
        rigged.reader.resident -= 20 * MIB
        return 20 * MIB

    rigged.guard.shrinks += [broken, shrink]
    rigged.see(0.75, samples=3)
    assert kept == [0.5]
    assert rigged.guard.trimmer.released_bytes["caches"] == 20 * MIB


@pytest.mark.parametrize("gain", [0, 20 * MIB])
def test_trimming_that_helps_puts_off_the_deadline_of_shed(gain: int) -> None:
    rigged = Rigged()

    def shrink(keep: float) -> int:
        rigged.reader.resident -= gain
        return gain

    rigged.guard.shrinks.append(shrink)
    for number in range(130):
        rigged.reader.resident = 500 * MIB
        rigged.see(0.84 + number / 1e5)
    assert rigged.guard.state is State.SHED
    assert rigged.guard.position.overdue is (gain == 0)


def test_use_of_80_and_90_percent_is_one_alarm_each_and_the_states_are_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rigged = Rigged()
    rigged.see(0.82, samples=2)
    rigged.see(0.95)
    assert [alarm.kind for alarm in rigged.alarms] == ["usage_80", "usage_90"]
    assert "820.0 MiB of 1000.0 MiB in use (82%)" in rigged.alarms[0].text
    assert "NORMAL → SHED (usage)" in caplog.text
    assert "SHED → BRAKE (usage)" in caplog.text
    assert rigged.guard.transitions == {
        (State.NORMAL, State.SHED, "usage"): 1,
        (State.SHED, State.BRAKE, "usage"): 1,
    }


def test_an_alarm_that_raises_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def broken(alarm: object) -> None:
        raise ZeroDivisionError

    rigged = Rigged(alarm=broken)
    rigged.see(0.82)
    rigged.see(0.95)
    assert rigged.guard.state is State.BRAKE
    wait_until(lambda: caplog.text.count("alarm= failed") == 2, 30, "both are in the log")
    wait_until(lambda: not rigged.guard.alarms.is_sending, 30, "it goes on")


def test_it_looks_more_often_the_less_is_left() -> None:
    rigged = Rigged(sampling=Sampling(fastest_growth="100MiB"))
    rigged.see(0.1)
    assert rigged.guard.interval_seconds == 1.0
    rigged.see(0.8)
    assert rigged.guard.interval_seconds == pytest.approx(0.48, abs=0.01)
    rigged.see(0.99)
    assert rigged.guard.interval_seconds == 0.05
    busy = Rigged()
    busy.see(0.1)
    busy.guard.admission.enter({"type": "http", "method": "GET", "path": "/", "headers": []})
    assert busy.guard.interval_seconds == 0.15


class Leaving:
    """A guard in a service of its own whose departures are only counted."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch, **options: object) -> None:
        self.departures: list[Departure] = []

        def begin(departure: Departure) -> None:
            self.departures.append(departure)

        monkeypatch.setattr(Departure, "start", begin)
        self.rigged = Rigged(leave=True, **options)
        self.guard = self.rigged.guard
        self.guard.recycling.obstacle = None
        self.guard.recycling.slots = WorkerSlots(directory / "slots", clock=self.rigged.clock)
        self.guard.recycling.slots.take()


def test_it_leaves_once_when_its_turn_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leaving = Leaving(tmp_path, monkeypatch)
    left: list[bool] = []
    leaving.guard.on_leaving.append(lambda: left.append(True))
    leaving.rigged.see(0.95, samples=20)
    assert state_of(leaving.guard) is State.BRAKE
    leaving.rigged.see(0.95, samples=10)
    assert state_of(leaving.guard) is State.DRAIN
    assert (len(leaving.departures), left) == (1, [True])
    assert leaving.guard.recycling.begun == {"brake_deadline": 1}
    leaving.rigged.see(0.2, samples=100)
    assert leaving.guard.state is State.DRAIN
    assert len(leaving.departures) == 1
    assert leaving.guard.recycling.slots is not None
    leaving.guard.recycling.slots.release()


def test_a_worker_that_drains_keeps_its_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it takes: given back, another could go meanwhile."""
    leaving = Leaving(tmp_path, monkeypatch)
    mine = leaving.guard.recycling.slots
    assert mine is not None
    leaving.rigged.see(0.95, samples=30)
    assert leaving.guard.state is State.DRAIN
    other = WorkerSlots(mine.path, clock=leaving.rigged.clock, own_pid=lambda: 1)
    other.take()
    other.want_recycle(True)
    for _ in range(70):
        leaving.rigged.see(0.95)
        other.beat(state=3, unique_bytes=LIMIT, in_flight=0)
        assert not other.try_recycle()
    other.release()
    mine.release()


def test_leaving_is_tried_again_where_no_thread_can_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As under a hard limit that was reached; otherwise it would refuse everything and never end."""
    leaving = Leaving(tmp_path, monkeypatch)
    begun: list[Departure] = []
    tries: list[int] = []

    def begin(departure: Departure) -> None:
        tries.append(1)
        if len(tries) < 3:
            raise RuntimeError("can't start new thread")
        begun.append(departure)

    monkeypatch.setattr(Departure, "start", begin)
    leaving.rigged.see(0.95, samples=22)
    assert state_of(leaving.guard) is State.BRAKE
    for _ in range(2):
        with pytest.raises(RuntimeError, match="new thread"):
            leaving.rigged.see(0.95)
        assert state_of(leaving.guard) is State.DRAIN
        leaving.rigged.clock.advance(1)
    leaving.rigged.see(0.95, samples=5)
    assert len(begun) == 1
    assert leaving.guard.recycling.begun == {"brake_deadline": 1}


def test_slots_that_cannot_be_used_stop_no_state_and_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    leaving = Leaving(tmp_path, monkeypatch)
    slots = leaving.guard.recycling.slots
    assert slots is not None

    def unusable(*_: object, **__: object) -> None:
        raise UnusableSlots(slots.path, "cannot be locked: planted")

    for name in ("beat", "want_recycle", "try_recycle", "recycles"):
        monkeypatch.setattr(slots, name, unusable)
    leaving.rigged.see(0.82, samples=3)
    assert state_of(leaving.guard) is State.SHED
    leaving.rigged.see(0.95, samples=30)
    assert state_of(leaving.guard) is State.BRAKE
    assert leaving.guard.position.overdue
    assert "stuck" in [alarm.kind for alarm in leaving.rigged.alarms]
    assert caplog.text.count("the other workers do not hear of this one") == 1
    leaving.rigged.see(0.2, samples=20)
    assert state_of(leaving.guard) is State.NORMAL


def test_an_end_that_cannot_give_the_slot_back_is_an_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hotpath.process.lock.LOCK_SECONDS", 0.05)
    rigged = Rigged()
    slots = WorkerSlots(tmp_path / "slots", clock=rigged.clock)
    slots.take()
    rigged.guard.recycling.slots = slots
    with held(slots.path):
        rigged.guard.close()
    assert "the slot of this worker is not given back" in caplog.text
    assert rigged.guard.recycling.slots is None


def test_a_worker_without_a_slot_says_why_it_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leaving = Leaving(tmp_path, monkeypatch)
    slots = leaving.guard.recycling.slots
    assert slots is not None
    monkeypatch.setattr(slots, "take", lambda: None)
    slots.release()
    leaving.rigged.see(0.95, samples=30)
    assert leaving.guard.state is State.BRAKE
    stuck = next(alarm for alarm in leaving.rigged.alarms if alarm.kind == "stuck")
    assert "there are more workers than 56" in stuck.text


def test_a_worker_joins_the_others_once_its_server_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serving = threading.Event()
    monkeypatch.setattr("hotpath.guard.guard.is_serving", serving.is_set)
    guard = MemoryGuard(sampling=FAST)
    guard.start(str(tmp_path))
    try:
        wait_until(lambda: guard.reading is not None, 30, "no sample")
        time.sleep(0.1)
        assert guard.recycling.slot is None
        assert guard.recycling.obstacle == "it is still starting"
        serving.set()
        wait_until(lambda: guard.recycling.slot is not None, 30, "it did not join")
    finally:
        guard.close()


def test_what_fails_while_it_joins_does_not_stop_the_sampling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> Surroundings:
        raise AttributeError("another version of the server")

    monkeypatch.setattr("hotpath.guard.recycling.look_around", broken)
    guard = MemoryGuard(sampling=FAST)
    guard.start(str(tmp_path))
    try:
        wait_until(lambda: guard.reading is not None, 30, "no sample")
    finally:
        guard.close()
    assert caplog.text.count("the memory guard failed") == 1
    assert guard.recycling.obstacle == "it could not be found out who runs it"


def test_two_recycles_without_calm_are_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leaving = Leaving(tmp_path, monkeypatch)
    slots = leaving.guard.recycling.slots
    assert slots is not None
    monkeypatch.setattr(slots, "recycles", lambda within, of_this_slot=False: 2 if within == 600 else 0)
    leaving.rigged.see(0.95, samples=60)
    assert leaving.guard.state is State.BRAKE
    assert leaving.guard.recycling.is_suppressed
    assert [alarm.kind for alarm in leaving.rigged.alarms] == ["usage_90", "suppressed"]
    assert not leaving.departures
    slots.release()


def test_recycles_that_were_followed_by_calm_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leaving = Leaving(tmp_path, monkeypatch)
    slots = leaving.guard.recycling.slots
    assert slots is not None
    # Two within ten minutes, none since the calm that is 30 s old.
    monkeypatch.setattr(slots, "recycles", lambda within, of_this_slot=False: 2 if within > 500 else 0)
    leaving.rigged.see(0.3, samples=10)
    leaving.rigged.see(0.95, samples=40)
    assert leaving.guard.state is State.DRAIN
    slots.release()


def test_the_thread_samples_and_ends(tmp_path: Path) -> None:
    guard = MemoryGuard(sampling=Sampling(most_interval=0.05))
    guard.start(str(tmp_path))
    deadline = time.monotonic() + 30
    while guard.reading is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert guard.recycling.slot is not None
    guard.start(str(tmp_path))
    names = [thread.name for thread in threading.enumerate()]
    assert names.count("hotpath-guard") == 1
    guard.close()
    assert "hotpath-guard" not in [thread.name for thread in threading.enumerate()]


def test_use_above_the_limit_is_brake_however_far_above() -> None:
    """``limit=`` without a control group: nothing but the guard keeps to it."""
    rigged = Rigged()
    rigged.see(0.5)
    for share in (1.1, 2.1, 5.0, 20.0):
        rigged.see(share, samples=4)
        assert state_of(rigged.guard) is State.BRAKE
    assert rigged.guard.problem is None


def test_a_guard_thread_that_hangs_is_seen_from_the_loop() -> None:
    rigged = Rigged()
    rigged.see(0.3)

    async def main() -> None:
        rigged.guard.loop = asyncio.get_running_loop()
        rigged.guard.tick(rigged.clock())
        assert rigged.guard.state is State.NORMAL
        rigged.clock.advance(6)
        rigged.guard.tick(rigged.clock())

    asyncio.run(main())
    assert rigged.guard.state is State.BLIND
    assert rigged.guard.position.reason == "stalled"
    assert rigged.guard.loop_lag_seconds == 0.0
    wait_until(lambda: [alarm.kind for alarm in rigged.alarms] == ["blind"], 30, "no alarm")
    rigged.see(0.3, samples=3)
    assert state_of(rigged.guard) is State.NORMAL


def thread_names() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


def test_an_alarm_that_hangs_holds_up_neither_the_guard_nor_the_event_loop() -> None:
    released = threading.Event()
    kinds: list[str] = []

    def send(alarm: Alarm) -> None:
        assert released.wait(60)
        kinds.append(alarm.kind)

    rigged = Rigged(alarm=send)

    async def main() -> None:
        rigged.guard.loop = asyncio.get_running_loop()
        rigged.clock.advance(6)
        rigged.guard.tick(rigged.clock())

    try:
        rigged.see(0.82)
        rigged.see(0.95)  # would not return
        asyncio.run(main())
        wait_until(lambda: "hotpath-stalled" not in thread_names(), 30, "the loop's own alarm is not among them")
        assert thread_names().count("hotpath-alarm") == 1
    finally:
        released.set()
    wait_until(lambda: not rigged.guard.alarms.is_sending, 30, "they are not sent")
    assert kinds == ["usage_80", "usage_90", "blind"], "in their order"


def test_an_alarm_without_a_thread_is_sent_with_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: list[str] = []
    alarms = Alarms(lambda alarm: kinds.append(alarm.kind))

    def full(_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", full)
        alarms.send("usage_80", "first")
    assert not kinds
    alarms.send("usage_90", "second")
    wait_until(lambda: kinds == ["usage_80", "usage_90"], 30, "not sent")


def test_a_process_that_was_stopped_is_not_blind() -> None:
    """SIGSTOP and SIGCONT: neither the loop nor the guard's thread was there, and nothing has grown."""
    rigged = Rigged()
    rigged.see(0.3, samples=8)

    async def main() -> None:
        rigged.guard.loop = asyncio.get_running_loop()
        due = rigged.clock() + TICK_SECONDS
        rigged.clock.advance(600)
        rigged.guard.tick(due)
        assert state_of(rigged.guard) is State.NORMAL
        rigged.guard.tick(rigged.clock())  # and half a second later the thread has not looked either
        assert state_of(rigged.guard) is State.BLIND

    asyncio.run(main())
    fresh = Rigged()
    fresh.see(0.3, samples=8)
    fresh.clock.advance(600)
    fresh.see(0.6)
    assert fresh.guard.outlook is not None
    assert fresh.guard.outlook.growth <= 0.3 * LIMIT / 600
    assert fresh.guard.state is State.NORMAL


def test_a_tick_that_fails_is_not_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    rigged = Rigged()
    rigged.see(0.3)
    monkeypatch.setattr("hotpath.guard.guard.TICK_SECONDS", 0.01)
    failed: list[dict[str, object]] = []
    asked: list[bool] = []
    enough = asyncio.Event()

    def broken() -> bool:
        asked.append(True)
        if len(asked) == 3:
            enough.set()
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("hotpath.guard.guard.is_serving", broken)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: failed.append(context))
        rigged.guard.follow(loop)
        async with asyncio.timeout(30):
            await enough.wait()
        await asyncio.sleep(0)

    asyncio.run(main())
    assert len(failed) >= 3


def test_the_lag_of_the_loop_is_a_peak_that_fades() -> None:
    rigged = Rigged()

    async def main() -> None:
        rigged.guard.loop = asyncio.get_running_loop()
        rigged.guard.tick(rigged.clock() - 2.0)

    asyncio.run(main())
    assert rigged.guard.loop_lag_seconds == 2.0


def test_a_forked_child_begins_anew() -> None:
    rigged = Rigged()
    rigged.see(0.3)
    rigged.guard.admission.enter({"type": "http", "method": "GET", "path": "/livez", "headers": []})
    assert rigged.guard.admission.open is not None
    rigged.see(0.71, samples=2)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        guard = rigged.guard
        said = f"{guard.state.name} {guard.is_started} {guard.admission.in_flight} {guard.admission.open}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    if not select.select([reading], [], [], 60)[0]:
        os.kill(child, signal.SIGKILL)
    assert os.read(reading, 100) == b"NORMAL False 0 None", "and its first request starts it"
    os.close(reading)
    os.waitpid(child, 0)
    assert rigged.guard.state is State.TRIM


def received(service: socket.socket) -> list[str]:
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(service.recv(1000).decode())
    return found


def test_systemd_hears_ready_watchdog_and_stopping_but_no_worker_stops_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as service:
        service.bind(str(tmp_path / "notify"))
        service.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "30000000")
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        monkeypatch.setattr(Departure, "start", lambda departure: None)
        rigged = Rigged()

        async def main() -> None:
            rigged.guard.loop = asyncio.get_running_loop()
            rigged.guard.tick(rigged.clock())
            assert received(service) == []  # the server only starts
            rigged.guard.tick(rigged.clock())
            assert received(service) == ["READY=1", "WATCHDOG=1"]

        asyncio.run(main())
        for is_worker, said in ((False, ["STOPPING=1\nSTATUS=leaving: asked"]), (True, [])):
            rigged.guard.recycling.surroundings = Surroundings("uvicorn", is_worker, is_respawned=True, is_unit=True)
            rigged.guard.recycling.depart("asked", loop=None, in_flight=lambda: 0)
            assert received(service) == said


def test_systemd_hears_of_a_process_whose_event_loop_is_trios(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as service:
        service.bind(str(tmp_path / "notify"))
        service.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.delenv("WATCHDOG_USEC", raising=False)
        guard = MemoryGuard(sampling=Sampling(most_interval=0.05))
        guard.start(str(tmp_path))
        assert service.recv(100) == b"READY=1"
        guard.close()


def test_a_second_event_loop_is_followed_once_the_first_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hotpath.guard.guard.TICK_SECONDS", 0.05)
    guard = MemoryGuard(sampling=Sampling(most_interval=0.05))

    async def serve() -> int:
        guard.start(str(tmp_path), asyncio.get_running_loop())
        before = guard.ticks
        await asyncio.sleep(0.3)
        return guard.ticks - before

    assert asyncio.run(serve()) >= 2
    assert asyncio.run(serve()) >= 2
    guard.close()


def test_all_memory_is_walked_through_seldom_at_rest_and_often_under_pressure(monkeypatch: pytest.MonkeyPatch) -> None:
    rigged = Rigged()
    walks: list[float] = []

    def walk() -> int:
        walks.append(rigged.clock())
        return 1

    monkeypatch.setattr(rigged.reader, "unique_bytes", walk)
    rigged.see(0.3, samples=121)
    assert len(walks) == 3
    rigged.see(0.75, samples=60)
    assert 8 <= len(walks) <= 10
