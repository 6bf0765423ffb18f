"""From the bytes of a connection to the bytes of an answer: what the door and the protocol of uvicorn share."""

from __future__ import annotations

import http
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from hotpath.front.heads import MAX_BLOCK_BYTES, Blocks, Meaning, RequestHead, is_target
from hotpath.log import logger
from hotpath.serving.reader import Reader, reader_of
from hotpath.serving.resolver import PENDING, Miss, Pending, Selection, resolve
from hotpath.serving.snapshot import Answer, Page, Snapshot, Variant, field_lines
from hotpath.site import Hotpath
from hotpath.types import Header

# A body of at most so many bytes is copied behind its head: cheaper than a call of the kernel with two buffers.
JOIN_BYTES: Final = 65_536

_GET: Final = ord("G")
_QUESTION_MARK: Final = ord("?")
_END: Final = b"\r\n"
_NOTHING: Final[Mapping[bytes, Variant]] = {}
_CLOSE: Final = b"connection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Repeated:
    """The fields of a request that was understood, a GET that is not the last of its connection."""

    block: bytes
    selection: Selection
    # Of the selection, at hand for each request.
    first: int
    is_plain: bool

    @classmethod
    def of(cls, head: RequestHead) -> Repeated | None:
        """``None`` where the next request has to be read in full."""
        selection, block = head.meaning.selection, head.block
        if selection is None or head.method != "GET" or head.meaning.closes or len(block) > MAX_BLOCK_BYTES:
            return None
        return cls(block, selection, selection.first, selection.is_plain)


class Hits:
    """Finds the answers of one site to request heads. For one thread at a time."""

    def __init__(self, hot: Hotpath) -> None:
        self.reader: Reader = reader_of(hot)
        self._hot, self._hosts = hot, hot.reading.hosts
        self.blocks = Blocks(self._hosts)
        self.internal_errors = 0
        self._loader = self.reader.loader

    def follow(self) -> None:
        """Answer for the hosts that are declared now: those of a store may be others with each generation."""
        if self._hot.reading.hosts != self._hosts:
            self._hosts = self._hot.reading.hosts
            self.blocks = Blocks(self._hosts)
        if self._hot.follows_store and self._hot.has_bypass:
            self.reader.once.warn(
                "the app's HotpathMiddleware has bypass=, which the front cannot ask: hot pages are answered without it"
            )

    def find(self, head: RequestHead) -> Answer | None:
        """The answer to a head that was understood, counted; ``None`` where it is not for hotpath, or not in memory."""
        method, target, meaning, _, _ = head
        answer = self.look(method, target, meaning)
        if answer.status <= 0 or not isinstance(answer, Answer):
            return None
        answer.uses += 1
        return answer

    def look(self, method: str, target: bytes, meaning: Meaning) -> Answer | Pending | Miss:
        """As ``find``, not counted. ``Pending`` where it is neither in memory nor known to be the app's."""
        snapshot: Snapshot = self._loader.snapshot
        query = b""
        # A GET of a key as it stands, whether it has a query or not, is a lookup; else path and query are apart.
        if target not in snapshot.pages or method != "GET":
            if not is_target(target):
                return PENDING
            if _QUESTION_MARK in target:
                target, _, query = target.partition(b"?")
        try:
            return resolve(snapshot, method, target, query, meaning.fields)
        except Exception:
            # Whatever is wrong in hotpath must never cost a request that the app could answer.
            self._note_failure()
            return PENDING

    def find_again(self, repeated: Repeated, data: bytes) -> Answer | None:
        """As ``find``, where ``data`` is one GET with the same fields as before; ``None`` where it is not.

        No table of blocks, and no hash of one: of a request only the target is looked up.
        """
        # A key begins with a slash and has no space: what is one when both are taken off is the target of one GET.
        # With slices or startswith() the same takes half as long again.
        line = data.removesuffix(repeated.block)
        target = line.removeprefix(b"GET ")
        snapshot = self._loader.snapshot
        chosen = snapshot.chosen.by_mask.get(repeated.first, _NOTHING).get(target)
        page = None if chosen is not None else snapshot.pages.get(target)
        # Of half a head nothing was taken off, and the target may not be at its end.
        if (chosen is None and page is None) or data[0] != _GET or len(line) == len(data):
            return None
        try:
            answer: Answer | None = chosen
            if chosen is None:
                assert page is not None  # as above
                answer = self._choose(snapshot, repeated, target, page)
            elif not repeated.is_plain:
                answer = repeated.selection.answer_of(chosen)
        except Exception:
            # As above: it goes the long way.
            self._note_failure()
            return None
        if answer is not None:
            answer.uses += 1
        return answer

    def _choose(self, snapshot: Snapshot, repeated: Repeated, target: bytes, page: Page) -> Answer | None:
        variant = page.variants[repeated.first] if repeated.first >= 0 else None
        if variant is not None:
            snapshot.chosen.note(repeated.first, target, page, variant)
        return repeated.selection.choose(page)

    def _note_failure(self) -> None:
        """Whatever is wrong in hotpath must never cost a request that the app could answer."""
        self.internal_errors += 1
        if self.internal_errors == 1:
            logger.exception("hotpath failed on a request, which went to the app; later failures are only counted")


class Opening:
    """What answers begin with: status line and the server's own fields, as uvicorn writes them."""

    def __init__(self, headers: Sequence[Header] = ()) -> None:
        self._fields = field_lines(headers)
        self._lines: dict[int, bytes] = {}

    def head(self, answer: Answer, closes: bool, body: bytes = b"") -> bytes:
        """The whole head of an answer, and ``body`` behind it."""
        status = answer.status
        if status in self._lines:
            line = self._lines[status]
        else:
            line = self._lines[status] = _status_line(status) + self._fields
        lines = answer.kept_lines or answer.lines
        return b"".join((line, lines, answer.freshness.line, _CLOSE if closes else _END, body))


def _status_line(status: int) -> bytes:
    return f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\n".encode("ascii")
