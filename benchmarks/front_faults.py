"""What becomes of requests while the app fails, with a server that is restarted at once, and behind the front.

    python -m benchmarks.front_faults                 every fault, 12 s each, both ways
    python -m benchmarks.front_faults --seconds 5 --only "kill -9" --json FILE

The app alone is uvicorn with the middleware, and a supervisor that starts it again 0.1 s after it ends, as systemd with
``Restart=always``. Behind the front it is ``hotpath serve``. Two clients ask for hot pages and four for cold ones, each
over one connection, and count every answer; a hot page counts only with the bytes that were published. The exit code is
1 where a hot page failed behind the front.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.harness import free_port, machine, print_facts, print_table, write_json

GROUPS = Path("/sys/fs/cgroup/memory")
LIMIT_MIB = 150
START_SECONDS = 30.0
# What a crawler waits.
PATIENCE_SECONDS = 20.0
CROWD = 500

SITE = """
import asyncio, os, pathlib, time
from hotpath import Hotpath, HotpathMiddleware

hot = Hotpath("store")
if pathlib.Path("broken").exists():
    raise RuntimeError("this version does not start")

@hot.route("/hot/{key}", each={"key": [f"k{n}" for n in range(20)]})
def page(key):
    return {"key": key, "rows": [{"n": n, "text": "x" * 40} for n in range(100)]}

held = []

async def inner(scope, receive, send):
    if scope["type"] == "lifespan":
        for _ in range(2):
            await send({"type": (await receive())["type"] + ".complete"})
        return
    if scope["path"] == "/block":
        time.sleep(1)
    while scope["path"] == "/eat":
        held.append(bytearray(os.urandom(1024) * 4096))
        await asyncio.sleep(0)
    body = str(os.getpid()).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})

app = HotpathMiddleware(inner, hot=hot)
"""


@dataclass
class Seen:
    """The answers of one kind."""

    outcomes: Counter[str] = field(default_factory=Counter)
    longest: float = 0.0

    @property
    def asked(self) -> int:
        return self.outcomes.total()


class Load:
    """Clients until ``stop``."""

    def __init__(self, port: int, pages: dict[str, str]) -> None:
        self.hot, self.cold = Seen(), Seen()
        self._over = threading.Event()
        self._port = port
        self._pages = pages
        self._threads = [threading.Thread(target=self._run, args=(self.hot, 0.005)) for _ in range(2)]
        self._threads += [threading.Thread(target=self._run, args=(self.cold, 0.02)) for _ in range(4)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, seen: Seen, pause: float) -> None:
        paths = [*self._pages] if seen is self.hot else ["/cold"]
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_SECONDS)
        number = 0
        while not self._over.is_set():
            number += 1
            path = paths[number % len(paths)]
            began = time.monotonic()
            outcome = self._ask(connection, path)
            seen.outcomes[outcome] += 1
            seen.longest = max(seen.longest, time.monotonic() - began)
            time.sleep(pause)
        connection.close()

    def _ask(self, connection: http.client.HTTPConnection, path: str) -> str:
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            return "lost"
        if answer.status == 200 and self._pages.get(path, digest(body)) != digest(body):
            return "wrong"
        return str(answer.status)


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


class Site:
    """One way to run the app, in ``directory``."""

    def __init__(self, directory: Path, *, has_front: bool, is_limited: bool) -> None:
        self.directory = directory
        self.port = free_port()
        self.has_front = has_front
        self.restarts = 0
        self._run = Path(tempfile.mkdtemp(prefix="hp"))  # short enough for a socket in it
        self._environ = {**os.environ, "HOTPATH_RUN": str(self._run), "HOTPATH_STORE": str(directory / "store")}
        self._group = GROUPS / f"hotpath-faults-{self.port}" if is_limited and not has_front else None
        self._over = False
        self._log = (directory / f"log-{self.port}").open("wb")
        if self._group is not None:
            self._group.mkdir()
            (self._group / "memory.limit_in_bytes").write_text(str(LIMIT_MIB << 20))
        options = ["--memory", f"{LIMIT_MIB}MiB"] if is_limited else []
        self._command = [sys.executable, "-m"]
        if has_front:
            self._command += ["hotpath", "serve", "faulty:app", "--port", str(self.port), "--health-timeout", "3s"]
            self._command += options
        else:
            self._command += ["uvicorn", "faulty:app", "--port", str(self.port), "--no-access-log"]
        if self._group is not None:
            self._command = ["sh", "-c", f'echo $$ > {self._group}/cgroup.procs; exec "$0" "$@"', *self._command]
        self.process = self._start()
        self._supervisor = threading.Thread(target=self._supervise)
        if not has_front:
            self._supervisor.start()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._command, cwd=self.directory, env=self._environ, stdout=self._log, stderr=self._log
        )

    def _supervise(self) -> None:
        while not self._over:
            if self.process.poll() is None:
                time.sleep(0.02)
                continue
            time.sleep(0.1)
            if not self._over:
                self.restarts += 1
                self.process = self._start()

    def get(self, path: str, timeout: float = PATIENCE_SECONDS) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        finally:
            connection.close()

    def app_pid(self) -> int:
        """The process that answers; waits for it."""
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                return int(self.get("/cold", 5))
            time.sleep(0.05)
        raise RuntimeError("the app does not answer")

    def reload(self) -> None:
        """A new version: beside the old one where there is a front, else instead of it."""
        if self.has_front:
            command = [sys.executable, "-m", "hotpath", "reload"]
            subprocess.run(command, env=self._environ, cwd=self.directory, capture_output=True, check=False, timeout=60)
        else:
            self.process.terminate()
            time.sleep(2)

    def close(self) -> None:
        self._over = True
        if self._supervisor.is_alive():
            self._supervisor.join()
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.has_front:
            self._log.flush()
            self.restarts = Path(self._log.name).read_bytes().count(b"Uvicorn running on unix socket") - 1
        self._log.close()
        if self._group is not None:
            time.sleep(0.2)
            with contextlib.suppress(OSError):
                self._group.rmdir()
        shutil.rmtree(self._run, ignore_errors=True)


# Each fault, for some seconds


def killed(site: Site, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        os.kill(site.app_pid(), signal.SIGKILL)
        time.sleep(3)


def stopped(site: Site, seconds: float) -> None:
    pid = site.app_pid()
    os.kill(pid, signal.SIGSTOP)
    time.sleep(max(seconds, 8))
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def blocked(site: Site, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(OSError, http.client.HTTPException):
            site.get("/block")
        time.sleep(0.1)


def out_of_memory(site: Site, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(OSError, http.client.HTTPException):
            site.get("/eat")
        site.app_pid()
        time.sleep(3)


def does_not_start(site: Site, seconds: float) -> None:
    (site.directory / "broken").touch()
    try:
        os.kill(site.app_pid(), signal.SIGKILL)
        time.sleep(seconds)
    finally:
        (site.directory / "broken").unlink()
    site.app_pid()


def deployed(site: Site, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        site.reload()
        site.app_pid()


def swapped(site: Site, seconds: float) -> None:
    """New generations all the time, with the same pages."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        build(site.directory)


