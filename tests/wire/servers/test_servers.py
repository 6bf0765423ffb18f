"""Hotpath on real servers over real sockets: the bytes on the wire are the same whichever server sends them."""

from __future__ import annotations

import base64
import itertools
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest

from hotpath.testing import Response
from tests.wire.conformance.cases import APP, CASES, PAGES, Case
from tests.wire.conformance.judge import check, page_of
from tests.wire.conformance.site import Site, fill, publish, tags_of
from tests.wire.servers.client import Connection, ConnectionEnded, request
from tests.wire.servers.conftest import Server

SHAPES = ("wrapped", "wrapped FastAPI", "added to FastAPI", "added to Starlette")
MOUNTED = ("mounted in Starlette", "mounted in FastAPI")
SUBSTANCE = PAGES["/rows"].body

# What servers add themselves, and what says how long the connection lives.
OF_THE_SERVER = (b"date", b"server", b"connection", b"keep-alive", b"transfer-encoding")

# A server may refuse a head before any app sees it: malformed (RFC 9112 §3, RFC 9110 §5.5) or too long (§5.4).
REFUSALS = (400, 404, 414, 431)
LONG_BYTES = 8000
MANY_LINES = 100
# The line of heads that were made to be too large for somebody.
TOO_LARGE = 33

# Where a server does with a well-formed request what RFC 9110 does not say; docs/reference/servers.md lists each.
OWN_WAYS = {
    ("uvicorn-httptools", "18-9112 3.2.2-absolute-form of the root"): "a whole URL without a path is refused",
    ("uvicorn-door", "18-9112 3.2.2-absolute-form of the root"): "left to uvicorn, which refuses it",
    ("hypercorn", "17-9.1-get goes to the app"): "method names are made upper-case (§9.1: they are case-sensitive)",
    ("hypercorn", "22-9111 4.1-'Upgrade: h2c' changes nothing"): "the connection is switched to HTTP/2",
}


@pytest.fixture
def connection(server: Server) -> Iterator[Connection]:
    with Connection(server.port) as made:
        yield made


@pytest.fixture
def plain(sites: Mapping[str, Site]) -> Site:
    return sites["plain"]


def of_hotpath(answer: Response) -> Response:
    """The answer without what the server added."""
    return replace(answer, headers=[(name, value) for name, value in answer.headers if name not in OF_THE_SERVER])


def is_hot(answer: Response) -> bool:
    return (answer.header("cache-status") or "").startswith("hotpath; hit")


def tag(site: Site, page: str = "/rows") -> str:
    return tags_of(site.items[page])["{tag}"]


# The whole table


def over_the_wire(case: Case) -> bool:
    """Rows that can be sent as they are; the others replace fields of the scope, or need another site."""
    return not case.scope and case.site in ("plain", "slashes")


ROWS = [case for case in CASES if over_the_wire(case)]


def send_row(connection: Connection, case: Case, site: Site) -> Response:
    item = site.items.get(page_of(case))
    tags = tags_of(item) if item else {}
    shape = "wrapped slashes" if case.site == "slashes" else "wrapped"
    lines = [fill(line, tags) for line in case.fields]
    body = b"x" if case.method in ("POST", "PUT", "PATCH", "DELETE") else b""
    return connection.ask(request(case.method, case.target, *lines, shape=shape, body=body))


def may_be_refused(case: Case) -> bool:
    """Whether a server may answer by itself: too long, control characters, a method it does not know (§9.1)."""
    text = "\n".join((case.target, *case.fields))
    has_controls = any(ord(character) < 32 or ord(character) == 127 for line in case.fields for character in line)
    unknown_method = not (case.method.isalpha() and case.method.isupper())
    return unknown_method or len(text) > LONG_BYTES or len(case.fields) > MANY_LINES or has_controls


