"""``cached``: remember what a function returned, within bounds, with one call for each key at a time.

After its lifetime a value may still be served: while it is made anew (stale-while-revalidate), or when making it fails
(stale-if-error; RFC 5861).
"""

from __future__ import annotations

import contextvars
import functools
import inspect
import threading
import time
import weakref
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Concatenate, Generic, NamedTuple, ParamSpec, TypeVar, cast, overload

from hotpath.caching.lru import DEFAULT_ENTRIES, LRUCache
from hotpath.caching.single_flight import AsyncSingleFlight, SingleFlight, run_beside
from hotpath.caching.sizing import Sizer, weigh
from hotpath.caching.ttl import TTLCache
from hotpath.errors import DeclarationError

P = ParamSpec("P")
R = TypeVar("R")
Q = ParamSpec("Q")
S = TypeVar("S")

# Seconds of a value that has no lifetime: thirty years.
FOREVER = 1e9

# Threads of all caches together that make stale values anew: more at once would be a load for what is behind them.
MAX_REFRESHING = 4
_refreshing = threading.BoundedSemaphore(MAX_REFRESHING)

# An exception with a few frames.
FAILURE_BYTES = 1024

_KEYWORDS = object()
_NOTHING: Any = object()


class CacheInfo(NamedTuple):
    """As ``functools.lru_cache`` has it, with bytes."""

    hits: int
    misses: int
    maxsize: int | None
    currsize: int
    bytes: int


class _Entry(NamedTuple):
    """A value, and ``until`` when a hit may simply return it: never, where it is a failure.

    Then: until when it is ``fresh``, may be served ``stale`` while it is made anew, and when making it fails.
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
    ttl: float
    stale_while_revalidate: float
    stale_if_error: float
    failure_ttl: float
    cache_exceptions: tuple[type[BaseException], ...]
    key: Callable[..., Hashable] | None
    clock: Callable[[], float]
    max_entries: int | None
    max_bytes: int | None
    sizer: Sizer | None
    name: str

    @property
    def lifetime(self) -> float:
        """Seconds after which a value is of no use to anybody, not even stale."""
        return self.ttl + max(self.stale_while_revalidate, self.stale_if_error)


class Cached(Generic[P, R]):
    """A function with its cache; made by ``cached``. Called as the function is."""

    def __init__(self, function: Callable[P, R], options: _Options) -> None:
        self._function = function
        self._options = options
        # Without a lifetime and without failures a value is held as it is.
        self._is_plain = options.ttl == FOREVER and not options.cache_exceptions
        sizer = options.sizer or weigh
        held_sizer = None if options.max_bytes is None else lambda key, held: _weight(sizer, key, held)
        bounds = (options.max_entries, options.max_bytes)
        self.cache: LRUCache[Hashable, Any] = (
            LRUCache(*bounds, sizer=held_sizer, name=options.name)
            if self._is_plain
            else TTLCache(
                bounds[0], options.lifetime, bounds[1], sizer=held_sizer, name=options.name, clock=options.clock
            )
        )
        self._is_async = inspect.iscoroutinefunction(function)
        self._flight: SingleFlight[Any] = SingleFlight()
        self._async_flight: AsyncSingleFlight[Any] = AsyncSingleFlight()
        # What was begun before something was forgotten is not kept: it may be made of what was true then.
        self._epoch = 0
        self._bound: dict[int, tuple[weakref.ref[Any], Cached[Any, Any]]] = {}
        self.call = self._make_async_call() if self._is_async else self._make_call()
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.call(*args, **kwargs)  # type: ignore[no-any-return]

    # A hit is a look into the dictionary and nothing else: these four are what a call of a hit runs.

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

    # What is not such a hit

    def _answer(self, args: Any, kwargs: Any) -> Any:
        key = self._key(args, kwargs)
        entry = self._look(key)
        if entry is not _NOTHING:
            if self._is_plain:
                return entry
            now = self._options.clock()
            if now < entry.until:
                return entry.value
            if now < entry.stale:
                self._refresh_in_thread(key, args, kwargs)
                return entry.value
        return self._flight.call(key, lambda: self._load(key, args, kwargs))

    async def _answer_async(self, args: Any, kwargs: Any) -> Any:
        key = self._key(args, kwargs)
        entry = self._look(key)
        if entry is not _NOTHING:
            if self._is_plain:
                return entry
            now = self._options.clock()
            if now < entry.until:
                return entry.value
            if now < entry.stale:
                if not self._async_flight.is_in_flight(key):
                    run_beside(lambda: self._refresh_in_task(key, args, kwargs))
                return entry.value
        return await self._async_flight.call(key, lambda: self._load_async(key, args, kwargs))

    def _look(self, key: Hashable) -> Any:
        try:
            return self.cache.get(key, _NOTHING)
        except TypeError as error:
            raise DeclarationError(
                f"{self._options.name} was called with something that cannot be a key ({error}): "
                "write @cached(key=lambda …: …), which makes a hashable one from the arguments"
            ) from error

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
                f"{self._options.name}: a {type(instance).__name__} cannot be referred to weakly, so its cache would "
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
        make = self._options.key
        if make is not None:
            return make(*args, **kwargs)
        return (*args, _KEYWORDS, *sorted(kwargs.items())) if kwargs else args

    def _load(self, key: Hashable, args: Any, kwargs: Any) -> Any:
        known, value = self._known(key)
        if known:
            return value
        epoch = self._epoch
        try:
            value = self._function(*args, **kwargs)
        except BaseException as error:
            return self._failed(key, error)
        if epoch == self._epoch:
            self._keep(key, value)
        return value

    async def _load_async(self, key: Hashable, args: Any, kwargs: Any) -> Any:
        known, value = self._known(key)
        if known:
            return value
        epoch = self._epoch
        try:
            value = await self._function(*args, **kwargs)  # type: ignore[misc]
        except BaseException as error:
            return self._failed(key, error)
        if epoch == self._epoch:
            self._keep(key, value)
        return value

    def _held(self, key: Hashable) -> Any:
        """What is held of a key, without counting that as a use."""
        held = self.cache._data.get(key, _NOTHING)
        return held if held is _NOTHING or self._is_plain else held[0]

    def _known(self, key: Hashable) -> tuple[bool, Any]:
        """What came while this call waited for its turn, or a failure that is too fresh to try again."""
        held = self._held(key)
        if held is _NOTHING:
            return False, None
        if self._is_plain:
            return True, held
        if self._options.clock() >= held.fresh:
            return False, None
        if isinstance(held.value, _Failure):
            raise held.value.error.with_traceback(None)  # each raise would add its frames, and keep them alive
        return True, held.value

    def _keep(self, key: Hashable, value: Any) -> None:
        if self._is_plain:
            self.cache[key] = value
            return
        options = self._options
        fresh = options.clock() + options.ttl
        stale, error = fresh + options.stale_while_revalidate, fresh + options.stale_if_error
        self._hold(key, _Entry(value, fresh, fresh, stale, error), options.lifetime)

    def _failed(self, key: Hashable, error: BaseException) -> Any:
        """The last good value, for ``failure_ttl`` seconds without another try; or the error."""
        if self._is_plain or not isinstance(error, Exception):
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
        if lifetime > 0:
            cast(TTLCache[Hashable, Any], self.cache).set(key, entry, lifetime)

    def _refresh_in_thread(self, key: Hashable, args: Any, kwargs: Any) -> None:
        def refresh() -> None:
            with suppress(Exception):  # the stale value is served until it is too old; then the caller gets the error
                self._flight.call(key, lambda: self._load(key, args, kwargs))

        def refresh_in_turn() -> None:
            try:
                context.run(refresh)
            finally:
                _refreshing.release()

        # Where enough are at it already, the next call for this key may begin it.
        if self._flight.is_in_flight(key) or not _refreshing.acquire(blocking=False):
            return
        context = contextvars.copy_context()
        try:
            threading.Thread(target=refresh_in_turn, name="hotpath-revalidate", daemon=True).start()
        except RuntimeError:  # no more threads in this process
            _refreshing.release()

    async def _refresh_in_task(self, key: Hashable, args: Any, kwargs: Any) -> None:
        with suppress(Exception):  # as above
            await self._async_flight.call(key, lambda: self._load_async(key, args, kwargs))


def _weight(sizer: Sizer, key: Hashable, held: Any) -> int:
    """A user's ``sizer`` sees values only, never what is beside them."""
    value = held.value if isinstance(held, _Entry) else held
    return FAILURE_BYTES if isinstance(value, _Failure) else sizer(key, value)


