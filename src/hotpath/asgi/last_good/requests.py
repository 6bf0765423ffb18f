"""What a request is to a shared cache: its key, its variant, and whether it could be somebody's own (pure).

Two requests share an answer only where everything is the same that could have changed it: the URL as it was written,
the fields by which apps and proxies route, and what ``Vary`` names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from hotpath.asgi.last_good.directives import Directives, parse_cache_control, values_of
from hotpath.types import Header

# As the longest targets that servers take. A longer one has no last good answer.
MAX_KEY_BYTES: Final = 16384
# More fields than that in Vary is as good as *.
MAX_VARY_FIELDS: Final = 32

# Cookies of the usual analytics scripts, which the server never looks at. A star stands for the rest of a name.
ANALYTICS_COOKIES: Final = (
    *("_ga", "_ga_*", "_gid", "_gat", "_gat_*", "_gcl_*", "_dc_gtm_*"),
    *("__utma", "__utmb", "__utmc", "__utmt", "__utmv", "__utmz"),
    *("_fbp", "_fbc", "_pk_id.*", "_pk_ses.*", "_pk_ref.*", "_hjid", "_hjSession*", "_hjFirstSeen"),
    *("_clck", "_clsk", "_uetsid", "_uetvid", "_ym_uid", "_ym_d", "_ym_isad", "_ttp", "_scid", "_pin_unauth"),
)

# Who is asking. Beyond RFC 9111 §3.5, which knows one of them.
CREDENTIALS: Final = frozenset(
    (
        *(b"authorization", b"proxy-authorization", b"x-api-key", b"x-auth-token", b"x-access-token"),
        *(b"x-session-id", b"x-csrf-token", b"x-amz-security-token", b"x-goog-iap-jwt-assertion"),
        *(b"x-forwarded-user", b"x-forwarded-email", b"x-remote-user", b"remote-user", b"x-ssl-client-cert"),
    )
)
# What makes a GET something else.
_OVERRIDES: Final = frozenset((b"x-http-method-override", b"x-http-method", b"x-method-override"))
# Fields that change where a request goes or what URLs its answer has, and that no Vary names: they belong to the key.
_ROUTING: Final = frozenset(
    (
        *(b"forwarded", b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-scheme", b"x-forwarded-port"),
        *(b"x-forwarded-prefix", b"x-forwarded-server", b"x-forwarded-ssl", b"x-forwarded-path", b"x-forwarded-uri"),
        *(b"x-host", b"x-scheme", b"x-url-scheme", b"front-end-https", b"x-script-name"),
        *(b"x-original-url", b"x-original-host", b"x-original-uri", b"x-rewrite-url", b"x-real-host"),
    )
)

_FIELD_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]++")
_COOKIE_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++")
_SPACES: Final = re.compile(rb"[ \t]++")


class Cookies:
    """The cookies that do not make a request personal: names, or beginnings of names with a star behind."""

    __slots__ = ("_beginnings", "_names")

    def __init__(self, ignored: Iterable[str]) -> None:
        names = [name.encode("latin-1", "replace") for name in ignored]
        self._names = frozenset(name for name in names if not name.endswith(b"*"))
        self._beginnings = tuple(name[:-1] for name in names if name.endswith(b"*"))

    def ignore(self, value: bytes) -> bool:
        """Whether a ``Cookie`` field has only such cookies. One that cannot be read has others."""
        for pair in value.split(b";"):
            name, equals, _ = pair.strip(b" \t").partition(b"=")
            if not equals or not _COOKIE_NAME.fullmatch(name):
                return False
            if name not in self._names and not name.startswith(self._beginnings or (b"\0",)):
                return False
        return True


def personal(headers: Iterable[Header], cookies: Cookies) -> str | None:
    """Why the answer to a request with these fields could be somebody's own, ``None`` where nothing says so."""
    for name, value in headers:
        if name in CREDENTIALS:
            return f"the request has {name.decode('latin-1').title()}"
        if name == b"cookie" and not cookies.ignore(value):
            return "the request has a Cookie that is not among --ignore-cookies"
    return None


