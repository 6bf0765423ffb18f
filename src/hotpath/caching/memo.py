"""What one function, or one method of one instance, returned: its values, and the calls that make them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, cast

import anyio.to_thread
from cachetools.keys import hashkey

from hotpath.caching.background import run_in_task, run_in_thread
from hotpath.caching.policy import CacheEntry, CachePolicy, Failure
from hotpath.caching.shared.envelope import SharedValue
from hotpath.caching.shared.keys import digest_of
from hotpath.caching.shared.valkey import Turn
from hotpath.caching.single_flight import AsyncSingleFlight, SingleFlight
from hotpath.caching.ttl import MIN_TTL, TTLCache
from hotpath.errors import DeclarationError

_NOTHING: Any = object()


class CacheInfo(NamedTuple):
    """As ``functools.lru_cache`` has it, with bytes."""

    hits: int
    misses: int
    maxsize: int | None
    currsize: int
    bytes: int


class Memo:
    """A function with its cache. ``call()`` makes what callers call, which a memo does not refer to.

    So nothing here is a cycle, and a memo is freed, with all it keeps, as soon as nobody can call it.
    """

    def __init__(self, function: Callable[..., Any], policy: CachePolicy, name: str, *, is_async: bool) -> None:
        self._function = function
        self._policy = policy
        self._name = name
        self._is_plain = policy.is_plain
        self._is_async = is_async
        self.cache = policy.make_cache(name)
        self._flight: SingleFlight[Any] = SingleFlight()
        self._async_flight: AsyncSingleFlight[Any] = AsyncSingleFlight()
        # Raised when something is forgotten: a call that began before may return what was true then, and is not kept.
        self._epoch = 0
        self._shared = policy.shared
        self._shared_name = "" if policy.shared is None else policy.shared.register(function, name, self)

    def call(self, *, is_unary: bool) -> Callable[..., Any]:
        """A function, sync or async, that answers from the cache. ``is_unary`` where it has one argument always."""
        return self._make_async_call(is_unary) if self._is_async else self._make_call(is_unary)

    # A hit runs one of these four closures: a lookup in the dictionary and nothing else.

    def _make_call(self, is_unary: bool) -> Callable[..., Any]:
        cache, clock, answer = self.cache, self._policy.clock, self._answer
        if self._policy.key is not None:
            return lambda *args, **kwargs: answer(args, kwargs)

        def call(*args: Any, **kwargs: Any) -> Any:
            if not kwargs:
                try:
                    value = cache._data[args]
                    cache._touches[type(args[0]) if is_unary else tuple](args)
                except (KeyError, TypeError):
                    pass
                else:
                    cache.hits += 1
                    return value
            return answer(args, kwargs)

        def call_timed(*args: Any, **kwargs: Any) -> Any:
            if not kwargs:
                try:
                    entry, _, stored = cache._data[args]
                    if clock() < entry.until:
                        cache._touch(stored)
                        cache.hits += 1
                        return entry.value
                except (KeyError, TypeError):
                    pass
            return answer(args, kwargs)

        return call if self._is_plain else call_timed

    def _make_async_call(self, is_unary: bool) -> Callable[..., Any]:
        cache, clock, answer = self.cache, self._policy.clock, self._answer_async

        async def call_keyed(*args: Any, **kwargs: Any) -> Any:
            return await answer(args, kwargs)

        if self._policy.key is not None:
            return call_keyed

        async def call(*args: Any, **kwargs: Any) -> Any:
            if not kwargs:
                try:
                    value = cache._data[args]
                    cache._touches[type(args[0]) if is_unary else tuple](args)
                except (KeyError, TypeError):
                    pass
                else:
                    cache.hits += 1
                    return value
            return await answer(args, kwargs)

        async def call_timed(*args: Any, **kwargs: Any) -> Any:
            if not kwargs:
                try:
                    entry, _, stored = cache._data[args]
                    if clock() < entry.until:
                        cache._touch(stored)
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

    def cache_info(self) -> CacheInfo:
        """Hits, misses and sizes."""
        cache = self.cache
        return CacheInfo(cache.hits, cache.misses, cache.max_entries, len(cache), cache.bytes)

    def cache_clear(self) -> None:
        """Forget everything."""
        self._epoch += 1
        self.cache.clear()

    def invalidate(self, *args: Any, **kwargs: Any) -> bool:
        """Forget what was returned for these arguments; whether there was anything."""
        self._epoch += 1
        key = self._key(args, kwargs)
        was_here = self.cache.pop(key, _NOTHING) is not _NOTHING
        if self._shared is not None:
            self._shared.forget(self._shared_name, key)
        return was_here

    def forget_digest(self, digest: str) -> None:
        """Forget the value of a key with this digest: another process has forgotten it."""
        self._epoch += 1
        for key in list(self.cache._data):
            if digest_of(key) == digest:
                self.cache.pop(key, _NOTHING)

    def forget_all(self) -> None:
        """Forget the copies in this process: what others forgot meanwhile was not heard."""
        self.cache_clear()

    def _key(self, args: Any, kwargs: Any) -> Hashable:
        return (self._policy.key or hashkey)(*args, **kwargs)

    def _load(self, key: Hashable, args: Any, kwargs: Any, *, is_refresh: bool = False) -> Any:
        value = self._fresh(key)
        if value is not _NOTHING:
            return value
        if self._shared is not None:
            return self._load_shared(key, args, kwargs, is_refresh=is_refresh)
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

    async def _load_async(self, key: Hashable, args: Any, kwargs: Any, *, is_refresh: bool = False) -> Any:
        value = self._fresh(key)
        if value is not _NOTHING:
            return value
        if self._shared is not None:
            return await self._load_shared_async(key, args, kwargs, is_refresh=is_refresh)
        epoch = self._epoch
        try:
            value = await self._function(*args, **kwargs)
        except Exception as error:
            return self._failed(key, error)
        self._keep(key, value, epoch)
        return value

    # With a shared cache. Its operations block, at most 50 ms, or while another process makes the value.

    def _load_shared(self, key: Hashable, args: Any, kwargs: Any, *, is_refresh: bool) -> Any:
        shared, epoch = self._shared, self._epoch
        assert shared is not None
        turn = shared.turn(self._shared_name, key)
        usable = turn.value or self._stale(turn, is_refresh=is_refresh)
        if usable is not None:
            if turn.token is not None:
                shared.give_back(turn)  # the next caller finds the copy stale, and a thread makes the new one
            return self._keep_copy(key, usable, epoch)
        try:
            value = self._function(*args, **kwargs)
        except BaseException as error:
            if turn.token is not None:
                shared.give_back(turn)
            if not isinstance(error, Exception):
                raise
            return self._failed_with(key, error, turn.old)
        if turn.token is not None:
            shared.keep(turn, value, self._lifetimes())
        self._keep(key, value, epoch)
        return value

    async def _load_shared_async(self, key: Hashable, args: Any, kwargs: Any, *, is_refresh: bool) -> Any:
        shared, epoch = self._shared, self._epoch
        assert shared is not None
        turn = await anyio.to_thread.run_sync(shared.turn, self._shared_name, key)
        usable = turn.value or self._stale(turn, is_refresh=is_refresh)
        if usable is not None:
            if turn.token is not None:
                await anyio.to_thread.run_sync(shared.give_back, turn)
            return self._keep_copy(key, usable, epoch)
        try:
            value = await self._function(*args, **kwargs)
        except BaseException as error:
            if turn.token is not None:  # nothing can be awaited in a task that is cancelled
                run_in_thread(partial(shared.give_back, turn))
            if not isinstance(error, Exception):
                raise
            return self._failed_with(key, error, turn.old)
        self._keep(key, value, epoch)
        if turn.token is not None:
            await anyio.to_thread.run_sync(shared.keep, turn, value, self._lifetimes())
        return value

    @staticmethod
    def _stale(turn: Turn, *, is_refresh: bool) -> SharedValue | None:
        """The old value, where it may be returned while the new one is made."""
        return turn.old if turn.old is not None and turn.old.stale > 0 and not is_refresh else None

    def _lifetimes(self) -> tuple[float, float, float]:
        policy = self._policy
        fresh = policy.fresh_seconds
        return fresh, fresh + policy.stale_while_revalidate, fresh + policy.stale_if_error

    def _keep_copy(self, key: Hashable, shared: SharedValue, epoch: int) -> Any:
        if epoch == self._epoch:
            now = self._policy.clock()
            fresh, stale, error = (now + seconds for seconds in (shared.fresh, shared.stale, shared.error))
            self._hold(
                key, CacheEntry(shared.value, fresh, fresh, stale, error), max(shared.fresh, shared.stale, shared.error)
            )
        return shared.value

    def _failed_with(self, key: Hashable, error: Exception, old: SharedValue | None) -> Any:
        """As ``_failed``, with the last good value of whichever process made it."""
        if old is not None and old.error > 0 and self._held(key) is _NOTHING:
            self._keep_copy(key, old, self._epoch)
        return self._failed(key, error)

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
        now = self._policy.clock()
        fresh, stale, error = (now + seconds for seconds in self._lifetimes())
        self._hold(key, CacheEntry(value, fresh, fresh, stale, error), self._policy.lifetime)

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
            self._hold(key, CacheEntry(Failure(error), now, until, now, now), policy.failure_ttl)
        raise error

    def _hold(self, key: Hashable, entry: CacheEntry, lifetime: float) -> None:
        if lifetime >= MIN_TTL:
            cast(TTLCache[Hashable, Any], self.cache).set(key, entry, lifetime)

    # A refresh that fails leaves the stale value until it is too old; then a caller gets the error.

    def _refresh(self, key: Hashable, args: Any, kwargs: Any) -> None:
        with suppress(Exception):
            self._flight.call(key, lambda: self._load(key, args, kwargs, is_refresh=True))

    async def _refresh_async(self, key: Hashable, args: Any, kwargs: Any) -> None:
        with suppress(Exception):
            await self._async_flight.call(key, lambda: self._load_async(key, args, kwargs, is_refresh=True))
