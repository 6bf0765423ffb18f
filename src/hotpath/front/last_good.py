"""Last good answers in the front: where their file is, what is said of them, and the commands on the admin port."""

from __future__ import annotations

import asyncio
import hmac
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from hotpath.asgi.last_good.middleware import LastGood
from hotpath.asgi.last_good.requests import ANALYTICS_COOKIES, url_key
from hotpath.asgi.middleware import HotpathMiddleware
from hotpath.front.upstream import Upstream
from hotpath.log import logger
from hotpath.options import human_bytes
from hotpath.serving.reader import reader_of
from hotpath.serving.resolver import find_key
from hotpath.site import Hotpath
from hotpath.types import ASGIApp

DEFAULT_BYTES: Final = 256 * 1024 * 1024
# How long a purge may take: the file may be locked by another front.
PURGE_SECONDS: Final = 10.0
_ROBOTS: Final = "/robots.txt"
_WHOLE_URL: Final = "write ?url= with a whole URL, https://example.org/page"


@dataclass(frozen=True, slots=True)
class LastGoodOptions:
    """As ``LastGood`` has them; ``max_bytes`` is ``None`` for none. ``token`` is what a purge has to show."""

    max_bytes: int | None = DEFAULT_BYTES
    patience: float = 5.0
    stale: float = 7 * 86400.0
    ignore_cookies: tuple[str, ...] = ANALYTICS_COOKIES
    is_fresh: bool = False
    empty_replaces: bool = False
    token: str | None = None


def file_of(hot: Hotpath, environ: Mapping[str, str] = os.environ) -> Path:
    """The file of a site: in ``HOTPATH_STATE``, else beside its store."""
    root = Path(hot.store.root).absolute()
    state = environ.get("HOTPATH_STATE")
    if not state:
        return root.with_name(f"{root.name}.last-good.sqlite")
    # Two stores of the same name may share the directory.
    number = blake2b(os.fsencode(root), digest_size=4).hexdigest()
    return Path(state).absolute() / f"{root.name}-{number}.last-good.sqlite"


def around(app: ASGIApp, upstream: Upstream, hot: Hotpath, options: LastGoodOptions) -> LastGood | None:
    """``app`` with last good answers, ``None`` where there shall be none. Raises ``DeclarationError``."""
    # Who comes while nobody listens waits for the app, without hammering it.
    cache = _made(app, hot, options, is_reachable=lambda: upstream.is_up and not upstream.is_paused)
    if cache is None:
        return None
    cache.is_front = True

    def changed() -> None:
        if upstream.is_up and not upstream.is_paused:
            cache.app_answered()

    upstream.on_change(changed)
    return cache


def inside(middleware: HotpathMiddleware, options: LastGoodOptions) -> LastGood | None:
    """Put last good answers between ``middleware`` and its app, which runs in this process. ``None`` where there shall
    be none, or the app has its own. Raises ``DeclarationError``.
    """
    if isinstance(middleware.app, LastGood):
        return None
    cache = _made(middleware.app, middleware.hot, options)
    if cache is not None:
        middleware.app = cache
    return cache


def _made(app: ASGIApp, hot: Hotpath, options: LastGoodOptions, **more: Any) -> LastGood | None:
    if options.max_bytes is None:
        return None
    return LastGood(
        app,
        file=file_of(hot),
        max_bytes=options.max_bytes,
        patience=options.patience,
        stale=options.stale,
        ignore_cookies=options.ignore_cookies,
        fresh=options.is_fresh,
        empty_replaces=options.empty_replaces,
        **more,
    )


def start_text(cache: LastGood | None, hot_keys: list[bytes]) -> list[str]:
    """What is said at the start. Reads the file."""
    if cache is None:
        return ["  cold    nothing is kept of the app's answers (--last-good 256MiB)"]
    cache.file.measure()
    use = "and answers while fresh" if cache.rules.is_fresh else "used only while the app fails"
    used, most = human_bytes(cache.file.used_bytes), human_bytes(cache.file.max_bytes)
    lines = [f"  cold    last good answers, {use}: {used} of {most} in {cache.file.path}"]
    if _ROBOTS.encode() not in hot_keys and not cache.file.has_robots():
        lines.append(
            "  robots  no last good /robots.txt yet: crawlers leave the site alone while it fails; ask for it once"
        )
    return lines


def figures(cache: LastGood) -> Iterator[Metric]:
    """What Prometheus scrapes of it."""
    counters, written = cache.counters, cache.file.counters
    for name, text, value in (
        ("served", "Last good answers given in place of a failing app's.", counters.served),
        ("fresh_hits", "Fresh answers given without the app (--fresh).", counters.hits),
        ("refused", "Requests refused because the app fails and is not asked.", counters.refused),
        ("stored", "Answers of the app that were kept.", written.stored),
        ("evicted", "Answers removed because there was no room.", written.evicted),
        ("lost", "Answers not kept because the file did not work or was too slow.", written.lost),
    ):
        yield CounterMetricFamily(f"hotpath_front_last_good_{name}", text, value=value)
    for name, text, value in (
        ("bytes", "Bytes of the file in use.", cache.file.used_bytes),
        ("app_failing", "1 while the app fails and is asked by one request at a time.", int(cache.breaker.is_open)),
    ):
        yield GaugeMetricFamily(f"hotpath_front_last_good_{name}", text, value=value)


