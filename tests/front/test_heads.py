"""What the door understands, and that it understands nothing otherwise than the parsers of uvicorn."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from hotpath.front.heads import MAX_HEAD_BYTES, MAX_LINES, Blocks, Meaning, is_half, parse_block
from hotpath.front.hits import Hits
from hotpath.pages.hosts import Hosts
from hotpath.serving.resolver import Selection
from tests.front.random_heads import heads
from tests.front.ways import by_the_door
from tests.wire.conformance.site import Site

PLAIN = b" HTTP/1.1\r\nHost: example.org\r\n\r\n"


def block(*lines: bytes, version: bytes = b"1.1") -> bytes:
    return b"\r\n".join([b" HTTP/" + version, *lines, b"", b""])


HOST = b"Host: example.org"


def test_a_plain_block_means_nothing_special() -> None:
    assert parse_block(PLAIN) == Meaning((), False, Selection.of(()))


@pytest.mark.parametrize(
    ("lines", "fields"),
    [
        ([b"Accept-Encoding: gzip, br"], [(b"accept-encoding", b"gzip, br")]),
        ([b"IF-NONE-MATCH:\t\"a\" \t"], [(b"if-none-match", b'"a"')]),
        ([b"Accept: */*", b"Range:bytes=0-1", b"Cookie: a"], [(b"range", b"bytes=0-1")]),
        ([b"Range: a", b"Range: b"], [(b"range", b"a"), (b"range", b"b")]),
        ([b"Accept-Encoding:"], [(b"accept-encoding", b"")]),
    ],
)  # fmt: skip
def test_only_fields_that_can_change_an_answer_are_kept(lines: list[bytes], fields: list[tuple[bytes, bytes]]) -> None:
    assert parse_block(block(HOST, *lines)) == Meaning(tuple(fields), False, Selection.of(fields))


@pytest.mark.parametrize(
    ("version", "line", "closes"),
    [
        (b"1.1", b"Connection: close", True),
        (b"1.1", b"connection: CLOSE", True),
        (b"1.1", b"Connection: keep-alive", False),
        (b"1.0", b"X: y", True),
        (b"1.0", b"Connection: keep-alive", True),  # as uvicorn, which keeps no connection of HTTP/1.0
    ],
)
def test_whether_the_connection_ends(version: bytes, line: bytes, closes: bool) -> None:
    meaning = parse_block(block(HOST, line, version=version))
    assert meaning is not None
    assert meaning.closes is closes


@pytest.mark.parametrize(
    "lines",
    [
        [b"X: y"],
        [HOST, HOST],
        [b"Host:"],
        [b"Host: a b"],
        [b"Host: a@b"],
        [HOST, b"Content-Length: 0"],
        [HOST, b"Transfer-Encoding: chunked"],
        [HOST, b"Upgrade: websocket", b"Connection: Upgrade"],
        [HOST, b"Connection: keep-alive, x"],
        [HOST, b"Connection: close", b"Connection: close"],
        [HOST, b"Proxy-Connection: close"],
        [HOST, b"Expect: 100-continue"],
        [HOST, b"TE: trailers"],
        [HOST, b"X : y"],
        [HOST, b"X: y\r\n folded"],
        [HOST, b"X: a\nY: b"],
        [HOST, b"X: a\rb"],
        [HOST, b"X: \x00"],
        [HOST, b"X: \x7f"],
        [HOST, b"X"],
        [HOST, b": y"],
        [HOST, b"X\xe9: y"],
        [HOST, *[b"X: y"] * MAX_LINES],
    ],
)
def test_what_is_left_to_uvicorn(lines: list[bytes]) -> None:
    assert parse_block(block(*lines)) is None


@pytest.mark.parametrize("version", [b"1.2", b"2.0", b"0.9", b"1.1 ", b"1"])
def test_other_versions_are_left_to_uvicorn(version: bytes) -> None:
    assert parse_block(block(HOST, version=version)) is None


def test_hosts_that_are_not_answered_are_left_to_the_app() -> None:
    hosts = Hosts.parse(["example.org", "*.example.net"])
    assert parse_block(block(b"Host: EXAMPLE.org:80"), hosts) is not None
    assert parse_block(block(b"Host: a.example.net"), hosts) is not None
    assert parse_block(block(b"Host: example.com"), hosts) is None


def test_heads_behind_each_other() -> None:
    blocks = Blocks()
    data = b"GET /a" + PLAIN + b"HEAD /b" + block(HOST, b"Range: x")
    first = blocks.read(data)
    assert first is not None
    second = blocks.read(data, first.end)
    assert second is not None
    assert [(head.method, head.target) for head in (first, second)] == [("GET", b"/a"), ("HEAD", b"/b")]
    assert second.end == len(data)
    assert blocks.read(b"GET /a" + block(HOST, b"Connection: close") + b"x") is None, "bytes behind the last request"


def test_half_a_head_is_waited_for_and_nothing_else() -> None:
    data = b"GET /a" + PLAIN
    for length in range(1, len(data)):
        assert is_half(data[:length]), length
    for other in (b"POST /a", b"GET a", b"\r\nGET /", b"GET /a HTTP/1.1\nHost", data, b"GET /" + b"a" * MAX_HEAD_BYTES):
        assert not is_half(other), other


def test_the_table_is_bounded_and_keeps_what_is_in_use() -> None:
    blocks = Blocks(max_blocks=10)
    used = block(HOST, b"X: used")
    known = blocks.meaning(used)
    for number in range(1000):
        blocks.meaning(block(HOST, b"X: %d" % number))
        assert blocks.meaning(used) is known, "parsed again"
        assert len(blocks) <= 20
    blocks.meaning(block(HOST, b"X: " + b"y" * 4000))
    assert len(blocks) <= 20


class Transport(asyncio.Transport):
    """A socket that takes everything."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_closed = False

    def write(self, data: Any) -> None:
        assert not self.is_closed
        self.written += data

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


