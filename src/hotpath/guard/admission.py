"""Who may go on to the app: asked by every request that no hot page answers, updated by the guard's thread.

While nothing is wrong the question is one attribute, ``open``. All else is decided here by what the last sample left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Final

import anyio

from hotpath.guard.bodies import (
    BODY_FIELDS,
    LARGE_BYTES,
    MAX_FACTOR,
    MAX_FIELDS,
    SMALL_BYTES,
    YOUNG_SECONDS,
    Bodies,
    Body,
    body_length,
)
from hotpath.guard.metering import Metered
from hotpath.guard.outlook import Outlook
from hotpath.guard.priorities import READS, Priorities, Priority, local_path
from hotpath.guard.refusal import Refusal, Refusals
from hotpath.guard.route_costs import RouteCosts, route_of
from hotpath.guard.states import Position, State, Thresholds, seconds_to_leave
from hotpath.log import logger
from hotpath.types import ASGIApp, Header, Message, Scope

# Share of the limit that one body may have; a larger one could be let in on no route.
BODY_SHARE: Final = 0.5
# Requests that are limited first are all refused from this point between SHED's and BRAKE's watermark on.
_ALL_FROM: Final = 0.5
# Concurrency in SHED falls by a fifth each time while memory grows, and rises by one each time it does not.
_FEWER: Final = 0.8
_CONCURRENCY_MINIMUM: Final = 4
_CONCURRENCY_SECONDS: Final = 0.5

# A request that runs for longer is a stream. The growth since it came is not its own, its reservation ends, and it does
# not count as one in flight, since it may stay for hours.
LASTING_SECONDS: Final = 60.0

# Maximum refusals a second that close their connection. A new connection costs a server three times what a refusal
# does, so a client that sends thousands must not have to open as many.
CLOSES_PER_SECOND: Final = 100

# Maximum wait of a request of a dear route for those before it, to see whether they take what is reserved for them.
WAIT_SECONDS: Final = YOUNG_SECONDS
_LOOKS: Final = 20


def chance_of_refusal(outlook: Outlook, thresholds: Thresholds) -> float:
    """In SHED, for what is limited before others: rises with the share in use, and as time to exhaustion falls.

    Begins where SHED is left, and is 1 half way to BRAKE.
    """
    shed, brake = thresholds.shed, thresholds.brake
    middle = shed.enter + _ALL_FROM * (brake.enter - shed.enter)
    chance = (outlook.share - shed.leave) / (middle - shed.leave)
    if outlook.seconds_left < shed.seconds_left and outlook.share >= thresholds.exhaustion_from:
        # A half where SHED begins, 1 before BRAKE does.
        span = shed.seconds_left - brake.seconds_left
        chance = max(chance, 0.5 + ((shed.seconds_left - outlook.seconds_left) / span if span > 0 else 1.0))
    return min(1.0, max(0.0, chance))


@dataclass(slots=True, eq=False)
class _Admitted:
    """A request in the app: since when, what was in use before it, and what was reserved for it. Bytes, seconds.

    ``moved_at`` is when the process was last seen to grow by it; ``taken`` by how much in all.
    """

    scope: Scope
    at: float
    before: tuple[int, int]
    reserved: int = 0
    moved_at: float = float("-inf")
    taken: int = 0


class Admission:
    """The gate. ``update`` and ``learn`` belong to the guard's thread, all else to the event loop.

    Whoever lets a request in by ``let_in`` or ``enter`` calls the app as ``app_for`` gives it, and then ``leave``.
    """

    # Long by the comments beside its attributes.
    def __init__(
        self,
        priorities: Priorities,
        thresholds: Thresholds,
        *,
        readiness: Collection[str],
        fields: Collection[Header] = (),
        clock: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        # Requests in the app, by the id of their scope.
        self.flights: dict[int, Scope] = {}
        # The same while nothing has to be decided: no state that refuses, no dear route, no hard limit. Then ``let_in``
        # asks no more than whether there is a body.
        self.open: dict[int, Scope] | None = None
        self.asks_always = False
        self.used = self.own = 0
        self.costs = RouteCosts()
        self.shed: Counter[tuple[str, str]] = Counter()
        self.errors = 0
        self.is_ready = True
        self.is_leaving = False
        self._priorities = priorities
        self._thresholds = thresholds
        self._readiness = frozenset(readiness)
        self._clock = clock
        self._chance = chance
        self._state = State.NORMAL
        self._limit = 0
        self._headroom = 0
        self._chance_of_refusal = 0.0
        # BRAKE because memory is used up, not because it would be at the present growth.
        self._is_full = False
        self.bodies = Bodies()
        self._reserved: dict[int, _Admitted] = {}
        # Those of dear routes that wait for others, with what they will need.
        self._waiting: dict[int, int] = {}
        # The ids of those that more than ``flights`` has to forget.
        self._noted: set[int] = set()
        # Those that ran at the last sample; the guard's thread's own.
        self._seen: dict[int, _Admitted] = {}
        self._streams = self._sockets = 0
        self._before = (0, 0)
        self._most_in_flight: int | None = None
        self._adapted = float("-inf")
        self._fields = fields
        self._refusals = Refusals(thresholds.shed.dwell_seconds, fields)
        self._closes = 0
        self._closes_since = float("-inf")

    def let_in(self, scope: Scope) -> bool:
        """Let a GET in at once while nothing has to be decided; else ``enter`` decides."""
        flights = self.open
        if flights is None or scope.get("method") != "GET" or scope.get("http_version") == "2":
            return False
        headers = scope["headers"]
        if len(headers) > MAX_FIELDS:
            return False
        # The shorter forms, and one call more, each cost a third of all this.
        for name, _ in headers:
            if name in BODY_FIELDS:
                return False
        flights[id(scope)] = scope
        return True

    def enter(self, scope: Scope, *, is_hot: bool = False) -> Refusal | None:
        """Let a request in, or say how to refuse it. ``is_hot``: its path is a hot page's whose bytes are missing, or
        it is the preflight of one.
        """
        refused = self._decide(scope, is_hot)
        if refused is not None:
            priority, status, reason = refused
            self.shed[priority.name, reason] += 1
            return self._pick(status, scope)
        if scope["type"] == "websocket" and id(scope) not in self.flights:
            self._sockets += 1
            self._noted.add(id(scope))
        self.flights[id(scope)] = scope
        return None

    def app_for(self, scope: Scope, app: ASGIApp) -> ASGIApp:
        """The app for a request that was let in: behind what counts its body, and what it has to wait for."""
        body = self.bodies.get(scope)
        if body is None and id(scope) not in self._waiting:
            return app
        return Metered(
            app,
            wait=partial(self._wait_for_room, scope),
            take=partial(self._take_body, body),
            refuse=partial(self.refusal, scope),
        )

    def leave(self, scope: Scope) -> None:
        """The app is done with it."""
        key = id(scope)
        was_in = self.flights.pop(key, None) is not None
        if self._noted and key in self._noted:
            self._noted.discard(key)
            self._sockets -= was_in and scope["type"] == "websocket"
            self._reserved.pop(key, None)
            self._waiting.pop(key, None)
            self.bodies.close(scope, self._clock())

    def restart(self) -> None:
        """Forget what runs, in a forked child: all of it is the parent's. The guard starts with the next request."""
        self.flights.clear()
        self._reserved.clear()
        self._waiting.clear()
        self._noted.clear()
        self._seen.clear()
        self.bodies.clear()
        self._streams = self._sockets = 0
        self.open = None

    @property
    def in_flight(self) -> int:
        """Requests in the app now, WebSockets too."""
        return len(self.flights)

    def _requests(self) -> int:
        """Requests without WebSockets and streams, which the last sample counted."""
        return len(self.flights) - self._sockets - self._streams

    def refusal(self, scope: Scope, reason: str) -> Refusal:
        """503 for a request that was let in and could not be served."""
        self.shed[self._priority(scope).name, reason] += 1
        return self._pick(503, scope)

    def _pick(self, status: int, scope: Scope) -> Refusal:
        headers = scope["headers"]
        return self._refusals.pick(status, headers, self._chance(), closes=self._closes_connection(headers))

    def _closes_connection(self, headers: Collection[Header]) -> bool:
        """A process that leaves closes all, and a body that nobody reads has to be got rid of (RFC 9112 §9.3)."""
        if self.is_leaving or body_length(headers) != 0:
            return True
        at = self._clock()
        if at - self._closes_since >= 1.0:
            self._closes, self._closes_since = 0, at
        self._closes += 1
        return self._closes <= CLOSES_PER_SECOND

    def update(
        self, position: Position, outlook: Outlook | None, *, limit: int, used: int, own: int, is_ready: bool
    ) -> None:
        """What holds from now on. ``used`` and what of it this process made, ``own``, are in bytes; ``outlook`` is
        ``None`` when nothing could be read.
        """
        at = self._clock()
        if position.state is not self._state:
            self._refusals = Refusals(seconds_to_leave(position, at, self._thresholds), self._fields)
        if outlook is not None:
            self._limit, self._headroom = limit, outlook.headroom
            self._before = (self.used or used, self.own or own)
            self.used, self.own = used, own
            self._chance_of_refusal = chance_of_refusal(outlook, self._thresholds)
            is_full = outlook.share >= self._thresholds.brake.enter or outlook.headroom < outlook.least_reserve
            self._is_full = position.state is State.BRAKE and (is_full or self._is_full)
        self._follow_flights(at)
        self._adapt(position.state, at, growing=outlook is None or outlook.growth > 0)
        self.is_ready = is_ready
        self._state = position.state
        is_open = position.state in (State.NORMAL, State.TRIM) and is_ready and not len(self.costs)
        self.open = self.flights if is_open and not self.asks_always else None

    def learn(self, at: float) -> None:
        """What each request in the app has taken so far: the growth since it came. Bodies explain it first, up to
        ``MAX_FACTOR`` times what has arrived; the rest is shared among all that run. So nobody charges what his upload
        takes to a route of others by opening requests there.
        """
        running = [
            (flight, self.bodies.get(flight.scope))
            for flight in self._seen.values()
            if flight.scope["type"] == "http" and at - flight.at < LASTING_SECONDS
        ]
        running = [(flight, body) for flight, body in running if body is None or not body.is_idle(at)]
        received = sum(body.received for _, body in running if body is not None)
        for flight, body in running:
            grown = self._grown(flight.before)
            if body is not None and body.received:
                body.note_growth(max(0, grown) * body.received // received, at)
            rest = int(grown - MAX_FACTOR * received) // len(running)
            if rest > 0:
                self.costs.note(route_of(flight.scope["method"], flight.scope["path"]), rest, at)
        for flight in list(self._reserved.values()):
            grown = self._grown(flight.before)
            if grown > flight.taken + LARGE_BYTES:
                flight.taken, flight.moved_at = grown, at

    def _follow_flights(self, at: float) -> None:
        seen = {}
        for key, scope in list(self.flights.items()):
            known = self._seen.get(key)
            # An id comes again with another scope.
            seen[key] = known if known is not None and known.scope is scope else _Admitted(scope, at, self._before)
        self._seen = seen
        self._streams = sum(
            flight.scope["type"] == "http" and at - flight.at >= LASTING_SECONDS for flight in seen.values()
        )

    def _grown(self, before: tuple[int, int]) -> int:
        """What the requests of this process took since then: no more than the process grew, since the other workers of
        the group have requests of their own, and no more than the group did, since it may be page cache.
        """
        return min(self.used - before[0], self.own - before[1])

    def _adapt(self, state: State, at: float, *, growing: bool) -> None:
        if state is not State.SHED:
            self._most_in_flight = None
        elif self._most_in_flight is None:
            self._most_in_flight, self._adapted = max(_CONCURRENCY_MINIMUM, self._requests()), at
        elif at - self._adapted >= _CONCURRENCY_SECONDS:
            most = int(self._most_in_flight * _FEWER) if growing else self._most_in_flight + 1
            self._most_in_flight, self._adapted = max(_CONCURRENCY_MINIMUM, most), at

    def _priority(self, scope: Scope) -> Priority:
        try:
            return self._priorities.of(scope)
        except Exception:
            # A function of the user's; a request that it fails on is a read like any other.
            self.errors += 1
            if self.errors == 1:
                logger.exception("priority= failed on a request, which counts as P2; later failures are only counted")
            return Priority.P2

    def _decide(self, scope: Scope, is_hot: bool) -> tuple[Priority, int, str] | None:
        if not self.is_ready and local_path(scope) in self._readiness:
            return Priority.P1, 503, "readiness"
        priority = Priority.P1 if is_hot else self._priority(scope)
        state = self._state
        if scope["type"] == "websocket":
            if priority <= Priority.P1:
                return None
            if state in (State.SHED, State.BRAKE, State.DRAIN):
                return priority, 503, "handshake"
            return (priority, 503, "blind") if state is State.BLIND and self._is_crowded() else None
        at, length = self._clock(), body_length(scope["headers"])
        has_large_body = length is None or length > SMALL_BYTES
        route = route_of(scope["method"], scope["path"])
        refused = None
        if has_large_body or priority is not Priority.P0:
            refused = self._decide_body(length, route, state, at)
        if refused is None and priority > Priority.P1:
            cost = self.costs.expected(route, at) if len(self.costs) else 0
            is_least = priority is Priority.P3 and scope["method"] in READS
            refused = self._decide_state(state, is_first=has_large_body or cost > 0 or is_least)
            if refused is None and cost:
                refused = self._decide_cost(scope, state, cost, at)
        if refused is not None:
            return (priority, *refused)
        # HTTP/2 and 3 need no field to send a body (RFC 9113 §8.1).
        if length != 0 or not str(scope.get("http_version", "1.1")).startswith("1"):
            self.bodies.open(scope, route, length or None, at)
            self._noted.add(id(scope))
        return None

    def _decide_body(self, length: int | None, route: str, state: State, at: float) -> tuple[int, str] | None:
        if length == 0:
            return None
        is_large = length is None or length > SMALL_BYTES
        if state is State.DRAIN or (state is State.BRAKE and (self._is_full or is_large)):
            return 503, "body"
        if length is None or not is_large:
            return None
        if state is State.BLIND:
            return (503, "body") if length > LARGE_BYTES else None
        if self._limit and length > BODY_SHARE * self._limit:
            return 413, "body"
        cost = length * self.bodies.factors.expected(route, at)
        return (503, "body") if self._limit and not self.bodies.fits(cost, at, self._headroom) else None

    def _take_body(self, body: Body | None, message: Message) -> bool:
        """Whether the app may have what has arrived."""
        if body is None:
            return True
        at = self._clock()
        is_promised = body.length is not None and at - body.at < YOUNG_SECONDS
        body.received += len(message.get("body") or b"")
        body.at, body.is_complete = at, not message.get("more_body", False)
        if body.received <= SMALL_BYTES or is_promised:
            return True
        if self._state is State.BLIND:
            return body.received <= LARGE_BYTES
        if body.length is None and (self._is_full or self._state is State.DRAIN):
            return False
        return not self._limit or self.bodies.fits(body.promised(at), at, self._headroom, beside=body)

    def _is_crowded(self) -> bool:
        return self._requests() >= self._thresholds.blind_in_flight

    def _decide_state(self, state: State, *, is_first: bool) -> tuple[int, str] | None:
        """``is_first``: it is limited before others, for its body or since its route was seen to grow."""
        if state in (State.NORMAL, State.TRIM):
            return None
        if state is State.BLIND:
            return (503, "blind") if self._is_crowded() else None
        if state is State.DRAIN or (state is State.BRAKE and (self._is_full or is_first)):
            return 503, state.name.lower()
        if is_first and self._chance() < self._chance_of_refusal:
            return 503, "shed"
        # Where a route is known to grow, the others do not wait for it.
        most = self._most_in_flight if is_first or not len(self.costs) else None
        return (503, "concurrency") if most is not None and self._requests() >= most else None

    def _promised(self, at: float) -> int:
        """What the requests of dear routes may still take: those that are young, or were just seen to grow."""
        return sum(
            max(0, flight.reserved - max(0, self._grown(flight.before)))
            for flight in self._reserved.values()
            if at - max(flight.at, flight.moved_at) < YOUNG_SECONDS
        )

    def _decide_cost(self, scope: Scope, state: State, cost: int, at: float) -> tuple[int, str] | None:
        """Reserve what a request of this route was seen to take; what those that run have taken is in the headroom.

        What fits by itself is not refused for what others might take before SHED: it waits a moment.
        """
        if cost > self._headroom:
            return 503, "cost"
        if cost + self._promised(at) <= self._headroom:
            self._reserve(scope, cost, at)
        elif state in (State.NORMAL, State.TRIM):
            self._waiting[id(scope)] = cost
            self._noted.add(id(scope))
        else:
            return 503, "cost"
        return None

    def _reserve(self, scope: Scope, cost: int, at: float) -> None:
        self._reserved[id(scope)] = _Admitted(scope, at, (self.used, self.own), cost)
        self._noted.add(id(scope))

    async def _wait_for_room(self, scope: Scope) -> bool:
        """Wait until those that came before have taken what they may, or a second: whether there is room now."""
        cost = self._waiting.get(id(scope))
        if cost is None:
            return True
        for _ in range(_LOOKS):
            if cost + self._promised(self._clock()) <= self._headroom:
                break
            await anyio.sleep(WAIT_SECONDS / _LOOKS)
        if cost > self._headroom:
            return False
        self._waiting.pop(id(scope), None)
        self._reserve(scope, cost, self._clock())
        return True
