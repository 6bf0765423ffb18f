"""Text for people and for files: escaped where it is no text, counted, and JSON that any text fits into."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import orjson

# Characters that a terminal obeys or hides: controls (C0 without tab and line feed, DEL, C1), line separators, marks of
# text direction; and halves of surrogate pairs, which stand for bytes that are no UTF-8 and cannot be encoded.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def printable(text: str) -> str:
    """``text`` as it may be printed and sent: what is not text is escaped as Python would, ``\\x1b``."""
    return _UNPRINTABLE.sub(lambda match: ascii(match[0])[1:-1], text)


def counted(count: int, noun: str) -> str:
    """``1 item``, ``2 items``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def json_bytes(value: object, *, default: Callable[[Any], Any] | None = None, option: int = 0) -> bytes:
    """JSON as ``orjson`` writes it, also of text with halves of surrogate pairs, which are escaped as ``printable``."""
    try:
        return orjson.dumps(value, default=default, option=option)
    except orjson.JSONEncodeError:
        return orjson.dumps(_encodable(value, default), default=default, option=option)


def _encodable(value: Any, default: Callable[[Any], Any] | None) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if is_dataclass(value):
        return {field.name: _encodable(getattr(value, field.name), default) for field in fields(value)}
    if isinstance(value, Mapping):
        return {_encodable(key, default): _encodable(held, default) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [_encodable(held, default) for held in value]
    if default is None or value is None or isinstance(value, int | float):
        return value
    return _encodable(default(value), None)
