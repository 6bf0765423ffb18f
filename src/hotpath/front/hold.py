"""A restart is a pause, not an error: who waits for the app, for how long, and what is sent a second time.

``Attempts`` and ``retry_delay`` decide; ``Hold`` waits.
"""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import Final

from hotpath.asgi.last_good.visit import ON_ABSENT
from hotpath.front.address import Unreached
from hotpath.front.admission import Arrival, Line, Ramp, Ticket
from hotpath.front.upstream import Upstream
from hotpath.guard.priorities import Priorities, Priority
from hotpath.log import Once
from hotpath.types import Scope

FIRST_DELAY: Final = 0.1
NEXT_DELAY: Final = 0.25
RAMP_SECONDS: Final = 1.0

# Nothing of these changes anything when it is done twice (RFC 9110 §9.2.2), provided that no body has to come again.
_REPEATABLE: Final = frozenset(("GET", "HEAD", "OPTIONS", "PUT", "DELETE"))
MAX_SENDINGS: Final = 2

# Who was refused together must not come back together.
RETRY_AFTER: Final = 3
RETRY_SPREAD: Final = 5


class Next(Enum):
    """What follows when a connection broke."""

    WAIT = "wait"  # nothing was sent: any method is tried again when somebody listens
    AGAIN = "again"  # sent, and nothing of an answer was passed on, or nobody read it: once more
    BAD_GATEWAY = "bad gateway"  # it may have been done: the client must know
    BREAK = "break"  # part of the answer is with the client: it must see that the rest is missing


def is_repeatable(method: str, *, has_body: bool) -> bool:
    """Whether a request may be sent twice."""
    return method in _REPEATABLE and not has_body


class Attempts:
    """What became of the attempts to send one request, and what follows the next that fails."""

    __slots__ = ("_is_repeatable", "_sent", "_unread")

    def __init__(self, *, is_repeatable: bool) -> None:
        self._is_repeatable = is_repeatable
        self._sent = 0
        self._unread = 0

    def broke(self, *, is_sent: bool = True, is_unread: bool = False, is_passed_on: bool = False) -> Next:
        """The connection broke: count it, and say what follows.

        What nobody has read (``is_unread``) is as if it had not been sent. But at first another connection may do: of
        several processes one has died, or the app closed one that was idle.
        """
        if not is_sent:
            return Next.WAIT
        if is_passed_on:
            return Next.BREAK
        if is_unread:
            self._unread += 1
            return Next.WAIT if self._unread > 1 else Next.AGAIN
        self._sent += 1
        return Next.AGAIN if self._is_repeatable and self._sent < MAX_SENDINGS else Next.BAD_GATEWAY


def retry_delay(attempt: int) -> float:
    """Seconds before connection attempt number ``attempt``, after the first one failed."""
    return FIRST_DELAY if attempt == 0 else NEXT_DELAY


def retry_after(number: int) -> int:
    """Seconds for ``Retry-After`` of refusal number ``number``."""
    return RETRY_AFTER + number % RETRY_SPREAD


class Unavailable(Exception):
    """The request gets 503: the line was full (``is_full``), or the wait was over."""

    def __init__(self, *, is_full: bool) -> None:
        super().__init__("the line is full" if is_full else "the wait is over")
        self.is_full = is_full


class Stay:
    """One request's way through: it has a place in the app while ``is_in``, and waits until ``deadline`` at most."""

    __slots__ = ("_hold", "deadline", "is_in", "number", "scope", "ticket")

    def __init__(self, hold: Hold, scope: Scope, number: int, deadline: float) -> None:
        self._hold = hold
        self.scope = scope
        self.number = number
        self.deadline = deadline
        self.ticket: Ticket | None = None
        self.is_in = False

    def app_is_absent(self) -> None:
        """Tell last good answers, where there are any, that the app is not there."""
        if (on_absent := self.scope.get(ON_ABSENT)) is not None:
            on_absent()

    def leave(self) -> None:
        """The request has ended, or it needs its place no longer."""
        if self.is_in:
            self.is_in = False
            self._hold.give_back()


