"""Who may go to the app now, who waits, and who is refused: values only, no clock and no event loop."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from itertools import count
from typing import Final

from hotpath.guard.priorities import Priority

# A process that has just come back fills its caches with its first requests; two at a time do not kill it.
RAMP_START: Final = 2


class Arrival(Enum):
    """What becomes of a request that cannot go on at once."""

    WAITS = "waits"
    REFUSED = "refused"


@dataclass(slots=True, eq=False)
class Ticket:
    """A request's place: by priority first, then as they came. ``number`` is kept when it goes back in line."""

    priority: Priority
    number: int


@dataclass(slots=True)
class Ramp:
    """How many may be in the app at once: none while it is down, then ``RAMP_START``, one more with each answer
    and each second, up to ``top``.

    The seconds are for answers that never end: two of them would hold everybody else for ever.
    """

    top: int
    limit: int = field(init=False)

    def __post_init__(self) -> None:
        self.limit = self.top

    @property
    def is_full(self) -> bool:
        """Whether the limit has stopped growing."""
        return self.limit >= self.top

    def fall(self) -> None:
        """The app is down."""
        self.limit = 0

    def start(self, active: int = 0) -> None:
        """The app is back; ``active`` requests are still in the old one, and say nothing about the new one."""
        self.limit = min(active + RAMP_START, self.top)

    def grow(self) -> None:
        """An answer has begun, or a second has passed."""
        if 0 < self.limit < self.top:
            self.limit += 1


class Line:
    """Requests that wait: at most ``places``, the most important first, first come first served among equals."""

    def __init__(self, places: int) -> None:
        self.places = places
        self._numbers = count()
        self._waiting: dict[Priority, deque[Ticket]] = {priority: deque() for priority in Priority}
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def number(self) -> int:
        """For a request that comes now: higher than those of all before it."""
        return next(self._numbers)

    def enter(self, ticket: Ticket) -> tuple[Arrival, Ticket | None]:
        """Wait, if there is a place; the second value is who loses his to a more important one."""
        if self._length < self.places:
            self._put(ticket)
            return Arrival.WAITS, None
        last = next((queue[-1] for queue in reversed(self._waiting.values()) if queue), None)
        if last is None or last.priority <= ticket.priority:
            return Arrival.REFUSED, None
        self.leave(last)
        self._put(ticket)
        return Arrival.WAITS, last

    def put_back(self, ticket: Ticket) -> None:
        """Wait again, at the old place, whether there is room or not: it was admitted and could not be sent."""
        self._put(ticket)

    def first(self) -> Ticket | None:
        """Take out who is next."""
        for queue in self._waiting.values():
            if queue:
                self._length -= 1
                return queue.popleft()
        return None

    def leave(self, ticket: Ticket) -> bool:
        """Wait no longer. False where it did not wait."""
        try:
            self._waiting[ticket.priority].remove(ticket)
        except ValueError:
            return False
        self._length -= 1
        return True

    def _put(self, ticket: Ticket) -> None:
        queue = self._waiting[ticket.priority]
        if queue and queue[-1].number > ticket.number:
            place = next(place for place, waiting in enumerate(queue) if waiting.number > ticket.number)
            queue.insert(place, ticket)
        else:
            queue.append(ticket)
        self._length += 1
