"""The front as a process: door, server, forwarder and child put together, started and ended in order."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import shutil
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import uvicorn

from hotpath.asgi.access_log import AccessLog
from hotpath.asgi.middleware import HotpathMiddleware
from hotpath.errors import DeclarationError
from hotpath.front import control
from hotpath.front.address import Address
from hotpath.front.admin import Parts, make_admin
from hotpath.front.door import Door
from hotpath.front.figures import FrontCollector, Latency
from hotpath.front.forward import Forward
from hotpath.front.group import GroupMaker, set_own_oom_score
from hotpath.front.last_good import LastGoodOptions, around, inside, start_text
from hotpath.front.listeners import address_of, bind, bind_unix
from hotpath.front.protocol import middleware_of
from hotpath.front.server import FrontServer
from hotpath.front.servers import ServerCommand
from hotpath.front.supervisor import Care, Supervisor
from hotpath.front.upstream import Upstream
from hotpath.guard.systemd import notify, watchdog_seconds
from hotpath.log import logger
from hotpath.metrics.app import MetricsApp
from hotpath.options import human_bytes
from hotpath.serving.reader import reader_of
from hotpath.site import Hotpath
from hotpath.types import ASGIApp

if TYPE_CHECKING:
    from hotpath.front.board import FrontBoard
    from hotpath.store.origin.following import Following

# proc(5): the kernel picks nearly everybody else first.
OOM_SCORE: Final = -500
# What the door still sends when the front ends.
DOOR_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class FrontOptions:
    """What a front is told; times in seconds.

    ``drain`` is how long running requests may take when the front ends. ``admin`` is where figures and health are.
    ``shares_port``: other fronts listen there too (``SO_REUSEPORT``).
    """

    connections: int = 4096
    hold: float = 15.0
    in_flight: int = 64
    waiting: int = 256
    drain: float = 30.0
    trust: tuple[str, ...] = ()
    admin: Address | None = None
    access_log: bool = False
    shares_port: bool = False
    last_good: LastGoodOptions = field(default_factory=LastGoodOptions)


@dataclass(frozen=True, slots=True)
class App:
    """An app that the front starts itself: ``target`` is its name for people."""

    target: str
    command: ServerCommand
    care: Care = field(default_factory=Care)


def serve(hot: Hotpath, listeners: Sequence[socket.socket], app: App | Address, options: FrontOptions) -> None:
    """Answer hot pages of ``hot`` and pass everything else to ``app``, until SIGTERM or Ctrl-C.

    Raises ``DeclarationError`` for options that cannot work, and ``NoSocket`` for an admin port that is in use.
    """
    directory = control.make_directory(control.base_directory())
    try:
        _Front(hot, listeners, app, options, directory).run()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def serve_in_process(app: ASGIApp, listeners: Sequence[socket.socket], options: FrontOptions) -> None:
    """The door before ``app`` in this process, until SIGTERM or Ctrl-C: no second process, and no hot page without it.

    Raises ``DeclarationError`` where no ``HotpathMiddleware`` is outermost.
    """
    server = FrontServer(app, connections=options.connections, drain_seconds=options.drain, **_websockets())

    async def serve_until_signal() -> None:
        async with _running(server, _Signals()) as signals:
            middleware = middleware_of(app)
            if middleware is None:
                raise DeclarationError(
                    "--in-process: no HotpathMiddleware is the first to see a request; write"
                    " app = HotpathMiddleware(app, hot=hot) around the whole app"
                )
            following = _following(middleware.hot)
            cache = inside(middleware, options.last_good)
            if cache is not None:
                closing.callback(cache.close)  # after the last request
            door = Door(middleware.hot, listeners, server.take, connections=options.connections)
            # bypass= and observe= have to see each request.
            door.answers = middleware.is_plain
            await asyncio.to_thread(door.start)
            if following is not None:
                following.start()
            logger.warning("hotpath: serving on %s, the app in the same process", _places(listeners))
            for line in start_text(cache, reader_of(middleware.hot).loader.keys) if cache is not None else ():
                logger.warning("%s", line)
            notify("READY=1")
            async with _beating(door):
                await signals.stop.wait()
            notify("STOPPING=1")
            if cache is not None:
                cache.let_go()
            await asyncio.to_thread(door.stop, DOOR_SECONDS)

    with contextlib.ExitStack() as closing:
        _run(serve_until_signal)


class _Front:
    """One front before an app that is another process."""

    def __init__(
        self,
        hot: Hotpath,
        listeners: Sequence[socket.socket],
        app: App | Address,
        options: FrontOptions,
        directory: Path,
    ) -> None:
        self.hot = hot
        self.listeners = listeners
        self.app = app
        self.options = options
        self.directory = directory
        observe = AccessLog() if options.access_log else None
        # Of a child there is no socket yet: who comes before it has one is held.
        self.upstream = Upstream(app if isinstance(app, Address) else Address(path=str(directory / "app-0.sock")))
        forward = Forward(
            self.upstream,
            hold_seconds=options.hold,
            in_flight=options.in_flight,
            waiting=options.waiting,
            trust=options.trust,
        )
        self.last_good = around(forward, self.upstream, hot, options.last_good)
        self.server = FrontServer(
            HotpathMiddleware(self.last_good or forward, hot=hot, observe=observe),
            connections=options.connections,
            drain_seconds=options.drain,
            interface="asgi3",
            **_websockets(),
        )
        self.door = Door(
            hot,
            listeners,
            self.server.take,
            connections=options.connections,
            on_hit=observe,
            closes_listeners=options.shares_port,
        )
        self.groups: GroupMaker | None = None
        self.following = _following(hot)

    def run(self) -> None:
        """Until a signal ends it."""
        admin = _bind_admin(self.options.admin) if self.options.admin else None
        control_socket = bind_unix(self.directory / control.SOCKET, 0o600)
        set_own_oom_score(OOM_SCORE)
        if isinstance(self.app, App) and self.app.care.memory is not None:
            self.groups = GroupMaker()
        # Before anything else: hot pages need neither the loop nor the app.
        self.door.start()
        if self.following is not None:
            self.following.start()
        _run(functools.partial(self._main, admin, control_socket))

    async def _main(self, admin: socket.socket | None, control_socket: socket.socket) -> None:
        supervisor = self._supervisor()
        parts = Parts(self.hot, self.door, self.upstream, supervisor, self.last_good, self.options.last_good.token)
        metrics = MetricsApp(hot=self.hot)
        metrics.registry.register(FrontCollector(self.door, self.server, self.upstream, supervisor, self.last_good))
        latency = Latency()
        metrics.registry.register(latency)
        board = self._board(supervisor)

        def observe(scope: Any, status: int, seconds: float) -> None:
            latency.observe(scope, status, seconds)
            if board is not None:
                board.answered(seconds)
            if supervisor is not None:
                supervisor.heard()

        self.upstream.observe = observe
        signals = _Signals(supervisor.reload if supervisor is not None else _nothing_to_reload)
        async with (
            _supervised(supervisor),
            _serving(make_admin(parts, metrics, with_commands=True), control_socket),
            _serving(
                make_admin(parts, metrics, None if board is None else board.dashboard, with_commands=False), admin
            ),
            _running(self.server, signals),
            contextlib.nullcontext() if board is None else board.watching(),
        ):
            for line in self._start_text():
                logger.warning("%s", line)
            notify("READY=1", f"STATUS=serving on {_places(self.listeners)}")
            async with _beating(self.door):
                await signals.stop.wait()
            notify("STOPPING=1")
            logger.warning("hotpath: ending: requests first, then the app")
            if self.last_good is not None:
                self.last_good.let_go()
            await asyncio.to_thread(self.door.stop, DOOR_SECONDS)

    def _supervisor(self) -> Supervisor | None:
        if isinstance(self.app, Address):
            return None
        return Supervisor(self.app.command, self.upstream, self.directory, self.app.care, groups=self.groups)

    def _board(self, supervisor: Supervisor | None) -> FrontBoard | None:
        """The status page, where there is an admin port: it takes five MiB that a front without one does not need."""
        address = self.options.admin
        if address is None:
            return None
        from hotpath.front.board import FrontBoard

        return FrontBoard(self.hot, self.door, self.upstream, supervisor, local_socket=bool(address.path))

    def _start_text(self) -> list[str]:
        """What is where, for people."""
        loader = reader_of(self.hot).loader
        snapshot, root = loader.snapshot, self.hot.store.root
        pages = f"{len(loader.keys):,} pages of generation {snapshot.generation} in {root}"
        if snapshot.generation is None:
            pages = f"nothing is published in {root}: the app gets every request until there is"
        lines = [f"hotpath: serving on {_places(self.listeners)}", f"  hot     {pages}"]
        if isinstance(self.app, App):
            lines.append(
                f"  app     {self.app.target}, started by this process; deploy with SIGHUP or 'hotpath reload'"
            )
            lines += self._memory_text(self.app.care.memory)
        else:
            lines.append(f"  app     {self.app}, started by somebody else")
        lines += start_text(self.last_good, loader.keys)
        if self.following is not None:
            lines.append(f"  origin  {self.following.sharing.origin}, asked every {self.following.every:g} s")
        lines.append(f"  admin   {self.options.admin or 'none (--admin 127.0.0.1:9180, with a status page)'}")
        return lines

    def _memory_text(self, memory: int | None) -> list[str]:
        if memory is None:
            return ["  memory  no limit for the app (--memory 900MiB)"]
        problem = self.groups.problem if self.groups is not None else None
        how = "in a memory group of its own" if problem is None else f"looked at twice a second: {problem}"
        return [f"  memory  {human_bytes(memory)} for the app, {how}"]


def _following(hot: Hotpath) -> Following | None:
    """What follows the site's origin, where it has one. Raises ``DeclarationError``."""
    sharing = hot.sharing.effective()
    if sharing.origin is None:
        return None
    from hotpath.store.origin.following import Following  # object storage is an extra

    return Following(hot.store, sharing, report=lambda text, _: logger.warning("hotpath: %s", text))


