"""What ``cached`` was asked for, and what its cache holds: values with their lifetimes, and failures."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from hotpath.caching.lru import DEFAULT_ENTRIES, LRUCache
from hotpath.caching.shared.valkey import Valkey
from hotpath.caching.sizing import Sizer, weigh
from hotpath.caching.ttl import TTLCache, check_ttl
from hotpath.errors import DeclarationError

# Seconds that a value without a ttl= is fresh, where exceptions are kept beside it: thirty years.
FOREVER = 1e9

# What to write for options of functools.lru_cache and cachetools.cached.
_INSTEAD = {
    "typed": "write key=typedkey, after: from cachetools.keys import typedkey",
    "maxsize": "write max_entries=",
    "getsizeof": "write sizer=lambda key, value: …, and max_bytes=",
    "lock": "leave it out; a cache is safe for threads",
    "condition": "leave it out; one of many callers makes the call",
    "info": "leave it out; cache_info() is always there",
    "cache": "write its bounds: max_entries=, max_bytes=, ttl=",
}

# An exception with a few frames.
FAILURE_BYTES = 1024


class CacheEntry(NamedTuple):
    """A value and four moments. A hit returns it before ``until``, which for a failure has passed from the start.

    It is ``fresh`` until the second, may be served ``stale`` while it is made anew until the third, and when making it
    fails until the fourth.
    """

    value: Any
    until: float
    fresh: float
    stale: float
    error: float


@dataclass(frozen=True, slots=True)
class Failure:
    """An exception that is remembered for a moment."""

    error: BaseException


@dataclass(frozen=True, slots=True, kw_only=True)
class CachePolicy:
    """The options of ``cached``, checked. Raises ``DeclarationError``."""

    ttl: float | None = None
    max_entries: int | None = DEFAULT_ENTRIES
    max_bytes: int | None = None
    sizer: Sizer | None = None
    key: Callable[..., Hashable] | None = None
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0
    failure_ttl: float = 1.0
    cache_exceptions: tuple[type[BaseException], ...] = ()
    shared: Valkey | None = None
    name: str | None = None
    clock: Callable[[], float] = time.monotonic

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> CachePolicy:
        """The options as ``cached`` got them; those of other libraries are refused with what to write instead."""
        known = [option.name for option in fields(cls)]
        for option in options:
            if option not in known:
                instead = _INSTEAD.get(option, f"its options are {', '.join(known)}")
                raise DeclarationError(f"cached() has no {option}=: {instead}")
        return cls(**options)

    def __post_init__(self) -> None:
        for option in ("stale_while_revalidate", "stale_if_error", "failure_ttl"):
            seconds = getattr(self, option)
            if not isinstance(seconds, int | float) or not 0 <= seconds < FOREVER:
                raise DeclarationError(f"{option}={seconds!r}: write seconds, 0 or more")
        if self.shared is not None:
            self._check_shared(self.shared)
        if self.ttl is None:
            if self.stale_while_revalidate or self.stale_if_error:
                raise DeclarationError(
                    "stale_while_revalidate= and stale_if_error= are about what is past its ttl=; write one"
                )
        else:
            check_ttl(self.ttl)
            if self.ttl > FOREVER:
                raise DeclarationError(f"ttl={self.ttl!r}: write at most {FOREVER:g} seconds, or leave it out")

    def _check_shared(self, shared: object) -> None:
        if not isinstance(shared, Valkey):
            raise DeclarationError(f"shared={shared!r}: write shared=Valkey('redis://127.0.0.1:6379/0')")
        if self.ttl is None:
            raise DeclarationError("shared= needs a ttl=: a value that never ends would outlive every deploy")

    @property
    def is_plain(self) -> bool:
        """Whether values have no lifetime and failures are not kept: then the cache holds them as they are."""
        return self.ttl is None and not self.cache_exceptions

    @property
    def fresh_seconds(self) -> float:
        """Seconds that a value is fresh."""
        return FOREVER if self.ttl is None else self.ttl

    @property
    def lifetime(self) -> float:
        """Seconds after which a value is of no use to anybody, not even stale."""
        return self.fresh_seconds + max(self.stale_while_revalidate, self.stale_if_error)

    def make_cache(self, name: str) -> LRUCache[Hashable, Any]:
        """An empty cache for one function."""
        sizer = self.sizer or weigh
        held_sizer = None if self.max_bytes is None else lambda key, held: weight_of(sizer, key, held)
        if self.is_plain:
            return LRUCache(self.max_entries, self.max_bytes, sizer=held_sizer, name=name)
        return TTLCache(self.max_entries, self.lifetime, self.max_bytes, sizer=held_sizer, name=name, clock=self.clock)


def weight_of(sizer: Sizer, key: Hashable, held: Any) -> int:
    """A user's ``sizer`` sees values only, never what is beside them."""
    value = held.value if isinstance(held, CacheEntry) else held
    return FAILURE_BYTES if isinstance(value, Failure) else sizer(key, value)
