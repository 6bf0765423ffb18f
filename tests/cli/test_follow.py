"""``hotpath follow`` and the front as processes; engines that refuse; nothing secret in anything that is printed."""

from __future__ import annotations

import http.client
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hotpath.store.origin.origin import Origin
from hotpath.store.store import Store
from tests.caching.shared.conftest import Server, free_port, start_server
from tests.front.serving import ROOT, Serving
from tests.ops.local import closed_port

__all__ = ["start_server"]

pytestmark = pytest.mark.slow

ACCESS, SECRET, TOKEN, PASSWORD = "AKIAHUSHHUSHHUSHHUSH", "hush-secret-key", "hush-session-token", "hush-password"

APP = """
from hotpath import Hotpath, HotpathMiddleware
hot = Hotpath("{root}", refresh=0.05)

@hot.route("/a")
def a():
    return [{number}]

async def api(scope, receive, send):
    if scope["type"] == "http":
        await send({{"type": "http.response.start", "status": 418, "headers": []}})
        await send({{"type": "http.response.body", "body": b"cold"}})

app = HotpathMiddleware(api, hot=hot, follow={follow})
"""


def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def get(port: int, path: str) -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()


class Machines:
    """A directory with an origin, one machine that builds, and what others print."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.url = f"file://{directory}/origin"
        (directory / "origin").mkdir()
        self.number = 0
        self.environ: dict[str, str] = {}
        self.write()

    def write(self, name: str = "myapp", root: str = "builder", *, follow: bool = False) -> None:
        text = APP.format(root=root, number=self.number, follow=follow)
        (self.directory / f"{name}.py").write_text(text)

    def run(self, *arguments: str, code: int = 0) -> str:
        """What a command prints on both streams."""
        done = subprocess.run(
            [sys.executable, "-m", "hotpath", *arguments],
            cwd=self.directory,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}", **self.environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stdout
        assert "Traceback" not in done.stdout
        return done.stdout

    def build(self, *arguments: str) -> None:
        self.number += 1
        self.write()
        shutil.rmtree(self.directory / "__pycache__", ignore_errors=True)
        self.run("build", "myapp:hot", "--quiet", "--origin", self.url, *arguments)

    def start(self, *arguments: str) -> Serving:
        return Serving(self.directory, *arguments, environ=self.environ)

    def served(self, machine: str) -> int | None:
        try:
            return Store(self.directory / machine).chosen_sequence()
        except Exception:
            return None


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machines:
    for name in ("HOTPATH_ORIGIN", "HOTPATH_HINTS", "HOTPATH_NAME", "HOTPATH_STORE"):
        monkeypatch.delenv(name, raising=False)
    return Machines(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_follows_until_a_signal_ends_it_at_once(machines: Machines, number: signal.Signals) -> None:
    following = machines.start("follow", "web", "--origin", machines.url, "--every", "0.5s", "--name", "web-1")
    try:
        following.wait_for(f"following {machines.url} every 0.5 s")
        machines.build()
        until(lambda: machines.served("web") == 1)
        machines.build()
        until(lambda: machines.served("web") == 2)
        following.wait_for("generation 2 is served")
        began = time.monotonic()
        assert following.stop(number) == 0
        assert time.monotonic() - began < 2
    finally:
        following.stop()
    assert [line.partition(":")[0] for line in following.text.splitlines()[1:]] == [
        "generation 1 is served",
        "generation 2 is served",
    ]
    assert [report.name for report in Origin(machines.url).machines()] == ["web-1"]


def test_a_signal_ends_it_at_once_also_while_an_engine_does_not_answer(machines: Machines) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    machines.environ = {"AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET}
    url = f"s3://bucket/site?endpoint_url=http://127.0.0.1:{server.server_port}&allow_http=true"
    try:
        # It listens and never answers.
        following = machines.start("follow", "web", "--origin", url)
        following.wait_for("following s3://")
        time.sleep(1)
        began = time.monotonic()
        assert following.stop() == 0
        assert time.monotonic() - began < 5
    finally:
        server.server_close()


def test_a_hint_brings_a_generation_before_the_next_look(
    machines: Machines, start_server: Callable[..., Server]
) -> None:
    server = start_server("--requirepass", PASSWORD)
    machines.environ = {"HOTPATH_HINTS": server.url.replace("redis://", f"redis://:{PASSWORD}@")}
    following = machines.start("follow", "web", "--origin", machines.url, "--every", "1h")
    try:
        following.wait_for("and at once by hints")
        until((machines.directory / "web/origin.json").exists)
        time.sleep(1)  # the subscription
        machines.build()
        until(lambda: machines.served("web") == 1, 5)
        machines.build()
        until(lambda: machines.served("web") == 2, 5)
        changed = machines.run("rollback", "builder", "--origin", machines.url)
        assert "every machine follows when it asks next, at once by hints" in changed
        until(lambda: machines.served("web") == 1, 5)
        assert following.stop() == 0
    finally:
        following.stop()
    assert PASSWORD not in following.text


def test_one_of_several_workers_follows_and_another_goes_on(machines: Machines) -> None:
    machines.write("web", "web-store", follow=True)
    machines.environ = {"HOTPATH_ORIGIN": machines.url}
    machines.build()
    port = free_port()
    log = (machines.directory / "log").open("wb")
    server = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "web:app", "--port", str(port), "--workers", "3"],
        cwd=machines.directory,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}", **machines.environ},
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    try:
        until(lambda: machines.served("web-store") == 1, 60)
        leader = int((machines.directory / "web-store/follow.lock").read_text())
        assert leader != server.pid
        os.kill(leader, signal.SIGKILL)
        machines.build()
        until(lambda: machines.served("web-store") == 2, 60)
        assert int((machines.directory / "web-store/follow.lock").read_text()) != leader
        assert get(port, "/a")[0] == 200
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        log.close()


def test_a_front_follows_in_its_own_process_and_serves_while_the_origin_is_gone(machines: Machines) -> None:
    (machines.directory / "origin").rename(machines.directory / "away")
    machines.write("web", "web-store", follow=True)
    front = machines.start("serve", "web:app", "--port", "{port}", "--origin", machines.url)
    try:
        front.wait_for("Uvicorn running on unix socket")
        front.wait_for("there is no such directory")
        assert front.get("/a") == (418, b"cold")
        assert int((machines.directory / "web-store/follow.lock").read_text()) == front.process.pid
        (machines.directory / "away").rename(machines.directory / "origin")
        machines.build()
        until(lambda: front.get("/a") == (200, b"[1]"))
        front.wait_for("the origin is followed again")
        assert front.text.count("there is no such directory") == 1
    finally:
        assert front.stop() == 0


SECRETS = (ACCESS, SECRET, TOKEN, PASSWORD)


def environment(url: str) -> dict[str, str]:
    """All that is secret, where it belongs."""
    return {
        "AWS_ACCESS_KEY_ID": ACCESS,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_SESSION_TOKEN": TOKEN,
        "HOTPATH_ORIGIN": url,
        "HOTPATH_HINTS": f"redis://:{PASSWORD}@127.0.0.1:{closed_port()}/0",
    }


def test_a_front_whose_app_is_broken_follows_what_it_did_before(machines: Machines) -> None:
    machines.build()
    machines.write("web", "web-store")
    app = machines.directory / "web.py"
    app.write_text(app.read_text().replace('"web-store",', f'"web-store", origin="{machines.url}",'))
    front = machines.start("serve", "web:app", "--port", "{port}")
    machines.environ = {"HOTPATH_RUN": str(front.run)}
    try:
        front.wait_for("generation 1 is served")
        front.process.send_signal(signal.SIGTERM)
        assert front.process.wait(30) == 0
        app.write_text("raise RuntimeError('this version does not start')")
        machines.build()
        again = machines.start("serve", "web:app", "--port", "{port}")
        try:
            again.wait_for("generation 2 is served")
            until(lambda: again.get("/a") == (200, b"[2]"))
        finally:
            again.stop()
    finally:
        front.stop()


def answer_of(code: str) -> bytes:
    """As engines word it: with the access key, and what was signed."""
    return (
        f"<Error><Code>{code}</Code><Message>hush</Message><AWSAccessKeyId>{ACCESS}</AWSAccessKeyId>"
        f"<StringToSign>{SECRET}{TOKEN}</StringToSign></Error>"
    ).encode()


@pytest.fixture
def engine() -> Iterator[Callable[[int, bytes], str]]:
    """An engine that gives the same answer to everything; the URL of an origin there."""
    servers = []

    def start(status: int, body: bytes) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("content-length") or 0))
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.send_header("etag", '"1"')
                self.send_header("last-modified", "Sat, 28 Nov 2026 20:00:00 GMT")
                self.end_headers()
                self.wfile.write(body)

            def do_PUT(self) -> None:
                self.do_GET()

            def log_message(self, format: str, *args: object) -> None:
                return None

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"s3://bucket/site?endpoint_url=http://127.0.0.1:{server.server_port}&allow_http=true"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "line"),
    [
        (403, answer_of("InvalidAccessKeyId"), "the engine does not know this access key"),
        (403, answer_of("SignatureDoesNotMatch"), "the secret key is not that of the access key"),
        (403, answer_of("RequestTimeTooSkewed"), "the clocks of this machine and of the engine differ too much"),
        (404, answer_of("NoSuchBucket"), "there is no such bucket"),
        (200, b"<html>a bucket of something else</html>", "this is no pointer of hotpath"),
    ],
    ids=["key", "secret", "clock", "bucket", "something else"],
)
def test_what_an_engine_refuses_is_one_line_and_nothing_served_is_touched(
    machines: Machines, engine: Callable[[int, bytes], str], status: int, body: bytes, line: str
) -> None:
    machines.environ = environment(engine(status, body))
    built = machines.run("build", "myapp:hot", "--quiet", code=69)
    assert (built.count("\n"), built.count(line)) == (2, 2)  # a warning before, the error after
    once = machines.run("follow", "builder", "--once", code=69)
    assert (once.count("\n"), once.count(line)) == (1, 1)
    refused = machines.run("rollback", "builder", code=1)
    assert (refused.count("\n"), refused.count(line)) == (1, 1)
    assert machines.served("builder") == 1
    record = json.loads((machines.directory / "builder/origin.json").read_text())
    assert line in record["error"]
    assert not any(secret in built + once + refused for secret in SECRETS)


def test_nothing_secret_is_in_anything_that_is_printed_served_or_kept(
    machines: Machines, engine: Callable[[int, bytes], str]
) -> None:
    url = engine(403, answer_of("SignatureDoesNotMatch"))
    machines.environ = environment(url)
    nobody = f"http://127.0.0.1:{closed_port()}"
    printed = [
        machines.run("build", "myapp:hot", code=69),
        machines.run("build", "myapp:hot", "--json", code=69),
        machines.run("push", "builder", code=69),
        machines.run("status", "builder"),
        machines.run("status", "builder", "--json"),
        machines.run("status", "builder", "--origin", url, code=1),
        machines.run("check", "builder", "--base-url", nobody, "--wait", "0", code=69),
    ]
    front = machines.start(
        *("front", "builder", "--to", nobody, "--port", "{port}"),
        *("--admin", f"127.0.0.1:{(admin := free_port())}"),
    )
    try:
        front.wait_for("the secret key is not that of the access key")
        assert front.get("/a") == (200, b"[0]")
        printed += [get(admin, path)[1].decode() for path in ("/status", "/dashboard", "/metrics")]
        assert "hotpath_origin_failing 1.0" in printed[-1]
    finally:
        front.stop()
    printed.append(front.text)
    kept = [path for path in (machines.directory / "builder").rglob("*") if path.is_file()]
    printed += [path.read_bytes().decode(errors="replace") for path in kept]
    assert [secret for text in printed for secret in SECRETS if secret in text] == []
