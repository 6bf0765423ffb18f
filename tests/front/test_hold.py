"""What is sent again and what waits: the decisions, and then the wait itself with an app that comes and goes."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hotpath.errors import DeclarationError
from hotpath.front.address import Address, Unreached
from hotpath.front.forward import MAX_WHOLE, Forward
from hotpath.front.hold import RETRY_AFTER, RETRY_SPREAD, Attempts, Next, is_repeatable, retry_after, retry_delay
from hotpath.front.upstream import Upstream
from tests.front import forward_app
from tests.front.forwarding import SECONDS, Backend, Front, Reply, Served, free_port, reset, running, wait_until


@pytest.mark.parametrize(
    ("method", "has_body", "repeatable"),
    [
        ("GET", False, True),
        ("HEAD", False, True),
        ("OPTIONS", False, True),
        ("PUT", False, True),
        ("DELETE", False, True),
        ("POST", False, False),
        ("PATCH", False, False),
        ("PROPFIND", False, False),
        ("PUT", True, False),
        ("GET", True, False),
    ],
)
def test_what_may_be_sent_twice(method: str, has_body: bool, repeatable: bool) -> None:
    assert is_repeatable(method, has_body=has_body) is repeatable


SENT: dict[str, bool] = {}
UNREAD = {"is_unread": True}
NOT_SENT = {"is_sent": False}
PASSED_ON = {"is_passed_on": True}


@pytest.mark.parametrize(
    ("is_repeatable", "breaks", "following"),
    [
        (True, [NOT_SENT], Next.WAIT),
        (False, [NOT_SENT], Next.WAIT),
        (True, [SENT, NOT_SENT, NOT_SENT], Next.WAIT),
        (True, [SENT], Next.AGAIN),
        (True, [NOT_SENT, SENT], Next.AGAIN),
        (True, [SENT, SENT], Next.BAD_GATEWAY),
        (False, [SENT], Next.BAD_GATEWAY),
        (True, [PASSED_ON], Next.BREAK),
        (False, [PASSED_ON], Next.BREAK),
        (True, [UNREAD], Next.AGAIN),
        (False, [UNREAD], Next.AGAIN),
        (True, [SENT, UNREAD], Next.AGAIN),
        (True, [UNREAD, SENT, UNREAD], Next.WAIT),
        (False, [UNREAD, UNREAD, UNREAD], Next.WAIT),
        (True, [UNREAD, UNREAD, SENT], Next.AGAIN),
        (False, [UNREAD, SENT], Next.BAD_GATEWAY),
    ],
)
def test_what_follows_a_break(is_repeatable: bool, breaks: list[dict[str, bool]], following: Next) -> None:
    attempts = Attempts(is_repeatable=is_repeatable)
    assert [attempts.broke(**broken) for broken in breaks][-1] is following


def test_delays() -> None:
    assert [retry_delay(attempt) for attempt in range(3)] == [0.1, 0.25, 0.25]
    assert {retry_after(number) for number in range(100)} == set(range(RETRY_AFTER, RETRY_AFTER + RETRY_SPREAD))


@pytest.mark.parametrize(
    "options",
    [{"hold_seconds": 0}, {"in_flight": 0}, {"waiting": 0}, {"connect_seconds": "x"}, {"trust": ["x"]}],
)
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(DeclarationError):
        Forward(Upstream(Address("127.0.0.1", 1)), **options)


@pytest.fixture(params=["tcp", "unix"])
def nowhere(request: pytest.FixtureRequest, tmp_path: Path) -> Address:
    return Address(path=str(tmp_path / "a.sock")) if request.param == "unix" else Address("127.0.0.1", free_port())


def listen(address: Address) -> Served:
    return Served(forward_app.app, Path(address.path)) if address.path else Served(forward_app.app, port=address.port)


def all_of(front: Front, count: int, target: str = "/echo", **options: Any) -> Iterator[Reply]:
    with ThreadPoolExecutor(count) as pool:
        yield from [*pool.map(lambda _: front.get(target, **options), range(count))]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH"])
def test_any_method_waits_for_an_app_that_is_not_there(nowhere: Address, method: str) -> None:
    front, replies = Front(nowhere, hold_seconds=SECONDS), list[Reply]()
    asking = threading.Thread(target=lambda: replies.append(front.ask(method, "/echo", body=b"x" * 300_000)))
    asking.start()
    wait_until(lambda: front.upstream.held == 1)
    assert not front.upstream.is_up
    app = listen(nowhere)
    with running(front, app):
        asking.join(SECONDS)
        assert [reply.status for reply in replies] == [200]
        assert b'"length": 300000' in replies[0].body
        assert (front.upstream.is_up, front.upstream.held, front.upstream.counters.bad_gateway) == (True, 0, 0)


def test_nobody_waits_longer_than_the_hold(nowhere: Address) -> None:
    with running(Front(nowhere, hold_seconds=0.6)) as (front,):
        started = time.monotonic()
        reply = front.ask("POST", "/", body=b"x")
        assert 0.5 < time.monotonic() - started < SECONDS
    assert (reply.status, reply["cache-control"]) == (503, "no-store")
    assert reply["retry-after"] in {str(retry_after(number)) for number in range(RETRY_SPREAD)}


def test_who_was_in_an_app_that_hung_waits_for_the_next_one(nowhere: Address) -> None:
    hung = socket.socket(socket.AF_UNIX if nowhere.path else socket.AF_INET)
    hung.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    hung.bind(nowhere.path or (nowhere.host, nowhere.port))
    hung.listen(10)
    replies = list[Reply]()
    with running(Front(nowhere, hold_seconds=1.0)) as (front,):
        asking = threading.Thread(target=lambda: replies.append(front.get("/echo")))
        asking.start()
        connection, _ = hung.accept()
        connection.recv(1 << 16)
        time.sleep(1.2)  # longer than the hold
        hung.close()
        connection.close()
        wait_until(lambda: front.upstream.held == 1)
        if nowhere.path:
            Path(nowhere.path).unlink()
        time.sleep(0.3)
        with running(listen(nowhere)):
            asking.join(SECONDS)
    assert [reply.status for reply in replies] == [200]


def test_a_file_that_is_no_socket_is_nobody(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    path.write_text("")
    with running(Front(Address(path=str(path)), hold_seconds=0.3)) as (front,):
        assert front.get().status == 503


def test_a_socket_whose_backlog_is_full_is_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as other:
        listener.bind(str(path))
        listener.listen(0)
        other.connect(str(path))
        with running(Front(Address(path=str(path)), hold_seconds=0.5, loop="asyncio")) as (front,):
            assert front.ask("POST", "/", body=b"x").status == 503
            assert front.upstream.counters.bad_gateway == 0


def test_an_app_that_is_gone_is_told_from_one_that_has_enough_to_do(nowhere: Address, tmp_path: Path) -> None:
    def is_absent(address: Address) -> bool:
        with pytest.raises(Unreached) as raised:
            asyncio.run(address.connect(0.2))
        return raised.value.is_absent

    no_socket = tmp_path / "file"
    no_socket.write_text("")
    assert is_absent(nowhere)
    assert is_absent(Address(path=str(no_socket)))
    assert is_absent(Address(path=str(tmp_path / "missing")))
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as other:
        listener.bind(str(tmp_path / "full"))
        listener.listen(0)
        other.connect(str(tmp_path / "full"))
        assert not is_absent(Address(path=str(tmp_path / "full")))


def test_who_goes_away_waits_no_longer(nowhere: Address) -> None:
    with running(Front(nowhere, hold_seconds=SECONDS)) as (front,):
        with pytest.raises(TimeoutError):
            front.get(seconds=0.4)
        wait_until(lambda: front.upstream.queued == 0)
        assert front.upstream.counters.cancelled == 1


@pytest.mark.parametrize(
    ("method", "body", "asked", "status"),
    [
        ("GET", b"", 2, 200),
        ("HEAD", b"", 2, 200),
        ("OPTIONS", b"", 2, 200),
        ("DELETE", b"", 2, 200),
        ("PUT", b"", 2, 200),
        ("PUT", b"x", 1, 502),
        ("POST", b"", 1, 502),
        ("POST", b"x", 1, 502),
        ("PATCH", b"", 1, 502),
    ],
)
def test_what_broke_before_an_answer_is_sent_once_more_if_that_does_no_harm(
    method: str, body: bytes, asked: int, status: int
) -> None:
    def answer(number: int, data: bytes, sock: Any) -> None:
        if number:
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        else:
            reset(sock)

    backend = Backend(answer)
    with running(Front(backend.address), backend) as (front, _):
        assert front.ask(method, "/", body=body).status == status
        assert len(backend.seen) == asked
        assert front.upstream.counters.retried == asked - 1


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"


@pytest.mark.parametrize(
    ("pieces", "status", "asked", "length"),
    [
        ([HEAD % 3], 200, 2, 0),
        ([HEAD % MAX_WHOLE], 200, 2, 0),
        # These are with the client by then, which must see that something is missing.
        ([HEAD % 3, b"E"], 200, 1, 1),
        ([HEAD % (MAX_WHOLE + 1)], 200, 1, 0),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"], 200, 1, 0),
    ],
)
def test_the_head_of_a_small_answer_waits_for_its_body(
    pieces: list[bytes], status: int, asked: int, length: int
) -> None:
    def answer(number: int, data: bytes, sock: Any) -> None:
        for piece in [HEAD % 0] if number else pieces:
            sock.sendall(piece)
        if not number:
            time.sleep(0.3)  # longer than the front waits for the rest of a body

    backend = Backend(answer)
    with running(Front(backend.address), backend) as (front, _):
        reply = front.get("/")
        assert (reply.status, len(backend.seen), len(reply.body)) == (status, asked, length)
        assert reply.is_whole == (asked == 2)


def test_a_small_answer_whose_body_comes_late_is_whole() -> None:
    def answer(number: int, data: bytes, sock: Any) -> None:
        for piece in (HEAD % 3, b"E", b"N", b"D"):
            sock.sendall(piece)
            time.sleep(0.2)

    backend = Backend(answer)
    with running(Front(backend.address), backend) as (front, _):
        assert (front.get("/").body, len(backend.seen)) == (b"END", 1)


@pytest.mark.parametrize("ends", [reset, lambda sock: sock.close()], ids=["reset", "closed"])
def test_never_a_third_time(ends: Any) -> None:
    backend = Backend(lambda number, data, sock: ends(sock))
    with running(Front(backend.address), backend) as (front, _):
        assert front.get().status == 502
        assert len(backend.seen) == 2


def test_a_kept_connection_that_the_app_closed_costs_no_request() -> None:
    def answer(number: int, data: bytes, sock: Any) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        sock.recv(1)  # the next request comes, and the connection ends

    backend = Backend(answer)
    with running(Front(backend.address), backend) as (front, _):
        methods = ["GET", "GET", "POST", "GET", "PUT"]
        assert [front.ask(method, "/").status for method in methods] == [200] * 5


def test_at_most_so_many_are_in_the_app_and_the_rest_come_after_them() -> None:
    lock, now, most = threading.Lock(), [0], [0]

    def answer(number: int, data: bytes, sock: Any) -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.05)
        with lock:
            now[0] -= 1
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    backend = Backend(answer)
    with running(Front(backend.address, in_flight=3), backend) as (front, _):
        assert [reply.status for reply in all_of(front, 15)] == [200] * 15
        assert most == [3]
        assert front.upstream.counters.forwarded == 15


def test_a_full_line_refuses_at_once_and_the_least_important_first(nowhere: Address) -> None:
    with (
        running(Front(nowhere, waiting=2, hold_seconds=1.5, priorities={"/export": 3})) as (front,),
        ThreadPoolExecutor(4) as pool,
    ):
        waits = [pool.submit(front.get, "/export") for _ in range(2)]
        wait_until(lambda: front.upstream.queued == 2)
        started = time.monotonic()
        refused = front.get("/export")
        assert (refused.status, refused["retry-after"] is not None) == (503, True)
        important = pool.submit(front.get, "/page")
        wait_until(lambda: any(wait.done() for wait in waits))
        assert time.monotonic() - started < 1
        assert [wait.done() for wait in waits].count(True) == 1
        assert all(wait.result().status == 503 for wait in waits)
        assert front.upstream.counters.refused == 2
        assert important.result().status == 503
        assert front.upstream.counters.timed_out == 2


def test_a_priority_that_fails_is_a_reads(nowhere: Address, caplog: pytest.LogCaptureFixture) -> None:
    def broken(scope: Any) -> int:
        raise ValueError("broken")

    with running(Front(nowhere, hold_seconds=0.3, priorities=broken)) as (front,):
        assert [front.get().status for _ in range(2)] == [503, 503]
    assert [record.getMessage() for record in caplog.records if "ValueError('broken')" in record.getMessage()] != []


def test_an_app_that_is_back_is_not_overrun(nowhere: Address) -> None:
    lock, now, early = threading.Lock(), [0], list[int]()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            with lock:
                now[0] += 1
                early.append(now[0])
            await asyncio.sleep(0.05)
            with lock:
                now[0] -= 1
        await forward_app.app(scope, receive, send)

    with running(Front(nowhere)) as (front,), ThreadPoolExecutor(20) as pool:
        asked = [pool.submit(front.get) for _ in range(20)]
        wait_until(lambda: front.upstream.held == 20)
        path = Path(nowhere.path) if nowhere.path else None
        with running(Served(app, path, port=nowhere.port)):
            assert [reply.result().status for reply in asked] == [200] * 20
    assert max(early[:3]) == 2
    assert all(count <= 2 + place for place, count in enumerate(early))


@pytest.mark.slow
def test_answers_that_never_end_do_not_stop_the_ramp(nowhere: Address) -> None:
    with running(Front(nowhere)) as (front,), ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(front.get, "/echo?s=2.5") for _ in range(3)]
        wait_until(lambda: front.upstream.held == 3)
        with running(listen(nowhere)):
            wait_until(lambda: front.upstream.in_flight == 3, 2.4)
            assert [reply.result().status for reply in asked] == [200] * 3


def test_a_pause_holds_everything_until_it_is_resumed() -> None:
    app = Served(forward_app.app)
    with running(Front(app.address), app) as (front, _), ThreadPoolExecutor(3) as pool:
        upstream = front.upstream
        front.call(lambda: upstream.pause(SECONDS))
        assert upstream.is_paused
        asked = [pool.submit(front.get), pool.submit(front.ask, "POST", "/echo", body=b"x")]
        wait_until(lambda: upstream.held == 2)
        assert upstream.in_flight == 0
        front.call(upstream.resume)
        assert [reply.result().status for reply in asked] == [200, 200]
        assert (upstream.is_paused, upstream.held, upstream.is_up) == (False, 0, True)


def test_a_pause_ends_by_itself() -> None:
    app = Served(forward_app.app)
    with running(Front(app.address), app) as (front, _):
        front.call(lambda: front.upstream.pause(0.3))
        started = time.monotonic()
        assert front.get().status == 200
        assert 0.2 < time.monotonic() - started < SECONDS
        with pytest.raises(DeclarationError):
            front.call(lambda: front.upstream.pause(0))


def test_a_switch_takes_new_requests_and_leaves_the_old_ones() -> None:
    old, new = Served(forward_app.app), Backend(lambda number, data, sock: sock.sendall(b"HTTP/1.0 200 OK\r\n\r\nnew"))
    with running(Front(old.address), old, new) as (front, _, _), ThreadPoolExecutor(1) as pool:
        upstream = front.upstream
        running_one = pool.submit(front.get, "/echo?s=1")
        wait_until(lambda: upstream.in_flight == 1)
        front.call(lambda: upstream.switch(new.address))
        assert front.get().body == b"new"
        assert front.wait_for(upstream.drained(old.address, 0.05)) is False
        assert front.wait_for(upstream.drained(old.address, SECONDS)) is True
        assert running_one.result().status == 200
        assert upstream.in_flight == 0
        assert front.wait_for(upstream.drained(old.address, SECONDS)) is True
        front.call(lambda: upstream.switch(old.address))
        assert b'"target"' in front.get().body


def test_a_switch_helps_those_who_wait_for_an_app_that_is_gone(nowhere: Address) -> None:
    app = Served(forward_app.app)
    with running(Front(nowhere, hold_seconds=SECONDS), app) as (front, _), ThreadPoolExecutor(1) as pool:
        asked = pool.submit(front.ask, "POST", "/echo", body=b"x")
        wait_until(lambda: front.upstream.held == 1)
        front.call(lambda: front.upstream.switch(app.address))
        assert asked.result().status == 200


def test_an_app_that_goes_and_comes_is_logged_once_each(nowhere: Address, caplog: pytest.LogCaptureFixture) -> None:
    with running(Front(nowhere, hold_seconds=SECONDS)) as (front,), ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(front.get) for _ in range(3)]
        wait_until(lambda: front.upstream.held == 3)
        with running(listen(nowhere)):
            assert [reply.result().status for reply in asked] == [200] * 3
    lines = [record.getMessage() for record in caplog.records if str(nowhere) in record.getMessage()]
    assert [line.split(str(nowhere))[1][:6] for line in lines] == [" is no", " is ba"]
