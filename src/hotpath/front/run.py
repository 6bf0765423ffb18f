"""The front as a whole: the door, the server behind it, the way to the app, and the app's process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry

from hotpath.asgi.middleware import HotpathMiddleware
from hotpath.front.app_process import AppOptions, AppProcess
from hotpath.front.control import admin_app, control_app
from hotpath.front.door import Door
from hotpath.front.figures import FrontCollector, register
from hotpath.front.forward import Forward
from hotpath.front.listeners import CONTROL, listen_unix
from hotpath.front.server import FrontServer
from hotpath.front.upstream import Address, Upstream
from hotpath.guard.systemd import notify, watchdog_seconds
from hotpath.serving.reader import reader_of
from hotpath.site import Hotpath

# The door finishes what it sends, then running requests end.
DOOR_SECONDS: Final = 5.0
# A door that has not turned for so long is not alive, whatever its thread does.
BEAT_SECONDS: Final = 10.0
WATCHDOG_TICK_SECONDS: Final = 1.0
_SCORE: Final = Path("/proc/self/oom_score_adj")


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontOptions:
    """What a front does. ``address`` is the app's; with ``app`` the front runs it itself, at an address of its own."""

    hot: Hotpath
    directory: Path
    address: Address | None = None
    app: AppOptions | None = None
    admin: socket.socket | None = None
    hold_seconds: float = 15.0
    in_flight: int = 64
    waiting: int = 256
    trust: Sequence[str] = ()
    connections: int = 4096
    drain_seconds: float = 30.0


class Front:
    """Everything a front has; ``run`` until it is told to end."""

    def __init__(self, options: FrontOptions, listeners: Sequence[socket.socket]) -> None:
        self.options = options
        self._listeners = listeners
        waits = Address(path=str(options.directory / "app-0.sock"))  # of an app that has not been started yet
        self.upstream = Upstream(options.address or waits)
        self.forward = Forward(
            self.upstream,
            hold_seconds=options.hold_seconds,
            in_flight=options.in_flight,
            waiting=options.waiting,
            trust=options.trust,
        )
        # The door and the loop behind it hold half of the connections each.
        half = max(1, options.connections // 2)
        app = HotpathMiddleware(self.forward, hot=options.hot)
        self.server = FrontServer(app, connections=half, drain_seconds=options.drain_seconds)
        self.door = Door(options.hot, listeners, self.server.take, connections=half)
        self.app = AppProcess(options.app, self.upstream) if options.app is not None else None
        self._ends = asyncio.Event()
        self._reloading: asyncio.Task[str | None] | None = None

    async def run(self, started: Callable[[], None] = lambda: None) -> None:
        """Serve until SIGTERM or Ctrl-C; ``started`` is called once hot pages are."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ends.set)
        if self.app is not None:
            loop.add_signal_handler(signal.SIGHUP, self._reload_soon)
        await asyncio.to_thread(self.door.start)
        serving = asyncio.create_task(self.server.serve())
        sides = self._side_servers()
        tasks = [asyncio.create_task(side.serve()) for side, _ in sides]
        tasks += [asyncio.create_task(_accept(listener, side)) for side, listener in sides]
        tasks.append(asyncio.create_task(self._watch()))
        if self.app is not None:
            self.app.begin()
        started()
        notify("READY=1", f"STATUS=hot pages of {self.options.hot.store.root} are served")
        try:
            ended = asyncio.create_task(self._ends.wait())
            await asyncio.wait((ended, serving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            notify("STOPPING=1")
            await self._stop(serving, tasks)

    async def reload(self) -> str | None:
        """A new process of the app in the place of the running one; ``None``, or why not."""
        assert self.app is not None
        return await self.app.deploy()

    async def _stop(self, serving: asyncio.Task[None], tasks: Sequence[asyncio.Task[None]]) -> None:
        """In order: nobody new, what is being sent, requests in the app, the app."""
        await asyncio.to_thread(self.door.stop, DOOR_SECONDS)
        self.server.begin_shutdown()
        await serving
        if self.app is not None:
            await self.app.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(OSError):
            (self.options.directory / CONTROL).unlink()
        reader_of(self.options.hot).close()

    def _side_servers(self) -> list[tuple[FrontServer, socket.socket]]:
        """What is not for the public: the control socket, and --admin."""
        registry = CollectorRegistry()
        register(registry, FrontCollector(self.door, self.server, self.upstream, self.app), self.upstream)
        control = control_app(self.upstream, self.reload if self.app is not None else None)
        sides = [(FrontServer(control, drain_seconds=1), listen_unix(self.options.directory / CONTROL))]
        if self.options.admin is not None:
            looks = admin_app(self.options.hot, self.upstream, registry)
            sides.append((FrontServer(looks, drain_seconds=1), self.options.admin))
        return sides

    def _reload_soon(self) -> None:
        self._reloading = asyncio.get_running_loop().create_task(self.reload())

    async def _watch(self) -> None:
        """Tell systemd that door and loop turn: that this runs is the loop's part."""
        every = watchdog_seconds()
        while True:
            await asyncio.sleep(min(every or WATCHDOG_TICK_SECONDS, WATCHDOG_TICK_SECONDS))
            if every is not None and time.monotonic() - self.door.beat < BEAT_SECONDS:
                notify("WATCHDOG=1")


async def _accept(listener: socket.socket, server: FrontServer) -> None:
    """Hand over the connections of a socket that few use."""
    loop = asyncio.get_running_loop()
    listener.setblocking(False)
    while True:
        try:
            connection, _ = await loop.sock_accept(listener)
        except OSError:  # descriptors are used up
            await asyncio.sleep(1)
            continue
        connection.setblocking(False)
        server.take(connection, b"")


def run(options: FrontOptions, listeners: Sequence[socket.socket], started: Callable[[], None]) -> None:
    """Serve until the process is told to end."""
    _raise_limits(options.connections)
    asyncio.run(Front(options, listeners).run(started))


def _raise_limits(connections: int) -> None:
    """Descriptors for all connections, and the last place where the kernel looks for memory."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * connections + 256
    if soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    with contextlib.suppress(OSError):
        if sys.platform == "linux" and os.access(_SCORE, os.W_OK):
            _SCORE.write_text("-500", encoding="ascii")