def excluded(method: str, headers: Sequence[Header], cookies: Cookies) -> str | None:
    """Why a request has nothing to do with stored answers, ``None`` where it has."""
    if method not in ("GET", "HEAD"):
        return f"the method is {method}"
    for name, value in headers:
        if name == b"transfer-encoding" or (name == b"content-length" and value.strip(b" \t") != b"0"):
            return "the request has a body"
        if name in (b"if-match", b"if-unmodified-since"):  # for the origin alone (RFC 9111 §4.3.2)
            return f"the request has {name.decode('latin-1').title()}"
        if name in _OVERRIDES:
            return "the request asks for another method than its own"
        if name == b"upgrade":
            return "the request asks for another protocol"
    return personal(headers, cookies)


def request_directives(headers: Iterable[Header]) -> Directives:
    """The directives of a request; ``Pragma: no-cache`` is one where there is no ``Cache-Control`` (RFC 9111 §5.4)."""
    headers = list(headers)
    values = values_of(headers, b"cache-control")
    if not values:
        values = [value for value in values_of(headers, b"pragma") if value.strip(b" \t").lower() == b"no-cache"]
    return parse_cache_control(values)


def key_between(ends: tuple[bytes, bytes], target: bytes) -> bytes | None:
    """The key of a request for ``target``: its URL, and the fields that route. ``None`` for one that is too long.

    ``target`` is as the client wrote it, ``ends`` what ``key_ends`` says. ``GET`` and ``HEAD`` share the key.
    """
    key = ends[0] + target + ends[1]
    return key if target.startswith(b"/") and len(key) <= MAX_KEY_BYTES else None


def key_ends(scheme: str, headers: Iterable[Header]) -> tuple[bytes, bytes] | None:
    """What comes before the target in the keys of requests with these fields, and behind it.

    ``None`` without exactly one host.
    """
    hosts, routing = [], []
    for name, value in headers:
        if name == b"host":
            hosts.append(value.strip(b" \t").lower())
        elif name in _ROUTING:
            routing.append(b"%b: %b" % (name, value.strip(b" \t")))
    if len(hosts) != 1 or not hosts[0]:
        return None
    # A line break is in no URL and in no field: what follows it cannot be mistaken for part of either.
    return url_key(scheme, hosts[0], b""), b"".join(b"\n" + line for line in sorted(routing))


def url_key(scheme: str, host: bytes, target: bytes) -> bytes:
    """The key of a URL without fields that route, which is how the key of each request for it begins.

    Of the default port nothing is left (RFC 9110 §4.2.3).
    """
    port = b":443" if scheme == "https" else b":80"
    return b"%b://%b%b" % (scheme.lower().encode("latin-1"), host.lower().removesuffix(port), target)


def vary_of(headers: Iterable[Header]) -> tuple[bytes, ...] | None:
    """The names of ``Vary``, lower case and sorted; ``None`` for ``*`` and for what is no list of names."""
    names: set[bytes] = set()
    for value in values_of(headers, b"vary"):
        for member in value.lower().split(b","):
            name = member.strip(b" \t")
            if not name:
                continue
            if name == b"*" or not _FIELD_NAME.fullmatch(name):
                return None
            names.add(name)
    return tuple(sorted(names)) if len(names) <= MAX_VARY_FIELDS else None


def variant_of(names: Iterable[bytes], headers: Sequence[Header], cookies: Cookies) -> bytes:
    """The secondary key (RFC 9111 §4.1): what a request has in the fields ``names``. A field that is absent is not the
    same as one that is empty.

    White space and the order of codings do not count; cookies that are ignored are not there.
    """
    parts = []
    for name in names:
        values = [_SPACES.sub(b" ", value.strip(b" \t")) for key, value in headers if key == name]
        if name == b"cookie" and values and all(cookies.ignore(value) for value in values):
            values = []
        if name == b"accept-encoding" and values:
            members = b",".join(values).lower().replace(b" ", b"").split(b",")
            values = [b",".join(sorted(member for member in members if member))]
        text = b", ".join(values)
        parts.append(b"%b=%b" % (name, b"-" if not values else b"%d:%b" % (len(text), text)))
    return b";".join(parts)
