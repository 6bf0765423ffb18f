"""The app as the front sees it: where it is, whether it is up, and the connections to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from hotpath.front.address import Address, Unreached
from hotpath.front.wire import Wire
from hotpath.log import logger
from hotpath.options import parse_seconds
from hotpath.types import Scope

# A retransmitted SYN comes after a second and after three; loopback and a local network need milliseconds.
CONNECT_SECONDS: Final = 3.0
KEEP_IDLE: Final = 64


@dataclass(slots=True)
class Counters:
    """What became of requests since the start."""

    forwarded: int = 0
    held: int = 0
    refused: int = 0
    timed_out: int = 0
    retried: int = 0
    bad_gateway: int = 0
    broken: int = 0
    cancelled: int = 0


@dataclass(slots=True, eq=False)
class Endpoint:
    """One address with its connections."""

    address: Address
    in_flight: int = 0
    idle: deque[Wire] = field(default_factory=deque)
    is_empty: asyncio.Event = field(default_factory=asyncio.Event)

    def close_idle(self) -> None:
        """Close the connections that nobody uses."""
        while self.idle:
            self.idle.pop().close()


@dataclass(slots=True)
class Lease:
    """A connection for one request."""

    place: Endpoint
    wire: Wire


class Upstream:
    """The app: its address, which may change, its state, and what passes.

    ``observe``, where it is set, is called with the scope, the status and the seconds from the request's head to the
    answer's. Everything here belongs to the event loop of the front.
    """

    def __init__(self, address: Address, *, connect_seconds: float = CONNECT_SECONDS) -> None:
        self.connect_seconds = parse_seconds(connect_seconds, "connect_seconds")
        self.is_up = True
        self.counters = Counters()
        self.observe: Callable[[Scope, int, float], None] | None = None
        self.queued = 0
        self._place = Endpoint(address)
        self._old: list[Endpoint] = []
        self._listeners: list[Callable[[], None]] = []
        self._resume_timer: asyncio.TimerHandle | None = None

    @property
    def address(self) -> Address:
        """Where new requests go."""
        return self._place.address

    @property
    def in_flight(self) -> int:
        """Requests and WebSockets in the app, at the old addresses too."""
        return self._place.in_flight + sum(place.in_flight for place in self._old)

    @property
    def is_paused(self) -> bool:
        """Whether everything waits on purpose."""
        return self._resume_timer is not None

    @property
    def held(self) -> int:
        """Requests that wait because the app is down or paused."""
        return self.queued if self.is_paused or not self.is_up else 0

    @property
    def waiting(self) -> int:
        """Requests that wait because the app has enough to do."""
        return self.queued - self.held

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` after each pause, resume and switch."""
        self._listeners.append(listener)

    def pause(self, max_seconds: float) -> None:
        """Hold all new requests until ``resume``, for ``max_seconds`` at most. Requests in the app go on."""
        seconds = parse_seconds(max_seconds, "max_seconds")
        self._end_pause()
        self._resume_timer = asyncio.get_running_loop().call_later(seconds, self._expire, seconds)
        self._tell()

    def resume(self) -> None:
        """Let requests pass again."""
        self._end_pause()
        self._tell()

    def switch(self, address: Address) -> None:
        """Send new requests to ``address``; requests at the old one end there."""
        if address != self.address:
            old = self._place
            old.close_idle()
            self._place = next((place for place in self._old if place.address == address), None) or Endpoint(address)
            self._old = [place for place in (*self._old, old) if place is not self._place and place.in_flight]
        self._tell()

    async def drained(self, address: Address, seconds: float) -> bool:
        """Wait until nothing is in flight at ``address``. False after ``seconds``."""
        place = next((place for place in (*self._old, self._place) if place.address == address), None)
        if place is None or not place.in_flight:
            return True
        place.is_empty.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(place.is_empty.wait(), seconds)
        return not place.in_flight

    async def lease(self, *, is_fresh: bool) -> Lease:
        """A connection to the current address, a new one where ``is_fresh``. Raises ``Unreached``."""
        place = self._place
        wire = None if is_fresh else self._kept(place)
        place.in_flight += 1
        try:
            if wire is None:  # its truth is another matter: aiohttp's protocol is a queue
                wire = await place.address.connect(self.connect_seconds)
            return Lease(place, wire)
        except BaseException:
            self._leave(place)
            raise

    def kept_lease(self) -> Lease | None:
        """An open connection to the current address that nobody uses; ``None`` where a new one has to be made."""
        place = self._place
        wire = self._kept(place) if place.idle else None
        if wire is None:
            return None
        place.in_flight += 1
        return Lease(place, wire)

    def release(self, lease: Lease, *, is_kept: bool) -> None:
        """The request has ended. Only a connection that is whole is kept for another."""
        place, wire = lease.place, lease.wire
        self._leave(place)
        if is_kept and place is self._place and wire.is_usable:
            self._keep(place, wire)
        else:
            wire.close()

    def suspect_kept(self) -> None:
        """A connection broke: the others came from the same process."""
        self._place.close_idle()

    async def probe(self) -> None:
        """See whether the app takes connections. Raises ``Unreached``."""
        place = self._place
        wire = await place.address.connect(self.connect_seconds)
        if place is not self._place:
            wire.close()
            raise Unreached("the address has changed")
        self._keep(place, wire)

    def mark(self, is_up: bool, reason: str = "") -> None:
        """Note whether the app takes connections, and log that when it changes. For ``Hold``, which lets nobody pass
        meanwhile.
        """
        if is_up == self.is_up:
            return
        self.is_up = is_up
        if is_up:
            logger.warning("hotpath: the app at %s is back", self.address)
            self._tell()
        else:
            self._place.close_idle()
            logger.warning("hotpath: the app at %s is not there (%s): requests wait for it", self.address, reason)

    def enter(self, place: Endpoint | None = None) -> Endpoint:
        """Count a WebSocket in, whose connection is its own."""
        place = place or self._place
        place.in_flight += 1
        return place

    def leave(self, place: Endpoint) -> None:
        """Count it out."""
        self._leave(place)

    def close(self) -> None:
        """Close idle connections and end a pause."""
        self._end_pause()
        self._place.close_idle()

    def _kept(self, place: Endpoint) -> Wire | None:
        while place.idle:
            wire = place.idle.pop()
            if wire.is_usable and wire.is_young:
                return wire
            wire.close()
        return None

    def _keep(self, place: Endpoint, wire: Wire) -> None:
        wire.note_idle()
        place.idle.append(wire)
        while len(place.idle) > KEEP_IDLE or not place.idle[0].is_young:
            place.idle.popleft().close()

    def _leave(self, place: Endpoint) -> None:
        place.in_flight -= 1
        if not place.in_flight:
            place.is_empty.set()
            if place in self._old:
                self._old.remove(place)

    def _expire(self, seconds: float) -> None:
        logger.warning("hotpath: the pause ended by itself after %g s", seconds)
        self.resume()

    def _end_pause(self) -> None:
        if self._resume_timer is not None:
            self._resume_timer.cancel()
            self._resume_timer = None

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()