def reference(
    kind: type[HttpToolsProtocol | H11Protocol], site: Site, data: bytes, loop: asyncio.AbstractEventLoop
) -> tuple[bytes, bool]:
    """What uvicorn and the middleware send for ``data`` that came at once, and whether they close then."""
    config = Config(site.app, log_config=None, access_log=False, proxy_headers=False)
    state = ServerState()
    transport = Transport()
    protocol = kind(config, state, {}, loop)
    protocol.connection_made(transport)
    protocol.data_received(data)
    while state.tasks:
        loop.run_until_complete(asyncio.wait([*state.tasks]))
    loop.run_until_complete(asyncio.sleep(0))
    written, is_closed = transport.written, transport.is_closed
    protocol.connection_lost(None)
    return written, is_closed


def plainly(data: bytes) -> bytes:
    """Without the case of the field that h11 writes itself."""
    return data.replace(b"Connection: close", b"connection: close")


def require_same_answers(site: Site, count: int, seed: int, loop: asyncio.AbstractEventLoop) -> Mapping[str, int]:
    hits = Hits(site.hot)
    chance = random.Random(seed)
    seen = {"heads": 0, "understood": 0, "in part": 0, "several": 0}
    answers: dict[bytes, tuple[bytes, bool]] = {}
    for _ in range(count):
        data = heads(chance)
        written, end, closes, number = by_the_door(hits, data)
        seen["heads"] += 1
        if not end:
            continue
        seen["understood"] += 1
        seen["in part"] += end < len(data)
        seen["several"] += number > 1
        understood = data[:end]
        for kind in (HttpToolsProtocol, H11Protocol):
            if understood + kind.__name__.encode() not in answers:
                answers[understood + kind.__name__.encode()] = reference(kind, site, understood, loop)
            theirs, they_close = answers[understood + kind.__name__.encode()]
            assert (plainly(theirs), they_close) == (written, closes), (kind, data)
    return seen


def test_random_heads_mean_to_the_door_what_they_mean_to_uvicorn(site: Site, loop: asyncio.AbstractEventLoop) -> None:
    seen = require_same_answers(site, 10_000, 1, loop)
    assert seen["understood"] > 1000
    assert min(seen.values()) > 50, seen


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 12))
def test_a_million_random_heads(site: Site, seed: int, loop: asyncio.AbstractEventLoop) -> None:
    require_same_answers(site, 100_000, seed, loop)
