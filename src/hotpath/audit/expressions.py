"""What a single expression shows, without a look at the names around it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from hotpath.audit.scopes import terminal

# Methods and functions that add to a container, take from it, or by their names see to its size.
GROWS = dict.fromkeys(("append", "appendleft", "insert"), "append") | dict.fromkeys(("extend", "extendleft"), "extend")
GROWS |= {name: name for name in ("add", "update", "setdefault")}
SHRINKS = frozenset(
    "pop popitem popleft clear remove discard difference_update intersection_update symmetric_difference_update".split()
)
HEAP = {"heapq.heappush": "append", "bisect.insort": "append", "bisect.insort_left": "append"}
UNHEAP = {"heapq.heappop", "heapq.heapreplace", "heapq.heappushpop"}
EVICTS = ("prune", "evict", "expire", "purge", "sweep", "trim", "shrink", "clean", "limit_size", "clear", "reset")

_TIMES = frozenset("time monotonic now utcnow perf_counter time_ns monotonic_ns".split())
_TIME_WORDS = re.compile(r"expir|deadline|timestamp|ttl|\bage\b|time|_at$|\bnow\b|stale", re.IGNORECASE)


def is_empty_test(node: ast.expr) -> bool:
    """Whether a length is compared only with nothing or one."""
    return isinstance(node, ast.Constant) and node.value in (0, 1)


def given(call: ast.Call) -> Iterator[tuple[int | str, ast.expr]]:
    """The arguments by place or name; ``*`` where a call gives many at once."""
    for place, value in enumerate(call.args):
        yield ("*" if isinstance(value, ast.Starred) else place), value
    for keyword in call.keywords:
        yield keyword.arg or "*", keyword.value


def is_constant(node: ast.expr) -> bool:
    """Whether a value is written in the code, itself or by the name of a constant."""
    name = terminal(node)
    return isinstance(node, ast.Constant) or (name is not None and name.isupper())


def is_own_type(node: ast.expr) -> bool:
    """``type(self)``, which holds what a class holds."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "type"


def names(node: ast.expr) -> set[str]:
    """The names that may be part of a value: not what is only called for it."""
    called = {id(part.func) for part in ast.walk(node) if isinstance(part, ast.Call)}
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and id(part) not in called}


def added_to(target: ast.expr, value: ast.expr) -> tuple[str, tuple[ast.expr, ...], ast.expr | None] | None:
    """What is added where the new value of ``target`` is made of the old one: operation, keys, value."""
    same = ast.dump(target).replace("Store()", "Load()")

    def is_same(node: ast.expr | None) -> bool:
        return node is not None and ast.dump(node) == same

    match value:
        case ast.BinOp(left=left, op=ast.Add() | ast.BitOr(), right=right) if is_same(left) or is_same(right):
            return "extend", (), right if is_same(left) else left
        case ast.List(elts=parts) | ast.Set(elts=parts):
            others = [part for part in parts if not (isinstance(part, ast.Starred) and is_same(part.value))]
            if 0 < len(others) < len(parts):
                return "extend", (), ast.List(others, ast.Load())
        case ast.Dict(keys=keys, values=values):
            pairs = list(zip(keys, values, strict=True))
            others = [key or held for key, held in pairs if not (key is None and is_same(held))]
            if 0 < len(others) < len(pairs):
                return "item", tuple(others), values[-1]
    return None


def tells_time(node: ast.expr | None) -> bool:
    """Whether a value has a time in it, as what expires does."""
    if not isinstance(node, ast.Tuple | ast.Dict | ast.Call | ast.List | ast.BinOp):
        return False
    for part in ast.walk(node):
        if isinstance(part, ast.Call) and terminal(part.func) in _TIMES:
            return True
        if isinstance(part, ast.Name) and re.search(r"expir|deadline|timestamp|^now$|^ttl$", part.id, re.IGNORECASE):
            return True
    return False


def mentions_time(test: tuple[ast.expr, bool | None]) -> bool:
    """Whether a condition is about the age of something."""
    for part in ast.walk(test[0]):
        name = terminal(part) if isinstance(part, ast.Name | ast.Attribute) else None
        if name and _TIME_WORDS.search(name):
            return True
    return False
