"""How many bytes of memory a value takes: exact where that is cheap, an estimate at a bounded cost elsewhere."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Any

# What an entry costs beside its key and value: its place in two dictionaries. So values without any size count too.
ENTRY_BYTES = 160

# So many objects of one value are looked at; the rest of a larger one is taken to be like them.
SIZED_OBJECTS = 1000

Sizer = Callable[[Any, Any], int]
_FLAT = frozenset({str, bytes, bytearray, int, float, bool, type(None)})


def size_of(value: object) -> int:
    """Bytes of memory of a value with all that it holds: exact for text, bytes and numbers, an estimate for the rest.

    Objects that are held twice count once. What is beyond ``SIZED_OBJECTS`` is counted as the mean of those.
    """
    if type(value) in _FLAT:
        return sys.getsizeof(value)
    seen = {id(value)}
    waiting = deque([value])
    total = looked = 0
    while waiting and looked < SIZED_OBJECTS:
        one = waiting.popleft()
        total += sys.getsizeof(one, 64)
        looked += 1
        for inner in islice(_inside(one), SIZED_OBJECTS):
            if id(inner) not in seen:
                seen.add(id(inner))
                waiting.append(inner)
        if isinstance(one, list | tuple | set | frozenset | dict) and len(one) > SIZED_OBJECTS:
            total += (len(one) - SIZED_OBJECTS) * 64
    return total + len(waiting) * (total // looked)


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
    """The sizer that is used where none is given."""
    return size_of(key) + size_of(value)
