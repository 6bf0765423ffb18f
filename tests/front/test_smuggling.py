"""No app sees a request that the front did not: ambiguous framing is refused, the rest can be read in one way."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hotpath.front.address import Address
from hotpath.front.exact import ExactProtocol
from hotpath.types import Receive, Scope, Send
from tests.front.forwarding import ROOT, SECONDS, Front, free_port, wait_until
from tests.front.smuggling import CASES, CHUNKED_HIDDEN, Ambiguous, case, read_request

SERVERS = {
    "uvicorn-httptools": "-m uvicorn --http httptools --port {port} --log-level error {app}",
    "uvicorn-h11": "-m uvicorn --http h11 --port {port} --log-level error {app}",
    "gunicorn": "-m gunicorn --worker-class asgi --bind 127.0.0.1:{port} --log-level error {app}",
    "granian": "-m granian --interface asgi --port {port} --log-level error {app}",
    "hypercorn": "-m hypercorn --bind 127.0.0.1:{port} --workers 0 --log-level error {app}",
    "daphne": "-m daphne --port {port} --bind 127.0.0.1 --verbosity 0 {app}",
    "node": "tests/front/smuggling_app.js {port}",
}
PARSERS = [ExactProtocol, "h11"]


class Recorder:
    """A backend that reads requests in the one way that is allowed, and notes them and what is not."""

    def __init__(self) -> None:
        self.requests: list[tuple[bytes, bytes]] = []
        self.problems: list[Ambiguous] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = Address("127.0.0.1", self._socket.getsockname()[1])
        self._pool = ThreadPoolExecutor(64)
        self._pool.submit(self._accept)

    def stop(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._pool.shutdown()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._pool.submit(self._serve, self._socket.accept()[0])

    def _serve(self, sock: socket.socket) -> None:
        data = b""
        with sock, contextlib.suppress(OSError):
            sock.settimeout(SECONDS)
            while chunk := sock.recv(1 << 16):
                data += chunk
                try:
                    while (request := read_request(data)) is not None:
                        method, target, _, data = request
                        self.requests.append((method, target))
                        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                except Ambiguous as problem:
                    self.problems.append(problem)
                    return


class Noting(Front):
    """A front that notes the requests that it saw."""

    def __init__(self, address: Address, **options: Any) -> None:
        self.seen: list[tuple[str, str]] = []
        super().__init__(address, **options)

    async def run_app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":  # the handshake of a WebSocket is a GET to the app
            self.seen.append((scope.get("method", "GET"), scope["path"]))
        await super().run_app(scope, receive, send)


def send_raw(port: int, data: bytes, seconds: float = 0.5) -> bytes:
    """Send it all and read what comes, until the other side closes or is silent."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), SECONDS) as sock, contextlib.suppress(OSError):
        sock.sendall(data)
        sock.settimeout(seconds)
        while chunk := sock.recv(1 << 16):
            answer += chunk
    return answer


@pytest.fixture(scope="module", params=PARSERS, ids=["httptools", "h11"])
def recorded(request: pytest.FixtureRequest) -> Iterator[tuple[Noting, Recorder]]:
    recorder = Recorder()
    front = Noting(recorder.address, http=request.param)
    yield front, recorder
    front.stop()
    recorder.stop()


def check(front: Noting, recorder: Recorder) -> None:
    wait_until(lambda: front.upstream.in_flight == 0)
    assert [str(problem) for problem in recorder.problems] == []
    # In this order: a request that comes meanwhile is seen by the front first.
    read = Counter(method.decode() for method, _ in recorder.requests)
    seen = Counter(method for method, _ in front.seen)
    assert read - seen == Counter()


def test_whatever_passes_can_be_read_in_one_way(recorded: tuple[Noting, Recorder]) -> None:
    front, recorder = recorded
    with ThreadPoolExecutor(16) as pool:
        answers = [*pool.map(lambda number: send_raw(front.port, case(number)), range(len(CASES)))]
    check(front, recorder)
    assert sum(answer.startswith(b"HTTP/1.1 200") for answer in answers) > 10
    hidden = {target for _, target in recorder.requests if target.endswith(b"/hidden")}
    assert hidden <= {path.encode() for _, path in front.seen}


