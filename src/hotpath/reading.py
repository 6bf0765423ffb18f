"""What one look at memory found: the values that the guard's decisions are made of."""

from __future__ import annotations

from dataclasses import dataclass


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
