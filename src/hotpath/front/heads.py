"""What a request head means, read once for each block of header fields; and which heads are not for the door.

The rules are stricter than RFC 9112: a head is understood only where no two HTTP servers read it differently. Anything
else is left, unchanged, to the server that parses HTTP in full.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NamedTuple

from hotpath.pages.hosts import Hosts
from hotpath.serving.resolver import CONSULTED, Selection
from hotpath.types import Header

# Bytes of a head. nginx takes 8 KiB a line; browsers send 1 to 4 KiB with cookies.
MAX_HEAD_BYTES: Final = 16_384
# Field lines of a head: Apache and hyper take 100.
MAX_LINES: Final = 100

# Blocks whose meaning is kept, in each of two halves, and bytes of one: with all full about 5 MB.
MAX_BLOCKS: Final = 1024
MAX_BLOCK_BYTES: Final = 2048

_END: Final = b"\r\n\r\n"

# token ":" OWS field-value OWS (RFC 9112 §5), without obs-fold, control characters and bare line ends.
FIELD_LINE: Final = rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]++):[ \t]*+([\t\x20-\x7e\x80-\xff]*+)\r\n"
_FIELD: Final = re.compile(FIELD_LINE)
# What follows the target. "1.0" is what nginx and ab send to a server behind them.
_BLOCK: Final = re.compile(rb" HTTP/1\.([01])\r\n(?:" + FIELD_LINE + rb")++\r\n")

# The characters of a Host (RFC 3986 §3.2.2) without percent-encoding.
_HOST: Final = re.compile(rb"[A-Za-z0-9._~\-\[\]:]++")

# A target in origin-form (RFC 9112 §3.2.1): no control characters, no bytes beyond ASCII, no fragment.
_TARGET: Final = re.compile(rb"/[\x21\x22\x24-\x7e]*+")

_BARE_LF: Final = re.compile(rb"(?<!\r)\n")

# A field that frames a body, asks for another protocol or an interim answer, or that servers read differently.
_NOT_FOR_THE_DOOR: Final = frozenset(
    b"content-length transfer-encoding trailer te upgrade http2-settings expect proxy-connection".split()
)

_BEGINNINGS: Final = (b"GET /", b"HEAD /")


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a block of header fields comes to: the ``fields`` that can change an answer, and if it is the last one.

    ``selection`` is what ``fields`` come to where a GET is a choice among answers made in advance.
    """

    fields: tuple[Header, ...]
    closes: bool
    selection: Selection | None


class RequestHead(NamedTuple):
    """A request head that is understood; ``end`` is where it ends in its data, ``block`` what ``meaning`` is of."""

    method: str
    target: bytes
    meaning: Meaning
    block: bytes
    end: int


# As RequestHead(…) in half the time: a named tuple's own way is one more call in Python.
_new: Final = tuple.__new__


def parse_block(block: bytes, hosts: Hosts | None = None) -> Meaning | None:
    """The meaning of what follows a target, from the space before the version to the empty line; or ``None``."""
    found = _BLOCK.fullmatch(block)
    if found is None:
        return None
    headers = parse_fields(block)
    if len(headers) > MAX_LINES:
        return None
    host: bytes | None = None
    closes = found.group(1) == b"0"
    has_connection = False
    for name, value in headers:
        if name in _NOT_FOR_THE_DOOR:
            return None
        if name == b"host":
            if host is not None or not _HOST.fullmatch(value):
                return None
            host = value
        elif name == b"connection":
            option = value.lower()
            if has_connection or option not in (b"keep-alive", b"close"):
                return None
            has_connection = True
            closes = closes or option == b"close"
    if host is None or (hosts is not None and not hosts.accept(None, headers)):
        return None
    fields = tuple(header for header in headers if header[0] in CONSULTED)
    return Meaning(fields, closes, Selection.of(fields))


def parse_fields(block: bytes) -> list[Header]:
    """The fields of a block that was understood, as ASGI has them."""
    return [(name.lower(), value.rstrip(b" \t")) for name, value in _FIELD.findall(block)]


class Blocks:
    """A bounded table from blocks of header fields to their meanings; clients send the same few again and again.

    Two halves: when the younger is full the older one is dropped, so that blocks that are sent once, by whoever means
    ill, drive out none that is in use for long.
    """

    def __init__(self, hosts: Hosts | None = None, *, max_blocks: int = MAX_BLOCKS) -> None:
        self._hosts = hosts
        self._max_blocks = max_blocks
        self.young: dict[bytes, Meaning | None] = {}
        self._old: dict[bytes, Meaning | None] = {}

    def __len__(self) -> int:
        return len(self.young) + len(self._old)

    def meaning(self, block: bytes) -> Meaning | None:
        """What ``parse_block`` says."""
        if block in self.young:
            return self.young[block]
        meaning = self._old[block] if block in self._old else parse_block(block, self._hosts)
        if len(block) <= MAX_BLOCK_BYTES:
            if len(self.young) >= self._max_blocks:
                self._old, self.young = self.young, {}
            self.young[block] = meaning
        return meaning

    def read(self, data: bytes, start: int = 0) -> RequestHead | None:
        """The head that begins at ``start``, or ``None`` for what is not understood, half a head too."""
        if data.startswith(b"GET /", start):
            method, begin = "GET", start + 4
        elif data.startswith(b"HEAD /", start):
            method, begin = "HEAD", start + 5
        else:
            return None
        space = data.find(b" ", begin)
        if space < 0:
            return None
        # Mostly there is one head in what came, and its block is known.
        block = data[space:]
        end = len(data)
        meaning = self.young.get(block)
        if meaning is None:
            end = data.find(_END, space) + 4
            if end < 4 or end - start > MAX_HEAD_BYTES:
                return None
            block = data[space:end]
            meaning = self.meaning(block)
            if meaning is None:
                return None
        if meaning.closes and end < len(data):
            return None
        return _new(RequestHead, (method, data[begin:space], meaning, block, end))


def is_target(target: bytes) -> bool:
    """Whether a target is in origin-form and holds only what every server reads in one way."""
    return _TARGET.fullmatch(target) is not None


def is_half(data: bytes, start: int = 0) -> bool:
    """Whether the rest of ``data`` may be the beginning of a head that is understood once it is whole."""
    rest = len(data) - start
    if rest > MAX_HEAD_BYTES or data.find(_END, start) >= 0 or _BARE_LF.search(data, start):
        return False
    return any(data.startswith(beginning[:rest], start) for beginning in _BEGINNINGS)