def _is_in_class(function: Callable[..., Any]) -> bool:
    """Whether it is defined in the body of a class: then it has to be bound, and to keep no instance alive."""
    outer = getattr(function, "__qualname__", "").rpartition(".")[0]
    return bool(outer) and not outer.endswith("<locals>")


def _as_function(found: Cached[Any, Any]) -> Any:
    """The function that is called itself: an object with ``__call__`` costs a hit half as much again."""
    call: Any = functools.wraps(found._function)(found.call)
    call.cache = found.cache
    call.cache_info, call.cache_clear, call.invalidate = found.cache_info, found.cache_clear, found.invalidate
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

    ``ttl`` is how many seconds a value is fresh (for ever where it is not given); after it, for
    ``stale_while_revalidate`` seconds the old value is returned while one thread makes the new one, and for
    ``stale_if_error`` seconds it is returned when making it fails. A failure is then not tried again for
    ``failure_ttl`` seconds; so is one of ``cache_exceptions``, which is raised again. Bounds as of ``LRUCache``.
    ``key`` makes the key from the arguments. Raises ``DeclarationError``.
    """
    if function is not None and not callable(function):
        raise DeclarationError(f"cached({function!r}): write @cached or @cached(ttl=60)")
    ttl = options.pop("ttl", None)
    for name in ("stale_while_revalidate", "stale_if_error", "failure_ttl"):
        value = options.get(name, 0.0)
        if not isinstance(value, int | float) or not 0 <= value < FOREVER:
            raise DeclarationError(f"{name}={value!r}: write seconds, 0 or more")
    if ttl is not None and not (isinstance(ttl, int | float) and 0 < ttl <= FOREVER):
        raise DeclarationError(f"ttl={ttl!r}: write the seconds that a value is fresh, more than 0")
    if ttl is None and (options.get("stale_while_revalidate") or options.get("stale_if_error")):
        raise DeclarationError("stale_while_revalidate= and stale_if_error= are about what is past its ttl=; write one")

    def decorate(function: Callable[..., Any]) -> Cached[Any, Any]:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise DeclarationError(
                f"{function.__qualname__} is a generator, which is empty the second time: let it return a list"
            )
        given: dict[str, Any] = {
            "stale_while_revalidate": 0.0,
            "stale_if_error": 0.0,
            "failure_ttl": 1.0,
            "cache_exceptions": (),
            "key": None,
            "clock": time.monotonic,
            "max_entries": DEFAULT_ENTRIES,
            "max_bytes": None,
            "sizer": None,
        } | options
        given["name"] = given.get("name") or f"{function.__module__}.{function.__qualname__}"
        found = Cached(function, _Options(ttl=FOREVER if ttl is None else ttl, **given))
        return found if _is_in_class(function) else _as_function(found)

    return decorate(function) if function is not None else decorate
