"""A memory guard's alarms, sent by the same ways as those of a batch that failed: mail, webhook, apprise.

guard = MemoryGuard(alarm=MemoryAlerts(alerts_from_environment(), hot.store))
"""

from __future__ import annotations

from typing import Final

from hotpath.guard.alarms import CALM, Alarm
from hotpath.log import logger
from hotpath.ops.alerts.alerts import Alerts
from hotpath.store.store import Store

AREA: Final = "memory"


class MemoryAlerts:
    """Give it to the guard as ``alarm=``, which calls it in a thread: a mail server takes its time.

    Which alerts are open is noted in ``store``, so that of several workers one sends it, and none twice within a day.
    Where the server's user cannot write there, each worker sends.
    """

    def __init__(self, alerts: Alerts, store: Store) -> None:
        if not alerts.ways:
            logger.warning("hotpath: nobody hears of memory that runs short: no HOTPATH_ALERT_… names a way")
        self._alerts = alerts
        self._store = store

    def __call__(self, alarm: Alarm) -> None:
        """Return when every way was tried; what could not be sent is in the log."""
        if alarm.kind == CALM:
            warnings = self._alerts.resolved(self._store, AREA, alarm.text)
        else:
            warnings = self._alerts.wrong(self._store, f"{AREA}.{alarm.kind}", alarm.text)
        for warning in warnings:
            logger.warning("hotpath: %s", warning)
