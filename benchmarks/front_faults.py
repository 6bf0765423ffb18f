"""What clients see of each fault: the app alone on uvicorn with the middleware, and the same app behind the front.

    python -m benchmarks.front_faults              each fault for 10 s
    python -m benchmarks.front_faults --seconds 2  quicker
    python -m benchmarks.front_faults --only kill,stopped

Two clients ask for hot pages and four for cold ones, on kept connections, before, during and after each fault. The app
alone is
started again 0.1 s after it ends, as systemd does with Restart=always. A hot answer counts where it is 200, whole and
of one generation. A cold request is lost where no whole answer comes within 30 s, or another than 200 and 503.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
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
from typing import Any

from benchmarks.harness import free_port, machine, print_facts
from hotpath.pages.policy import Policy
from hotpath.store.publish import staging
from hotpath.store.store import Store
from tests.front.forwarding import wait_until
from tests.front.served_site import KEYS
from tests.front.serving import START_SECONDS, Serving, make_site
from tests.guard.groups import WHY_NOT as NO_GROUPS
from tests.guard.groups import Group, memory_group

HOT_CLIENTS, COLD_CLIENTS = 2, 4
# Longer than the front holds a request.
CLIENT_SECONDS = 30.0
RESTART_SECONDS = 0.1
MEMORY = 150 << 20
CROWD = 2000
DESCRIPTORS = 96
HOLE = "hole"


@dataclass
class Seen:
    """What clients got; ``statuses`` by kind, ``lost`` for no whole answer."""

    statuses: dict[str, Counter[str]] = field(default_factory=lambda: {"hot": Counter(), "cold": Counter()})
    longest: float = 0.0
    problems: list[str] = field(default_factory=list)
    restarts: int = 0

    @property
    def hot(self) -> tuple[int, int]:
        """Good answers, and all requests."""
        hot = self.statuses["hot"]
        return hot["200"], hot.total()

    def row(self, fault: str, side: str) -> str:
        hot, cold = self.hot, self.statuses["cold"]
        others = cold.total() - cold["200"] - cold["503"]
        cells = (fault, side, f"{hot[0]:,}/{hot[1]:,}", f"{cold['200']:,}/{cold['503']:,}/{others:,}")
        return "| " + " | ".join((*cells, f"{self.longest:.1f} s", str(self.restarts))) + " |"


class Clients:
    """Ask until they are stopped."""

    def __init__(self, port: int, cold_path: str) -> None:
        self.seen = Seen()
        self._port = port
        self._cold_path = cold_path
        self._stop = threading.Event()
        self._lock = threading.Lock()
        kinds = [("hot", self._hot)] * HOT_CLIENTS + [("cold", self._cold)] * COLD_CLIENTS
        self._threads = [threading.Thread(target=self._run, args=kind, daemon=True) for kind in kinds]
        for thread in self._threads:
            thread.start()

    def stop(self) -> Seen:
        """After the answers that are on their way."""
        self._stop.set()
        for thread in self._threads:
            thread.join(CLIENT_SECONDS * 2)
        return self.seen

    def _run(self, kind: str, ask: Callable[[http.client.HTTPConnection, int], str]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=CLIENT_SECONDS)
        number = 0
        while not self._stop.is_set():
            number += 1
            began = time.monotonic()
            try:
                result = ask(connection, number)
            except (OSError, http.client.HTTPException, ValueError) as error:
                result = "lost"
                connection.close()
                with self._lock:
                    self.seen.problems.append(f"{kind}: {error!r}")
            with self._lock:
                self.seen.statuses[kind][result] += 1
                self.seen.longest = max(self.seen.longest, time.monotonic() - began)
            time.sleep(0.01)
        connection.close()

    def _hot(self, connection: http.client.HTTPConnection, number: int) -> str:
        key = KEYS[number % len(KEYS)]
        connection.request("GET", f"/rankings/{key}")
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            return str(answer.status)
        page = json.loads(body)
        generation = answer.headers["x-hotpath-generation"]
        is_whole = (page["key"], page["end"], len(page["rows"])) == (key, key, 100)
        return "200" if is_whole and page.get("generation", generation) == generation else "torn"

    def _cold(self, connection: http.client.HTTPConnection, number: int) -> str:
        connection.request("GET", f"{self._cold_path}/{number}")
        answer = connection.getresponse()
        answer.read()
        return str(answer.status)


class Alone:
    """uvicorn with the middleware, started again when it ends."""

    name = "alone"

    def __init__(self, site: Path, prefix: Sequence[str]) -> None:
        self.site = site
        self.port = free_port()
        self.restarts = 0
        self._prefix = prefix
        self._is_ending = False
        self._log = (site / f"alone-{self.port}").open("wb")
        self.process = self._start()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "uvicorn", "mysite1:app", "--port", str(self.port), "--no-access-log"]
        root = Path(__file__).parents[1]
        return subprocess.Popen(
            [*self._prefix, *command],
            cwd=self.site,
            env={**os.environ, "PYTHONPATH": f"{root}:{root / 'src'}"},
            stdout=self._log,
            stderr=self._log,
        )

    def _watch(self) -> None:
        while not self._is_ending:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.05)
                if self._is_ending:
                    return
                time.sleep(RESTART_SECONDS)
                self.restarts += 1
                self.process = self._start()

    def app_pid(self) -> int:
        return self.process.pid

    server_pid = app_pid

    def deploy(self) -> None:
        self.process.terminate()

    def stop(self) -> int:
        self._is_ending = True
        self._thread.join()
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        self._log.close()
        return self.restarts


class Fronted:
    """``hotpath serve``."""

    name = "front"

    def __init__(self, site: Path, prefix: Sequence[str], *options: str) -> None:
        command = ("serve", "mysite1:app", "--store", "store", "--port", "{port}", "--health-timeout", "3s", *options)
        self._serving = Serving(site, *command, prefix=tuple(prefix))
        self.port = self._serving.port
        self._deploys = 0

    def app_pid(self) -> int:
        return self._serving.app_pid()

    def server_pid(self) -> int:
        return self._serving.process.pid

    def deploy(self) -> None:
        self._serving.process.send_signal(signal.SIGHUP)
        self._deploys += 1

    def stop(self) -> int:
        starts = self._serving.text.count("app | INFO:     Started server process")
        self._serving.stop()
        return max(0, starts - 1 - self._deploys)


class BeforeAHole:
    """A port where the kernel drops every handshake: asked directly, or by a front."""

    def __init__(self, site: Path, with_front: bool) -> None:
        self.name = "front" if with_front else "alone"
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        self._full = [socket.socket() for _ in range(4)]
        for sock in self._full:
            sock.setblocking(False)
            sock.connect_ex(self._listener.getsockname())
        self.port: int = self._listener.getsockname()[1]
        self._serving: Serving | None = None
        if with_front:
            to = f"http://127.0.0.1:{self.port}"
            self._serving = Serving(site, "front", "store", "--to", to, "--port", "{port}", "--hold", "5s")
            self.port = self._serving.port

    def stop(self) -> int:
        if self._serving is not None:
            self._serving.stop()
        for sock in (*self._full, self._listener):
            sock.close()
        return 0


Side = Any
Harm = Callable[[Side, float], contextlib.AbstractContextManager[object]]


def kill(side: Side, seconds: float) -> contextlib.AbstractContextManager[object]:
    """SIGKILL every three seconds."""
    return repeated(lambda: os.kill(side.app_pid(), signal.SIGKILL), 3.0)


def stop(side: Side, seconds: float) -> contextlib.AbstractContextManager[object]:
    os.kill(side.app_pid(), signal.SIGSTOP)
    return contextlib.nullcontext()


def block(side: Side, seconds: float) -> contextlib.AbstractContextManager[object]:
    """Requests that hold the app's loop for a second each."""
    return repeated(lambda: get(side.port, "/block"), 0.1)


