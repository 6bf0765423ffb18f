"""A store alone answers as the declaration does: what holds for all pages is in the manifest of each generation."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hotpath import Hotpath, HotpathMiddleware
from hotpath.batch import build
from hotpath.serving import reader_of
from hotpath.types import Receive, Scope, Send
from tests.front.ways import front, talk, without_date

pytestmark = pytest.mark.slow  # servers, files that have to settle, and looks at a store

TARGETS = (
    "/page",
    "/page/",
    "/slash/",
    "/slash",
    "/page?ref=1",
    "/page?src_a=1&utm_source=x",
    "/page?other=1",
    "/indices/kospi",
    "/INDICES/KOSPI",
    "/indices/none",
)
HOSTS = ("example.org", "www.example.net", "example.net", "other.org", "EXAMPLE.ORG:8000")
FIELDS = ("", "Accept-Encoding: gzip\r\n", "If-None-Match: *\r\n", "Range: bytes=0-3\r\n", "Content-Length: 0\r\n")


async def the_app(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


def declared(root: Path, **options: object) -> Hotpath:
    hot = Hotpath(root / "hot", refresh=0.05, **options)  # type: ignore[arg-type]
    hot.route("/page")(lambda: {"rows": ["x" * 2000]})
    hot.route("/slash/")(lambda: {"rows": [1]})
    return hot


def everything(root: Path) -> Hotpath:
    hot = declared(
        root,
        headers={"X-Site": "é", "Strict-Transport-Security": "max-age=1"},
        hosts=["example.org", "*.example.net"],
        ignore_query=["ref", "src_*"],
        redirect_slashes=True,
        generation_header=False,
    )
    (root / "data").mkdir()
    (root / "data" / "kospi.json").write_text('{"index": 1}')
    hot.directory("/indices/{name}", root / "data" / "{name}.json", headers={"A": "b"}, fold_case=True, lifetime="2h")
    return hot


def request(target: str, host: str, fields: str = "") -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: {host}\r\n{fields}Connection: close\r\n\r\n".encode()


def timeless(answer: bytes) -> bytes:
    """Without what counts seconds."""
    return re.sub(rb"ttl=\d+", b"ttl=", without_date(answer))


@pytest.fixture
def opened() -> Iterator[list[Hotpath]]:
    hots: list[Hotpath] = []
    yield hots
    for hot in hots:
        reader_of(hot).close()


def test_the_same_bytes_with_the_store_as_with_the_declaration(tmp_path: Path, opened: list[Hotpath]) -> None:
    hot = everything(tmp_path)
    build(hot)
    time.sleep(2.1)  # the file of the directory counts at the first look then
    alone = Hotpath.of_store(tmp_path / "hot")
    opened += [hot, alone]
    requests = [request(target, host) for target in TARGETS for host in HOSTS]
    requests += [request(target, "example.org", fields) for target in TARGETS for fields in FIELDS]
    with (
        front(HotpathMiddleware(the_app, hot=hot), hot) as (_, _, by_target),
        front(HotpathMiddleware(the_app, hot=alone), alone) as (door, _, by_store),
    ):
        answers = [(timeless(talk(by_target, data)), timeless(talk(by_store, data))) for data in requests]
        assert door.hits > 20
    assert alone.reading == hot.reading
    assert alone.directories == hot.directories
    assert [a for a, b in answers if a != b] == []
    statuses = {answer.split()[1] for answer, _ in answers}
    assert statuses == {b"200", b"206", b"304", b"308", b"404"}


def test_another_generation_brings_other_options(tmp_path: Path, opened: list[Hotpath]) -> None:
    build(declared(tmp_path, hosts=["example.org"]))
    alone = Hotpath.of_store(tmp_path / "hot")
    opened.append(alone)
    with front(HotpathMiddleware(the_app, hot=alone), alone) as (door, _, port):
        assert b"200 OK" in talk(port, request("/page", "example.org"))
        assert b" 404 " in talk(port, request("/page", "example.net"))
        build(declared(tmp_path, hosts=["example.net"], headers={"X-New": "1"}))
        until = time.monotonic() + 10
        while b"x-new: 1" not in talk(port, request("/page", "example.net")).lower():
            assert time.monotonic() < until
            time.sleep(0.05)
        hits = door.hits
        while b"200 OK" in talk(port, request("/page", "example.net")) and door.hits == hits:
            assert time.monotonic() < until  # the door sees it within a second, the middleware before
            time.sleep(0.05)
        assert b" 404 " in talk(port, request("/page", "example.org"))


def test_a_generation_whose_app_has_bypass_is_answered_and_said_once(
    tmp_path: Path, opened: list[Hotpath], caplog: pytest.LogCaptureFixture
) -> None:
    build(declared(tmp_path))
    alone = Hotpath.of_store(tmp_path / "hot")
    opened.append(alone)
    with front(HotpathMiddleware(the_app, hot=alone), alone) as (_, _, port):
        assert "bypass=" not in caplog.text
        hot = declared(tmp_path)
        hot.has_bypass = True
        build(hot)
        until = time.monotonic() + 10
        while "has bypass=, which the front cannot ask" not in caplog.text:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert b"200 OK" in talk(port, request("/page", "example.org"))
        time.sleep(2.2)
    assert caplog.text.count("has bypass=") == 1


def test_a_store_that_fills_later_has_its_hosts(tmp_path: Path, opened: list[Hotpath]) -> None:
    alone = Hotpath.of_store(tmp_path / "hot")
    alone.reading = declared(tmp_path).reading  # looks often
    opened.append(alone)
    with front(HotpathMiddleware(the_app, hot=alone), alone) as (_, _, port):
        assert b" 404 " in talk(port, request("/page", "other.org"))
        build(declared(tmp_path, hosts=["example.org"]))
        until = time.monotonic() + 10
        while b"200 OK" not in talk(port, request("/page", "example.org")):
            assert time.monotonic() < until
            time.sleep(0.05)
        time.sleep(1.2)
        assert b" 404 " in talk(port, request("/page", "other.org"))


def test_a_manifest_without_the_section_is_read_as_before(tmp_path: Path, opened: list[Hotpath]) -> None:
    hot = declared(tmp_path)
    hot.site_wide = lambda: None  # type: ignore[method-assign,assignment,return-value] # as hotpath before the section
    build(hot)
    assert hot.store.read_manifest(1).head.site is None
    alone = Hotpath.of_store(tmp_path / "hot")
    opened.append(alone)
    with front(HotpathMiddleware(the_app, hot=alone), alone) as (_, _, port):
        assert b"200 OK" in talk(port, request("/page", "any.org"))
