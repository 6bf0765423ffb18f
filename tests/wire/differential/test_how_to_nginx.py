"""What ``hotpath render nginx`` makes, in front of FastAPI and of Django."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hotpath.ops.check import CheckOptions, check
from hotpath.ops.render.facts import gather
from hotpath.ops.render.nginx import render as nginx_file
from hotpath.site import Hotpath
from hotpath.store.store import Store
from hotpath.testing import Response
from tests.wire.differential.nginx_pages import declare
from tests.wire.differential.test_nginx import NGINX, ROOT, free_port, running
from tests.wire.servers.client import Connection

HOT = ("/", "/rankings/kospi", "/robots.txt")
HOST = "Host: example.org:8080"
PUBLIC = "public, max-age=60, stale-while-revalidate=600, stale-if-error=604800"
# Of what hotpath and this configuration add to a hot page, a cold answer has nothing.
OF_A_HOT_PAGE = ("x-hotpath-generation", "cache-status", "cdn-cache-control")

DJANGO_SETTINGS = "tests.wire.differential.django_site.settings"
APPS = {
    "fastapi": (
        "tests.wire.differential.fastapi_site:app",
        ["-m", "hotpath", "build", "tests.wire.differential.fastapi_site:hot"],
    ),
    "django": (
        "tests.wire.differential.django_site.asgi:application",
        ["-m", "django", "hotpath", "build", "--settings", DJANGO_SETTINGS],
    ),
}


def configuration(**options: Any) -> str:
    """The rendered file of the site in ``/srv/site``; ``options`` as ``gather`` has them."""
    hot = Hotpath("/srv/site/var/hot")
    declare(hot)
    return nginx_file(gather(hot, "site:hot", listen="127.0.0.1:8080", **options))[0].text


def filled_in(text: str, store: Path, app: int, front: int) -> str:
    """The file for another store and other ports."""
    for old, new in (
        ("/srv/site/var/hot", str(store)),
        ("127.0.0.1:8000", f"127.0.0.1:{app}"),
        ("127.0.0.1:8080", f"127.0.0.1:{front}"),
        ("127.0.0.1:8009", f"127.0.0.1:{free_port()}"),
    ):
        assert old in text
        text = text.replace(old, new)
    return text


@contextmanager
def nginx(directory: Path, port: int, text: str) -> Iterator[None]:
    """A real nginx with the file in its ``http {}``."""
    if NGINX is None:
        pytest.skip("needs nginx (Debian: nginx-light)")
    # Its worker is another user, who has to get through to the files.
    user = "user root;" if os.geteuid() == 0 else ""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = " ".join(f"{kind}_temp_path {directory}/{kind};" for kind in kinds)
    text = text.replace("/var/lib/nginx/", f"{directory}/")
    head = f"{user} daemon off; pid {directory}/pid; error_log {directory}/error.log; events {{}}"
    conf = directory / "nginx.conf"
    conf.write_text(f"{head} http {{ access_log off; {paths}\n{text}\n}}")
    with running([NGINX, "-p", str(directory), "-c", str(conf)], port, dict(os.environ)):
        yield


@dataclass
class Site:
    """An app behind nginx, over a store that its batch made."""

    name: str
    directory: Path
    app: int = field(default_factory=free_port)
    front: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def store(self) -> Store:
        return Store(self.directory / "hot")

    @property
    def environment(self) -> dict[str, str]:
        path = f"{ROOT}:{ROOT / 'src'}"
        return {**os.environ, "HOTPATH_TEST_STORE": str(self.directory / "hot"), "PYTHONPATH": path}

    def build(self, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *APPS[self.name][1], *options],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def start(self) -> None:
        command = [sys.executable, "-m", "uvicorn", "--port", str(self.app), "--log-level", "error", APPS[self.name][0]]
        self._process = subprocess.Popen(command, cwd=ROOT, env=self.environment)
        deadline = time.monotonic() + 60
        while self.ask("/seen").status != 200:
            assert self._process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def kill(self) -> None:
        """``kill -9``, as the kernel does when memory is out."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(10)
            self._process = None

    def ask(self, target: str, *fields: str, method: str = "GET", body: bytes = b"", host: str = HOST) -> Response:
        length = [f"Content-Length: {len(body)}"] if body or method == "POST" else []
        head = [f"{method} {target} HTTP/1.1", host, *fields, *length, "Connection: close", "", ""]
        with Connection(self.front) as connection:
            return connection.ask("\r\n".join(head).encode("ascii") + body)

    def seen(self, target: str, *fields: str, **options: str) -> dict[str, str]:
        """The fields of a request as the app saw them."""
        answer = self.ask(target, *fields, **options)  # type: ignore[arg-type]
        assert answer.status == 200
        found: dict[str, str] = json.loads(answer.body)["fields"]
        return found


