"""``--fresh`` from outside: an ordinary shared cache; and that without it nothing is served while the app answers."""

from __future__ import annotations

import asyncio
import http.client
import itertools
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.front.failing_origin import Origin, Request, Script, answer
from tests.front.forwarding import Reply, wait_until
from tests.front.last_good import another_port, front, origin
from tests.front.last_good_scenarios import ask, recover
from tests.front.personal_site import read_answer
from tests.front.serving import make_site

pytestmark = pytest.mark.slow

CLIENTS = 1000
TOKEN = "secret"
# Answers that come without the app come in less time than this, also on a busy machine.
SOON_SECONDS = 0.7
_PAGES = itertools.count()
BODY = bytes(range(48, 112)) * 10


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_site(Path(tmp_path_factory.mktemp("fresh")) / "site")


class Numbered:
    """An app whose answers to a target are numbered: 1 is the first."""

    def __init__(self, fields: Mapping[str, str], *, delay: float = 0.0) -> None:
        self.fields, self.delay = dict(fields), delay
        self.numbers = itertools.count(1)

    def __call__(self, request: Request) -> Script:
        return answer(b"%d" % next(self.numbers), self.fields, delay=self.delay)


@dataclass(frozen=True, slots=True)
class Fresh:
    """A front that all tests of this file share; each has a page of its own."""

    port: int
    admin: str
    page: str = ""

    @property
    def other(self) -> str:
        return f"{self.page}/other"


@pytest.fixture(scope="module")
def shared(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Origin, Fresh]]:
    state, admin = tmp_path_factory.mktemp("state"), f"127.0.0.1:{another_port()}"
    environ = {"HOTPATH_STATE": str(state), "HOTPATH_ADMIN_TOKEN": TOKEN}
    options = ("--fresh", "--patience", "5s", "--admin", admin)
    with origin() as app, front(site, app, *options, environ=environ) as started:
        yield app, Fresh(started.port, admin)


@pytest.fixture
def app(shared: tuple[Origin, Fresh]) -> Iterator[Origin]:
    app, fresh = shared
    app.seen.clear()
    yield app
    app.scripts.clear()
    recover(app, fresh.port)


@pytest.fixture
def fresh(shared: tuple[Origin, Fresh], app: Origin) -> Fresh:
    return replace(shared[1], page=f"/page-{next(_PAGES)}")


@pytest.fixture
def alone() -> Iterator[Origin]:
    """An app for a front of the test's own."""
    with origin() as app:
        yield app


def get(fresh: Fresh, target: str = "", **fields: str) -> Reply:
    return ask(
        fresh.port, "GET", target or fresh.page, {name.replace("_", "-"): value for name, value in fields.items()}
    )


def bodies(fresh: Fresh, count: int, target: str = "", **fields: str) -> list[bytes]:
    return [get(fresh, target, **fields).body for _ in range(count)]


@pytest.mark.parametrize(
    "control", ["max-age=3600", "public, max-age=3600", "s-maxage=3600", "max-age=3600, stale-while-revalidate=3600"]
)
def test_without_it_nothing_is_served_while_the_app_answers(site: Path, alone: Origin, control: str) -> None:
    alone.reply = Numbered({"Cache-Control": control, "ETag": '"x"'})
    with front(site, alone) as started:
        replies = [ask(started.port, "GET", "/page", {}) for _ in range(5)]
    assert [reply.body for reply in replies] == [b"1", b"2", b"3", b"4", b"5"]
    assert not any("; hit" in (reply["cache-status"] or "") for reply in replies)


