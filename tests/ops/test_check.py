"""The check asks real servers, and what it says of them is what was done to them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate

import pytest

from hotpath.errors import DeclarationError, NothingPublished
from hotpath.ops.check import GIVE_UP_AFTER, CheckOptions, CheckReport, check, lines
from hotpath.site import Hotpath
from hotpath.store.store import Store
from tests.ops.conftest import Authority, SmallSite
from tests.ops.local import Answered, Asked, Server, closed_port, hang, public_site, raw_server

pytestmark = pytest.mark.usefixtures("items_in_this_process")

AT_ONCE = CheckOptions(wait_seconds=0)


def wrong(found: CheckReport) -> set[tuple[str, str]]:
    return {(failure.url.removeprefix(found.base_url), failure.what) for failure in found.failures}


def test_a_site_that_is_right(site: SmallSite) -> None:
    with public_site(site.hot) as server:
        found = check(site.hot, server.url + "/", AT_ONCE)
    assert found.is_right
    assert (found.generation, found.pages, found.asked, found.critical) == (1, 12, 12, 2)
    assert lines(found)[-1] == "every answer is what was published"
    methods = [(asked.method, asked.headers["accept-encoding"]) for asked in server.asked]
    assert {method: methods.count(method) for method in methods} == {
        ("GET", "identity"): 12,
        ("GET", "gzip"): 12,
        ("HEAD", "identity"): 12,
    }
    told = found.as_dict()
    assert told["right"] is True
    assert told["latency_ms"]


def test_critical_pages_are_always_asked_and_of_the_others_a_sample_of_every_route(site: SmallSite) -> None:
    with public_site(site.hot) as server:
        found = check(site.hot, server.url, replace(AT_ONCE, sample=3))
        assert found.asked == 5
        asked = {one.target for one in server.asked}
        assert {"/rankings/kospi", "/rankings/nyse"} < asked
        assert check(site.hot, server.url, replace(AT_ONCE, sample=0)).asked == 3, "one of each route"
        assert check(site.hot, server.url, replace(AT_ONCE, sample=0, everything=True)).asked == 12
        assert check(site.hot.store, server.url, replace(AT_ONCE, sample=0)).critical == 0


def test_a_page_below_a_path(site: SmallSite) -> None:
    def strip(asked: Asked) -> Answered:
        if not asked.target.startswith("/api/"):
            return Answered(404)
        return inner.answer(replace(asked, target=asked.target.removeprefix("/api")))

    with public_site(site.hot) as inner, Server(strip) as server:
        assert check(site.hot, server.url + "/api/", AT_ONCE).is_right
        assert not check(site.hot, server.url, AT_ONCE).is_right


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda found: replace(found, status=500), "GET: status"),
        (lambda found: replace(found, body=found.body.replace(b"kospi", b"kosdaq")), "content"),
        (lambda found: replace(found, headers={**found.headers, "x-hotpath-generation": "7"}), "generation"),
        (lambda found: replace(found, headers={**found.headers, "content-encoding": "br"}), "GET: coding"),
    ],
)
def test_one_page_that_is_wrong_is_named(site: SmallSite, change: Callable[[Answered], Answered], what: str) -> None:
    def tamper(asked: Asked, found: Answered) -> Answered:
        return change(found) if asked.target == "/rankings/kospi" else found

    with public_site(site.hot, tamper) as server:
        found = check(site.hot, server.url, AT_ONCE)
    assert not found.is_right
    assert ("/rankings/kospi", what) in wrong(found)
    assert {url for url, _ in wrong(found)} == {"/rankings/kospi"}
    assert f"WRONG {server.url}/rankings/kospi: {what}" in lines(found)
    assert lines(found)[-1] == "1 of 12 pages are WRONG"


def test_who_answers_the_published_bytes_is_right_without_the_header(site: SmallSite) -> None:
    def app(asked: Asked, found: Answered) -> Answered:
        kept = {name: value for name, value in found.headers.items() if name not in ("x-hotpath-generation", "etag")}
        return replace(found, headers=kept)

    with public_site(site.hot, app) as server:
        found = check(site.hot, server.url, AT_ONCE)
        assert found.is_right, "its bytes are what was published"
        by_store = check(site.hot.store, server.url, AT_ONCE)
    assert by_store.is_right, "the store alone cannot know whether the header is switched off"
    assert "no answer says its generation" in by_store.notes[-1]


def test_a_site_without_the_header_is_right(tmp_path: object, site: SmallSite) -> None:
    quiet = Hotpath(site.hot.store.root, generation_header=False)
    with public_site(quiet) as server:
        assert check(quiet, server.url, AT_ONCE).is_right


def test_a_server_that_follows_late_is_waited_for(site: SmallSite) -> None:
    """The second answer to each URL and later ones are right."""
    asked_before: dict[str, int] = {}

    def late(asked: Asked, found: Answered) -> Answered:
        asked_before[asked.target] = asked_before.get(asked.target, 0) + 1
        if asked_before[asked.target] <= 3:
            return replace(found, headers={**found.headers, "x-hotpath-generation": "0"})
        return found

    pauses: list[float] = []
    with public_site(site.hot, late) as server:
        found = check(site.hot, server.url, CheckOptions(wait_seconds=30), sleep=pauses.append)
    assert found.is_right
    assert found.asked_again == 12
    assert len(pauses) == 1
    assert lines(found)[-2] == "12 were right only when asked again"


def test_it_waits_no_longer_than_told(site: SmallSite) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    with public_site(site.hot, lambda asked, found: replace(found, status=500)) as server:
        found = check(site.hot, server.url, CheckOptions(wait_seconds=3), sleep=sleep, monotonic=lambda: now[0])
    assert not found.is_right
    assert now[0] == 3.0


def test_a_generation_that_is_published_meanwhile_is_the_one_to_compare_with(site: SmallSite) -> None:
    site.bump = 1

    one_at_a_time = threading.Lock()

    def publish(asked: Asked, found: Answered) -> Answered:
        with one_at_a_time:
            if site.hot.store.chosen_sequence() == 1:
                site.build()
        return found

    with public_site(site.hot, publish) as server:
        found = check(site.hot, server.url, CheckOptions(wait_seconds=30))
    assert (found.generation, found.is_right) == (2, True)


def old_copies(site: SmallSite, age: int) -> Server:
    """A cache that stored everything before the last publish, ``age`` seconds ago."""
    stored: dict[tuple[str, str, str], Answered] = {}

    def cached(asked: Asked, found: Answered) -> Answered:
        kept = stored.setdefault((asked.method, asked.target, asked.headers.get("accept-encoding", "")), found)
        return replace(kept, headers={**kept.headers, "Age": str(age), "X-Cache": "HIT"})

    return public_site(site.hot, cached)  # type: ignore[return-value]


@pytest.mark.slow
def test_a_stale_edge_is_right_within_its_lifetime_and_only_when_told_that_there_is_one(site: SmallSite) -> None:
    for age, right in ((200, True), (5000, False)):
        with old_copies(site, age) as server:
            assert check(site.hot, server.url, AT_ONCE).is_right
            site.bump += 1
            site.build()
            assert {what for _, what in wrong(check(site.hot, server.url, AT_ONCE))} == {"generation"}
            found = check(site.hot, server.url, replace(AT_ONCE, edge=True))
            assert found.is_right is right
            assert found.edge == {"HIT": 36}
            assert "  edge: HIT 36" in lines(found)


def test_an_edge_that_keeps_a_rolled_back_generation_is_wrong(site: SmallSite) -> None:
    site.bump = 1
    site.build()
    with old_copies(site, 5) as server:
        check(site.hot, server.url, AT_ONCE)
        site.hot.store.rollback(reason="half the prices")
        os.utime(site.hot.store.pin_path, (time.time() + 60, time.time() + 60))
        found = check(site.hot, server.url, replace(AT_ONCE, edge=True))
    assert "marked bad (half the prices); purge the edge" in str(found.failures[0].why)


@pytest.mark.slow
def test_a_dead_server_is_not_asked_for_every_page(site: SmallSite) -> None:
    with raw_server(hang) as port:
        options = CheckOptions(wait_seconds=0, timeout_seconds=0.3, concurrency=2)
        found = check(site.hot, f"http://127.0.0.1:{port}", options)
    assert found.failures == ()
    assert {unseen.what for unseen in found.unseen} == {"GET: status"}
    assert len(found.unseen) == 12
    told = [unseen.found for unseen in found.unseen]
    assert "no whole answer within 0.3 s" in told
    assert 12 - GIVE_UP_AFTER - 1 <= sum(one.startswith("not asked") for one in told) <= 12 - GIVE_UP_AFTER
    refused = check(site.hot, f"http://127.0.0.1:{closed_port()}", AT_ONCE)
    assert "found    connection refused" in "\n".join(lines(refused))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "fields"),
    [
        (403, {}),
        (401, {"WWW-Authenticate": "Basic"}),
        (302, {"Location": "/challenge"}),
        (503, {}),
        (429, {"Retry-After": "3600"}),
    ],
)
def test_a_firewall_says_nothing_of_what_is_published(site: SmallSite, status: int, fields: dict[str, str]) -> None:
    def firewall(asked: Asked) -> Answered:
        if "hotpath" in asked.headers["user-agent"]:
            return Answered(status, headers=fields)
        return inner.answer(asked)

    with public_site(site.hot) as inner, Server(firewall) as server:
        found = check(site.hot, server.url, AT_ONCE)
        assert (found.failures, found.is_right, found.exit_code) == ((), False, 69)
        assert len(found.unseen) == 12
        assert lines(found)[-1] == "could not look at 12 of 12 pages: nothing is known of them"
        assert "every answer" not in "\n".join(lines(found))
        let_pass = check(site.hot, server.url, replace(AT_ONCE, user_agent="Mozilla/5.0 (a check)"))
    assert (let_pass.is_right, let_pass.exit_code) == (True, 0)


def test_a_wrong_answer_beside_refusals_is_wrong(site: SmallSite) -> None:
    def mixed(asked: Asked, found: Answered) -> Answered:
        if asked.target == "/rankings/kospi":
            return replace(found, body=found.body.replace(b"kospi", b"kosdaq"))
        return Answered(403)

    with public_site(site.hot, mixed) as server:
        found = check(site.hot, server.url, AT_ONCE)
    assert found.exit_code == 1
    assert lines(found)[-2:] == [
        "could not look at 11 of 12 pages: nothing is known of them",
        "1 of 12 pages are WRONG",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("retry_after", "refusals", "pauses", "right"),
    [
        ("20", 1, [20.0], True),
        ("20", 9, [20.0], False),
        ("0", 1, [0.5], True),
        ("3600", 1, [], False),
        ("soon", 1, [0.5], True),
        (formatdate(0, usegmt=True), 1, [0.5], True),
        ("9" * 400, 1, [], False),
    ],
)
def test_retry_after_is_kept_to_as_far_as_it_is_bounded(
    site: SmallSite, retry_after: str, refusals: int, pauses: list[float], right: bool
) -> None:
    refused = [0]
    now = [0.0]
    slept: list[float] = []

    def limited(asked: Asked, found: Answered) -> Answered:
        if refused[0] < refusals:
            refused[0] += 1
            return Answered(429, headers={"Retry-After": retry_after})
        return found

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    options = CheckOptions(wait_seconds=10, concurrency=1)
    with public_site(site.hot, limited) as server:
        found = check(site.hot, server.url, options, sleep=sleep, monotonic=lambda: now[0])
        if pauses == [20.0]:
            assert "not asked: the server said Retry-After" in [unseen.found for unseen in found.unseen] or right
    assert (slept, found.is_right) == (pauses, right)


def test_an_answer_without_end_is_not_read_to_its_end(site: SmallSite) -> None:
    def endless(asked: Asked, found: Answered) -> Answered:
        return replace(found, body=b"x" * 3_000_000)

    with public_site(site.hot, endless) as server:
        found = check(site.hot, server.url, replace(AT_ONCE, sample=0))
    assert "bytes and more" in found.failures[0].found


def test_https(site: SmallSite, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    with public_site(site.hot) as inner, Server(inner.answer, tls=authority.context) as server:
        assert "certificate" in check(site.hot, server.url, AT_ONCE).unseen[0].found
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))
        assert check(site.hot, server.url, AT_ONCE).is_right


def test_nothing_published(tmp_path: object, site: SmallSite) -> None:
    with pytest.raises(NothingPublished):
        check(Store(f"{tmp_path}/none"), "http://127.0.0.1:1", AT_ONCE)


@pytest.mark.parametrize(
    "url", ["example.org", "https://example.org/?a=1", "https://example.org/#a", "https://me:s3cret@example.org"]
)
def test_a_wrong_base_url_is_a_usage_error(site: SmallSite, url: str) -> None:
    with pytest.raises(DeclarationError) as told:
        check(site.hot, url)
    assert "s3cret" not in str(told.value)
    assert told.value.exit_code == 2


@pytest.mark.parametrize(
    "options",
    [
        {"user_agent": "ü"},
        {"user_agent": "a\r\nb"},
        {"user_agent": " "},
        {"sample": -1},
        {"concurrency": 0},
        {"timeout_seconds": 0},
        {"max_seconds": -1},
    ],
)
def test_options_that_cannot_work(options: dict[str, object]) -> None:
    with pytest.raises(DeclarationError):
        CheckOptions(**options)  # type: ignore[arg-type]
