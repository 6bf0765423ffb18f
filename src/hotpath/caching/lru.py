"""A cache bounded by entries, by bytes, or both, which forgets the entry that was used least recently.

A hit takes no lock: each operation on the dictionary is one step for CPython with its GIL, and a race that is lost is a
``KeyError`` that is handled. From the first key whose hash or comparison is Python code (a UUID, a dataclass), every
operation that changes the order takes the lock. So does every write that keeps two figures in step.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, Generic, SupportsIndex, TypeVar, overload

from hotpath.caching.mapping import ForgetfulMapping, K, V
from hotpath.caching.sizing import ENTRY_BYTES, Sizer, is_simple, weigh
from hotpath.errors import DeclarationError
from hotpath.process import after_fork

D = TypeVar("D")

DEFAULT_ENTRIES = 1024

_MISSING: Any = object()


class LRUCache(ForgetfulMapping[K, V], Generic[K, V]):
    """A mapping that forgets the entry used least recently, as ``cachetools.LRUCache`` does, and is safe for threads.

    It holds at most ``max_entries``, and with ``max_bytes`` at most that many bytes, which ``sizer(key, value)`` counts
    (160 are added for each entry). An item above the maximum is not stored, and that is no error. ``name`` is its
    label in metrics. Raises ``DeclarationError`` without any bound.
    """

    def __init__(
        self,
        max_entries: int | None = DEFAULT_ENTRIES,
        max_bytes: int | None = None,
        *,
        sizer: Sizer | None = None,
        name: str | None = None,
    ) -> None:
        if max_entries is None and max_bytes is None:
            raise DeclarationError("a cache needs a bound: write max_entries=1024, max_bytes=64 * 1024 ** 2, or both")
        for option, value in (("max_entries", max_entries), ("max_bytes", max_bytes)):
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise DeclarationError(f"{option}={value!r}: write a whole number of 1 or more")
        if sizer is not None and max_bytes is None:
            raise DeclarationError("sizer= counts bytes, and there is no max_bytes= to hold them to")
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        self.name = name or type(self).__name__
        self.hits = self.misses = self.evictions = 0
        self._most = sys.maxsize if max_entries is None else max_entries
        self._sizer = sizer or weigh
        self._bytes = 0
        self._weights: dict[K, int] = {}
        self._data: OrderedDict[K, V] = OrderedDict()
        self._touch = self._data.move_to_end
        self._lock = threading.RLock()
        self._is_locked = False
        _registry.add(self)

    def __del__(self) -> None:
        _registry.retire(self)

    # Reading

    def __getitem__(self, key: K) -> V:
        try:
            value = self._data[key]
        except KeyError:
            self.misses += 1
            return self.__missing__(key)
        try:  # noqa: SIM105  suppress() costs more than the rest of a hit
            self._touch(key)
        except KeyError:
            pass  # another thread took it out meanwhile; its value is as good as a moment ago
        self.hits += 1
        return value

    def __missing__(self, key: K) -> V:
        raise KeyError(key)

    @overload
    def get(self, key: K) -> V | None: ...
    @overload
    def get(self, key: K, default: V | D) -> V | D: ...
    def get(self, key: K, default: Any = None) -> Any:
        """The value, which counts as a use; ``default`` where there is none. Never calls ``__missing__``."""
        value = self._data.get(key, _MISSING)
        if value is _MISSING:
            self.misses += 1
            return default
        try:  # noqa: SIM105  as above
            self._touch(key)
        except KeyError:
            pass
        self.hits += 1
        return value

    def __contains__(self, key: object) -> bool:
        return key in self._data

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[K]:
        """The keys of this moment, the least recently used first."""
        with self._lock:
            return iter(list(self._data))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {len(self)} of {self.max_entries} entries)"

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        raise TypeError(
            f"a {type(self).__name__} cannot be copied or pickled, since its lock and its registration cannot:"
            " make a new one and update() it with dict(cache.items())"
        )

    @property
    def bytes(self) -> int:
        """Bytes of all entries; 0 without ``max_bytes``, where they are not counted."""
        return self._bytes

    @property
    def maxsize(self) -> int:
        """As cachetools has it: bytes where they are bounded, else entries."""
        return self.max_bytes if self.max_bytes is not None else self._most

    @property
    def currsize(self) -> int:
        """As cachetools has it: what ``maxsize`` bounds."""
        return self._bytes if self.max_bytes is not None else len(self._data)

    # Writing

    def __setitem__(self, key: K, value: V) -> None:
        if self.max_bytes is not None:
            self._store(key, value, value)
            return
        if self._is_locked or not is_simple(key):
            with self._lock:
                self._lock_always()
                self._put(key, value)
        else:
            self._put(key, value)

    def _put(self, key: K, value: V) -> None:
        # Without the lock there may be one entry more for a moment for each thread that writes.
        data = self._data
        data[key] = value
        try:
            if len(data) > self._most:
                data.popitem(False)
                self.evictions += 1
            else:
                self._touch(key)
        except KeyError:
            pass  # cleared, or taken out, by another thread

    def _store(self, key: K, value: V, held: Any) -> None:
        """Store where bytes are counted too. Evicted values are freed after the lock: a ``__del__`` may do anything."""
        weight = self._weigh(key, value)
        with self._lock:
            if not is_simple(key):
                self._lock_always()
            data, most = self._data, self.max_bytes
            assert most is not None
            gone = [self._take(key)] if key in data else []
            if weight > most:
                return
            while data and (self._bytes + weight > most or len(data) >= self._most):
                gone.append(self._evict())
            data[key] = held
            self._weights[key] = weight
            self._bytes += weight

    def _lock_always(self) -> None:
        """Take the lock for each hit from now on: moving a key runs Python code, and another thread may move one."""
        if not self._is_locked:
            self._is_locked = True
            self._lock_touch()

    def _lock_touch(self) -> None:
        move, lock = self._data.move_to_end, self._lock

        def touch(key: K) -> None:
            with lock:
                move(key)

        self._touch = touch  # type: ignore[assignment]  # nobody gives ``last``

    def _restart_after_fork(self) -> None:
        """Begin empty where a thread of the parent has the lock: it left a write half done, and never gives it back."""
        if self._lock.acquire(blocking=False):
            self._lock.release()
            return
        self._lock = threading.RLock()
        if self._is_locked:
            self._lock_touch()
        self.clear()

    def _weigh(self, key: K, value: V) -> int:
        weight = self._sizer(key, value)
        if type(weight) is not int or weight < 0:
            raise DeclarationError(
                f"sizer= gave {weight!r} for {key!r}; it has to be a whole number of bytes, 0 or more"
            )
        return weight + ENTRY_BYTES

    def _take(self, key: K) -> Any:
        """Take a key out and return what was held, or ``_MISSING``. The caller has the lock."""
        value = self._data.pop(key, _MISSING)
        if value is not _MISSING and self.max_bytes is not None:
            self._bytes -= self._weights.pop(key)
        return value

    def _evict(self) -> tuple[K, V]:
        """Take out the entry that was used least recently. The caller has the lock, and there is an entry."""
        key, value = self._data.popitem(last=False)
        if self.max_bytes is not None:
            self._bytes -= self._weights.pop(key)
        self.evictions += 1
        return key, value

    def __delitem__(self, key: K) -> None:
        with self._lock:
            gone = self._take(key)
        if gone is _MISSING:
            raise KeyError(key)

    def pop(self, key: K, default: Any = _MISSING) -> Any:
        """Take a value out. Raises ``KeyError`` where there is none and no ``default``."""
        with self._lock:
            value = self._take(key)
        if value is not _MISSING:
            return value
        if default is _MISSING:
            raise KeyError(key)
        return default

    def popitem(self) -> tuple[K, V]:
        """Take out the entry that was used least recently. Raises ``KeyError`` when the cache is empty."""
        with self._lock:
            if not self._data:
                raise KeyError(f"{type(self).__name__} is empty")
            return self._evict()

    def setdefault(self, key: K, default: Any = None) -> Any:
        """The value, or ``default``, which is then stored. Of many threads one stores its own, and all get that."""
        with self._lock:
            value = self.get(key, _MISSING)
            if value is not _MISSING:
                return value
            self[key] = default
            return default

    def clear(self) -> None:
        """Take everything out."""
        with self._lock:
            gone = list(self._data.values())
            self._data.clear()
            self._weights.clear()
            self._bytes = 0
        del gone  # after the lock: a ``__del__`` may do anything

    def shrink(self, fraction: float) -> int:
        """Keep at most ``fraction`` of the maximum. Returns the bytes freed, an estimate without ``max_bytes``."""
        if not 0 <= fraction <= 1:
            raise DeclarationError(f"shrink({fraction!r}): write the share that may stay, 0 to 1")
        gone: list[tuple[K, V]] = []
        with self._lock:
            before = self._bytes
            entries = len(self._data) if self.max_entries is None else int(self.max_entries * fraction)
            weight = int((self.max_bytes or 0) * fraction)
            while self._data and (len(self._data) > entries or self._bytes > weight):
                gone.append(self._evict())
            if self.max_bytes is not None:
                return before - self._bytes
        if not gone:
            return 0
        sample = gone[:: max(1, len(gone) // 100)]
        return sum(weigh(key, value) + ENTRY_BYTES for key, value in sample) * len(gone) // len(sample)


# Names of caches that are gone whose counters are kept: caches that are named one by one must not fill memory.
MAX_RETIRED_NAMES = 1000


class _Registry:
    """Every cache of this process, weakly, and the counters of those that are gone: counters never fall.

    A mapping has no hash, so caches are known by their ids.
    """

    def __init__(self) -> None:
        self._caches: weakref.WeakValueDictionary[int, LRUCache[Any, Any]] = weakref.WeakValueDictionary()
        self._lock = threading.RLock()  # a ``__del__`` that runs meanwhile may make or end a cache
        self._retired: dict[str, Counter[str]] = {}
        after_fork.register(self)

    def add(self, cache: LRUCache[Any, Any]) -> None:
        with self._lock:
            self._caches[id(cache)] = cache

    def retire(self, cache: LRUCache[Any, Any]) -> None:
        with self._lock:
            if self._caches.pop(id(cache), cache) is not cache or "_data" not in vars(cache):
                return  # __init__ refused its options
            if cache.name in self._retired or len(self._retired) < MAX_RETIRED_NAMES:
                self._retired.setdefault(cache.name, Counter()).update(_counters(cache))

    def stats(self) -> dict[str, Counter[str]]:
        with self._lock:
            by_name = {name: Counter(counters) for name, counters in self._retired.items()}
            caches = self.all()
        for cache in caches:
            figures = by_name.setdefault(cache.name, Counter())
            figures.update(_counters(cache), entries=len(cache._data), bytes=cache.bytes)
        return by_name

    def all(self) -> list[LRUCache[Any, Any]]:
        with self._lock:
            return list(self._caches.values())

    def restart_after_fork(self) -> None:
        self._lock = threading.RLock()
        for cache in self.all():
            cache._restart_after_fork()


_registry = _Registry()


def registered() -> list[LRUCache[Any, Any]]:
    """Every cache there is, for metrics and for the guard."""
    return _registry.all()


def stats() -> Mapping[str, Mapping[str, int]]:
    """Entries, bytes, hits, misses and evictions by name; caches of one name are counted together, also when gone."""
    return _registry.stats()


def _counters(cache: LRUCache[Any, Any]) -> dict[str, int]:
    return {"hits": cache.hits, "misses": cache.misses, "evictions": cache.evictions}
