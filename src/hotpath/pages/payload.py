"""From what a function returned to the bytes of a page; wrong data is named by its place, ``$.items[3].pe``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from typing import Any

import orjson

from hotpath.errors import ItemError
from hotpath.pages.policy import charset_of

_STRING_KEYS = orjson.OPT_SERIALIZE_NUMPY
_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY


@dataclass(frozen=True, slots=True)
class Built:
    """One page as it was built: ``encoded`` is its body by content coding, ``None`` where nobody encoded it."""

    body: bytes
    metrics: Mapping[str, int] | None
    encoded: Mapping[str, bytes] | None

    @property
    def length(self) -> int:
        """Bytes in all codings."""
        return len(self.body) + sum(map(len, (self.encoded or {}).values()))


def encode_payload(value: object, media_type: str) -> bytes:
    """The body for ``value``: str and bytes as they are, anything else as JSON.

    Raises ``ItemError`` with the place inside the payload for NaN, infinity, types that JSON does not have, and two
    keys that are one member in JSON.
    """
    if isinstance(value, bytes | bytearray | memoryview | str):
        body = _encode_text(value, media_type) if isinstance(value, str) else bytes(value)
        if not body:
            raise ItemError("the function returned nothing (empty text); an empty page is never published")
        if is_json(media_type):
            _require_json(body)
        return body
    if value is None:
        raise ItemError("the function returned None; return the data of the page")
    # Starlette's, FastAPI's, Django's and Quart's: what a framework sends is no data of a page.
    if hasattr(value, "status_code") and hasattr(value, "headers"):
        raise ItemError(
            f"the function returned a {type(value).__name__}; return the data of the page, not a response: hotpath"
            " makes the response (media_type= and headers= of the route are for what it says)"
        )
    if not is_json(media_type):
        raise ItemError(f"the function returned a {type(value).__name__} for {media_type}; return str or bytes")
    try:
        body, has_string_keys = _encode_json(value)
    except TypeError as error:
        try:
            path, problem = next(_unfit(value, "$"), ("$", str(error)))
        except RecursionError:
            path, problem = "$", "is nested too deep for JSON, or contains itself"
        raise ItemError(f"{path} {problem}", path=path) from None
    # orjson writes NaN as null, which would publish a number that never was, and 1 and "1" as the same member. Looking
    # is worth it only where a null is, or a key that is no str.
    if b"null" in body or not has_string_keys:
        for path, problem in _unfit(value, "$"):
            raise ItemError(f"{path} {problem}", path=path)
    return body


def _encode_json(value: object) -> tuple[bytes, bool]:
    """The JSON, and whether all keys in it are str. Raises ``TypeError``."""
    try:
        return orjson.dumps(value, default=_plain, option=_STRING_KEYS), True
    except TypeError:
        return orjson.dumps(value, default=_plain, option=_OPTIONS), False


def _encode_text(text: str, media_type: str) -> bytes:
    """In the charset that the media type names; UTF-8 where it names none, and for JSON."""
    charset = None if is_json(media_type) else charset_of(media_type)
    try:
        return text.encode(charset or "utf-8")
    except UnicodeEncodeError as error:
        raise ItemError(
            f"the text holds {error.object[error.start]!r}, which {charset or 'UTF-8'} does not have;"
            + (" write charset=utf-8" if charset else " decode what it is made of with errors='replace'")
        ) from None


def is_json(media_type: str) -> bool:
    """``application/json`` and the ``+json`` family (RFC 6839)."""
    essence = media_type.partition(";")[0].strip().lower()
    return essence == "application/json" or essence.endswith("+json")


def unfit_bytes(data: bytes, media_type: str) -> str | None:
    """Why the bytes of a file that another program wrote are no page; ``None`` where they are one."""
    if not data:
        return "is empty"
    if is_json(media_type):
        try:
            orjson.loads(data)
        except orjson.JSONDecodeError as error:
            return f"is not JSON ({error})"
    return None


def _require_json(body: bytes) -> None:
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ItemError(
            f"the function returned text that is not JSON ({error}); return the data itself, or declare"
            " the route with media_type='text/html' (or what it is)"
        ) from None


def _plain(value: Any) -> Any:
    """Pydantic models become dicts; every other type orjson does not know is the caller's to convert."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    raise TypeError(f"a {type(value).__name__}")


_ADVICE = {
    "Decimal": "convert it with float() or str()",
    "set": "sort it into a list",
    "frozenset": "sort it into a list",
    "Row": "write dict(row)",
    "bytes": "decode it to str",
    "generator": "make it a list",
}


def _unfit(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """(path, problem) of each thing in ``value`` that cannot be written as JSON."""
    if isinstance(value, Enum):
        yield from _unfit(value.value, path)
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield path, f"is {value}: JSON has no such number; return None where a value is missing"
    elif isinstance(value, Mapping):
        yield from _unfit_keys(value, path)
        for key, inner in value.items():
            yield from _unfit(inner, _member_path(path, key))
    elif isinstance(value, list | tuple):  # a sqlite3.Row is a sequence too, and no JSON
        for index, inner in enumerate(value):
            yield from _unfit(inner, f"{path}[{index}]")
    elif hasattr(value, "model_dump"):
        yield from _unfit(value.model_dump(mode="json"), path)
    elif is_dataclass(value) and not isinstance(value, type):
        for name, inner in _attributes(value):
            yield from _unfit(inner, f"{path}.{name}")
    elif type(value).__module__ == "numpy":
        yield from _unfit(value.tolist(), path)
    else:
        try:
            orjson.dumps(value, option=_OPTIONS)
        except TypeError as error:
            name = type(value).__name__
            yield path, f"is a {name}, which JSON does not have; {_ADVICE.get(name, f'convert it first ({error})')}"


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    """What orjson writes of a dataclass: also attributes that are no field, and none with a leading underscore."""
    names = vars(value) if hasattr(value, "__dict__") else [field.name for field in fields(value)]
    return ((name, getattr(value, name)) for name in names if not name.startswith("_"))


def _unfit_keys(value: Mapping[Any, Any], path: str) -> Iterator[tuple[str, str]]:
    """(path, problem) of keys that JSON does not have, or that are the same member there."""
    if all(type(key) is str for key in value):
        return
    members: dict[bytes, Any] = {}
    for key in value:
        plain = key.value if isinstance(key, Enum) else key
        if isinstance(plain, float) and not math.isfinite(plain):
            yield _member_path(path, key), f"has the key {plain}: JSON has no such number; use a str"
            continue
        try:
            member = orjson.dumps({key: None}, option=_OPTIONS)
        except TypeError:
            kind = type(plain).__name__
            yield _member_path(path, key), f"has a key that is a {kind}, which JSON does not have; use a str"
            continue
        if member in members:
            other = members[member]
            yield _member_path(path, key), f"has the keys {other!r} and {key!r}, which are one member in JSON; use one"
        members[member] = key


def _member_path(path: str, key: object) -> str:
    return f"{path}.{key}" if isinstance(key, str) and key.isidentifier() else f"{path}[{key!r}]"
