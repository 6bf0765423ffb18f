"""How a page goes over the wire: its media type, its header fields, how long it is fresh."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hotpath.errors import DeclarationError
from hotpath.pages.media_types import has_ending, media_type_of_name

# A night's data shows within minutes, and a cache outlives a dead origin by a week. Never with s-maxage: it implies
# proxy-revalidate, which forbids a shared cache to serve stale (RFC 9111 §5.2.2.10).
DEFAULT_CACHE_CONTROL = "public, max-age=60, stale-while-revalidate=600, stale-if-error=604800"


DEFAULT_CDN_CACHE_CONTROL = "public, max-age=300, stale-while-revalidate=600, stale-if-error=604800"


# A nightly batch, and two hours for one that is late.
DEFAULT_LIFETIME = "26h"


# The route of an imported page: no path that can be declared, as those begin with a slash.
IMPORTED = "(imported)"


@dataclass(frozen=True, slots=True)
class Policy:
    """What all items of one route have in common on the wire.

    ``lifetime_seconds`` is how long an item counts as fresh (``ttl`` of RFC 9211); ``query`` and ``fold_case`` say how
    a request becomes a key; ``headers`` are static response fields.
    """

    route: str
    media_type: str
    cache_control: str
    cdn_cache_control: str | None
    lifetime_seconds: int
    query: tuple[str, ...] = ()
    fold_case: bool = False
    headers: tuple[tuple[str, str], ...] = ()


def policy_of(facts: Mapping[str, Any]) -> Policy:
    """The policy whose fields ``facts`` has, as JSON gives them. Raises ``TypeError`` or ``KeyError`` for others."""
    return Policy(**{**facts, "query": tuple(facts["query"]), "headers": tuple(map(tuple, facts["headers"]))})


_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


_BAD_IN_FIELD_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]|[^\x00-\xff]")


# Fields that hotpath makes itself, with the option that decides about each.
_OWN_FIELDS = {
    "cache-control": "cache_control=",
    "cdn-cache-control": "cdn_cache_control=",
    "content-type": "media_type=",
    "vary": "query= (a hot page never varies by a request field other than Accept-Encoding)",
    "set-cookie": "nothing: a hot page is public and the same for everybody",
    **dict.fromkeys(
        (
            *("content-length", "content-encoding", "content-range", "etag", "last-modified", "cache-status", "date"),
            "x-hotpath-generation",
        ),
        "nothing: hotpath makes it from the bytes",
    ),
    **dict.fromkeys(("connection", "transfer-encoding", "keep-alive", "upgrade"), "nothing: it is the server's"),
}


def default_media_type(path: str) -> str:
    """By the ending of the path, as ``media_types`` has it; JSON where that has none."""
    return with_charset(media_type_of_name(path) or "application/json")


def file_media_type(name: str) -> str:
    """Of a file that exists, whose ending says what is in it: no JSON where it says something unknown."""
    otherwise = "application/octet-stream" if has_ending(name) else "application/json"
    return with_charset(media_type_of_name(name) or otherwise)


_PARAMETER = re.compile(r';[ \t]*([^\s;="]+)[ \t]*=[ \t]*("(?:[^"\\]|\\.)*"|[^\s;"]*)')

# Encodings that Python has and no browser.
_NO_CHARSETS = frozenset(("idna", "punycode", "raw_unicode_escape", "undefined", "unicode_escape", "utf_8_sig"))


def charset_of(media_type: str) -> str | None:
    """The charset that a media type names; its parameters' names are case-insensitive (RFC 9110 §8.3.1)."""
    for name, value in _PARAMETER.findall(media_type):
        if name.lower() == "charset":
            return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else str(value)
    return None


def with_charset(media_type: str) -> str:
    """Text without a charset is UTF-8; everything else stays as it is.

    Raises ``DeclarationError`` for a charset that text cannot be encoded in, and for JSON in another than UTF-8.
    """
    charset = charset_of(media_type)
    if charset is None:
        return f"{media_type}; charset=utf-8" if media_type.lower().startswith("text/") else media_type
    try:
        "".encode(charset)
        name = codecs.lookup(charset).name.replace("-", "_")
    except (LookupError, ValueError):
        name = "undefined"
    if name in _NO_CHARSETS:
        raise DeclarationError(f"media_type={media_type!r} names the charset {charset!r}, which is none; write utf-8")
    if media_type.partition(";")[0].rstrip().lower().endswith("json") and name not in ("utf_8", "ascii"):
        raise DeclarationError(f"media_type={media_type!r}: JSON is UTF-8 (RFC 8259 §8.1); leave the charset out")
    return media_type


def check_headers(headers: Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
    """Static response fields, fit to be sent (RFC 9110 §5.1, §5.5). Raises ``DeclarationError``."""
    checked = []
    for name, value in (headers or {}).items():
        if not isinstance(name, str) or not _TOKEN.fullmatch(name):
            raise DeclarationError(f"headers={{{name!r}: …}}: this is no field name; write letters, digits and '-'")
        if name.lower() in _OWN_FIELDS:
            raise DeclarationError(f"headers={{{name!r}: …}}: use {_OWN_FIELDS[name.lower()]}")
        if not isinstance(value, str) or _BAD_IN_FIELD_VALUE.search(value) or value != value.strip():
            raise DeclarationError(f"headers={{{name!r}: {value!r}}}: write one line of Latin-1 text")
        checked.append((name, value))
    return tuple(checked)


def check_field_value(value: str | None, name: str) -> str | None:
    """A field value given as an option. Raises ``DeclarationError``."""
    if value is not None and (not isinstance(value, str) or not value.strip() or _BAD_IN_FIELD_VALUE.search(value)):
        raise DeclarationError(f"{name}={value!r}: write one line of text like 'public, max-age=60'")
    return value
