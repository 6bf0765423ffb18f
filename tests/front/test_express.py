"""The short way of a cold GET: the same bytes to the app and to the client as the long one, and the same in faults.

All of it without last good answers and with them; what is kept of them is in ``test_express_last_good.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from hotpath import HotpathMiddleware
from hotpath.asgi import LastGood
from hotpath.asgi.last_good.caching import FAILURES
from hotpath.front.address import Address
from hotpath.front.door import Door
from hotpath.front.forward import MAX_WHOLE, Forward
from hotpath.front.last_good import DEFAULT_BYTES, LastGoodOptions, around
from hotpath.front.server import FrontServer
from hotpath.front.started import STARTED
from hotpath.front.upstream import Lease, Upstream
from hotpath.types import Receive, Scope, Send
from tests.front.forwarding import SECONDS, wait_until
from tests.front.smuggling import CASES, case
from tests.front.test_smuggling import Recorder
from tests.front.ways import front
from tests.wire.conformance.cases import PAGES
from tests.wire.conformance.site import Site

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nEND"
# A field that ends at the front, and that the door leaves to uvicorn: with it a request goes the long way.
LONG = b"TE: trailers\r\n"
# The cookie is one that last good answers ignore.
FIELDS = b"Host: example.org\r\nUser-Agent: a\r\nX-Forwarded-For: 192.0.2.9\r\nAccept: */*\r\nCookie: _ga=c\r\n"

Reply = Callable[[socket.socket], None]


class App:
    """A server that keeps its connections: the next of ``replies`` answers the next request, then ``OK``."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self.connections = 0
        self.replies: list[Reply] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = Address("127.0.0.1", self._socket.getsockname()[1])
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        for sock in (self._socket, *self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._socket.accept()
                self._open.append(sock)
                self.connections += 1
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        data = b""
        with contextlib.suppress(OSError):
            while chunk := sock.recv(65536):
                data += chunk
                while b"\r\n\r\n" in data:
                    head, _, data = data.partition(b"\r\n\r\n")
                    self.seen.append(head)
                    (self.replies.pop(0) if self.replies else pieces(OK))(sock)


def pieces(*parts: bytes, pause: float = 0.005, closes: bool = False) -> Reply:
    """Send these one after the other."""

    def reply(sock: socket.socket) -> None:
        for part in parts:
            sock.sendall(part)
            if part is not parts[-1]:
                time.sleep(pause)
        if closes:
            sock.shutdown(socket.SHUT_RDWR)

    return reply


class CountingForward(Forward):
    """Counts what comes the long way."""

    long = 0
    loop: asyncio.AbstractEventLoop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.loop = asyncio.get_running_loop()
        self.long += scope["type"] == "http"
        await super().__call__(scope, receive, send)


@dataclass
class Front:
    """A front before the app, and one client of it whose first request has left a kept connection."""

    app: App
    forward: CountingForward
    door: Door
    server: FrontServer
    client: socket.socket
    port: int
    cache: LastGood | None = None

    def connect(self) -> None:
        """Begin anew, with another client."""
        self.client.close()
        self.client = socket.create_connection(("127.0.0.1", self.port), SECONDS)

    def send(self, target: bytes = b"/cold", extra: bytes = b"", method: bytes = b"GET") -> None:
        self.client.sendall(method + b" " + target + b" HTTP/1.1\r\n" + FIELDS + extra + b"\r\n")

    def read(self, end: bytes | tuple[bytes, ...] = b"END", seconds: float = SECONDS) -> bytes:
        """Until that has come, or the connection is silent or closed."""
        self.client.settimeout(seconds)
        data = b""
        with contextlib.suppress(TimeoutError, ConnectionError):
            while not data.endswith(end) and (chunk := self.client.recv(1 << 20)):
                data += chunk
        return data

    def ask(self, target: bytes = b"/cold", extra: bytes = b"") -> bytes:
        self.send(target, extra)
        return self.read()

    def is_over(self) -> bool:
        """Whether nothing is left in the app and in the queue."""
        wait_until(lambda: self.forward.upstream.in_flight == 0)
        return self.forward.hold.has_room and self.forward.upstream.queued == 0


@contextlib.contextmanager
def starting(site: Site, directory: Path, options: LastGoodOptions) -> Iterator[Front]:
    """The front, with one request answered; last good answers are kept in ``directory``."""
    app = App()
    forward = CountingForward(Upstream(app.address))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOTPATH_STATE", str(directory))
        cache = around(forward, forward.upstream, site.hot, options)
    with front(HotpathMiddleware(cache or forward, hot=site.hot), site.hot) as (door, server, port):
        client = socket.create_connection(("127.0.0.1", port), SECONDS)
        found = Front(app, forward, door, server, client, port, cache)
        try:
            assert found.ask().endswith(b"END")
            assert forward.long == 1
            wait_until(lambda: not forward.upstream.in_flight)
            yield found
        finally:
            found.client.close()
    if cache is not None:
        cache.close()
    app.stop()


@pytest.fixture(params=[None, DEFAULT_BYTES], ids=["off", "last good"])
def started(site: Site, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Front]:
    with starting(site, tmp_path, LastGoodOptions(max_bytes=request.param)) as found:
        yield found


def without_date(data: bytes) -> bytes:
    return re.sub(rb"date: [^\r\n]*\r\n", b"", data, count=1)


def test_the_app_and_the_client_get_the_same_bytes_as_the_long_way(started: Front) -> None:
    short = [started.ask(b"/a?b=%20c"), started.ask(b"/d")]
    assert started.forward.long == 1
    long = [started.ask(b"/a?b=%20c", LONG), started.ask(b"/d", LONG)]
    assert started.forward.long == 3
    assert [*map(without_date, short)] == [*map(without_date, long)]
    assert started.app.seen[1:3] == started.app.seen[3:]
    assert b"x-forwarded-for: 127.0.0.1" in started.app.seen[1]
    assert b"192.0.2.9" not in started.app.seen[1]
    assert (started.app.connections, started.forward.upstream.counters.forwarded) == (1, 5)


def test_a_head_with_the_fields_of_the_one_before_may_be_split_anywhere(started: Front) -> None:
    """The app never sees the target of half a head."""
    whole = b"GET /cold/long HTTP/1.1\r\n" + FIELDS + b"\r\n"
    started.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for place in (*range(1, 24), len(whole) - 1):
        started.connect()
        assert started.ask().endswith(b"END")
        del started.app.seen[:]
        started.client.sendall(whole[:place])
        time.sleep(0.005)  # so that the halves are read one after the other
        started.client.sendall(whole[place:])
        assert started.read().endswith(b"END"), place
        assert [seen.split()[1] for seen in started.app.seen] == [b"/cold/long"], place


def head(*lines: bytes, status: bytes = b"200 OK", version: bytes = b"1.1", body: bytes = b"END") -> bytes:
    return b"\r\n".join([b"HTTP/" + version + b" " + status, *lines, b"", body])


THREE = b"Content-Length: 3"
# The answer in its pieces, and whether it goes the short way.
ANSWERS: dict[str, tuple[list[bytes], bool]] = {
    "fields": ([head(b"X-A: b ", b"Set-Cookie: a", b"set-cookie:b", THREE, b"X-Empty:", b"ETag: \"\xe9\"")], True),
    "its own date": ([head(b"Date: Sat, 28 Nov 2026 16:22:00 GMT", b"Server: x", THREE)], True),
    "its own server": ([head(b"Server: x", THREE)], True),
    "not found": ([head(THREE, status=b"404 Nothing Here")], True),
    "no reason": ([head(THREE, status=b"503")], True),
    "unknown status": ([head(THREE, status=b"299 What")], True),
    "an error": ([head(THREE, status=b"500 Oh")], True),
    "hop-by-hop": ([head(b"Keep-Alive: timeout=5", b"Proxy-Connection: a", b"Connection: Keep-Alive", THREE)], True),
    "head and body": ([head(THREE, body=b""), b"END"], True),
    "three pieces": ([head(THREE, body=b""), b"E", b"ND"], True),
    "empty": ([head(b"Content-Length: 0", body=b"")], True),
    "as much as is kept": ([head(b"Content-Length: %d" % MAX_WHOLE, body=b"x" * (MAX_WHOLE - 3) + b"END")], True),
    "two halves of a head": ([b"HTTP/1.1 200 OK\r\nContent-", b"Length: 3\r\n\r\nEND"], False),
    "too large": ([head(b"Content-Length: %d" % (MAX_WHOLE + 9), body=b"x" * (MAX_WHOLE + 6) + b"END")], False),
    "chunked": ([head(b"Transfer-Encoding: chunked", body=b"3\r\nEND\r\n0\r\n\r\n")], False),
    "both framings": ([head(b"Transfer-Encoding: chunked", THREE, body=b"3\r\nEND\r\n0\r\n\r\n")], False),
    "two lengths": ([head(THREE, THREE)], False),
    "two other lengths": ([head(THREE, b"Content-Length: 4")], False),
    "a list of lengths": ([head(b"Content-Length: 3, 3")], False),
    "a signed length": ([head(b"Content-Length: +3")], False),
    "no content": ([head(status=b"204 No Content", body=b"")], False),
    "not modified": ([head(THREE, b'ETag: "a"', status=b"304 Not Modified", body=b"")], False),
    "continue first": ([head(status=b"100 Continue", body=b"") + head(THREE)], False),
    "early hints first": ([head(b"Link: </a>", status=b"103 Early Hints", body=b""), head(THREE)], False),
    "closes": ([head(b"Connection: close", THREE)], False),
    "names a field": ([head(b"Connection: x-a", b"X-A: b", THREE)], False),
    "HTTP/1.0": ([head(THREE, version=b"1.0")], False),
    "folded": ([head(b"X-A: b\r\n c", THREE)], False),
    "a control character": ([head(b"X-A: \x01", THREE)], False),
    "space before the colon": ([head(b"X-A : b", THREE)], False),
    "bare line feeds": ([b"HTTP/1.1 200 OK\nContent-Length: 3\n\nEND"], False),
    "switching": ([head(b"Upgrade: x", b"Connection: upgrade", status=b"101 Switching", body=b"")], False),
    "no HTTP": ([b"END of it\r\n\r\nEND"], False),
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_passed_on_as_the_long_way_passes_it_on(started: Front, name: str) -> None:
    parts, is_short = ANSWERS[name]
    if started.cache is not None and any(parts[0].startswith(b"HTTP/1.1 %d" % status) for status in FAILURES):
        is_short = False  # a last good answer may stand in
    got = []
    for extra in (b"", LONG):
        # A second answer like it, where it is one for which the request is sent again.
        started.app.replies = [pieces(*parts)] * 2
        started.send(b"/x", extra)
        ends = (b"END", b"END\r\n0\r\n\r\n", b"broke off before it answered\n")
        got.append(started.read(ends, seconds=1 if parts[-1].endswith(ends) else 0.3))
        assert started.is_over()
        if not extra:
            assert started.forward.long == (1 if is_short else 2), "the way"
        started.app.replies = []
        started.connect()
        assert started.ask(b"/again").endswith(b"END")
    assert without_date(got[0]) == without_date(got[1])


def closes(sock: socket.socket) -> None:
    sock.shutdown(socket.SHUT_RDWR)


HALF_HEAD, HALF_BODY = b"HTTP/1.1 200 OK\r\nConte", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nE"
LATE = 0.2  # longer than the front waits for the rest of a body
BROKEN: dict[str, Reply] = {
    "nothing": closes,
    "a head, and nothing for long": pieces(
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", b"", pause=LATE, closes=True
    ),
    "half a head": pieces(HALF_HEAD, closes=True),
    "half a body": pieces(HALF_BODY, closes=True),
    "half a body, and then some": pieces(HALF_BODY, b"N", closes=True),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_request_whose_answer_broke_off_is_sent_once_more(started: Front, name: str) -> None:
    started.app.replies = [BROKEN[name]]
    assert started.ask(b"/x").endswith(b"END")
    counters = started.forward.upstream.counters
    assert (started.app.connections, counters.retried, counters.bad_gateway) == (2, 1, 0)
    assert [head.split()[1] for head in started.app.seen] == [b"/cold", b"/x", b"/x"]
    assert started.is_over()


@pytest.mark.parametrize("name", BROKEN)
def test_a_request_is_never_sent_a_third_time(started: Front, name: str) -> None:
    started.app.replies = [BROKEN[name]] * 3
    started.send(b"/x")
    assert started.read(b"answered\n").startswith(b"HTTP/1.1 502 ")
    assert len(started.app.seen) == 3
    assert started.forward.upstream.counters.bad_gateway == 1
    assert started.is_over()


@pytest.mark.parametrize("received", [b"", HALF_BODY], ids=["before the answer", "within the answer"])
def test_a_client_that_goes_away_frees_its_place_and_the_connection(started: Front, received: bytes) -> None:
    gone = threading.Event()

    def wait(sock: socket.socket) -> None:
        sock.sendall(received)
        sock.settimeout(SECONDS)
        if not sock.recv(1):
            gone.set()

    started.app.replies = [wait]
    started.send(b"/x")
    wait_until(lambda: len(started.app.seen) == 2)
    started.client.close()
    assert gone.wait(SECONDS)
    assert started.is_over()
    assert started.forward.upstream.counters.cancelled == 1
    started.connect()
    assert started.ask().endswith(b"END")


def test_requests_that_are_sent_at_once_are_answered_in_order(started: Front) -> None:
    cold = [b"GET /%d HTTP/1.1\r\n" % number + FIELDS + b"\r\n" for number in range(3)]
    started.app.replies = [pieces(b"", OK.replace(b"END", b"%03d" % number), pause=0.05) for number in range(3)]
    started.client.sendall(cold[0])
    time.sleep(0.02)  # so that the first is alone, and on the short way, when the others come
    started.client.sendall(cold[1] + b"GET /digits HTTP/1.1\r\n" + FIELDS + b"\r\n" + cold[2])
    data = started.read(b"002")
    digits = PAGES["/digits"].body
    assert [data.index(part) for part in (b"000", b"001", digits, b"\r\n002")] == sorted(
        data.index(part) for part in (b"000", b"001", digits, b"\r\n002")
    )
    assert data.count(b"HTTP/1.1 200") == 4


def test_hot_and_cold_and_other_methods_on_one_connection(started: Front) -> None:
    digits = PAGES["/digits"].body
    for number in range(3):
        started.app.replies = [pieces(OK.replace(b"END", b"%03d" % number))]
        started.send(b"/cold?%d" % number)
        assert started.read(b"\r\n%03d" % number)
        started.send(b"/digits")
        assert started.read(digits).endswith(digits)
        started.send(method=b"POST", extra=b"Content-Length: 2\r\n")
        started.client.sendall(b"ab")
        assert started.read().endswith(b"END")
        started.app.replies = [pieces(head(THREE, body=b""))]
        started.send(b"/cold", method=b"HEAD")
        assert started.read(b"\r\n\r\n").startswith(b"HTTP/1.1 200")
        assert started.ask(b"/other-fields", b"Cookie: %d\r\n" % number).endswith(b"END")
        assert b"cookie: %d" % number in started.app.seen[-1]
    assert started.forward.long == 7
    assert started.app.connections == 4, "no POST goes on a connection that may have ended"


def test_a_body_that_stops_is_passed_on_as_far_as_it_came(started: Front) -> None:
    """As on the long way: what is not whole after a moment is streamed."""
    release = threading.Event()

    def slowly(sock: socket.socket) -> None:
        sock.sendall(HALF_BODY)
        release.wait(SECONDS)
        sock.sendall(b"ND")

    started.app.replies = [slowly]
    started.send(b"/x")
    assert started.read(b"\r\n\r\nE").endswith(b"\r\n\r\nE")
    release.set()
    assert started.read(b"ND") == b"ND"
    assert started.is_over()


def test_a_pause_holds_it(started: Front) -> None:
    upstream = started.forward.upstream
    loop = started.forward.loop
    loop.call_soon_threadsafe(upstream.pause, 30)
    wait_until(lambda: upstream.is_paused)
    started.send(b"/x")
    wait_until(lambda: upstream.queued == 1)
    assert started.read(seconds=0.1) == b""
    loop.call_soon_threadsafe(upstream.resume)
    assert started.read().endswith(b"END")
    assert started.forward.long == 2


def test_a_request_on_the_short_way_is_finished_before_the_front_ends(started: Front) -> None:
    began, release = threading.Event(), threading.Event()

    def slowly(sock: socket.socket) -> None:
        began.set()
        release.wait(SECONDS)
        sock.sendall(OK)

    started.app.replies = [slowly]
    started.send(b"/x")
    assert began.wait(SECONDS)
    started.server.begin_shutdown()
    time.sleep(0.1)
    release.set()
    data = started.read(b"never")
    assert data.endswith(b"connection: close\r\n\r\nEND")
    assert started.forward.long == 1


def test_a_connection_that_went_the_short_way_ends_when_it_is_idle(site: Site) -> None:
    app = App()
    forward = CountingForward(Upstream(app.address))
    with front(HotpathMiddleware(forward, hot=site.hot), site.hot, idle_seconds=0.5) as (door, server, port):
        client = Front(app, forward, door, server, socket.create_connection(("127.0.0.1", port), SECONDS), port)
        with client.client:
            for _ in range(6):
                assert client.ask().endswith(b"END")
                time.sleep(0.15)
            began = time.monotonic()
            assert client.read(b"never") == b""
            assert 0.2 < time.monotonic() - began < 3
            assert server.open == 0
    app.stop()


class NotingForward(CountingForward):
    """Counts what goes the short way too, each time that it is sent."""

    short = 0
    paths: Counter[tuple[str, str]]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and STARTED not in scope:
            self.paths[scope["method"], scope["path"]] += 1
        await super().__call__(scope, receive, send)

    def begin(self) -> Lease | None:
        lease = super().begin()
        self.short += lease is not None
        return lease


@pytest.mark.slow
def test_no_app_sees_a_request_that_the_front_did_not(site: Site) -> None:
    """Each case of the smuggling test behind a request on the short way, and before another."""
    recorder = Recorder()
    forward = NotingForward(Upstream(recorder.address))
    forward.paths = Counter()
    good = b"GET /good HTTP/1.1\r\n" + FIELDS + b"\r\n"
    with front(HotpathMiddleware(forward, hot=site.hot), site.hot) as (_, _, port):
        with ThreadPoolExecutor(16) as pool:

            def send(number: int) -> None:
                with socket.create_connection(("127.0.0.1", port), SECONDS) as sock, contextlib.suppress(OSError):
                    sock.sendall(good)
                    assert sock.recv(65536).startswith(b"HTTP/1.1 200")
                    sock.sendall(case(number))
                    sock.settimeout(0.1)
                    with contextlib.suppress(TimeoutError):
                        sock.recv(65536)
                    sock.sendall(good)
                    while sock.recv(65536):
                        pass

            [*pool.map(send, [*range(len(CASES)), *range(len(CASES))])]
        wait_until(lambda: forward.upstream.in_flight == 0)
    recorder.stop()
    assert [str(problem) for problem in recorder.problems] == []
    read = Counter(method.decode() for method, _ in recorder.requests)
    seen = Counter(GET=forward.short + forward.upstream.counters.retried)
    for (method, _), count in forward.paths.items():
        seen[method] += count
    assert read - seen == Counter()
    assert forward.short > len(CASES)
