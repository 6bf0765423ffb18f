"""What the short way leaves to the long one, in the scope of a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hotpath.asgi.last_good.cache import Question
from hotpath.front.upstream import Lease

# Key of a scope.
STARTED: Final = "hotpath.started"


@dataclass(frozen=True, slots=True)
class Started:
    """A request that was sent to the app, at ``at`` of the loop's clock.

    On ``lease``, with a place in the app, its answer comes; without one the connection broke, and it is to be repeated:
    for the first time where ``is_unread``, as nobody has read it.
    ``question`` is what last good answers know of it, where there are any.
    """

    lease: Lease | None
    at: float = 0.0
    question: Question | None = None
    is_unread: bool = False
