"""How a process leaves so that a fresh one takes its place, and whether anything would start one.

A worker of uvicorn or gunicorn goes with SIGTERM and its parent starts the next. hypercorn's workers and granian's
(without ``--respawn-failed-workers``) take the whole server down with them. A process by itself is started again by
systemd, by ``hotpath serve``, or by nothing that could be seen from inside.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from hotpath.log import logger

Server = Literal["uvicorn", "gunicorn", "hypercorn", "granian", "unknown"]

# Set by `hotpath serve` for the app's process, to its own process id: it starts that process again when it ends.
FRONT_PID: Final = "HOTPATH_FRONT_PID"

# Share of the time in which kept-alive connections may send one more request, to be answered `Connection: close`.
LINGER_SHARE: Final = 0.5
# Time after the deadline until a process that does not end is killed: idle connections, threads that hang.
FORCE_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a process can see of who runs it. ``is_worker``: a parent keeps several, or one, of its kind alive."""

    server: Server
    is_worker: bool
    is_respawned: bool
    is_unit: bool
    is_behind_front: bool = False

    @property
    def obstacle(self) -> str | None:
        """Why the process should not leave, or ``None`` where it may."""
        if self.is_worker:
            if self.is_respawned:
                return None
            return f"{self.server} ends with a worker that ends"
        if self.is_unit or self.is_behind_front:
            return None
        return "nothing would start it again: no worker's parent, no unit of systemd, no hotpath serve"


def look_around(environ: Mapping[str, str] = os.environ) -> Surroundings:
    """Find out once the server runs, so not while the app is imported."""
    is_child = is_child_process()
    unit = environ.get("INVOCATION_ID") is not None
    # A terminal of a desktop session inherits INVOCATION_ID too; systemd.exec(5) says for whom it is.
    main = environ.get("SYSTEMD_EXEC_PID", "")
    unit = unit and (not main.isdigit() or int(main) in (os.getpid(), os.getppid()))
    # What the app starts inherits the variable too, and is nothing that the front looks after.
    front = environ.get(FRONT_PID) == str(os.getppid())
    if "gunicorn.arbiter" in sys.modules:
        return Surroundings("gunicorn", is_worker=True, is_respawned=True, is_unit=unit, is_behind_front=front)
    if "granian.server" in sys.modules:
        options = _command_line(os.getppid())
        respawns = b"--respawn-failed-workers" in options or environ.get("GRANIAN_RESPAWN_FAILED_WORKERS") == "true"
        return Surroundings("granian", is_worker=is_child, is_respawned=respawns, is_unit=unit, is_behind_front=front)
    if "hypercorn.config" in sys.modules:
        return Surroundings("hypercorn", is_worker=is_child, is_respawned=False, is_unit=unit, is_behind_front=front)
    server = uvicorn_server()
    if server is not None:
        # With --reload there is a parent too, and it waits for a file to change.
        respawns = server.config.workers > 1
        return Surroundings(
            "uvicorn", is_worker=is_child and respawns, is_respawned=respawns, is_unit=unit, is_behind_front=front
        )
    return Surroundings("unknown", is_worker=False, is_respawned=False, is_unit=unit, is_behind_front=front)


def is_child_process() -> bool:
    """Whether multiprocessing started this process. Not imported for it: there it is imported already."""
    processes = sys.modules.get("multiprocessing.process")
    return processes is not None and processes.parent_process() is not None


def uvicorn_server() -> Any:
    """uvicorn's ``Server`` of this process, from the signal handler that it installs; ``None`` for any other server."""
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return server if type(server).__module__ == "uvicorn.server" else None


def is_serving() -> bool:
    """Whether the server takes requests. uvicorn says when it listens; of another one it is not known, so yes."""
    server = uvicorn_server()
    return server is None or bool(server.started)


@dataclass(slots=True)
class Departure:
    """Leaving, in a thread of its own. ``in_flight`` counts requests in the app; ``seconds`` is all the time there is.

    With several workers on one listening socket it first stops accepting, so that no connection is taken that would
    not be served; then answers what still comes on open connections, and ends when they are done.
    """

    surroundings: Surroundings
    loop: asyncio.AbstractEventLoop | None
    in_flight: Callable[[], int]
    seconds: float

    def start(self) -> None:
        """Begin; returns at once."""
        threading.Thread(target=self._run, name="hotpath-leaving", daemon=True).start()

    def _run(self) -> None:
        started = time.monotonic()
        server = uvicorn_server()
        if server is not None and self.surroundings.is_worker and self.loop is not None:
            with contextlib.suppress(RuntimeError):  # closed by now: then nothing is accepted either
                self.loop.call_soon_threadsafe(_stop_accepting, server)
        self._wait(started + self.seconds * LINGER_SHARE, lambda: not self._open(server))
        self._wait(started + self.seconds, lambda: self.in_flight() == 0)
        os.kill(os.getpid(), signal.SIGTERM)
        self._wait(started + self.seconds + FORCE_SECONDS, lambda: False)
        logger.error("hotpath: %d requests did not end within %g s", self.in_flight(), self.seconds)
        if server is not None:
            server.force_exit = True
            time.sleep(FORCE_SECONDS)
        # A thread that hangs holds the process now. EX_TEMPFAIL of sysexits(3).
        os._exit(75)

    def _open(self, server: Any) -> int:
        """Connections that are open, where it can be known; else requests."""
        return len(server.server_state.connections) if server is not None else self.in_flight()

    @staticmethod
    def _wait(until: float, is_done: Callable[[], bool]) -> None:
        while time.monotonic() < until and not is_done():
            time.sleep(_LOOK_SECONDS)


def _stop_accepting(server: Any) -> None:
    for listener in server.servers:
        listener.close()


def _command_line(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []
