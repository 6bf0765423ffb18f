"""The lines that one request cannot show: swaps, rollbacks, torn files, faults. Each name begins with its line."""

from __future__ import annotations

import asyncio
import gzip
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

import pytest

from hotpath.asgi.middleware import HotpathMiddleware
from hotpath.batch.run import build
from hotpath.errors import DeclarationError, HotpathError, ItemError, NothingPublished
from hotpath.pages.codings import Coding
from hotpath.pages.payload import encode_payload
from hotpath.serving import reader_of
from hotpath.site import Hotpath
from hotpath.testing import FakeClock, Response
from tests.guard.fakes import Rigged
from tests.wire.conformance.cases import APP, ASKED, DATE, LATER_DATE, PUBLISHED, ROWS, PageData
from tests.wire.conformance.site import Headers, Site, ask, make_scope, make_site, publish, the_app, wire_faults

pytestmark = pytest.mark.usefixtures("items_in_this_process")

ONE: Mapping[str, PageData] = {"/a": PageData(b'{"n":1}'), "/b": PageData(ROWS)}
TWO: Mapping[str, PageData] = {"/a": PageData(b'{"n":2,"longer":true}'), "/b": PageData(ROWS)}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = make_site(tmp_path / "hot", pages=ONE)
    yield made
    reader_of(made.hot).close()


def get(site: Site, target: str, headers: Headers | None = None, **scope: Any) -> Response:
    return asyncio.run(ask(site.app, make_scope("GET", target, headers or [], scope)))


def another_process(site: Site, asked: float = ASKED) -> Site:
    """The same store as a second worker reads it."""
    hot = Hotpath(site.hot.store.root, refresh=3600)
    reader_of(hot).loader.clock = FakeClock(asked)
    reader_of(hot).start()
    return Site(hot, HotpathMiddleware(the_app, hot=hot), site.items)


def test_line_02_the_tag_survives_workers_restarts_and_generations(site: Site) -> None:
    """RFC 9110 §8.8.3."""
    first = get(site, "/b").header("etag")
    publish(site.hot, TWO)
    reader_of(site.hot).refresh()
    assert get(site, "/b").header("x-hotpath-generation") == "2"
    assert get(site, "/b").header("etag") == first
    other = another_process(site)
    assert get(other, "/b").header("etag") == first
    reader_of(other.hot).close()


def test_line_02_the_tag_is_another_when_a_byte_is(site: Site) -> None:
    """RFC 9110 §8.8.1: a strong validator changes whenever the representation does."""
    before = get(site, "/a")
    publish(site.hot, TWO)
    reader_of(site.hot).refresh()
    after = get(site, "/a")
    assert after.header("etag") != before.header("etag")
    again = get(site, "/a", [(b"if-none-match", (before.header("etag") or "").encode())])
    assert (again.status, again.body) == (200, TWO["/a"].body)


def test_line_02_a_rollback_brings_the_old_tag_back(site: Site) -> None:
    """RFC 9110 §8.8.3."""
    before = get(site, "/a")
    publish(site.hot, TWO)
    reader_of(site.hot).refresh()
    site.hot.store.rollback()
    reader_of(site.hot).refresh()
    after = get(site, "/a")
    assert (after.header("etag"), after.body) == (before.header("etag"), before.body)
    assert get(site, "/a", [(b"if-none-match", (before.header("etag") or "").encode())]).status == 304


def test_line_03_bytes_that_stay_keep_their_date(site: Site) -> None:
    """RFC 9110 §8.8.2."""
    site.hot.store.clock = FakeClock(PUBLISHED + 1)
    publish(site.hot, TWO)
    reader_of(site.hot).refresh()
    assert get(site, "/b").header("last-modified") == DATE
    assert get(site, "/a").header("last-modified") == LATER_DATE


