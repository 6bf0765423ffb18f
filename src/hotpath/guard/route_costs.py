"""What a request of a route was seen to take of memory: a maximum that fades, for a bounded number of routes."""

from __future__ import annotations

import re
from collections import OrderedDict

# Minimum cost that counts: less is noise of the allocator and of other requests.
LEAST_BYTES = 4 * 1024 * 1024

# Costs fade, so that a route that was fixed, or refused for its cost, is tried again.
HALF_LIFE_SECONDS = 600.0

MAX_ROUTES = 256
MAX_SEGMENTS = 8

_VARIABLE = re.compile(r".*\d.*|[0-9a-fA-F-]{16,}|.{33,}")


def route_of(method: str, path: str) -> str:
    """``GET /reports/{}``: segments that hold a digit or are very long are taken for parameters."""
    segments = path.split("/")[: MAX_SEGMENTS + 1]
    return method + " " + "/".join(["{}" if _VARIABLE.fullmatch(segment) else segment for segment in segments])


class RouteCosts:
    """The most that one request of each route took, in bytes. Times are monotonic seconds."""

    def __init__(self, *, half_life_seconds: float = HALF_LIFE_SECONDS, maximum: int = MAX_ROUTES) -> None:
        self._half_life = half_life_seconds
        self._maximum = maximum
        self._seen: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def note(self, route: str, taken_bytes: int, at: float) -> None:
        """One request of ``route`` has taken so much. Counts where it is more than what is left of the maximum."""
        if taken_bytes < LEAST_BYTES or taken_bytes <= self.expected(route, at):
            return
        self._seen[route] = (at, taken_bytes)
        self._seen.move_to_end(route)
        while len(self._seen) > self._maximum:
            self._seen.popitem(last=False)

    def expected(self, route: str, at: float) -> int:
        """What to reserve for a request of ``route``; 0 where nothing to speak of is known."""
        seen = self._seen.get(route)
        if seen is None:
            return 0
        cost = int(seen[1] * 0.5 ** (max(0.0, at - seen[0]) / self._half_life))
        return cost if cost >= LEAST_BYTES else 0

    def largest(self, at: float) -> int:
        """The largest that is expected of any route. Forgets those that have faded."""
        largest = 0
        for route in list(self._seen):
            cost = self.expected(route, at)
            if cost == 0:
                self._seen.pop(route, None)
            largest = max(largest, cost)
        return largest
