"""When to tell a person how full memory is: at 80 % and at 90 %, once, and when it has been well below for a while."""

from __future__ import annotations

from typing import Final

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
