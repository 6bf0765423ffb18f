"""Apps that are killed, stopped, unreachable or slow, and bodies larger than memory: for real, on loopback."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from hotpath.front.address import Address
from tests.front.forwarding import ROOT, SECONDS, Backend, Front, Process, free_port, is_listening, running, wait_until

pytestmark = pytest.mark.slow
MIB = 1 << 20
BLOCK = b"x" * 65536
KILLS = int(os.environ.get("HOTPATH_TEST_KILLS", "5"))


@pytest.fixture(params=["tcp", "unix"])
def process(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Process]:
    unix = request.param == "unix"
    process = Process(Address(path=str(tmp_path / "a.sock")) if unix else Address("127.0.0.1", free_port()))
    process.start()
    yield process
    process.kill()


def load(front: Front, method: str, until: threading.Event) -> Counter[int]:
    """Statuses of one request after another; 0 is a connection that ended without an answer, -1 half an answer."""
    statuses: Counter[int] = Counter()
    while not until.is_set():
        reply = front.ask(method, "/echo?s=0.01", body=b"x" * 100 if method == "POST" else b"")
        statuses[reply.status if reply.is_whole else -1] += 1
    return statuses


def test_an_app_that_is_killed_again_and_again_is_a_pause(process: Process) -> None:
    until = threading.Event()
    with running(Front(process.address)) as (front,), ThreadPoolExecutor(12) as pool:
        gets = [pool.submit(load, front, "GET", until) for _ in range(8)]
        posts = [pool.submit(load, front, "POST", until) for _ in range(4)]
        for _ in range(KILLS):
            time.sleep(1)
            process.kill()
            time.sleep(0.3)
            process.start()
        until.set()
        read = sum((job.result(SECONDS) for job in gets), Counter[int]())
        written = sum((job.result(SECONDS) for job in posts), Counter[int]())
        counters = front.upstream.counters
    assert set(read) == {200}
    assert set(written) <= {200, 502}
    # Those in the app when it was killed, and those that its socket still took then.
    assert written[502] <= 2 * KILLS * 4
    assert written[502] == counters.bad_gateway
    assert counters.held > 0
    assert written[200] > 20


def test_a_stopped_app_costs_only_time(process: Process) -> None:
    with running(Front(process.address)) as (front,), ThreadPoolExecutor(8) as pool:
        process.signal(signal.SIGSTOP)
        asked = [pool.submit(front.ask, method, "/echo") for method in ("GET", "POST") * 4]
        time.sleep(1)
        assert not any(job.done() for job in asked)
        process.signal(signal.SIGCONT)
        assert [job.result(SECONDS).status for job in asked] == [200] * 8


def test_a_stopped_app_that_is_killed_and_replaced(process: Process) -> None:
    with running(Front(process.address)) as (front,), ThreadPoolExecutor(8) as pool:
        process.signal(signal.SIGSTOP)
        gets = [pool.submit(front.get) for _ in range(4)]
        posts = [pool.submit(front.ask, "POST", "/echo") for _ in range(4)]
        wait_until(lambda: front.upstream.in_flight == 8)
        process.kill()
        process.start()
        assert [job.result(SECONDS).status for job in gets] == [200] * 4
        assert {job.result(SECONDS).status for job in posts} <= {200, 502}


def test_a_black_hole_is_nobody() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        # The backlog is full, so that the kernel drops the handshakes of others.
        full = [socket.socket() for _ in range(4)]
        for sock in full:
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        time.sleep(0.1)
        address = Address("127.0.0.1", listener.getsockname()[1])
        with running(Front(address, hold_seconds=1.5, connect_seconds=0.3)) as (front,), ThreadPoolExecutor(4) as pool:
            started = time.monotonic()
            replies = [pool.submit(front.ask, method, "/") for method in ("GET", "POST", "GET", "POST")]
            assert [job.result().status for job in replies] == [503] * 4
            assert time.monotonic() - started < 5
            assert front.upstream.counters.bad_gateway == 0
        for sock in full:
            sock.close()


def test_a_slow_app_does_not_keep_the_front_from_answering(process: Process) -> None:
    with running(Front(process.address, in_flight=8)) as (front,), ThreadPoolExecutor(20) as pool:
        slow = [pool.submit(front.get, "/echo?s=1") for _ in range(20)]
        wait_until(lambda: front.upstream.waiting == 12)
        assert [job.result(SECONDS).status for job in slow] == [200] * 20


def test_a_front_before_an_app_of_several_processes(tmp_path: Path) -> None:
    process = Process(Address("127.0.0.1", free_port()), "--workers", "2")
    process.start()
    try:
        with running(Front(process.address)) as (front,), ThreadPoolExecutor(8) as pool:
            pids = {json.loads(reply.body)["pid"] for reply in pool.map(lambda _: front.get("/echo?s=.05"), range(60))}
        assert pids
    finally:
        parent = psutil.Process(process.pid)
        children = parent.children(recursive=True)
        process.kill()
        for child in children:
            child.kill()


@pytest.mark.parametrize("size", [256 * MIB, pytest.param(1024 * MIB, marks=pytest.mark.serial)])
def test_large_bodies_leave_memory_where_it_was(process: Process, size: int) -> None:
    port = free_port()
    command = [sys.executable, "-m", "tests.front.forward_main", str(process.address), str(port)]
    front = subprocess.Popen(command, cwd=ROOT, env={"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"})
    try:
        wait_until(lambda: is_listening(Address("127.0.0.1", port)))
        memory = psutil.Process(front.pid).memory_info
        for transfer in (upload, download):
            assert [*transfer(port, 8 * MIB)]  # what is loaded and allocated once
        before, most = memory().rss, 0
        for transfer in (upload, download):
            for _ in transfer(port, size):
                most = max(most, memory().rss)
        assert most - before < 24 * MIB
    finally:
        front.kill()
        front.wait()


def upload(port: int, size: int) -> Iterator[None]:
    with socket.create_connection(("127.0.0.1", port), 60) as sock:
        sock.sendall(f"POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n".encode())
        for number in range(size // len(BLOCK)):
            sock.sendall(BLOCK)
            if number % 64 == 0:
                yield
        reply = b""
        while data := sock.recv(65536):
            reply += data
        assert f'"length": {size}'.encode() in reply


def download(port: int, size: int) -> Iterator[None]:
    with socket.create_connection(("127.0.0.1", port), 60) as sock:
        sock.sendall(f"GET /big?n={size} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        length, head = 0, b""
        for number, data in enumerate(iter(lambda: sock.recv(65536), b"")):
            length += len(data)
            head = head or data[: data.index(b"\r\n\r\n") + 4]
            if number % 64 == 0:
                yield
        assert length == len(head) + size


def test_a_client_that_does_not_read_stops_the_app_and_fills_no_memory() -> None:
    sent = [0]

    def answer(number: int, data: bytes, sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (512 * MIB))
        sock.settimeout(1)
        while True:
            sent[0] += sock.send(BLOCK)

    backend = Backend(answer)
    with (
        running(Front(backend.address), backend) as (front, _),
        socket.create_connection(("127.0.0.1", front.port), SECONDS) as sock,
    ):
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert backend.ended.wait(SECONDS)  # its time limit for one send
        assert sent[0] < 32 * MIB
