"""The fields of a request on its way to the app, and those of the answer on its way back.

Connection fields end at the front (RFC 9110 §7.6.1), ``Via`` names it (§7.6.3), and ``X-Forwarded-*`` say who asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import quote

from hotpath.errors import DeclarationError
from hotpath.types import Header, Scope

PSEUDONYM: Final = b"hotpath"
# Key of a scope: the target as the client wrote it, where the server keeps it.
TARGET: Final = "hotpath.target"
# A request that passed so many fronts goes in circles: two tiers are usual, ten are nobody's.
MAX_FRONTS: Final = 10

# About one connection (RFC 9110 §7.6.1), or about a proxy that asked for credentials (§11.7). Trailers are dropped.
HOP_BY_HOP: Final = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
# What frames or routes the message stays, whatever Connection names.
_NEVER_NAMED: Final = frozenset((b"content-length", b"host"))
_FORWARDED: Final = (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host")
# CGI, and so WSGI, has one name for both spellings: who writes the other one would speak for the front.
_FORWARDED_SPELLINGS: Final = frozenset(
    b"x%bforwarded%b%b" % (first, second, name)
    for first in (b"-", b"_")
    for second in (b"-", b"_")
    for name in (b"for", b"proto", b"host")
)
_HANDSHAKE: Final = frozenset(
    b"sec-websocket-" + name for name in (b"accept", b"extensions", b"key", b"protocol", b"version")
)
_ABSOLUTE: Final = re.compile(rb"https?://([^/?@]+)((?:[/?].*)?)", re.IGNORECASE | re.DOTALL)
_METHOD: Final = re.compile(r"[A-Z][A-Z-]*")
_DIGITS: Final = re.compile(rb"[0-9]+")
_CONTROLS: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class BadRequest(Exception):
    """A request that is not passed on. ``status`` is what it gets, and its connection ends."""

    def __init__(self, status: int, problem: str) -> None:
        super().__init__(problem)
        self.status = status
        self.problem = problem


class BadAnswer(Exception):
    """An answer that is not passed on: no server could send it."""


@dataclass(frozen=True, slots=True)
class BodyFraming:
    """How a request's body is framed: by ``length``, or in chunks. Neither: there is none."""

    length: int | None = None
    is_chunked: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether not a byte of a body comes."""
        return not self.is_chunked and not self.length


class Trust:
    """Peers whose ``X-Forwarded-*`` fields are believed: networks (``10.0.0.0/8``), addresses, and ``unix`` for those
    on a Unix socket. Raises ``DeclarationError`` for anything else.
    """

    def __init__(self, peers: Iterable[str] = ()) -> None:
        if isinstance(peers, str):
            raise DeclarationError(f"trust={peers!r}: write a list, ['{peers}']")
        self._networks: list[IPv4Network | IPv6Network] = []
        self._has_unix = False
        for peer in peers:
            if peer == "unix":
                self._has_unix = True
                continue
            try:
                self._networks.append(ip_network(peer))
            except ValueError as problem:
                raise DeclarationError(
                    f"trust: {peer!r} is no network ({problem}); write '10.0.0.0/8', '192.0.2.7' or 'unix'"
                ) from None
        self._known: dict[str, bool] = {}

    def includes(self, peer: str | None) -> bool:
        """Whether the fields of this peer are believed. ``None`` is a peer on a Unix socket."""
        if peer is None:
            return self._has_unix
        if not self._networks:
            return False
        known = self._known.get(peer)
        if known is None:
            if len(self._known) >= 1024:
                self._known.clear()
            address = _address(peer)
            known = address is not None and any(address in network for network in self._networks)
            self._known[peer] = known
        return known


def target_of(scope: Scope) -> tuple[bytes, bytes | None]:
    """The target for the app, and the host that it names itself, which counts in place of ``Host`` (RFC 9112 §3.2.2).

    As the client wrote it where the server keeps that, else from what ASGI keeps of it. Raises ``BadRequest`` for one
    that servers read in several ways.
    """
    written: bytes | None = scope.get(TARGET)
    if written is None:
        written = scope.get("raw_path") or quote(scope["path"], safe="/~!$&'()*+,;=:@").encode("ascii")
        if query := scope.get("query_string"):
            written = b"%b?%b" % (written, query)
    if b"#" in written:
        raise BadRequest(400, "the target has a fragment")
    if written.startswith(b"/") or written == b"*":
        return written, None
    absolute = _ABSOLUTE.fullmatch(written)
    if absolute is None:
        raise BadRequest(400, "the target is no path and names no host")
    authority, rest = absolute.groups()
    return rest if rest.startswith(b"/") else b"/" + rest, authority


def body_of(headers: Iterable[Header], http_version: str = "1.1") -> BodyFraming:
    """How the body is framed. Raises ``BadRequest`` where two servers could read it in two ways (RFC 9112 §6.3)."""
    lengths, codings = [], []
    for name, value in headers:
        if name == b"content-length":
            lengths.append(value.strip(b" \t"))
        elif name == b"transfer-encoding":
            codings.append(value.strip(b" \t").lower())
    if codings:
        if lengths:
            raise BadRequest(400, "both Content-Length and Transfer-Encoding")
        if http_version == "1.0":
            raise BadRequest(400, "Transfer-Encoding in HTTP/1.0")
        if codings != [b"chunked"]:
            raise BadRequest(501, "Transfer-Encoding is not chunked")
        return BodyFraming(is_chunked=True)
    if not lengths:
        return BodyFraming()
    if len(lengths) > 1 or not _DIGITS.fullmatch(lengths[0]):
        raise BadRequest(400, "Content-Length is not one number")
    return BodyFraming(length=int(lengths[0]))


def request_fields(scope: Scope, trust: Trust, default_host: bytes, authority: bytes | None = None) -> list[Header]:
    """The fields that the app gets, but for ``Transfer-Encoding``. ``authority`` is the target's own.

    Raises ``BadRequest`` without exactly one ``Host``.
    """
    headers: list[Header] = scope["headers"]
    named = _named(headers)
    dropped = HOP_BY_HOP | named if named else HOP_BY_HOP
    if scope["type"] == "websocket":
        dropped = dropped | _HANDSHAKE
    client = scope.get("client")
    peer: str | None = client[0] if client and client[0] else None
    is_trusted = trust.includes(peer)
    fields: list[Header] = []
    hosts: list[bytes] = []
    forwarded: dict[bytes, list[bytes]] = {}
    fronts = 0
    for header in headers:
        name, value = header
        if name in dropped or name in _FORWARDED_SPELLINGS:
            if is_trusted and name in _FORWARDED and name not in named:
                forwarded.setdefault(name, []).append(value)
            continue
        if name == b"host":
            hosts.append(value)
        elif name == b"via":
            fronts += value.count(PSEUDONYM)
        elif name == b"content-length":
            header = (name, value.strip(b" \t"))  # noqa: PLW2901 # some servers leave it there
        fields.append(header)
    version = str(scope.get("http_version", "1.1"))
    if fronts >= MAX_FRONTS:
        raise BadRequest(508, "the request goes in circles: the app's address leads to the front again")
    if len(hosts) > 1 or (not hosts and version != "1.0"):
        raise BadRequest(400, "not exactly one Host")
    host = authority or (hosts[0] if hosts else default_host)
    if hosts != [host]:
        fields = [(b"host", host), *(field for field in fields if field[0] != b"host")]
    fields.append((b"via", version.encode("latin-1") + b" " + PSEUDONYM))
    scheme = {"ws": b"http", "wss": b"https"}.get(scope["scheme"]) or scope["scheme"].encode("latin-1")
    return fields + _forwarded(forwarded, peer, scheme, host)


def response_fields(headers: Iterable[Header], status: int, *, is_chunked: bool = False) -> list[Header]:
    """The fields that the client gets, in the order of the app's, repeated ones too.

    Raises ``BadAnswer`` for a value that no server sends.
    """
    fields = [(name.lower(), value) for name, value in headers]
    dropped = HOP_BY_HOP | _named(fields)
    # Nothing follows, and servers wait for as many bytes as the field says; or the chunks count (RFC 9112 §6.3).
    if status in (204, 304) or is_chunked:
        dropped = dropped | {b"content-length"}
    kept = [field for field in fields if field[0] not in dropped]
    if _CONTROLS.search(b" ".join([value for _, value in kept])):
        raise BadAnswer("a field has a control character")
    return kept


def handshake_fields(headers: Iterable[Header]) -> list[Header]:
    """The fields of an accepted WebSocket handshake that are not the handshake's own."""
    return [field for field in response_fields(headers, 101) if field[0] not in _HANDSHAKE]