def test_line_03_a_clock_that_went_back_gives_no_date_ahead(site: Site) -> None:
    """RFC 9110 §8.8.2.1: Last-Modified is never later than Date."""
    site.hot.store.clock = FakeClock(PUBLISHED - 3600)
    publish(site.hot, ONE)
    worker = another_process(site, asked=PUBLISHED - 3600)
    assert get(worker, "/b").header("last-modified") == "Fri, 15 Jan 2027 07:00:00 GMT"
    reader_of(worker.hot).close()


@pytest.mark.parametrize(
    "lie",
    [
        Coding("gzip", lambda data: gzip.compress(data[:-1], mtime=0), gzip.decompress),
        Coding("gzip", lambda data: gzip.compress(b"other", mtime=0), gzip.decompress),
    ],
    ids=["a byte short", "other bytes"],
)
def test_line_06_a_coding_of_other_bytes_is_never_published(
    lie: Coding, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 9110 §8.4: a coding must decode to the representation."""
    hot = Hotpath(tmp_path / "hot")
    monkeypatch.setattr("hotpath.store.publish.available", lambda: (lie,))
    with pytest.raises(HotpathError, match="does not decode"):
        publish(hot, ONE)
    with pytest.raises(NothingPublished):
        hot.store.choose()


@pytest.mark.parametrize("raw_path", [None, b""])
def test_line_18_a_raw_path_that_says_nothing_costs_no_answer(site: Site, raw_path: bytes | None) -> None:
    """ASGI: raw_path is optional and may be None."""
    scope = {**make_scope("GET", "/a", [], {}), "raw_path": raw_path}
    answer = asyncio.run(ask(site.app, scope))
    assert (answer.status, site.app.internal_errors) in ((200, 0), (APP, 0))
    assert raw_path is not None or answer.status == 200


def test_line_18_no_request_makes_a_path_on_disk(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 9110 §17.3: what is served is looked up among the keys; the disk is not asked about a name from outside."""

    def touched(*_: object) -> bytes:
        raise AssertionError("the store was read for a request")

    get(site, "/a")
    for name in ("read", "exists", "open", "stat"):
        if hasattr(site.hot.store.disk, name):
            monkeypatch.setattr(site.hot.store.disk, name, touched)
    for target in ("/", "/c", "/manifest.json", "/../manifest.json", "/%2e%2e/current", "/0.bin", "/files/0.bin"):
        assert get(site, target).status == APP
    assert get(site, "/a").status == 200
    assert site.app.internal_errors == 0


def test_line_22_bypass_sends_what_a_site_wants_otherwise_to_the_app(site: Site) -> None:
    """RFC 9111 §3.5: a hot route is public by declaration, unless the site says when it is not."""
    app = HotpathMiddleware(the_app, hot=site.hot, bypass=lambda scope: b"authorization" in dict(scope["headers"]))
    scope = make_scope("GET", "/a", [(b"authorization", b"Bearer x")], {})
    assert asyncio.run(ask(app, scope)).status == APP
    assert asyncio.run(ask(app, make_scope("GET", "/a", [], {}))).status == 200


def test_line_23_the_defaults_have_seconds_and_no_shared_lifetime(tmp_path: Path) -> None:
    """RFC 9111 §5.2.2.10: s-maxage implies proxy-revalidate, which forbids what stale-if-error allows (5861 §4)."""
    hot = Hotpath(tmp_path / "hot")
    hot.route("/a")(lambda: [1])
    policy = hot.routes[0].policy
    for value in (policy.cache_control, policy.cdn_cache_control or ""):
        directives = dict(part.strip().partition("=")[::2] for part in value.split(","))
        assert "s-maxage" not in directives
        assert "must-revalidate" not in directives
        assert "proxy-revalidate" not in directives
        assert all(directives[name].isdigit() for name in ("max-age", "stale-while-revalidate", "stale-if-error"))
        assert "public" in directives


def test_line_25_a_page_goes_stale_while_it_is_served(tmp_path: Path) -> None:
    """RFC 9211 §2.5: ttl may be negative."""
    site = make_site(tmp_path / "hot", pages={"/a": PageData(b"{}", lifetime_seconds=10)}, asked=PUBLISHED)
    clock = FakeClock(PUBLISHED)
    reader_of(site.hot).loader.clock = clock
    seen = []
    for seconds in (0, 9, 10, 11, 1_000_000):
        clock.now = PUBLISHED + seconds
        reader_of(site.hot).refresh()
        answer = get(site, "/a")
        assert answer.status == 200
        seen.append(answer.header("cache-status"))
    assert seen == [f"hotpath; hit; ttl={ttl}" for ttl in (10, 1, 0, -1, -999_990)]
    reader_of(site.hot).close()


def test_line_26_a_swap_during_a_download_finishes_the_old_bytes(site: Site) -> None:
    """RFC 9110 §8.6: the length that was announced is of the bytes that follow."""
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(dict(message))
        if len(sent) == 1:  # the head is out, and the client is slow
            publish(site.hot, TWO)
            assert await asyncio.to_thread(reader_of(site.hot).refresh)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    asyncio.run(site.app(make_scope("GET", "/a", [], {}), receive, send))
    head, body = sent
    fields = dict(head["headers"])
    assert body["body"] == ONE["/a"].body
    assert fields[b"content-length"] == b"%d" % len(ONE["/a"].body)
    assert fields[b"x-hotpath-generation"] == b"1"
    assert get(site, "/a").body == TWO["/a"].body


@pytest.mark.parametrize("max_body_bytes", [2**26, 1], ids=["in memory", "from disk"])
def test_line_26_answers_under_constant_swaps_are_of_one_generation_each(tmp_path: Path, max_body_bytes: int) -> None:
    """RFC 9110 §8.8.3: body, tag and generation number belong together in every answer."""
    kinds = {
        n: {f"/{name}": PageData(b'{"generation":%d,"fill":"%s"}' % (n, b"x" * (n * 37 % 500))) for name in "abcd"}
        for n in range(1, 16)
    }
    site = make_site(tmp_path / "hot", pages=kinds[1], max_body_bytes=max_body_bytes)
    tags: dict[str, str] = {}
    done = threading.Event()

    def swap() -> None:
        try:
            for n in range(2, 16):
                publish(site.hot, kinds[n])
                reader_of(site.hot).refresh()
        finally:
            done.set()

    async def ask_all() -> int:
        count = 0
        while not done.is_set() or count < 50:
            scopes = [make_scope("GET", f"/{name}", [], {}) for name in "abcd"]
            for answer in await asyncio.gather(*(ask(site.app, scope) for scope in scopes)):
                assert wire_faults("GET", answer) == []
                generation = answer.header("x-hotpath-generation") or ""
                assert answer.body == kinds[int(generation)]["/a"].body
                assert tags.setdefault(generation, answer.header("etag") or "") == answer.header("etag")
                count += 1
            await asyncio.sleep(0.001)  # the swapping thread needs the interpreter too
        return count

    swapper = threading.Thread(target=swap)
    swapper.start()
    assert asyncio.run(ask_all()) >= 50
    swapper.join()
    assert site.app.internal_errors == 0
    assert get(site, "/a").header("x-hotpath-generation") == "15"
    reader_of(site.hot).close()


@pytest.mark.parametrize("damage", ["torn", "changed", "emptied", "gone", "a directory"])
def test_line_27_bad_bytes_of_a_new_generation_are_never_sent(
    site: Site, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """RFC 9110 §8.6, §15.6.1: neither a 200 with garbage nor a 500; the last good bytes, whole and with their tag."""
    before = get(site, "/a")
    publish(site.hot, TWO)
    spoil(site.hot.store.files_path(2) / "0.bin", damage)
    with caplog.at_level(logging.WARNING):
        reader_of(site.hot).refresh()
        answers = [get(site, "/a") for _ in range(20)]
    for answer in answers:
        assert wire_faults("GET", answer) == []
        assert (answer.status, answer.body, answer.header("etag")) == (200, before.body, before.header("etag"))
        assert answer.header("x-hotpath-generation") == "1"
    assert len([record for record in caplog.records if "0.bin" in record.getMessage()]) == 1, "a line a problem"
    assert reader_of(site.hot).loader.corrupt_items == 1
    assert get(site, "/b").header("x-hotpath-generation") == "2", "its neighbours are of the new generation"


def test_line_27_bad_bytes_without_any_good_ones_are_the_apps(tmp_path: Path) -> None:
    """RFC 9110 §15.6.1."""
    site = make_site(tmp_path / "hot", pages=ONE, max_body_bytes=1)
    spoil(site.hot.store.files_path(1) / "0.bin", "torn")
    assert [get(site, "/a").status for _ in range(3)] == [APP] * 3
    assert get(site, "/b").status == 200
    assert site.app.internal_errors == 0
    reader_of(site.hot).close()


def test_line_27_a_bad_coding_is_left_out_and_identity_is_sent(tmp_path: Path) -> None:
    """RFC 9110 §12.5.3: what is not there is not offered."""
    site = make_site(tmp_path / "hot", pages=ONE)
    reader_of(site.hot).close()
    spoil(site.hot.store.files_path(1) / "1.bin.gz", "torn")
    worker = another_process(site)
    answer = get(worker, "/b", [(b"accept-encoding", b"gzip")])
    assert (answer.status, answer.header("content-encoding"), answer.body) == (200, None, ROWS)
    assert wire_faults("GET", answer) == []
    reader_of(worker.hot).close()


def test_line_28_a_file_that_shrinks_after_loading_changes_no_answer(site: Site) -> None:
    """RFC 9110 §8.6: what is in memory was verified, and is sent from there."""
    before = get(site, "/b")
    spoil(site.hot.store.files_path(1) / "1.bin", "torn")
    assert get(site, "/b") == before


@pytest.mark.parametrize("damage", ["torn", "emptied", "gone"])
def test_line_28_a_file_that_shrinks_before_loading_is_not_announced(tmp_path: Path, damage: str) -> None:
    """RFC 9110 §8.6: a page read from disk per request has its length from the bytes that were read."""
    site = make_site(tmp_path / "hot", pages=ONE, max_body_bytes=1)
    publish(site.hot, TWO)
    reader_of(site.hot).refresh()
    spoil(site.hot.store.files_path(2) / "0.bin", damage)
    answer = get(site, "/a")
    assert wire_faults("GET", answer) == []
    assert (answer.status, answer.body) == (200, ONE["/a"].body)
    reader_of(site.hot).close()


@pytest.fixture
def short(site: Site) -> Site:
    """The same site while memory is so short that only what is never shed gets through."""
    rigged = Rigged()
    rigged.guard.start = lambda key, loop=None: None  # type: ignore[method-assign]
    rigged.see(0.95)
    return Site(site.hot, HotpathMiddleware(the_app, hot=site.hot, guard=rigged.guard), site.items)


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [("*/*", "application/json"), ("application/problem+json", "application/problem+json")],
)
def test_line_29_the_503_of_the_guard(short: Site, accept: str, media_type: str) -> None:
    """RFC 9110 §15.6.4 and §10.2.3; RFC 9111 §5.2.2.5; RFC 9112 §9.6."""
    answer = get(short, "/cold", [(b"accept", accept.encode())])
    assert answer.status == 503
    assert int(answer.header("retry-after") or "") > 0
    assert answer.header("cache-control") == "no-store"
    assert answer.header("connection") == "close"
    assert answer.header("content-type") == media_type
    assert answer.header("content-length") == str(len(answer.body))
    assert answer.header("x-app") is None


def test_line_29_http_2_has_no_connection_field(short: Site) -> None:
    """RFC 9113 §8.2.2."""
    assert get(short, "/cold", http_version="2").header("connection") is None


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/a", 200),
        ("/b", 200),
        ("/livez", APP),
        ("/metrics", APP),
        ("/robots.txt", APP),
        ("/.well-known/acme-challenge/token", APP),
        ("/readyz", APP),
        ("/sitemap.xml", 503),
    ],
)
def test_line_30_what_is_never_shed(short: Site, target: str, status: int) -> None:
    """RFC 9309 §2.3.1.4: a robots.txt that answers 5xx stops all crawling. A sitemap.xml is hot, or like any page."""
    assert get(short, target).status == status


