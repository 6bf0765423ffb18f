"""A real engine alone serves the hot pages: byte for byte what the middleware answers, with its fields."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import unquote
from urllib.request import urlopen

import orjson
import pytest
from click.testing import CliRunner

from hotpath.asgi.client import asgi_get
from hotpath.asgi.middleware import HotpathMiddleware
from hotpath.cli.commands import main
from hotpath.serving import reader_of
from hotpath.site import Hotpath
from hotpath.store.origin import Origin
from hotpath.store.origin.copy_plan import QUERY
from hotpath.store.store import Store
from tests.store.origin.cluster import publish
from tests.store.origin.engine import ACCESS_KEY, BUCKET, REGION, SECRET_KEY, Engine
from tests.store.origin.proxy import Fault, Proxy

obstore: Any = pytest.importorskip("obstore", reason="pip install 'asgi-hotpath[s3]'")
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("credentials")]

SITE = """\
from pathlib import Path
from hotpath import Hotpath

hot = Hotpath("hot", origin={origin!r})
price = Path("price").read_text()
markets = Path("markets").read_text().split()


@hot.route("/", media_type="text/html", cache_control="public, max-age=5")
def home():
    return f"<h1>{{price}}</h1>" + "<p>" * 500


@hot.route("/rankings/{{market}}", each={{"market": ["kospi", "코스닥", "a b", "50%", "what?", "x:y@z;,=!$&'()*"]}})
def rankings(market):
    return {{"market": market, "fill": "x" * 5000}}


@hot.route("/docs/", media_type="text/html", headers={{"Content-Language": "de", "X-Frame-Options": "DENY"}})
def docs():
    return "<h1>Anleitung</h1>"


@hot.route("/{{market}}.png", each={{"market": markets}}, media_type="image/png")
def picture(market):
    return b"\\x89PNG" + market.encode()


@hot.route("/list", each=[{{"page": None}}, {{"page": 2}}], query=("page",))
def listing(page):
    return [page]
"""


class Bucket:
    """The engine by plain HTTP, as a CDN asks it."""

    def __init__(self, engine: Engine, site: str) -> None:
        self._store = obstore.store.S3Store(
            BUCKET,
            prefix=site,
            endpoint=engine.endpoint,
            access_key_id=ACCESS_KEY,
            secret_access_key=SECRET_KEY,
            region=REGION,
            client_options={"allow_http": True},
        )

    def get(self, path: str) -> tuple[int, dict[str, str], bytes]:
        url = obstore.sign(self._store, "GET", f"pages{path}", timedelta(minutes=5))
        try:
            with urlopen(url, timeout=10) as answer:
                return answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.read()
        except HTTPError as error:
            return error.code, {}, error.read()

    def pages(self) -> set[str]:
        return {meta["path"] for page in obstore.list(self._store, "pages") for meta in page}


@pytest.fixture
def site(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Builds the site in a process of its own, as an operator does."""

    def run(origin: str, *options: str, price: str = "1", markets: str = "kospi nyse", code: int = 0) -> dict[str, Any]:
        (tmp_path / "shop.py").write_text(SITE.format(origin=origin), "utf-8")
        (tmp_path / "price").write_text(price)
        (tmp_path / "markets").write_text(markets)
        command = [sys.executable, "-m", "hotpath", "build", "shop:hot", "--json", *options]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == code, done.stderr
        facts: dict[str, Any] = orjson.loads(done.stdout)["origin"]
        return facts

    return run