@pytest.fixture(scope="module", params=["fastapi", pytest.param("django", marks=pytest.mark.slow)])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if NGINX is None:
        pytest.skip("needs nginx (Debian: nginx-light)")
    pytest.importorskip(request.param)
    directory = tmp_path_factory.mktemp(request.param)
    directory.chmod(0o755)
    made = Site(request.param, directory)
    built = made.build()
    assert built.returncode == 0, built.stderr
    with nginx(directory, made.front, filled_in(configuration(), directory / "hot", made.app, made.front)):
        try:
            made.start()
            yield made
        finally:
            made.kill()


@pytest.fixture
def dead(site: Site) -> Iterator[Site]:
    """The site with its app killed, and started again after the test."""
    site.kill()
    try:
        yield site
    finally:
        site.start()


def digest(site: Site, key: str, coding: str = "identity") -> bytes:
    """The SHA-256 that the batch wrote into the manifest."""
    store = site.store
    item = store.read_manifest(store.chosen_sequence()).items[key]
    return next(one.sha256 for one in item.representations if one.coding == coding)


def is_nginx(answer: Response) -> bool:
    """Whether nginx answered from the file: hotpath's own answers have Cache-Status too."""
    return answer.header("x-hotpath-generation") is not None and answer.header("cache-status") is None


def is_hotpath(answer: Response) -> bool:
    return (answer.header("cache-status") or "").startswith("hotpath;")


def assert_cold(answer: Response) -> None:
    """Nothing public and nothing of a hot page on it."""
    assert {name: answer.header(name) for name in OF_A_HOT_PAGE} == dict.fromkeys(OF_A_HOT_PAGE)
    assert "public" not in (answer.header("cache-control") or "")


@pytest.mark.slow
@pytest.mark.parametrize("target", HOT)
def test_a_hot_page_is_the_bytes_of_the_store_with_public_fields(site: Site, target: str) -> None:
    answer = site.ask(target)
    assert answer.status == 200
    assert is_nginx(answer)
    assert hashlib.sha256(answer.body).digest() == digest(site, target)
    assert answer.header("cache-control") == PUBLIC
    assert answer.header("cdn-cache-control") == PUBLIC.replace("60", "300", 1)
    assert answer.header("vary") == "Accept-Encoding"
    assert answer.header("x-hotpath-generation") == str(site.store.chosen_sequence())


@pytest.mark.parametrize("target", HOT)
def test_a_hot_page_has_the_type_that_hotpath_gives_it(site: Site, target: str) -> None:
    item = site.store.read_manifest(1).items[target]
    assert site.ask(target).header("content-type") == item.policy.media_type


@pytest.mark.parametrize("target", HOT)
def test_gzip_is_the_file_that_the_batch_packed(site: Site, target: str) -> None:
    answer = site.ask(target, "Accept-Encoding: gzip, br")
    assert answer.header("content-encoding") == "gzip"
    assert answer.header("vary") == "Accept-Encoding"
    assert hashlib.sha256(answer.body).digest() == digest(site, target, "gzip")
    assert hashlib.sha256(gzip.decompress(answer.body)).digest() == digest(site, target)


@pytest.mark.parametrize("target", HOT)
def test_head_has_the_fields_of_get(site: Site, target: str) -> None:
    get, head = site.ask(target), site.ask(target, method="HEAD")
    assert head.status == 200
    assert head.body == b""
    names = ("content-length", "content-type", "etag", "cache-control", "x-hotpath-generation", "last-modified")
    assert {name: head.header(name) for name in names} == {name: get.header(name) for name in names}


@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_if_none_match_is_304_with_the_public_fields(site: Site, coding: str) -> None:
    accept = f"Accept-Encoding: {coding}"
    tag = site.ask("/rankings/kospi", accept).header("etag")
    answer = site.ask("/rankings/kospi", accept, f"If-None-Match: {tag}")
    assert answer.status == 304
    assert answer.header("cache-control") == PUBLIC
    assert answer.header("etag") == tag
    assert site.ask("/rankings/kospi", accept, 'If-None-Match: "other"').status == 200


def test_a_range_is_206_and_one_past_the_end_416(site: Site) -> None:
    whole = site.ask("/rankings/kospi").body
    part = site.ask("/rankings/kospi", "Range: bytes=5-14")
    assert (part.status, part.body) == (206, whole[5:15])
    assert part.header("content-range") == f"bytes 5-14/{len(whole)}"
    past = site.ask("/rankings/kospi", "Range: bytes=999999-")
    assert past.status == 416
    assert past.header("content-range") == f"bytes */{len(whole)}"