@pytest.mark.parametrize(
    ("fields", "is_reused"),
    [
        ({"Cache-Control": "max-age=60"}, True),
        ({"Cache-Control": "s-maxage=60, max-age=0"}, True),
        ({"Cache-Control": "max-age=60, s-maxage=0"}, False),
        ({"Cache-Control": "MAX-AGE=60"}, True),
        ({"Cache-Control": 'max-age="60"'}, None),
        ({"Cache-Control": "max-age=0"}, False),
        ({"Cache-Control": "max-age=60, max-age=0"}, False),
        ({"Cache-Control": "max-age=-60"}, False),
        ({"Cache-Control": "max-age=99999999999999999999"}, True),
        ({"Cache-Control": "no-cache, max-age=60"}, False),
        ({"Cache-Control": "no-store, max-age=60"}, False),
        ({"Cache-Control": "private, max-age=60"}, False),
        ({"Cache-Control": "max-age=60", "Set-Cookie": "a=b"}, False),
        ({"Cache-Control": "max-age=60", "Vary": "*"}, False),
        ({"Cache-Control": "max-age=60", "Age": "100"}, False),
        ({"Cache-Control": "max-age=60, must-revalidate"}, True),
        ({"Expires": "Fri, 01 Jan 2038 00:00:00 GMT"}, True),
        ({"Expires": "Thu, 01 Jan 1970 00:00:00 GMT"}, False),
        ({"Expires": "0"}, False),
        ({"Expires": "Fri, 01 Jan 2038 00:00:00 GMT", "Cache-Control": "max-age=0"}, False),
        ({"CDN-Cache-Control": "max-age=60", "Cache-Control": "no-store"}, True),
        ({"CDN-Cache-Control": "no-store", "Cache-Control": "max-age=60"}, False),
        ({}, False),
    ],
    ids=lambda value: "; ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else None,
)
def test_what_is_reused(fresh: Fresh, app: Origin, fields: dict[str, str], is_reused: bool | None) -> None:
    app.reply = Numbered(fields)
    came = bodies(fresh, 3)
    if is_reused is None:
        assert came in ([b"1"] * 3, [b"1", b"2", b"3"])
    else:
        assert came == ([b"1"] * 3 if is_reused else [b"1", b"2", b"3"])


@pytest.mark.parametrize(
    ("fields", "is_reused"),
    [
        ({}, True),
        ({"Accept": "text/plain"}, True),
        ({"Cookie": "_ga=1"}, True),
        ({"Cookie": "session=1"}, False),
        ({"Authorization": "Bearer 1"}, False),
        ({"Cache-Control": "no-cache"}, False),
        ({"Pragma": "no-cache"}, False),
        ({"Cache-Control": "no-store"}, False),
        ({"Cache-Control": "only-if-cached"}, True),
    ],
    ids=str,
)
def test_who_gets_what_is_there(fresh: Fresh, app: Origin, fields: dict[str, str], is_reused: bool) -> None:
    app.reply = Numbered({"Cache-Control": "public, max-age=60"})
    assert get(fresh).body == b"1"
    reply = ask(fresh.port, "GET", fresh.page, fields)
    if is_reused:
        assert (reply.body, reply["age"] is not None) == (b"1", True)
        assert (reply["cache-status"] or "").startswith("hotpath; hit; ttl=")
    else:
        assert (reply.status, reply.body) == (200, b"2")


def test_only_if_cached_and_nothing_is(fresh: Fresh, app: Origin) -> None:
    assert get(fresh, Cache_Control="only-if-cached").status == 504
    assert not app.asked(fresh.page)


def test_age_counts(fresh: Fresh, app: Origin) -> None:
    app.reply = Numbered({"Cache-Control": "max-age=60", "Age": "10"})
    get(fresh)
    time.sleep(2.1)
    assert int(get(fresh)["age"] or 0) in (12, 13)
    # Who wants a younger one gets it.
    assert get(fresh, Cache_Control="max-age=5").body == b"2"


