"""``cached``: remember what a function returned, within bounds, with one call for each key at a time.

After its lifetime a value may still be served: while it is made anew (stale-while-revalidate), or when making it fails
(stale-if-error; RFC 5861).
"""

from __future__ import annotations

import functools
import inspect
import time
import weakref
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Concatenate, Generic, NamedTuple, ParamSpec, TypeVar, cast, overload

from cachetools.keys import hashkey

from hotpath.caching.background import run_in_task, run_in_thread
from hotpath.caching.lru import DEFAULT_ENTRIES, LRUCache
from hotpath.caching.single_flight import AsyncSingleFlight, SingleFlight
from hotpath.caching.sizing import Sizer, weigh
from hotpath.caching.ttl import MIN_TTL, TTLCache, check_ttl
from hotpath.errors import DeclarationError

P = ParamSpec("P")
R = TypeVar("R")
Q = ParamSpec("Q")
S = TypeVar("S")

# Seconds that a value without a ttl= is fresh, where exceptions are kept beside it: thirty years.
FOREVER = 1e9

# An exception with a few frames.
FAILURE_BYTES = 1024

_NOTHING: Any = object()


class CacheInfo(NamedTuple):
    """As ``functools.lru_cache`` has it, with bytes."""

    hits: int
    misses: int
    maxsize: int | None
    currsize: int
    bytes: int


class _Entry(NamedTuple):
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
class _Failure:
    """An exception that is remembered for a moment."""

    error: BaseException


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    ttl: float | None = None
    max_entries: int | None = DEFAULT_ENTRIES
    max_bytes: int | None = None
    sizer: Sizer | None = None
    key: Callable[..., Hashable] | None = None
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0
    failure_ttl: float = 1.0
    cache_exceptions: tuple[type[BaseException], ...] = ()
    name: str | None = None
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        for option in ("stale_while_revalidate", "stale_if_error", "failure_ttl"):
            seconds = getattr(self, option)
            if not isinstance(seconds, int | float) or not 0 <= seconds < FOREVER:
                raise DeclarationError(f"{option}={seconds!r}: write seconds, 0 or more")
        if self.ttl is None:
            if self.stale_while_revalidate or self.stale_if_error:
                raise DeclarationError(
                    "stale_while_revalidate= and stale_if_error= are about what is past its ttl=; write one"
                )
        else:
            check_ttl(self.ttl)
            if self.ttl > FOREVER:
                raise DeclarationError(f"ttl={self.ttl!r}: write at most {FOREVER:g} seconds, or leave it out")

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
        held_sizer = None if self.max_bytes is None else lambda key, held: _weight(sizer, key, held)
        if self.is_plain:
            return LRUCache(self.max_entries, self.max_bytes, sizer=held_sizer, name=name)
        return TTLCache(self.max_entries, self.lifetime, self.max_bytes, sizer=held_sizer, name=name, clock=self.clock)


