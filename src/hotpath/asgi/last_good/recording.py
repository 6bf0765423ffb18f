"""What an answer of the app does to the stored ones: it is kept, it changes or removes one, or nothing."""

from __future__ import annotations

from typing import Final

from hotpath.asgi.last_good import caching, updates
from hotpath.asgi.last_good.answer_table import Asked
from hotpath.asgi.last_good.cache import AnswerCache, Question
from hotpath.asgi.last_good.caching import Stored
from hotpath.asgi.last_good.directives import values_of
from hotpath.types import Header, Message

# Larger answers are downloads; and so much may be collected at a time, of all answers together.
MAX_BODY_BYTES: Final = 8 * 1024 * 1024
MAX_COLLECTED_BYTES: Final = 24 * 1024 * 1024


class Recording:
    """The body of an answer that is to be kept, as it passes."""

    def __init__(self, cache: AnswerCache, asked: Asked, stored: Stored, began: float) -> None:
        self._cache = cache
        self._asked = asked
        self._stored = stored
        self._began = began
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
        fields = updates.storable_fields(headers)
        verdict = caching.storable(status, fields, question.directives)
        if verdict:
            verdict = caching.is_worth_keeping(status, fields, is_fresh_mode=cache.rules.is_fresh)
        if verdict and not is_framed:
            verdict = caching.CacheVerdict(False, "nothing says where its body ends")
        if not verdict:
            cache.note(asked.url, verdict.because)
            forbidden = caching.forbidding(status, fields)
            if updates.effect_of_unkept(status, forbidden) is updates.Effect.REMOVE:
                cache.file.remove(asked.url)
            return None
        length = values_of(headers, b"content-length")
        if length and (not length[0].isdigit() or len(set(length)) > 1 or int(length[0][:20]) > MAX_BODY_BYTES):
            cache.note(asked.url, "its Content-Length is too large or no number")
            return None
        return cls(cache, asked, Stored(status, fields, b"", question.requested, cache.clock()), question.began)

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
        body = b"".join(self._chunks)
        length = values_of(self._stored.headers, b"content-length")
        if length and int(length[0]) != len(body):
            self._give_up("its Content-Length is not its length")
            return
        if self._cache.file.is_outdated(self._asked.url, self._began):
            self._give_up("something made it invalid while it came")
            return
        self._is_closed = True
        self._cache.collected -= self._size
        stored, rules = self._stored, self._cache.rules
        vary = b",".join(caching.selecting_fields(stored.headers))
        whole = Stored(stored.status, stored.headers, body, stored.requested, stored.received)
        self._cache.note(self._asked.url, None)
        self._cache.file.put(self._asked, whole, vary, empty_replaces=rules.empty_replaces, is_always=rules.is_fresh)


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
