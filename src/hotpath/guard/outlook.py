"""From readings to a signal: growth, headroom, time to exhaustion, and how soon to look again."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from math import inf
from statistics import median

from hotpath.guard.states import Signal


@dataclass(frozen=True, slots=True)
class MemoryReading:
    """One reading, all sizes in bytes.

    ``limit``, ``usage`` and ``unreclaimable`` belong together: they are those of the control group, or of the budget,
    that is nearest to being full. That is the smallest limit, as long as no wider group has less left than it.
    """

    at: float
    """When it was read, in seconds of the monotonic clock."""
    limit: int
    usage: int
    """All that the kernel counts, page cache too; the resident size of the process where there is no group."""
    unreclaimable: int
    """The part of ``usage`` that the kernel cannot take back without swapping or killing."""
    available: int
    """MemAvailable of the machine."""
    resident: int
    """Resident size of this process."""
    anonymous: int
    """The part of ``resident`` that no file is behind: what of it only this process can have made grow."""
    source: str
    """``"cgroup2"``, ``"cgroup1"`` or ``"process"``."""

    @property
    def left(self) -> int:
        """What may still be allocated below the limit, negative above it.

        Continuous also where another group becomes the one nearest to being full, which ``limit`` and
        ``unreclaimable`` are not: take the slope of this.
        """
        return self.limit - self.unreclaimable


SAMPLES = 8
# Minimum slopes for a growth: a page that is loaded once is none.
SLOPES_NEEDED = 3
# Minimum distance of two samples that are kept, so that eight cover two seconds: a process that grows in steps shows no
# growth between most samples that are 50 ms apart.
SPACING_SECONDS = 0.25

# Maximum share of the limit that BRAKE's reserve takes: its bytes are sized for machines, not for small limits.
RESERVE_SHARE = 0.15
# Maximum share of the limit for twice the largest request, so that it alone never puts an empty process into BRAKE.
REQUEST_RESERVE_SHARE = 0.25


class Growth:
    """Bytes a second, as the median of the slopes from each of the last samples to the next.

    One step, whatever its size, is no growth: a model that is loaded, a cache that is filled. A line through the
    samples, least squares as well as medians of all pairs, takes it for one as long as it is in the middle.
    """

    __slots__ = ("_samples",)

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque(maxlen=SAMPLES)

    def add(self, at: float, used_bytes: int) -> None:
        """Take in one sample."""
        samples = self._samples
        if len(samples) > 1 and at - samples[-2][0] < SPACING_SECONDS:
            samples[-1] = (at, used_bytes)
        else:
            samples.append((at, used_bytes))

    @property
    def bytes_per_second(self) -> float:
        """0 before there are enough samples; negative when memory is given back."""
        slopes = [(b1 - b0) / (t1 - t0) for (t0, b0), (t1, b1) in pairwise(self._samples) if t1 > t0]
        return median(slopes) if len(slopes) >= SLOPES_NEEDED else 0.0


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a reading comes to. Bytes, bytes a second, seconds; ``share`` is of the limit."""

    at: float
    share: float
    headroom: int
    growth: float
    seconds_left: float
    reserve: int
    least_reserve: int = 0
    """The part of ``reserve`` that no request has a say in."""

    @property
    def signal(self) -> Signal:
        """What the table is asked with."""
        return Signal(self.at, self.share, self.seconds_left, self.headroom < self.reserve)


def look_ahead(reading: MemoryReading, *, floor: int, growth: float, reserve: int, largest_request: int) -> Outlook:
    """Headroom is what is left to the limit or on the machine, whichever is less, above ``floor``.

    ``reserve`` is BRAKE's, in bytes; ``largest_request`` the most that one request was seen to take.
    """
    headroom = min(reading.left, reading.available) - floor
    # Growth of less than a byte a second is none: a process at rest has no end in sight.
    seconds = inf if growth <= 1 else max(0.0, headroom / growth)
    least = min(reserve, int(reading.limit * RESERVE_SHARE))
    wanted = max(least, min(2 * largest_request, int(reading.limit * REQUEST_RESERVE_SHARE)))
    return Outlook(reading.at, reading.unreclaimable / reading.limit, headroom, growth, seconds, wanted, least)


def next_sample_seconds(headroom: int, fastest_growth: float, *, least: float, most: float) -> float:
    """So that four samples fit before the memory ends, should it grow as fast as is expected at most."""
    return min(most, max(least, headroom / (4 * fastest_growth)))


# Tolerance: counters of processes and of the group are read one after the other, and the kernel counts in batches.
_SLACK_BYTES = 64 * 1024 * 1024
# Change of a process's own memory that must show in its group.
_MOVED_BYTES = 8 * 1024 * 1024


def implausible(now: MemoryReading, unchanged: MemoryReading | None) -> str | None:
    """Why a reading cannot be true, or ``None``.

    ``unchanged`` is the first of the readings up to this one whose ``usage`` was the same to the byte.
    """
    if now.limit <= 0:
        return "the limit is not a positive number"
    if min(now.usage, now.resident) < 0:
        return "a count is negative"
    if now.unreclaimable > now.usage + _SLACK_BYTES:
        return "more is unreclaimable than is used"
    # Not ``resident``: a file that is mapped, and in the page cache already, makes it grow and the group's usage not.
    if unchanged is not None and unchanged.usage == now.usage:
        moved = abs(now.anonymous - unchanged.anonymous)
        if moved > _MOVED_BYTES:
            return "the count stands still while the process's own memory moves"
    return None
