"""The scenarios of the page on nginx through what is rendered for nginx, Caddy and Varnish, the app alive and dead."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from hotpath.ops.purge.providers import Varnish
from hotpath.ops.render.facts import SiteFacts, gather
from hotpath.site import Hotpath
from hotpath.store.publish import staging
from hotpath.testing import Response
from tests.ops.render.programs import served, two_ports
from tests.wire.differential import nginx_pages
from tests.wire.differential.test_how_to_nginx import HOST, Site, digest
from tests.wire.servers.client import Connection, ConnectionEnded

pytestmark = [pytest.mark.slow]

HOT = ("/", "/rankings/kospi", "/robots.txt", "/top/kospi?n=10", "/top/kospi", "/only/hotpath")
PUBLIC = "public, max-age=60, stale-while-revalidate=600, stale-if-error=604800"


@dataclass
class Behind(Site):
    """The site behind one of the programs."""

    program: str = "nginx"
    facts: SiteFacts = field(init=False)

    def __post_init__(self) -> None:
        hot = Hotpath(self.directory / "hot")
        nginx_pages.declare(hot)
        self.facts = gather(
            hot,
            "site:hot",
            name="site-a",
            port=self.app,
            listen=f"127.0.0.1:{self.front}",
            hosts=("example.org",),
            cookie="sessionid",
        )


@pytest.fixture(scope="module", params=["nginx", "caddy", "varnish"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    directory = tmp_path_factory.mktemp(request.param)
    directory.chmod(0o755)
    made = Behind("fastapi", directory, *two_ports(), program=request.param)
    built = made.build()
    assert built.returncode == 0, built.stderr
    with served(request.param, made.facts, directory, made.front):
        try:
            made.start()
            yield made
        finally:
            made.kill()


@pytest.fixture
def dead(site: Behind) -> Iterator[Behind]:
    """The app killed, after each hot page was asked for once, and started again after the test."""
    for target in HOT:
        assert site.ask(target).status == 200
    site.kill()
    try:
        yield site
    finally:
        site.start()


@pytest.fixture
def slow_client(site: Behind) -> Callable[..., Response]:
    """Asks and waits longer than a program holds a request."""

    def ask(target: str, *fields: str, method: str = "GET", body: bytes = b"") -> Response:
        head = [
            f"{method} {target} HTTP/1.1",
            HOST,
            *fields,
            f"Content-Length: {len(body)}",
            "Connection: close",
            "",
            "",
        ]
        with Connection(site.front, timeout_seconds=25) as connection:
            return connection.ask("\r\n".join(head).encode("ascii") + body)

    return ask


def sent(answer: Response) -> dict[str, str | None]:
    names = ("cache-control", "cdn-cache-control", "content-type", "vary")
    return {name: answer.header(name) for name in names}


@pytest.mark.parametrize("target", HOT)
def test_a_hot_page_is_the_bytes_of_the_store_with_its_fields(site: Behind, target: str) -> None:
    answer = site.ask(target)
    assert answer.status == 200
    assert hashlib.sha256(answer.body).digest() == digest(site, target)
    policy = site.store.read_manifest(site.store.chosen_sequence()).items[target].policy
    assert sent(answer) == {
        "cache-control": PUBLIC,
        "cdn-cache-control": PUBLIC.replace("60", "300", 1),
        "content-type": policy.media_type,
        "vary": "Accept-Encoding",
    }


@pytest.mark.parametrize("target", HOT)
def test_gzip_is_what_the_batch_packed(site: Behind, target: str) -> None:
    answer = site.ask(target, "Accept-Encoding: gzip")
    if answer.header("content-encoding") is None:
        assert len(answer.body) < 200, "small pages have no coding"
        return
    assert answer.header("content-encoding") == "gzip"
    assert hashlib.sha256(answer.body).digest() == digest(site, target, "gzip")


@pytest.mark.parametrize("target", HOT)
def test_head_has_the_fields_of_get(site: Behind, target: str) -> None:
    get, head = site.ask(target), site.ask(target, method="HEAD")
    assert (head.status, head.body) == (200, b"")
    names = ("content-length", "content-type", "etag", "cache-control", "last-modified")
    assert {name: head.header(name) for name in names} == {name: get.header(name) for name in names}


@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_if_none_match_is_304(site: Behind, coding: str) -> None:
    accept = f"Accept-Encoding: {coding}"
    tag = site.ask("/rankings/kospi", accept).header("etag")
    answer = site.ask("/rankings/kospi", accept, f"If-None-Match: {tag}")
    assert (answer.status, answer.header("etag")) == (304, tag)
    assert answer.header("cache-control") == PUBLIC
    assert site.ask("/rankings/kospi", accept, 'If-None-Match: "other"').status == 200


def test_a_range_is_206_and_one_past_the_end_416(site: Behind) -> None:
    whole = site.ask("/rankings/kospi").body
    part = site.ask("/rankings/kospi", "Range: bytes=5-14")
    assert (part.status, part.body) == (206, whole[5:15])
    assert part.header("content-range") == f"bytes 5-14/{len(whole)}"
    assert site.ask("/rankings/kospi", "Range: bytes=999999-").status == 416


@pytest.mark.parametrize("target", ["/", "/rankings/kospi", "/top/kospi"])
@pytest.mark.parametrize("query", ["utm_source=a&utm_medium=b", "gclid=x", "fbclid=&mc_eid=1", "utm_id="])
def test_a_tracking_query_is_the_same_page(site: Behind, target: str, query: str) -> None:
    answer = site.ask(f"{target}?{query}")
    assert answer.status == 200
    assert hashlib.sha256(answer.body).digest() == digest(site, target)


@pytest.mark.parametrize("query", ["x=1", "utm_source=a&x=1", "n=10", "utm_source=a&&x", "=", "gclidx=1", "Gclid=1"])
def test_an_unknown_query_is_the_apps(site: Behind, query: str) -> None:
    answer = site.ask(f"/rankings/kospi?{query}")
    assert (answer.status, answer.body) == (404, b"the app has no such page")
    assert "public" not in (answer.header("cache-control") or "")


@pytest.mark.parametrize("target", ["/me", "/me?x=1", "/me?utm_source=a"])
def test_a_personal_page_is_nobody_elses(site: Behind, target: str) -> None:
    for name in ("abc", "xyz"):
        answer = site.ask(target, f"Cookie: session={name}")
        assert (answer.status, answer.body) == (200, f"me: session={name}".encode())
        assert answer.header("cache-control") == "private, no-store"
        assert answer.header("set-cookie") == "session=abc; Path=/; HttpOnly"
    assert site.ask(target).body == b"me: nobody"


def test_a_cookie_keeps_nobody_from_a_hot_page(site: Behind) -> None:
    for target in HOT:
        answer = site.ask(target, "Cookie: theme=dark")
        assert hashlib.sha256(answer.body).digest() == digest(site, target)


@pytest.mark.parametrize("target", HOT)
def test_with_the_cookie_of_bypass_the_app_answers(site: Behind, target: str) -> None:
    answer = site.ask(target, "Cookie: theme=dark; sessionid=1")
    assert json.loads(answer.body)["fields"]["cookie"] == "theme=dark; sessionid=1"
    again = site.ask(target, "Cookie: sessionid=2")
    assert json.loads(again.body)["fields"]["cookie"] == "sessionid=2"
    assert hashlib.sha256(site.ask(target).body).digest() == digest(site, target)


def test_what_the_app_sees_of_the_client_cannot_be_forged(site: Behind) -> None:
    forged = ("X-Forwarded-For: 10.1.1.1", "X-Forwarded-Host: evil.example", "X-Forwarded-Proto: https")
    for fields in ((), forged):
        seen = site.seen("/seen", *fields)
        assert seen["host"] == seen["x-forwarded-host"] == "example.org:8080"
        assert seen["x-forwarded-for"] == "127.0.0.1"
        assert seen["x-forwarded-proto"] == "http"


@pytest.mark.parametrize("target", ["/seen/a%2Fb/%ED%95%9C?q=%2F&q=a+b&&c", "/seen//x", "/seen/x/?utm_source=a"])
def test_the_target_reaches_the_app_as_it_was_sent(site: Behind, target: str) -> None:
    path, _, query = target.partition("?")
    found = json.loads(site.ask(target).body)
    assert (found["path"], found["query"]) == (path, query)


@pytest.mark.parametrize("target", HOT)
def test_post_on_a_hot_path_is_the_apps(site: Behind, target: str) -> None:
    found = json.loads(site.ask(target, "Content-Type: text/plain", method="POST", body=b"form").body)
    assert (found["method"], found["path"]) == ("POST", target.partition("?")[0])
    assert found["fields"]["content-length"] == "4"


def test_a_redirect_of_the_app_leads_to_the_public_host(site: Behind) -> None:
    answer = site.ask("/moved")
    assert (answer.status, answer.header("location")) == (302, "http://example.org:8080/rankings/kospi")


@pytest.mark.parametrize(
    "target",
    [
        *("/none", "/rankings/none", "/rankings", "/rankings/", "/rankings/kospi/", "/index", "/index.html"),
        *("/index.html.gz", "/rankings/kospi.json", "/rankings/kospi.json.gz", "/top/kospi@10", "/top/kospi@10.json"),
        *("//", "/./", "//rankings/kospi", "/x/../rankings/kospi", "/rankings%2Fkospi", "/.none", "/none?"),
        "/none/generations/1/files/index.html",
    ],
)
def test_what_is_no_page_of_hotpath_is_the_apps_404(site: Behind, target: str) -> None:
    answer = site.ask(target)
    assert (answer.status, answer.body) == (404, b"the app has no such page")
    assert "public" not in (answer.header("cache-control") or "")


def test_the_last_good_answer_stands_in_for_the_app_and_never_a_personal_one(
    site: Behind, slow_client: Callable[..., Response]
) -> None:
    if site.program == "caddy":
        pytest.skip("Debian's Caddy keeps no answers")
    assert site.ask("/news").body == b"news for all"
    assert site.ask("/news", "Cookie: session=abc").body == b"news for session=abc"
    assert site.ask("/news", "Authorization: Basic eDp5").body == b"news for all"
    assert site.ask("/me").body == b"me: nobody"
    site.kill()
    try:
        time.sleep(1.2)
        assert (site.ask("/news").status, site.ask("/news").body) == (200, b"news for all")
        with ThreadPoolExecutor() as pool:
            answers = list(pool.map(slow_client, ("/me", "/news"), ("X-Nothing: 1", "Cookie: session=abc")))
        for answer in answers:
            assert (answer.status, answer.header("retry-after")) == (503, "5")
            assert answer.header("cache-control") == "no-store"
    finally:
        site.start()
    assert site.ask("/news", "Cookie: session=abc").body == b"news for session=abc"
    assert site.ask("/news").status == 200


def test_while_the_app_is_dead_hot_pages_are_200_and_a_post_is_503(
    dead: Behind, slow_client: Callable[..., Response]
) -> None:
    for target in [*HOT, "/?utm_source=a", "/top/kospi?gclid=1"]:
        answer = dead.ask(target)
        assert answer.status == 200
        assert answer.header("cache-control") == PUBLIC
        with_cookie = dead.ask(target, "Cookie: theme=dark")
        assert (with_cookie.status, with_cookie.body) == (200, answer.body)
        assert dead.ask(target, f"If-None-Match: {answer.header('etag')}").status == 304
        assert dead.ask(target, method="HEAD").status == 200
    answer = slow_client("/seen", method="POST", body=b"x")
    assert answer.status == 503
    assert answer.header("retry-after") == "5"
    assert answer.header("cache-control") == "no-store"


def test_a_cold_request_waits_for_the_app(site: Behind, slow_client: Callable[..., Response]) -> None:
    """Varnish cannot wait: there the front does."""
    if site.program == "varnish":
        pytest.skip("Varnish has no way to wait; the front, or systemd's socket, has")
    site.kill()
    starter = threading.Timer(1.0, site.start)
    starter.start()
    try:
        answer = slow_client("/me", "Cookie: session=abc")
        assert (answer.status, answer.body) == (200, b"me: session=abc")
    finally:
        starter.join()


def test_fifty_generations_under_load_never_mix(site: Behind) -> None:
    """Every answer is whole and of one generation, and a tag stands for the same bytes, but for Caddy's in a swap."""
    asked = ("/only/hotpath", "/rankings/kospi", "/")
    ended = threading.Event()
    answers: list[tuple[str, Response]] = []
    errors: list[Exception] = []

    def ask() -> None:
        while not ended.is_set():
            for target in asked:
                try:
                    answers.append((target, site.ask(target)))
                except (OSError, ConnectionEnded) as error:
                    errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        bodies = publish_fifty(site, asked)
    finally:
        ended.set()
        for thread in threads:
            thread.join(20)
    assert errors == []
    assert {answer.status for _, answer in answers} == {200}
    assert len(answers) > 300
    tags: dict[tuple[str, str | None], set[bytes]] = {}
    for target, answer in answers:
        assert answer.body in bodies[target]
        tags.setdefault((target, answer.header("etag")), set()).add(answer.body)
    torn = [sorted(bodies[target].index(body) for body in seen) for (target, _), seen in tags.items() if len(seen) > 1]
    if site.program == "caddy":
        # It looks at a file, swapped then, and opens another: the tag is of the generation before.
        assert [numbers for numbers in torn if numbers[-1] - numbers[0] > 1] == []
        assert len(torn) <= 3
    else:
        assert torn == []
    for target in asked:
        assert site.ask(target).body == bodies[target][-1]


