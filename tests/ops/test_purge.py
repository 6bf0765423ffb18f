"""Purges, against servers on this machine that speak what the providers document: requests, limits and errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest

from hotpath.errors import DeclarationError
from hotpath.ops.purge.changed import changed_keys
from hotpath.ops.purge.environment import purgers_from_environment
from hotpath.ops.purge.providers import Bunny, Cloudflare, Fastly, PurgeWebhook, Varnish
from hotpath.ops.purge.purger import CallLimits, Purger
from hotpath.ops.secret import Secret
from hotpath.store.manifest import Manifest
from hotpath.store.store import Store
from hotpath.testing import FakeClock
from tests.ops.local import Answered, Asked, Server, closed_port
from tests.store.faults.sites import publish

ZONE = "0123456789abcdef0123456789abcdef"
TOKEN = "T0KEN-that-nobody-may-read"
SITE = "https://example.org"
URLS = [f"{SITE}/rankings/{number}?page={number % 3}" for number in range(65)]


@dataclass
class Cloud:
    """The state of a provider: what it purged, and how it is in a bad mood."""

    clock: FakeClock = field(default_factory=FakeClock)
    purged: list[str] = field(default_factory=list)
    moods: list[Answered] = field(default_factory=list)
    burst: float = float("inf")
    a_second: float = 0.0
    _at: float | None = None

    def is_too_fast(self) -> bool:
        """A token bucket, as Bunny has one."""
        now = self.clock()
        if self._at is not None:
            self.burst += (now - self._at) * self.a_second
        self._at = now
        if self.burst < 1:
            return True
        self.burst -= 1
        return False


def json(status: int, body: object, **headers: str) -> Answered:
    return Answered(status, orjson.dumps(body), headers)


def cloudflare(cloud: Cloud, asked: Asked) -> Answered:
    """https://developers.cloudflare.com/api/resources/cache/methods/purge/"""
    if asked.headers.get("authorization") != f"Bearer {TOKEN}":
        return json(403, {"success": False, "errors": [{"code": 10000, "message": "Authentication error"}]})
    if (asked.method, asked.target) != ("POST", f"/client/v4/zones/{ZONE}/purge_cache"):
        return json(404, {"success": False, "errors": [{"code": 7003, "message": "Could not route"}]})
    files = orjson.loads(asked.body)["files"]
    if not 0 < len(files) <= 30:
        return json(400, {"success": False, "errors": [{"code": 1094, "message": "You may only purge 30 files"}]})
    cloud.purged += files
    return json(200, {"success": True, "errors": [], "messages": [], "result": {"id": ZONE}})


def fastly(cloud: Cloud, asked: Asked) -> Answered:
    """https://www.fastly.com/documentation/reference/api/purging/"""
    if asked.headers.get("fastly-key") != TOKEN:
        return json(401, {"msg": "Provided credentials are missing or invalid"})
    if asked.method != "POST" or not asked.target.startswith("/purge/"):
        return json(404, {"msg": "Record not found"})
    assert asked.headers.get("fastly-soft-purge") == "1"
    cloud.purged.append("https://" + asked.target.removeprefix("/purge/"))
    return json(200, {"status": "ok", "id": "108-1391560174-974124"})


def bunny(cloud: Cloud, asked: Asked) -> Answered:
    """https://docs.bunny.net/reference/purgepublic_indexpost"""
    if asked.headers.get("accesskey") != TOKEN:
        return json(401, {"Message": "The request authorization failed"})
    parts = urlsplit(asked.target)
    if (asked.method, parts.path) != ("POST", "/purge"):
        return Answered(404)
    if cloud.is_too_fast():
        return Answered(429)
    query = parse_qs(parts.query)
    assert ("exactPath" in query) == urlsplit(query["url"][0]).path.endswith("/"), "all below it would go too"
    cloud.purged += query["url"]
    return Answered(204)


def webhook(cloud: Cloud, asked: Asked) -> Answered:
    if asked.headers.get("authorization") != f"Bearer {TOKEN}":
        return Answered(401)
    cloud.purged += orjson.loads(asked.body)["purge"]
    return Answered(202)


Provider = Callable[[Cloud, Asked], Answered]
Make = Callable[[str, CallLimits, str], Purger]