def hot_page(hot: Hotpath, url: str) -> dict[str, object] | None:
    """The key and the generation of the hot page that ``url`` (or a path) gets; ``None`` where the app answers.

    The generation of a watched file is ``None``. Blocks: the page may have to be read from disk.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    reader = reader_of(hot)
    snapshot = reader.snapshot
    if parts.netloc and not _is_host_of(hot, parts.netloc):
        return None
    path, query = parts.path or "/", parts.query
    key = find_key(snapshot, path.encode("utf-8", "surrogateescape"), query.encode("utf-8", "surrogateescape"))
    page = reader.load_page(key) if isinstance(key, bytes) else None
    return None if page is None else {"key": page.key, "generation": page.generation}


def _is_host_of(hot: Hotpath, authority: str) -> bool:
    hosts = hot.reading.hosts
    return hosts is None or hosts.accept(authority.encode("latin-1", "replace"), ())


def routes(cache: LastGood | None, hot: Hotpath, *, token: str | None) -> list[BaseRoute]:
    """``GET /last-good?url=`` says whether a page is hot, else why an answer is or is not kept; ``POST /purge?url=`` or
    ``?tag=`` removes answers for who shows the token.
    """

    async def explain(request: Request) -> Response:
        url = request.query_params.get("url", "")
        keys = _keys(url)
        if not keys and not url.startswith("/"):
            return _json({"message": _WHOLE_URL + ", or a path"}, 400)
        page = await asyncio.to_thread(hot_page, hot, url)
        if page is not None:
            return _json({"answers": [], "hot": page})
        if cache is None:
            return _json({"answers": [], "because": "--last-good is off"})
        if keys:
            reports = [await asyncio.to_thread(cache.explain, key) for key in keys]
            reports = [report for report in reports if report["is_kept"]] or reports[:1]
        else:
            reports = await asyncio.to_thread(cache.explain_target, url)
        answer: dict[str, object] = {"answers": reports}
        if not reports:
            answer["because"] = "no answer to a GET of it was seen"
        has_one = any(report["is_kept"] for report in reports)
        if urlsplit(url).path == _ROBOTS and not has_one:
            answer["robots"] = "there is no good robots.txt: while the app fails, crawlers leave the site alone"
        return _json(answer)

    async def purge(request: Request) -> Response:
        if not token:
            return _json({"message": "purging needs a token: start the front with --admin-token"}, 403)
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode("utf-8", "replace"), f"Bearer {token}".encode()):
            fields = {"www-authenticate": 'Bearer realm="hotpath"'}
            return _json({"message": "the token is missing or wrong"}, 401, fields)
        return await _purged(cache, request)

    return [Route("/last-good", explain), Route("/purge", purge, methods=["POST"])]


async def _purged(cache: LastGood | None, request: Request) -> Response:
    if cache is None:
        return _json({"message": "--last-good is off: nothing is kept"}, 409)
    url, tag = request.query_params.get("url"), request.query_params.get("tag")
    if (url is None) == (tag is None):
        return _json({"message": _WHOLE_URL + ", or ?tag= with one tag"}, 400)
    keys = _keys(url or "")
    if tag is not None:
        removals = [cache.file.purge_tag(tag.encode("utf-8", "replace"))]
    elif keys:
        removals = [cache.file.purge_url(key) for key in keys]
    else:
        return _json({"message": _WHOLE_URL}, 400)
    try:
        async with asyncio.timeout(PURGE_SECONDS):
            count = sum(await asyncio.gather(*map(asyncio.wrap_future, removals)))
    except TimeoutError:
        logger.warning("hotpath: a purge waits for %s", cache.file.path)
        return _json({"message": "the file does not work now; nothing purged is used, and it goes when it does"}, 503)
    return _json({"message": f"removed {count}", "removed": count})


def _keys(url: str) -> list[bytes]:
    """The keys of a whole URL, none for what is none. Of both schemes: which one the front sees depends on the proxy
    before it.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return []
    if parts.scheme not in ("http", "https") or not parts.netloc:
        return []
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    host, written = parts.netloc.encode("latin-1", "replace"), target.encode("latin-1", "replace")
    schemes = (parts.scheme, "http" if parts.scheme == "https" else "https")
    return [url_key(scheme, host, written) for scheme in schemes]


def _json(content: object, status: int = 200, fields: Mapping[str, str] | None = None) -> Response:
    return JSONResponse(content, status, headers={"cache-control": "no-store", **(fields or {})})
