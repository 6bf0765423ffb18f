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

# Tolerance for answers of the generation before: clocks differ, and a server follows within a second or two.
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
class Replies:
    """The answers of one page: to a GET that takes no coding, to one that takes gzip, and to HEAD."""

    identity: Reply
    gzipped: Reply
    head: Reply

    @property
    def all(self) -> tuple[Reply, Reply, Reply]:
        return self.identity, self.gzipped, self.head


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
    page: PublicPage, replies: Replies, published: Expected, *, edge: bool, max_seconds: float | None
) -> Comparison:
    """Compare the three answers of a page with what is published.

    With ``edge``, an older generation is right as long as a cache may keep what it stored before the current one.
    """
    return _Comparing(page, published, edge).all_of(replies, max_seconds)


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


class _Comparing:
    """Collects what is to say of the answers of one page. The same words of two answers are one."""

    def __init__(self, page: PublicPage, published: Expected, edge: bool) -> None:
        self._page = page
        self._published = published
        self._edge = edge
        self._failures: list[Mismatch] = []
        self._unseen: list[Mismatch] = []
        self._notes: list[str] = []

    def all_of(self, replies: Replies, max_seconds: float | None) -> Comparison:
        identity = replies.identity
        for what, reply in (("GET", identity), ("GET with gzip", replies.gzipped), ("HEAD", replies.head)):
            if reply.status != 200 and (what == "GET" or reply.status != identity.status):
                self._unanswered(what, reply)  # the same of all three is one failure
            if max_seconds is not None and reply.status and reply.seconds > max_seconds:
                self._fail(f"{what}: time", f"at most {max_seconds:g} s", f"{reply.seconds:.2f} s")
        for what, reply in (("GET", identity), ("GET with gzip", replies.gzipped)):
            if reply.status == 200:
                self._get(what, reply)
        if identity.status == replies.head.status == 200:
            self._head(identity, replies.head)
        failures, unseen = tuple(dict.fromkeys(self._failures)), tuple(dict.fromkeys(self._unseen))
        return Comparison(failures, tuple(dict.fromkeys(self._notes)), unseen)

    def _fail(self, what: str, expected: str, found: str, why: str | None = None) -> None:
        self._failures.append(Mismatch(self._page.url, what, expected, found, why))

    def _note(self, text: str) -> None:
        self._notes.append(f"{self._page.url}: {text}")

    def _unanswered(self, what: str, reply: Reply) -> None:
        is_own = is_of_hotpath(reply)
        why = None
        if not reply.status:
            pass
        elif location := reply.headers.get("location"):
            why = f"redirects are not followed; it leads to {location}: give the base URL that answers itself"
        elif is_own:
            why = "hotpath itself answered"
        elif reply.status == 404:
            why = "the app answered, not hotpath: it does not serve this generation, or under another path"
        elif reply.status in (401, 403, 429, 503):
            why = "a firewall or a limit, perhaps; let it pass the user agent of the check (--user-agent)"
        status = str(reply.status) if reply.status else reply.problem or "no answer"
        (self._failures if is_own else self._unseen).append(
            Mismatch(self._page.url, f"{what}: status", "200", status, why)
        )

    def _get(self, what: str, reply: Reply) -> None:
        """Coding, generation, bytes and rows of one GET that was answered with 200."""
        body = self._decoded(what, reply)
        if body is None:
            return
        item, published = self._page.item, self._published
        digest = hashlib.sha256(body).digest()
        other = self._other_generation(reply, digest)
        if other is not None:
            generation, why = other
            if why is None:
                return
            by_bytes = "" if reply.generation else " (by its bytes)"
            self._fail("generation", str(published.generation), f"{generation}{by_bytes}", why)
            if digest == published.digest_in(_number(generation) or 0, item.key):
                return  # the bytes of that generation: one failure says it
        if digest != item.identity.sha256:
            expected = f"{item.identity.length} bytes, sha256 {item.identity.sha256.hex()[:16]}…"
            size = f"{len(body)} bytes{'' if reply.is_whole else ' and more'}"
            why = _NO_GENERATION if reply.generation is None and published.says_generation else None
            self._fail("content", expected, f"{size}, sha256 {digest.hex()[:16]}…", why)
        self._rows(body)
        if (left := _time_left(reply)) is not None and left < 0:
            self._note(f"{-left} s past its lifetime; it is served all the same")

    def _decoded(self, what: str, reply: Reply) -> bytes | None:
        """The body without its coding; ``None`` where it cannot be decoded."""
        wrong = f"{what}: coding"
        coding = reply.headers.get("content-encoding", "identity").strip().lower() or "identity"
        if coding not in ("gzip", "identity"):
            self._fail(wrong, "gzip or none", coding, "it was not in Accept-Encoding (RFC 9110 §12.5.3)")
            return None
        if what == "GET" and coding != "identity":
            self._fail(wrong, "none", coding, "Accept-Encoding was identity")
        has_gzip = any(representation.coding == "gzip" for representation in self._page.item.representations)
        if what != "GET" and coding == "identity" and has_gzip:
            self._note("gzip was asked for and the page has it, the answer came without")
        if coding == "identity":
            return reply.body
        body = unpacked(reply.body, most_bytes(self._page.item)) if reply.is_whole else None
        if body is None:
            self._fail(wrong, "gzip that decodes to the page", "no whole gzip")
        return body

    def _other_generation(self, reply: Reply, digest: bytes) -> tuple[str, str | None] | None:
        """The generation of an answer that is not of the current one, and why that is wrong (``None``: it is not)."""
        page, published = self._page, self._published
        expected = str(published.generation)
        # A server in front need not pass the field on; the bytes say it too.
        generation = _generation_of(digest, page, published) if reply.generation is None else reply.generation
        if generation is None or generation == expected:
            return None
        number = _number(generation)
        age, lifetime = reply.age, lifetime_seconds(page.item)
        is_copy_from_before = age is not None and published.now - age <= published.at + SLACK_SECONDS
        if number is not None and number in published.bad:
            why = f"generation {number} is marked bad ({published.bad[number]}); purge the edge"
        elif age is None:
            why = "no cache says that it stored this (no Age): a server that does not follow the store"
        elif not is_copy_from_before:
            why = (
                f"stored {age} s ago, after generation {expected} was published: the origin still answered {generation}"
            )
        elif age > lifetime:
            why = f"a copy that is {age} s old, and a cache may keep it for {lifetime} s; purge the edge"
        elif not self._edge:
            why = f"a copy that a cache stored {age} s ago; with --edge this is right until it is {lifetime} s old"
        elif number is not None and digest in (page.item.identity.sha256, published.digest_in(number, page.item.key)):
            self._note(
                f"a copy of generation {generation} at the edge, {age} s old; right for {lifetime - age} s more, or"
                " until it is purged"
            )
            return generation, None
        else:
            why = "a copy at the edge whose bytes are neither those of its generation nor of the current one"
        return generation, why

    def _rows(self, body: bytes) -> None:
        """Whether the rows of a payload are as many as were published, and no required field is null."""
        expects, item = self._page.expects, self._page.item
        if expects is None or expects.records is None or not is_json(item.policy.media_type):
            return
        wanted = (item.metrics or {}).get("rows")
        required = f", {', '.join(expects.required)} never null" if expects.required else ""
        least = f"at least {expects.min_rows}" if wanted is None else wanted
        expected = f"{least} rows in {expects.records}{required}"
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
            self._fail("rows", expected, f"no JSON ({error})")
        except ItemError as error:
            self._fail("rows", expected, error.problem)
        else:
            if wanted is not None and rows != wanted:
                self._fail("rows", expected, f"{rows} rows")

    def _head(self, identity: Reply, head: Reply) -> None:
        if head.generation != identity.generation:
            return  # a copy of another generation: said of the GET
        length, expected = head.headers.get("content-length", ""), str(len(identity.body))
        is_coded = "content-encoding" in head.headers or "content-encoding" in identity.headers
        if length not in ("", expected) and not is_coded:
            self._fail("HEAD: length", expected, length, "RFC 9110 §9.3.2")
        mine, theirs = head.headers.get("etag"), identity.headers.get("etag")
        if mine is not None and theirs is not None and mine != theirs:
            self._fail("HEAD: ETag", theirs, mine, "RFC 9110 §9.3.2")


def _generation_of(digest: bytes, page: PublicPage, published: Expected) -> str | None:
    """The generation that has these bytes, the current one first; ``None`` where none has."""
    if digest == page.item.identity.sha256:
        return str(published.generation)
    return next((str(old) for old in published.older if published.digest_in(old, page.item.key) == digest), None)


def _is_own(member: str) -> bool:
    return member.strip().partition(";")[0].strip().lower() == "hotpath"


def _number(generation: str | None) -> int | None:
    return int(generation) if generation and generation.isascii() and generation.isdigit() else None


def _time_left(reply: Reply) -> int | None:
    for member in reply.headers.get("cache-status", "").split(","):
        if _is_own(member) and (ttl := _TTL.search(member)):
            return int(ttl[1]) - (reply.age or 0)
    return None
