"""Every cache of this process by its name: what the guard shrinks and the metrics show."""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from collections.abc import Mapping
from typing import Any, Protocol

from hotpath.process import after_fork


class Cache(Protocol):
    """What the registry needs of a cache."""

    name: str
    hits: int
    misses: int
    evictions: int
    _data: Any

    @property
    def bytes(self) -> int: ...

    def shrink(self, fraction: float) -> int: ...

    def restart_after_fork(self) -> None: ...


# Names of caches that are gone whose counters are kept: caches that are named one by one must not fill memory.
MAX_RETIRED_NAMES = 1000

_COUNTERS = ("hits", "misses", "evictions")


class _Registry:
    """Every cache of this process, weakly, and the counters of those that are gone: counters never fall.

    A mapping has no hash, so caches are known by their ids.
    """

    def __init__(self) -> None:
        self._caches: weakref.WeakValueDictionary[int, Cache] = weakref.WeakValueDictionary()
        self._lock = threading.RLock()  # a ``__del__`` that runs meanwhile may make or end a cache
        self._retired: dict[str, Counter[str]] = {}
        self._shown: dict[str, Counter[str]] = {}
        after_fork.register(self)

    def add(self, cache: Cache) -> None:
        with self._lock:
            self._caches[id(cache)] = cache

    def retire(self, cache: Cache) -> None:
        with self._lock:
            if self._caches.pop(id(cache), cache) is not cache or "_data" not in vars(cache):
                return  # __init__ refused its options
            if cache.name in self._retired or len(self._retired) < MAX_RETIRED_NAMES:
                self._retired.setdefault(cache.name, Counter()).update(_counters(cache))

    def stats(self) -> Mapping[str, Mapping[str, int]]:
        """Entries, bytes, hits, misses and evictions by name; caches of one name count together, also when gone."""
        with self._lock:
            by_name = {name: Counter(counters) for name, counters in self._retired.items()}
            caches = self.all()
        for cache in caches:
            figures = by_name.setdefault(cache.name, Counter())
            figures.update(_counters(cache), entries=len(cache._data), bytes=cache.bytes)
        with self._lock:
            # While the cyclic collector frees a cache, it is neither alive nor retired for a moment.
            for name, shown in self._shown.items():
                if name in by_name or len(by_name) < MAX_RETIRED_NAMES:
                    by_name[name] = by_name.get(name, Counter()) | shown  # of each counter the greater
            self._shown = {
                name: Counter({field: figures[field] for field in _COUNTERS}) for name, figures in by_name.items()
            }
        return by_name

    def all(self) -> list[Cache]:
        """Every cache there is."""
        with self._lock:
            return list(self._caches.values())

    def restart_after_fork(self) -> None:
        self._lock = threading.RLock()
        for cache in self.all():
            cache.restart_after_fork()


registry = _Registry()


def _counters(cache: Cache) -> dict[str, int]:
    return {field: getattr(cache, field) for field in _COUNTERS}