class _Signals:
    """SIGTERM and SIGINT set ``stop``, a second one ends at once; SIGHUP calls ``on_reload``."""

    def __init__(self, on_reload: Callable[[], object] = lambda: None) -> None:
        self.stop = asyncio.Event()
        self.is_urgent = asyncio.Event()
        self._on_reload = on_reload

    def listen(self) -> None:
        """From now on, in the running loop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._end)
        loop.add_signal_handler(signal.SIGHUP, self._on_reload)

    def _end(self) -> None:
        (self.is_urgent if self.stop.is_set() else self.stop).set()


@contextlib.asynccontextmanager
async def _running(server: FrontServer, signals: _Signals) -> AsyncIterator[_Signals]:
    """The server, which drains at the end; a second signal does not wait for that. Raises what it raises."""
    signals.listen()
    task = asyncio.ensure_future(server.serve())
    ready = asyncio.ensure_future(asyncio.to_thread(server.is_ready.wait, 60))
    await asyncio.wait((task, ready), return_when=asyncio.FIRST_COMPLETED)
    try:
        if task.done():
            task.result()
        yield signals
    finally:
        server.is_ready.set()
        server.begin_shutdown()
        urgent = asyncio.ensure_future(signals.is_urgent.wait())
        await asyncio.wait((task, urgent), return_when=asyncio.FIRST_COMPLETED)
        urgent.cancel()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.asynccontextmanager
async def _supervised(supervisor: Supervisor | None) -> AsyncIterator[None]:
    if supervisor is None:
        yield
        return
    task = asyncio.ensure_future(supervisor.run())
    task.add_done_callback(_report)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.critical("hotpath: the app is not looked after any more; restart the front", exc_info=error)


@contextlib.asynccontextmanager
async def _serving(app: ASGIApp, listener: socket.socket | None) -> AsyncIterator[None]:
    """A small app of the front's own on a listener of its own."""
    if listener is None:
        yield
        return
    server = _Uvicorn(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none"))
    task = asyncio.ensure_future(server.serve([listener]))
    try:
        yield
    finally:
        server.should_exit = server.force_exit = True
        await task


class _Uvicorn(uvicorn.Server):
    """Leaves the signals to the front."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """Nothing."""
        yield


@contextlib.asynccontextmanager
async def _beating(door: Door) -> AsyncIterator[None]:
    """WATCHDOG=1 as long as the loop turns and the door's thread was seen since the last time."""
    interval = watchdog_seconds()

    async def beat(seconds: float) -> None:
        loop, last = asyncio.get_running_loop(), 0.0
        while True:
            if door.beat > last or door.beat > loop.time() - seconds:
                last = door.beat
                notify("WATCHDOG=1")
            await asyncio.sleep(seconds)

    task = asyncio.ensure_future(beat(interval)) if interval is not None else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()


def _nothing_to_reload() -> None:
    logger.warning("hotpath: SIGHUP: this front starts no app, so there is nothing to reload")


def admin_address(text: str) -> Address:
    """``127.0.0.1:9180`` or ``unix:/path``. Raises ``DeclarationError``."""
    if text.startswith("unix:"):
        return Address.parse(text)
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise DeclarationError(f"--admin {text}: write 127.0.0.1:9180 or unix:/run/hotpath/admin.sock")
    return Address(host.strip("[]"), int(port))


def _bind_admin(address: Address) -> socket.socket:
    return bind_unix(Path(address.path), 0o660) if address.path else bind(address.host, address.port, option="--admin")


def _places(listeners: Sequence[socket.socket]) -> str:
    return ", ".join(address_of(listener) for listener in listeners)


def _websockets() -> dict[str, Any]:
    return {"ws": "websockets-sansio" if find_spec("websockets") is not None else "none"}


def _run(main: Callable[[], Any]) -> None:
    assert threading.current_thread() is threading.main_thread()
    loop_factory = None
    if find_spec("uvloop") is not None:
        loop_factory = uvicorn.Config(lambda: None, loop="uvloop", log_config=None).get_loop_factory()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
