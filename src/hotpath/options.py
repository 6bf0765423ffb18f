"""Options and results as people and programs write and read them: ``"64MiB"``, ``"26h"``, printable text, JSON."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import orjson

from hotpath.errors import DeclarationError

_Kind = TypeVar("_Kind")

_NUMBER = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")

# KiB, MiB … are powers of 1024 (IEC 80000-13). So are K, M, G alone, as systemd, nginx and the JVM read them; KB, MB …
# are powers of 1000 (SI), since a disk's label says so.
_BYTES = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgt", start=1):
    _BYTES |= {_letter: 1024**_power, f"{_letter}ib": 1024**_power, f"{_letter}b": 1000**_power}

_EXAMPLES_OF_SECONDS = "seconds: 3600, '50ms', '90s', '10m', '26h' or '7d'"
_EXAMPLES_OF_WHOLE_SECONDS = "seconds: 3600, '90s', '10m', '26h' or '7d'"
_SECONDS = {"": 1, "ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}


def parse_bytes(value: int | str, name: str) -> int:
    """A number of bytes from an int or from text like ``"64MiB"``. ``name`` is the option, for the error."""
    examples = "bytes: 67108864, '64MiB' or '64M' (both 1024-based), '64MB' (1000-based)"
    return max(1, int(_parse(value, name, _BYTES, f"no positive number of {examples}")))


# Waits and dates far beyond it overflow what the operating system counts in.
MAX_SECONDS = 10 * 366 * 86400.0


def parse_seconds(value: float | str, name: str, *, least: float = 1e-3) -> float:
    """Seconds, ``least`` to ``MAX_SECONDS``, from a number or from text like ``"26h"``, ``"0.5s"`` or ``"50ms"``."""
    seconds = _parse(value, name, _SECONDS, f"no number of {_EXAMPLES_OF_SECONDS}", 0)
    if seconds < least:
        raise DeclarationError(f"{name}={value!r} is less than {least:g} s; write {_EXAMPLES_OF_SECONDS}")
    if seconds > MAX_SECONDS:
        raise DeclarationError(f"{name}={value!r} is more than ten years; write {_EXAMPLES_OF_SECONDS}")
    return seconds


def parse_whole_seconds(value: float | str, name: str) -> int:
    """Whole seconds, 1 or more, from a number or from text like ``"26h"``."""
    problem = f"no whole number of {_EXAMPLES_OF_WHOLE_SECONDS}"
    number = _parse(value, name, _SECONDS, problem, 1)
    if number != int(number):
        raise DeclarationError(f"{name}={value!r} is {problem}")
    return int(number)


def parse_count(value: int, name: str) -> int:
    """A whole number of things, 1 or more."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise DeclarationError(f"{name}={value!r} is no whole number of 1 or more")
    return value


def check_between(value: float, name: str, low: float, high: float, advice: str) -> None:
    """Raise ``DeclarationError`` with ``advice`` unless ``value`` is a number from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise DeclarationError(f"{name}={value!r}: {advice}")


def _parse(value: float | str, name: str, units: Mapping[str, float], problem: str, least: float = 1e-9) -> float:
    number = math.nan
    if isinstance(value, str):
        match = _NUMBER.fullmatch(value)
        if match and match.group(2).lower() in units:
            number = float(match.group(1)) * units[match.group(2).lower()]
    elif isinstance(value, int | float) and not isinstance(value, bool):
        number = value
    if not (least <= number < math.inf):
        raise DeclarationError(f"{name}={value!r} is {problem}")
    return number


def human_bytes(count: float) -> str:
    """``12.3 KiB``."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def human_seconds(seconds: int) -> str:
    """``3 h``: the largest unit that gives at least two of it."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def is_plain(given: object) -> bool:
    """Whether it can be called and returns its result; a coroutine function would be called and never awaited."""
    called = getattr(given, "__call__", None)  # noqa: B004  the method is looked into
    return called is not None and not inspect.iscoroutinefunction(given) and not inspect.iscoroutinefunction(called)


def to_json(value: object) -> Any:
    """``value`` with only what JSON has: a dataclass as an object of its fields, a path or an error as its text.

    Not ``dataclasses.asdict``, which copies what it does not know and leaves it in, nor orjson, which refuses names of
    files that are not UTF-8.
    """
    if is_dataclass(value):
        return {field.name: to_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): to_json(part) for name, part in value.items()}
    if isinstance(value, str | int | float | None):
        return value
    return [to_json(part) for part in value] if isinstance(value, Sequence | AbstractSet) else str(value)


def check_kind(name: str, given: _Kind | None, kind: type[_Kind], example: str) -> _Kind:
    """An option that is an object of its own: the default one for ``None``. Raises ``DeclarationError`` for others."""
    if given is None:
        return kind()
    if not isinstance(given, kind):
        raise DeclarationError(f"{name}={given!r}: write {kind.__name__}({example})")
    return given


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
