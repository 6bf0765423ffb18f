"""The copy of a site's pages as plain objects: which there are of a generation, and what has to change.

No requests are made here. A bucket answers a path with an object and its few fields, and with nothing else: it
negotiates no coding, takes no account of a query and redirects nobody. What that cannot say is left out and listed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from hotpath.pages.policy import Policy
from hotpath.store.manifest import Item, Manifest

PAGES = "pages/"
INDEX = "index.html"

# Engines that keep objects as files, as SeaweedFS and MinIO do.
MAX_SEGMENT_BYTES = 255

# S3, Google Cloud Storage and Azure take 1,024 bytes with the site's prefix.
MAX_KEY_BYTES = 900

QUERY = "a bucket answers any query with the page that has none"
SLASH = "a bucket takes an encoded slash for a slash"
PLUS = "S3 takes a plus for a space, other engines do not"
EMPTY_SEGMENT = "keys have no empty segments"
DOTS = "keys have no segments '.' and '..'"
NO_TEXT = "keys are UTF-8 without control characters"
TOO_LONG = f"its key would have more than {MAX_KEY_BYTES} bytes, or {MAX_SEGMENT_BYTES} between two slashes"
NOT_ASCII = "engines keep fields in ASCII only"
TAKEN = f"the page {INDEX} beside it has its key"

# Fields that an engine keeps with an object, beside those of every page.
_KEPT = {"content-language": "Content-Language", "content-disposition": "Content-Disposition"}

Fields = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class PageObject:
    """An object of the copy: the digest of its bytes, and the fields that are kept with it."""

    sha256: bytes
    fields: Fields


@dataclass(frozen=True, slots=True)
class SitePages:
    """What the copy of a generation is: its objects by their keys.

    ``left_out`` are keys of pages by the reason why they have no object, ``fields`` the declared fields that an engine
    does not send. ``CDN-Cache-Control`` is not among them: ``Cache-Control`` alone does for a CDN, for other times.
    """

    objects: Mapping[str, PageObject] = field(repr=False)
    left_out: Mapping[str, tuple[str, ...]]
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CopyPlan:
    """What makes the copy that of a generation: objects to put, then keys to remove."""

    put: Mapping[str, PageObject]
    remove: tuple[str, ...]


def pages_of(manifest: Manifest) -> SitePages:
    """The copy of this generation. Each page is in its identity coding: every client reads that, and a CDN encodes."""
    objects: dict[str, PageObject] = {}
    indexes: list[tuple[str, str, PageObject]] = []
    left_out: dict[str, list[str]] = {}
    site_headers = manifest.head.site.reading.headers if manifest.head.site else ()
    kept = {policy: _fields(policy, site_headers) for policy in manifest.head.policies}
    with_query = {key.partition("?")[0] for key in manifest.items if "?" in key}
    for item in manifest.items.values():
        fields = kept[item.policy][0]
        key, problem = object_key(item.key)
        problem = _query_problem(item, with_query) or problem or (NOT_ASCII if fields is None else None)
        if problem is not None or fields is None:
            left_out.setdefault(problem or NOT_ASCII, []).append(item.key)
        elif item.key.endswith("/"):
            indexes.append((item.key, key, PageObject(item.identity.sha256, fields)))
        else:
            objects[key] = PageObject(item.identity.sha256, fields)
    for page, key, page_object in indexes:
        if objects.setdefault(key, page_object) != page_object:
            left_out.setdefault(TAKEN, []).append(page)
    others = {name for _, names in kept.values() for name in names}
    return SitePages(objects, {why: tuple(keys) for why, keys in left_out.items()}, tuple(sorted(others)))


def plan(now: SitePages, before: Iterable[SitePages | None]) -> CopyPlan:
    """From whatever mixture of ``before`` the objects are in to ``now``; ``None`` is a copy that cannot be known.

    An object is put unless all of ``before`` agree on it, and only what one of them has had is ever removed.
    """
    put: dict[str, PageObject] = {}
    removed: set[str] = set()
    for copy in before:
        there: Mapping[str, PageObject] = copy.objects if copy is not None else {}
        put |= {key: page for key, page in now.objects.items() if there.get(key) != page}
        removed |= there.keys() - now.objects.keys()
    return CopyPlan(put, tuple(sorted(removed)))


def object_key(key: str) -> tuple[str, str | None]:
    """The object of a page's path, or why it cannot have one.

    Engines decode a request's path once, so the object has the decoded name; ``/`` and ``/docs/`` are ``index.html``
    in it, as every CDN's rule for index documents has it.
    """
    path = key.partition("?")[0]
    if "%2F" in path:
        return "", SLASH
    if "+" in path:
        return "", PLUS
    if "//" in path:
        return "", EMPTY_SEGMENT
    try:
        name = unquote_to_bytes(path[1:]).decode("utf-8")
    except UnicodeDecodeError:
        return "", NO_TEXT
    if any(character < " " or "\x7f" <= character < "\xa0" for character in name):
        return "", NO_TEXT
    if not name or name.endswith("/"):
        name += INDEX
    segments = name.split("/")
    if not {".", ".."}.isdisjoint(segments):
        return "", DOTS
    if len(name.encode()) > MAX_KEY_BYTES or max(len(each.encode()) for each in segments) > MAX_SEGMENT_BYTES:
        return "", TOO_LONG
    return PAGES + name, None


def _query_problem(item: Item, with_query: set[str]) -> str | None:
    """Also for the page without a query, where others of its path have one: it would be the answer to them all."""
    return QUERY if item.policy.query or item.key.partition("?")[0] in with_query else None


def _fields(policy: Policy, site_headers: tuple[tuple[str, str], ...]) -> tuple[Fields | None, list[str]]:
    """What is kept with a route's objects (``None``: an engine cannot), and the declared fields that are not."""
    declared = {name.lower(): value for name, value in (*site_headers, *policy.headers)}
    fields = [("Content-Type", policy.media_type), ("Cache-Control", policy.cache_control)]
    fields += [(name, declared[lower]) for lower, name in _KEPT.items() if lower in declared]
    others = [name for name in declared if name not in _KEPT]
    return (tuple(fields) if all(value.isascii() for _, value in fields) else None), others
