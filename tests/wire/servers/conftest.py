"""Each server is started once, by the first test that asks it, in a process of its own, and ended by its pid."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from hotpath.serving import reader_of
from tests.wire.conformance.site import Site, make_site, make_sites

ROOT = Path(__file__).parents[3]
APP = "tests.wire.servers.app:application"

# Arguments after "python -m"; {port} and {app} are filled in.
SERVERS: Mapping[str, str] = {
    "uvicorn-httptools": "uvicorn --http httptools --loop uvloop --ws websockets --port {port} --log-level error {app}",
    "uvicorn-h11": "uvicorn --http h11 --loop asyncio --ws wsproto --port {port} --log-level error {app}",
    "uvicorn-door": "tests.front.serve --port {port} {app} tests.wire.servers.app:hot",
    "granian": "granian --interface asgi --port {port} --log-level error {app}",
    "hypercorn": "hypercorn --bind 127.0.0.1:{port} --workers 0 --log-level error {app}",
    "daphne": "daphne --port {port} --bind 127.0.0.1 --verbosity 0 {app}",
    "gunicorn-asgi": "gunicorn --worker-class asgi --bind 127.0.0.1:{port} --log-level error {app}",
}
ROOT_PATH: Mapping[str, str] = {
    "uvicorn-httptools": "--root-path /sub",
    "uvicorn-h11": "--root-path /sub",
    "uvicorn-door": "",
    "granian": "--url-path-prefix /sub",
    "hypercorn": "--root-path /sub",
    "daphne": "--root-path /sub",
    "gunicorn-asgi": "--root-path /sub",
}
NEEDS: Mapping[str, tuple[str, ...]] = {
    "uvicorn-httptools": ("uvicorn", "httptools", "uvloop", "websockets"),
    "uvicorn-h11": ("uvicorn", "h11", "wsproto"),
    "uvicorn-door": ("uvicorn",),
    "granian": ("granian",),
    "hypercorn": ("hypercorn",),
    "daphne": ("daphne",),
    "gunicorn-asgi": ("gunicorn.workers.gasgi",),
}
START_SECONDS = 40.0


@dataclass
class Server:
    """A server that answers on ``port``; ``stderr`` is what it had to say."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    def is_up(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def await_up(self) -> None:
        """Wait until it accepts connections. An error shows what a server that does not has to say."""
        deadline = time.monotonic() + START_SECONDS
        while not self.is_up():
            ended = self.process.poll()
            assert ended is None, f"{self.name} ended with {ended}: {self.stderr}"
            assert time.monotonic() < deadline, f"{self.name} does not answer: {self.stderr}"
            time.sleep(0.05)

    @property
    def stderr(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]

    def stop(self) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(5)


def start(name: str, arguments: str, stores: Path, log: Path) -> Server:
    """Start one server and do not wait for it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = arguments.format(port=port, app=APP).split()
    environment = {**os.environ, "HOTPATH_TEST_STORES": str(stores), "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env=environment,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    return Server(name, port, process, log)


class Servers(dict[str, Server]):
    """Servers by name, each started when a test first asks for it."""

    def __init__(self, commands: Mapping[str, str], stores: Path, logs: Path) -> None:
        super().__init__()
        self._commands = commands
        self._stores = stores
        self._logs = logs

    def __missing__(self, name: str) -> Server:
        server = self[name] = start(name, self._commands[name], self._stores, self._logs / f"{name}.log")
        server.await_up()
        return server

    def stop(self) -> None:
        for server in self.values():
            server.stop()


def missing(name: str) -> list[str]:
    """The packages that a server needs and that are not here."""
    absent = []
    for package in NEEDS[name]:
        try:
            found = importlib.util.find_spec(package)
        except ModuleNotFoundError:
            found = None
        if found is None:
            absent.append(package)
    return absent


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stores")


@pytest.fixture(scope="session")
def sites(stores: Path) -> Iterator[Mapping[str, Site]]:
    made = {**make_sites(stores), "growing": make_site(stores / "growing")}
    yield made
    for site in made.values():
        reader_of(site.hot).close()


@pytest.fixture(scope="session")
def servers(sites: Mapping[str, Site], stores: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Each with the app as it is."""
    servers = Servers(SERVERS, stores, tmp_path_factory.mktemp("logs"))
    yield servers
    servers.stop()


@pytest.fixture(scope="session")
def prefixed_servers(
    sites: Mapping[str, Site], stores: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Servers]:
    """The same, configured to be mounted at /sub."""
    commands = {name: f"{line} {ROOT_PATH[name]}" for name, line in SERVERS.items()}
    servers = Servers(commands, stores, tmp_path_factory.mktemp("prefixed-logs"))
    yield servers
    servers.stop()


# One server is asked in the quick tests, all of them in the slow ones.
QUICK = "uvicorn-httptools"
EACH = [pytest.param(name, marks=() if name == QUICK else pytest.mark.slow) for name in sorted(SERVERS)]


def _asked(name: str, servers: Servers) -> Server:
    if absent := missing(name):
        pytest.skip(f"{name} needs {', '.join(absent)}")
    return servers[name]


@pytest.fixture(params=EACH)
def server(request: pytest.FixtureRequest, servers: Servers) -> Server:
    return _asked(request.param, servers)


@pytest.fixture(params=EACH)
def prefixed(request: pytest.FixtureRequest, prefixed_servers: Servers) -> Server:
    return _asked(request.param, prefixed_servers)