def test_every_row_of_the_conformance_table(server: Server, sites: Mapping[str, Site]) -> None:
    """The table of tests/wire/conformance again, on one connection as long as the server keeps it."""
    faults: list[str] = []
    answered = 0
    connection = Connection(server.port)
    for case in ROWS:
        try:
            answer = of_hotpath(send_row(connection, case, sites[case.site]))
        except (ConnectionEnded, OSError):
            connection.__exit__()
            connection = Connection(server.port)
            try:
                answer = of_hotpath(send_row(connection, case, sites[case.site]))
            except (ConnectionEnded, OSError):
                answer = Response(400, [], b"")  # refused without a word
        if answer.status in REFUSALS and not is_hot(answer) and may_be_refused(case):
            continue
        if (server.name, case.id) in OWN_WAYS:
            continue
        answered += case.line != TOO_LARGE
        try:
            check(case, _of_the_app(case, answer) if case.status == APP else answer, sites[case.site])
        except AssertionError as error:
            faults.append(f"{case.id}: {str(error).splitlines()[0]}")
    connection.__exit__()
    assert faults == []
    assert answered >= sum(case.line != TOO_LARGE for case in ROWS) - 25


def _of_the_app(case: Case, answer: Response) -> Response:
    """What the app said, without what the server adds; to POST this app echoes, so that forms can be tested."""
    if case.method == "POST" and answer.status == 200 and answer.header("x-app") is None and not is_hot(answer):
        return Response(APP, [(b"x-app", b"1")], b"app")
    return replace(answer, headers=[header for header in answer.headers if header[0] == b"x-app"])


# Every way in


@pytest.mark.parametrize("shape", [*SHAPES, *MOUNTED])
def test_a_hot_page_whole(server: Server, connection: Connection, plain: Site, shape: str) -> None:
    prefix = "/sub" if shape in MOUNTED else ""
    answer = connection.ask(request("GET", prefix + "/rows", shape=shape))
    assert (answer.status, answer.body) == (200, SUBSTANCE)
    assert answer.header("content-length") == str(len(SUBSTANCE))
    assert answer.header("etag") == tag(plain)
    assert answer.header("transfer-encoding") is None
    assert answer.header("x-hotpath-generation") == "1"
    names = [name for name, _ in answer.headers]
    # §6.6.1 asks an origin server with a clock for a Date; daphne sends none.
    assert names.count(b"date") == (server.name != "daphne")
    assert names.count(b"server") <= 1
    assert is_hot(answer)


@pytest.mark.parametrize("shape", [*SHAPES, *MOUNTED])
def test_head_conditional_range_and_coding(connection: Connection, plain: Site, shape: str) -> None:
    """All on one connection: what is left over from one answer would spoil the next."""
    prefix = "/sub" if shape in MOUNTED else ""
    rows = prefix + "/rows"
    get = connection.ask(request("GET", rows, shape=shape))
    head = connection.ask(request("HEAD", rows, shape=shape))
    assert (head.status, head.body) == (200, b"")
    assert of_hotpath(head).headers == of_hotpath(get).headers
    known = connection.ask(request("GET", rows, f"If-None-Match: {tag(plain)}", shape=shape))
    assert (known.status, known.body, known.header("etag")) == (304, b"", tag(plain))
    assert connection.is_quiet(0.05)
    part = connection.ask(request("GET", rows, "Range: bytes=5-9", shape=shape))
    assert (part.status, part.body) == (206, SUBSTANCE[5:10])
    assert part.header("content-range") == f"bytes 5-9/{len(SUBSTANCE)}"
    beyond = connection.ask(request("GET", rows, "Range: bytes=999999-", shape=shape))
    assert (beyond.status, beyond.body) == (416, b"")
    failed = connection.ask(request("GET", rows, 'If-Match: "other"', shape=shape))
    assert (failed.status, failed.body) == (412, b"")
    coded = connection.ask(request("GET", rows, "Accept-Encoding: gzip", shape=shape))
    assert coded.header("content-encoding") == "gzip"
    assert coded.header("vary") == "Accept-Encoding"
    assert connection.ask(request("GET", rows, "Accept-Encoding: gzip;q=0", shape=shape)).body == SUBSTANCE


