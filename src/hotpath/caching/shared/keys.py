"""The name of a value in the shared cache: of one function, one version of its code, and one set of arguments."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import hashlib
import inspect
import types
import uuid
from collections.abc import Callable, Hashable
from typing import Any

from hotpath.errors import DeclarationError

# Values of these types have one text each, the same in every process.
_BY_TEXT = (
    dt.datetime,
    dt.date,
    dt.time,
    dt.timedelta,
    decimal.Decimal,
    uuid.UUID,
    int,
    float,
    str,
    bytes,
)


def digest_of(key: Hashable) -> str:
    """32 hexadecimal digits that are the same for an equal key in every process. Raises ``DeclarationError``.

    ``hash()`` is not: Python draws it anew in each process.
    """
    return hashlib.blake2b(_canonical(key).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _canonical(value: Any) -> str:
    """A text for a value and its type: ``1``, ``1.0``, ``True`` and ``"1"`` are four arguments."""
    kind = type(value)
    if value is None or value is True or value is False or kind in _BY_TEXT:
        return f"{kind.__name__}:{value!r}"
    if isinstance(value, enum.Enum):
        return f"{kind.__module__}.{kind.__qualname__}.{value.name}"
    if isinstance(value, tuple):  # cachetools' key of the arguments is one too
        return f"({','.join(map(_canonical, value))})"
    if kind is frozenset:
        return f"{{{','.join(sorted(map(_canonical, value)))}}}"
    if inspect.isclass(value) and value.__module__.startswith("cachetools"):  # between places and names
        return value.__qualname__
    raise DeclarationError(
        f"shared=: an argument of type {kind.__qualname__} has no text that is the same in all processes; "
        "write key=lambda …: …, which makes a key of numbers, text, dates and tuples of them"
    )


def version_of(function: Callable[..., Any]) -> str:
    """A version of its code: eight digits that change when its body or a constant in it does.

    Functions that it calls are not seen; ``version=`` is for them.
    """
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return "0"
    return hashlib.blake2b(_text_of(code).encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()


def _text_of(constant: Any) -> str:
    if isinstance(constant, types.CodeType):
        return f"{constant.co_code.hex()} {constant.co_names} {[_text_of(inner) for inner in constant.co_consts]}"
    if isinstance(constant, frozenset):
        return f"{sorted(map(_text_of, constant))}"
    if isinstance(constant, tuple):
        return f"{[_text_of(inner) for inner in constant]}"
    return repr(constant)