class Cached(Generic[P, R]):
    """A function with its cache; made by ``cached``. Called as the function is."""

    def __init__(self, function: Callable[P, R], options: _Options) -> None:
        self._function = function
        self._options = options
        self._name = options.name or f"{function.__module__}.{function.__qualname__}"
        self._is_plain = options.is_plain
        self._is_async = inspect.iscoroutinefunction(function)
        self.cache = options.make_cache(self._name)
        self._flight: SingleFlight[Any] = SingleFlight()
        self._async_flight: AsyncSingleFlight[Any] = AsyncSingleFlight()
        # Raised when something is forgotten: a call that began before may return what was true then, and is not kept.
        self._epoch = 0
        self._bound: dict[int, tuple[weakref.ref[Any], Cached[Any, Any]]] = {}
        self.call = self._make_async_call() if self._is_async else self._make_call()
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.call(*args, **kwargs)  # type: ignore[no-any-return]

    # A hit runs one of these four closures: a lookup in the dictionary and nothing else.

    def _make_call(self) -> Callable[..., Any]:
        cache, clock, answer = self.cache, self._options.clock, self._answer
        data = cache._data
        if self._options.key is not None:
            return lambda *args, **kwargs: answer(args, kwargs)

        def call(*args: Any, **kwargs: Any) -> Any:
            if not kwargs:
                try:
                    value = data[args]
                    cache._touch(args)
                except (KeyError, TypeError):
                    pass
                else:
                    cache.hits += 1
                    return value
            return answer(args, kwargs)

        def call_timed(*args: Any, **kwargs: Any) -> Any:
            if not kwargs:
                try:
                    entry, _ = data[args]
                    if clock() < entry.until:
                        cache._touch(args)
                        cache.hits += 1
                        return entry.value
                except (KeyError, TypeError):
                    pass
            return answer(args, kwargs)

        return call if self._is_plain else call_timed

    def _make_async_call(self) -> Callable[..., Any]:
        cache, clock, answer = self.cache, self._options.clock, self._answer_async
        data = cache._data

        async def call_keyed(*args: Any, **kwargs: Any) -> Any:
            return await answer(args, kwargs)

        if self._options.key is not None:
            return call_keyed

        async def call(*args: Any, **kwargs: Any) -> Any:
            if not kwargs:
                try:
                    value = data[args]
                    cache._touch(args)
                except (KeyError, TypeError):
                    pass
                else:
                    cache.hits += 1
                    return value
            return await answer(args, kwargs)

        async def call_timed(*args: Any, **kwargs: Any) -> Any:
            if not kwargs:
                try:
                    entry, _ = data[args]
                    if clock() < entry.until:
                        cache._touch(args)
                        cache.hits += 1
                        return entry.value
                except (KeyError, TypeError):
                    pass
            return await answer(args, kwargs)

        return call if self._is_plain else call_timed

    # Calls that are no such hit

    def _answer(self, args: Any, kwargs: Any) -> Any:
        key = self._key(args, kwargs)
        value, is_stale = self._look(key)
        if is_stale and not self._flight.is_in_flight(key):
            run_in_thread(lambda: self._refresh(key, args, kwargs))
        if value is not _NOTHING:
            return value
        return self._flight.call(key, lambda: self._load(key, args, kwargs))

    async def _answer_async(self, args: Any, kwargs: Any) -> Any:
        key = self._key(args, kwargs)
        value, is_stale = self._look(key)
        if is_stale and not self._async_flight.is_in_flight(key):
            run_in_task(lambda: self._refresh_async(key, args, kwargs))
        if value is not _NOTHING:
            return value
        return await self._async_flight.call(key, lambda: self._load_async(key, args, kwargs))

    def _look(self, key: Hashable) -> tuple[Any, bool]:
        """The value that may be returned now, and whether it is stale: then it has to be made anew meanwhile."""
        try:
            held = self.cache.get(key, _NOTHING)
        except TypeError as error:
            raise DeclarationError(
                f"{self._name} was called with something that cannot be a key ({error}): "
                "write @cached(key=lambda …: …), which makes a hashable one from the arguments"
            ) from error
        if held is _NOTHING or self._is_plain:
            return held, False
        now = self._options.clock()
        if now < held.until:
            return held.value, False
        return (held.value, True) if now < held.stale else (_NOTHING, False)

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Cached[P, R]: ...
    @overload
    def __get__(self: Cached[Concatenate[S, Q], R], instance: S, owner: type | None = None) -> Cached[Q, R]: ...
    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """A method has a cache for each instance, which goes with it."""
        if instance is None:
            return self
        known = self._bound.get(id(instance))
        if known is not None and known[0]() is instance:
            return known[1]
        number, bound = id(instance), self._bound
        try:
            held = weakref.ref(instance, lambda _: bound.pop(number, None))
        except TypeError:
            raise DeclarationError(
                f"{self._name}: a {type(instance).__name__} cannot be referred to weakly, so its cache would "
                'keep it alive: write "__weakref__" among its __slots__'
            ) from None
        function = self._function

        def method(*args: Any, **kwargs: Any) -> Any:
            return function(held(), *args, **kwargs)  # type: ignore[arg-type]

        async def async_method(*args: Any, **kwargs: Any) -> Any:
            return await function(held(), *args, **kwargs)  # type: ignore[arg-type, misc]

        made = Cached(functools.wraps(function)(async_method if self._is_async else method), self._options)
        return bound.setdefault(number, (held, made))[1]

    def cache_info(self) -> CacheInfo:
        """Hits, misses and sizes."""
        cache = self.cache
        return CacheInfo(cache.hits, cache.misses, cache.max_entries, len(cache), cache.bytes)

    def cache_clear(self) -> None:
        """Forget everything."""
        self._epoch += 1
        self.cache.clear()
        for _, bound in list(self._bound.values()):
            bound.cache_clear()

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Forget what was returned for these arguments; whether there was anything."""
        self._epoch += 1
        return self.cache.pop(self._key(args, kwargs), _NOTHING) is not _NOTHING

    def _key(self, args: Any, kwargs: Any) -> Hashable:
        return (self._options.key or hashkey)(*args, **kwargs)

    def _load(self, key: Hashable, args: Any, kwargs: Any) -> Any:
        value = self._fresh(key)
        if value is not _NOTHING:
            return value
        epoch = self._epoch
        try:
            value = self._function(*args, **kwargs)
        except Exception as error:
            return self._failed(key, error)
        self._keep(key, value, epoch)
        return value

    async def _load_async(self, key: Hashable, args: Any, kwargs: Any) -> Any:
        value = self._fresh(key)
        if value is not _NOTHING:
            return value
        epoch = self._epoch
        try:
            value = await self._function(*args, **kwargs)  # type: ignore[misc]
        except Exception as error:
            return self._failed(key, error)
        self._keep(key, value, epoch)
        return value

    def _held(self, key: Hashable) -> Any:
        """What the cache holds of a key, without counting that as a use."""
        held = self.cache._data.get(key, _NOTHING)
        return held if held is _NOTHING or self._is_plain else held[0]

    def _fresh(self, key: Hashable) -> Any:
        """What came while this call waited for its turn. Raises a failure that is too fresh to try again."""
        held = self._held(key)
        if held is _NOTHING or self._is_plain:
            return held
        if self._options.clock() >= held.fresh:
            return _NOTHING
        if isinstance(held.value, _Failure):
            raise held.value.error.with_traceback(None)  # each raise would add its frames, and keep them alive
        return held.value

    def _keep(self, key: Hashable, value: Any, epoch: int) -> None:
        if epoch != self._epoch:
            return
        if self._is_plain:
            self.cache[key] = value
            return
        options = self._options
        fresh = options.clock() + options.fresh_seconds
        stale, error = fresh + options.stale_while_revalidate, fresh + options.stale_if_error
        self._hold(key, _Entry(value, fresh, fresh, stale, error), options.lifetime)

    def _failed(self, key: Hashable, error: Exception) -> Any:
        """The last good value, for ``failure_ttl`` seconds without another try; or the error."""
        if self._is_plain:
            raise error
        options = self._options
        held = self._held(key)
        now = options.clock()
        until = now + options.failure_ttl
        if held is not _NOTHING and not isinstance(held.value, _Failure) and now < held.error:
            until = min(until, held.error)
            self._hold(key, held._replace(until=until, fresh=until, stale=until), held.error - now)
            return held.value
        if isinstance(error, options.cache_exceptions):
            self._hold(key, _Entry(_Failure(error), now, until, now, now), options.failure_ttl)
        raise error

    def _hold(self, key: Hashable, entry: _Entry, lifetime: float) -> None:
        if lifetime >= MIN_TTL:
            cast(TTLCache[Hashable, Any], self.cache).set(key, entry, lifetime)

    # A refresh that fails leaves the stale value until it is too old; then a caller gets the error.

    def _refresh(self, key: Hashable, args: Any, kwargs: Any) -> None:
        with suppress(Exception):
            self._flight.call(key, lambda: self._load(key, args, kwargs))

    async def _refresh_async(self, key: Hashable, args: Any, kwargs: Any) -> None:
        with suppress(Exception):
            await self._async_flight.call(key, lambda: self._load_async(key, args, kwargs))


def _weight(sizer: Sizer, key: Hashable, held: Any) -> int:
    """A user's ``sizer`` sees values only, never what is beside them."""
    value = held.value if isinstance(held, _Entry) else held
    return FAILURE_BYTES if isinstance(value, _Failure) else sizer(key, value)