async def nobody(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 418, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def test_the_bucket_alone_serves_what_the_middleware_answers(
    engine: Engine, site: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    facts = site(engine.url("alone"), "--site-copy")["site_copy"]
    assert facts["pages"] == facts["put"] == 10
    assert facts["left_out"] == {QUERY: ["/list", "/list?page=2"]}
    assert facts["fields"] == ["x-frame-options"]

    bucket, hot = Bucket(engine, "alone"), Hotpath(tmp_path / "hot")
    app = HotpathMiddleware(nobody, hot=hot)
    manifest = hot.store.read_manifest(1)
    compared = 0
    for key in manifest.items:
        if key.startswith("/list"):
            continue
        expected = asyncio.run(asgi_get(app, key))
        assert expected.status == 200
        fields = {name.decode(): value.decode() for name, value in expected.headers}
        path = {"/": "/index.html", "/docs/": "/docs/index.html"}.get(key, key)
        # What a CDN sends on is decoded once by the engine.
        status, got, body = bucket.get(unquote(path))
        assert (status, body) == (200, expected.body), key
        for name in ("content-type", "cache-control", "content-encoding", "content-language", "content-length"):
            assert got.get(name) == fields.get(name), (key, name)
        compared += 1
    assert compared == 10
    assert bucket.get("/list")[0] == 404
    reader_of(hot).close()


def test_the_next_build_puts_what_has_changed_and_removes_what_is_gone(
    engine: Engine, start_proxy: Callable[[int], Proxy], site: Callable[..., dict[str, Any]]
) -> None:
    proxy = start_proxy(engine.port)
    origin = engine.url("changed", endpoint=proxy.endpoint)
    site(origin, "--site-copy")
    proxy.reset()
    facts = site(origin, price="2", markets="kospi lse")
    assert facts["site_copy"] | {"left_out": None, "fields": None} == {
        "generation": 2,
        "pages": 10,
        "put": 2,
        "removed": 1,
        "bytes": facts["site_copy"]["bytes"],
        "left_out": None,
        "fields": None,
        "is_unknown": False,
    }
    puts = [request.path.partition("?")[0] for request in proxy.requests if request.method == "PUT"]
    prefix = f"/{BUCKET}/changed/"
    assert sorted(path for path in puts if "/pages/" in path) == [f"{prefix}pages/index.html", f"{prefix}pages/lse.png"]
    order = [path.removeprefix(prefix) for path in puts]
    assert order.index("CURRENT") < order.index("COPY") < min(map(order.index, (p for p in order if "pages" in p)))
    assert order[-1] == "COPY"
    bucket = Bucket(engine, "changed")
    assert (bucket.get("/lse.png")[0], bucket.get("/nyse.png")[0]) == (200, 404)
    assert b"<h1>2</h1>" in bucket.get("/index.html")[2]

    proxy.reset()
    assert site(origin, "--site-copy", price="2", markets="kospi lse")["site_copy"]["put"] == 0
    assert not [request for request in proxy.requests if request.method == "PUT" and "/pages/" in request.path]


def test_an_engine_that_fails_while_pages_are_put_is_said_and_the_next_build_does_the_rest(
    engine: Engine, start_proxy: Callable[[int], Proxy], site: Callable[..., dict[str, Any]]
) -> None:
    proxy = start_proxy(engine.port)
    origin = engine.url("failing", endpoint=proxy.endpoint)
    proxy.plan(lambda request: Fault("status", 403) if "pages/rankings" in request.path else None)
    facts = site(origin, "--site-copy", code=69)
    assert facts["generation"] == 1
    assert "generation 1 was sent, and the site copy was not brought up to it" in facts["problem"]
    proxy.reset()
    assert site(origin, "--site-copy")["site_copy"]["pages"] == 10
    assert len(Bucket(engine, "failing").pages()) == 10


def test_after_a_rollback_or_a_pin_the_copy_is_of_what_is_served(engine: Engine, tmp_path: Path) -> None:
    url, store = engine.url("pinned"), Store(tmp_path / "hot")
    origin, bucket = Origin(url), Bucket(engine, "pinned")

    def mark() -> int:
        made = orjson.loads(bucket.get("/p0")[2])["mark"]
        assert isinstance(made, int)
        return made

    for number in (1, 2):
        publish(store, number)
        origin.send(store)
    origin.copy_site(store)
    assert mark() == 2
    for arguments in (["rollback", str(store.root)], ["unpin", str(store.root)], ["pin", str(store.root), "1"]):
        result = CliRunner().invoke(main, [*arguments, "--origin", url])
        assert (result.exit_code, result.stderr, mark()) == (0, "", 1), result.output
    publish(store, 3)
    origin.send(store)
    for is_pinned, expected in ((True, 1), (False, 3)):
        if not is_pinned:
            origin.unpin()
        copied = Origin(url).update_copy()  # on a machine that has no store
        assert copied is not None
        assert (copied.generation, mark()) == (expected, expected)
