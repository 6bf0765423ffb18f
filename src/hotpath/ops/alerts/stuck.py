"""Who holds a store's lock for so long that it must be stuck: a build that was stopped (SIGSTOP) or hangs."""

from __future__ import annotations

import shlex
import time

import psutil

from hotpath.errors import HotpathError
from hotpath.options import human_seconds, printable
from hotpath.process.lock import is_held
from hotpath.store.store import Store

# The second nightly run that meets the same holder comes after 48 hours, or 47 where the clock changes. No nightly
# build takes this long.
STUCK_SECONDS = 40 * 3600

MAX_COMMAND_CHARACTERS = 200


def stuck(store: Store, now: float) -> str | None:
    """Who has held the writer's lock for longer than ``STUCK_SECONDS``; ``None`` where nobody has."""
    path = store.root / "lock"
    try:
        # The process that takes the lock writes its id into the file.
        since = path.stat().st_mtime
        if now - since < STUCK_SECONDS or not is_held(path):
            return None
        pid = store.disk.read(path).strip()
    except (OSError, HotpathError):
        return None
    began = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(since))
    who = _process(int(pid), since) if pid.isdigit() else "an unknown process"
    return (
        f"{who} has held the lock of {store.root} since {began} ({human_seconds(int(now - since))}): no build can run"
    )


def _process(pid: int, since: float) -> str:
    try:
        process = psutil.Process(pid)
        if process.create_time() > since + 1:
            return f"process {pid} (ended; its number is another process's now, a child of it has the lock)"
        command = printable(shlex.join(process.cmdline()))[:MAX_COMMAND_CHARACTERS]
        return f"process {pid} ({process.status()}: {command})"
    except psutil.Error:
        return f"process {pid} (not seen from here)"
