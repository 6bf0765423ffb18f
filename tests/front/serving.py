"""A real ``hotpath serve`` or ``hotpath front`` as a process, and clients that count what they get."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

APP = """
import asyncio, os, time
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from hotpath import Hotpath, HotpathMiddleware

VERSION = 1
hot = Hotpath("hot", headers={"x-site": "ours"}, ignore_query=["ref_*"])

@hot.route("/hot/{n}", each={"n": list(range(20))})
def page(n): return {"n": n, "text": "x" * 5000}

held = []

async def who(request):
    return JSONResponse({"pid": os.getpid(), "version": VERSION})

async def slow(request):
    await asyncio.sleep(float(request.query_params.get("s", "1")))
    return JSONResponse({"pid": os.getpid()})

async def echo(request):
    return JSONResponse({"length": len(await request.body())})

async def grow(request):
    held.append(bytearray(os.urandom(1024)) * 1024 * int(request.query_params["mib"]))
    return JSONResponse({})

app = HotpathMiddleware(Starlette(routes=[
    Route("/who", who), Route("/slow", slow), Route("/echo", echo, methods=["POST"]), Route("/grow", grow),
]), hot=hot)
"""


def free_port() -> int:
    """One that nobody listens at now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def write_site(directory: Path, app: str = APP) -> None:
    """A site whose hot pages are built."""
    (directory / "app.py").write_text(app)
    done = hotpath(directory, "build", "app:hot", "--quiet")
    assert done.returncode == 0, done.stderr


def environment() -> dict[str, str]:
    root = Path(__file__).resolve().parents[2]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(root / "src"), str(root)]), "PYTHONUNBUFFERED": "1"}


def hotpath(directory: Path, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hotpath", *arguments]
    environ = {**environment(), "XDG_RUNTIME_DIR": str(directory)}
    return subprocess.run(
        command, cwd=directory, env=environ, capture_output=True, text=True, timeout=timeout, check=False
    )


@dataclass
class Serving:
    """A front that runs, at ``port``; ``log`` is what it printed."""

    directory: Path
    port: int
    process: subprocess.Popen[str]
    log: Path

    def get(self, path: str, method: str = "GET", body: bytes | None = None, timeout: float = 30) -> tuple[int, bytes]:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)) as connection:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def app_pid(self) -> int:
        status, body = self.get("/who")
        assert status == 200, (status, body)
        return int(body.partition(b'"pid":')[2].partition(b",")[0])

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def await_said(self, text: str, seconds: float = 30) -> str:
        await_true(lambda: text in self.said(), seconds, lambda: f"it never said {text!r}:\n{self.said()}")
        return self.said()


def await_true(is_so: Callable[[], bool], seconds: float, why: Callable[[], str]) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if is_so():
            return
        time.sleep(0.02)
    raise AssertionError(why())


@contextlib.contextmanager
def served(directory: Path, *arguments: str, command: Sequence[str] = ("serve", "app:app")) -> Iterator[Serving]:
    """Runs until the block ends; nothing of it is left then."""
    port = free_port()
    log = directory / f"front-{port}.log"
    environ = {**environment(), "XDG_RUNTIME_DIR": str(directory)}
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "hotpath", *command, "--port", str(port), *arguments],
            cwd=directory,
            env=environ,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )
    serving = Serving(directory, port, process, log)
    try:
        serving.await_said("hotpath serves")
        yield serving
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"it did not end:\n{serving.said()}") from None


@dataclass
class Client:
    """Asks for one path after another on kept connections, in a thread, and counts what comes."""

    port: int
    paths: Sequence[str]
    method: str = "GET"
    body: bytes | None = None
    pause: float = 0.0
    counts: Counter[object] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    longest: float = 0.0
    _ends: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=40)
        number = 0
        while not self._ends.is_set():
            path = self.paths[number % len(self.paths)]
            number += 1
            began = time.monotonic()
            try:
                connection.request(self.method, path, self.body)
                answer = connection.getresponse()
                data = answer.read()
                generation = answer.getheader("x-hotpath-generation")
                self.counts[answer.status, generation, len(data) if generation else None] += 1
                if answer.status != 200:
                    self.problems.append(f"{path}: {answer.status} {data[:100]!r}")
            except (OSError, http.client.HTTPException) as error:
                self.counts[type(error).__name__] += 1
                self.problems.append(f"{path}: {error!r}")
                connection.close()
            self.longest = max(self.longest, time.monotonic() - began)
            time.sleep(self.pause)
        connection.close()

    @property
    def total(self) -> int:
        return self.counts.total()
