"""What an answer of the app does to the stored ones: it is kept, it changes or removes one, or nothing."""

from __future__ import annotations

from typing import Final

from hotpath.asgi.last_good import caching, updates
from hotpath.asgi.last_good.answer_table import Asked
from hotpath.asgi.last_good.cache import AnswerCache, Question
from hotpath.asgi.last_good.caching import Stored
from hotpath.asgi.last_good.deciding import MAX_BODY_BYTES, Decision, decide
from hotpath.asgi.last_good.directives import values_of
from hotpath.types import Header, Message

# So much may be collected at a time, of all answers together.
MAX_COLLECTED_BYTES: Final = 24 * 1024 * 1024


class Recording:
    """The body of an answer that is to be kept, as it passes."""

    def __init__(self, cache: AnswerCache, question: Question, asked: Asked, decision: Decision) -> None:
        self._cache = cache
        self._question = question
        self._asked = asked
        self._decision = decision
        self._received = cache.clock()
        self._chunks: list[bytes] = []
        self._size = 0
        self._is_closed = False

    @classmethod
    def of(
        cls, cache: AnswerCache, question: Question, status: int, headers: list[Header], *, is_framed: bool
    ) -> Recording | None:
        """The recording of an answer of the app, ``None`` where its body is not kept."""
        headers = [(name.lower(), value) for name, value in headers]
        asked = question.asked
        if asked is None:
            if question.key is not None:
                for url in updates.invalidated(question.method, status, question.key, headers):
                    cache.file.remove(url)
                    cache.note(url, f"{question.method} made it invalid")
            return None
        if question.method == "HEAD" or status == 304:
            _change(cache, question, asked, status, headers)
            return None
        is_fresh_mode = cache.rules.is_fresh
        decision = decide(status, headers, question.directives, is_fresh_mode=is_fresh_mode, is_framed=is_framed)
        if decision.because is not None:
            leave_out(cache, asked, decision, decision.because)
            return None
        return cls(cache, question, asked, decision)

    def take(self, message: Message) -> None:
        """A piece of the body; with the last one the answer is kept."""
        if self._is_closed:
            return
        if message["type"] != "http.response.body":
            self._give_up("it was sent in a way that cannot be kept")
            return
        chunk = message.get("body", b"")
        self._size += len(chunk)
        self._cache.collected += len(chunk)
        if self._size > MAX_BODY_BYTES or self._cache.collected > MAX_COLLECTED_BYTES:
            self._give_up("it is too large")
            return
        if chunk:
            self._chunks.append(bytes(chunk))
        if not message.get("more_body", False):
            self._keep()

    def close(self) -> None:
        """The answer has ended, whole or not."""
        if not self._is_closed:
            self._give_up("it broke off")

    def _give_up(self, reason: str) -> None:
        self._is_closed = True
        self._cache.collected -= self._size
        self._chunks.clear()
        self._cache.note(self._asked.url, reason)

    def _keep(self) -> None:
        self._is_closed = True
        self._cache.collected -= self._size
        body = b"".join(self._chunks)
        self._chunks.clear()
        keep(self._cache, self._question, self._asked, self._decision, body, self._received)


def leave_out(cache: AnswerCache, asked: Asked, decision: Decision, because: str) -> None:
    """An answer that is not kept."""
    cache.note(asked.url, because)
    if decision.removes:
        cache.file.remove(asked.url)


def keep(
    cache: AnswerCache, question: Question, asked: Asked, decision: Decision, body: bytes, received: float
) -> None:
    """Keep a whole answer, unless it is there already, or must not be after all. ``received``: when its head came."""
    url, file, is_fresh = asked.url, cache.file, cache.rules.is_fresh
    if decision.length is not None and decision.length != len(body):
        cache.note(url, "its Content-Length is not its length")
        return
    if file.is_outdated(url, question.began):
        cache.note(url, "something made it invalid while it came")
        return
    cache.note(url, None)
    if file.is_repeated(asked, url, decision.vary, hash((decision.content, body))) and not is_fresh:
        return
    stored = Stored(decision.status, decision.fields, body, question.requested, received)
    file.put(asked, stored, decision.vary, empty_replaces=cache.rules.empty_replaces)


def _change(cache: AnswerCache, question: Question, asked: Asked, status: int, headers: list[Header]) -> None:
    """An answer to HEAD, or a 304 to the client's own condition: about the answer that is stored, if there is one."""
    requested, received, directives = question.requested, cache.clock(), question.directives
    if status == 304:
        if question.method != "GET" or "no-store" in directives:
            return
    elif status != 200:
        forbidden = caching.forbidding(status, headers)
        if updates.effect_of_unkept(status, forbidden) is updates.Effect.REMOVE:
            cache.file.remove(asked.url)
        return

    def make(old: Stored) -> Stored | None:
        if status == 304:
            # Only where it names the same answer: the client may have another one than is stored.
            if not any(values_of(headers, name) for name in (b"etag", b"last-modified")):
                return old
            changed = updates.freshened(old, headers, requested, received) if updates.is_about(headers, old) else old
        else:
            changed = updates.updated_by_head(old, headers, requested, received)
        return changed if changed is old or caching.storable(old.status, changed.headers, directives) else None

    cache.file.change(asked, make, is_always=cache.rules.is_fresh)