def test_a_query_that_belongs_to_the_key_is_the_page_of_that_key(site: Site) -> None:
    answer = site.ask("/top/kospi?n=10")
    assert is_nginx(answer)
    assert hashlib.sha256(answer.body).digest() == digest(site, "/top/kospi?n=10")
    without = site.ask("/top/kospi")
    assert is_nginx(without)
    assert hashlib.sha256(without.body).digest() == digest(site, "/top/kospi")


@pytest.mark.parametrize("target", [*HOT, "/top/kospi"])
@pytest.mark.parametrize("query", ["utm_source=a&utm_medium=b", "gclid=x", "fbclid=&mc_eid=1", "utm_id="])
def test_a_tracking_query_is_the_same_page(site: Site, target: str, query: str) -> None:
    answer = site.ask(f"{target}?{query}")
    assert answer.status == 200
    assert is_nginx(answer)
    assert hashlib.sha256(answer.body).digest() == digest(site, target)


@pytest.mark.parametrize(
    "query",
    [
        "x=1",
        "utm_source=a&x=1",
        "x=1&utm_source=a",
        "n=10",
        "utm_source=a&&x",
        "=",
        "gclidx=1",
        "Gclid=1",
    ],
)
def test_an_unknown_query_is_for_hotpath_and_the_app(site: Site, query: str) -> None:
    answer = site.ask(f"/rankings/kospi?{query}")
    assert (answer.status, answer.body) == (404, b"the app has no such page")
    assert_cold(answer)


def test_a_long_query_costs_nginx_nothing_and_is_the_apps(site: Site) -> None:
    assert is_nginx(site.ask("/?" + "utm_a=b&" * 800 + "utm_z=1"))
    assert_cold(site.ask("/?" + "utm_a=b&" * 800 + "x=1"))


@pytest.mark.parametrize("target", ["/me", "/me?x=1", "/me?utm_source=a", "/me?n=10"])
def test_a_personal_page_stays_private_with_and_without_a_query(site: Site, target: str) -> None:
    answer = site.ask(target, "Cookie: session=abc")
    assert answer.status == 200
    assert answer.body == b"me: session=abc"
    assert answer.header("cache-control") == "private, no-store"
    assert_cold(answer)


def test_cookies_pass_both_ways(site: Site) -> None:
    answer = site.ask("/me", "Cookie: session=abc; theme=dark")
    assert answer.body == b"me: session=abc; theme=dark"
    assert answer.header("set-cookie") == "session=abc; Path=/; HttpOnly"


def test_a_cookie_does_not_keep_anybody_from_a_hot_page(site: Site) -> None:
    assert is_nginx(site.ask("/rankings/kospi", "Cookie: theme=dark"))


def test_host_and_the_forwarded_fields_reach_the_app(site: Site) -> None:
    fields = site.seen("/seen")
    assert fields["host"] == "example.org:8080"
    assert fields["x-forwarded-host"] == "example.org:8080"
    assert fields["x-forwarded-for"] == "127.0.0.1"
    assert fields["x-forwarded-proto"] == "http"


def test_a_client_cannot_forge_the_forwarded_fields(site: Site) -> None:
    forged = ("X-Forwarded-For: 10.1.1.1", "X-Forwarded-Host: evil.example", "X-Forwarded-Proto: https")
    assert site.seen("/seen", *forged) == site.seen("/seen")


@pytest.mark.parametrize("target", ["/seen/a%2Fb/%ED%95%9C?q=%2F&q=a+b&&c", "/seen//x", "/seen/x/?utm_source=a"])
def test_the_target_reaches_the_app_as_it_was_sent(site: Site, target: str) -> None:
    path, _, query = target.partition("?")
    found = json.loads(site.ask(target).body)
    assert (found["path"], found["query"]) == (path, query)


@pytest.mark.parametrize("target", [*HOT, "/top/kospi?n=10"])
def test_post_on_a_hot_path_is_the_apps(site: Site, target: str) -> None:
    answer = site.ask(target, "Content-Type: text/plain", method="POST", body=b"form")
    assert answer.status == 200
    found = json.loads(answer.body)
    assert (found["method"], found["path"]) == ("POST", target.partition("?")[0])
    assert found["fields"]["content-length"] == "4"
    assert_cold(answer)


def test_a_redirect_of_the_app_leads_to_the_public_host(site: Site) -> None:
    answer = site.ask("/moved")
    assert answer.status == 302
    assert answer.header("location") == "http://example.org:8080/rankings/kospi"
    assert_cold(answer)


