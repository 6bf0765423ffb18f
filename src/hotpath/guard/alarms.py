"""Alarms of a guard, sent by a thread of their own: a webhook may take longer than a leak."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

from hotpath.errors import DeclarationError
from hotpath.log import logger
from hotpath.options import is_plain

# Maximum alarms that wait where the function hangs; the newest stay.
MAX_WAITING: Final = 100


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that needs a person. ``kind`` is usage_80 or usage_90 (percent of the limit), calm (it is over), blind
    (memory cannot be read), stuck (the process should leave and may not) or suppressed (recycling does not help).

    That requests are refused, or a worker is replaced, is in the log and in the metrics.
    """

    kind: str
    text: str


class Alarms:
    """Calls ``call`` with one alarm after the other; nobody waits for it. Its errors are in the log.

    Raises ``DeclarationError`` for what is no function, or has to be awaited.
    """

    def __init__(self, call: Callable[[Alarm], object] | None) -> None:
        if call is not None and not is_plain(call):
            raise DeclarationError(f"alarm={call!r}: write a plain function that takes an Alarm")
        self._call = call
        self._waiting: deque[Alarm] = deque(maxlen=MAX_WAITING)
        self._lock = threading.Lock()
        self.is_sending = False

    def fresh(self) -> Self:
        """The same without what waits, for a forked child."""
        return type(self)(self._call)

    def send(self, kind: str, text: str) -> None:
        """Return at once."""
        if self._call is None:
            return
        with self._lock:
            self._waiting.append(Alarm(kind, text))
            if self.is_sending:
                return
            self.is_sending = True
        try:
            threading.Thread(target=self._run, args=(self._call,), name="hotpath-alarm", daemon=True).start()
        except RuntimeError as error:  # no more threads now: it is sent with the next one
            self.is_sending = False
            logger.warning("hotpath: alarm %r is not sent yet: %s", kind, error)

    def _run(self, call: Callable[[Alarm], object]) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self.is_sending = False
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
    """Which alarm a sample is: ``usage_80``, ``usage_90``, ``calm``, and mostly none.

    ``calm`` comes once after a process has started too: the one before it may have sent the others.
    """

    def __init__(self) -> None:
        self._sent_at: dict[str, float] = {}
        self._calm_since: float | None = None
        self._is_calm = False

    def note(self, at: float, share: float | None) -> str | None:
        """The kind of alarm that is due. ``at`` is in monotonic seconds; no ``share``: it could not be read."""
        if share is None or share >= CALM_BELOW:
            self._calm_since = None
        elif self._calm_since is None:
            self._calm_since = at
        elif at - self._calm_since >= CALM_SECONDS and not self._is_calm:
            self._is_calm = True
            self._sent_at.clear()
            return CALM
        reached = [kind for mark, kind in MARKS if share is not None and share >= mark]
        if not reached or at - self._sent_at.get(reached[0], float("-inf")) < REPEAT_SECONDS:
            return None
        # 90 % includes 80 %.
        self._sent_at.update(dict.fromkeys(reached, at))
        self._is_calm = False
        return reached[0]
