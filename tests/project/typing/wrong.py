"""Mistakes that a type checker has to find: each ignored line is an error in itself where nothing is wrong with it."""

from __future__ import annotations

from hotpath import Hotpath, HotpathMiddleware, LRUCache, MemoryGuard, cached
from hotpath.asgi.access_log import HotpathRequest, Observer

Hotpath(1)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
Hotpath("var/hot", keeps=3)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
hot = Hotpath("var/hot")
hot.route("/a", each="KOSPI")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
hot.route("/a")("no function")  # type: ignore[type-var] # pyright: ignore[reportArgumentType]


@hot.route("/rankings/{market}", each={"market": ["KOSPI"]})
def rankings(market: str) -> dict[str, int]:
    return {}


rankings(1)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
rankings()  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
rankings("KOSPI").append(1)  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue]


async def api(scope: object, receive: object, send: object) -> None: ...


HotpathMiddleware(api)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
HotpathMiddleware(api, hot)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
HotpathMiddleware(api, hot=hot, guard="1500MiB")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
HotpathMiddleware(None, hot=hot)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
MemoryGuard(limit=[1])  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def other(number: int) -> None: ...


observer: Observer = other  # type: ignore[assignment] # pyright: ignore[reportAssignmentType]


def changes(request: HotpathRequest) -> None:
    request.status = 500  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue]


@cached
def plain(a: int, *, b: str = "") -> list[int]:
    return [a]


plain("a")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
plain(1, c=2)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
plain(1).upper()  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue]
plain.invalidate("a")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
cached(ttl="60s")  # type: ignore[call-overload] # pyright: ignore[reportArgumentType]


@cached(ttl=60)
async def waited(a: int) -> str:
    return ""


text: str = waited(1)  # type: ignore[assignment] # pyright: ignore[reportAssignmentType]

lru: LRUCache[str, int] = LRUCache(max_entries=10)
lru[1] = 1  # type: ignore[index] # pyright: ignore[reportArgumentType]
lru["a"] = ""  # type: ignore[assignment] # pyright: ignore[reportArgumentType]