async def _crowd(fresh: Fresh, count: int, fields: Mapping[str, str] | None = None) -> Counter[bytes]:
    """What so many clients get, who ask at the same time."""
    lines = [
        f"GET {fresh.page} HTTP/1.1",
        "Host: site.test",
        *(f"{name}: {value}" for name, value in (fields or {}).items()),
    ]
    streams = [await asyncio.open_connection("127.0.0.1", fresh.port) for _ in range(count)]
    for _, writer in streams:
        writer.write("\r\n".join([*lines, "", ""]).encode())
    answers = [await asyncio.wait_for(read_answer(reader, "GET"), 30) for reader, _ in streams]
    for _, writer in streams:
        writer.close()
    assert {came.status for came in answers} == {200}
    return Counter(came.body for came in answers)


def test_a_thousand_clients_are_one_request(fresh: Fresh, app: Origin) -> None:
    app.reply = Numbered({"Cache-Control": "max-age=60"}, delay=1.0)
    assert asyncio.run(_crowd(fresh, CLIENTS)) == {b"1": CLIENTS}
    assert len(app.asked(fresh.page)) == 1


@pytest.mark.parametrize("fields", [{"Cache-Control": "private"}, {"Cache-Control": "no-store"}, {"Set-Cookie": "a=b"}])
def test_what_is_not_kept_is_shared_with_nobody(fresh: Fresh, app: Origin, fields: dict[str, str]) -> None:
    app.reply = Numbered(fields, delay=0.3)
    came = asyncio.run(_crowd(fresh, 60))
    assert came == dict.fromkeys(came, 1)
    assert len(app.asked(fresh.page)) == 60


def test_who_has_a_session_is_not_in_the_flight(fresh: Fresh, app: Origin) -> None:
    app.reply = Numbered({"Cache-Control": "max-age=60"}, delay=0.3)
    came = asyncio.run(_crowd(fresh, 30, {"Cookie": "session=1"}))
    assert came == dict.fromkeys(came, 1)


def test_a_flight_that_fails_lets_the_others_go(fresh: Fresh, app: Origin) -> None:
    failures = itertools.count()

    def reply(request: Request) -> Script:
        if next(failures) < 2:
            return Script(then="close", delay=0.3)
        return answer(b"good", {"Cache-Control": "max-age=60"})

    app.reply = reply
    with ThreadPoolExecutor(20) as pool:
        replies = [*pool.map(lambda _: get(fresh), range(20))]
    assert Counter(reply.status for reply in replies)[200] >= 19


def test_a_page_is_made_anew_in_the_background(fresh: Fresh, app: Origin) -> None:
    app.reply = Numbered({"Cache-Control": "max-age=1, stale-while-revalidate=60"})
    connection = http.client.HTTPConnection("127.0.0.1", fresh.port, timeout=10)

    def once() -> tuple[bytes, float]:
        began = time.monotonic()
        connection.request("GET", fresh.page, headers={"Host": "site.test"})
        return connection.getresponse().read(), time.monotonic() - began

    assert once()[0] == b"1"
    time.sleep(2.2)
    app.reply = Numbered({"Cache-Control": "max-age=60"}, delay=1.5)
    app.seen.clear()
    for _ in range(5):  # on one connection, so that none of them is held
        body, seconds = once()
        assert body == b"1"
        assert seconds < SOON_SECONDS
    connection.close()
    time.sleep(2)
    assert len(app.seen) == 1
    app.reply = Numbered({}, delay=0)
    assert get(fresh)["age"] is not None
    assert len(app.seen) == 1


def test_a_failing_app_while_it_is_fresh_costs_nothing(fresh: Fresh, app: Origin) -> None:
    app.reply = Numbered({"Cache-Control": "max-age=60"})
    get(fresh)
    app.refuse()
    began = time.monotonic()
    assert bodies(fresh, 20) == [b"1"] * 20
    assert time.monotonic() - began < SOON_SECONDS * 4


