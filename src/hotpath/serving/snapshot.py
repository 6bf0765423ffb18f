"""What a process holds of the current generation: pages with their answers built in advance.

Everything a request could need is made here, at load: header lists, validators, one variant for each content coding.
A snapshot is replaced as a whole, never changed, so one request never sees two generations.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field

from hotpath.pages.codings import is_compressible
from hotpath.pages.keys import TRACKING, Ignored
from hotpath.pages.policy import Policy
from hotpath.serving.rfc9110 import CODING_BITS, format_http_date
from hotpath.store.manifest import Item
from hotpath.types import Header

_ALL_MASKS = 2 ** len(CODING_BITS)


class Freshness:
    """How long the pages of one age still count as fresh; ``headers`` is the one field that says so (RFC 9211 §2.5).

    Shared by all pages published at one time with one lifetime, and rewritten once a second by the reader, so that
    no request has to look at a clock. ``detail`` is a token that says what is unusual: pinned, degraded.
    """

    __slots__ = ("detail", "expires", "headers", "line")

    def __init__(self, expires: int, now: float, detail: bytes = b"") -> None:
        self.expires = expires
        self.detail = b"; detail=" + detail if detail else b""
        self.update(now)

    def update(self, now: float) -> None:
        """Say what is left at ``now`` (seconds since the epoch); negative when stale."""
        self.set(b"hotpath; hit; ttl=%d%b" % (self.expires - int(now), self.detail))

    def set(self, value: bytes) -> None:
        """Take this value of the field, as ASGI has fields and as the wire has them."""
        self.headers: list[Header] = [(b"cache-status", value)]
        self.line = field_lines(self.headers)


class Answer:
    """A response ready to be sent: status, headers without ``cache-status``, body. ``uses`` counts how often it was.

    ``kept_lines`` is what ``lines`` gave, and ``None`` before.
    """

    __slots__ = ("body", "freshness", "headers", "kept_lines", "status", "uses")

    def __init__(self, status: int, headers: list[Header], body: bytes, freshness: Freshness) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.freshness = freshness
        self.uses = 0
        self.kept_lines: bytes | None = None

    @property
    def lines(self) -> bytes:
        """``headers`` as they go on the wire, kept from when they are first asked for."""
        if self.kept_lines is None:
            self.kept_lines = field_lines(self.headers)
        return self.kept_lines


class Serve(Answer):
    """200 or 206 with bytes of one representation; to HEAD with its headers only."""

    __slots__ = ()


class NotModified(Answer):
    """304: the client has these bytes."""

    __slots__ = ()


class Refuse(Answer):
    """406, 412 or 416: the request asks for something that the page cannot be."""

    __slots__ = ()


class Redirect(Answer):
    """308 to the same page without, or with, a slash at the end."""

    __slots__ = ()


class Variant(Serve):
    """One representation in memory, which is its own usual answer; HEAD and 304 are made when first asked for.

    Few pages are ever asked for either, and each object is one more that the garbage collector stops the process to
    visit: with all three made at load, 15,000 pages took it 160 ms in one go.
    """

    __slots__ = ("_shared_from", "etag", "head", "last_modified", "not_modified")

    def __init__(
        self,
        body: bytes,
        etag: bytes,
        last_modified: int,
        representation_headers: list[Header],
        shared_headers: list[Header],
        freshness: Freshness,
    ) -> None:
        headers = [(b"content-length", b"%d" % len(body)), *representation_headers, (b"etag", etag), *shared_headers]
        super().__init__(200, headers, body, freshness)
        self.etag = etag
        self.last_modified = last_modified
        self._shared_from = 1 + len(representation_headers)
        self.head: Serve | None = None
        self.not_modified: NotModified | None = None

    @property
    def shared_headers(self) -> list[Header]:
        """What a 304 repeats of the 200 (RFC 9110 §15.4.5)."""
        return self.headers[self._shared_from :]

    def make_head(self) -> Serve:
        """The answer to HEAD, kept from now on."""
        self.head = Serve(200, self.headers, b"", self.freshness)
        return self.head

    def make_not_modified(self) -> NotModified:
        """The 304, kept from now on."""
        self.not_modified = NotModified(304, self.shared_headers, b"", self.freshness)
        return self.not_modified

    @property
    def all_uses(self) -> int:
        """How often this answer, or the one to HEAD, or the 304 was sent."""
        return sum(answer.uses for answer in (self, self.head, self.not_modified) if answer is not None)


# Indexed by a mask of acceptable codings: the smallest of them, or None where the page has none of them.
Variants = tuple[Variant | None, ...]


class Page:
    """One key whose bytes are in memory. ``digests`` are of its representations, the identity coding's first."""

    __slots__ = ("digests", "file", "freshness", "generation", "key", "parts", "policy", "refusals", "variants")

    def __init__(self, item: Item, generation: int | None, freshness: Freshness, variants: Variants) -> None:
        # Not the item itself: flat bytes and text are nothing to the garbage collector.
        self.key = item.key
        self.policy = item.policy
        self.file = item.identity.file
        self.digests = item.digests
        self.generation = generation
        self.freshness = freshness
        self.variants = variants
        # Answers that are made for one request, and so have no counter that stays.
        self.parts = 0
        self.refusals = 0

    @property
    def bodies(self) -> dict[str, bytes]:
        """The bodies, by content coding."""
        return {
            coding: variant.body for coding, bit in CODING_BITS.items() if (variant := self.variants[bit]) is not None
        }

    @property
    def uses(self) -> int:
        """How often an answer of this page was sent."""
        return sum(variant.all_uses for variant in set(self.variants) if variant) + self.parts

    def results(self) -> dict[str, int]:
        """How often it was answered with what, in the words of ``HotpathRequest.result``."""
        unchanged = sum(v.not_modified.uses for v in set(self.variants) if v and v.not_modified)
        return {"hit": self.uses - unchanged, "not_modified": unchanged, "refused": self.refusals}


