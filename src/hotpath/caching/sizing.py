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
SAMPLED_CHILDREN = 30

Sizer = Callable[[Any, Any], int]
_CONTAINERS = (list, tuple, set, frozenset, dict, deque)
_SIMPLE = frozenset({str, bytes, int, float, bool, complex, type(None), object})
_FLAT = frozenset({str, bytes, bytearray, int, float, bool, type(None)})


def size_of(value: object) -> int:
    """Bytes of memory of a value with all that it holds: exact for text, bytes and numbers, an estimate for the rest.

    Objects that are held twice count once. Of one with more than ``SIZED_OBJECTS`` some are looked at on each level.
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
            return _estimate(value, SIZED_OBJECTS)
    return _estimate(value, SIZED_OBJECTS) if waiting else total


def _estimate(value: object, budget: int) -> int:
    """Of what is too large to be looked at as a whole: some of each level, and the others are taken to be like them."""
    total = sys.getsizeof(value, 64)
    count = len(value) * (1 + isinstance(value, dict)) if isinstance(value, _CONTAINERS) else 0
    if type(value) in _FLAT or budget <= 1:
        return total + count * 64
    looked = [*islice(_inside(value), min(budget, SAMPLED_CHILDREN))]
    if not looked:
        return total
    inside = sum(_estimate(inner, budget // len(looked)) for inner in looked)
    return total + inside * max(count, len(looked)) // len(looked)


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


def is_simple(key: object) -> bool:
    """Whether to hash and to compare it is one step for the interpreter: no Python code is run for it."""
    kind = type(key)
    return kind in _SIMPLE or (kind is tuple and all(map(is_simple, key)))  # type: ignore[call-overload]