def head_bytes(method: str, target: bytes, fields: Iterable[Header]) -> bytes:
    """A request's head. Raises ``BadRequest`` for what would read as another head."""
    if not _METHOD.fullmatch(method) or method == "CONNECT":  # each of them is for another kind of server
        raise BadRequest(501, f"{method} is not passed on")
    if not target or b" " in target:
        raise BadRequest(400, "the target is empty or has a space")
    lines = [b"%b %b HTTP/1.1" % (method.encode("ascii"), target), *[b"%b: %b" % field for field in fields]]
    head = b"\r\n".join(lines) + b"\r\n\r\n"
    ends = len(lines) + 1
    if head.count(b"\n") != ends or head.count(b"\r") != ends or b"\0" in head:
        raise BadRequest(400, "a field has a line break or a NUL")
    return head


def _named(headers: list[Header]) -> frozenset[bytes]:
    """Names of the fields that ``Connection`` names, which end here too."""
    options = [value for name, value in headers if name == b"connection"]
    if not options:
        return frozenset()
    return frozenset(option.strip(b" \t").lower() for option in b",".join(options).split(b",")) - _NEVER_NAMED


def _forwarded(believed: dict[bytes, list[bytes]], peer: str | None, scheme: bytes, host: bytes) -> list[Header]:
    """``X-Forwarded-For`` grows by the peer; the others are as the first front that is trusted saw them."""
    path = [*believed.get(b"x-forwarded-for", []), *([peer.encode("latin-1")] if peer else [])]
    values = {
        b"x-forwarded-for": b", ".join(path),
        b"x-forwarded-proto": b", ".join(believed.get(b"x-forwarded-proto", [scheme])),
        b"x-forwarded-host": b", ".join(believed.get(b"x-forwarded-host", [host])),
    }
    return [(name, value) for name, value in values.items() if value]


def _address(peer: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
