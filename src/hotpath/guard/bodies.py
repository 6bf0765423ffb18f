"""Bodies of requests share a budget of memory: what a body costs, how much is promised, and where one has to end.

A body is the one thing that a stranger can make a process hold. So pressure is answered here first: what all bodies
together may become is a share of the headroom, and a body of unknown length is counted while it arrives.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from hotpath.guard.route_costs import HALF_LIFE_SECONDS, MAX_ROUTES
from hotpath.types import Header, Scope

# Bodies up to this size (a login, a form, a call of an API) are not limited by themselves.
SMALL_BYTES: Final = 64 * 1024
# Maximum body where memory cannot be read, and growth below which nothing is learned.
LARGE_BYTES: Final = 1024 * 1024
# Share of the headroom that all bodies together may take.
BUDGET_SHARE: Final = 0.25
# Memory for each byte of a body (in pieces, joined, parsed), until its route was seen to take more or less.
FIRST_FACTOR: Final = 3.0
MIN_FACTOR: Final = 0.5
# Growth beyond this many times the body counts as the cost of the route.
MAX_FACTOR: Final = 10.0
# A reservation ends after this time without a byte: what an idle body holds is in the headroom already.
YOUNG_SECONDS: Final = 1.0
# Maximum fields of a head that are searched, which costs time; with more the length of the body counts as unknown.
MAX_FIELDS: Final = 200

# The fields that announce a body (RFC 9112 §6).
BODY_FIELDS: Final = frozenset((b"content-length", b"transfer-encoding"))


def body_length(headers: Collection[Header]) -> int | None:
    """The length of a request's body: 0 without one, ``None`` where it is not said in advance (RFC 9112 §6.3)."""
    if len(headers) > MAX_FIELDS:
        return None
    for name, value in headers:
        if name == b"content-length":
            # More digits than any body has; Python would refuse to read thousands.
            return int(value) if value.isdigit() and len(value) < 20 else None
        if name == b"transfer-encoding":
            return None
    return 0


@dataclass(slots=True, eq=False)
class Body:
    """The body of one request in the app. Bytes, seconds; ``length`` is ``None`` where it was not announced."""

    scope: Scope
    route: str
    length: int | None
    factor: float
    at: float
    """When it was last seen to arrive."""
    received: int = 0
    is_complete: bool = False
    taken: int = 0
    """The most that the process grew by for it, as far as samples saw it."""
    samples: int = 0

    def promised(self, at: float) -> float:
        """What it may still become that the headroom does not show."""
        size = max(self.length or 0, self.received)
        return self.factor * size if size > SMALL_BYTES and at - self.at < YOUNG_SECONDS else 0.0

    def note_growth(self, grown: int, at: float) -> None:
        """A sample saw the process larger by so much since the request came."""
        self.samples += 1
        if grown > self.taken + LARGE_BYTES:
            self.at = at  # an app that parses for seconds is still about to take what was promised
        self.taken = max(self.taken, grown)

    def is_idle(self, at: float) -> bool:
        """Whether the rest of it is not coming, so that its request can have taken nothing yet."""
        return not self.is_complete and at - self.at >= YOUNG_SECONDS


class Factors:
    """How many bytes a route makes of each byte of its bodies; ``FIRST_FACTOR`` where nothing is known of it.

    More counts at once, less by half of the way each time; what was learned fades.
    """

    def __init__(self) -> None:
        self._seen: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def expected(self, route: str, at: float) -> float:
        """The factor to reckon with."""
        seen = self._seen.get(route)
        if seen is None:
            return FIRST_FACTOR
        faded: float = 0.5 ** (max(0.0, at - seen[0]) / HALF_LIFE_SECONDS)
        return FIRST_FACTOR + (seen[1] - FIRST_FACTOR) * faded

    def note(self, route: str, factor: float, at: float) -> None:
        """One request of ``route`` took so many times its body."""
        known = self.expected(route, at)
        learned = factor if factor > known else (factor + known) / 2
        self._seen[route] = (at, min(MAX_FACTOR, max(MIN_FACTOR, learned)))
        self._seen.move_to_end(route)
        while len(self._seen) > MAX_ROUTES:
            self._seen.popitem(last=False)


class Bodies:
    """The bodies in the app. Belongs to the event loop; the guard's thread asks with ``get`` and notes growth."""

    def __init__(self) -> None:
        self.factors = Factors()
        self._open: dict[int, Body] = {}

    def get(self, scope: Scope) -> Body | None:
        """The body of a request in the app, if it has one."""
        return self._open.get(id(scope))

    def clear(self) -> None:
        """Forget all, in a forked child."""
        self._open.clear()

    def fits(self, size: float, at: float, headroom: int, *, beside: Body | None = None) -> bool:
        """Whether ``size`` bytes more fit into the budget; ``beside`` is the one they are for."""
        promised = sum(body.promised(at) for body in self._open.values() if body is not beside)
        return promised + size <= BUDGET_SHARE * headroom

    def open(self, scope: Scope, route: str, length: int | None, at: float) -> Body:
        """A request with a body was let in."""
        body = Body(scope, route, length, self.factors.expected(route, at), at)
        self._open[id(scope)] = body
        return body

    def close(self, scope: Scope, at: float) -> None:
        """The app is done with it: what its route makes of bodies is learned."""
        body = self._open.pop(id(scope), None)
        # One sample may have come before or after all of it.
        if body is not None and body.received >= LARGE_BYTES and body.samples > 1:
            self.factors.note(body.route, body.taken / body.received, at)
