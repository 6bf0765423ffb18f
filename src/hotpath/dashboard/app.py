"""``Dashboard``: the status page as an ASGI app. It answers GET and HEAD, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from os import PathLike
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs

import anyio
import anyio.to_thread
import orjson
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from hotpath.asgi.access_log import HotpathRequest
from hotpath.dashboard.access import COOKIE, Access, Allow, Refused
from hotpath.dashboard.facts import StatusFacts
from hotpath.dashboard.markup import Markup
from hotpath.dashboard.memory_log import MemoryLog
from hotpath.dashboard.page import POLICY, document, login_page, refusal_page, versions
from hotpath.dashboard.plots import moment
from hotpath.dashboard.sections import sections
from hotpath.dashboard.sources import Sources
from hotpath.errors import DeclarationError
from hotpath.guard.guard import MemoryGuard
from hotpath.options import to_json
from hotpath.site import Hotpath
from hotpath.types import Receive, Scope, Send

# Between two looks of a browser for newer figures.
NEWS_MILLISECONDS: Final = 2000
MAX_FORM_BYTES: Final = 4096

_HOT_RESULTS: Final = frozenset({"hit", "not_modified", "redirect", "refused"})
_HEADERS: Final = {
    "cache-control": "no-store",
    "content-security-policy": POLICY,
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class Dashboard:
    """The status page of a site, for your own admin area: ``app.mount("/status", Dashboard(hot=hot, guard=guard))``.

    It shows the store, what this process serves, and ``guard``, whose memory it keeps over time in ``memory_log``
    (``memory.csv`` in the store by default). Give ``observe`` to the middleware, ``HotpathMiddleware(app, hot=hot,
    observe=dashboard.observe)``, and it counts requests too.

    Only this machine sees it unless there is a ``token`` (16 or more characters, by a form, a cookie or
    ``Authorization: Bearer``), or ``allow``, a function of the scope, that says who is logged in. ``hosts`` are further
    names that the page is asked for by. A guard in SHED refuses it like any cold page, unless its ``priority`` says P0
    for the path. ``access`` stands for the three where something else decides: the command and the front.

    Raises ``DeclarationError`` for options that cannot work.
    """

    def __init__(
        self,
        *,
        hot: Hotpath,
        guard: MemoryGuard | None = None,
        token: str | None = None,
        allow: Allow | None = None,
        hosts: Iterable[str] = (),
        memory_log: str | PathLike[str] | None = None,
        access: Access | None = None,
    ) -> None:
        if not isinstance(hot, Hotpath):
            raise DeclarationError(f"hot={hot!r}: give the Hotpath object that declares the routes")
        if guard is not None and not isinstance(guard, MemoryGuard):
            raise DeclarationError(f"guard={guard!r}: give the MemoryGuard of the middleware")
        self.access = access or Access(token=token, allow=allow, hosts=hosts)
        self.sources = Sources(hot, guard, memory_log=MemoryLog(Path(memory_log)) if memory_log is not None else None)
        self._limiter: anyio.CapacityLimiter | None = None
        self._made: tuple[StatusFacts, dict[str, Markup]] | None = None
        if guard is not None:
            guard.on_sample.append(self._sample)

    def observe(self, request: HotpathRequest) -> None:
        """Count one request; for ``observe=`` of the middleware."""
        if request.result in _HOT_RESULTS:
            self.sources.traffic.add(hot=1, seconds=request.microseconds / 1e6)
        else:
            is_answered = request.result not in ("shed", "error")
            self.sources.traffic.add(cold=1, seconds=request.microseconds / 1e6 if is_answered else None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry, for HTTP."""
        if scope["type"] != "http":
            raise ValueError(f"Dashboard answers HTTP only, not {scope['type']!r}")
        request = Request(scope, receive)
        response = await self._answer(request)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        if request.method == "HEAD":
            response = Response(status_code=response.status_code, headers=dict(response.headers))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if not _is_here(request.scope):
            return Response("Not Found", 404, media_type="text/plain")
        refused = await self.access.check(request.scope)
        if refused is not None:
            return await self._answer_stranger(request, refused)
        if request.method not in ("GET", "HEAD"):
            return Response(status_code=405, headers={"allow": "GET, HEAD"})
        if "token" in request.query_params:  # it is in the cookie, and should not stay in the address
            return Response(status_code=303, headers={"location": _own_path(request)})
        if "events" in request.query_params and request.method == "GET":
            return await self._news(request)
        made, updated = await self._in_thread(self._sections)
        return HTMLResponse(document(made, updated=updated, events="?events=1"))

    async def _answer_stranger(self, request: Request, refused: Refused) -> Response:
        if not refused.asks_token:
            return HTMLResponse(refusal_page(refused.problem), refused.status)
        given, problem = request.query_params.get("token"), ""
        if request.method == "POST":
            given = await _form_token(request)
        elif request.method not in ("GET", "HEAD"):
            return Response(status_code=405, headers={"allow": "GET, HEAD, POST"})
        if given is not None:
            if self.access.is_token(given):
                response = Response(status_code=303, headers={"location": _own_path(request)})
                response.set_cookie(
                    COOKIE,
                    self.access.cookie,
                    path=request.url.path,
                    httponly=True,
                    samesite="strict",
                    secure=request.url.scheme == "https",
                )
                return response
            problem = "This is not the token."
        return HTMLResponse(login_page(problem), 401)

    async def _news(self, request: Request) -> Response:
        """What has changed since the browser saw the page, as one event; then the stream ends.

        The browser begins the next by itself. One that stays open would keep a server from ending, and a guard would
        take all that the process grows meanwhile for what this request needs.
        """
        seen = _parse_seen(request.headers.get("last-event-id") or request.query_params.get("seen", ""))
        made, updated = await self._in_thread(self._sections)
        now = versions(made)
        changed = {name: made[name] for name, version in now.items() if seen.get(name) != version}
        data = orjson.dumps({"updated": updated, "sections": to_json(changed)})
        ident = " ".join(f"{name}:{version}" for name, version in now.items()).encode("ascii")
        event = b"retry: %d\nevent: sections\nid: %b\ndata: %b\n\n" % (NEWS_MILLISECONDS, ident, data)
        return Response(event, media_type="text/event-stream")

    def _sections(self) -> tuple[dict[str, Markup], str]:
        facts = self.sources.facts()
        if self._made is None or self._made[0] is not facts:  # else somebody else looked in this same second
            self._made = facts, sections(facts)
        return self._made[1], f"{moment(facts.at)}:{int(facts.at) % 60:02d}"

    async def _in_thread(self, function: Callable[[], tuple[dict[str, Markup], str]]) -> tuple[dict[str, Markup], str]:
        # Not the pool that the app's functions run in: in an incident that one is full.
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(1)
        return await anyio.to_thread.run_sync(function, limiter=self._limiter)

    def _sample(self, guard: MemoryGuard) -> None:
        """In the guard's thread, after each sample."""
        reading = guard.reading
        if reading is not None:
            self.sources.recorder.note(guard.state.name, reading.limit, max(0, reading.unreclaimable))


def _is_here(scope: Scope) -> bool:
    """Below a mount point only its root; as a route, wherever the route is."""
    root, path = scope.get("root_path") or "", scope["path"]
    return not root or path.removeprefix(root) in ("", "/")


def _own_path(request: Request) -> str:
    """Where the page is; with two slashes in front it would be another host."""
    return "/" + request.url.path.lstrip("/")


def _parse_seen(text: str) -> dict[str, str]:
    pairs = (part.partition(":") for part in text[:2000].split())
    return {name: version for name, _, version in pairs}


async def _form_token(request: Request) -> str | None:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_FORM_BYTES:
            return ""
    return parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True).get("token", [""])[0]
