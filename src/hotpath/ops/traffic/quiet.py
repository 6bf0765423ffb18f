"""When few crawlers come: the window of the week, or of the day, in which a restart is seen by the fewest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

MINUTES_OF_DAY: Final = 1440
MINUTES_OF_WEEK: Final = 7 * MINUTES_OF_DAY
WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
# A window with more than this share of an average one is no quiet one.
QUIET_SHARE: Final = 0.5


@dataclass(frozen=True, slots=True)
class Window:
    """``minutes`` from ``starts``, a time of day in UTC; ``weekday`` is ``None`` where the log is shorter than a week.

    ``expected`` crawler requests fall into it, ``average`` into any window of that length.
    """

    weekday: str | None
    starts: str
    minutes: int
    expected: float
    average: float

    @property
    def is_quiet(self) -> bool:
        """Whether it is worth waiting for."""
        return self.expected <= QUIET_SHARE * self.average


def quietest(minutes_of_week: Mapping[int, int], observed_minutes: int, minutes: int) -> Window | None:
    """The window with the fewest requests; ``None`` where there are none to judge by.

    ``observed_minutes`` is how much time the log covers. Of equal windows the middle one of the longest row of them is
    taken, so that a little too early or too late costs nothing.
    """
    total = sum(minutes_of_week.values())
    if not total or observed_minutes < 1:
        return None
    has_weeks = observed_minutes >= MINUTES_OF_WEEK
    period = MINUTES_OF_WEEK if has_weeks else MINUTES_OF_DAY
    counts = [0] * period
    for minute, count in minutes_of_week.items():
        counts[minute % period] += count
    periods = max(1.0, observed_minutes / period)
    running = sum(counts[:minutes])
    sums = []
    for start in range(period):
        sums.append(running)
        running += counts[(start + minutes) % period] - counts[start]
    start = _middle_of_least(sums)
    weekday, minute = divmod(start, MINUTES_OF_DAY)
    return Window(
        WEEKDAYS[weekday] if has_weeks else None,
        f"{minute // 60:02}:{minute % 60:02}",
        minutes,
        round(sums[start] / periods, 2),
        round(total * minutes / period / periods, 2),
    )


def _middle_of_least(sums: list[int]) -> int:
    """Where the longest row of least sums has its middle; the row may go round the end of the week."""
    least, period = min(sums), len(sums)
    if max(sums) == least:
        return 0
    first = next(place for place in range(period) if sums[place] != least)
    best, length, began = 0, 0, None
    for step in range(1, period + 1):
        place = (first + step) % period
        if sums[place] == least:
            began = step if began is None else began
            if step - began + 1 > length:
                length = step - began + 1
                best = (first + began + (step - began) // 2) % period
        else:
            began = None
    return best