class Hold:
    """Places in the app, the line before it, and the look-out for an app that is down.

    At most ``in_flight`` requests are in the app, at most ``waiting`` wait, none longer than ``hold_seconds`` in all.
    Time in an app that breaks off is not counted: who was in one that hung until it was killed waits for the next.
    """

    def __init__(
        self, upstream: Upstream, *, hold_seconds: float, in_flight: int, waiting: int, priorities: Priorities
    ) -> None:
        self.hold_seconds = hold_seconds
        self._upstream = upstream
        self._priorities = priorities
        self._once = Once()
        self._ramp = Ramp(in_flight)
        self._line = Line(waiting)
        self._active = 0
        self._futures: dict[Ticket, asyncio.Future[None]] = {}
        self._stays: dict[Ticket, Stay] = {}
        # Whether the last attempt to connect has shown it; until the next one succeeds or the address changes.
        self._is_absent = False
        self._probing: asyncio.Task[None] | None = None
        self._ramp_timer: asyncio.TimerHandle | None = None
        upstream.on_change(self._changed)

    @property
    def has_room(self) -> bool:
        """Whether a request that comes now goes to the app at once."""
        return self._active < self._ramp.limit and not self._line and not self._upstream.is_paused

    def try_enter(self, stay: Stay) -> bool:
        """Take a place if one is free and nobody waits for it."""
        stay.is_in = self.take()
        return stay.is_in

    def take(self) -> bool:
        """The same for who gives the place back himself."""
        if not self.has_room:
            return False
        self._active += 1
        return True

    def stay(self, scope: Scope) -> Stay:
        """The way of a request that comes now."""
        return Stay(self, scope, self._line.number(), asyncio.get_running_loop().time() + self.hold_seconds)

    async def enter(self, stay: Stay) -> None:
        """Wait for a place. Raises ``Unavailable``."""
        ticket = stay.ticket = self._ticket(stay)
        entry, loser = self._line.enter(ticket)
        if loser is not None:
            self._futures.pop(loser).set_exception(Unavailable(is_full=True))
        if entry is Arrival.REFUSED:
            raise Unavailable(is_full=True)
        if not self._upstream.is_up:
            if self._probing is not None and self._is_absent and not self._upstream.is_paused:
                stay.app_is_absent()
            self._look_out(0.0)
        await self._wait(stay, ticket)

    async def enter_again(self, stay: Stay, reason: str, *, is_absent: bool = False) -> None:
        """Nobody took the connection: wait until somebody does. Raises ``Unavailable`` when the time is over."""
        self._fall(reason)
        self._is_absent = is_absent
        if is_absent:
            stay.app_is_absent()
        stay.leave()
        ticket = stay.ticket = stay.ticket or self._ticket(stay)
        self._line.put_back(ticket)
        self._look_out(retry_delay(0))
        await self._wait(stay, ticket)

    def answered(self) -> None:
        """The app has begun to answer a request."""
        if not self._ramp.is_full:
            self._ramp.grow()
            self._admit()

    def give_back(self) -> None:
        """A place is free."""
        self._active -= 1
        self._admit()

    def close(self) -> None:
        """Look out no longer."""
        if self._probing is not None:
            self._probing.cancel()
        if self._ramp_timer is not None:
            self._ramp_timer.cancel()
            self._ramp_timer = None

    def _ticket(self, stay: Stay) -> Ticket:
        try:
            priority = self._priorities.of(stay.scope)
        except Exception as problem:
            # A function of the user's; a request that it fails on is a read like any other.
            priority = Priority.P2
            self._once.warn(f"priorities= failed on a request, which counts as P2: {problem!r}", "priorities")
        # Its number is that of its arrival: who was in the app when it died goes before who came afterwards, and is
        # less likely to be in it at the next death, which is a 502.
        return Ticket(priority, stay.number)

    async def _wait(self, stay: Stay, ticket: Ticket) -> None:
        future = self._futures[ticket] = asyncio.get_running_loop().create_future()
        self._stays[ticket] = stay
        self._upstream.queued = len(self._line)
        if self._upstream.held:
            self._upstream.counters.held += 1
        try:
            async with asyncio.timeout_at(stay.deadline):
                await future
        except TimeoutError:
            self._abandon(ticket, future)
            raise Unavailable(is_full=False) from None
        except asyncio.CancelledError:
            self._abandon(ticket, future)
            raise
        finally:
            self._futures.pop(ticket, None)
            del self._stays[ticket]
            self._upstream.queued = len(self._line)
        stay.is_in = True

    def _abandon(self, ticket: Ticket, future: asyncio.Future[None]) -> None:
        """Leave the line, or give back the place that came at the last moment."""
        if not self._line.leave(ticket) and future.done() and not future.cancelled() and not future.exception():
            self.give_back()

    def _admit(self) -> None:
        """Let in as many as there is room for."""
        if not self._line or self._upstream.is_paused:
            return
        while self._active < self._ramp.limit and (ticket := self._line.first()) is not None:
            self._active += 1
            self._futures[ticket].set_result(None)
        self._upstream.queued = len(self._line)

    def _changed(self) -> None:
        """After a pause, a resume or a switch."""
        if not self._upstream.is_up:
            self._is_absent = False  # of a new address nothing is known
            if self._probing is not None:
                self._probing.cancel()
                self._probing = None
            if self._line:
                self._look_out(0.0)
        self._admit()

    def _fall(self, reason: str) -> None:
        self._ramp.fall()
        self._upstream.mark(is_up=False, reason=reason)

    def _look_out(self, delay: float) -> None:
        if self._probing is None:
            self._probing = asyncio.get_running_loop().create_task(self._probe(delay))

    async def _probe(self, delay: float) -> None:
        """Try to connect until that succeeds, as long as somebody waits for it."""
        try:
            while True:
                await asyncio.sleep(delay)
                delay = NEXT_DELAY
                if not self._line:
                    return
                try:
                    await self._upstream.probe()
                    break
                except Unreached as problem:
                    self._note_absence(problem.is_absent)
        finally:
            if self._probing is asyncio.current_task():
                self._probing = None
        self._ramp.start(self._active)
        self._upstream.mark(is_up=True)
        self._admit()
        if self._ramp_timer is None:
            self._ramp_timer = asyncio.get_running_loop().call_later(RAMP_SECONDS, self._grow)

    def _note_absence(self, is_absent: bool) -> None:
        self._is_absent = is_absent
        if is_absent and not self._upstream.is_paused:
            for stay in self._stays.values():
                stay.app_is_absent()

    def _grow(self) -> None:
        self._ramp_timer = None
        self._ramp.grow()
        self._admit()
        if not self._ramp.is_full:
            self._ramp_timer = asyncio.get_running_loop().call_later(RAMP_SECONDS, self._grow)