def eat(side: Side, seconds: float) -> contextlib.AbstractContextManager[object]:
    return repeated(lambda: get(side.port, "/eat"), 3.0)


def crash(side: Side, seconds: float) -> contextlib.AbstractContextManager[object]:
    """A version that does not start takes the place of one that is killed."""
    (side_site(side) / "version").write_text("broken")
    os.kill(side.app_pid(), signal.SIGKILL)
    return contextlib.nullcontext()


def deploy(side: Side, seconds: float) -> contextlib.AbstractContextManager[object]:
    return repeated(side.deploy, 3.0)


def nothing(side: Side, seconds: float) -> contextlib.AbstractContextManager[object]:
    return contextlib.nullcontext()


def loris(side: Side, seconds: float) -> contextlib.AbstractContextManager[object]:
    return crowd(side.port, CROWD, b"GET /rankings/k1 HTTP/1.1\r\nHost: a\r\nX-Slow: ")


def deaf(side: Side, seconds: float) -> contextlib.AbstractContextManager[object]:
    """Clients that ask for much and never read."""
    return crowd(side.port, 200, b"GET /rankings/k1 HTTP/1.1\r\nHost: a\r\n\r\n" * 200)


def silent(side: Side, seconds: float) -> contextlib.AbstractContextManager[object]:
    """More connections than the process may have descriptors."""
    return crowd(side.port, 2 * DESCRIPTORS, b"")


def swap(side: Side, seconds: float) -> contextlib.AbstractContextManager[object]:
    """Generations as fast as they can be published."""
    return repeated(lambda: publish_again(side_site(side) / "store"), 0.0)


def publish_again(root: Path) -> None:
    """One more generation, whose pages hold its number."""
    store = Store(root)
    policy = Policy("/rankings/{key}", "application/json", "public, max-age=60", None, 3600)
    with staging(store) as stage:
        generation = str(store.next_sequence())
        rows = [{"n": number, "text": "x" * 40} for number in range(100)]
        for key in KEYS:
            page = {"key": key, "rows": rows, "end": key, "generation": generation}
            stage.add(f"/rankings/{key}", f"{key}.json", json.dumps(page).encode(), policy)
        stage.publish()


def get(port: int, path: str) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException):
        status_of(port, path, CLIENT_SECONDS)


def status_of(port: int, path: str, seconds: float) -> int:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        return answer.status