@pytest.mark.parametrize("extensions", [{"websocket.http.response": {}}, {}, None])
def test_line_31_a_handshake_is_refused_while_shedding(short: Site, extensions: dict[str, Any] | None) -> None:
    """ASGI, WebSocket Denial Response: where a server offers it the client is told why."""
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope = {**make_scope("GET", "/chat", [], {}), "type": "websocket", "extensions": extensions}
    asyncio.run(short.app(scope, None, send))  # type: ignore[arg-type]
    if extensions:
        assert [message["type"] for message in sent] == [
            "websocket.http.response.start",
            "websocket.http.response.body",
        ]
        assert sent[0]["status"] == 503
    else:
        assert sent == [{"type": "websocket.close", "code": 1013}]


def test_line_31_a_websocket_scope_passes_untouched(site: Site) -> None:
    """RFC 6455 §4.1: a handshake is a GET, and on a hot path it is still the app's."""
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope, receive, send))

    scope = {**make_scope("GET", "/a", [], {}), "type": "websocket"}

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        raise AssertionError(message)

    asyncio.run(HotpathMiddleware(app, hot=site.hot)(scope, receive, send))
    assert len(seen) == 1
    assert seen[0][0] is scope
    assert seen[0][1:] == (receive, send)


@pytest.mark.parametrize("kind", ["lifespan", "webtransport", "something new"])
def test_line_31_other_scopes_pass_too(site: Site, kind: str) -> None:
    """ASGI: a middleware passes on what it does not know."""
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    scope = {"type": kind}
    asyncio.run(HotpathMiddleware(app, hot=site.hot)(scope, None, None))  # type: ignore[arg-type]
    assert seen == [scope]


