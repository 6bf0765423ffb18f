"""What is wrong with the public answers of one page, beside what was published: values in, values out."""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import orjson

from hotpath.batch.measure import measure
from hotpath.errors import ItemError
from hotpath.ops.http import Reply
from hotpath.pages.payload import is_json
from hotpath.pages.routes import Expectations
from hotpath.store.manifest import Item

# An answer made this long before the pointer moved may still have come after it: clocks differ, and a server follows
# within a second or two.
SLACK_SECONDS = 10

EXTRA_BYTES = 1024 * 1024

_NO_GENERATION = "it has no X-Hotpath-Generation: the app may have answered, or a server in front takes it away"

_CACHES = ("cf-cache-status", "cdn-cache", "x-cache-status", "x-cache")
_DIRECTIVE = re.compile(r"([a-z-]+)\s*=\s*\"?(\d+)")
_TTL = re.compile(r"\bttl=(-?\d+)")


@dataclass(frozen=True, slots=True)
class PublicPage:
    """A page to be asked for: its public URL, its item, and what its route holds a payload to, where that is known."""

    url: str
    item: Item
    expects: Expectations | None = None


@dataclass(frozen=True, slots=True)
class Expected:
    """What the answers are compared with.

    ``at`` is when ``generation`` became the one to serve, ``now`` when the answers came (seconds since the epoch).
    ``bad`` are the generations that a rollback marked; ``digest_in`` gives the SHA-256 that a key had in another
    generation, where that is still there. ``older`` are the other generations that are still there, the newest first.
    ``says_generation`` is whether the site says the generation in its answers; a server in front may take it away.
    """

    generation: int
    at: float
    now: float
    bad: Mapping[int, str]
    digest_in: Callable[[int, str], bytes | None]
    says_generation: bool
    older: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One thing that is wrong with one URL. ``why`` is what it probably means."""

    url: str
    what: str
    expected: str
    found: str
    why: str | None = None

    def __str__(self) -> str:
        why = f" ({self.why})" if self.why else ""
        return f"{self.url}: {self.what}: expected {self.expected}, found {self.found}{why}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """``failures`` are wrong, ``notes`` are worth knowing.

    ``unseen`` are answers that say nothing of what was published: none at all, or another status than 200 from somebody
    else than hotpath (a firewall, a limit, a login, the app).
    """

    failures: tuple[Mismatch, ...]
    notes: tuple[str, ...] = ()
    unseen: tuple[Mismatch, ...] = ()


def compare(
    page: PublicPage,
    identity: Reply,
    gzipped: Reply,
    head: Reply,
    published: Expected,
    *,
    edge: bool,
    max_seconds: float | None,
) -> Comparison:
    """Compare the three answers of a page: to a GET that takes no coding, to one that takes gzip, and to HEAD.

    With ``edge``, an older generation is right as long as a cache may keep what it stored before the current one.
    """
    failures: list[Mismatch] = []
    unseen: list[Mismatch] = []
    notes: list[str] = []
    for what, reply in (("GET", identity), ("GET with gzip", gzipped), ("HEAD", head)):
        if what == "GET" or reply.status != identity.status:  # the same of all three is one failure
            (failures if is_of_hotpath(reply) else unseen).extend(_unanswered(page, what, reply))
        if max_seconds is not None and reply.status and reply.seconds > max_seconds:
            failures.append(Mismatch(page.url, f"{what}: time", f"at most {max_seconds:g} s", f"{reply.seconds:.2f} s"))
    if identity.status == 200:
        _compare_get(page, "GET", identity, published, edge, failures, notes)
    if gzipped.status == 200:
        _compare_get(page, "GET with gzip", gzipped, published, edge, failures, notes)
    if identity.status == head.status == 200:
        _compare_head(page, identity, head, failures)
    # The same words of two answers are one failure.
    return Comparison(tuple(dict.fromkeys(failures)), tuple(dict.fromkeys(notes)), tuple(dict.fromkeys(unseen)))


def is_of_hotpath(reply: Reply) -> bool:
    """Whether an answer has the fields that hotpath alone sends."""
    members = reply.headers.get("cache-status", "").split(",")
    return reply.generation is not None or any(_is_own(member) for member in members)


def is_refused(reply: Reply) -> bool:
    """Whether somebody other than hotpath answered with another status than 200, or nobody did."""
    return reply.status != 200 and not is_of_hotpath(reply)


def edge_status(headers: Mapping[str, str]) -> str | None:
    """What a cache on the way says of the answer, ``HIT`` say; ``None`` where none says anything."""
    for name in _CACHES:
        if value := headers.get(name, "").strip():
            return value.split(",")[-1].split(" from ")[0].strip().upper()
    for member in headers.get("cache-status", "").split(","):
        cache, _, parameters = member.strip().partition(";")
        if cache and cache.strip().lower() != "hotpath":
            words = parameters.replace(" ", "").split(";")
            return "HIT" if "hit" in words else "MISS"
    return None


def lifetime_seconds(item: Item) -> int:
    """How long a cache may answer with a copy: the ``max-age`` it goes by, and ``stale-while-revalidate`` on top."""
    policy = item.policy
    field = (policy.cdn_cache_control or policy.cache_control).lower()
    directives = {name: int(seconds) for name, seconds in _DIRECTIVE.findall(field)}
    return directives.get("s-maxage", directives.get("max-age", 0)) + directives.get("stale-while-revalidate", 0)


def most_bytes(item: Item) -> int:
    """Bytes of an answer that are read: a page of another night may be larger, and an endless one is only wrong."""
    return 2 * item.identity.length + EXTRA_BYTES


def unpacked(body: bytes, max_bytes: int) -> bytes | None:
    """A gzip body decoded, at most one byte more than ``max_bytes``; ``None`` where it is no whole gzip."""
    decoder = zlib.decompressobj(wbits=31)
    try:
        data = decoder.decompress(body, max_bytes + 1)
    except zlib.error:
        return None
    return data if decoder.eof or len(data) > max_bytes else None


def _unanswered(page: PublicPage, what: str, reply: Reply) -> list[Mismatch]:
    if reply.status == 200:
        return []
    if not reply.status:
        return [Mismatch(page.url, f"{what}: status", "200", reply.problem or "no answer")]
    why = None
    if location := reply.headers.get("location"):
        why = f"redirects are not followed; it leads to {location}: give the base URL that answers itself"
    elif is_of_hotpath(reply):
        why = "hotpath itself answered"
    elif reply.status == 404:
        why = "the app answered, not hotpath: it does not serve this generation, or under another path"
    elif reply.status in (401, 403, 429, 503):
        why = "a firewall or a limit, perhaps; let it pass the user agent of the check (--user-agent)"
    return [Mismatch(page.url, f"{what}: status", "200", str(reply.status), why)]


def _compare_get(
    page: PublicPage,
    what: str,
    reply: Reply,
    published: Expected,
    edge: bool,
    failures: list[Mismatch],
    notes: list[str],
) -> None:
    """One GET that was answered with 200: coding, generation, bytes, rows."""
    body = _decoded(page, what, reply, failures, notes)
    if body is None:
        return
    digest = hashlib.sha256(body).digest()
    other = _other_generation(page, reply, digest, published, edge)
    if isinstance(other, str):
        notes.append(other)
        return
    if other is not None:
        failures.append(other)
        number = _number(reply.generation) if reply.generation else _number(other.found.partition(" ")[0])
        if digest == published.digest_in(number or 0, page.item.key):
            return  # the bytes of that generation: one failure says it
    identity = page.item.identity
    if digest != identity.sha256:
        expected = f"{identity.length} bytes, sha256 {identity.sha256.hex()[:16]}…"
        size = f"{len(body)} bytes{'' if reply.is_whole else ' and more'}"
        why = _NO_GENERATION if reply.generation is None and published.says_generation else None
        failures.append(Mismatch(page.url, "content", expected, f"{size}, sha256 {digest.hex()[:16]}…", why))
    failures += _wrong_rows(page, body)
    if (left := _time_left(reply)) is not None and left < 0:
        notes.append(f"{page.url}: {-left} s past its lifetime; it is served all the same")


def _decoded(page: PublicPage, what: str, reply: Reply, failures: list[Mismatch], notes: list[str]) -> bytes | None:
    """The body without its coding; ``None`` where it cannot be decoded."""

    def wrong(expected: str, coding: str, why: str | None = None) -> None:
        failures.append(Mismatch(page.url, f"{what}: coding", expected, coding, why))

    coding = reply.headers.get("content-encoding", "identity").strip().lower() or "identity"
    if coding not in ("gzip", "identity"):
        wrong("gzip or none", coding, "it was not in Accept-Encoding (RFC 9110 §12.5.3)")
        return None
    if what == "GET" and coding != "identity":
        wrong("none", coding, "Accept-Encoding was identity")
    has_gzip = any(representation.coding == "gzip" for representation in page.item.representations)
    if what != "GET" and coding == "identity" and has_gzip:
        notes.append(f"{page.url}: gzip was asked for and the page has it, the answer came without")
    if coding == "identity":
        return reply.body
    body = unpacked(reply.body, most_bytes(page.item)) if reply.is_whole else None
    if body is None:
        wrong("gzip that decodes to the page", "no whole gzip")
    return body


def _other_generation(
    page: PublicPage, reply: Reply, digest: bytes, published: Expected, edge: bool
) -> Mismatch | str | None:
    """What is to say of an answer that is not of the current generation; text where that is all right."""
    said = reply.generation
    expected = str(published.generation)
    if said is None:
        # A server in front need not pass it on; the bytes say it too.
        said = _generation_of(digest, page, published)
    if said is None or said == expected:
        return None
    number = _number(said)
    age, lifetime = reply.age, lifetime_seconds(page.item)
    is_copy_from_before = age is not None and published.now - age <= published.at + SLACK_SECONDS
    if number is not None and number in published.bad:
        why = f"generation {number} is marked bad ({published.bad[number]}); purge the edge"
    elif age is None:
        why = "no cache says that it stored this (no Age): a server that does not follow the store"
    elif not is_copy_from_before:
        why = f"stored {age} s ago, after generation {expected} was published: the origin still answered {said}"
    elif age > lifetime:
        why = f"a copy that is {age} s old, and a cache may keep it for {lifetime} s; purge the edge"
    elif not edge:
        why = f"a copy that a cache stored {age} s ago; with --edge this is right until it is {lifetime} s old"
    elif number is not None and digest in (page.item.identity.sha256, published.digest_in(number, page.item.key)):
        return (
            f"{page.url}: a copy of generation {said} at the edge, {age} s old;"
            f" right for {lifetime - age} s more, or until it is purged"
        )
    else:
        why = "a copy at the edge whose bytes are neither those of its generation nor of the current one"
    by_bytes = "" if reply.generation else " (by its bytes)"
    return Mismatch(page.url, "generation", expected, f"{said}{by_bytes}", why)


def _generation_of(digest: bytes, page: PublicPage, published: Expected) -> str | None:
    """The generation that has these bytes, the current one first; ``None`` where none has."""
    if digest == page.item.identity.sha256:
        return str(published.generation)
    return next((str(old) for old in published.older if published.digest_in(old, page.item.key) == digest), None)


def _wrong_rows(page: PublicPage, body: bytes) -> list[Mismatch]:
    """Whether the rows of a payload are as many as were published, and no required field is null."""
    expects = page.expects
    if expects is None or expects.records is None or not is_json(page.item.policy.media_type):
        return []
    wanted = (page.item.metrics or {}).get("rows")
    required = f", {', '.join(expects.required)} never null" if expects.required else ""
    expected = f"{wanted if wanted is not None else f'at least {expects.min_rows}'} rows in {expects.records}{required}"
    try:
        rows = measure(
            orjson.loads(body),
            records=expects.records,
            required=expects.required,
            row_key=None,
            source_time=None,
            min_rows=expects.min_rows,
            before=None,
        )["rows"]
    except orjson.JSONDecodeError as error:
        return [Mismatch(page.url, "rows", expected, f"no JSON ({error})")]
    except ItemError as error:
        return [Mismatch(page.url, "rows", expected, error.problem)]
    if wanted is not None and rows != wanted:
        return [Mismatch(page.url, "rows", expected, f"{rows} rows")]
    return []


def _compare_head(page: PublicPage, identity: Reply, head: Reply, failures: list[Mismatch]) -> None:
    if head.generation != identity.generation:
        return  # a copy of another generation: said of the GET
    length, expected = head.headers.get("content-length", ""), str(len(identity.body))
    is_coded = "content-encoding" in head.headers or "content-encoding" in identity.headers
    if length not in ("", expected) and not is_coded:
        failures.append(Mismatch(page.url, "HEAD: length", expected, length, "RFC 9110 §9.3.2"))
    mine, theirs = head.headers.get("etag"), identity.headers.get("etag")
    if mine is not None and theirs is not None and mine != theirs:
        failures.append(Mismatch(page.url, "HEAD: ETag", theirs, mine, "RFC 9110 §9.3.2"))


def _is_own(member: str) -> bool:
    return member.strip().partition(";")[0].strip().lower() == "hotpath"


def _number(generation: str | None) -> int | None:
    return int(generation) if generation and generation.isascii() and generation.isdigit() else None


def _time_left(reply: Reply) -> int | None:
    for member in reply.headers.get("cache-status", "").split(","):
        if _is_own(member) and (ttl := _TTL.search(member)):
            return int(ttl[1]) - (reply.age or 0)
    return None
