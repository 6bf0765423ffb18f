"""The door among clients as they are: in pieces, slow, silent, many; and while the loop behind it stands still."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hotpath.asgi.access_log import HotpathRequest
from hotpath.front.door import Door
from hotpath.front.poller import SelectorPoller, make_poller
from hotpath.serving import reader_of
from hotpath.serving.rfc9110 import IDENTITY
from tests.front.ways import front, listen, port_of, receive, talk, without_date
from tests.wire.conformance.cases import APP, PAGES, PageData
from tests.wire.conformance.site import Site, make_site, publish
from tests.wire.servers.client import Connection, ConnectionEnded

HOT = b"GET /rows HTTP/1.1\r\nHost: example.org\r\n\r\n"
LAST = b"GET /rows HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n"
COLD = b"GET /cold HTTP/1.1\r\nHost: example.org\r\n\r\n"
BODY = PAGES["/rows"].body


class Desk:
    """Takes what a door hands over, and keeps it."""

    def __init__(self) -> None:
        self.taken: list[tuple[socket.socket, bytes]] = []

    def __call__(self, sock: socket.socket, data: bytes) -> None:
        self.taken.append((sock, data))

    def close(self) -> None:
        for sock, _ in self.taken:
            sock.close()


@contextlib.contextmanager
def alone(site: Site, **options: Any) -> Iterator[tuple[Door, Desk, int]]:
    """A door with nothing behind it."""
    desk = Desk()
    with listen() as listener:
        door = Door(site.hot, [listener], desk, **options)
        door.start()
        try:
            yield door, desk, port_of(listener)
        finally:
            door.stop(1)
            desk.close()


def wait_for(condition: Any, seconds: float = 5.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


# What is answered


@pytest.mark.parametrize("make", [make_poller, SelectorPoller])
def test_a_hot_page_needs_nobody_behind_the_door(site: Site, make: Any) -> None:
    with alone(site, make_poller=make) as (door, desk, port), Connection(port) as connection:
        for _ in range(3):
            answer = connection.ask(HOT)
            assert (answer.status, answer.body) == (200, BODY)
            assert [name for name, _ in answer.headers][:2] == [b"date", b"server"]
        assert (door.hits, door.handed_over, door.open, desk.taken) == (3, 0, 1, [])


def test_how_long_hot_pages_take_is_counted_by_turns(site: Site) -> None:
    turns: list[tuple[int, float]] = []
    with alone(site) as (door, _, port):
        door.on_turn = lambda count, seconds: turns.append((count, seconds))
        with Connection(port) as connection:
            for _ in range(3):
                connection.ask(HOT)
            connection.send(HOT * 4)
            for _ in range(4):
                connection.read()
        wait_for(lambda: sum(count for count, _ in turns) == 7)
        assert door.hits == 7
        assert all(0 < seconds < 5 for _, seconds in turns)


@pytest.mark.parametrize("make", [make_poller, SelectorPoller])
@pytest.mark.parametrize("requests", [1, 2, 300], ids=["one", "two", "more than one read takes"])
def test_a_client_that_asks_and_sends_no_more_gets_its_answers_and_its_end(
    site: Site, make: Any, requests: int
) -> None:
    with alone(site, make_poller=make) as (door, _, port), socket.create_connection(("127.0.0.1", port), 5) as client:
        for _ in range(2):  # the second time the door knows the fields
            client.sendall(HOT * requests)
            received = b""
            while received.count(BODY) < requests:
                received += client.recv(65536)
        client.sendall(HOT * requests)
        client.shutdown(socket.SHUT_WR)
        received = receive(client, 5)
        assert (received.count(BODY), received[-len(BODY) :]) == (requests, BODY)
        assert (door.hits, door.handed_over, door.open) == (3 * requests, 0, 0)


@pytest.mark.parametrize("make", [make_poller, SelectorPoller])
def test_fields_that_come_again_with_another_target_and_half_a_head(site: Site, make: Any) -> None:
    fields = HOT.removeprefix(b"GET /rows")
    with alone(site, make_poller=make) as (door, desk, port), Connection(port) as connection:
        for target in ("/rows", "/digits", "/rows?utm_source=x", "/digits", "/rows"):
            answer = connection.ask(b"GET " + target.encode() + fields)
            assert answer.body == PAGES[target.partition("?")[0]].body
        connection.send(HOT[:30])
        assert connection.is_quiet(0.05)
        assert connection.ask(HOT[30:] + HOT).body == connection.read().body == BODY
        assert connection.ask(b"HEAD /rows" + fields).body == b""
        assert (door.hits, door.handed_over) == (8, 0)
        connection.send(b"GET /cold" + fields)
        wait_for(lambda: desk.taken)
        assert desk.taken[0][1] == b"GET /cold" + fields


def test_a_request_that_comes_again_gets_the_generation_of_now(tmp_path: Path) -> None:
    site = make_site(tmp_path / "own")
    with alone(site) as (door, _, port), Connection(port) as connection:
        for number in range(1, 4):
            for _ in range(4):
                answer = connection.ask(HOT)
                assert answer.header("x-hotpath-generation") == str(number)
                assert answer.body == (BODY if number == 1 else b"page %d" % number)
            assert [*reader_of(site.hot).loader.snapshot.chosen.by_mask[IDENTITY]] == [b"/rows"]
            changed = replace(PAGES["/rows"], body=b"page %d" % (number + 1))
            publish(site.hot, {**PAGES, "/rows": changed})
            reader_of(site.hot).refresh()
        assert (door.hits, door.handed_over) == (12, 0)
    reader_of(site.hot).close()


def test_uses_are_counted(site: Site) -> None:
    loader = reader_of(site.hot).loader
    before = loader.answers.get(("/rows", "hit"), 0)
    with alone(site) as (_, _, port):
        talk(port, HOT + LAST)
    assert loader.answers["/rows", "hit"] == before + 2


@pytest.mark.parametrize(
    "data",
    [
        COLD,
        b"POST /rows HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        b"GET /rows HTTP/1.1\r\n\r\n",
        b"GET /rows HTTP/1.1\nHost: a\n\n",
        b"GET /rows HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        LAST + b"x",
    ],
)
def test_what_is_not_understood_is_handed_over_unchanged(site: Site, data: bytes) -> None:
    with alone(site) as (door, desk, port), socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(data)
        wait_for(lambda: desk.taken)
        sock, taken = desk.taken[0]
        assert (taken, sock.getblocking(), door.open, door.handed_over) == (data, False, 0, 1)
        assert sock.getpeername() == client.getsockname()


def test_what_follows_a_hot_head_is_handed_over_from_there(site: Site) -> None:
    with alone(site) as (_, desk, port), socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(HOT + COLD + HOT)
        wait_for(lambda: desk.taken)
        assert desk.taken[0][1] == COLD + HOT
        assert BODY in receive(client, 0.2)


def test_a_door_that_is_told_not_to_answers_nothing(site: Site) -> None:
    with alone(site) as (door, desk, port), socket.create_connection(("127.0.0.1", port)) as client:
        door.answers = False
        client.sendall(HOT)
        wait_for(lambda: desk.taken)
        assert (desk.taken[0][1], door.hits) == (HOT, 0)


def test_requests_written_at_once_are_answered_in_order(site: Site) -> None:
    """RFC 9112 §9.3.2, with a cold one among them: from there on the connection stays with uvicorn."""
    targets = ["/digits", "/rows", "/digits", "/cold", "/rows", "/digits"]
    with front(site.app, site.hot) as (door, _, port), Connection(port) as connection:
        connection.send(b"".join(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % target.encode() for target in targets))
        answers = [connection.read() for _ in targets]
        assert (door.hits, door.handed_over) == (3, 1)
        assert connection.ask(HOT).body == BODY
        assert door.hits == 3
    assert [answer.body for answer in answers] == [PAGES[t].body if t in PAGES else b"app" for t in targets]


@pytest.mark.parametrize("data", [HOT + LAST, COLD + LAST, HOT + COLD + LAST], ids=["hot", "cold", "both"])
def test_a_head_may_be_split_at_every_byte(site: Site, data: bytes) -> None:
    with front(site.app, site.hot) as (_, _, port):
        whole = without_date(talk(port, data))
        for place in range(1, len(data)):
            with socket.create_connection(("127.0.0.1", port)) as sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.sendall(data[:place])
                time.sleep(0.002)
                sock.sendall(data[place:])
                assert without_date(receive(sock, 5)) == whole, place


@pytest.mark.parametrize("data", [HOT + LAST, HOT.replace(b"/rows", b"/rows-of-the-app") + LAST], ids=["hot", "cold"])
def test_a_head_with_the_fields_of_the_one_before_may_be_split_at_every_byte(site: Site, data: bytes) -> None:
    """Half of it may end where the target of a hot page does."""
    with front(site.app, site.hot) as (_, _, port):
        whole = without_date(talk(port, HOT, data))
        for place in range(1, len(data)):
            with socket.create_connection(("127.0.0.1", port)) as sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for part in (HOT, data[:place], data[place:]):
                    sock.sendall(part)
                    time.sleep(0.002)  # so that each is read by itself
                assert without_date(receive(sock, 5)) == whole, place


def test_a_head_may_come_byte_by_byte(site: Site) -> None:
    with alone(site) as (door, _, port):
        answer = talk(port, *(LAST[n : n + 1] for n in range(len(LAST))))
        assert answer.endswith(BODY)
        assert door.hits == 1


def test_a_page_that_is_on_disk_only_is_handed_over(tmp_path: Path) -> None:
    site = make_site(tmp_path / "hot", max_body_bytes=1)
    with front(site.app, site.hot) as (door, _, port), Connection(port) as connection:
        assert connection.ask(HOT).body == BODY
        assert (door.hits, door.handed_over) == (0, 1)
    reader_of(site.hot).close()


def test_a_store_that_is_not_there_yet_is_picked_up(tmp_path: Path) -> None:
    hot = make_site(tmp_path / "other").hot
    reader_of(hot).close()
    from hotpath.site import Hotpath

    empty = Hotpath(tmp_path / "hot", refresh=0.05)
    site = Site(empty, make_site(tmp_path / "app").app, {})
    with alone(site) as (door, _, port):
        talk(port, LAST, seconds=0.1)
        assert (door.hits, door.handed_over) == (0, 1)
        publish(empty, PAGES)
        wait_for(lambda: reader_of(empty).snapshot.generation == 1)
        assert talk(port, LAST).endswith(BODY)
    reader_of(empty).close()


def test_each_answer_is_observed(site: Site) -> None:
    seen: list[HotpathRequest] = []
    with alone(site, on_hit=seen.append) as (_, _, port):
        talk(port, HOT, b"HEAD /top?n=10 HTTP/1.1\r\nHost: a\r\nX-A:  b \r\n\r\n", LAST)
    assert [(one.method, one.path, one.status, one.result, one.generation) for one in seen] == [
        ("GET", "/rows", 200, "hit", 1),
        ("HEAD", "/top", 200, "hit", 1),
        ("GET", "/rows", 200, "hit", 1),
    ]
    assert [one.body_bytes for one in seen] == [len(BODY), 0, len(BODY)]
    assert seen[1].headers == [(b"host", b"a"), (b"x-a", b"b")]


def test_an_observer_that_raises_costs_no_answer(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: HotpathRequest) -> None:
        raise RuntimeError("on purpose")

    with alone(site, on_hit=fail) as (_, _, port):
        assert talk(port, HOT + LAST).count(BODY) == 2
    assert caplog.text.count("on_hit= failed") == 1


def test_a_hand_over_that_raises_costs_one_connection(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    def fail(_sock: socket.socket, _data: bytes) -> None:
        raise RuntimeError("on purpose")

    with listen() as listener:
        door = Door(site.hot, [listener], fail)
        door.start()
        assert talk(port_of(listener), COLD) == b""
        assert talk(port_of(listener), LAST).endswith(BODY)
        door.stop(1)
    assert "hand_over= failed" in caplog.text


# Who comes and how


def test_a_blocked_loop_does_not_touch_hot_pages(site: Site) -> None:
    async def block(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            time.sleep(1.5)  # noqa: ASYNC251 # that is what is tested
            await send({"type": "http.response.start", "status": APP, "headers": []})
            await send({"type": "http.response.body", "body": b"late"})

    with front(block, site.hot) as (_, _, port), Connection(port) as slow, Connection(port) as connection:
        slow.send(COLD)
        time.sleep(0.1)
        began = time.monotonic()
        for _ in range(200):
            assert connection.ask(HOT).body == BODY
        assert time.monotonic() - began < 1.0, "while the loop slept"
        assert slow.read().status == APP


@pytest.fixture
def large(tmp_path: Path) -> Iterator[Site]:
    """A page that no socket buffer takes at once."""
    site = make_site(tmp_path / "hot", pages={"/rows": PageData(os.urandom(20_000_000), "image/png")})
    yield site
    reader_of(site.hot).close()


@pytest.mark.slow
def test_a_slow_reader_gets_every_byte_and_holds_up_nobody(large: Site) -> None:
    body = reader_of(large.hot).snapshot.pages[b"/rows"].bodies["identity"]
    with alone(large) as (_, _, port):
        with socket.create_connection(("127.0.0.1", port)) as slow:
            slow.sendall(HOT + LAST)  # the second waits until the first is out
            time.sleep(0.1)
            assert len(talk(port, LAST)) > len(body)
            data = receive(slow, 5)
        assert data.count(b"HTTP/1.1 200 OK") == 2
        assert data.endswith(body)
        assert len(data) > 2 * len(body)


def test_a_reader_that_takes_nothing_ends_when_it_is_idle(large: Site) -> None:
    with alone(large, idle_seconds=0.5) as (door, _, port), socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(HOT)
        wait_for(lambda: door.open == 1)
        wait_for(lambda: door.open == 0)


def test_the_door_holds_no_copy_for_readers_that_take_nothing(large: Site) -> None:
    clients = []
    with alone(large) as (door, _, port):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(40):
            client = socket.create_connection(("127.0.0.1", port))
            client.setblocking(False)
            client.send(HOT * 2000)
            clients.append(client)
        wait_for(lambda: door.hits == 40)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        for client in clients:
            client.close()
    assert grown < 20_000_000, "40 copies of 20 MB, or one"


def test_a_slow_head_ends_and_an_idle_connection_too(site: Site) -> None:
    with alone(site, head_seconds=0.5, idle_seconds=2) as (door, desk, port):
        with socket.create_connection(("127.0.0.1", port)) as slow, socket.create_connection(("127.0.0.1", port)):
            began = time.monotonic()
            ended = None
            for byte in HOT:
                slow.sendall(bytes([byte]))
                time.sleep(0.1)
                if _is_ended(slow):
                    ended = time.monotonic() - began
                    break
            assert ended is not None
            assert 0.4 < ended < 2.5, "a byte now and then is no progress"
            assert door.open == 1
            wait_for(lambda: door.open == 0, 6)
        assert desk.taken == []


def test_a_connection_that_asks_is_not_idle(site: Site) -> None:
    with alone(site, idle_seconds=0.8) as (_, _, port), Connection(port) as connection:
        for _ in range(8):
            assert connection.ask(HOT).body == BODY
            time.sleep(0.3)


def test_beyond_half_of_the_maximum_the_longest_idle_go_first(site: Site) -> None:
    with alone(site, connections=20) as (door, _, port), contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(10)]
        wait_for(lambda: door.open == 10)
        busy = stack.enter_context(Connection(port))
        time.sleep(1.2)
        assert busy.ask(HOT).body == BODY
        more = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(5)]
        wait_for(lambda: sum(_is_ended(client) for client in silent) == 5)
        assert [_is_ended(client) for client in silent] == [True] * 5 + [False] * 5
        assert not any(map(_is_ended, more))
        assert busy.ask(HOT).body == BODY


def _is_ended(client: socket.socket) -> bool:
    ready, _, _ = select.select([client], [], [], 0)
    with contextlib.suppress(ConnectionResetError):
        return bool(ready) and client.recv(1) == b""
    return True


def test_a_crowd_that_says_nothing_keeps_no_crawler_out(site: Site) -> None:
    """Three times as many as the door holds, while one asks."""
    with alone(site, connections=100) as (door, _, port), contextlib.ExitStack() as stack:
        for number in range(300):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            if number % 10 == 0:
                assert talk(port, LAST).endswith(BODY)
        assert door.open <= 100


def _crowd(port: int, count: int, stack: contextlib.ExitStack) -> None:
    for _ in range(count):
        client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        client.sendall(b"GET /rows HTTP/1.1\r\nHost: exam")


@pytest.fixture
def descriptors() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_two_thousand_slow_heads_keep_no_crawler_out(site: Site, descriptors: None) -> None:
    count = min(2000, (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200) // 2)
    with front(site.app, site.hot) as (door, server, port), contextlib.ExitStack() as stack:
        _crowd(port, count, stack)
        wait_for(lambda: door.open == count)
        began = time.monotonic()
        for _ in range(50):
            assert talk(port, LAST).endswith(BODY)
        assert time.monotonic() - began < 5
        assert (door.open, server.open) == (count, 0)


def test_descriptors_that_are_used_up_keep_no_crawler_out(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """EMFILE: an idle connection gives its descriptor; where there is none the reserve lets the client be refused."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with alone(site) as (door, _, port), contextlib.ExitStack() as stack:
        silent = socket.socket()
        stack.enter_context(silent)
        silent.connect(("127.0.0.1", port))
        client = stack.enter_context(socket.socket())
        wait_for(lambda: door.open == 1)
        try:
            highest = max(int(name) for name in os.listdir("/proc/self/fd"))  # noqa: PTH208 # plain names
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, before[1]))
            while True:
                try:
                    stack.callback(os.close, os.open(os.devnull, os.O_RDONLY))
                except OSError:
                    break
            client.connect(("127.0.0.1", port))
            client.sendall(LAST)
            assert receive(client, 3).endswith(BODY)
            assert _is_ended(silent)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert talk(port, LAST).endswith(BODY), "and as before"
    assert caplog.text.count("accept() failed") == 1


