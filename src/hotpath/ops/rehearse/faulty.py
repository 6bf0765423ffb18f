"""The site's app with the faults of a rehearsal around it: what a server imports in place of the app.

The environment says which app, how it is run, and where the switches are. The code of the site is not changed.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, MutableMapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import orjson

from hotpath.asgi.middleware import HotpathMiddleware
from hotpath.errors import DeclarationError, TargetError
from hotpath.guard.guard import MemoryGuard
from hotpath.ops.rehearse.switches import ENVIRONMENT, Switches
from hotpath.site import Hotpath
from hotpath.types import ASGIApp, Receive, Scope, Send

# How long a slow database takes.
SLOW_SECONDS: Final = 1.0
# Lifetime of an entry of the cache that leaks: it is looked at only when the same key is asked for again.
TTL_SECONDS: Final = 300.0


class DatabaseGone(Exception):
    """What a driver raises whose server does not answer any more."""


class FaultyApp:
    """``app`` with faults in front of it; requests that a middleware answers do not meet them."""

    def __init__(self, app: ASGIApp, switches: Switches, *, catches_up: bool) -> None:
        self.app = app
        self._switches = switches
        # The leak as people write it: keys with a time to live, and nothing that takes out what nobody asks for again.
        self._cache: MutableMapping[tuple[str, int], tuple[float, bytes]] = {}
        self._asked = 0
        if switches["is_leaking"]:  # the process before this one has not survived it
            switches["leaks_done"] += 1
            switches["is_leaking"] = switches["leaked_bytes"] = 0
        if not catches_up:  # a leak that was due while no process was there has nothing to grow in
            switches["leaks_done"] = switches["leaks_ordered"]
        switches["pid"] = os.getpid()
        switches["starts"] += 1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            switches = self._switches
            now = time.monotonic_ns() // 1_000_000
            if switches["leaks_ordered"] > switches["leaks_done"]:
                self._leak(scope["path"])
            if (left := switches["block_until"] - now) > 0:
                time.sleep(left / 1000)  # noqa: ASYNC251  that is the fault: nothing else runs meanwhile
            if switches["slow_until"] > now:
                await asyncio.sleep(SLOW_SECONDS)
            if switches["database_until"] > now:
                raise DatabaseGone("the database is gone (a fault of the rehearsal)")
        await self.app(scope, receive, send)

    def _leak(self, path: str) -> None:
        self._asked += 1
        self._switches["is_leaking"] = os.getpid()
        size = self._switches["leak_bytes"]
        self._cache[path, self._asked] = time.monotonic() + TTL_SECONDS, b"\x01" * size
        self._switches["leaked_bytes"] += size


def make() -> ASGIApp:
    """The app that the environment names. Raises ``TargetError`` where it is none."""
    told = orjson.loads(os.environ[ENVIRONMENT])
    switches = Switches(Path(told["switches"]))
    uses_middleware = bool(told["middleware"])
    with_faults = partial(FaultyApp, switches=switches, catches_up=bool(told["catches_up"]))
    made = _instrument(with_faults, uses_middleware=uses_middleware)
    app = _imported(told["app"])
    if made or _waits_for_start(app):
        return app
    inner = with_faults(app)
    if not uses_middleware:
        return inner
    return HotpathMiddleware(inner, hot=Hotpath(told["store"]), guard=MemoryGuard())


def _instrument(with_faults: Callable[[ASGIApp], FaultyApp], *, uses_middleware: bool) -> list[HotpathMiddleware]:
    """Put the faults into every middleware that is made from now on, and switch those off that should not answer."""
    made: list[HotpathMiddleware] = []
    begin = HotpathMiddleware.__init__

    def init(self: HotpathMiddleware, app: ASGIApp, **options: Any) -> None:
        if not uses_middleware:
            options["guard"] = None
        begin(self, app, **options)
        # The innermost of several has the faults: requests meet them once.
        self.app = app if isinstance(app, HotpathMiddleware) else with_faults(app)
        made.append(self)

    async def pass_on(self: HotpathMiddleware, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)

    HotpathMiddleware.__init__ = init  # type: ignore[method-assign]
    if not uses_middleware:
        HotpathMiddleware.__call__ = pass_on  # type: ignore[method-assign]
    return made


def _waits_for_start(app: object) -> bool:
    """Whether a framework will make the middleware with the first request: Starlette's ``add_middleware``."""
    return any(getattr(waiting, "cls", None) is HotpathMiddleware for waiting in getattr(app, "user_middleware", ()))


def _imported(target: str) -> ASGIApp:
    from uvicorn.importer import ImportFromStringError, import_from_string

    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        app: ASGIApp = import_from_string(target)
    except ImportFromStringError as error:
        raise TargetError(target, str(error)) from None
    if not callable(app):
        raise DeclarationError(f"{target}: it is no ASGI app")
    return app


def __getattr__(name: str) -> ASGIApp:
    """``app`` is made when a server asks for it: importing this module does nothing."""
    if name != "app":
        raise AttributeError(name)
    globals()["app"] = made = make()
    return made