def side_site(side: Side) -> Path:
    return Path(side.site if isinstance(side, Alone) else side._serving.directory)


@contextlib.contextmanager
def repeated(act: Callable[[], object], pause: float) -> Iterator[None]:
    """In a thread of its own, until the end of the block."""
    end = threading.Event()

    def run() -> None:
        while not end.is_set():
            with contextlib.suppress(OSError, AssertionError, http.client.HTTPException):
                act()
            end.wait(pause)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join(CLIENT_SECONDS)


@contextlib.contextmanager
def crowd(port: int, count: int, data: bytes) -> Iterator[None]:
    """So many connections that send ``data`` and nothing else, and read nothing."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect_ex(("127.0.0.1", port))
            for _ in range(50):
                with contextlib.suppress(BlockingIOError, OSError):
                    sock.send(data)
                    break
                time.sleep(0.001)
        yield


@dataclass(frozen=True)
class Fault:
    """``cold`` is what cold clients ask for; ``limit`` a command before the server that limits it."""

    text: str
    harm: Harm
    cold: str = "/cold"
    limit: tuple[str, ...] = ()


FAULTS = {
    "kill": Fault("`kill -9` of the app every 3 s", kill),
    "stopped": Fault("SIGSTOP of the app", stop),
    "blocked": Fault("the app's loop blocked for 1 s again and again", block),
    "oom": Fault("real OOM kills in a memory group of 150 MiB, one every 3 s", eat),
    "crash": Fault("killed, and the new version does not start", crash),
    "deploy": Fault("a deploy every 3 s (restart; SIGHUP)", deploy),
    HOLE: Fault("the app's port is a black hole", nothing),
    "half": Fault("half an answer, then the connection breaks", nothing, cold="/half"),
    "bad": Fault("the app answers 502", nothing, cold="/bad"),
    "loris": Fault("2,000 clients that send half a head", loris),
    "deaf": Fault("200 clients that ask 200 times and never read", deaf),
    "descriptors": Fault(
        "descriptors at the limit: 96, and 192 silent clients", silent, limit=("prlimit", f"--nofile={DESCRIPTORS}")
    ),
    "swap": Fault("the store swapped as fast as generations can be published", swap),
}


@contextlib.contextmanager
def opened(name: str, site: Path, with_front: bool) -> Iterator[Side]:
    """One side, once it answers cold requests too; or hot ones alone before a black hole."""
    fault = FAULTS[name]
    with contextlib.ExitStack() as stack:
        prefix, options = list(fault.limit), []
        if name == "oom":
            if with_front:
                options = ["--memory", str(MEMORY)]
            else:
                group: Group = stack.enter_context(memory_group(MEMORY))
                prefix = ["sh", "-c", f'echo $$ > {group.directory}/cgroup.procs && exec "$0" "$@"']
        if name == HOLE:
            side: Side = BeforeAHole(site, with_front)
        else:
            side = Fronted(site, prefix, *options) if with_front else Alone(site, prefix)
        try:
            if name != HOLE or with_front:
                path = "/rankings/k1" if name == HOLE else "/who"
                wait_until(lambda: answers(side.port, path), START_SECONDS)
            yield side
        finally:
            side.restarts = side.stop()


def answers(port: int, path: str) -> bool:
    try:
        return status_of(port, path, 5.0) == 200
    except (OSError, http.client.HTTPException):
        return False


def run(name: str, built: Path, root: Path, *, with_front: bool, seconds: float) -> Seen:
    """One fault on one side, with a moment before and after it, on a copy of the site below ``root``."""
    site = root / f"{name}-{'front' if with_front else 'alone'}"
    shutil.copytree(built, site, symlinks=True)
    fault = FAULTS[name]
    with opened(name, site, with_front) as side:
        clients = Clients(side.port, fault.cold)
        time.sleep(min(1.0, seconds / 4))
        with fault.harm(side, seconds):
            time.sleep(seconds)
        time.sleep(min(1.0, seconds / 4))
        seen = clients.stop()
    seen.restarts = side.restarts
    shutil.rmtree(site)
    return seen


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--only", default=",".join(FAULTS), help="names: " + ", ".join(FAULTS))
    options = parser.parse_args()
    print_facts(machine())
    print("\n| fault | | hot 200/all | cold 200/503/lost | longest wait | restarts |\n|---|---|---|---|---|---|")
    is_good = True
    with tempfile.TemporaryDirectory(prefix="hotpath-faults-") as root:
        built = make_site(Path(root) / "built")
        for name in options.only.split(","):
            if name == "oom" and NO_GROUPS:
                print(f"| {FAULTS[name].text} | not run: {NO_GROUPS} | | | | |")
                continue
            for with_front in (False, True):
                seen = run(name, built, Path(root), with_front=with_front, seconds=options.seconds)
                print(seen.row(FAULTS[name].text, "behind the front" if with_front else "alone"), flush=True)
                is_good = is_good and (not with_front or seen.hot[0] == seen.hot[1] > 0)
    if not is_good:
        sys.exit("a hot page behind the front was not 200, or not whole")


if __name__ == "__main__":
    main()