def test_without_an_idle_connection_the_reserve_refuses(site: Site) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with alone(site) as (door, _, port), contextlib.ExitStack() as stack:
        clients = [stack.enter_context(socket.socket()) for _ in range(3)]
        try:
            highest = max(int(name) for name in os.listdir("/proc/self/fd"))  # noqa: PTH208 # plain names
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, before[1]))
            with contextlib.suppress(OSError):
                while True:
                    stack.callback(os.close, os.open(os.devnull, os.O_RDONLY))
            for client in clients:
                client.connect(("127.0.0.1", port))
                assert receive(client, 2) == b""
            beat = door.beat
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert talk(port, LAST).endswith(BODY)
        assert door.beat >= beat


def test_clients_that_reset_cost_nothing(site: Site) -> None:
    with alone(site) as (door, _, port):
        for data in (b"", b"GET /ro", HOT, HOT * 50):
            client = socket.create_connection(("127.0.0.1", port))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.sendall(data)
            client.close()
        wait_for(lambda: door.open == 0)
        assert talk(port, LAST).endswith(BODY)


# Begin and end


def test_the_beat_goes_on_without_clients(site: Site) -> None:
    with alone(site) as (door, _, _):
        before = door.beat
        wait_for(lambda: door.beat > before, 3)


def test_what_is_being_sent_when_the_door_stops_is_finished(large: Site) -> None:
    desk = Desk()
    with listen() as listener:
        door = Door(large.hot, [listener], desk)
        door.start()
        with socket.create_connection(("127.0.0.1", port_of(listener))) as client:
            client.sendall(HOT)
            wait_for(lambda: door.hits == 1)
            stopping = threading.Thread(target=door.stop, args=(10,))
            stopping.start()
            data = receive(client, 5)
            stopping.join(10)
        assert not stopping.is_alive()
        assert len(data) > 20_000_000
        # The listener is still the caller's: who comes now waits for the next door.
        with socket.create_connection(("127.0.0.1", port_of(listener))) as client:
            client.sendall(LAST)
            again = Door(large.hot, [listener], desk)
            again.start()
            assert len(receive(client, 5)) > 20_000_000
            again.stop(1)


