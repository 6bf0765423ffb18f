"""A real server, and processes that share values by it."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from hotpath.caching import Valkey

SERVER = shutil.which("valkey-server") or shutil.which("redis-server")


def free_port() -> int:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Server:
    """A server on a port of its own, which can be killed and started again."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._directory = directory
        self._options = options
        self.start()

    def start(self) -> None:
        assert SERVER is not None
        options = ("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._directory), "--save", "")
        self.process = subprocess.Popen([SERVER, *options, *self._options], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with suppress(OSError), closing(socket.create_connection(("127.0.0.1", self.port), 1)) as connection:
                connection.sendall(b"PING\r\n")
                if connection.recv(100):
                    return
            time.sleep(0.02)
        raise AssertionError(f"{SERVER} did not start")

    def stop(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.send_signal(number)
        self.process.wait(10)

    def command(self, *words: str) -> Any:
        import redis

        with closing(redis.Redis.from_url(self.url, socket_timeout=5)) as client:
            return client.execute_command(*words)  # type: ignore[no-untyped-call]


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers that end with the test."""
    if SERVER is None:
        pytest.skip("no valkey-server or redis-server: apt install redis-server")
    started = []

    def start(*options: str) -> Server:
        started.append(Server(tmp_path, *options))
        return started[-1]

    yield start
    for server in started:
        if server.process.poll() is None:
            server.stop()


@pytest.fixture
def server(start_server: Callable[..., Server]) -> Server:
    return start_server()


@pytest.fixture
def valkey(server: Server) -> Iterator[Valkey]:
    valkey = Valkey(server.url, prefix="test")
    yield valkey
    valkey.close()


class Proxy:
    """A way to the server that delays each answer, or holds it back."""

    def __init__(self, port: int) -> None:
        self.delay = 0.0
        self._target = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._open: list[socket.socket] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client = self._listening.accept()[0]
                self._open.append(client)
                server = socket.create_connection(("127.0.0.1", self._target))
                self._open.append(server)
                for source, target, late in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self._pump, args=(source, target, late), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, late: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if late and self.delay:
                    time.sleep(self.delay)
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def cut(self) -> None:
        """End every connection."""
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._open.clear()

    def close(self) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # wakes accept(2)
        self._accepting.join(10)
        self._listening.close()
        self.cut()


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    proxy = Proxy(server.port)
    yield proxy
    proxy.close()


# A process that shares a slow function: how often it was called here, and what each caller got after which time.
WORKER = """
import json, sys, threading, time
from hotpath.caching import Valkey, cached

options = json.loads(sys.argv[1])
valkey = Valkey(options["url"], prefix="test")
calls = []

@cached(ttl=60, shared=valkey, name="slow")
def slow(x):
    calls.append(x)
    print("called", flush=True)
    time.sleep(options["seconds"])
    return {"x": x}

while not valkey.is_up:  # the first try may take longer than a caller waits for it, when eight start at once
    time.sleep(0.01)
print("ready", flush=True)
sys.stdin.readline()
got = []
def ask():
    began = time.monotonic()
    value = slow(1)
    got.append((value, time.monotonic() - began))
threads = [threading.Thread(target=ask) for _ in range(options["threads"])]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps({"calls": len(calls), "got": got}), flush=True)
"""


class Worker:
    """One process of ``WORKER``."""

    def __init__(self, url: str, seconds: float, threads: int) -> None:
        options = json.dumps({"url": url, "seconds": seconds, "threads": threads})
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def result(self) -> dict[str, Any]:
        """What the last line says."""
        out = self.process.communicate(timeout=60)[0]
        result: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
        return result


@pytest.fixture
def start_workers() -> Iterator[Callable[[str, int, float, int], list[Worker]]]:
    """Starts processes that wait for ``go``, and end with the test."""
    started: list[Worker] = []

    def start(url: str, processes: int, seconds: float, threads: int) -> list[Worker]:
        workers = [Worker(url, seconds, threads) for _ in range(processes)]
        started.extend(workers)
        assert [worker.line() for worker in workers] == ["ready"] * processes
        return workers

    yield start
    for worker in started:
        worker.process.kill()
        worker.process.wait(10)
        for stream in (worker.process.stdin, worker.process.stdout):
            if stream is not None:
                stream.close()
