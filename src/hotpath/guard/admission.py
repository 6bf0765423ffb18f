"""Who may go on to the app: asked by every request that no hot page answers, updated by the guard's thread.

While nothing is wrong the question is one attribute, ``open``. All else is decided here by what the last sample left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from hotpath.guard.outlook import Outlook
from hotpath.guard.priorities import Priorities, Priority, local_path
from hotpath.guard.refusal import Refusal, Refusals
from hotpath.guard.route_costs import RouteCosts, route_of
from hotpath.guard.states import Position, State, Thresholds, seconds_to_leave
from hotpath.log import logger
from hotpath.types import Header, Scope

# A body is read into memory once at least, and parsed into something larger.
BODY_SHARE: Final = 0.5
# P2 is refused from this far between SHED's and BRAKE's watermark on.
_P2_FROM: Final = 0.5
# While requests are too many, a fifth fewer each time, and one more each time the growth has stopped.
_FEWER: Final = 0.8
_CONCURRENCY_MINIMUM: Final = 4
_CONCURRENCY_SECONDS: Final = 0.5

# Whoever runs for longer is a stream: what the process has grown by since it came is not what it took, it will not take
# what was reserved for it any more, and as one that stays for hours it is no reason to refuse anybody.
LASTING_SECONDS: Final = 60.0

# So many refusals a second close their connection. A new one costs a server three times what the refusal does, so who
# sends thousands must not have to open as many; idle connections are still closed.
CLOSES_PER_SECOND: Final = 100

_WITHOUT_BODY: Final = frozenset(("GET", "HEAD", "OPTIONS"))


@dataclass(frozen=True, slots=True)
class Chances:
    """With what probability P2 and P3 are refused."""

    p2: float
    p3: float


def chances(outlook: Outlook, thresholds: Thresholds) -> Chances:
    """In SHED: both rise with the share in use, and as time to exhaustion falls; P2 later and to the same end.

    P3 begins where SHED is left and is refused altogether half way to BRAKE; there P2 begins.
    """
    shed, brake = thresholds.shed, thresholds.brake
    middle = shed.enter + _P2_FROM * (brake.enter - shed.enter)
    p3 = (outlook.share - shed.leave) / (middle - shed.leave)
    p2 = (outlook.share - middle) / (brake.enter - middle)
    if outlook.seconds_left < shed.seconds_left and outlook.share >= thresholds.exhaustion_from:
        # 0 where SHED begins, 1 where BRAKE does.
        span = shed.seconds_left - brake.seconds_left
        soon = (shed.seconds_left - outlook.seconds_left) / span if span > 0 else 1.0
        p3 = max(p3, 0.5 + soon)
        p2 = max(p2, 2 * soon - 1)
    return Chances(min(1.0, max(0.0, p2)), min(1.0, max(0.0, p3)))


@dataclass(frozen=True, slots=True)
class _Flight:
    """A request in the app: since when, what was in use before it, and what was reserved for it. Bytes, seconds."""

    scope: Scope
    at: float
    before: tuple[int, int]
    reserved: int = 0


class Admission:
    """The gate.

    The event loop calls ``let_in``, ``enter`` and ``leave``; the guard's thread calls ``update`` and ``learn``.
    """

    def __init__(
        self,
        priorities: Priorities,
        thresholds: Thresholds,
        *,
        readiness: Collection[str],
        clock: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        # Requests in the app, by the id of their scope.
        self.flights: dict[int, Scope] = {}
        # The same while nothing has to be decided: no state that refuses, no dear route, no hard limit. Then
        # ``let_in`` does not ask.
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
        self._chances = Chances(0.0, 0.0)
        self._reserved: dict[int, _Flight] = {}
        # Those that ran at the last sample; the guard's thread's own.
        self._seen: dict[int, _Flight] = {}
        self._streams = self._sockets = 0
        self._before = (0, 0)
        self._most_in_flight: int | None = None
        self._adapted = float("-inf")
        self._refusals = Refusals(thresholds.shed.dwell_seconds)
        self._closes = 0
        self._closes_since = float("-inf")

    def let_in(self, scope: Scope) -> bool:
        """Let a GET in at once while nothing has to be decided; else ``enter`` decides."""
        flights = self.open
        if flights is None or scope.get("method") != "GET":
            return False
        flights[id(scope)] = scope
        return True

    def enter(self, scope: Scope, *, is_hot: bool = False) -> Refusal | None:
        """Let a request in, or say how to refuse it. ``is_hot``: its path is a hot page's whose bytes are missing."""
        refused = self._decide(scope, is_hot)
        if refused is not None:
            priority, status, reason = refused
            self.shed[priority.name, reason] += 1
            return self._pick(status, scope)
        if scope["type"] == "websocket" and id(scope) not in self.flights:
            self._sockets += 1
        self.flights[id(scope)] = scope
        return None

    def leave(self, scope: Scope) -> None:
        """The app is done with it."""
        if self.flights.pop(id(scope), None) is not None and scope["type"] == "websocket":
            self._sockets -= 1
        if self._reserved:
            self._reserved.pop(id(scope), None)

    def restart(self) -> None:
        """Forget what runs, in a forked child: all of it is the parent's. The guard starts with the next request."""
        self.flights.clear()
        self._reserved.clear()
        self._seen.clear()
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
            self._refusals = Refusals(seconds_to_leave(position, at, self._thresholds))
        if outlook is not None:
            self._limit, self._headroom = limit, outlook.headroom
            self._before = (self.used or used, self.own or own)
            self.used, self.own = used, own
            self._chances = chances(outlook, self._thresholds)
        self._follow_flights(at)
        self._adapt(position.state, at, growing=outlook is None or outlook.growth > 0)
        self.is_ready = is_ready
        self._state = position.state
        is_open = position.state in (State.NORMAL, State.TRIM) and is_ready and not len(self.costs)
        self.open = self.flights if is_open and not self.asks_always else None

    def learn(self, at: float) -> None:
        """What each request in the app has taken so far: the growth since it came, shared among all that run."""
        running = [
            flight
            for flight in self._seen.values()
            if flight.scope["type"] == "http" and at - flight.at < LASTING_SECONDS
        ]
        for flight in running:
            taken = self._grown(flight.before) // len(running)
            if taken > 0:
                self.costs.note(route_of(flight.scope["method"], flight.scope["path"]), taken, at)

    def _follow_flights(self, at: float) -> None:
        seen = {}
        for key, scope in list(self.flights.items()):
            known = self._seen.get(key)
            # An id comes again with another scope.
            seen[key] = known if known is not None and known.scope is scope else _Flight(scope, at, self._before)
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
        if priority is Priority.P0:
            return None
        state = self._state
        if scope["type"] == "websocket":
            shedding = state in (State.SHED, State.BRAKE, State.DRAIN)
            return (priority, 503, "handshake") if shedding and priority > Priority.P1 else None
        refused = self._decide_body(scope, state, priority) or self._decide_state(state, priority)
        if refused is None and len(self.costs) and priority > Priority.P1:
            refused = self._decide_cost(scope)
        return (priority, *refused) if refused is not None else None

    def _decide_body(self, scope: Scope, state: State, priority: Priority) -> tuple[int, str] | None:
        if scope["method"] in _WITHOUT_BODY:
            return None
        length = body_length(scope["headers"])
        if length is None or length > 0:
            if state in (State.BRAKE, State.DRAIN):
                return 503, "body"
            if length is not None and self._limit and length > BODY_SHARE * self._limit:
                return 413, "body"
            if length is not None and self._limit and length > max(0.0, BODY_SHARE * self._headroom):
                return 503, "body"
        return None

    def _decide_state(self, state: State, priority: Priority) -> tuple[int, str] | None:
        if priority <= Priority.P1 or state in (State.NORMAL, State.TRIM):
            return None
        if state is State.BLIND:
            return (503, "blind") if self._requests() >= self._thresholds.blind_in_flight else None
        if state is not State.SHED:
            return 503, state.name.lower()
        if self._chance() < (self._chances.p2 if priority is Priority.P2 else self._chances.p3):
            return 503, "shed"
        most = self._most_in_flight
        return (503, "concurrency") if most is not None and self._requests() >= most else None

    def _decide_cost(self, scope: Scope) -> tuple[int, str] | None:
        """Reserve what a request of this route was seen to take; what those that run have taken is in the headroom."""
        at = self._clock()
        cost = self.costs.expected(route_of(scope["method"], scope["path"]), at)
        if not cost:
            return None
        promised = sum(
            max(0, flight.reserved - max(0, self._grown(flight.before)))
            for flight in self._reserved.values()
            if at - flight.at < LASTING_SECONDS
        )
        if cost + promised > self._headroom:
            return 503, "cost"
        self._reserved[id(scope)] = _Flight(scope, at, (self.used, self.own), cost)
        return None


def body_length(headers: Collection[Header]) -> int | None:
    """The length of a request's body: 0 without one, ``None`` where it is not said in advance (RFC 9112 §6.3)."""
    for name, value in headers:
        if name == b"content-length":
            # More digits than any body has; Python would refuse to read thousands.
            return int(value) if value.isdigit() and len(value) < 20 else None
        if name == b"transfer-encoding":
            return None
    return 0