PEERS: dict[str, tuple[Provider, Make]] = {
    "cloudflare": (
        cloudflare,
        lambda url, limits, token: Cloudflare(ZONE, Secret(token), f"{url}/client/v4", limits),
    ),
    "fastly": (fastly, lambda url, limits, token: Fastly(Secret(token), base_url=url, limits=limits)),
    "bunny": (bunny, lambda url, limits, token: Bunny(Secret(token), url, limits)),
    "webhook": (webhook, lambda url, limits, token: PurgeWebhook(Secret(f"{url}/purge"), Secret(token), limits)),
}


@dataclass
class Edge:
    cloud: Cloud
    server: Server
    limits: CallLimits
    make: Make

    def purger(self, token: str = TOKEN) -> Purger:
        return self.make(self.server.url, self.limits, token)


@pytest.fixture(params=PEERS)
def edge(request: pytest.FixtureRequest) -> Iterator[Edge]:
    answer, make = PEERS[request.param]
    cloud = Cloud()

    def answered(asked: Asked) -> Answered:
        return cloud.moods.pop(0) if cloud.moods else answer(cloud, asked)

    with Server(answered) as server:
        limits = CallLimits(sleep=cloud.clock.advance, monotonic=cloud.clock)
        yield Edge(cloud, server, limits, make)


def test_every_url_is_purged_once(edge: Edge) -> None:
    found = edge.purger().purge(URLS)
    assert (found.urls, found.problem) == (65, None)
    assert sorted(edge.cloud.purged) == sorted(URLS)


def test_nothing_to_purge_is_no_call(edge: Edge) -> None:
    assert edge.purger().purge([]).urls == 0
    assert edge.server.asked == []


def test_a_directory_alone_is_purged(edge: Edge) -> None:
    assert edge.purger().purge([f"{SITE}/"]).problem is None
    assert edge.cloud.purged == [f"{SITE}/"]


def test_a_provider_that_says_how_long_to_wait_is_waited_for(edge: Edge) -> None:
    edge.cloud.moods += [Answered(429, headers={"Retry-After": "7"}), Answered(429)]
    started = edge.cloud.clock()
    assert edge.purger().purge(URLS).problem is None
    assert edge.cloud.clock() - started == 7 + 2
    assert sorted(edge.cloud.purged) == sorted(URLS)


def test_a_provider_that_never_lets_us_is_given_up_after_ten_minutes(edge: Edge) -> None:
    edge.cloud.moods += [Answered(429, headers={"Retry-After": "60"})] * 50
    found = edge.purger().purge(URLS)
    assert (found.urls, found.first_left) == (0, URLS[0])
    assert "too many purges" in str(found.problem)
    assert len(edge.server.asked) == 11


def test_an_error_that_passes_is_tried_again_and_one_that_stays_is_told(edge: Edge) -> None:
    edge.cloud.moods += [Answered(502), Answered(503)]
    assert edge.purger().purge(URLS[:1]).problem is None
    edge.cloud.moods += [Answered(500)] * 4
    found = edge.purger().purge(URLS[:1])
    assert (found.urls, found.first_left) == (0, URLS[0])
    assert str(found.problem).startswith("500")


def test_where_it_stopped_is_told(edge: Edge) -> None:
    """The first calls are taken, then the provider fails for good."""
    taken = 1
    real = edge.server.answer

    def fails_later(asked: Asked) -> Answered:
        return real(asked) if len(edge.server.asked) <= taken else Answered(500)

    edge.server.answer = fails_later
    many = [f"{SITE}/{number}" for number in range(600)]
    found = edge.purger().purge(many)
    assert found.problem is not None
    assert found.urls == len(edge.cloud.purged)
    assert found.first_left == many[found.urls]
    assert found.first_left in str(found)


def test_a_refused_token_is_told_without_the_token(edge: Edge) -> None:
    wrong = "WR0NG-token"
    found = edge.purger(wrong).purge(URLS)
    assert found.problem is not None
    assert found.problem.startswith(("401", "403", "it answered 401"))
    assert len(edge.server.asked) == 1, "a refusal is not tried again"
    assert wrong not in str(found) + repr(edge.purger(wrong)) + repr(found)


