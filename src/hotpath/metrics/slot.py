"""Which of a host's workers a metric is of."""

from __future__ import annotations

from hotpath.guard.guard import MemoryGuard


def own_slot(guard: MemoryGuard | None) -> str:
    """The label ``slot`` of this worker; ``none`` where no guard gives it one."""
    slot = guard.recycling.slot if guard is not None else None
    return "none" if slot is None else str(slot)
