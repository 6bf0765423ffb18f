"""When a child that has ended is started again: values only, no clock and no process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# The first restart is at once; from then on as systemd's RestartSteps= and Kubernetes' CrashLoopBackOff have it.
DELAYS: Final = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
# For a child that was ready: requests that wait are answered in the seconds that the next one lives, so it must come
# while they still wait (15 s). Starting costs a core a second or two, which is then a fifth of it at most.
MAX_READY_DELAY: Final = 4.0
# A child that served for so long was no failure to start: what ended it gets a new one at once. Less would let an app
# that dies of its first request take a core for ever; more would make visitors wait who could have been served.
GOOD_SECONDS: Final = 2.0
# Failures in a row that are a crash loop.
LOOP: Final = 3


@dataclass(frozen=True, slots=True)
class NextStart:
    """Start again after ``delay`` seconds. ``is_loop``: say now that this is a crash loop, which is said once."""

    delay: float
    is_loop: bool


class Restarts:
    """Counts the failures in a row."""

    def __init__(self) -> None:
        self.failures = 0
        self._is_said = False

    def ended(self, served_seconds: float | None) -> NextStart:
        """A child has ended that was ready for so long; ``None`` for one that never was."""
        if served_seconds is not None and served_seconds >= GOOD_SECONDS:
            self.forget()
        delay = DELAYS[min(self.failures, len(DELAYS) - 1)]
        if served_seconds is not None:
            delay = min(delay, MAX_READY_DELAY)
        self.failures += 1
        # One that was ready may have met a single bad request; one that never was will not be the next time either.
        is_loop = not self._is_said and (served_seconds is None or self.failures >= LOOP)
        self._is_said = self._is_said or is_loop
        return NextStart(delay, is_loop)

    def forget(self) -> None:
        """The next failure counts as the first: somebody may have repaired it."""
        self.failures = 0
        self._is_said = False
