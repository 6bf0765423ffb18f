"""Tell systemd how the service is: a line in a datagram, as sd_notify(3) has it. No library is needed for that.

``READY=1`` when it serves, ``WATCHDOG=1`` before each watchdog interval is over, ``STOPPING=1`` when it begins to
leave, ``STATUS=…`` for a line in ``systemctl status``.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping


def notify(*lines: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Send ``NAME=value`` lines to who started this service. ``False`` when nobody asked for it or nobody takes it."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")) or not hasattr(socket, "AF_UNIX"):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]  # an abstract socket, without a file: unix(7)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)  # the event loop does not wait for a manager that has better to do
            sender.connect(address)
            sender.send("\n".join(lines).encode("utf-8"))
    except OSError:
        return False
    return True


def watchdog_seconds(environ: Mapping[str, str] = os.environ) -> float | None:
    """How often to send ``WATCHDOG=1``: half the time after which systemd ends the service. ``None`` without one."""
    microseconds, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not (microseconds.isascii() and microseconds.isdigit()) or pid not in (
        "",
        str(os.getpid()),
        str(os.getppid()),  # of several workers each speaks for all: the main process has no event loop
    ):
        return None
    return int(microseconds) / 2e6 or None
