"""Refuse work early rather than be killed."""

from hotpath.guard.alarms import Alarm
from hotpath.guard.guard import MemoryGuard
from hotpath.guard.priorities import Priority
from hotpath.guard.recycling import Recycle
from hotpath.guard.sampling import Sampling
from hotpath.guard.states import Level, Thresholds

__all__ = ["Alarm", "Level", "MemoryGuard", "Priority", "Recycle", "Sampling", "Thresholds"]
