"""hotpath and nginx over the same files: the same answer, or a listed difference with the section that decides."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from hotpath.pages.policy import Policy
from hotpath.store.publish import staging
from hotpath.store.store import Store
from hotpath.testing import FakeClock, Response
from tests.wire.differential.cases import CASES, MODIFIED, PAGES, REASONS, Request, table
from tests.wire.servers.client import Connection, ConnectionEnded

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "reference" / "differences-from-nginx.md"
NGINX = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")

COMPARED = (
    "content-length",
    "content-range",
    "content-encoding",
    "content-type",
    "last-modified",
    "vary",
)

CONFIGURATION = """
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    types {{ application/json json; image/png png; }}
    default_type application/octet-stream;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    gzip_static on;
    gzip_vary on;
    server {{ listen 127.0.0.1:{port}; root {files}; }}
}}
"""


@dataclass(frozen=True)
class Both:
    """The two servers, by port."""

    hotpath: int
    nginx: int


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    if NGINX is None:
        pytest.skip("needs nginx (Debian: nginx-light)")
    directory = tmp_path_factory.mktemp("nginx")
    directory.chmod(0o755)
    store = Store(directory / "hot", clock=FakeClock(MODIFIED))
    with staging(store) as stage:
        for key, (file, media_type, body) in PAGES.items():
            stage.add(key, file, body, Policy(key, media_type, "public, max-age=60", None, 3600))
        stage.publish()
    for path in store.files_path(1).rglob("*"):
        os.utime(path, (MODIFIED, MODIFIED))
    ports = free_port(), free_port()
    configuration = directory / "nginx.conf"
    # Its worker is another user, who has to get through to the files.
    user = "user root;" if os.geteuid() == 0 else ""
    text = CONFIGURATION.format(directory=directory, port=ports[1], files=store.files_path(1))
    configuration.write_text(user + text)
    uvicorn = [sys.executable, "-m", "uvicorn", "--port", str(ports[0]), "--log-level", "error"]
    environment = {
        **os.environ,
        "HOTPATH_TEST_STORE": str(store.root),
        "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}",
    }
    with (
        running([*uvicorn, "tests.wire.differential.app:application"], ports[0], environment),
        running([NGINX, "-p", str(directory), "-c", str(configuration)], ports[1], environment),
    ):
        yield Both(*ports)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextmanager
def running(command: list[str], port: int, environment: dict[str, str]) -> Iterator[None]:
    """A server that answers on ``port``, ended with the block."""
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                ended = process.poll() is not None
                if ended or time.monotonic() > deadline:
                    raise AssertionError(
                        f"{command[0]} does not answer: {process.communicate(timeout=5)[0]!r}"
                    ) from None
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        try:
            process.communicate(timeout=10)
        finally:
            process.kill()


def ask(port: int, request: Request) -> Response:
    """One request on a connection of its own; closing without an answer counts as 400."""
    body = ["Content-Length: 0"] if request.method in ("POST", "PUT", "PATCH") else []
    lines = [f"{request.method} {request.target} HTTP/1.1", "Host: example.org", "Connection: close"]
    text = "\r\n".join([*lines, *request.fields, *body, "", ""])
    for name, coding in (("{etag}", "identity"), ("{etag-gzip}", "gzip")):
        if name in text:
            text = text.replace(name, _etag(port, request.target, coding))
    with Connection(port) as connection:
        connection.send(text.encode("latin-1"))
        try:
            return connection.read(head=request.method == "HEAD")
        except (ConnectionEnded, ConnectionResetError):
            return Response(400, [], b"")


def _etag(port: int, target: str, coding: str) -> str:
    answer = ask(port, Request((f"Accept-Encoding: {coding}",), target))
    assert answer.status == 200
    tag = answer.header("etag")
    assert tag
    # nginx makes a tag weak when it compresses; a static file keeps its own.
    return tag


def facts(answer: Response) -> dict[str, str]:
    """What is compared: of a 304 what §15.4.5 asks for, of an error only its status, since its page is not a page's."""
    found = {"status": str(answer.status)}
    if answer.status == 304:
        found["vary"] = answer.header("vary") or "none"
    elif answer.status in (200, 206):
        for name in COMPARED:
            found[name] = answer.header(name) or "none"
        found["body"] = hashlib.sha256(answer.body).hexdigest()[:8] if answer.body else "none"
    elif answer.status == 416:
        found["content-range"] = answer.header("content-range") or "none"
    return found


def difference(ours: Response, theirs: Response) -> str:
    """``field: hotpath / nginx`` for each that differs."""
    one, other = facts(ours), facts(theirs)
    if one["status"] != other["status"]:
        return f"status: {one['status']} / {other['status']}"
    coding = "content-encoding"
    if one.get(coding) != other.get(coding):  # length and body follow from it
        return f"{coding}: {one[coding]} / {other[coding]}"
    return "; ".join(f"{name}: {one[name]} / {other[name]}" for name in one if one[name] != other[name])


# The others are asked in the slow tests.
QUICK_CASES = 12
EACH = [
    pytest.param(case, id=case.shown, marks=() if number < QUICK_CASES else pytest.mark.slow)
    for number, case in enumerate(CASES)
]


@pytest.mark.parametrize("request_", EACH)
def test_the_same_answer_or_the_listed_difference(both: Both, request_: Request) -> None:
    found = difference(ask(both.hotpath, request_), ask(both.nginx, request_))
    assert found == request_.differs


def test_every_difference_has_a_reason_and_every_reason_a_difference() -> None:
    assert {case.reason for case in CASES if case.differs} == set(REASONS)
    assert len(CASES) >= 120
    assert len({case.shown for case in CASES}) == len(CASES)


def test_the_page_has_this_table() -> None:
    assert table() in PAGE.read_text(encoding="utf-8")
