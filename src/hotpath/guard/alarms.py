"""What a person should know of a guard, told in a thread of its own: a webhook may take longer than a leak."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

logger = logging.getLogger("hotpath")

# Where telling hangs for good, the newest of them wait.
WAITING_MAXIMUM: Final = 100


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that a person should know: ``kind`` is a state (shed, brake, drain, blind), stuck (it should leave and
    may not), suppressed (recycling does not help), usage_80 or usage_90 (of the limit), or calm again."""

    kind: str
    text: str


class Alarms:
    """Calls ``call`` with one alarm after the other; nobody waits for it. Its errors are in the log."""

    def __init__(self, call: Callable[[Alarm], object] | None) -> None:
        self._call = call
        self._waiting: deque[Alarm] = deque(maxlen=WAITING_MAXIMUM)
        self._lock = threading.Lock()
        self.is_telling = False

    def tell(self, kind: str, text: str) -> None:
        """Return at once."""
        if self._call is None:
            return
        with self._lock:
            self._waiting.append(Alarm(kind, text))
            if self.is_telling:
                return
            self.is_telling = True
        try:
            threading.Thread(target=self._run, args=(self._call,), name="hotpath-alarm", daemon=True).start()
        except RuntimeError as error:  # no more threads now: it is told with the next one
            self.is_telling = False
            logger.warning("hotpath: alarm %r is not told yet: %s", kind, error)

    def _run(self, call: Callable[[Alarm], object]) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self.is_telling = False
                    return
                alarm = self._waiting.popleft()
            try:
                call(alarm)
            except Exception:
                logger.exception("hotpath: alarm= failed")


MARKS: Final = ((0.90, "usage_90"), (0.80, "usage_80"))
CALM: Final = "calm"

# Memory that swings around a mark is one message, not one each minute.
CALM_BELOW: Final = 0.72
CALM_SECONDS: Final = 600.0
# A little more than a day, after which ``Alerts`` sends a reminder.
REPEAT_SECONDS: Final = 24 * 3600 + 60.0


class Marks:
    """What to say of each sample: ``usage_80``, ``usage_90``, ``calm``, and mostly nothing.

    ``calm`` comes once after a process has started too: the one before it may have said the others.
    """

    def __init__(self) -> None:
        self._said: dict[str, float] = {}
        self._calm_since: float | None = None
        self._is_calm = False

    def note(self, at: float, share: float | None) -> str | None:
        """The kind of message that is due. ``at`` is in monotonic seconds; no ``share``: it could not be read."""
        if share is None or share >= CALM_BELOW:
            self._calm_since = None
        elif self._calm_since is None:
            self._calm_since = at
        elif at - self._calm_since >= CALM_SECONDS and not self._is_calm:
            self._is_calm = True
            self._said.clear()
            return CALM
        reached = [kind for mark, kind in MARKS if share is not None and share >= mark]
        if not reached or at - self._said.get(reached[0], float("-inf")) < REPEAT_SECONDS:
            return None
        # The higher one says the lower one too.
        self._said.update(dict.fromkeys(reached, at))
        self._is_calm = False
        return reached[0]