def test_line_32_a_fault_costs_no_request_and_one_log_line(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """RFC 9110 §15.6.1: no 500 where the app could have answered."""

    def broken(*_: object) -> None:
        raise RecursionError

    monkeypatch.setattr("hotpath.asgi.middleware.resolve", broken)
    assert [get(site, "/a").status for _ in range(50)] == [APP] * 50
    assert site.app.internal_errors == 50
    assert len([record for record in caplog.records if record.exc_info]) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"headers": None},
        {"headers": [(b"range",)]},
        {"headers": [(b"range", b"bytes=0-1", b"x")]},
        {"headers": 5},
        {"method": None},
        {"method": 5},
        {"query_string": 5},
        {"raw_path": 5},
        {"root_path": 5},
        {"raw_path": None, "path": None},
        {"raw_path": None, "path": "\ud800"},
        {"root_path": "\ud800"},
        {"query_string": None},
    ],
    ids=str,
)
def test_line_32_a_scope_out_of_form_reaches_the_app_or_is_answered(site: Site, fields: dict[str, Any]) -> None:
    """ASGI: what a server or an outer middleware breaks must not become our 500."""
    get(site, "/a")
    for method in ("GET", "HEAD"):
        scope = {**make_scope(method, "/a", [], {}), **fields}
        answer = asyncio.run(ask(site.app, scope))
        assert answer.status in (200, 206, APP)