def crowd(site: Site, seconds: float, head: bytes) -> None:
    sockets = []
    try:
        for _ in range(CROWD):
            one = socket.create_connection(("127.0.0.1", site.port), 5)
            one.setblocking(False)
            with contextlib.suppress(OSError):
                one.send(head)
            sockets.append(one)
        time.sleep(seconds)
    finally:
        for one in sockets:
            one.close()


def half_a_head(site: Site, seconds: float) -> None:
    crowd(site, seconds, b"GET /hot/k1 HTTP/1.1\r\nHost: a\r\nX: ")


def never_reads(site: Site, seconds: float) -> None:
    crowd(site, seconds, b"GET /hot/k1 HTTP/1.1\r\nHost: a\r\n\r\n" * 100)


FAULTS: dict[str, Callable[[Site, float], None]] = {
    "kill -9 every 3 s": killed,
    "SIGSTOP": stopped,
    "the event loop blocked": blocked,
    "out of memory (150 MiB), every 3 s": out_of_memory,
    "a version that does not start": does_not_start,
    "deploys, one after the other": deployed,
    "a new generation at once, always": swapped,
    f"{CROWD} clients send half a head": half_a_head,
    f"{CROWD} clients never read": never_reads,
}


def build(directory: Path) -> None:
    command = [sys.executable, "-m", "hotpath", "build", "faulty:hot"]
    subprocess.run(command, cwd=directory, check=True, capture_output=True, timeout=60)


@contextlib.contextmanager
def built() -> Iterator[tuple[Path, dict[str, str]]]:
    """A directory with the site and a generation, and the digest of each hot page."""
    with tempfile.TemporaryDirectory(prefix="hotpath-faults-") as name:
        directory = Path(name)
        (directory / "faulty.py").write_text(SITE)
        build(directory)
        files = directory / "store" / "generations" / "1" / "files" / "hot"
        pages = {f"/hot/{path.stem}": digest(path.read_bytes()) for path in files.glob("*.json")}
        assert len(pages) == 20
        yield directory, pages


def run(name: str, *, has_front: bool, seconds: float) -> tuple[Load, int]:
    """One fault in one arrangement: what clients saw, and how often the app was started again."""
    with built() as (directory, pages):
        site = Site(directory, has_front=has_front, is_limited=name.startswith("out of memory"))
        try:
            site.app_pid()
            load = Load(site.port, pages)
            try:
                time.sleep(0.5)
                FAULTS[name](site, seconds)
            finally:
                load.stop()
        finally:
            site.close()
        return load, site.restarts


def cells(load: Load, restarts: int) -> list[str]:
    hot, cold = load.hot, load.cold
    refused = sum(count for outcome, count in cold.outcomes.items() if outcome not in ("200", "lost"))
    return [
        f"{hot.outcomes['200']:,}/{hot.asked:,}",
        f"{hot.longest:.2f} s",
        f"{cold.outcomes['200']:,}/{refused:,}/{cold.outcomes['lost']:,}",
        f"{cold.longest:.1f} s",
        str(restarts),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=12.0, help="of each fault")
    parser.add_argument("--only", help="faults whose name has this in it")
    parser.add_argument("--json", type=Path, help="write the figures into this file")
    options = parser.parse_args(arguments)
    names = [name for name in FAULTS if not options.only or options.only in name]
    if not os.access(GROUPS, os.W_OK):
        print("no memory group can be made here: the fault 'out of memory' is left out", file=sys.stderr)
        names = [name for name in names if not name.startswith("out of memory")]
    print_facts(machine())
    rows, failed, figures = [], 0, []
    for name in names:
        for has_front in (False, True):
            load, restarts = run(name, has_front=has_front, seconds=options.seconds)
            way = "front" if has_front else "app alone"
            rows.append([name, way, *cells(load, restarts)])
            figures.append({"fault": name, "way": way, "hot": load.hot.outcomes, "cold": load.cold.outcomes})
            if has_front:
                failed += load.hot.asked - load.hot.outcomes["200"]
    titles = ("fault", "way", "hot 200/all", "longest", "cold 200/refused/lost", "longest", "restarts")
    print_table(titles, rows)
    write_json(options.json, {"faults": figures})
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