class Chosen:
    """Which variant of a page a mask of acceptable codings comes to, by mask and key, for those who ask again.

    From a key straight to the answer: on the way over ``pages`` are a page and a tuple more, and with 100,000 keys none
    of these is in a cache of the processor. ``forget`` has to be called after each change of ``pages``. Any thread
    may call ``note`` meanwhile.
    """

    # With its key an answer takes 120 bytes of a table. Clients choose the masks, and use three or four.
    MAX_MASKS = 4

    __slots__ = ("by_mask", "pages")

    def __init__(self, pages: Mapping[bytes, Page]) -> None:
        self.pages = pages
        self.by_mask: dict[int, dict[bytes, Variant]] = {}

    def note(self, mask: int, key: bytes, page: Page, variant: Variant) -> None:
        """Remember the variant of a page that was just found in ``pages``."""
        known = self.by_mask.get(mask)
        if known is None:
            if len(self.by_mask) >= self.MAX_MASKS:
                return
            known = self.by_mask.setdefault(mask, {})
        known[key] = variant
        # Who changes pages does so before forget: either that comes after this line, or the page has gone already.
        if self.pages.get(key) is not page:
            known.pop(key, None)

    def forget(self, key: bytes) -> None:
        """The page of a key is another one, or gone."""
        for known in [*self.by_mask.values()]:
            known.pop(key, None)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a process serves at one moment. Keys are request targets: path, or path?query.

    ``keys`` are all there are, ``pages`` those whose bytes are in memory. ``pages`` is a cache: the reader puts pages
    of this snapshot in and out of it, and tells ``chosen``. ``folded`` are the keys of routes with ``fold_case``;
    ``query_names`` names, for each path whose route declares some, the parameters that belong to the key.

    ``ignored`` are the parameters that no key has. ``begin_redirect`` counts a
    redirect to a key and gives the static fields of its page.

    ``is_exact`` says that a path without percent-encoding is a key as it stands or none: nothing is folded,
    redirected or encoded. ``is_loaded`` says that the store was looked at.
    """

    generation: int | None = None
    created: int | None = None
    keys: Container[bytes] = field(default=(), repr=False)
    pages: Mapping[bytes, Page] = field(default_factory=dict, repr=False)
    folded: Container[bytes] = field(default=(), repr=False)
    query_names: Mapping[bytes, frozenset[str]] = field(default_factory=dict, repr=False)
    redirect_slashes: bool = False
    ignored: Ignored = TRACKING
    begin_redirect: Callable[[bytes], list[Header]] = field(default=lambda _: [], repr=False)
    is_exact: bool = True
    is_loaded: bool = True
    chosen: Chosen = field(default_factory=lambda: Chosen({}), repr=False)


# Before the first load nothing may be taken for a miss.
UNREAD = Snapshot(is_loaded=False, is_exact=False)


def index_by_mask(variants: Mapping[str, Variant]) -> Variants:
    """For each mask of acceptable codings the smallest variant; between equals the simpler coding."""
    ordered = sorted(variants.items(), key=lambda pair: (len(pair[1].body), CODING_BITS[pair[0]]))
    return tuple(
        next((variant for coding, variant in ordered if mask & CODING_BITS[coding]), None) for mask in range(_ALL_MASKS)
    )


def make_page(
    item: Item,
    generation: int | None,
    freshness: Freshness,
    bodies: Mapping[str, bytes],
    now: float,
    site_headers: Sequence[tuple[str, str]] = (),
    *,
    generation_header: bool,
) -> Page:
    """A page with its answers, from verified bytes by content coding."""
    policy = item.policy
    # A clock that went back must not put Last-Modified after Date (RFC 9110 §8.8.2.1).
    last_modified = min(item.last_modified, int(now))
    shared = _shared_headers(policy, site_headers, generation if generation_header else None)
    digest = etag_text(item.identity.sha256)
    variants = {}
    for coding, body in bodies.items():
        own = [
            (b"content-type", policy.media_type.encode("latin-1")),
            (b"last-modified", format_http_date(last_modified)),
        ]
        suffix = b""
        if coding != "identity":
            own.append((b"content-encoding", coding.encode("ascii")))
            suffix = b"-" + coding.encode("ascii")
        variants[coding] = Variant(body, b'"' + digest + suffix + b'"', last_modified, own, shared, freshness)
    return Page(item, generation, freshness, index_by_mask(variants))


def field_lines(headers: Sequence[Header]) -> bytes:
    """Fields as HTTP/1.1 writes them (RFC 9112 §5), each with its line end."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


