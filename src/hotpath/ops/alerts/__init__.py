"""Alerts to people: that a batch failed, still fails, or works again, by each way they have configured."""

from hotpath.ops.alerts.alerts import Alerts
from hotpath.ops.alerts.environment import alerts_from_environment
from hotpath.ops.alerts.memory import MemoryAlerts

__all__ = ["Alerts", "MemoryAlerts", "alerts_from_environment"]
