"""The site that the rows of ``cases.py`` are asked of, on a clock that stands still, and the client that asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from hotpath.asgi.middleware import HotpathMiddleware
from hotpath.pages.codings import available
from hotpath.pages.policy import Policy
from hotpath.serving import reader_of
from hotpath.site import Hotpath
from hotpath.store.manifest import Item
from hotpath.store.publish import staging
from hotpath.testing import FakeClock, Response
from tests.wire.conformance.cases import APP, ASKED, DATE, EARLIER, PAGES, PUBLISHED, PageData

Headers = list[tuple[bytes, bytes]]

DECODE: Mapping[str, Callable[[bytes], bytes]] = {
    "identity": bytes,
    **{coding.name: coding.decode for coding in available()},
}


@dataclass(frozen=True)
class Site:
    """A published site and the middleware in front of an app that says so when it is asked."""

    hot: Hotpath
    app: HotpathMiddleware
    items: Mapping[str, Item]

    def length(self, page: str, coding: str = "identity") -> int:
        return next(one.length for one in self.items[page].representations if one.coding == coding)

    def codings(self, page: str) -> set[str]:
        return {one.coding for one in self.items[page].representations}


async def the_app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": APP, "headers": [(b"x-app", b"1")]})
    await send({"type": "http.response.body", "body": b"app"})


def make_site(
    root: Path,
    *,
    pages: Mapping[str, PageData] = PAGES,
    published: float = PUBLISHED,
    asked: float = ASKED,
    redirect_slashes: bool = False,
    generation_header: bool = True,
    max_body_bytes: int = 64 * 1024 * 1024,
    ignore_query: tuple[str, ...] = (),
) -> Site:
    """Publish ``pages`` at one time and read them at another. Nothing watches: ``refresh()`` looks again."""
    hot = Hotpath(
        root,
        refresh=3600,
        max_body_bytes=max_body_bytes,
        redirect_slashes=redirect_slashes,
        generation_header=generation_header,
        ignore_query=ignore_query,
    )
    hot.store.clock = FakeClock(published)
    publish(hot, pages)
    reader_of(hot).loader.clock = FakeClock(asked)
    reader_of(hot).start()
    return Site(hot, HotpathMiddleware(the_app, hot=hot), hot.store.read_manifest(1).items)


def publish(hot: Hotpath, pages: Mapping[str, PageData]) -> None:
    """One more generation. Written item by item, since no function can return an empty page."""
    with staging(hot.store) as stage:
        for index, (key, page) in enumerate(pages.items()):
            policy = Policy(
                key,
                page.media_type,
                page.cache_control,
                page.cdn_cache_control,
                page.lifetime_seconds,
                page.query,
                page.fold_case,
                page.headers,
            )
            stage.add(key, f"{index}.bin", page.body, policy)
        stage.publish()


def make_sites(root: Path) -> dict[str, Site]:
    """The sites a row can name, by name."""
    return {
        "plain": make_site(root / "plain"),
        "quiet": make_site(root / "quiet", generation_header=False),
        "slashes": make_site(root / "slashes", redirect_slashes=True),
        "ignoring": make_site(root / "ignoring", ignore_query=("ref", "partner_*", "n")),
        # Published by a machine whose clock is a second ahead of this one's.
        "behind": make_site(root / "behind", asked=PUBLISHED - 1),
    }


assert DATE > EARLIER  # both on one day, so that the second of them is what the site named "behind" must say


def parse_fields(lines: Iterable[str], tags: Mapping[str, str]) -> Headers:
    """Field lines as ASGI gives them: names in lower case, values stripped (RFC 9112 §5.1)."""
    headers = []
    for line in lines:
        name, _, value = line.partition(":")
        headers.append((name.strip().lower().encode("latin-1"), fill(value, tags).encode("latin-1").strip(b" \t")))
    return headers


def fill(text: str, tags: Mapping[str, str]) -> str:
    """``text`` with its placeholders replaced."""
    for placeholder, tag in tags.items():
        text = text.replace(placeholder, tag)
    return text


def tags_of(item: Item) -> dict[str, str]:
    """What stands for a placeholder in a row: the tags as RFC 9110 §8.8.3 writes them, from the item's digest."""
    bare = item.identity.sha256[:12].hex()
    tags = {f"{{tag-{coding}}}": f'"{bare}-{coding}"' for coding in ("gzip", "br", "zstd")}
    return {**tags, "{tag}": f'"{bare}"', "{bare}": bare, "{length}": str(item.identity.length)}


def make_scope(method: str, target: str, headers: Headers, fields: Mapping[str, Any]) -> dict[str, Any]:
    """An HTTP scope; a field that is ``None`` in ``fields`` is left out, as the specification allows for some."""
    path, _, query = target.partition("?")
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode("latin-1"),
        "query_string": query.encode("latin-1"),
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 80),
        **fields,
    }
    return {name: value for name, value in scope.items() if value is not None}


async def ask(app: Callable[[Any, Any, Any], Any], scope: MutableMapping[str, Any]) -> Response:
    """What ``app`` answers; a message out of order or out of form is an error."""
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start, body = sent
    assert start["type"] == "http.response.start"
    assert body["type"] == "http.response.body"
    assert not body.get("more_body")
    return Response(start["status"], list(start["headers"]), body["body"])


def wire_faults(method: str, answer: Response) -> list[str]:
    """What is wrong with any hot answer whatever was asked: framing (§8.6, §6.4.1), field syntax (§5.1, §5.5)."""
    faults = []
    if not all(type(part) is bytes for header in answer.headers for part in header):
        return ["a field is not bytes"]
    names = [name for name, _ in answer.headers]
    for name, value in answer.headers:
        if name != name.lower() or not name.replace(b"-", b"").isalnum():
            faults.append(f"{name!r} is no field name of ASGI")
        if any(byte < 32 or byte == 127 for byte in value) or value != value.strip():
            faults.append(f"{name!r} has the value {value!r}")
    if len(set(names)) != len(names):
        faults.append(f"a field is there twice: {names}")
    lengths = [value for name, value in answer.headers if name == b"content-length"]
    if answer.status == 304:
        if lengths or answer.body:
            faults.append("a 304 with a length or a body")
    elif len(lengths) != 1 or not lengths[0].isdigit():
        faults.append(f"content-length is {lengths}")
    elif method == "HEAD":
        if answer.body:
            faults.append("HEAD with a body")
    elif int(lengths[0]) != len(answer.body):
        faults.append(f"content-length {lengths[0]!r}, but {len(answer.body)} bytes")
    if answer.status in (200, 206, 304) and names.count(b"etag") != 1:
        faults.append("no etag")
    if (b"content-range" in names) != (answer.status in (206, 416)):
        faults.append("content-range on the wrong status")
    if b"cache-status" not in names:
        faults.append("no cache-status")
    return faults
