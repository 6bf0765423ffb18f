"""Every server is started once for all tests, each in a process of its own, and ended by its pid."""

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

pytest.register_assert_rewrite("tests.wire.conformance.judge")

from hotpath.serving import reader_of  # noqa: E402
from tests.wire.conformance.site import Site, make_site, make_sites  # noqa: E402

ROOT = Path(__file__).parents[3]
APP = "tests.wire.servers.app:application"

# Arguments after "python -m"; {port} and {app} are filled in.
SERVERS: Mapping[str, str] = {
    "uvicorn-httptools": "uvicorn --http httptools --loop uvloop --ws websockets --port {port} --log-level error {app}",
    "uvicorn-h11": "uvicorn --http h11 --loop asyncio --ws wsproto --port {port} --log-level error {app}",
    "granian": "granian --interface asgi --port {port} --log-level error {app}",
    "hypercorn": "hypercorn --bind 127.0.0.1:{port} --workers 0 --log-level error {app}",
    "daphne": "daphne --port {port} --bind 127.0.0.1 --verbosity 0 {app}",
    "gunicorn-asgi": "gunicorn --worker-class asgi --bind 127.0.0.1:{port} --log-level error {app}",
}
ROOT_PATH: Mapping[str, str] = {
    "uvicorn-httptools": "--root-path /sub",
    "uvicorn-h11": "--root-path /sub",
    "granian": "--url-path-prefix /sub",
    "hypercorn": "--root-path /sub",
    "daphne": "--root-path /sub",
    "gunicorn-asgi": "--root-path /sub",
}
NEEDS: Mapping[str, tuple[str, ...]] = {
    "uvicorn-httptools": ("uvicorn", "httptools", "uvloop", "websockets"),
    "uvicorn-h11": ("uvicorn", "h11", "wsproto"),
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


def await_all(servers: Mapping[str, Server]) -> None:
    """Wait until each accepts connections. One that does not is an error that shows what it said."""
    deadline = time.monotonic() + START_SECONDS
    for server in servers.values():
        while not server.is_up():
            ended = server.process.poll()
            assert ended is None, f"{server.name} ended with {ended}: {server.stderr}"
            assert time.monotonic() < deadline, f"{server.name} does not answer: {server.stderr}"
            time.sleep(0.05)


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


def _started(commands: Mapping[str, str], stores: Path, logs: Path) -> Iterator[Mapping[str, Server]]:
    servers = {name: start(name, line, stores, logs / f"{name}.log") for name, line in commands.items()}
    try:
        await_all(servers)
        yield servers
    finally:
        for server in servers.values():
            server.stop()


@pytest.fixture(scope="session")
def servers(
    sites: Mapping[str, Site], stores: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, Server]]:
    """All that are installed, each with the app as it is."""
    present = {name: line for name, line in SERVERS.items() if not missing(name)}
    yield from _started(present, stores, tmp_path_factory.mktemp("logs"))


@pytest.fixture(scope="session")
def prefixed_servers(
    sites: Mapping[str, Site], stores: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, Server]]:
    """The same, told that they are mounted at /sub."""
    present = {name: f"{line} {ROOT_PATH[name]}" for name, line in SERVERS.items() if not missing(name)}
    yield from _started(present, stores, tmp_path_factory.mktemp("prefixed-logs"))


# Those that answer most slowly are asked in the slow tests alone; both forms of uvicorn, granian and gunicorn always.
SLOW = ("daphne", "hypercorn")
EACH = [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in sorted(SERVERS)]


@pytest.fixture(params=EACH)
def server(request: pytest.FixtureRequest, servers: Mapping[str, Server]) -> Server:
    if request.param not in servers:
        pytest.skip(f"{request.param} needs {', '.join(missing(request.param))}")
    return servers[request.param]


@pytest.fixture(params=EACH)
def prefixed(request: pytest.FixtureRequest, prefixed_servers: Mapping[str, Server]) -> Server:
    if request.param not in prefixed_servers:
        pytest.skip(f"{request.param} needs {', '.join(missing(request.param))}")
    return prefixed_servers[request.param]
