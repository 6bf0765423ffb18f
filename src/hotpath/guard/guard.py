"""The memory guard: refuse work early rather than be killed, and never refuse for long without a way out.

A thread of its own reads memory, asks the table of ``pressure`` and acts: caches shrink, cold requests are refused, the
process leaves for a fresh one. Requests only see ``admission``.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping

from hotpath.caching.registry import registry
from hotpath.errors import DeclarationError, HotpathError, UnreadableMemory
from hotpath.guard.admission import Admission
from hotpath.guard.alarms import Alarm, Alarms, Marks
from hotpath.guard.departure import is_serving
from hotpath.guard.hard_limit import HardLimit, is_memory_error, is_thread_error
from hotpath.guard.memory import MemoryReader
from hotpath.guard.outlook import Growth, MemoryReading, Outlook, implausible, look_ahead, next_sample_seconds
from hotpath.guard.priorities import READINESS, Chooser, Priorities, Priority, check_readiness
from hotpath.guard.recycling import Hindrance, Leave, Recycle, Recycling
from hotpath.guard.refusal import check_fields
from hotpath.guard.sampling import Sampling
from hotpath.guard.states import Blank, Position, Signal, State, Thresholds, drain, step, take_in
from hotpath.guard.systemd import notify, watchdog_seconds
from hotpath.guard.trimming import Shrink, Trimmer
from hotpath.log import Once, logger
from hotpath.options import check_kind, human_bytes, parse_bytes
from hotpath.process import after_fork
from hotpath.types import Scope, Send

# Maximum interval of samples while requests are in the app: the memory that one takes is seen before it is given back,
# and a sample is no older than 200 ms while one blocks the event loop.
BUSY_SECONDS = 0.15
# Interval at which the event loop looks at the thread of the guard, and reports its own lag.
TICK_SECONDS = 0.5
# Age of a sample at which the thread counts as hanging, and the guard as blind.
STALLED_SECONDS = 5.0
# Intervals of reading the unique size, which takes a millisecond or more and decides only who leaves first.
UNIQUE_SECONDS = 10.0
UNIQUE_REST_SECONDS = 60.0


class MemoryGuard:
    """Give it to the middleware: ``HotpathMiddleware(app, hot=hot, guard=MemoryGuard(limit="1500MiB"))``.

    ``limit`` (bytes, ``"1500MiB"``, ``"1.5G"``: both 1024-based, ``"1500MB"`` is 1000-based) bounds all workers
    together (each by itself where no control group counts them), beside the limits of the group and the machine; the
    lowest counts. ``thresholds`` are the numbers of the state table; ``reserve`` is what BRAKE keeps for hot pages.

    ``priority`` says what matters, as patterns or a function (``priorities.Priorities``); ``readiness`` are the paths
    that answer 503 once the process should get no traffic. ``refusal_headers`` are fields of every refusal, such as
    those of CORS, without which a script in a browser cannot read its status. ``leave`` says whether something starts
    a process again that ends: True, False, or ``"auto"``: look; ``recycle`` says how it leaves and how often.
    ``sampling`` says how often memory is read. ``hard_limit`` sets ``RLIMIT_DATA``. ``alarm`` is called, in a thread of
    its own, with what needs a person.

    Raises ``DeclarationError`` for what cannot work.
    """

    # A subclass for tests puts its own time and chance here, before it calls ``__init__``.
    clock: Callable[[], float] = time.monotonic
    chance: Callable[[], float] = random.random

    # Long, since it checks each option and makes each part once, in the order in which they need one another.
    def __init__(
        self,
        *,
        limit: int | str | None = None,
        thresholds: Thresholds | None = None,
        reserve: int | str = "48MiB",
        priority: Mapping[str, Priority | int] | Chooser | None = None,
        readiness: Collection[str] = READINESS,
        refusal_headers: Mapping[str, str] | None = None,
        leave: Leave = "auto",
        alarm: Callable[[Alarm], object] | None = None,
        hard_limit: bool = False,
        sampling: Sampling | None = None,
        recycle: Recycle | None = None,
    ) -> None:
        check_readiness(readiness)
        if hard_limit and sys.platform != "linux":
            raise DeclarationError("hard_limit=True needs Linux, where RLIMIT_DATA bounds all that a process allocates")
        self.thresholds = check_kind("thresholds", thresholds, Thresholds, "shed=Level(.80, .72, 8, 15)")
        sampling = check_kind("sampling", sampling, Sampling, "most_interval=0.5")
        options = check_kind("recycle", recycle, Recycle, "drain_seconds=10")
        budget = None if limit is None else parse_bytes(limit, "limit")
        self._floor = parse_bytes(sampling.floor, "floor")
        self._fastest_growth = parse_bytes(sampling.fastest_growth, "fastest_growth")
        self._least, self._most = sampling.least_seconds, sampling.most_seconds
        self.reader = self.make_reader(budget)
        self.reader.check_budget()
        if budget is not None and self._floor >= budget:
            raise DeclarationError(
                f"floor={sampling.floor!r} is never counted as free, and limit={limit!r} is no more than that"
            )
        self._reserve = parse_bytes(reserve, "reserve")
        self._make_recycling: Callable[[], Recycling] = lambda: Recycling(leave, options, self.clock)
        self._has_hard_limit = hard_limit
        self.alarms = Alarms(alarm)
        self.admission = Admission(
            Priorities(priority),
            self.thresholds,
            readiness=readiness,
            fields=check_fields(refusal_headers),
            clock=self.clock,
            chance=self.chance,
        )
        # Functions that shrink something beside the caches of ``hotpath.caching``, which register themselves.
        self.shrinks: list[Shrink] = []
        self.trimmer = Trimmer(
            self._resident, lambda: [*(cache.shrink for cache in registry.all()), *self.shrinks], self.clock
        )
        self.on_leaving: list[Callable[[], None]] = []
        # Called after each sample, in the guard's thread: they must not wait, nor raise.
        self.on_sample: list[Callable[[MemoryGuard], None]] = []
        self.transitions: Counter[tuple[State, State, str]] = Counter()
        self._set_unstarted()
        after_fork.register(self)

    def make_reader(self, budget: int | None) -> MemoryReader:
        """What reads memory; a subclass for tests returns its own."""
        return MemoryReader(budget=budget)

    def _set_unstarted(self) -> None:
        self.position = Position()
        self.recycling = self._make_recycling()
        self.reading: MemoryReading | None = None
        self.outlook: Outlook | None = None
        self.sampled_at = self.clock()
        self.problem: str | None = None
        self.loop_lag_seconds = 0.0
        self.unique_bytes: int | None = None
        self.hard_limit: HardLimit | None = None
        self._growth = Growth()
        self._marks = Marks()
        self.alarms = self.alarms.fresh()
        self._unchanged: MemoryReading | None = None
        self._basis = ""
        self._unique_at = float("-inf")
        self._once = Once()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self._is_announced = False
        self._departs_for: str | None = None
        self.ticks = 0

    @property
    def state(self) -> State:
        """What it does now."""
        return self.position.state

    @property
    def is_started(self) -> bool:
        """Whether it samples in this process."""
        return self._thread is not None

    @property
    def sample_age_seconds(self) -> float:
        """How old the newest sample is."""
        return max(0.0, self.clock() - self.sampled_at)

    def start(self, key: str, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Begin to sample. ``key`` is what the workers of one service share and others do not. Idempotent.

        Called by the middleware once the server runs. ``loop`` is the running one; without it its lag is not known.
        """
        with self._lock:
            if self._thread is not None:
                if loop is not None and (self.loop is None or self.loop.is_closed()):
                    self.follow(loop)  # the process has another event loop by now
                return
            self._thread = threading.Thread(target=self._run, args=(key,), name="hotpath-guard", daemon=True)
        if self._has_hard_limit:
            self.hard_limit = HardLimit(clock=self.clock)
            self.admission.asks_always = True
        self.sampled_at = self.clock()
        try:
            self._thread.start()
        except RuntimeError:  # no more threads for this process now; asked for again with the next request
            self._thread = None
            raise
        if loop is not None:
            self.follow(loop)

    def follow(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look at this event loop from now on, and from it at the guard's thread."""
        self.loop = loop
        loop.call_soon(self.tick, self.clock())

    def close(self) -> None:
        """Stop sampling, lift the hard limit, give the slot back. The admission stays as it is."""
        self._stop.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(5)
        if self.hard_limit is not None:
            self.hard_limit.close()
            self.hard_limit = None
        self.recycling.release()
        self.reader.close()

    def sample(self) -> Position:
        """Look once and act on it; what the thread does again and again."""
        at = self.clock()
        reading, mapped, problem = self._read()
        if reading is None:
            self.problem = problem
            signal: Signal | Blank = Blank(at)
        else:
            self.problem = None
            self._growth.add(reading.at, -reading.left)
            self.reading = reading
            self.outlook = look_ahead(
                reading,
                floor=self._floor,
                growth=self._growth.bytes_per_second,
                reserve=self._reserve,
                largest_request=self.admission.costs.largest(at),
            )
            # At once: trimming may take a second, and a request 500 MiB in that time.
            if self.hard_limit is not None:
                self.hard_limit.follow(self.outlook.headroom, mapped, reading.limit)
            signal = self.outlook.signal
        before = self.position
        helps = reading is not None and self.trimmer.helps(at, reading.limit)
        case = take_in(before, signal, self.thresholds, trim_helps=helps)
        if before.state is not State.DRAIN:  # which keeps its turn until it is gone
            after = step(case, may_leave=self._may_leave(case.is_due))
            with self._lock:
                if self.position is before:  # the event loop has not found meanwhile that this thread hangs
                    self.position = after
        self.sampled_at = at
        self.recycling.note(at, is_calm=self.position.state in (State.NORMAL, State.TRIM))
        self._publish(reading)
        if self.position.state is not before.state:
            self._entered(before, self.position)
        kind = self._marks.note(at, self.outlook.share if reading is not None and self.outlook is not None else None)
        if kind is not None:
            self.alarms.send(kind, f"memory: {self._situation()}")
        self._act(at, reading)
        for call in self.on_sample:
            call(self)
        return self.position

    def memory_ran_out(self) -> None:
        """A request got ``MemoryError``: open the hard limit's reserve, so that the others go on."""
        if self.hard_limit is not None:
            self.hard_limit.open_reserve()

    def ran_out(self, error: BaseException | None) -> bool:
        """Whether it comes of a want of memory, which opens the reserve, or of a thread that had no room."""
        if is_memory_error(error):
            self.memory_ran_out()
            return True
        return is_thread_error(error)

    async def refuse_for_memory(self, scope: Scope, send: Send) -> None:
        """503 to the request that memory ran out for."""
        await self.admission.refusal(scope, "memory_error").send(scope, send)

    def _read(self) -> tuple[MemoryReading | None, int, str | None]:
        """The reading, what a hard limit counted before it, and why there is none."""
        try:
            mapped = self.hard_limit.mapped() if self.hard_limit is not None else 0
            reading = self.reader.read()
        except UnreadableMemory as error:
            return None, 0, str(error)
        except Exception as error:
            logger.exception("hotpath failed to read memory")
            return None, 0, repr(error)
        if self._unchanged is None or self._unchanged.usage != reading.usage:
            self._unchanged = reading
        if reading is not None and self.reader.basis != self._basis:
            self._basis = self.reader.basis
            level = logging.WARNING if self.reader.is_shared else logging.INFO
            logger.log(level, "hotpath: memory guard: of %s it counts %s", human_bytes(reading.limit), self._basis)
        problem = implausible(reading, self._unchanged)
        return (None, 0, problem) if problem is not None else (reading, mapped, None)

    def _publish(self, reading: MemoryReading | None) -> None:
        position = self.position
        is_ready = position.state is not State.DRAIN and not (
            position.overdue and (self.recycling.obstacle is not None or self.recycling.is_suppressed)
        )
        self.admission.update(
            position,
            self.outlook if reading is not None else None,
            limit=reading.limit if reading is not None else 0,
            used=reading.unreclaimable if reading is not None else 0,
            own=reading.anonymous if reading is not None else 0,
            is_ready=is_ready,
        )
        if reading is not None:
            self.admission.learn(reading.at)

    def _entered(self, before: Position, after: Position) -> None:
        self.transitions[before.state, after.state, after.reason] += 1
        grave = after.state in (State.SHED, State.BRAKE, State.DRAIN, State.BLIND)
        text = f"memory guard: {before.state.name} → {after.state.name} ({after.reason}); {self._situation()}"
        logger.log(logging.WARNING if grave else logging.INFO, "hotpath: %s", text)
        if after.state is State.BLIND:
            self.alarms.send("blind", text)
        if after.state is State.NORMAL:
            self._once.clear()
            self.recycling.is_suppressed = False
        if after.state is State.DRAIN:
            self.admission.is_leaving = True
            for call in self.on_leaving:
                call()
            self._departs_for = after.reason

    def _act(self, at: float, reading: MemoryReading | None) -> None:
        state = self.position.state
        if state in (State.TRIM, State.SHED, State.BRAKE):
            self.trimmer.trim(at)
        elif state is State.NORMAL:
            self.trimmer.rest()
        if at - self._unique_at >= (UNIQUE_REST_SECONDS if state is State.NORMAL else UNIQUE_SECONDS):
            self._unique_at = at
            try:
                self.unique_bytes = self.reader.unique_bytes()
            except (HotpathError, OSError):
                self.unique_bytes = None
        unique = self.unique_bytes or (reading.resident if reading is not None else 0)
        self.recycling.beat(state=int(state), unique_bytes=unique, in_flight=self.admission.in_flight)
        if self.hard_limit is not None and self.outlook is not None:
            self._leave_for_reserve(at, self.hard_limit, self.outlook)
        if self._departs_for is not None:
            # Raises where there is no thread to be had, and is tried again with the next sample.
            self.recycling.depart(self._departs_for, loop=self.loop, in_flight=lambda: self.admission.in_flight)
            self._departs_for = None

    def _leave_for_reserve(self, at: float, hard_limit: HardLimit, outlook: Outlook) -> None:
        if not hard_limit.reserve_used or self.state is State.DRAIN:
            return
        if self._take_turn("reserve"):
            with self._lock:
                before, self.position = self.position, drain(self.position, at, "reserve")
            self._publish(self.reading)
            self._entered(before, self.position)
        elif self.recycling.obstacle is not None and outlook.share < self.thresholds.trim.leave:
            hard_limit.reserve_used = False

    def _take_turn(self, why: str) -> bool:
        turn = self.recycling.take_turn(why)
        if isinstance(turn, Hindrance):
            if self._once.is_new(turn.kind):  # until all is well again
                text = f"memory guard: {turn.text}. {self._situation()}"
                logger.error("hotpath: %s", text)
                self.alarms.send(turn.kind, text)
            return False
        return turn

    def _may_leave(self, is_due: bool) -> bool:
        if is_due:
            return self._take_turn("deadline")
        if self.hard_limit is None or not self.hard_limit.reserve_used:
            self.recycling.want(False)
        return False

    def _run(self, key: str) -> None:
        while not self._stop.is_set():
            try:
                # Here, not in start: a lock that another process holds must not stop the event loop.
                if not self.recycling.has_joined and is_serving():
                    self.recycling.join(key)
                self.sample()
            except Exception:
                logger.exception("hotpath: the memory guard failed; it goes on")
            self._stop.wait(self.interval_seconds)
            if self.loop is None:  # trio: nothing ticks there, and without READY=1 systemd would end the service
                self._sign_of_life()

    @property
    def interval_seconds(self) -> float:
        """How long to wait for the next sample."""
        most = min(self._most, BUSY_SECONDS) if self.admission.flights else self._most
        if self.outlook is None:
            return max(self._least, most)
        fastest = max(self._fastest_growth, self.outlook.growth)
        return next_sample_seconds(self.outlook.headroom, fastest, least=self._least, most=max(self._least, most))

    def tick(self, expected: float) -> None:
        """In the event loop: how late it is, whether the guard's thread lives, and life signs for systemd."""
        if self._stop.is_set() or self.loop is None or self.loop.is_closed():
            return
        now = self.clock()
        late = now - expected
        self.loop.call_later(TICK_SECONDS, self.tick, now + TICK_SECONDS)
        # A peak that fades, since a scrape comes every 15 s and a blocked loop lasts less.
        self.loop_lag_seconds = max(late, 0.9 * self.loop_lag_seconds, 0.0)
        # A loop that comes as late has seen nothing of the thread: both were stopped (SIGSTOP, a call that holds the
        # interpreter's lock), and the next tick tells whether only one goes on.
        if late < STALLED_SECONDS < self.sample_age_seconds > 3 * self._most and self.state < State.DRAIN:
            self._go_blind(now)
        self.ticks += 1
        if self.ticks > 1:  # the first is while the server starts
            self._sign_of_life()

    def _go_blind(self, at: float) -> None:
        with self._lock:
            before = self.position
            self.position = Position(State.BLIND, at, "stalled") if before.state < State.DRAIN else before
        self._publish(None)
        # Not in the loop: what the guard's thread hangs in may be the log.
        threading.Thread(
            target=self._entered, args=(before, self.position), name="hotpath-stalled", daemon=True
        ).start()

    def _sign_of_life(self) -> None:
        if not self._is_announced and is_serving():
            self._is_announced = notify("READY=1")
        if watchdog_seconds() is not None:
            notify("WATCHDOG=1")

    def _resident(self) -> int:
        try:
            return self.reader.read().resident
        except UnreadableMemory:
            return 0

    def _situation(self) -> str:
        if self.problem is not None or self.reading is None or self.outlook is None:
            return self.problem or "nothing was read yet"
        reading, outlook = self.reading, self.outlook
        own = "" if reading.source == "process" else f", {human_bytes(reading.resident)} of it by this process"
        return (
            f"{human_bytes(reading.unreclaimable)} of {human_bytes(reading.limit)} in use ({outlook.share:.0%}){own},"
            f" {human_bytes(max(0, outlook.headroom))} left, {human_bytes(max(0, outlook.growth))}/s,"
            f" {self.admission.in_flight} in flight"
        )

    def restart_after_fork(self) -> None:
        """The thread, the slot and the requests are the parent's; the next request starts this one."""
        self.admission.restart()
        if self.hard_limit is not None:
            self.hard_limit.close()
        self._set_unstarted()