def _is_in_class(function: Callable[..., Any]) -> bool:
    """Whether a function is defined in the body of a class: then its cache belongs to each instance."""
    outer = getattr(function, "__qualname__", "").rpartition(".")[0]
    return bool(outer) and not outer.endswith("<locals>")


def _as_function(memo: Cached[Any, Any]) -> Any:
    """A plain function for callers: an object with ``__call__`` costs a hit half as much again."""
    call: Any = functools.wraps(memo._function)(memo.call)
    call.cache = memo.cache
    call.cache_info, call.cache_clear, call.invalidate = memo.cache_info, memo.cache_clear, memo.invalidate
    return call


@overload
def cached(function: Callable[P, R], /) -> Cached[P, R]: ...
@overload
def cached(
    *,
    ttl: float | None = None,
    max_entries: int | None = DEFAULT_ENTRIES,
    max_bytes: int | None = None,
    sizer: Sizer | None = None,
    key: Callable[..., Hashable] | None = None,
    stale_while_revalidate: float = 0.0,
    stale_if_error: float = 0.0,
    failure_ttl: float = 1.0,
    cache_exceptions: tuple[type[BaseException], ...] = (),
    name: str | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Callable[[Callable[P, R]], Cached[P, R]]: ...
def cached(function: Any = None, /, **options: Any) -> Any:
    """Remember what a function, sync or async, returned.

    A value is fresh for ``ttl`` seconds (for ever by default). For ``stale_while_revalidate`` seconds after that the
    old value is returned while one thread makes the new one, and for ``stale_if_error`` seconds it is returned when
    making it fails. After a failure the function is not called for ``failure_ttl`` seconds; one of
    ``cache_exceptions`` is raised again meanwhile. Bounds are those of ``LRUCache``. ``key`` makes the key from the
    arguments; the default is ``cachetools.keys.hashkey``. Raises ``DeclarationError``.
    """
    if function is not None and not callable(function):
        raise DeclarationError(f"cached({function!r}): write @cached or @cached(ttl=60)")
    checked = _Options(**options)

    def decorate(function: Callable[..., Any]) -> Cached[Any, Any]:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise DeclarationError(
                f"{function.__qualname__} is a generator, which is empty the second time: let it return a list"
            )
        memo = Cached(function, checked)
        return memo if _is_in_class(function) else _as_function(memo)

    return decorate(function) if function is not None else decorate