@pytest.mark.parametrize(
    "target",
    [
        "/none",
        "/rankings/none",
        "/rankings",
        "/rankings/",
        "/rankings/kospi/",
        "/index",
        "/index.html",
        "/index.html.gz",
        "/rankings/kospi.json",
        "/rankings/kospi.json.gz",
        "/top/kospi@10",
        "/top/kospi@10.json",
        "//",
        "/./",
        "//rankings/kospi",
        "/x/../rankings/kospi",
        "/rankings%2Fkospi",
        "/none/generations/1/files/index.html",
    ],
)
def test_what_is_no_page_of_hotpath_is_the_apps_404(site: Site, target: str) -> None:
    answer = site.ask(target)
    assert (answer.status, answer.body) == (404, b"the app has no such page")
    assert_cold(answer)


def test_a_hot_page_that_nginx_does_not_recognize_is_hotpaths(site: Site) -> None:
    answer = site.ask("/rankings/%6Bospi")
    assert answer.status == 200
    assert is_hotpath(answer)
    assert answer.header("cache-control") == PUBLIC


def test_the_rule_of_bypass_keeps_pages_of_who_is_logged_in_from_nginx(site: Site, tmp_path: Path) -> None:
    other = Site(site.name, site.directory, app=site.app)
    tmp_path.chmod(0o755)
    changed = filled_in(configuration(cookie="sessionid"), site.directory / "hot", other.app, other.front)
    with nginx(tmp_path, other.front, changed):
        assert is_nginx(other.ask("/"))
        assert is_nginx(other.ask("/", "Cookie: theme=dark"))
        for target in HOT:
            answer = other.ask(target, "Cookie: theme=dark; sessionid=1")
            assert json.loads(answer.body)["fields"]["cookie"] == "theme=dark; sessionid=1"
            assert_cold(answer)


@pytest.mark.slow
@pytest.mark.parametrize("target", [*HOT, "/top/kospi?n=10", "/?utm_source=a"])
def test_a_hot_page_is_200_while_the_app_is_dead(dead: Site, target: str) -> None:
    answer = dead.ask(target)
    assert answer.status == 200
    assert is_nginx(answer)
    assert answer.header("cache-control") == PUBLIC


def test_check_finds_nothing_wrong_with_what_nginx_sends(site: Site) -> None:
    found = check(site.store, f"http://127.0.0.1:{site.front}", CheckOptions(everything=True))
    assert found.failures == ()
    assert found.asked == 9
    assert found.notes == ()


@pytest.mark.slow
def test_build_check_keeps_a_good_generation_and_nginx_serves_it(site: Site) -> None:
    before = site.store.chosen_sequence()
    built = site.build("--check", f"http://127.0.0.1:{site.front}")
    assert built.returncode == 0, built.stderr
    assert site.store.bad() == {}
    assert site.store.chosen_sequence() == before + 1
    assert site.ask("/").header("x-hotpath-generation") == str(before + 1)


@pytest.mark.slow
def test_without_a_published_generation_everything_is_the_apps(site: Site, tmp_path: Path) -> None:
    other = Site(site.name, site.directory, app=site.app)
    tmp_path.chmod(0o755)
    with nginx(tmp_path, other.front, filled_in(configuration(), tmp_path / "hot", other.app, other.front)):
        assert is_hotpath(other.ask("/"))
        assert other.ask("/me").header("cache-control") == "private, no-store"


@pytest.mark.slow
def test_a_publish_in_the_middle_of_a_request_never_shows(tmp_path: Path) -> None:
    """Generations 9 and 10: a path read twice is not only another, but longer."""
    tmp_path.chmod(0o755)
    for number in (9, 10):
        files = tmp_path / "hot" / "generations" / str(number) / "files"
        files.mkdir(parents=True)
        (files / "robots.txt").write_text(str(number))
    ended = threading.Event()

    def publish() -> None:
        for number in itertools.cycle((9, 10)):
            (tmp_path / "hot" / "next").symlink_to(f"generations/{number}/files")
            (tmp_path / "hot" / "next").rename(tmp_path / "hot" / "current")
            if ended.is_set():
                return

    site = Site("none", tmp_path)
    with nginx(tmp_path, site.front, filled_in(configuration(), tmp_path / "hot", site.app, site.front)):
        publisher = threading.Thread(target=publish)
        publisher.start()
        try:
            while not (tmp_path / "hot" / "current").exists():
                time.sleep(0.01)
            answers = [site.ask("/robots.txt") for _ in range(1500)]
        finally:
            ended.set()
            publisher.join(10)
    assert {answer.status for answer in answers} == {200}
    seen = {(answer.header("x-hotpath-generation"), answer.body) for answer in answers}
    assert seen == {("9", b"9"), ("10", b"10")}