def test_a_token_that_the_answer_repeats_is_not_told(edge: Edge) -> None:
    edge.cloud.moods += [json(400, {"success": False, "errors": [{"code": 1, "message": f"bad {TOKEN}"}]})]
    found = edge.purger().purge(URLS)
    assert found.problem
    assert TOKEN not in str(found)


def test_nobody_there_is_told(edge: Edge) -> None:
    dead = edge.make(f"http://127.0.0.1:{closed_port()}", edge.limits, TOKEN)
    assert "refused" in str(dead.purge(URLS).problem)


def test_bunny_lets_through_a_burst_and_then_five_a_second() -> None:
    cloud = Cloud(burst=120, a_second=5)
    limits = CallLimits(sleep=cloud.clock.advance, monotonic=cloud.clock)
    urls = [f"{SITE}/{number}" for number in range(400)]
    with Server(lambda asked: bunny(cloud, asked)) as server:
        found = Bunny(Secret(TOKEN), server.url, limits).purge(urls)
    assert (found.urls, found.problem, cloud.purged) == (400, None, urls)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"success":"yes"}', b'{"success":true,"errors":7}'])
def test_cloudflare_has_to_say_that_it_did_it(body: bytes) -> None:
    with Server(lambda asked: Answered(200, body)) as server:
        found = Cloudflare(ZONE, Secret(TOKEN), server.url).purge(URLS[:1])
    assert (found.urls, bool(found.problem)) == (0, True)


# What is purged


def generation(store: Store, **pages: bytes) -> Manifest:
    publish(store, **pages)
    return store.read_manifest(store.sequences()[-1])


@pytest.mark.parametrize("before_is_known", [True, False])
def test_only_urls_whose_bytes_are_others_are_purged(tmp_path: Any, before_is_known: bool) -> None:
    store = Store(tmp_path / "hot")
    before = generation(store, a=b"[1]", b=b"[2]", c=b"[3]")
    after = generation(store, a=b"[1]", b=b"[20]", d=b"[4]")
    changed = changed_keys(before if before_is_known else None, after)
    assert sorted(changed) == (["/b", "/c", "/d"] if before_is_known else ["/a", "/b", "/d"])


# Configuration


def test_the_environment_configures_peers() -> None:
    purgers = purgers_from_environment(
        {
            "HOTPATH_PURGE_CLOUDFLARE_ZONE": ZONE,
            "HOTPATH_PURGE_CLOUDFLARE_TOKEN": TOKEN,
            "HOTPATH_PURGE_FASTLY_TOKEN": TOKEN,
            "HOTPATH_PURGE_BUNNY_KEY": TOKEN,
            "HOTPATH_PURGE_VARNISH": "http://127.0.0.1:6081",
            "HOTPATH_PURGE_WEBHOOK": "https://example.org/hooks/secret",
            "PATH": "/bin",
        }
    )
    assert [type(one) for one in purgers] == [Cloudflare, Fastly, Bunny, Varnish, PurgeWebhook]
    assert TOKEN not in repr(purgers)
    assert "secret" not in repr(purgers) + " ".join(one.name for one in purgers)
    assert purgers_from_environment({}) == ()


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"CLOUDFLARE_ZONE": ZONE}, "HOTPATH_PURGE_CLOUDFLARE_TOKEN"),
        ({"CLOUDFLARE_ZONE": "example.org", "CLOUDFLARE_TOKEN": TOKEN}, "32 characters"),
        ({"FASTLY_TOKEN": "two words"}, "copy it once more"),
        ({"FASTLY_TOKEN": TOKEN, "FASTLY_SOFT": "yes"}, "write 1"),
        ({"AKAMAI": TOKEN}, "is no setting; there are"),
        ({"VARNISH": "127.0.0.1:6081"}, "address of Varnish"),
        ({"WEBHOOK": "example.org/hook"}, "purge webhook"),
        ({"WEBHOOK_TOKEN": TOKEN}, "needs HOTPATH_PURGE_WEBHOOK"),
    ],
)
def test_a_wrong_setting_is_named_and_no_secret_is_shown(environ: dict[str, str], told: str) -> None:
    with pytest.raises(DeclarationError, match=told) as caught:
        purgers_from_environment({f"HOTPATH_PURGE_{name}": value for name, value in environ.items()})
    assert TOKEN not in str(caught.value)
