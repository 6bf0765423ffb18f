"""An HTTP proxy in front of an S3 server, which makes chosen requests fail in chosen ways, and counts."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Literal

import pytest

Kind = Literal["close", "reset", "status", "delay", "hole"]
_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to a request.

    ``close``: the connection ends before the server sees it. ``reset``: the server does it, and the answer is lost.
    ``status``: ``code`` in place of the server, which does not see it. ``delay``: ``seconds`` before the server sees
    it. ``hole``: no answer until the proxy is healed, and the server does not see it.
    """

    kind: Kind
    code: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind} {self.code}".removesuffix(" 0")


@dataclass(frozen=True, slots=True)
class Request:
    """A request that was seen: its number since the last ``reset``, from 0, and what was sent and received."""

    number: int
    method: str
    path: str
    sent_bytes: int = 0
    received_bytes: int = 0
    status: int = 0


Plan = Callable[[Request], Fault | None]
_MEANING = {
    403: "RequestTimeTooSkewed",
    409: "ConditionalRequestConflict",
    412: "PreconditionFailed",
    500: "InternalError",
    503: "SlowDown",
}


class Proxy:
    """Listens on 127.0.0.1, one thread for each connection, one request on each connection."""

    def __init__(self, target_port: int) -> None:
        self._target = target_port
        self._plan: Plan = _no_fault
        self._is_partitioned = False
        self._healings = 0
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: set[threading.Thread] = set()
        self._count = 0
        self.requests: list[Request] = []
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._listening.getsockname()[1]}"

    def plan(self, plan: Plan) -> None:
        """Ask ``plan`` what happens to each request from now on; counting begins anew."""
        with self._lock:
            self._plan, self._count = plan, 0
            self.requests.clear()

    def fault(self, number: int, fault: Fault, times: int = 1) -> None:
        """Let ``times`` requests fail, from ``number`` on, counted from now."""
        self.plan(lambda request: fault if number <= request.number < number + times else None)

    def reset(self) -> None:
        """No more faults; counting begins anew."""
        self.plan(_no_fault)

    def partition(self) -> None:
        """Swallow requests, and hold their connections open."""
        self._is_partitioned = True

    def heal(self) -> None:
        """End the partition and every hole: connections that were held are closed without an answer."""
        self._is_partitioned = False
        self._healings += 1

    def close(self) -> None:
        """End everything."""
        self.heal()
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # wakes accept(2)
        self._accepting.join(10)
        self._listening.close()
        with self._lock:
            for each in self._open:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            threads = list(self._threads)
        for thread in threads:
            thread.join(10)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client = self._listening.accept()[0]
                thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
                with self._lock:
                    self._open.add(client)
                    self._threads.add(thread)
                thread.start()

    def _serve(self, client: socket.socket) -> None:
        try:
            with suppress(OSError, ValueError), closing(client):
                client.settimeout(_TIMEOUT_SECONDS)
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if data := _read_request(client):
                    self._answer(client, data)
        finally:
            with self._lock:
                self._open.discard(client)
                self._threads.discard(threading.current_thread())

    def _answer(self, client: socket.socket, data: bytes) -> None:
        method, path = data.split(b"\r\n", 1)[0].decode("latin-1").split(" ")[:2]
        with self._lock:
            request = Request(self._count, method, path, len(data))
            self._count += 1
            fault = self._plan(request)
        if self._is_partitioned:
            fault = Fault("hole")
        answer = b""
        if fault is not None and fault.kind == "hole":
            self._hold(client)
        elif fault is not None and fault.kind == "status":
            answer = _refusal(fault.code, method)
        elif fault is None or fault.kind != "close":
            time.sleep(0.0 if fault is None else fault.seconds)
            answer = self._ask(data)
        status = int(answer.split(b" ", 2)[1]) if answer else 0
        with self._lock:
            self.requests.append(Request(request.number, method, path, len(data), len(answer), status))
        if not answer or (fault is not None and fault.kind == "reset"):
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # RST in place of FIN
            return
        client.sendall(answer)

    def _hold(self, client: socket.socket) -> None:
        """Wait until the partition ends or the client gives up."""
        seen = self._healings
        client.settimeout(0.05)
        while self._healings == seen:
            try:
                if not client.recv(1):
                    return
            except TimeoutError:
                continue

    def _ask(self, data: bytes) -> bytes:
        """What the server answers; empty where it does not."""
        with suppress(OSError), closing(socket.create_connection(("127.0.0.1", self._target), 10)) as server:
            server.settimeout(_TIMEOUT_SECONDS)
            head, _, body = data.partition(b"\r\n\r\n")
            server.sendall(head + b"\r\nConnection: close\r\n\r\n" + body)
            answer = bytearray()
            while piece := server.recv(1 << 18):
                answer += piece
            return bytes(answer)
        return b""


def _no_fault(_: Request) -> Fault | None:
    return None


def _read_request(client: socket.socket) -> bytes:
    """A request with its body; empty where the client ended without one."""
    data = bytearray()
    while b"\r\n\r\n" not in data:
        piece = client.recv(1 << 16)
        if not piece:
            return b""
        data += piece
    head, _, body = bytes(data).partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:])
    left = int(fields.get(b"content-length", b"0")) - len(body)
    while left > 0:
        piece = client.recv(min(left, 1 << 18))
        if not piece:
            return b""
        data += piece
        left -= len(piece)
    return bytes(data)


def _refusal(code: int, method: str) -> bytes:
    """An answer in the form of S3's errors."""
    body = f"<Error><Code>{_MEANING.get(code, 'Error')}</Code><Message>by the test</Message></Error>".encode()
    head = f"HTTP/1.1 {code} Test\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\nConnection: close"
    return head.encode() + b"\r\n\r\n" + (b"" if method == "HEAD" else body)


@pytest.fixture
def start_proxy() -> Iterator[Callable[[int], Proxy]]:
    """Starts proxies in front of a port; they end with the test."""
    started: list[Proxy] = []

    def start(target_port: int) -> Proxy:
        started.append(Proxy(target_port))
        return started[-1]

    yield start
    for proxy in started:
        proxy.close()