def test_validation(fresh: Fresh, app: Origin) -> None:
    def reply(request: Request) -> Script:
        fields = {"Cache-Control": "max-age=0", "ETag": '"one"', "X-Count": str(len(app.seen))}
        if request.fields.get("if-none-match") == '"one"':
            return answer(b"", fields, 304)
        return answer(BODY, fields)

    app.reply = reply
    assert get(fresh).body == BODY
    again = get(fresh)
    assert (again.status, again.body, again["x-count"]) == (200, BODY, "2")
    assert app.seen[-1].fields["if-none-match"] == '"one"'
    assert get(fresh, If_None_Match='"one"').status == 304
    other = get(fresh, If_None_Match='"other"')
    assert (other.status, other.body) == (200, BODY)
    part = get(fresh, Range="bytes=0-3")
    assert (part.status, part.body) in ((206, BODY[:4]), (200, BODY))


def test_conditions_and_ranges_are_answered_from_a_stored_body(fresh: Fresh, app: Origin) -> None:
    fields = {"Cache-Control": "max-age=60", "ETag": '"one"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
    app.reply = lambda request: answer(BODY, fields)
    get(fresh)
    cases = [
        ({"If-None-Match": '"one"'}, 304, b""),
        ({"If-None-Match": 'W/"one"'}, 304, b""),
        ({"If-None-Match": '"two", "one"'}, 304, b""),
        ({"If-None-Match": "*"}, 304, b""),
        ({"If-None-Match": '"two"'}, 200, BODY),
        ({"If-Modified-Since": "Thu, 01 Jan 2026 00:00:00 GMT"}, 304, b""),
        ({"If-Modified-Since": "Wed, 31 Dec 2025 00:00:00 GMT"}, 200, BODY),
        ({"If-None-Match": '"two"', "If-Modified-Since": "Thu, 01 Jan 2026 00:00:00 GMT"}, 200, BODY),
        ({"If-None-Match": '"one"', "Range": "bytes=0-3"}, 304, b""),
        ({"Range": "bytes=0-3"}, 206, BODY[:4]),
        ({"Range": "bytes=-5"}, 206, BODY[-5:]),
        ({"Range": "bytes=600-"}, 206, BODY[600:]),
        ({"Range": "bytes=0-3", "If-Range": '"one"'}, 206, BODY[:4]),
        ({"Range": "bytes=0-3", "If-Range": '"two"'}, 200, BODY),
        ({"Range": "bytes=0-3", "If-Range": 'W/"one"'}, 200, BODY),
        ({"Range": "bytes=9000-"}, 416, b""),
        ({"Range": "lines=0-3"}, 200, BODY),
        ({"Range": "bytes=3-0"}, 200, BODY),
    ]
    for sent, status, body in cases:
        reply = ask(fresh.port, "GET", fresh.page, sent)
        assert (reply.status, reply.body) == (status, body), sent
        assert reply["age"] is not None or status == 416
    head = ask(fresh.port, "HEAD", fresh.page, {})
    assert (head.status, head.body, head["content-length"]) == (200, b"", str(len(BODY)))
    assert len(app.seen) == 1


def test_variants_live_side_by_side(fresh: Fresh, app: Origin) -> None:
    def reply(request: Request) -> Script:
        body = request.fields.get("accept-language", "none").encode()
        return answer(body, {"Cache-Control": "max-age=60", "Vary": "Accept-Language"})

    app.reply = reply
    for _ in range(2):
        assert [get(fresh, Accept_Language=language).body for language in ("en", "de", "fr")] == [b"en", b"de", b"fr"]
        assert get(fresh).body == b"none"
    assert len(app.seen) == 4


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "MKCOL"])
@pytest.mark.parametrize("status", [200, 201, 204, 303, 400, 500])
def test_unsafe_methods_invalidate(fresh: Fresh, app: Origin, method: str, status: int) -> None:
    app.reply = Numbered({"Cache-Control": "max-age=60"})
    assert bodies(fresh, 2) == [b"1", b"1"]
    app.scripts[fresh.page] = answer(b"" if status == 204 else b"done", {}, status)
    ask(fresh.port, method, fresh.page, {"Content-Length": "0"} if method != "POST" else {})
    del app.scripts[fresh.page]
    assert get(fresh).body == (b"2" if status < 400 else b"1")