@pytest.mark.parametrize("shape", [*SHAPES, *MOUNTED])
def test_percent_encoding_as_it_came(connection: Connection, shape: str) -> None:
    prefix = "/sub" if shape in MOUNTED else ""
    bodies = {
        target: connection.ask(request("GET", prefix + target, shape=shape)).body
        for target in (
            "/a/b",
            "/a%2Fb",
            "/a%2fb",
            "/%61/b",
            "/caf%C3%A9",
            "/caf%c3%a9",
            "/a%20b",
            "/plus+sign",
            "/plus%2Bsign",
        )
    }
    assert bodies["/a/b"] == bodies["/%61/b"] == PAGES["/a/b"].body
    assert bodies["/a%2Fb"] == bodies["/a%2fb"] == PAGES["/a%2Fb"].body
    assert bodies["/caf%C3%A9"] == bodies["/caf%c3%a9"] == PAGES["/caf%C3%A9"].body
    assert bodies["/a%20b"] == PAGES["/a%20b"].body
    assert bodies["/plus+sign"] == PAGES["/plus+sign"].body


@pytest.mark.parametrize("shape", ["wrapped", "added to FastAPI", "mounted in Starlette"])
@pytest.mark.parametrize("target", ["/a/../rows", "/./rows", "//rows", "/rows%00", "/%2e%2e/rows", "/a\\b", "/rows/"])
def test_a_target_that_is_no_key_never_gets_a_page(server: Server, shape: str, target: str) -> None:
    prefix = "/sub" if shape in MOUNTED else ""
    with Connection(server.port) as connection:
        try:
            answer = connection.ask(request("GET", prefix + target, shape=shape))
        except ConnectionEnded:
            return  # refused without a word
    assert not is_hot(answer)
    assert answer.status in (400, 404, 307, APP), answer
    assert SUBSTANCE not in answer.body


def test_tracking_parameters_and_others(connection: Connection) -> None:
    assert is_hot(connection.ask(request("GET", "/rows?utm_source=x&gclid=1")))
    assert connection.ask(request("GET", "/top?gclid=1&n=10")).body == PAGES["/top?n=10"].body
    assert connection.ask(request("GET", "/rows?x=1")).status == APP


# Connections


def test_twenty_requests_on_one_connection(connection: Connection) -> None:
    asked = itertools.cycle(
        [("GET", "/rows", 200), ("HEAD", "/rows", 200), ("GET", "/cold", APP), ("HEAD", "/digits", 200)]
    )
    for method, target, status in itertools.islice(asked, 20):
        answer = connection.ask(request(method, target))
        assert answer.status == status
        assert answer.body == (b"" if method == "HEAD" else SUBSTANCE if status == 200 else b"app")


def test_requests_written_at_once_are_answered_in_order(server: Server) -> None:
    """Pipelining (RFC 9112 §9.3.2)."""
    with Connection(server.port) as connection:
        targets = ["/digits", "/rows", "/cold", "/digits", "/a/b"]
        connection.send(b"".join(request("GET", target) for target in targets))
        answers = [connection.read() for _ in targets]
    assert [answer.body for answer in answers] == [
        PAGES[target].body if target in PAGES else b"app" for target in targets
    ]


def test_http_1_0_closes(server: Server) -> None:
    with Connection(server.port) as connection:
        connection.send(b"GET /rows HTTP/1.0\r\nHost: example.org\r\n\r\n")
        answer = connection.read()
        assert answer.body == SUBSTANCE
        assert connection.is_quiet(2.0)


def test_a_form_sent_to_a_hot_path_reaches_the_app_whole(connection: Connection) -> None:
    body = os.urandom(200_000)
    answer = connection.ask(request("POST", "/rows", body=body))
    assert (answer.status, answer.body) == (200, body)
    assert connection.ask(request("GET", "/rows")).body == SUBSTANCE


def test_expect_100_continue(connection: Connection) -> None:
    connection.send(request("POST", "/cold", "Expect: 100-continue", "Content-Length: 3"))
    connection.send(b"abc")
    assert connection.read().body == b"abc"


@pytest.mark.parametrize("shape", ["wrapped", "wrapped FastAPI", "added to FastAPI"])
def test_an_app_that_raises_costs_no_hot_page(server: Server, shape: str) -> None:
    for _ in range(3):
        with Connection(server.port) as connection:
            try:
                assert connection.ask(request("GET", "/boom", shape=shape)).status == 500
                answer = connection.ask(request("GET", "/rows", shape=shape))
            except ConnectionEnded:  # some servers close after an exception; a client comes back
                with Connection(server.port) as another:
                    answer = another.ask(request("GET", "/rows", shape=shape))
            assert (answer.status, answer.body) == (200, SUBSTANCE)


