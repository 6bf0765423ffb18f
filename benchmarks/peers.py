"""The apps that the serving benchmark compares, each behind uvicorn in a process of its own.

    python -m benchmarks.peers NAME --root DIR --port N

The page is the same everywhere. Imports of a peer's own packages are inside its function: what is not installed is
left out of the comparison.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.plain import Prepared, constant, naive
from benchmarks.sample import PATH, ROUTE, ASGIApp, Header, browser_headers, declare, rows
from hotpath import Hotpath, HotpathMiddleware
from hotpath.serving import reader_of
from hotpath.testing import Response, asgi_get

NOT_FOUND = constant(404, [(b"content-length", b"0")], b"")


@dataclass(frozen=True, slots=True)
class Files:
    """Where the page is for those who serve files or rows."""

    root: Path
    store: Path

    @property
    def static(self) -> Path:
        return self.store / "current"

    @property
    def database(self) -> Path:
        return self.root / "rows.sqlite"


def loaded(store: Path) -> Hotpath:
    """The site, with its page in memory."""
    hot = declare(store)
    reader_of(hot).start()
    return hot


def answer_of_hotpath(store: Path, headers: list[Header]) -> Response:
    """What hotpath sends to a request with these fields."""
    hot = loaded(store)
    try:
        return asyncio.run(asgi_get(HotpathMiddleware(NOT_FOUND, hot=hot), PATH, headers=headers))
    finally:
        reader_of(hot).close()


def _raw(files: Files) -> ASGIApp:
    """The limit: constant bytes with five fields."""
    answer = answer_of_hotpath(files.store, [])
    return constant(200, _five(answer), answer.body)


def _five(answer: Response) -> list[Header]:
    wanted = (b"content-type", b"content-length", b"etag", b"cache-control", b"vary")
    return [(name, value) for name, value in answer.headers if name in wanted]


def _same(headers: Callable[[Response], list[Header]]) -> Callable[[Files], ASGIApp]:
    """A raw app with exactly the status, fields and bytes of hotpath's answer to the request."""

    def make(files: Files) -> ASGIApp:
        answer = answer_of_hotpath(files.store, headers(answer_of_hotpath(files.store, [])))
        return constant(answer.status, answer.headers, answer.body)

    return make


def _etag(answer: Response) -> bytes:
    return (answer.header("etag") or "").encode("ascii")


def _naive(files: Files) -> ASGIApp:
    def prepared(headers: list[Header]) -> Prepared:
        answer = answer_of_hotpath(files.store, headers)
        coded = [field for field in answer.headers if field[0] == b"content-encoding"]
        fields = _five(answer)
        about = [field for field in fields if not field[0].startswith(b"content-")]
        return Prepared(_etag(answer), fields + coded, answer.body, about)

    return naive({PATH.encode("ascii"): (prepared([]), prepared([(b"accept-encoding", b"gzip")]))}, NOT_FOUND)


def _hotpath(files: Files) -> ASGIApp:
    """Wrapped outermost, around a whole FastAPI application."""
    from fastapi import FastAPI

    return HotpathMiddleware(FastAPI(), hot=loaded(files.store))


def _hotpath_added(files: Files) -> ASGIApp:
    from fastapi import FastAPI

    app = FastAPI()
    app.add_middleware(HotpathMiddleware, hot=loaded(files.store))
    return app


def _whitenoise(files: Files) -> ASGIApp:
    white_noise = import_module("whitenoise").WhiteNoise

    def not_found(environ: Any, start_response: Any) -> list[bytes]:
        start_response("404 Not Found", [("content-length", "0")])
        return [b""]

    app: ASGIApp = import_module("a2wsgi").WSGIMiddleware(white_noise(not_found, root=str(files.static.resolve())))
    return app


def _servestatic(files: Files) -> ASGIApp:
    app: ASGIApp = import_module("servestatic").ServeStaticASGI(NOT_FOUND, root=str(files.static.resolve()))
    return app


def _static_files(files: Files) -> ASGIApp:
    from starlette.staticfiles import StaticFiles

    return StaticFiles(directory=files.static.resolve())


def _sqlite(files: Files) -> ASGIApp:
    """The rows from an indexed table, made into JSON by the framework at each request."""
    from fastapi import FastAPI

    app = FastAPI()
    app.get(ROUTE)(_ranking(files))
    return app


