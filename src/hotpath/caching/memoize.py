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
from typing import Any, Concatenate, Generic, NamedTuple, ParamSpec, TypeVar, cast, overload

from cachetools.keys import hashkey

from hotpath.caching.background import run_in_task, run_in_thread
from hotpath.caching.lru import DEFAULT_ENTRIES
from hotpath.caching.policy import Entry, Failure, Policy
from hotpath.caching.single_flight import AsyncSingleFlight, SingleFlight
from hotpath.caching.sizing import Sizer
from hotpath.caching.ttl import MIN_TTL, TTLCache
from hotpath.errors import DeclarationError

P = ParamSpec("P")
R = TypeVar("R")
Q = ParamSpec("Q")
S = TypeVar("S")

_NOTHING: Any = object()


class CacheInfo(NamedTuple):
    """As ``functools.lru_cache`` has it, with bytes."""

    hits: int
    misses: int
    maxsize: int | None
    currsize: int
    bytes: int


class Cached(Generic[P, R]):
    """A function with its cache; made by ``cached``. Called as the function is."""

    def __init__(self, function: Callable[P, R], policy: Policy) -> None:
        self._function = function
        self._policy = policy
        self._name = policy.name or _qualified_name(function)
        self._is_plain = policy.is_plain
        self._is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(_call_of(function))
        self.cache = policy.make_cache(self._name)
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
        cache, clock, answer = self.cache, self._policy.clock, self._answer
        data = cache._data
        if self._policy.key is not None:
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
        cache, clock, answer = self.cache, self._policy.clock, self._answer_async
        data = cache._data

        async def call_keyed(*args: Any, **kwargs: Any) -> Any:
            return await answer(args, kwargs)

        if self._policy.key is not None:
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
        now = self._policy.clock()
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

        made = Cached(functools.wraps(function)(async_method if self._is_async else method), self._policy)
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
        return (self._policy.key or hashkey)(*args, **kwargs)

    def _load(self, key: Hashable, args: Any, kwargs: Any) -> Any:
        value = self._fresh(key)
        if value is not _NOTHING:
            return value
        epoch = self._epoch
        try:
            value = self._function(*args, **kwargs)
        except Exception as error:
            return self._failed(key, error)
        if inspect.iscoroutine(value):
            value.close()
            raise DeclarationError(f"{self._name} returned a coroutine, which can be awaited once: write async def")
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
        if self._policy.clock() >= held.fresh:
            return _NOTHING
        if isinstance(held.value, Failure):
            raise held.value.error.with_traceback(None)  # each raise would add its frames, and keep them alive
        return held.value

    def _keep(self, key: Hashable, value: Any, epoch: int) -> None:
        if epoch != self._epoch:
            return
        if self._is_plain:
            self.cache[key] = value
            return
        policy = self._policy
        fresh = policy.clock() + policy.fresh_seconds
        stale, error = fresh + policy.stale_while_revalidate, fresh + policy.stale_if_error
        self._hold(key, Entry(value, fresh, fresh, stale, error), policy.lifetime)

    def _failed(self, key: Hashable, error: Exception) -> Any:
        """The last good value, for ``failure_ttl`` seconds without another try; or the error."""
        if self._is_plain:
            raise error
        policy = self._policy
        held = self._held(key)
        now = policy.clock()
        until = now + policy.failure_ttl
        if held is not _NOTHING and not isinstance(held.value, Failure) and now < held.error:
            until = min(until, held.error)
            self._hold(key, held._replace(until=until, fresh=until, stale=until), held.error - now)
            return held.value
        if isinstance(error, policy.cache_exceptions):
            self._hold(key, Entry(Failure(error), now, until, now, now), policy.failure_ttl)
        raise error

    def _hold(self, key: Hashable, entry: Entry, lifetime: float) -> None:
        if lifetime >= MIN_TTL:
            cast(TTLCache[Hashable, Any], self.cache).set(key, entry, lifetime)

    # A refresh that fails leaves the stale value until it is too old; then a caller gets the error.

    def _refresh(self, key: Hashable, args: Any, kwargs: Any) -> None:
        with suppress(Exception):
            self._flight.call(key, lambda: self._load(key, args, kwargs))

    async def _refresh_async(self, key: Hashable, args: Any, kwargs: Any) -> None:
        with suppress(Exception):
            await self._async_flight.call(key, lambda: self._load_async(key, args, kwargs))


def _call_of(function: Callable[..., Any]) -> Any:
    """The method that runs when an object, or the object in a ``partial``, is called."""
    return getattr(type(_unwrapped(function)), "__call__", None)  # noqa: B004  its value is needed


def _unwrapped(function: Callable[..., Any]) -> Any:
    return function.func if isinstance(function, functools.partial) else function


def _qualified_name(function: Callable[..., Any]) -> str:
    """Module and name of a function, of the function in a ``partial``, or of an object's class."""
    inner = _unwrapped(function)
    named = inner if hasattr(inner, "__qualname__") else type(inner)
    return f"{named.__module__}.{named.__qualname__}"


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
    policy = Policy(**options)

    def decorate(function: Callable[..., Any]) -> Cached[Any, Any]:
        generators = (inspect.isgeneratorfunction, inspect.isasyncgenfunction)
        if any(is_generator(body) for is_generator in generators for body in (function, _call_of(function))):
            raise DeclarationError(
                f"{_qualified_name(function)} is a generator, which is empty the second time: let it return a list"
            )
        memo = Cached(function, policy)
        return memo if _is_in_class(function) else _as_function(memo)

    return decorate(function) if function is not None else decorate
