"""The front seen from inside: figures, health, and commands. Never on the public port."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from hotpath.asgi.last_good.middleware import LastGood
from hotpath.errors import DeclarationError
from hotpath.front import last_good
from hotpath.front.door import Door
from hotpath.front.supervisor import Supervisor
from hotpath.front.upstream import Upstream
from hotpath.metrics.app import MetricsApp
from hotpath.options import parse_seconds
from hotpath.serving.reader import reader_of
from hotpath.site import Hotpath
from hotpath.types import ASGIApp

# The door looks at the clock once a second, also without clients.
DOOR_SECONDS: Final = 5.0
# The longest pause that is not asked for by a number of its own.
PAUSE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What there is to see and to command."""

    hot: Hotpath
    door: Door
    upstream: Upstream
    supervisor: Supervisor | None
    last_good: LastGood | None
    token: str | None

    @property
    def is_door_alive(self) -> bool:
        """Whether the door's thread was seen lately."""
        return time.monotonic() - self.door.beat < DOOR_SECONDS

    def reasons(self) -> list[str]:
        """Why the front should get no traffic: hot pages are not served. An app that is down is no reason."""
        loader = reader_of(self.hot).loader
        reasons = [] if self.is_door_alive else ["the door's thread does not move"]
        if loader.snapshot.generation is None and not self.hot.directories:
            reasons.append(loader.degraded or "no generation is loaded")
        return reasons

    def status(self) -> dict[str, object]:
        """The state in one object."""
        snapshot, supervisor = reader_of(self.hot).snapshot, self.supervisor
        child = supervisor.current if supervisor is not None else None
        return {
            "generation": snapshot.generation,
            "hits": self.door.hits,
            "app": str(self.upstream.address),
            "app_up": self.upstream.is_up if supervisor is None else supervisor.is_up,
            "app_pid": None if child is None or child.has_ended else child.pid,
            "restarts": None if supervisor is None else supervisor.restarts,
            "deploys": None if supervisor is None else supervisor.deploys,
            "in_flight": self.upstream.in_flight,
            "waiting": self.upstream.waiting,
            "held": self.upstream.held,
            "paused": self.upstream.is_paused,
        }


def make_admin(
    parts: Parts, metrics: MetricsApp, dashboard: ASGIApp | None = None, *, with_commands: bool
) -> Starlette:
    """``/metrics``, ``/healthz``, ``/readyz``, ``/status``, ``/last-good``, with a token ``/purge``, and ``/dashboard``
    for people; with commands ``/reload``, ``/pause`` and ``/resume`` too.

    Commands are for a socket that only the front's user can open: any page in a browser on the same machine may send a
    POST to a port of it.
    """

    async def healthz(_: Request) -> Response:
        is_alive = parts.is_door_alive
        return _json({"status": "alive" if is_alive else "the door does not move"}, 200 if is_alive else 503)

    async def readyz(_: Request) -> Response:
        reasons = parts.reasons()
        return _json({"status": "not ready", "reasons": reasons}, 503) if reasons else _json({"status": "ready"})

    async def status(_: Request) -> Response:
        return _json(parts.status())

    routes: list[BaseRoute] = [
        Route("/metrics", metrics),
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        Route("/status", status),
        *last_good.routes(parts.last_good, parts.hot, token=parts.token),
    ]
    if dashboard is not None:
        routes.append(Route("/dashboard", dashboard))
    return Starlette(routes=[*routes, *(_commands(parts) if with_commands else ())])


def _commands(parts: Parts) -> list[BaseRoute]:
    async def reload(_: Request) -> Response:
        if parts.supervisor is None:
            return _message("this front has no app of its own to reload (hotpath serve has)", 409)
        if await parts.supervisor.reload():
            return _message("the new version of the app serves")
        return _message("the new version of the app did not come up; the log of the front says why", 500)

    async def pause(request: Request) -> Response:
        try:
            seconds = parse_seconds(request.query_params.get("seconds", PAUSE_SECONDS), "--max")
        except DeclarationError as error:
            return _message(str(error), 400)
        parts.upstream.pause(seconds)
        return _message(f"requests for the app wait, for {seconds:g} s at most; 'hotpath resume' lets them go")

    async def resume(_: Request) -> Response:
        was_paused = parts.upstream.is_paused
        parts.upstream.resume()
        return _message("requests go to the app again" if was_paused else "nothing was paused")

    commands: dict[str, Callable[[Request], object]] = {"/reload": reload, "/pause": pause, "/resume": resume}
    return [Route(path, command, methods=["POST"]) for path, command in commands.items()]


def _message(text: str, status: int = 200) -> Response:
    return _json({"message": text}, status)


def _json(content: object, status: int = 200) -> Response:
    return JSONResponse(content, status, headers={"cache-control": "no-store"})
