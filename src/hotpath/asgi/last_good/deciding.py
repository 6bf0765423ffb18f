"""What becomes of an answer to GET before its body is known (pure): kept, or not and why, and what goes then."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from hotpath.asgi.last_good import caching, updates
from hotpath.asgi.last_good.directives import Directives
from hotpath.types import Header

# Larger answers are downloads.
MAX_BODY_BYTES: Final = 8 * 1024 * 1024

# The fields that decide, beside those of time: by their value, or by being there.
_DECIDING: Final[Mapping[bytes, bool]] = {
    b"cache-control": True,
    b"cdn-cache-control": True,
    b"vary": True,
    b"content-type": True,
    b"set-cookie": False,
    b"content-range": False,
    b"content-encoding": False,
    b"expires": False,
}


class Decision(NamedTuple):
    """What the status and the fields of an answer decide, whatever its body is.

    ``fields`` are those that are kept, ``vary`` the request fields that select it, ``length`` the bytes that its body
    must have. ``because``: why it is not kept, ``None`` where it is. ``removes``: what is stored of its URL goes.
    ``content`` is the same for the same answer at another time.
    """

    status: int
    fields: tuple[Header, ...]
    because: str | None
    removes: bool
    vary: bytes
    length: int | None
    content: int


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What the fields in ``_DECIDING`` decide. ``is_bound``: with those of time together."""

    because: str | None
    removes: bool
    vary: bytes
    is_bound: bool


def decide(
    status: int, headers: Iterable[Header], asked: Directives, *, is_fresh_mode: bool, is_framed: bool
) -> Decision:
    """The decision about an answer with ``headers`` to a GET that nothing makes personal. ``asked``: the request's."""
    fields = updates.storable_fields(headers)
    deciding: list[Header] = []
    content: list[Header] = []
    length: list[bytes] = []
    for field in fields:
        name = field[0]
        if name in _DECIDING:
            deciding.append(field if _DECIDING[name] else (name, b""))
        elif name == b"date":
            continue
        elif name == b"content-length":
            length.append(field[1])
        content.append(field)
    verdict = _verdict(status, tuple(deciding), "no-store" in asked, is_fresh_mode)
    because = verdict.because
    if because is None and verdict.is_bound and not is_fresh_mode and caching.is_stale_at_once(status, fields):
        because = "it is stale at once and says that it is not to be used then"
    if because is None and not is_framed:
        because = "nothing says where its body ends"
    is_limit_kept = not length or (
        len(set(length)) == 1 and length[0].isdigit() and int(length[0][:20]) <= MAX_BODY_BYTES
    )
    if because is None and not is_limit_kept:
        because = "its Content-Length is too large or no number"
    if because is not None:
        return Decision(status, fields, because, verdict.removes, b"", None, 0)
    whole = int(length[0]) if length else None
    return Decision(status, fields, None, False, verdict.vary, whole, hash((status, *content)))


# The answers of a site have the same few of these fields, whatever their pages are.
@functools.lru_cache(maxsize=64)
def _verdict(status: int, fields: tuple[Header, ...], says_no_store: bool, is_fresh_mode: bool) -> _Verdict:
    asked = Directives(frozenset(("no-store",))) if says_no_store else Directives()
    verdict = caching.storable(status, fields, asked)
    if verdict:
        verdict = caching.is_worth_keeping(fields, is_fresh_mode=is_fresh_mode)
    removes = updates.effect_of_unkept(status, caching.forbidding(status, fields)) is updates.Effect.REMOVE
    vary = b",".join(caching.selecting_fields(fields))
    return _Verdict(None if verdict else verdict.because, removes, vary, caching.is_bound_by_time(fields))