def publish_fifty(site: Behind, targets: tuple[str, ...]) -> dict[str, list[bytes]]:
    """The bodies that ``targets`` had, in the order of the generations; Varnish is told what changed."""
    store = site.store
    first = store.read_manifest(store.chosen_sequence())
    files = store.files_path(store.chosen_sequence())
    first_bodies = {key: (files / item.identity.file).read_bytes() for key, item in first.items.items()}
    bodies = {target: [first_bodies[target]] for target in targets}
    for number in range(50):
        with staging(store) as stage:
            for key, item in first.items.items():
                # A length of its own: nginx and Caddy make tags of length and second.
                body = first_bodies[key] + b"<!-- %02d -->" % number + b" " * number
                stage.add(key, item.identity.file, body, item.policy)
                if key in bodies:
                    bodies[key].append(body)
            stage.publish()
        if site.program == "varnish":
            # The app looks at the store ten times a second.
            time.sleep(0.15)
            urls = [f"http://{HOST.split(': ')[1]}{target}" for target in targets]
            purged = Varnish(f"http://127.0.0.1:{site.front}").purge(urls)
            assert (purged.urls, purged.problem) == (len(targets), None)
    time.sleep(0.5)
    return bodies


@pytest.mark.parametrize("program", ["nginx", "caddy", "varnish"])
def test_a_trusted_proxy_says_who_the_client_is(program: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    site = Behind("fastapi", tmp_path, *two_ports(), program=program)
    facts = replace(site.facts, trust=("127.0.0.1/32",))
    assert site.build().returncode == 0
    with served(program, facts, tmp_path, site.front):
        try:
            site.start()
            seen = site.seen("/seen", "X-Forwarded-For: 10.1.1.1", "X-Forwarded-Proto: https")
        finally:
            site.kill()
    assert seen["x-forwarded-for"].split(",")[0] == "10.1.1.1"
    assert seen["x-forwarded-proto"] == "https"
