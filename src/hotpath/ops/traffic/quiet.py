"""When few crawlers come: the window of the week, or of the day, in which a restart is seen by the fewest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Self

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
    windows = _Windows.of(minutes_of_week, observed_minutes, minutes)
    return None if windows is None else windows.at(_middle_of_least(windows.sums))


def minute_of_week(time: datetime) -> int:
    """Minutes since Monday 00:00 UTC."""
    time = time.astimezone(UTC)
    return (time.weekday() * 24 + time.hour) * 60 + time.minute


def next_quiet(
    minutes_of_week: Mapping[int, int], observed_minutes: int, minutes: int, *, now: int, most: int
) -> tuple[int, Window] | None:
    """How many minutes to wait for the next quiet window, ``most`` at most, and that window.

    ``now`` is the minute of the week, from Monday 00:00 UTC. Where no window in reach is quiet, it is the one with the
    fewest requests; ``None`` where there are none to judge by.
    """
    windows = _Windows.of(minutes_of_week, observed_minutes, minutes)
    if windows is None:
        return None
    period = len(windows.sums)
    reach = range(min(most, period - 1) + 1)
    for wait in reach:
        if (window := windows.at((now + wait) % period)).is_quiet:
            return wait, window
    least = min(reach, key=lambda wait: windows.sums[(now + wait) % period])
    return least, windows.at((now + least) % period)


@dataclass(frozen=True, slots=True)
class _Windows:
    """Requests in the window that begins at each minute of a day or a week, over ``periods`` of them."""

    sums: list[int]
    minutes: int
    periods: float
    average: float

    @classmethod
    def of(cls, minutes_of_week: Mapping[int, int], observed_minutes: int, minutes: int) -> Self | None:
        total = sum(minutes_of_week.values())
        if not total or observed_minutes < 1:
            return None
        period = MINUTES_OF_WEEK if observed_minutes >= MINUTES_OF_WEEK else MINUTES_OF_DAY
        counts = [0] * period
        for minute, count in minutes_of_week.items():
            counts[minute % period] += count
        periods = max(1.0, observed_minutes / period)
        running = sum(counts[:minutes])
        sums = []
        for start in range(period):
            sums.append(running)
            running += counts[(start + minutes) % period] - counts[start]
        return cls(sums, minutes, periods, round(total * minutes / period / periods, 2))

    def at(self, start: int) -> Window:
        weekday, minute = divmod(start, MINUTES_OF_DAY)
        return Window(
            WEEKDAYS[weekday] if len(self.sums) == MINUTES_OF_WEEK else None,
            f"{minute // 60:02}:{minute % 60:02}",
            self.minutes,
            round(self.sums[start] / self.periods, 2),
            self.average,
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
