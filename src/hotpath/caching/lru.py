"""A cache bounded by entries, by bytes, or both, which forgets the entry that was used least recently.

A hit takes no lock: each operation on the dictionary is one step for CPython with its GIL, and a race that is lost is a
``KeyError`` that is handled. That holds for keys whose hash and comparison run no Python code. From the first other key
(a UUID, a dataclass, a ``Fraction`` that equals an int), every operation that changes the order takes the lock. So does
every write that keeps two figures in step.

Keys and values that leave are freed after the lock: a ``__del__`` may wait for another thread that wants the lock.
"""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Generic, SupportsIndex, TypeVar, cast, overload

from hotpath.caching.mapping import ForgetfulMapping, K, V
from hotpath.caching.registry import registry
from hotpath.caching.sizing import ATOMS, ENTRY_BYTES, Sizer, is_simple, weigh
from hotpath.errors import DeclarationError

D = TypeVar("D")

DEFAULT_ENTRIES = 1024

_MISSING: Any = object()


class _Gate:
    """Runs one operation of a dictionary at a time, of threads that have the lock of the cache.

    The Python code of a key may run in the middle and call the cache; a change would then crash the interpreter.
    """

    __slots__ = ("is_changing",)

    def __init__(self) -> None:
        self.is_changing = False

    def run(self, operation: Callable[..., Any], *args: Any) -> Any:
        if self.is_changing:
            raise RuntimeError("the __eq__ or __hash__ of a key changed the cache that was comparing it")
        self.is_changing = True
        try:
            return operation(*args)
        finally:
            self.is_changing = False


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
        self._lock = threading.RLock()
        self._gate = _Gate()
        self._is_locked = False
        self._bind(OrderedDict())
        registry.add(self)

    def __del__(self) -> None:
        registry.retire(self)

    # Reading

    def __getitem__(self, key: K) -> V:
        try:
            value: V = self._data[key]
        except KeyError:
            self.misses += 1
            return self.__missing__(key)
        try:
            self._touches[type(key)](key)
        except KeyError:
            self._use(key)
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
        try:
            self._touches[type(key)](key)
        except KeyError:
            self._use(key)
        self.hits += 1
        return value

    def __contains__(self, key: object) -> bool:
        return key in self._data

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[K]:
        """The keys of this moment, the least recently used first."""
        with self._lock:
            return iter(self._change(list, self._data))

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
        data = self._data  # before the look at the flag: who sees that no lock is needed must not change a later one
        if self._is_locked or self.max_bytes is not None or not is_simple(key):
            self._write(key, value)
            return
        # Without the lock there may be one entry more for a moment for each thread that writes.
        old = data.get(key)  # noqa: F841  freed inside the next line, its ``__del__`` could change what that changes
        data[key] = value
        try:
            if len(data) > self._most:
                data.popitem(False)
                self.evictions += 1
            else:
                data.move_to_end(key)
        except KeyError:
            pass  # cleared, or taken out, by another thread

    def _write(self, key: K, value: V, *, only_new: bool = False) -> V:
        """Store under the lock, with ``only_new`` where there is no value yet. Returns the value that is there then."""
        weight = None if self.max_bytes is None else self._weigh(key, value)
        with self._lock:
            held = self._data.get(key, _MISSING) if only_new else _MISSING
            if held is not _MISSING:
                return held  # type: ignore[no-any-return]
            gone = self._put(key, value, weight)
        del gone
        return value

    def _put(self, key: K, held: Any, weight: int | None) -> list[Any]:
        """Store and return what left for it, which the caller, who has the lock, frees after it."""
        if not self._is_locked and not is_simple(key):
            self._lock_always()
        data, most = self._data, self.max_bytes
        if weight is None or most is None:
            gone = [data.get(key)]
            self._set(key, held)
            try:
                if len(data) > self._most:
                    gone.append(self._evict())
                else:
                    self._touch(key)
            except KeyError:
                pass  # cleared, or taken out, by a thread that needs no lock
            return gone
        gone = [self._take(key)] if key in data else []
        if weight <= most:
            while data and (self._bytes + weight > most or len(data) >= self._most):
                gone.append(self._evict())
            self._set(key, held)
            self._weights[key] = weight
            self._bytes += weight
        return gone

    def _set(self, key: K, held: Any) -> None:
        if self._is_locked:
            self._gate.run(self._data.__setitem__, key, held)
        else:
            self._data[key] = held

    def _bind(self, data: OrderedDict[K, Any]) -> None:
        """Make ``data`` the dictionary. ``_touch`` moves a stored key, ``_touches`` one of a caller, by its type.

        Neither refers to the cache, which would then be freed by the cyclic collector only.
        """
        move, lock, gate = data.move_to_end, self._lock, self._gate

        def touch_locked(key: K) -> None:
            with lock:
                if not gate.is_changing:
                    gate.run(move, key)

        def touch_tuple(key: Any) -> None:
            for part in key:
                if type(part) not in ATOMS:
                    raise KeyError(key)
            move(key)

        self._data = data
        touch: Callable[[K], None] = touch_locked if self._is_locked else move
        self._touch = touch
        self._touches: dict[type, Callable[[Any], None]] = dict.fromkeys(ATOMS, touch)
        self._touches[tuple] = touch_locked if self._is_locked else touch_tuple

    def _use(self, key: K) -> None:
        """Move a key that a hit could not move: it may run Python code, or another thread took it out meanwhile."""
        if not self._is_locked and not is_simple(key):
            with self._lock:
                self._lock_always()
        with suppress(KeyError):
            self._touch(key)

    def _lock_always(self) -> None:
        """Take the lock for each hit from now on: moving a key runs Python code, and another thread may move one.

        The caller has the lock. Threads that are in the middle of an operation without it go on with the old
        dictionary, which has keys without Python code only.
        """
        if self._is_locked:
            return
        self._is_locked = True
        while True:
            try:
                data = OrderedDict(self._data)
            except (RuntimeError, KeyError):  # such a thread changed it meanwhile
                continue
            self._bind(data)
            return

    def _change(self, operation: Callable[..., Any], *args: Any) -> Any:
        return self._gate.run(operation, *args) if self._is_locked else operation(*args)

    def restart_after_fork(self) -> None:
        """Begin empty where a thread of the parent has the lock: it left a write half done, and never gives it back."""
        if self._lock.acquire(blocking=False):
            self._lock.release()
            return
        self._lock = threading.RLock()
        self._gate = _Gate()
        self._bind(self._data)
        self.clear()

    def _weigh(self, key: K, value: V) -> int:
        weight = self._sizer(key, value)
        if type(weight) is not int or weight < 0:
            raise DeclarationError(
                f"sizer= gave {weight!r} for {key!r}; it has to be a whole number of bytes, 0 or more"
            )
        return weight + ENTRY_BYTES

    def _take(self, key: K) -> tuple[K, Any] | None:
        """Take a key out and return it as it was stored, with what was held. The caller has the lock."""
        if key not in self._data:
            return None
        if not is_simple(key):
            self._lock_always()
        if self._is_locked:  # two steps, so that the stored key comes back too
            self._change(self._data.move_to_end, key)
            entry = self._change(self._data.popitem)
        else:
            entry = (key, self._data.pop(key, _MISSING))
        if entry[1] is _MISSING:
            return None
        if self.max_bytes is not None:
            self._bytes -= self._weights.pop(entry[0])
        return entry  # type: ignore[no-any-return]

    def _evict(self) -> tuple[K, Any]:
        """Take out the entry that was used least recently. The caller has the lock, and there is an entry."""
        popitem = self._data.popitem
        entry: tuple[K, Any] = self._gate.run(popitem, False) if self._is_locked else popitem(False)
        if self.max_bytes is not None:
            self._bytes -= self._weights.pop(entry[0])
        self.evictions += 1
        return entry

    def _value(self, held: Any) -> V:
        return cast(V, held)

    def _pop(self, key: K) -> Any:
        with self._lock:
            entry = self._take(key)
        return _MISSING if entry is None else entry[1]

    def __delitem__(self, key: K) -> None:
        if self._pop(key) is _MISSING:
            raise KeyError(key)

    def pop(self, key: K, default: Any = _MISSING) -> Any:
        """Take a value out. Raises ``KeyError`` where there is none and no ``default``."""
        value = self._pop(key)
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
            key, held = self._evict()
        return key, self._value(held)

    def setdefault(self, key: K, default: Any = None) -> Any:
        """The value, or ``default``, which is then stored. Of many threads one stores its own, and all get that."""
        value = self.get(key, _MISSING)
        return self._write(key, default, only_new=True) if value is _MISSING else value

    def clear(self) -> None:
        """Take everything out."""
        with self._lock:
            gone = self._clear()
        del gone

    def _clear(self) -> list[Any]:
        """Take everything out and return it, to be freed by the caller, who has the lock, after it."""
        data = self._data
        gone: list[Any] = [list(dict.keys(data)), list(dict.values(data))]  # an OrderedDict's own compare keys
        self._change(data.clear)
        self._weights.clear()
        self._bytes = 0
        return gone

    def shrink(self, fraction: float) -> int:
        """Keep at most ``fraction`` of the maximum. Returns the bytes freed, an estimate without ``max_bytes``."""
        if not 0 <= fraction <= 1:
            raise DeclarationError(f"shrink({fraction!r}): write the share that may stay, 0 to 1")
        gone: list[tuple[K, Any]] = []
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
        return sum(weigh(key, self._value(held)) + ENTRY_BYTES for key, held in sample) * len(gone) // len(sample)
