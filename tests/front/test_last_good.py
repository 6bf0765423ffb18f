"""Last good answers in the front: the admin port, what is said at the start, and the front as a whole."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from hotpath.asgi import LastGood
from hotpath.front.address import Address
from hotpath.front.last_good import LastGoodOptions, around, file_of, routes, start_text
from hotpath.front.upstream import Upstream
from hotpath.pages.hosts import Hosts
from hotpath.site import Hotpath
from tests.asgi.last_good.site import App, ask, cache
from tests.front.last_good import another_port
from tests.front.serving import ROOT, Serving, serving
from tests.front.serving import make_site as built_site
from tests.wire.conformance.cases import PageData
from tests.wire.conformance.site import make_site

TOKEN = "correct horse"


@pytest.fixture
def app() -> App:
    return App(
        {"/": (200, [("surrogate-key", "all home")], b"page"), "/own": (200, [("cache-control", "private")], b"")}
    )


@pytest.fixture
def last_good(app: App, tmp_path: Path) -> Iterator[LastGood]:
    made = cache(app, tmp_path)
    yield made
    made.close()


async def admin(
    last_good: LastGood | None,
    method: str,
    target: str,
    token: str | None = TOKEN,
    hot: Hotpath | None = None,
    fields: dict[str, str] | None = None,
) -> Any:
    """The status, and the JSON of the answer."""
    made = Starlette(routes=routes(last_good, hot or Hotpath("nothing published"), token=token))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(made), base_url="http://admin") as client:
        answer = await client.request(method, target, headers=fields)
        assert answer.headers["cache-control"] == "no-store"
        return answer.status_code, answer.json()


def test_why_an_answer_is_or_is_not_kept(app: App, last_good: LastGood) -> None:
    async def main() -> None:
        await ask(last_good)
        await ask(last_good, "/own")
        _, report = await admin(last_good, "GET", "/last-good?url=http://example.org/")
        (answer,) = report["answers"]
        assert (answer["is_kept"], answer["is_used_on_error"], answer["status"], answer["bytes"]) == (
            True,
            True,
            200,
            4,
        )
        _, report = await admin(last_good, "GET", "/last-good?url=/own")
        (answer,) = report["answers"]
        assert answer == {"url": "http://example.org/own", "is_kept": False, "because": "it says private"}
        _, report = await admin(last_good, "GET", "/last-good?url=/robots.txt")
        assert report["answers"] == []
        assert "crawlers leave the site alone" in report["robots"]
        app.pages["/robots.txt"] = (200, [], b"User-agent: *")
        await ask(last_good, "/robots.txt")
        _, report = await admin(last_good, "GET", "/last-good?url=/robots.txt")
        assert report["answers"][0]["is_kept"]
        assert "robots" not in report
        await ask(last_good, headers=[("x-forwarded-proto", "https")])
        _, report = await admin(last_good, "GET", "/last-good?url=https://example.org/")
        assert report["answers"][0]["is_kept"]
        for bad in ("", "?url=", "?url=example.org", "?url=http://[bad/"):
            assert (await admin(last_good, "GET", f"/last-good{bad}"))[0] == 400
        assert (await admin(None, "GET", "/last-good?url=/"))[1] == {"answers": [], "because": "--last-good is off"}

    asyncio.run(main())


@pytest.mark.parametrize("mode", ["on", "off"])
def test_a_hot_page_is_said_to_be_hot_with_its_generation(last_good: LastGood, tmp_path: Path, mode: str) -> None:
    site = make_site(tmp_path / "store", pages={"/robots.txt": PageData(b"User-agent: *"), "/a/%C3%A9": PageData(b"x")})
    site.hot.reading = replace(site.hot.reading, hosts=Hosts.parse(["example.org"]))
    cache = last_good if mode == "on" else None

    async def main() -> None:
        for url in ("/robots.txt", "https://example.org/robots.txt"):
            status, report = await admin(cache, "GET", f"/last-good?url={url}", hot=site.hot)
            assert (status, report) == (200, {"answers": [], "hot": {"key": "/robots.txt", "generation": 1}})
        _, report = await admin(cache, "GET", "/last-good?url=/a/%25c3%25a9", hot=site.hot)
        assert report["hot"]["key"] == "/a/%C3%A9"
        for url in ("/cold", "https://other.org/robots.txt", "/robots.txt?a=1"):
            assert "hot" not in (await admin(cache, "GET", f"/last-good?url={url}", hot=site.hot))[1]

    asyncio.run(main())


def test_a_purge_needs_the_token(last_good: LastGood) -> None:
    async def main() -> None:
        await ask(last_good)
        purge = "/purge?url=http://example.org/"
        for fields in ({}, {"authorization": "Bearer wrong"}, {"authorization": TOKEN}, {"authorization": ""}):
            assert (await admin(last_good, "POST", purge, fields=fields))[0] == 401
        assert (await admin(last_good, "POST", purge, token=None, fields={"authorization": "Bearer None"}))[0] == 403
        assert (await admin(last_good, "POST", purge, token="", fields={"authorization": "Bearer "}))[0] == 403
        assert (await admin(last_good, "GET", "/last-good?url=/"))[1]["answers"][0]["is_kept"]

    asyncio.run(main())


def test_purge_by_url_and_by_tag(last_good: LastGood) -> None:
    async def main() -> None:
        bearer = {"authorization": f"Bearer {TOKEN}"}
        for target in ("/purge?url=http://example.org/", "/purge?tag=home"):
            await ask(last_good)
            assert await admin(last_good, "POST", target, fields=bearer) == (
                200,
                {"message": "removed 1", "removed": 1},
            )
            assert (await admin(last_good, "POST", target, fields=bearer))[1]["removed"] == 0
        for target in ("/purge", "/purge?url=/", "/purge?url=http://example.org/&tag=home"):
            assert (await admin(last_good, "POST", target, fields=bearer))[0] == 400
        assert (await admin(None, "POST", "/purge?tag=home", fields=bearer))[0] == 409

    asyncio.run(main())


def test_the_file_is_beside_the_store_or_where_the_environment_says(tmp_path: Path) -> None:
    one, other = Hotpath(tmp_path / "a" / "hot"), Hotpath(tmp_path / "b" / "hot")
    assert file_of(one, {}) == tmp_path / "a" / "hot.last-good.sqlite"
    state = {"HOTPATH_STATE": str(tmp_path / "state")}
    assert file_of(one, state).parent == tmp_path / "state"
    assert file_of(one, state) != file_of(other, state)


def test_off_is_off(tmp_path: Path) -> None:
    upstream = Upstream(Address(path="/nowhere"))
    assert around(App(), upstream, Hotpath(tmp_path / "hot"), LastGoodOptions(max_bytes=None)) is None
    assert "nothing is kept" in start_text(None, [])[0]


def test_a_robots_txt_that_never_was_is_said_at_the_start(app: App, last_good: LastGood) -> None:
    assert any(line.startswith("  robots") for line in start_text(last_good, []))
    assert not any(line.startswith("  robots") for line in start_text(last_good, [b"/robots.txt"]))
    app.pages["/robots.txt"] = (200, [], b"User-agent: *")
    asyncio.run(ask(last_good, "/robots.txt"))
    last_good.close()
    assert not any(line.startswith("  robots") for line in start_text(last_good, []))


APP = """
import asyncio, os
mode = {"": "ok"}
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    path = scope["path"]
    if path.startswith("/mode/"):
        mode[""] = path[6:]
    elif mode[""] == "hang":
        await asyncio.sleep(60)
    elif mode[""] == "die":
        os._exit(1)
    status = 503 if mode[""] == "503" and not path.startswith("/mode/") else 200
    body = path.encode()
    headers = [(b"content-length", b"%d" % len(body))]
    if path.startswith("/mode/"):
        headers.append((b"cache-control", b"no-store"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""


class Running:
    """``hotpath front`` before an app of another process."""

    def __init__(self, directory: Path, *options: str) -> None:
        (directory / "flaky.py").write_text(APP)
        self.socket = directory / "app.sock"
        self.start_app()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.admin_port = free.getsockname()[1]
        self.front = Serving(
            directory,
            *("front", str(directory / "hot"), "--to", f"unix:{self.socket}", "--port", "{port}", "--access-log"),
            *("--admin", f"127.0.0.1:{self.admin_port}", "--patience", "1s", *options),
        )
        try:
            self.front.wait_for("serving on")
        except BaseException:
            self.stop()
            raise

    def start_app(self) -> None:
        self.socket.unlink(missing_ok=True)
        command = [sys.executable, "-m", "uvicorn", "flaky:app", "--uds", str(self.socket), "--no-access-log"]
        self.app = subprocess.Popen(command, cwd=self.socket.parent, stderr=subprocess.PIPE, text=True)
        assert self.app.stderr is not None
        while "Uvicorn running" not in self.app.stderr.readline():
            assert self.app.poll() is None

    def get(self, path: str, method: str = "GET") -> tuple[int, bytes, http.client.HTTPMessage, float]:
        began = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self.front.port, timeout=60)
        connection.request(method, path)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, body, answer.headers, time.monotonic() - began

    def kill_app(self) -> None:
        with self.app:
            self.app.kill()

    def stop(self) -> None:
        self.kill_app()
        self.front.stop()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    made = Running(tmp_path)
    yield made
    made.stop()


def is_last_good(answer: tuple[int, bytes, http.client.HTTPMessage, float]) -> bool:
    status, _, headers, _ = answer
    return status == 200 and "hotpath; hit" in headers.get("cache-status", "") and int(headers["age"]) >= 0


@pytest.mark.slow
def test_a_front_whose_app_fails_in_each_way(running: Running) -> None:
    for path in ("/page", "/robots.txt"):
        assert running.get(path)[:2] == (200, path.encode())
    assert running.get("/mode/503")[0] == 200
    assert is_last_good(running.get("/page"))
    assert running.get("/new")[0] == 503
    assert running.get("/mode/hang")[0] == 200
    answer = running.get("/page")
    assert is_last_good(answer)
    assert 0.9 < answer[3] < 10
    running.kill_app()
    answer = running.get("/page")
    assert is_last_good(answer)
    assert answer[3] < 10  # less than --hold
    running.start_app()
    deadline = time.monotonic() + 40
    while is_last_good(running.get("/page")):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    lines = [json.loads(line) for line in running.front.text.splitlines() if line.startswith("{")]
    assert "last_good" in {line["result"] for line in lines}
    with httpx.Client() as client:
        text = client.get(f"http://127.0.0.1:{running.admin_port}/metrics").text
    (served,) = (line for line in text.splitlines() if line.startswith("hotpath_front_last_good_served_total"))
    assert float(served.split()[1]) >= 3


@pytest.mark.slow
def test_last_good_answers_outlive_the_front(tmp_path: Path) -> None:
    first = Running(tmp_path)
    first.get("/page")
    time.sleep(0.5)
    first.front.process.kill()
    first.stop()
    second = Running(tmp_path)
    second.kill_app()
    assert is_last_good(second.get("/page"))
    second.stop()


@pytest.mark.slow
def test_explain_asks_the_admin_port_or_works_it_out(running: Running) -> None:
    running.get("/page")

    def explain(front: str, url: str) -> tuple[int, str]:
        done = running.front.command("explain", "--front", front, url)
        return done.returncode, done.stdout + done.stderr

    admin_url, site = f"http://127.0.0.1:{running.admin_port}", f"http://127.0.0.1:{running.front.port}"
    code, text = explain(admin_url, "/page")
    assert code == 0
    assert "is used while the app fails" in text
    code, text = explain(admin_url, "/never")
    assert code == 1
    assert "no answer to a GET of it was seen" in text
    code, text = explain(site, "/page")
    assert code == 0
    assert "worked out" in text
    code, text = explain(site, "/mode/ok")
    assert code == 1
    assert "it says no-store" in text
    done = subprocess.run(
        [sys.executable, "-m", "hotpath", "explain", "/page"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "Missing argument 'URL'" in done.stderr


@pytest.mark.slow
def test_explain_says_of_a_hot_page_from_which_generation_it_is_served(tmp_path: Path) -> None:
    port = another_port()
    with serving(built_site(tmp_path / "site"), "--admin", f"127.0.0.1:{port}") as front:
        for at in (port, front.port):
            done = front.command("explain", "--front", f"http://127.0.0.1:{at}", "/rankings/k0")
            assert done.stdout.startswith("/rankings/k0 is hot: it is served from generation 1, ")
            assert done.returncode == 0
        done = front.command("explain", "--front", f"http://127.0.0.1:{port}", "/rankings/k0", "--json")
        assert json.loads(done.stdout)["hot"] == {"key": "/rankings/k0", "generation": 1}


@pytest.mark.slow
def test_a_front_ends_at_once_although_the_app_hangs(running: Running) -> None:
    running.get("/page")
    running.get("/mode/hang")
    assert is_last_good(running.get("/page"))
    began = time.monotonic()
    running.front.stop()
    assert time.monotonic() - began < 8