@pytest.mark.parametrize(
    ("name", "value", "is_gone"),
    [
        ("Location", "{page}", True),
        ("Content-Location", "http://site.test{page}", True),
        ("Location", "http://other.test{page}", False),
        ("Location", "https://site.test{page}", False),
        ("Location", "/other", False),
        ("Location", "http://[", False),
    ],
)
def test_locations_of_the_same_site_are_invalid_too(
    fresh: Fresh, app: Origin, name: str, value: str, is_gone: bool
) -> None:
    app.reply = Numbered({"Cache-Control": "max-age=60"})
    assert get(fresh).body == b"1"
    app.scripts["/form"] = answer(b"", {name: value.replace("{page}", fresh.page)}, 201)
    assert ask(fresh.port, "POST", "/form", {}).status == 201
    assert get(fresh).body == (b"2" if is_gone else b"1")


def purge(admin: str, query: str, token: str | None = TOKEN, method: str = "POST") -> int:
    fields = {} if token is None else {"Authorization": f"Bearer {token}"}
    return ask(int(admin.rpartition(":")[2]), method, f"/purge?{query}", fields).status


def test_purge_by_url(fresh: Fresh, app: Origin) -> None:
    app.reply = Numbered({"Cache-Control": "max-age=60"})
    assert [*bodies(fresh, 2), *bodies(fresh, 2, fresh.other)] == [b"1", b"1", b"2", b"2"]
    url = f"url=http://site.test{fresh.page}"
    assert [purge(fresh.admin, url, token) for token in (None, "", "wrong", TOKEN + "x")] == [401] * 4
    assert purge(fresh.admin, url, method="GET") == 405
    assert get(fresh).body == b"1"
    assert purge(fresh.admin, url) == 200
    assert get(fresh).body == b"3"
    assert get(fresh, fresh.other).body == b"2"
    assert [purge(fresh.admin, query) for query in ("", "url=nonsense", "url=http://a&tag=b")] == [400] * 3


@pytest.mark.parametrize(
    ("field", "value"), [("Surrogate-Key", "news sport"), ("Cache-Tag", "news,sport"), ("Cache-Tag", "news , sport")]
)
def test_purge_by_tag(fresh: Fresh, app: Origin, field: str, value: str) -> None:
    value = value.replace("sport", fresh.page[1:])
    app.reply = Numbered({"Cache-Control": "max-age=60", field: value})
    assert get(fresh).body == b"1"
    assert get(fresh, fresh.other).body == b"2"
    app.reply = Numbered({"Cache-Control": "max-age=60", field: "weather"})
    assert get(fresh, fresh.page + "/weather").body == b"1"
    assert purge(fresh.admin, "tag=politics") == 200
    assert get(fresh).body == b"1"
    assert purge(fresh.admin, f"tag={fresh.page[1:]}") == 200
    assert [get(fresh).body, get(fresh, fresh.other).body, get(fresh, fresh.page + "/weather").body] == [
        b"2",
        b"3",
        b"1",
    ]


def test_purge_is_not_on_the_public_port(fresh: Fresh, app: Origin) -> None:
    app.reply = Numbered({"Cache-Control": "max-age=60"})
    assert get(fresh).body == b"1"
    ask(fresh.port, "POST", f"/purge?url=http://site.test{fresh.page}", {"Authorization": f"Bearer {TOKEN}"})
    ask(fresh.port, "PURGE", "/elsewhere", {})
    assert get(fresh).body == b"1"


def test_purge_without_a_token_is_off(site: Path, alone: Origin) -> None:
    admin = f"127.0.0.1:{another_port()}"
    with front(site, alone, "--fresh", "--admin", admin, environ={"HOTPATH_ADMIN_TOKEN": ""}):
        assert [purge(admin, "tag=x", token) for token in (None, "", TOKEN)] == [403] * 3


