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