def _ranking(files: Files) -> Callable[[str, str], Awaitable[dict[str, Any]]]:
    """The route's function: the rows of one market."""
    connection = sqlite3.connect(files.database, check_same_thread=False)
    connection.row_factory = sqlite3.Row

    async def ranking(market: str, metric: str) -> dict[str, Any]:
        return {"rows": _query(connection, market)}

    return ranking


def _query(connection: sqlite3.Connection, market: str) -> list[dict[str, Any]]:
    wanted = "SELECT rank, code, name, price, change, volume, pe FROM ranking WHERE market = ? ORDER BY rank LIMIT 100"
    return [dict(row) for row in connection.execute(wanted, (market,))]


def _fastapi_cache(files: Files) -> ASGIApp:
    from fastapi import FastAPI

    package = import_module("fastapi_cache")
    backend = import_module("fastapi_cache.backends.inmemory").InMemoryBackend
    cache = import_module("fastapi_cache.decorator").cache

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        package.FastAPICache.init(backend())
        yield

    app = FastAPI(lifespan=lifespan)
    app.get(ROUTE)(cache(expire=3600)(_ranking(files)))
    return app


def _cashews(files: Files) -> ASGIApp:
    from fastapi import FastAPI

    cache = import_module("cashews").Cache()
    cache.setup("mem://")
    app = FastAPI()
    app.get(ROUTE)(cache(ttl="1h", key="ranking:{market}:{metric}")(_ranking(files)))
    return app


# Named as in the table; in the order in which they are measured.
PEERS: dict[str, Callable[[Files], ASGIApp]] = {
    "raw": _raw,
    "same-identity": _same(lambda _: []),
    "same-gzip": _same(lambda _: [(b"accept-encoding", b"gzip")]),
    "same-304": _same(lambda answer: [(b"if-none-match", _etag(answer))]),
    "same-browser": _same(lambda _: browser_headers()),
    "naive": _naive,
    "hotpath": _hotpath,
    "hotpath-added": _hotpath_added,
    "whitenoise": _whitenoise,
    "servestatic": _servestatic,
    "staticfiles": _static_files,
    "sqlite": _sqlite,
    "fastapi-cache2": _fastapi_cache,
    "cashews": _cashews,
}


def fill_database(files: Files) -> None:
    """Five markets of a hundred rows, with the index that the query wants."""
    with contextlib.closing(sqlite3.connect(files.database)) as connection, connection:
        connection.execute("CREATE TABLE ranking (market, rank, code, name, price, change, volume, pe)")
        connection.execute("CREATE INDEX by_market ON ranking (market, rank)")
        for market in ("kospi", "kosdaq", "nyse", "nasdaq", "tse"):
            values = [(market, *row.values()) for row in rows()]
            connection.executemany("INSERT INTO ranking VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)


def nginx_configuration(files: Files, port: int, open_files: int = 100) -> str:
    """One worker in the foreground, files with their .gz beside them, nothing written but to the directory given."""
    root = files.root
    temporary = "\n".join(
        f"  {kind}_temp_path {root}/nginx-{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""
daemon off;
master_process off;
worker_processes 1;
pid {root}/nginx.pid;
error_log stderr;
events {{ worker_connections 256; }}
http {{
{temporary}
  access_log off;
  types {{ application/json json; }}
  keepalive_requests 1000000000;
  server {{
    listen 127.0.0.1:{port};
    root {files.static.resolve()};
    gzip_static on;
    add_header Cache-Control "public, max-age=60";
    open_file_cache max={open_files} inactive=600s;
    open_file_cache_valid 600s;
  }}
}}
"""


def main() -> None:
    """Serve one peer until terminated."""
    parser = argparse.ArgumentParser(description="Serve one peer of the serving benchmark.")
    parser.add_argument("name", choices=PEERS)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    try:
        app = PEERS[options.name](Files(options.root, options.root / "hot"))
    except ImportError as error:
        sys.exit(f"not installed: {error}")
    import uvicorn

    uvicorn.run(
        app, host="127.0.0.1", port=options.port, loop="uvloop", http="httptools", access_log=False, log_level="warning"
    )


if __name__ == "__main__":
    main()
