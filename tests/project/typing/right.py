"""What users write, and the types they get: read by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, assert_type

from fastapi import FastAPI

from hotpath import Hotpath, HotpathError, HotpathMiddleware, LRUCache, MemoryGuard, Store, TTLCache, cached
from hotpath.asgi.access_log import AccessLog, HotpathRequest, Observer
from hotpath.asgi.health import HealthEndpoints
from hotpath.batch.run import build
from hotpath.caching.memo import CacheInfo
from hotpath.guard.alarms import Alarm
from hotpath.metrics.app import MetricsApp
from hotpath.metrics.site import HotpathCollector
from hotpath.serving import reader_of
from hotpath.serving.snapshot import Snapshot
from hotpath.testing import FakeClock, Response, asgi_get

# --- declaring ---

hot = Hotpath("var/hot", keep=5, max_body_bytes="64MiB", lifetime="26h")
Hotpath(Path("var/hot"), max_body_bytes=1024, lifetime=3600, cdn_cache_control=None)


def markets() -> Iterator[dict[str, str]]:
    yield {"market": "KOSPI"}


@hot.route("/rankings/{market}", each=markets, records="items", required=("ticker",), timeout="30s")
def rankings(market: str, top: int = 10) -> dict[str, list[int]]:
    return {"items": [top]}


@hot.route("/a/{n}", each={"n": [1, 2]}, query=["q"], check=lambda payload: None)
async def numbers(n: int, q: str | None = None) -> bytes:
    return b""


hot.route("/b/{n}", each=[{"n": 1}])(lambda n: n)
hot.directory("/indices/{name}", Path("data/{name}.json"))

# The function is what it was: its signature, its name, sync or async.
assert_type(rankings("KOSPI", top=3), dict[str, list[int]])
a_ranking: Callable[[str, int], dict[str, list[int]]] = rankings
assert_type(rankings.__name__, str)
assert_type(reader_of(hot).snapshot, Snapshot)
assert_type(reader_of(hot).snapshot.generation, int | None)
assert_type(hot.store, Store)


async def asks() -> None:
    assert_type(await numbers(1), bytes)
    assert_type(await asgi_get(app, "/a/1", headers=[(b"accept", b"*/*")]), Response)
    assert_type((await asgi_get(app, "/a/1")).header("etag"), str | None)


# --- serving ---


def priority(scope: Mapping[str, Any]) -> int | None:
    return 1 if scope["path"] == "/login" else None


def tell(alarm: Alarm) -> None:
    assert_type(alarm.kind + alarm.text, str)


def observe(request: HotpathRequest) -> None:
    assert_type(request.status, int | None)
    assert_type(request.path, str)
    assert_type(request.microseconds, float)


observer: Observer = observe
log = AccessLog(max_waiting=100)
observer = log
assert_type(log.dropped, int)
guard = MemoryGuard(limit="1500MiB", priority=priority, alarm=tell)
MemoryGuard(limit=1500, priority={"POST /login": 1}, readiness=("/readyz",))

api = FastAPI()
api.add_middleware(HotpathMiddleware, hot=hot, guard=guard)
api.mount("/metrics", MetricsApp(guard=guard, hot=hot))
app = HotpathMiddleware(api, hot=hot, guard=guard, bypass=lambda scope: scope["path"] == "/", observe=observe)
HotpathMiddleware(app, hot=hot, observe=AccessLog())
HotpathMiddleware(app, hot=hot, observe=lambda request: request.status)
HealthEndpoints(app, hot=hot, guard=guard, critical=("/a/1",))
HotpathCollector(hot, clock=FakeClock())
build(hot)

# --- remembering ---


@cached
def plain(a: int, *, b: str = "") -> list[int]:
    return [a]


@cached(ttl=60, max_bytes=1024, stale_if_error=5.0, key=lambda a: a)
def timed(a: int) -> str:
    return str(a)


@cached(max_entries=10)
async def waited(a: int) -> tuple[int, str]:
    return a, ""


class Shop:
    @cached
    def price(self, ticker: str) -> float:
        return 1.0


assert_type(plain(1, b="x"), list[int])
assert_type(Shop().price("T"), float)
assert_type(Shop().price.cache_info(), CacheInfo)
assert_type(timed(1), str)
assert_type(plain.cache_info(), CacheInfo)
assert_type(plain.cache_info().hits, int)
assert_type(plain.invalidate(1, b="x"), bool)
a_text: Callable[[int], str] = timed


async def awaits() -> None:
    assert_type(await waited(1), tuple[int, str])


lru: LRUCache[str, int] = LRUCache(max_entries=10)
lru["a"] = 1
assert_type(lru["a"], int)
assert_type(lru.get("a"), int | None)
assert_type(lru.get("a", ""), int | str)
assert_type(lru.bytes, int)
ttl: TTLCache[int, bytes] = TTLCache(10, 60.0)
assert_type(ttl.popitem(), tuple[int, bytes])
assert_type(list(ttl), list[int])

# --- errors ---

try:
    build(hot)
except HotpathError as error:
    assert_type(str(error), str)
