"""A failing app is not hammered: after some failures in a row one request at a time finds out if it is back (pure)."""

from __future__ import annotations

from typing import Final

FAILURES_IN_A_ROW: Final = 5
FIRST_SECONDS: Final = 1.0
MAX_SECONDS: Final = 30.0


class Breaker:
    """Whether a request may go to the app. Times are of a clock that never goes back, in seconds.

    Closed: all may. After ``FAILURES_IN_A_ROW`` it is open: one may after 1 s, the next after 2 more, then 4 … 30.
    One good answer closes it, whoever asked.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._wait = 0.0
        self._next = 0.0

    @property
    def is_open(self) -> bool:
        """Whether only some requests may pass."""
        return self._wait > 0

    def admits(self, now: float) -> bool:
        """Whether the request that comes now may go to the app. While open, it is then the one that finds out."""
        if not self._wait:
            return True
        if now < self._next:
            return False
        self._wait = min(self._wait * 2, MAX_SECONDS)
        self._next = now + self._wait
        return True

    def failed(self, now: float) -> None:
        """The app failed a request."""
        self._failures += 1
        if not self._wait and self._failures >= FAILURES_IN_A_ROW:
            self._wait = FIRST_SECONDS
            self._next = now + FIRST_SECONDS

    def succeeded(self) -> None:
        """The app answered, or is known to be back."""
        self._failures = 0
        self._wait = 0.0

    def retry_after(self, now: float) -> int:
        """Seconds until the next request may pass, 1 or more."""
        return max(1, round(self._next - now))
