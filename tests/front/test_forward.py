"""What passes the front is what was sent: targets, fields, bodies, answers, and the end of either side."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.front import forward_app
from tests.front.forwarding import SECONDS, Backend, Front, Reply, Served, read_all, reset, running, wait_until


@pytest.fixture(scope="module", params=["tcp", "unix"])  # and the loop's two kinds
def front(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    path = tmp_path_factory.mktemp("app") / "app.sock" if request.param == "unix" else None
    app = Served(forward_app.app, path)
    with running(Front(app.address, loop="asyncio" if path else "uvloop"), app) as (front, _):
        yield front


@contextlib.contextmanager
def before(answer: Any, **options: Any) -> Iterator[tuple[Front, Backend]]:
    """A front before a raw backend."""
    backend = Backend(answer)
    with running(Front(backend.address, **options), backend) as (front, _):
        yield front, backend


def echoed(reply: Reply) -> dict[str, Any]:
    assert reply.status == 200
    assert reply.is_whole
    came: dict[str, Any] = json.loads(reply.body)
    return came


def answers(data: bytes) -> Any:
    """A backend that sends ``data``."""
    return lambda number, request, sock: sock.sendall(data)


TARGETS = r"/ /a? /?? /a%2Fb/%zz?x=%C3%A9&y=1+2 //double//slash/ /a/../b/./c /;p=1?a=b?c=d /%7Euser?&&= /[x]|\^`{} *"


def test_the_target_arrives_byte_for_byte() -> None:
    with before(answers(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")) as (front, backend):
        for target in TARGETS.split():
            assert front.get(target).status == 200
            assert backend.seen[-1].split(b"\r\n")[0] == f"GET {target} HTTP/1.1".encode()


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
def test_the_method_arrives(front: Front, method: str) -> None:
    assert echoed(front.ask(method, "/echo"))["method"] == method


def test_fields_arrive_in_order_and_connection_fields_do_not(front: Front) -> None:
    hops = "TE: trailers\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\n"
    fields = f"X-A: 1\r\n{hops}X-B: \xe9\r\nX-A: 2\r\nAccept-Encoding: br\r\n"
    came = echoed(front.get(fields=fields))["fields"]
    assert came == [
        ["host", "site.test"],
        ["x-a", "1"],
        ["x-b", "\xe9"],
        ["x-a", "2"],
        ["accept-encoding", "br"],
        ["via", "1.1 hotpath"],
        ["x-forwarded-for", "127.0.0.1"],
        ["x-forwarded-proto", "http"],
        ["x-forwarded-host", "site.test"],
    ]


def test_the_answers_fields_arrive_in_order_and_nobody_follows_a_redirect(front: Front) -> None:
    reply = front.get("/cookies")
    assert reply.status == 302
    assert reply.all("set-cookie") == ["a=1", "b=2; Path=/"]
    assert reply["location"] == "/x"
    assert reply["x-hop"] is None
    assert reply["keep-alive"] is None
    names = [name for name, _ in reply.fields]
    assert names.index("set-cookie") < names.index("x-between") < names.index("location")


def test_a_body_arrives_by_length_and_in_chunks(front: Front) -> None:
    assert echoed(front.ask("POST", "/echo", body=b"x" * 200_000))["length"] == 200_000
    head = b"POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    came = echoed(front.raw(head + b"3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\nX-Trailer: dropped\r\n\r\n"))
    assert came["length"] == 5
    assert ["transfer-encoding", "chunked"] in came["fields"]
    assert not any(name in ("content-length", "x-trailer") for name, _ in came["fields"])


def test_a_host_in_the_target_counts(front: Front) -> None:
    came = echoed(front.get("http://other.test:81/a?b"))
    assert came["target"] == "/a?b"
    assert came["fields"][0] == ["host", "other.test:81"]


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_http_1_0_needs_no_host(front: Front, version: str) -> None:
    reply = front.raw(f"GET /echo HTTP/{version}\r\nConnection: close\r\n\r\n".encode())
    if version == "1.1":
        assert reply.status == 400
    else:
        assert echoed(reply)["fields"][0] == ["host", front.upstream.address.authority]
        assert ["via", "1.0 hotpath"] in echoed(reply)["fields"]


def test_coded_bodies_are_not_decoded() -> None:
    coded = b"\x1f\x8b not really gzip"
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(coded)
    with before(answers(head + coded)) as (front, _):
        reply = front.get()
    assert reply.body == coded
    assert reply["content-encoding"] == "gzip"


def test_head_has_the_length_and_no_body(front: Front) -> None:
    reply = front.ask("HEAD", "/big?n=1000")
    assert reply["content-length"] == "1000"
    assert reply.body == b""


@pytest.mark.parametrize("status", [204, 304, 404, 418, 500, 502, 503, 599])
def test_the_apps_own_status_passes_as_it_is(front: Front, status: int) -> None:
    reply = front.get(f"/status/{status}")
    assert reply.status == status
    assert reply.is_whole
    assert reply["x-app"] == "yes"
    assert reply.body == (b"" if status in (204, 304) else b"the app's own page")


def test_a_304_that_names_a_length_ends_the_answer() -> None:
    with before(answers(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\nETag: 1\r\n\r\n")) as (front, _):
        reply = front.get()
    assert (reply.status, reply["etag"], reply.body) == (304, "1", b"")


def test_bodies_that_end_with_the_connection_arrive_whole() -> None:
    with before(answers(b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 100_000)) as (front, _):
        reply = front.get()
    assert reply.body == b"x" * 100_000
    assert reply.is_whole


def test_events_arrive_one_by_one(front: Front) -> None:
    with socket.create_connection(("127.0.0.1", front.port), SECONDS) as sock:
        sock.sendall(b"GET /events?n=4 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        chunks, times = b"", []
        while data := sock.recv(1 << 16):
            chunks += data
            times += [time.monotonic()] * data.count(b"data: ")
    assert chunks.count(b"data: ") == 4
    assert times[3] - times[0] > 0.3


def test_a_client_that_expects_100_gets_it_when_the_app_wants_the_body(front: Front) -> None:
    with socket.create_connection(("127.0.0.1", front.port), SECONDS) as sock:
        head = b"POST %b HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        sock.sendall(head % b"/echo")
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"12345")
        assert echoed(Reply(read_all(sock)))["length"] == 5
    with socket.create_connection(("127.0.0.1", front.port), SECONDS) as sock:
        sock.sendall(head.replace(b"Connection: close\r\n", b"") % b"/refuse")
        reply = Reply(read_all(sock))  # until it is closed: what comes next could be the body or another request
    assert (reply.status, reply["connection"]) == (413, "close")
    assert b"100 Continue" not in reply.data


def test_a_client_that_goes_away_cancels_the_apps_request(front: Front) -> None:
    for number, (method, query) in enumerate([("GET", ""), ("GET", "?begin=1"), ("POST", "")]):
        length = "Content-Length: 9\r\n" if method == "POST" else ""
        path = f"/hang/{front.port}/{number}"
        with socket.create_connection(("127.0.0.1", front.port), SECONDS) as sock:
            sock.sendall(f"{method} {path}{query} HTTP/1.1\r\nHost: a\r\n{length}\r\n".encode())
            wait_until(lambda: front.upstream.in_flight == 1)
            time.sleep(0.1)
        wait_until(lambda path=path: path in forward_app.left)  # type: ignore[misc] # bound now
        wait_until(lambda: front.upstream.in_flight == 0)


def test_a_client_that_sends_no_more_of_its_body_loses_its_place() -> None:
    app = Served(forward_app.app)
    with running(Front(app.address, in_flight=1, stall_seconds=0.3), app) as (front, _):
        head = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n123"
        with socket.create_connection(("127.0.0.1", front.port), SECONDS) as sock:
            sock.sendall(head)
            wait_until(lambda: front.upstream.in_flight == 1)
            assert front.get().status == 200
            assert Reply(read_all(sock)).status == 408


def test_a_client_that_reads_no_more_of_its_answer_loses_its_place() -> None:
    app = Served(forward_app.app)
    with (
        running(Front(app.address, in_flight=1, stall_seconds=0.3), app) as (front, _),
        socket.create_connection(("127.0.0.1", front.port), SECONDS) as sock,
    ):
        sock.sendall(b"GET /big?n=99000000 HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_until(lambda: front.upstream.in_flight == 1)
        assert front.get().status == 200
        assert len(read_all(sock)) < 99_000_000


def test_connections_of_clients_are_kept(front: Front) -> None:
    with socket.create_connection(("127.0.0.1", front.port), SECONDS) as sock:
        for number in range(3):
            sock.sendall(b"GET /status/204 HTTP/1.1\r\nHost: a\r\nX-N: %d\r\n\r\n" % number)
            assert sock.recv(1 << 16).startswith(b"HTTP/1.1 204")


def test_connections_to_the_app_are_kept_for_requests_that_may_be_repeated() -> None:
    def answer(number: int, data: bytes, sock: socket.socket) -> None:
        while data:
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % number)
            data = sock.recv(1 << 16)

    with before(answer) as (front, backend):
        assert [front.get().body for _ in range(3)] == [b"0"] * 3
        assert front.ask("POST", "/", body=b"x").body == b"1"  # what was not sent must never be lost
        assert len(backend.seen) == 2


@pytest.mark.parametrize(
    "half",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nabc",
    ],
    ids=["length", "chunked", "closed"],
)
def test_an_answer_that_breaks_off_is_broken_for_the_client_too(half: bytes) -> None:
    def answer(number: int, data: bytes, sock: socket.socket) -> None:
        sock.sendall(half)
        time.sleep(0.3)
        reset(sock)

    with before(answer) as (front, backend):
        reply = front.get()
        assert reply.status == 200
        assert not reply.is_whole
        assert len(backend.seen) == 1
        assert front.upstream.counters.broken == 1


@pytest.mark.parametrize(
    "bad",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\x01b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 600 Unknown\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_is_no_answer_is_502_and_asked_for_once(bad: bytes, method: str) -> None:
    with before(answers(bad)) as (front, backend):
        reply = front.ask(method, "/")
        assert (reply.status, reply["cache-control"], len(backend.seen)) == (502, "no-store", 1)


@pytest.mark.parametrize(
    "half",
    [
        b"H",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 103 Early Hints\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n1234",
    ],
)
@pytest.mark.parametrize("ends", [reset, lambda sock: sock.close()], ids=["reset", "closed"])
def test_a_break_before_an_answer_was_passed_on_is_502_or_sent_once_more(half: bytes, ends: Any) -> None:
    def answer(number: int, data: bytes, sock: socket.socket) -> None:
        if number % 2:
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole")
        else:
            sock.sendall(half)
            ends(sock)

    with before(answer) as (front, backend):
        assert front.get().body == b"whole"
        assert len(backend.seen) == 2
        assert front.ask("POST", "/").status == 502
        assert len(backend.seen) == 3


def test_a_small_answer_that_comes_slowly_is_passed_on_as_it_comes() -> None:
    def answer(number: int, data: bytes, sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na")
        go.wait(SECONDS)
        sock.sendall(b"b")

    go = threading.Event()
    with before(answer) as (front, _), socket.create_connection(("127.0.0.1", front.port), SECONDS) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert sock.recv(1000).startswith(b"HTTP/1.1 200")
        go.set()
        assert read_all(sock).endswith(b"b")


def test_an_answer_framed_twice_is_passed_on_framed_once() -> None:
    twice = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"
    with before(answers(twice)) as (front, _):
        reply = front.get()
    assert reply.status == 502 or (reply.body == b"abcde" and reply["content-length"] is None)


def test_interim_answers_end_at_the_front() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    with before(answers(hints)) as (front, _):
        reply = front.get()
    assert (reply.status, reply.body, reply["link"]) == (200, b"ok", None)


def test_bytes_after_an_answer_go_to_nobody() -> None:
    def answer(number: int, data: bytes, sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        sock.recv(100)

    with before(answer) as (front, _):
        assert [front.get().body for _ in range(3)] == [b"a"] * 3


def test_an_early_answer_to_an_upload_arrives() -> None:
    def answer(number: int, data: bytes, sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        with contextlib.suppress(OSError):
            while sock.recv(1 << 16):
                pass

    with before(answer) as (front, _), socket.create_connection(("127.0.0.1", front.port), SECONDS) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000\r\n\r\n" + b"x" * 5_000_000)
        assert sock.recv(1 << 16).startswith(b"HTTP/1.1 413")
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")  # the connection is in step
        assert sock.recv(1 << 16).startswith(b"HTTP/1.1 413")


def test_the_app_hears_who_asked_only_from_peers_that_are_trusted() -> None:
    fields = "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: a.test\r\n"
    fields += "X_Forwarded_For: evil\r\n"
    app = Served(forward_app.app)
    with running(Front(app.address, trust=["127.0.0.0/8"]), Front(app.address), app) as (trusting, front, _):
        trusted = dict(echoed(trusting.get(fields=fields))["fields"])
        untrusted = dict(echoed(front.get(fields=fields))["fields"])
    assert trusted["x-forwarded-for"] == "192.0.2.1, 127.0.0.1"
    assert (trusted["x-forwarded-proto"], trusted["x-forwarded-host"]) == ("https", "a.test")
    assert untrusted["x-forwarded-for"] == "127.0.0.1"
    assert (untrusted["x-forwarded-proto"], untrusted["x-forwarded-host"]) == ("http", "site.test")
    assert not {"x_forwarded_for"} & ({*trusted} | {*untrusted})


def test_a_front_on_a_unix_socket(tmp_path: Path) -> None:
    app = Served(forward_app.app)
    with (
        running(Front(app.address, path=tmp_path / "front.sock", trust=["unix"]), app) as (front, _),
        socket.socket(socket.AF_UNIX) as sock,
    ):
        sock.connect(str(front.path))
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\nConnection: close\r\n\r\n")
        assert ["x-forwarded-for", "192.0.2.1"] in echoed(Reply(read_all(sock)))["fields"]


def test_a_front_before_itself_says_so(front: Front) -> None:
    with running(Front(front.address)) as (circle,):
        circle.call(lambda: circle.upstream.switch(circle.address))
        assert circle.get().status == 508


def test_latencies_are_observed(front: Front) -> None:
    seen: list[tuple[str, int, float]] = []
    front.upstream.observe = lambda scope, status, seconds: seen.append((scope["path"], status, seconds))
    front.get("/echo?s=0.1")
    front.upstream.observe = None
    assert [(path, status) for path, status, _ in seen] == [("/echo", 200)]
    assert 0.09 <= seen[0][2] < SECONDS
