"""How many bytes of memory a value takes: exact where that is cheap, an estimate at a bounded cost elsewhere."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Any

# Bytes of an entry beside its key and value: its place in two dictionaries. So values without any size count too.
ENTRY_BYTES = 160

# Maximum objects of one value that are measured; the rest of a larger value is taken to be like them.
SIZED_OBJECTS = 1000
SAMPLED_CHILDREN = 30

Sizer = Callable[[Any, Any], int]
_CONTAINERS = (list, tuple, set, frozenset, dict, deque)
_SIMPLE = frozenset({str, bytes, int, float, bool, complex, type(None), object, type})
_FLAT = frozenset({str, bytes, bytearray, int, float, bool, type(None)})


def size_of(value: object) -> int:
    """Bytes of memory of a value and all that it holds: exact for text, bytes and numbers, an estimate for the rest.

    Objects that are held twice count once. Of more than ``SIZED_OBJECTS`` a sample of each level is measured.
    """
    if type(value) in _FLAT:
        return sys.getsizeof(value)
    seen = {id(value)}
    waiting = deque([value])
    total = measured = 0
    while waiting and measured < SIZED_OBJECTS:
        item = waiting.popleft()
        total += sys.getsizeof(item, 64)
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
    total = sys.getsizeof(value, 64)
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
    return kind in _SIMPLE or (kind is tuple and all(map(is_simple, key)))  # type: ignore[call-overload]
