"""A value with its lifetime, as bytes. How old it is, the server says: clocks of machines differ."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple, Protocol

import orjson

# A mark that no other program's value begins with, how the value is written, and three lifetimes in milliseconds.
_HEAD = struct.Struct("<3scQQQ")
_MARK = b"hp1"
_JSON, _BYTES, _CODEC = b"j", b"b", b"c"


class Codec(Protocol):
    """Values to bytes and back, for those that JSON does not hold."""

    def dumps(self, value: Any) -> bytes:
        """The value as bytes."""
        ...

    def loads(self, data: bytes) -> Any:
        """The value."""
        ...


class SharedValue(NamedTuple):
    """A value, and for how many seconds more it is fresh, may be served stale, and may be served when making fails.

    Each is below zero once that has passed.
    """

    value: Any
    fresh: float
    stale: float
    error: float


def packed(value: Any, codec: Codec | None, fresh: float, stale: float, error: float) -> bytes:
    """The bytes to be kept; lifetimes in seconds from now. Raises ``TypeError`` where JSON cannot hold the value.

    A value that would come back as another one, a tuple as a list, is refused too: it would depend on who made it.
    """
    if codec is not None:
        kind, body = _CODEC, codec.dumps(value)
    elif isinstance(value, bytes):
        kind, body = _BYTES, value
    else:
        body = orjson.dumps(value)
        kind = _JSON
        if orjson.loads(body) != value:
            raise TypeError("JSON gives it back as another value")
    return _HEAD.pack(_MARK, kind, *(round(seconds * 1000) for seconds in (fresh, stale, error))) + body


def unpacked(data: bytes, left_ms: int, codec: Codec | None) -> SharedValue | None:
    """The value in ``data``, of which the server says that it ends in ``left_ms``; None where it is no such value."""
    if left_ms < 0 or len(data) < _HEAD.size:
        return None
    mark, kind, fresh, stale, error = _HEAD.unpack_from(data)
    if mark != _MARK or (kind == _CODEC) != (codec is not None):
        return None
    body = data[_HEAD.size :]
    try:
        value = codec.loads(body) if codec is not None else body if kind == _BYTES else orjson.loads(body)
    except Exception:  # written by somebody else, or by another version of the codec
        return None
    age = max(fresh, stale, error) - left_ms
    return SharedValue(value, *((end - age) / 1000 for end in (fresh, stale, error)))
