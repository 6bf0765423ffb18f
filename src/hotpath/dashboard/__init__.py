"""The status page."""

from hotpath.dashboard.app import Dashboard

__all__ = ["Dashboard"]
