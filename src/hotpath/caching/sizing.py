"""How many bytes of memory a value takes: exact where that is cheap, an estimate at a bounded cost elsewhere."""

from __future__ import annotations

import io
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain, islice
from typing import Any

# Bytes of an entry beside its key and value: its place in two dictionaries. So values without any size count too.
ENTRY_BYTES = 160

# Maximum objects of one value that are measured; the rest of a larger value is taken to be like them.
SIZED_OBJECTS = 1000
SAMPLED_CHILDREN = 30

Sizer = Callable[[Any, Any], int]
_CONTAINERS = (list, tuple, set, frozenset, dict, deque)
# Types whose hash and comparison run no Python code.
ATOMS: frozenset[type] = frozenset({str, bytes, int, float, bool, complex, type(None), object, type})
_FLAT = frozenset({str, bytes, bytearray, int, float, bool, type(None)})

# Types whose own size is sys.getsizeof.
_MEASURED = frozenset({*_FLAT, *_CONTAINERS, complex, type})


# What shows the bytes of an object that keeps a buffer, by its protocol: an attribute or a method without arguments.
# Looked up on the class, since an attribute of a lazy object may load it. The first that gives a number counts.
_BYTES: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("nbytes", lambda value: value.nbytes),  # arrays and tensors, memoryview
    ("getbuffer", lambda value: value.getbuffer().nbytes),  # files in memory
    ("estimated_size", lambda value: value.estimated_size()),  # frames that keep their data outside of Python
    ("getvalue", lambda value: sys.getsizeof(value.getvalue())),  # text files in memory
)

# Attributes of a view that name what it keeps alive.
_BASES = ("base", "_base", "obj")

# Attributes of a file that reads from another.
_FILES = ("buffer", "raw")


def _own_size(value: object) -> int:
    """Bytes of an object without what it refers to; a view's are those of the view, its base counts as held."""
    size = sys.getsizeof(value, 64)
    kind = type(value)
    if kind in _MEASURED or _base(value) is not None:
        return size
    for name, read in _BYTES:
        if hasattr(kind, name):
            with suppress(Exception):  # a file that is closed, an array that is not there yet
                size_of_data = read(value)
                if isinstance(size_of_data, int):
                    return max(size, size_of_data)
    with suppress(TypeError, ValueError, BufferError), memoryview(value) as view:  # type: ignore[arg-type]
        return max(size, view.nbytes)
    return size


def _base(value: object) -> object:
    """What a view is a view of; None for what has its data itself, and for whatever is no array, memoryview or file."""
    kind = type(value)
    for name in _BASES if hasattr(kind, "nbytes") else _FILES if issubclass(kind, io.IOBase) else ():
        if hasattr(kind, name):
            with suppress(Exception):  # a memoryview that is released
                return getattr(value, name)
    return None


def size_of(value: object) -> int:
    """Bytes of memory of a value and all that it holds: exact for text, bytes, numbers, buffers, an estimate else.

    A view (of numpy, a memoryview) counts what it keeps alive: all of its base.

    Objects that are held twice count once. Of more than ``SIZED_OBJECTS`` a sample of each level is measured.
    """
    if type(value) in _FLAT:
        return sys.getsizeof(value)
    seen = {id(value)}
    waiting = deque([value])
    total = measured = 0
    while waiting and measured < SIZED_OBJECTS:
        item = waiting.popleft()
        total += _own_size(item)
        measured += 1
        for inner in islice(_inside(item), SIZED_OBJECTS):
            if id(inner) not in seen:
                seen.add(id(inner))
                waiting.append(inner)
        if isinstance(item, list | tuple | set | frozenset | dict) and len(item) > SIZED_OBJECTS:
            return _estimate(value, SIZED_OBJECTS)
    return _estimate(value, SIZED_OBJECTS) if waiting else total


def _estimate(value: object, budget: int) -> int:
    """Bytes of a value that is too large to be measured as a whole: some objects of each level stand for the others."""
    total = _own_size(value)
    count = len(value) * (1 + isinstance(value, dict)) if isinstance(value, _CONTAINERS) else 0
    if type(value) in _FLAT or budget <= 1:
        return total + count * 64
    sample = [*islice(_inside(value), min(budget, SAMPLED_CHILDREN))]
    if not sample:
        return total
    inside = sum(_estimate(inner, budget // len(sample)) for inner in sample)
    return total + inside * max(count, len(sample)) // len(sample)


def _inside(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        return chain.from_iterable(value.items())
    if isinstance(value, list | tuple | set | frozenset | deque):
        return iter(value)
    base = _base(value)
    if base is not None:
        return iter((base,))
    if hasattr(type(value), "flat") and value.dtype.hasobject:  # type: ignore[attr-defined]
        return iter(value.flat)  # type: ignore[attr-defined]
    held: list[object] = []
    if hasattr(value, "__dict__"):
        held.append(vars(value))
    for kind in type(value).__mro__:
        names = kind.__dict__.get("__slots__", ())
        held += [
            getattr(value, name) for name in ([names] if isinstance(names, str) else names) if hasattr(value, name)
        ]
    return iter(held)


def weigh(key: object, value: object) -> int:
    """The default sizer."""
    return size_of(key) + size_of(value)


def is_simple(key: object) -> bool:
    """Whether hashing and comparing a key runs no Python code: it is one step for the interpreter."""
    kind = type(key)
    return kind in ATOMS or (kind is tuple and all(map(is_simple, key)))  # type: ignore[call-overload]
