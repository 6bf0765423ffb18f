"""Liveness and readiness for load balancers, deploys and people: is the process alive, and is it warm?"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

import anyio
from starlette.responses import JSONResponse

from hotpath.asgi.client import asgi_get
from hotpath.asgi.threads import run_in_thread
from hotpath.errors import DeclarationError
from hotpath.guard.guard import MemoryGuard
from hotpath.guard.priorities import local_path
from hotpath.serving.reader import reader_of
from hotpath.site import Hotpath
from hotpath.types import ASGIApp, Receive, Scope, Send

LIVENESS = "/healthz"
READINESS = "/readyz"
BASE_URL = "http://localhost"

# A critical page that takes longer than this is not warm.
FETCH_SECONDS = 10.0


class HealthEndpoints:
    """Answers ``/healthz`` and ``/readyz`` in front of ``app``; everything else passes.

    Liveness is 200 as long as the event loop turns. Readiness is 503 with reasons until a generation is loaded and
    every path of ``critical`` was really fetched through ``app`` with 200, and again while ``guard`` drains. What was
    warm once is not fetched again: readiness is asked every few seconds. ``base_url`` is the site these fetches ask
    for, where an app answers only to its own name, or redirects what is not https.

    Stands outside of ``HotpathMiddleware``: ``HealthEndpoints(HotpathMiddleware(app, hot=hot), hot=hot)``. Raises
    ``DeclarationError``.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hot: Hotpath,
        guard: MemoryGuard | None = None,
        critical: Collection[str] = (),
        liveness: str = LIVENESS,
        readiness: str = READINESS,
        base_url: str = BASE_URL,
    ) -> None:
        if isinstance(critical, str):
            raise DeclarationError(f"critical={critical!r} is text; write critical=({critical!r},)")
        for path in (*critical, liveness, readiness):
            if not path.startswith("/"):
                raise DeclarationError(f"{path!r} is no path of this site; write '/{path}'")
        if liveness == readiness:
            raise DeclarationError(f"liveness and readiness are both {liveness!r}; they answer different questions")
        site = urlsplit(base_url)
        if site.scheme not in ("http", "https") or not site.hostname or site.path.strip("/"):
            raise DeclarationError(f"base_url={base_url!r} is no site; write 'https://example.org'")
        self.app = app
        self._scheme, self._host = site.scheme, site.netloc.encode("ascii", "replace")
        self._hot = hot
        self._guard = guard
        self._cold = dict.fromkeys(critical)
        self._liveness = liveness
        self._readiness = readiness
        self._is_fetching = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry."""
        path = local_path(scope) if scope["type"] == "http" and scope["method"] in ("GET", "HEAD") else None
        if path == self._liveness:
            response = _response(200, {"status": "alive"})
        elif path == self._readiness:
            reasons = await self.reasons(scope.get("state"))
            response = (
                _response(503, {"status": "not ready", "reasons": reasons})
                if reasons
                else _response(200, {"status": "ready"})
            )
        else:
            await self.app(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            response.body = b""
        await response(scope, receive, send)

    async def reasons(self, state: Mapping[str, Any] | None = None) -> list[str]:
        """Why the process should get no traffic; empty when it should. ``state`` is what the app's lifespan made."""
        reader = reader_of(self._hot)
        if not reader.is_started:
            await run_in_thread(reader.start)
        reasons = []
        if reader.snapshot.generation is None and not self._hot.directories:
            reasons.append(reader.loader.degraded or "no generation is loaded")
        if self._guard is not None and not self._guard.admission.is_ready:
            reasons.append("the memory guard lets the process leave")
        return reasons + await self._warm(state)

    async def _warm(self, state: Mapping[str, Any] | None) -> list[str]:
        """Fetch what was not warm yet, one after the other, and only once at a time."""
        if not self._cold:
            return []
        if self._is_fetching:
            return [f"{path} is not warm yet" for path in self._cold]
        self._is_fetching = True
        try:
            reasons = []
            for path in [*self._cold]:
                problem = await self._fetch(path, state)
                if problem is None:
                    del self._cold[path]
                else:
                    reasons.append(f"{path} {problem}")
            return reasons
        finally:
            self._is_fetching = False

    async def _fetch(self, path: str, state: Mapping[str, Any] | None) -> str | None:
        started = time.monotonic()
        fields: dict[str, Any] = {"scheme": self._scheme}
        if state is not None:
            fields["state"] = dict(state)  # as a server does: each request has its own
        try:
            with anyio.fail_after(FETCH_SECONDS):
                answer = await asgi_get(self.app, path, headers=[(b"host", self._host)], **fields)
        except TimeoutError:
            return f"gave no answer within {FETCH_SECONDS:g} s"
        except Exception as error:  # the app may raise anything, and that is the reason
            return f"raised {type(error).__name__} after {time.monotonic() - started:.1f} s"
        return None if answer.status == 200 else f"answered {answer.status}"


def _response(status: int, content: dict[str, object]) -> JSONResponse:
    return JSONResponse(content, status, headers={"cache-control": "no-store"})
