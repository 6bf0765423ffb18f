"""What a guard has to tell a person, by the same ways as a batch that failed: mail, webhook, apprise.

guard = MemoryGuard(alarm=MemoryAlerts(alerts_from_environment(), hot.store))
"""

from __future__ import annotations

import logging
from typing import Final

from hotpath.guard.alarms import CALM, MARKS, Alarm
from hotpath.ops.alerts.alerts import Alerts
from hotpath.store.store import Store

logger = logging.getLogger("hotpath")

AREA: Final = "memory"
# That requests are refused, or a worker is replaced, is the guard at work, and in its metrics. These need somebody.
TOLD: Final = frozenset({*(kind for _, kind in MARKS), CALM, "blind", "stuck", "suppressed"})


class MemoryAlerts:
    """Give it to the guard as ``alarm=``, which calls it in a thread: a mail server takes its time.

    Which alerts are open is noted in ``store``, so that of several workers one tells, and nobody tells twice within a
    day. Where the server's user cannot write there, each worker tells.
    """

    def __init__(self, alerts: Alerts, store: Store) -> None:
        if not alerts.ways:
            logger.warning("hotpath: nobody hears of memory that runs short: no HOTPATH_ALERT_… names a way")
        self._alerts = alerts
        self._store = store

    def __call__(self, alarm: Alarm) -> None:
        """Return when every way was tried; what could not be sent is in the log."""
        if alarm.kind not in TOLD:
            return
        if alarm.kind == CALM:
            warnings = self._alerts.resolved(self._store, AREA, alarm.text)
        else:
            warnings = self._alerts.wrong(self._store, f"{AREA}.{alarm.kind}", alarm.text)
        for warning in warnings:
            logger.warning("hotpath: %s", warning)
