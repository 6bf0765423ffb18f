"""Heads of the app's answers, read once where the same bytes come again: what the client gets of them, and what last
good answers decide about them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from hotpath.asgi.last_good.deciding import Decision
from hotpath.front.fields import HOP_BY_HOP
from hotpath.front.heads import FIELD_LINE, parse_fields
from hotpath.types import Header

# Heads that are kept, and bytes of one: with all full about 3 MB.
MAX_HEADS: Final = 256
MAX_KEPT_BYTES: Final = 2048

# A status with a body, or with an empty one that its length announces; fields as RFC 9112 §5 has them.
_ANSWER: Final = re.compile(
    rb"HTTP/1\.1 ([2-5][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*+)?(\r\n(?:" + FIELD_LINE + rb")*+)\r\n"
)
_END: Final = b"\r\n\r\n"
_MAX_LENGTH_DIGITS: Final = 9
_WITHOUT_BODY: Final = frozenset((b"204", b"205", b"304"))
# Fields that are not simply passed on.
_SPECIAL: Final = HOP_BY_HOP | {b"content-length", b"date", b"server"}

# Of an answer after which the connection ends or changes, or whose body has other bounds than its length.
_UNUSUAL: Final = frozenset((b"connection", b"transfer-encoding", b"upgrade"))


@dataclass(slots=True)
class AnswerHead:
    """An answer's head that is understood: ``fields`` are what the client gets of it. The body is ``begin`` to ``end``.

    ``lines`` are the fields as they go on the wire, without the empty line. ``has_date`` and ``has_server``: whether
    the app has sent these fields itself. ``decisions`` are by whether the request says ``no-store``, the one word of a
    request that counts beside what the head says.
    """

    status: int
    fields: tuple[Header, ...]
    begin: int
    end: int
    has_date: bool
    has_server: bool
    status_line: bytes
    lines: bytes
    decisions: dict[bool, Decision] = field(default_factory=dict)


def parse_answer(data: bytes) -> AnswerHead | None:
    """The head at the beginning of ``data``; ``None`` where it is not whole, or the long way has to read it.

    In one pass, what ``response_fields`` does for every answer.
    """
    head = _ANSWER.match(data)
    if head is None or head[1] in _WITHOUT_BODY:
        return None
    fields: list[Header] = []
    length: bytes | None = None
    has_date = has_server = False
    for pair in parse_fields(head[2]):
        name, value = pair
        if name in _SPECIAL:
            if name == b"content-length":
                if length is not None or not value.isdigit() or len(value) > _MAX_LENGTH_DIGITS:
                    return None
                length = value
            elif name == b"date":
                has_date = True
            elif name == b"server":
                has_server = True
            elif name == b"connection" and value.lower() == b"keep-alive":
                continue
            elif name in _UNUSUAL:
                return None
            else:
                continue
        fields.append(pair)
    if length is None:
        return None
    status, begin = int(head[1]), head.end()
    lines = b"".join([b"%b: %b\r\n" % pair for pair in fields])
    return AnswerHead(
        status, tuple(fields), begin, begin + int(length), has_date, has_server, STATUS_LINE[status], lines
    )


class AnswerHeads:
    """A bounded table from the bytes of heads to what they mean. Pages that many ask for have one head a second."""

    def __init__(self) -> None:
        self._known: dict[bytes, AnswerHead] = {}

    def read(self, data: bytes) -> AnswerHead | None:
        """What ``parse_answer`` says."""
        head = data[: data.find(_END) + 4]
        known = self._known.get(head)
        if known is None:
            known = parse_answer(data)
            # A head that sets a cookie is one client's, and comes once.
            if known is not None and len(head) <= MAX_KEPT_BYTES and not _sets_cookie(known):
                if len(self._known) >= MAX_HEADS:
                    self._known.clear()
                self._known[head] = known
        return known


def _sets_cookie(head: AnswerHead) -> bool:
    return any(name == b"set-cookie" for name, _ in head.fields)
