"""``hotpath serve`` as a process of its own, and clients that count what becomes of their requests."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.front import served_site
from tests.front.forwarding import free_port, wait_until

ROOT = Path(__file__).parents[2]
SECONDS = 30.0
# A command starts Python, reads the store and, in most tests, asks an app.
START_SECONDS = 60.0


class Serving:
    """A running command in ``directory``, where the site and its store are. ``lines`` is what it has printed."""

    def __init__(
        self,
        directory: Path,
        *arguments: str,
        environ: Mapping[str, str] | None = None,
        prefix: tuple[str, ...] = (),
        **options: Any,
    ) -> None:
        self.directory = directory
        self.port = free_port()
        self.log = directory / f"log-{self.port}"
        self.run = Path(tempfile.gettempdir()) / f"hotpath-test-{self.port}"  # short enough for a socket in it
        self.environ = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}",
            "HOTPATH_RUN": str(self.run),
            "HOTPATH_STORE": "",
            **(environ or {}),
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *prefix,
                    *(sys.executable, "-m", "hotpath"),
                    *(word.replace("{port}", str(self.port)) for word in arguments),
                ],
                cwd=directory,
                env=self.environ,
                **{"stdout": log, "stderr": log, **options},
            )

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, text: str, count: int = 1) -> None:
        def is_there() -> bool:
            assert self.process.poll() is None or text in self.text, self.text
            return self.text.count(text) >= count

        with contextlib.suppress(AssertionError):
            wait_until(is_there, START_SECONDS)
        assert self.text.count(text) >= count, self.text

    def get(
        self, path: str, method: str = "GET", body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def app_pid(self) -> int:
        """The process that answers a cold request; one that waits for it, as it gets no last good answer."""
        status, body = self.get("/who", headers={"cookie": "user=1"})
        assert status == 200, body
        return int(body.split()[1])

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Another command of the same user."""
        return subprocess.run(
            [sys.executable, "-m", "hotpath", *arguments],
            cwd=self.directory,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(SECONDS)
        finally:
            self.process.kill()
            self.process.wait()
            shutil.rmtree(self.run, ignore_errors=True)


def make_site(directory: Path) -> Path:
    """A directory with the site's module and a published store."""
    directory.mkdir(exist_ok=True)
    shutil.copy(served_site.__file__, directory / "mysite1.py")
    published = subprocess.run(
        [sys.executable, "-m", "hotpath", "build", "mysite1:hot"],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert published.returncode == 0, published.stderr
    return directory


@contextlib.contextmanager
def serving(directory: Path, *arguments: str, **options: Any) -> Iterator[Serving]:
    """``hotpath serve`` of the site, once its app is there."""
    serve = Serving(directory, "serve", "mysite1:app", "--port", "{port}", *arguments, **options)
    try:
        serve.wait_for("Uvicorn running on unix socket")
        yield serve
    finally:
        serve.stop()


@dataclass
class Load:
    """Clients on kept connections: what they got, by kind. ``problems`` are requests without a whole good answer."""

    port: int
    seen: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    longest: dict[str, float] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(
        self, kind: str, count: int, ask: Callable[[http.client.HTTPConnection, int], None], pause: float
    ) -> None:
        for number in range(count):
            thread = threading.Thread(target=self._run, args=(kind, number, ask, pause), daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(SECONDS * 2)
            assert not thread.is_alive()

    def _run(self, kind: str, number: int, ask: Callable[..., None], pause: float) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        while not self._stop.is_set():
            number += 1
            began = time.monotonic()
            try:
                ask(connection, number)
                self.seen[kind] += 1
            except (OSError, http.client.HTTPException, AssertionError) as error:
                self.problems.append(f"{kind} {number}: {error!r}")
                connection.close()
            self.longest[kind] = max(self.longest.get(kind, 0.0), time.monotonic() - began)
            time.sleep(pause)
        connection.close()


def hot(connection: http.client.HTTPConnection, number: int) -> None:
    key = served_site.KEYS[number % len(served_site.KEYS)]
    connection.request("GET", f"/rankings/{key}")
    answer = connection.getresponse()
    page = json.loads(answer.read())
    assert answer.status == 200
    assert (page["key"], page["end"], len(page["rows"])) == (key, key, 100)
    assert answer.headers["x-hotpath-generation"] == "1"


def cold(connection: http.client.HTTPConnection, number: int) -> None:
    connection.request("GET", f"/cold/{number}")
    answer = connection.getresponse()
    body = answer.read()
    assert answer.status == 200, f"{answer.status} {body[:80]!r}"
    assert len(body.split()) == 3


def post(connection: http.client.HTTPConnection, number: int) -> None:
    """One that was sent when the app died is 502 once, and only that."""
    connection.request("POST", f"/cold/{number}", b"x" * 100)
    answer = connection.getresponse()
    body = answer.read()
    assert answer.status in (200, 502), f"{answer.status} {body[:80]!r}"


@contextlib.contextmanager
def load(port: int, *, hot_clients: int = 2, cold_clients: int = 4, posting: int = 1) -> Iterator[Load]:
    """Clients until the end of the block."""
    clients = Load(port)
    clients.start("hot", hot_clients, hot, 0.005)
    clients.start("cold", cold_clients, cold, 0.01)
    clients.start("post", posting, post, 0.02)
    try:
        yield clients
    finally:
        clients.stop()


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