def etag_text(sha256: bytes) -> bytes:
    """The opaque part of an entity tag: 96 bits of the digest, the same in every worker and after a rollback."""
    return sha256[:12].hex().encode("ascii")


def refuse(variant: Variant, page: Page, status: int, *extra: Header) -> Refuse:
    """A refusal that a cache may not keep in place of the page; with its fields for browsers, as CORS and CSP."""
    page.refusals += 1
    fields = (header for header in variant.shared_headers if header[0] not in _OF_THE_REPRESENTATION)
    return Refuse(status, [(b"content-length", b"0"), *extra, *fields], b"", page.freshness)


# Fields that say something about the bytes of a page (RFC 9110 §8, RFC 9530), or how long they may be kept.
_OF_THE_REPRESENTATION = frozenset(
    b"etag cache-control cdn-cache-control surrogate-control expires pragma age content-language content-location"
    b" content-disposition content-md5 content-digest repr-digest digest link accept-ranges last-modified".split()
)


def partial(variant: Variant, page: Page, start: int, stop: int) -> Serve:
    """206 with one range (RFC 9110 §15.3.7): the 200's headers with the length of the part and where it lies."""
    page.parts += 1
    total = len(variant.body)
    headers = [(b"content-length", b"%d" % (stop - start))]
    headers += variant.headers[1:]
    headers.append((b"content-range", b"bytes %d-%d/%d" % (start, stop - 1, total)))
    return Serve(206, headers, variant.body[start:stop], page.freshness)


def static_headers(policy: Policy, site_headers: Sequence[tuple[str, str]]) -> list[Header]:
    """The declared fields of a page: its route's own, and those of the site that the route does not replace."""
    own = {name.lower() for name, _ in policy.headers}
    fields = [*(field for field in site_headers if field[0].lower() not in own), *policy.headers]
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in fields]


def redirect_headers(fields: Sequence[Header]) -> list[Header]:
    """Those of a page's declared fields that a redirect to it has too."""
    return [header for header in fields if header[0] not in _OF_THE_REPRESENTATION]


def _shared_headers(policy: Policy, site_headers: Sequence[tuple[str, str]], generation: int | None) -> list[Header]:
    headers = [(b"cache-control", policy.cache_control.encode("latin-1"))]
    if policy.cdn_cache_control:
        headers.append((b"cdn-cache-control", policy.cdn_cache_control.encode("latin-1")))
    if is_compressible(policy.media_type):
        headers.append((b"vary", b"Accept-Encoding"))
    headers += static_headers(policy, site_headers)
    if generation is not None:
        headers.append((b"x-hotpath-generation", b"%d" % generation))
    return headers