def test_a_websocket_passes_through(server: Server) -> None:
    with Connection(server.port) as connection:
        key = base64.b64encode(os.urandom(16)).decode("ascii")
        fields = ("Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13")
        connection.send(request("GET", "/rows", *fields))
        head = connection.read_until(b"\r\n\r\n")
        assert b" 101 " in head.split(b"\r\n")[0] + b" ", head
        mask = b"\1\2\3\4"
        text = b"hello"
        connection.send(bytes([0x81, 0x80 | len(text)]) + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(text)))
        opcode, length = connection.read_exactly(2)
        assert (opcode, connection.read_exactly(length)) == (0x81, b"app: hello")


# What changes while it runs


def test_a_new_generation_shows_within_two_seconds(server: Server, sites: Mapping[str, Site]) -> None:
    if server.name == "uvicorn-door":
        pytest.skip("the door answers from the store of another shape; tests/front/test_door.py has this for it")
    hot = sites["growing"].hot
    with Connection(server.port) as connection:
        assert connection.ask(request("GET", "/digits", shape="growing")).status == 200
        publish(hot, PAGES)
        newest = str(hot.store.chosen_sequence())
        deadline = time.monotonic() + 2
        while connection.ask(request("GET", "/digits", shape="growing")).header("x-hotpath-generation") != newest:
            assert time.monotonic() < deadline
            time.sleep(0.02)


# Heads that nobody should send


HOSTILE = {
    "64 KB of If-None-Match": ["If-None-Match: " + ", ".join([f'"{n:06d}"' for n in range(6500)])],
    "1,000 ranges": ["Range: bytes=" + ",".join(f"{n}-{n}" for n in range(1000))],
    "not Latin-1 names": ["If-None-Match: \xff\xfe\x80", "Accept-Encoding: \xe9"],
    "fields twice": [
        "Range: bytes=0-1",
        "Range: bytes=2-3",
        "If-None-Match: *",
        'If-None-Match: "x"',
        "Accept-Encoding: gzip",
        "Accept-Encoding: br",
    ],
    "codings without end": ["Accept-Encoding: " + ",".join([f"gzip;q=0.{n % 10}" for n in range(4000)])],
    "a date of nonsense": ["If-Modified-Since: " + "Mon, " * 2000],
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("page", ["/rows", "/empty"])
def test_malformed_heads_get_an_answer_in_bounded_time(server: Server, name: str, page: str) -> None:
    started = time.monotonic()
    with Connection(server.port) as connection:
        try:
            answer = connection.ask(request("GET", page, *HOSTILE[name]))
        except (ConnectionEnded, ConnectionResetError, BrokenPipeError):
            answer = None  # too long for this server
    assert time.monotonic() - started < 2
    if answer is not None:
        assert answer.status in (200, 206, 304, 400, 406, 416, 431), answer.status
        assert is_hot(answer) or answer.status in (400, 431)
    with Connection(server.port) as connection:
        assert connection.ask(request("GET", "/rows")).body == SUBSTANCE


def test_a_range_of_nothing(connection: Connection) -> None:
    answer = connection.ask(request("GET", "/empty", "Range: bytes=0-0"))
    assert (answer.status, answer.header("content-range")) == (416, "bytes */0")


# A prefix that the server is told of


def test_a_root_path_given_to_the_server(prefixed: Server) -> None:
    """Behind a proxy that takes the prefix off, and behind one that leaves it on."""
    with Connection(prefixed.port) as connection:
        # uvicorn puts the prefix in front of what comes, so what comes must not have it.
        prefixes = [""] if prefixed.name.startswith("uvicorn") else ["", "/sub"]
        for prefix in prefixes:
            answer = connection.ask(request("GET", prefix + "/rows"))
            assert (answer.status, answer.body) == (200, SUBSTANCE)
            assert connection.ask(request("GET", prefix + "/a%2Fb")).body == PAGES["/a%2Fb"].body
        assert not is_hot(connection.ask(request("GET", "/subrows")))


def test_the_log_of_a_server_has_no_complaint_of_hotpath(server: Server) -> None:
    assert "hotpath failed" not in server.stderr