def test_a_reader_that_takes_nothing_does_not_keep_the_door(large: Site) -> None:
    with alone(large) as (door, _, port), socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(HOT)
        wait_for(lambda: door.hits == 1)
        began = time.monotonic()
        door.stop(0.5)
        assert time.monotonic() - began < 2
        assert door.open == 0


def swap_under_load(tmp_path: Path, swaps: int) -> None:
    """Each answer whole and of one generation."""
    kinds = [{"/a": PageData(b'{"n":%d,"fill":"%s"}' % (n, b"x" * (n * 997 % 5000)))} for n in range(7)]
    site = make_site(tmp_path / "hot", pages=kinds[1])
    reader = reader_of(site.hot)
    with alone(site) as (door, _, port), Connection(port) as connection:
        done = threading.Event()
        faults: list[object] = []

        def swap() -> None:
            try:
                for number in range(2, swaps + 2):
                    publish(site.hot, kinds[number % 7])
                    reader.refresh()
            finally:
                done.set()

        thread = threading.Thread(target=swap)
        thread.start()
        while not done.is_set():
            answer = connection.ask(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n")
            generation = int(answer.header("x-hotpath-generation") or 0)
            if (answer.status, answer.body) != (200, kinds[generation % 7]["/a"].body):
                faults.append(answer)
        thread.join()
        assert faults == []
        assert connection.ask(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n").header("x-hotpath-generation") == str(swaps + 1)
        assert door.handed_over == 0
    reader.close()


def test_a_swap_under_load(tmp_path: Path) -> None:
    swap_under_load(tmp_path, 30)


@pytest.mark.slow
def test_a_thousand_swaps_under_load(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    swap_under_load(tmp_path, 1000)


def test_a_connection_that_was_ended_is_seen_by_its_client(site: Site) -> None:
    with alone(site) as (door, _, port), Connection(port) as connection:
        assert connection.ask(HOT).status == 200
        door.stop(0.1)
        with pytest.raises((ConnectionEnded, OSError)):
            connection.ask(HOT)


def test_a_fault_of_hotpath_costs_no_request(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("on purpose")

    with front(site.app, site.hot) as (door, _, port):
        monkeypatch.setattr("hotpath.front.hits.resolve", fail)
        for _ in range(2):
            assert talk(port, LAST).endswith(BODY), "by the middleware behind the door"
        assert (door.hits, door.handed_over) == (0, 2)
    assert caplog.text.count("hotpath failed on a request") == 2, "once by the door and once by the protocol"


def test_a_door_that_never_began_can_be_stopped(site: Site) -> None:
    with listen() as listener:
        Door(site.hot, [listener], Desk()).stop(1)


class Failing(SelectorPoller):
    """Fails at what it is asked, a few times: the kernel's limits."""

    def __init__(self) -> None:
        super().__init__()
        self.registers, self.polls = 3, 3

    def register(self, fd: int, eventmask: int, /) -> None:
        if threading.current_thread().name == "hotpath-door" and self.registers:
            self.registers -= 1
            raise OSError(28, "no watches left")
        super().register(fd, eventmask)

    def poll(self, timeout: float) -> list[tuple[int, int]]:
        if self.polls:
            self.polls -= 1
            raise MemoryError
        return super().poll(timeout)


def test_a_door_that_fails_goes_on(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    with alone(site, make_poller=Failing) as (door, _, port):
        answers = [talk(port, LAST) for _ in range(5)]
        assert [answer.endswith(BODY) for answer in answers] == [False] * 3 + [True] * 2
        assert door.hits == 2
    assert caplog.text.count("the door failed, and goes on") == 1
    assert caplog.text.count("a connection was refused") == 1


def test_a_door_that_shares_its_port_leaves_it_to_the_others_when_it_stops(site: Site) -> None:
    with listen() as listener:
        door = Door(site.hot, [listener], Desk(), closes_listeners=True)
        door.start()
        port = port_of(listener)
        with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
            sock.sendall(LAST)
            assert b"200 OK" in receive(sock, 5)
        door.stop(1)
        assert listener.fileno() == -1
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)