@pytest.mark.parametrize("option", [(), ("--fresh",)], ids=["default", "fresh"])
def test_a_stream_is_not_held_back(site: Path, alone: Origin, option: tuple[str, ...]) -> None:
    """Server-sent events come one by one, whatever is kept of them."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    alone.scripts["/events"] = Script(head + b"7\r\ndata: 1\r\n", "hang")
    with front(site, alone, *option) as started, socket.create_connection(("127.0.0.1", started.port), 10) as sock:
        sock.sendall(b"GET /events HTTP/1.1\r\nHost: site.test\r\n\r\n")
        data = b""
        until = time.monotonic() + 5
        while b"data: 1" not in data:
            sock.settimeout(max(0.01, until - time.monotonic()))
            data += sock.recv(1000)


def test_clients_that_leave_a_flight(fresh: Fresh, app: Origin) -> None:
    app.reply = Numbered({"Cache-Control": "max-age=60"}, delay=0.8)
    with socket.create_connection(("127.0.0.1", fresh.port), 10) as first:
        first.sendall(f"GET {fresh.page} HTTP/1.1\r\nHost: site.test\r\n\r\n".encode())
        wait_until(lambda: len(app.seen) == 1)
        came: list[Reply] = []
        others = [threading.Thread(target=lambda: came.append(get(fresh))) for _ in range(5)]
        for thread in others:
            thread.start()
        time.sleep(0.2)
    for thread in others:
        thread.join(10)
    assert [reply.status for reply in came] == [200] * 5
    assert len(app.seen) <= 2


def test_a_slow_page_is_no_crowd(site: Path, alone: Origin) -> None:
    """Where it takes longer than the patience, one more goes after each patience, and not all that wait."""
    alone.reply = Numbered({"Cache-Control": "max-age=60"}, delay=2)
    with front(site, alone, "--fresh", "--patience", "0.5s", "--hold", "8s") as started:
        asyncio.run(_crowd(Fresh(started.port, "", f"/{time.time_ns()}"), 100))
        assert len(alone.seen) <= 2 / 0.5 + 1


@pytest.mark.parametrize("change", ["post", "purge by url", "purge by tag"])
def test_an_answer_from_before_a_change_is_not_kept(fresh: Fresh, app: Origin, change: str) -> None:
    tag = fresh.page[1:]
    fields = {"Cache-Control": "max-age=60", "Cache-Tag": tag}
    app.scripts[fresh.page] = answer(b"old", fields, delay=1.2)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(get, fresh)
        wait_until(lambda: app.asked(fresh.page))
        app.scripts[fresh.page] = answer(b"new", fields)
        if change == "post":
            assert ask(fresh.port, "POST", fresh.page, {}).status == 200
        else:
            url = f"http://site.test{fresh.page}"
            assert purge(fresh.admin, f"url={url}" if change == "purge by url" else f"tag={tag}") == 200
        assert slow.result().body == b"old"
    assert get(fresh).body == b"new"


def test_large_heads_and_long_urls(fresh: Fresh, app: Origin) -> None:
    fields = {"Cache-Control": "max-age=60", "X-Large": "x" * 60_000}
    for target in (fresh.page, f"{fresh.page}?{'x' * 8000}"):
        app.scripts[target] = answer(b"good", fields)
        replies = [get(fresh, target) for _ in range(2)]
        assert [(reply.status, reply.body, len(reply["x-large"] or "")) for reply in replies] == [
            (200, b"good", 60_000)
        ] * 2
        assert len(app.asked(target)) == 1
    longer = f"{fresh.page}?{'x' * 20_000}"
    app.scripts[longer] = answer(b"good", fields)
    assert [get(fresh, longer).status for _ in range(2)] == [200, 200]
