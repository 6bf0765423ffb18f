"""What a guard has to tell a person, by the same ways as a batch that failed: mail, webhook, apprise.

guard = MemoryGuard(alarm=MemoryAlerts(alerts_from_environment(), hot.store))
"""

from __future__ import annotations

import logging
import os
import threading
from typing import Final

from hotpath.guard import Alarm
from hotpath.marks import CALM, MARKS
from hotpath.operations.alerts.alerts import Alerts
from hotpath.store import Store

logger = logging.getLogger("hotpath")

AREA: Final = "memory"
# That requests are refused, or a worker is replaced, is the guard at work, and in its metrics. These need somebody.
TOLD: Final = frozenset({*(kind for _, kind in MARKS), CALM, "blind", "stuck", "suppressed"})


class MemoryAlerts:
    """Give it to the guard as ``alarm=``. Sends in a thread of its own: a mail server may take longer than a leak.

    Which alerts are open is noted in ``store``, so that of several workers one tells, and nobody tells twice within a
    day. Where the server's user cannot write there, each worker tells.
    """

    def __init__(self, alerts: Alerts, store: Store) -> None:
        if not alerts.ways:
            logger.warning("hotpath: nobody hears of memory that runs short: no HOTPATH_ALERT_… names a way")
        self._alerts = alerts
        self._store = store
        # By process: a forked child is not sending what its parent is.
        self._sending: set[tuple[int, str]] = set()

    def __call__(self, alarm: Alarm) -> None:
        """Return at once; what could not be sent is in the log."""
        key = os.getpid(), alarm.kind
        if alarm.kind not in TOLD or key in self._sending:
            return
        self._sending.add(key)
        try:
            threading.Thread(target=self._send, args=(alarm, key), name="hotpath-alert", daemon=True).start()
        except BaseException:
            self._sending.discard(key)
            raise

    def _send(self, alarm: Alarm, key: tuple[int, str]) -> None:
        try:
            if alarm.kind == CALM:
                warnings = self._alerts.resolved(self._store, AREA, alarm.text)
            else:
                warnings = self._alerts.wrong(self._store, f"{AREA}.{alarm.kind}", alarm.text)
            for warning in warnings:
                logger.warning("hotpath: %s", warning)
        except Exception:
            logger.exception("hotpath: an alert failed")
        finally:
            self._sending.discard(key)
