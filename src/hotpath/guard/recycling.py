"""One worker at a time is replaced by a fresh one: whether this one may go now, and whether it has helped before."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from hotpath.errors import DeclarationError, UnusableSlots
from hotpath.guard.departure import Departure, Surroundings, look_around
from hotpath.guard.systemd import notify
from hotpath.guard.worker_slots import HOLD_SECONDS, SLOTS, Worker, WorkerSlots, slots_path
from hotpath.log import Once, logger
from hotpath.options import parse_count, parse_seconds

# Time without a refusal after which the last recycle counts as having helped.
CALM_SECONDS = 5.0

MAX_DRAIN_SECONDS = 3600.0

Leave = Literal["auto"] | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Recycle:
    """How a worker leaves for a fresh one, and how often. Raises ``DeclarationError``.

    ``drain_seconds`` is the time to finish what runs. After ``most`` workers were replaced within ``within`` seconds
    without calm between, nobody leaves any more.
    """

    drain_seconds: float | str = 20.0
    most: int = 2
    within: float | str = 600.0

    def __post_init__(self) -> None:
        parse_count(self.most, "most")
        parse_seconds(self.within, "within")
        if parse_seconds(self.drain_seconds, "drain_seconds") > MAX_DRAIN_SECONDS:
            raise DeclarationError(
                f"drain_seconds={self.drain_seconds!r}: an hour is the most that a worker may take to end"
            )


@dataclass(frozen=True, slots=True)
class Hindrance:
    """Why a process that should leave does not: ``kind`` is stuck or suppressed."""

    kind: str
    text: str


class Recycling:
    """This process among the workers of its service. Belongs to the guard's thread.

    ``leave`` says whether something starts a process again that ends; ``"auto"``: look. Raises ``DeclarationError``.
    """

    def __init__(self, leave: Leave, recycle: Recycle, clock: Callable[[], float]) -> None:
        if leave not in (True, False, "auto"):
            raise DeclarationError(f"leave={leave!r}: write True, False or 'auto'")
        self.surroundings: Surroundings | None = None
        # Why this process never leaves, if it does not.
        self.obstacle: str | None = "it is still starting"
        self.slots: WorkerSlots | None = None
        self.has_joined = False
        self.is_suppressed = False
        self.begun: Counter[str] = Counter()
        self._leave = leave
        self._most = recycle.most
        self._window = parse_seconds(recycle.within, "within")
        self._drain_seconds = parse_seconds(recycle.drain_seconds, "drain_seconds")
        self._clock = clock
        self._wants = False
        self._calm_from: float | None = None
        self._calm_at = float("-inf")
        self._once = Once()

    @property
    def slot(self) -> int | None:
        """The number of this worker among those of its service, if it has one."""
        return self.slots.slot if self.slots is not None else None

    def join(self, key: str) -> None:
        """Find out who runs this process, and meet the other workers: those that give the same ``key``.

        Once it serves: a worker that still starts is none in the place of one that has left.
        """
        self.has_joined = True
        self.obstacle = "it could not be found out who runs it"
        self.surroundings = look_around()
        if self._leave == "auto":
            self.obstacle = self.surroundings.obstacle
        else:
            self.obstacle = None if self._leave else "leave=False"
        try:
            # The worker that leaves keeps the token until it is gone and replaced, however long its drain may be.
            slots = WorkerSlots(
                slots_path(key), hold_seconds=HOLD_SECONDS + max(0.0, self._drain_seconds - 20.0), clock=self._clock
            )
            slots.take()
            self.slots = slots
        except UnusableSlots as error:
            logger.warning("hotpath: %s; this worker is not recycled", error)
            self.obstacle = str(error)

    def beat(self, *, state: int, unique_bytes: int, in_flight: int) -> None:
        """Say to the others how this worker is."""
        if self.slots is None:
            return
        try:
            self.slots.beat(state=state, unique_bytes=unique_bytes, in_flight=in_flight)
        except UnusableSlots as error:
            self._once.warn(f"{error}; the other workers do not hear of this one")

    def workers(self) -> tuple[Worker, ...]:
        """All of this service, as each last said; none where that cannot be known."""
        try:
            return self.slots.workers() if self.slots is not None else ()
        except UnusableSlots:
            return ()

    def note(self, at: float, *, is_calm: bool) -> None:
        """Whether requests are refused at this moment."""
        if not is_calm:
            self._calm_from = None
        elif self._calm_from is None:
            self._calm_from = at
        elif at - self._calm_from >= CALM_SECONDS:
            self._calm_at = at

    def want(self, wanted: bool) -> None:
        """Say to the others that this worker should be replaced, or no longer."""
        if wanted == self._wants or self.slots is None:
            return
        try:
            self.slots.want_recycle(wanted)
        except UnusableSlots as error:
            logger.warning("hotpath: %s; asked again with the next sample", error)
        else:
            self._wants = wanted

    def take_turn(self, why: str) -> bool | Hindrance:
        """Whether this worker may go now: something starts it again, it helps, and it is its turn."""
        slots = self.slots
        if self.obstacle is not None or slots is None:
            return Hindrance("stuck", f"it should leave ({why}), but {self.obstacle}; it serves hot pages only")
        try:
            return self._take_turn(slots)
        except UnusableSlots as error:
            return Hindrance("stuck", f"it should leave ({why}), but {error}")

    def _take_turn(self, slots: WorkerSlots) -> bool | Hindrance:
        # Those that were followed by calm have helped; whoever is back again and again does not leak, but has no room.
        idle = slots.recycles(min(self._window, self._clock() - self._calm_at))
        own = slots.recycles(self._window, of_this_slot=True)
        self.is_suppressed = idle >= self._most or own >= 2 * self._most
        self.want(not self.is_suppressed)
        if self.is_suppressed:
            return Hindrance(
                "suppressed",
                f"{max(idle, own)} recycles within {self._window:g} s did not help; no more for now. Something takes"
                " this memory from the start",
            )
        if slots.slot is None:
            return Hindrance("stuck", f"it should leave, but there are more workers than {SLOTS}, and it has no slot")
        return slots.try_recycle()

    def depart(self, reason: str, *, loop: asyncio.AbstractEventLoop | None, in_flight: Callable[[], int]) -> None:
        """Begin to leave; returns at once. Raises ``RuntimeError`` where there is no thread to be had for it now."""
        surroundings = self.surroundings or look_around()
        Departure(surroundings, loop, in_flight, self._drain_seconds).start()
        self.begun[reason] += 1
        if not surroundings.is_worker:  # of one worker among several systemd would think that the service stops
            notify("STOPPING=1", f"STATUS=leaving: {reason}")

    def release(self) -> None:
        """Give the slot back; where that cannot be, the others find out that this process is gone."""
        if self.slots is None:
            return
        try:
            self.slots.release()
        except UnusableSlots as error:
            logger.warning("hotpath: %s; the slot of this worker is not given back", error)
            self.slots.let_go()
        self.slots = None
