"""What to paste in place of a line that makes something without a bound."""

from __future__ import annotations

from hotpath.audit.findings import Pattern


def replacement(name: str, kind: str, pattern: Pattern, *, stores_self: bool) -> str:
    """One line of Python, with the import it needs behind it."""
    if pattern is Pattern.MUTABLE_DEFAULT:
        return f"{name}=None  # and in the body: if {name} is None: {name} = {_EMPTY.get(kind, 'dict()')}"
    if stores_self:
        weak = "WeakSet" if kind in ("list", "set", "deque") else "WeakValueDictionary"
        return f"{name} = {weak}()  # from weakref import {weak}; an object nobody else holds leaves by itself"
    if pattern is Pattern.TTL_WITHOUT_MAXIMUM:
        return f"{name} = TTLCache(max_entries=1024, ttl=300)  # from hotpath import TTLCache"
    if kind in ("list", "deque"):
        return f"{name} = deque(maxlen=1000)  # from collections import deque"
    if kind == "set":
        return f"{name} = LRUCache(max_entries=1024)  # from hotpath import LRUCache; {name}[item] = True for add(item)"
    if kind in ("defaultdict", "Counter"):
        start = "0" if kind == "Counter" else "…"
        return f"{name} = LRUCache(max_entries=1024)  # from hotpath import LRUCache; setdefault(key, {start}) first"
    return f"{name} = LRUCache(max_entries=1024)  # from hotpath import LRUCache"


_EMPTY = {"list": "[]", "dict": "{}", "set": "set()"}