def spoil(path: Path, damage: str) -> None:
    """What a disk, an operator or a crash does to a file. Links are cut first: generations share files."""
    data = path.read_bytes()
    path.unlink()
    match damage:
        case "torn":
            path.write_bytes(data[: len(data) // 2])
        case "changed":
            path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
        case "emptied":
            path.write_bytes(b"")
        case "a directory":
            path.mkdir()
        case "gone":
            pass
        case _:
            raise AssertionError(damage)


def age(path: Path, body: bytes, at: float) -> None:
    """Other bytes under a time that is not theirs, as rsync -t and reproducible images give them."""
    new = path.with_name("new")
    new.write_bytes(body)
    os.utime(new, (at, at))
    new.replace(path)


@pytest.mark.parametrize("later", [0, -1000, -(10**9)])
def test_line_35_a_date_moves_with_the_bytes_of_a_watched_file(tmp_path: Path, later: int) -> None:
    """RFC 9110 §8.8.2.2, §13.1.3, §13.1.5: another mtime, or the same, or an older one."""
    path = tmp_path / "a.json"
    age(path, b"[1, 2, 3]", PUBLISHED)
    hot = Hotpath(tmp_path / "hot", refresh=3600)
    hot.directory("/{name}", tmp_path / "{name}.json")
    clock = reader_of(hot).loader.clock = FakeClock(ASKED)
    reader_of(hot).start()
    site = Site(hot, HotpathMiddleware(the_app, hot=hot), {})
    first = get(site, "/a").header("last-modified")
    assert first is not None
    assert get(site, "/a", [(b"if-modified-since", first.encode())]).status == 304
    age(path, b"[4, 5, 6]", PUBLISHED + later)
    for _ in range(3):
        clock.now += 0.5
        reader_of(hot).refresh()
    assert get(site, "/a", [(b"if-modified-since", first.encode())]).body == b"[4, 5, 6]"
    assert get(site, "/a", [(b"range", b"bytes=3-"), (b"if-range", first.encode())]).status == 200
    second = get(site, "/a").header("last-modified")
    assert second is not None
    assert get(site, "/a", [(b"range", b"bytes=3-"), (b"if-range", second.encode())]).status == 206
    reader_of(hot).close()


@pytest.mark.slow
def test_line_35_a_restart_knows_the_bytes_that_came_meanwhile(tmp_path: Path) -> None:
    """The dates of two processes: the second never saw the bytes before."""
    path, dates = tmp_path / "a.json", []
    for body in (b"[1]", b"[2]"):
        age(path, body, at=1000)
        hot = Hotpath(tmp_path / "hot", refresh=3600)
        hot.directory("/{name}", tmp_path / "{name}.json")
        reader_of(hot).start()
        dates.append(get(Site(hot, HotpathMiddleware(the_app, hot=hot), {}), "/a").header("last-modified"))
        reader_of(hot).close()
        time.sleep(1.1)  # the kernel's time of change cannot be set
    assert dates[0] != dates[1]


@pytest.mark.parametrize(
    ("media_type", "sent"),
    [
        ("text/html; charset=euc-kr", "text/html; charset=euc-kr"),
        ("text/html;Charset=EUC-KR", "text/html;Charset=EUC-KR"),
        ('text/html; charset="euc-kr"', 'text/html; charset="euc-kr"'),
        ("text/html; x=y; CHARSET=shift_jis", "text/html; x=y; CHARSET=shift_jis"),
        ("text/html; Charset=utf-8", "text/html; Charset=utf-8"),
        ("application/xml; charset=euc-kr", "application/xml; charset=euc-kr"),
        ("Text/HTML", "Text/HTML; charset=utf-8"),
        ("text/html; x-charset=none", "text/html; x-charset=none; charset=utf-8"),
        ("application/xml", "application/xml"),
    ],
)
def test_line_36_text_is_in_the_charset_that_is_named(tmp_path: Path, media_type: str, sent: str) -> None:
    """§8.3.1, §8.3.2."""
    hot = Hotpath(tmp_path / "hot", refresh=3600)
    text = "\u3042" if "jis" in media_type else "\uac00"
    hot.route("/a", media_type=media_type)(lambda: text)
    build(hot)
    answer = get(Site(hot, HotpathMiddleware(the_app, hot=hot), {}), "/a")
    assert answer.header("content-type") == sent
    charset = sent.rpartition("harset=")[2].strip('"') if "harset=" in sent.replace("HARSET", "harset") else "utf-8"
    assert answer.body.decode(charset.rpartition("=")[2]) == text
    reader_of(hot).close()


@pytest.mark.parametrize(
    "media_type",
    ["text/html; charset=klingon", "text/html; charset=rot13", "text/html; charset=idna", "text/html; charset=",
     "application/json; charset=euc-kr", "application/geo+json; Charset=utf-16"],
)  # fmt: skip
def test_line_36_a_charset_that_cannot_be_is_refused(tmp_path: Path, media_type: str) -> None:
    """RFC 8259 §8.1 for JSON."""
    with pytest.raises(DeclarationError, match="media_type="):
        Hotpath(tmp_path / "hot").route("/a", media_type=media_type)(lambda: "x")


def test_line_36_a_character_that_the_charset_lacks_is_no_page() -> None:
    with pytest.raises(ItemError, match="latin-1 does not have; write charset=utf-8"):
        encode_payload("\uac00", "text/html; charset=latin-1")


def declared(root: Path, **options: Any) -> Site:
    """A site with a route that has fields of its own, one that has none, and a watched file."""
    (root / "f.json").write_bytes(b"[1]")
    hot = Hotpath(root / "hot", refresh=3600, redirect_slashes=True, **options)
    hot.route("/plain")(lambda: {"n": 1})
    hot.route("/own", headers={"x-frame-options": "SAMEORIGIN", "Access-Control-Allow-Origin": "*",
                               "Content-Language": "ko"})(lambda: {"n": 2})  # fmt: skip
    hot.directory("/file/{name}", root / "{name}.json")
    build(hot)
    reader_of(hot).loader.clock = lambda: time.time() + 60
    reader_of(hot).start()
    return Site(hot, HotpathMiddleware(the_app, hot=hot), {})


SITE_FIELDS = {"Strict-Transport-Security": "max-age=1", "X-Frame-Options": "DENY", "Content-Security-Policy": "x"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([], 200),
        ([(b"range", b"bytes=0-1")], 206),
        ([(b"if-none-match", b"*")], 304),
        ([(b"accept-encoding", b"*;q=0")], 406),
        ([(b"if-match", b'"x"')], 412),
        ([(b"range", b"bytes=99-")], 416),
        ([], 308),
    ],
)
def test_line_39_declared_fields_are_on_every_answer(tmp_path: Path, headers: Headers, status: int) -> None:
    """The route's own replace the site's; what is about the bytes is on no refusal and no redirect."""
    site = declared(tmp_path, headers=SITE_FIELDS)
    slash = "/" if status == 308 else ""
    for path in ("/plain", "/own", "/file/f"):
        answer = get(site, path + slash, headers)
        assert answer.status == status, path
        assert wire_faults("GET", answer) == []
        assert answer.header("strict-transport-security") == "max-age=1"
        assert answer.header("content-security-policy") == "x"
        assert answer.header("x-frame-options") == ("SAMEORIGIN" if path == "/own" else "DENY")
        assert answer.header("access-control-allow-origin") == ("*" if path == "/own" else None)
        has_bytes = path == "/own" and status in (200, 206, 304)
        assert answer.header("content-language") == ("ko" if has_bytes else None)
    reader_of(site.hot).close()


@pytest.mark.parametrize(
    ("host", "is_answered"),
    [
        ("example.org", True),
        ("EXAMPLE.org:8000", True),
        ("a.b.example.net", True),
        ("[::1]:80", True),
        ("example.net", False),
        ("badexample.net", False),
        ("example.org.evil", False),
        ("evil#example.org", False),
        ("example.org:80:80", False),
        ("", False),
        (None, False),
        ("x" * 10_000 + ".example.net", False),
    ],
)
def test_line_39_only_declared_hosts_are_answered(tmp_path: Path, host: str | None, is_answered: bool) -> None:
    site = declared(tmp_path, hosts=("example.org", "*.Example.net", "[::1]"))
    fields = [] if host is None else [(b"host", host.encode())]
    assert get(site, "/plain", fields).status == (200 if is_answered else APP)
    two = [(b"host", b"example.org"), *fields]
    assert get(site, "/plain", two).status == (200 if host is None else APP)
    target = f"http://{host}/plain"
    if host:
        assert get(site, target, [(b"host", b"example.org")]).status == (200 if is_answered else APP)
    reader_of(site.hot).close()