BOTH = [
    "Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
]
TWO = ["Content-Length: 5\r\nContent-Length: {length}\r\n", "Content-Length: {length}, 5\r\n"]
CODINGS = ["Transfer-Encoding: gzip, chunked\r\n", "Transfer-Encoding: identity\r\n"]


@pytest.mark.parametrize("fields", BOTH + TWO + CODINGS)
def test_two_framings_are_refused_and_the_connection_ends(recorded: tuple[Noting, Recorder], fields: str) -> None:
    front, recorder = recorded
    before = len(recorder.requests)
    body = CHUNKED_HIDDEN.replace("{n}", "x").encode()
    head = f"POST /refused HTTP/1.1\r\nHost: a\r\n{fields.format(length=len(body))}\r\n".encode()
    with socket.create_connection(("127.0.0.1", front.port), SECONDS) as sock:
        sock.sendall(head + body)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while chunk := sock.recv(1 << 16):  # until it is closed
                answer += chunk
    assert answer[9:12] in (b"400", b"501")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert len(recorder.requests) == before


PIECES = st.sampled_from(
    b"\r\n|\n|\r|\r\n\r\n|\0| |\t|:|,|;|0|5|a|Content-Length|Transfer-Encoding|chunked|Connection|close|Host|X|"
    b"GET /x HTTP/1.1|POST /y HTTP/1.1|HTTP/1.0|HTTP/1.1|0\r\n\r\n|5\r\nabcde\r\n|\x0b|\xff|Upgrade|Expect".split(b"|")
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    number=st.integers(0, len(CASES) - 1),
    edits=st.lists(st.tuples(st.floats(0, 1), PIECES, st.integers(0, 3)), min_size=1, max_size=5),
)
def test_random_requests(recorded: tuple[Noting, Recorder], number: int, edits: list[tuple[float, bytes, int]]) -> None:
    front, recorder = recorded
    data = case(number)
    for place, piece, length in edits:
        at = int(place * len(data))
        data = data[:at] + piece + data[at + length :]
    send_raw(front.port, data, 0.02)
    check(front, recorder)


def test_each_framing_has_one_way_to_be_written() -> None:
    good = b"POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nrest"
    assert read_request(good) == (b"POST", b"/a", b"abc", b"rest")
    for old, new in [(b"3\r\n", b"+3\r\n"), (b": chunked", b": chunked\r\ncontent-length: 3"), (b"\r\n0", b"x0")]:
        with pytest.raises(Ambiguous):
            read_request(good.replace(old, new))


def is_there(name: str) -> bool:
    if name == "node":
        return shutil.which("node") is not None
    needed = {"gunicorn": "gunicorn.workers.gasgi"}.get(name, name.split("-", maxsplit=1)[0])
    with contextlib.suppress(ModuleNotFoundError):
        return importlib.util.find_spec(needed) is not None
    return False


@pytest.mark.slow
@pytest.mark.parametrize("name", SERVERS)
def test_no_server_sees_a_request_that_the_front_did_not(name: str, tmp_path: Path) -> None:
    if not is_there(name):
        pytest.skip(f"{name} is not installed")
    port, seen = free_port(), tmp_path / "seen"
    program = shutil.which("node") if name == "node" else sys.executable
    environment = {**os.environ, "SEEN": str(seen), "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
    command = [str(program), *SERVERS[name].format(port=port, app="tests.front.smuggling_app:app").split()]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    front = Noting(Address("127.0.0.1", port), hold_seconds=SECONDS)
    try:
        assert front.get("/up").status == 200
        with ThreadPoolExecutor(16) as pool:
            [*pool.map(lambda number: send_raw(front.port, case(number)), range(len(CASES)))]
        wait_until(lambda: front.upstream.in_flight == 0)
        assert front.get("/end").status == 200
        requests = [tuple(json.loads(line)) for line in seen.read_text().splitlines()]
        assert Counter(requests) - Counter(front.seen) == Counter()
        assert len(requests) > 20
    finally:
        front.stop()
        process.terminate()
        process.wait(SECONDS)
