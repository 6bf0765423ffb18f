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
from types import MethodType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from hotpath.caching.lru import DEFAULT_ENTRIES, LRUCache
from hotpath.caching.memo import CacheInfo, Memo
from hotpath.caching.policy import CachePolicy
from hotpath.caching.shared.valkey import Valkey
from hotpath.caching.sizing import Sizer
from hotpath.errors import DeclarationError

P = ParamSpec("P")
R = TypeVar("R")
Q = ParamSpec("Q")
S = TypeVar("S")

# Where an instance, or a class, keeps the caches of its methods: among its own attributes, so that they go with it.
_ATTRIBUTE = "_hotpath_caches"
_RECEIVERS = ("self", "cls")


class _Methods:
    """The cached methods of one owner. A copy of the owner, pickled or not, has an empty one of its own."""

    __slots__ = ("functions", "owner")

    def __init__(self, owner: weakref.ref[Any] | None = None) -> None:
        self.owner = owner
        self.functions: dict[Cached[Any, Any], Any] = {}

    def is_of(self, owner: object) -> bool:
        """Whether these are of ``owner`` and not of the object that it is a copy of."""
        return self.owner is not None and self.owner() is owner

    def __reduce__(self) -> tuple[type[_Methods], tuple[()]]:
        return _Methods, ()


class Cached(functools.partial[R], Generic[P, R]):
    """A function in a class, with its cache; made by ``cached``. Called as the function is.

    Of an instance it is a bound method whose cache is the instance's. It is a ``partial``, which is what
    ``inspect.iscoroutinefunction`` and frameworks look into.
    """

    cache: LRUCache[Hashable, R]
    cache_info: Callable[[], CacheInfo]
    invalidate: Callable[P, bool]

    def __new__(cls, function: Callable[P, R], policy: CachePolicy) -> Cached[P, R]:
        """As ``functools.partial``, around the function that looks into the cache."""
        name, is_async = policy.name or _qualified_name(function), _is_async(function)
        memo = Memo(function, policy, name, is_async=is_async)

        def method(owner: Any, /, *args: Any, **kwargs: Any) -> Any:
            return made.__get__(owner)(*args, **kwargs)

        async def async_method(owner: Any, /, *args: Any, **kwargs: Any) -> Any:
            return await made.__get__(owner)(*args, **kwargs)  # type: ignore[misc]

        call = memo.call(is_unary=_is_unary(function))
        if next(iter(_parameters(function)), None) in _RECEIVERS:  # called by a property, or as Shop.price(shop)
            call = async_method if is_async else method
        made = super().__new__(cls, call)
        functools.update_wrapper(made, function)
        made.cache, made.cache_info, made.invalidate = memo.cache, memo.cache_info, memo.invalidate
        made._memo, made._function, made._policy = memo, function, policy
        made._name, made._is_async, made._is_unary = name, is_async, _is_unary(function, skipped=1)
        made._memos = weakref.WeakValueDictionary()
        return made

    if TYPE_CHECKING:
        _memo: Memo
        _function: Callable[..., Any]
        _policy: CachePolicy
        _name: str
        _is_async: bool
        _is_unary: bool
        _memos: weakref.WeakValueDictionary[int, Memo]

        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...

    def __reduce__(self) -> str:
        return self._function.__qualname__

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Cached[P, R]: ...
    @overload
    def __get__(self: Cached[Concatenate[S, Q], R], instance: S, owner: type | None = None) -> Cached[Q, R]: ...
    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """A method has a cache for each instance, and a class method one for each class, which goes with it."""
        if instance is None:
            return self
        try:
            methods = instance.__dict__[_ATTRIBUTE]
            if methods.is_of(instance):
                return MethodType(methods.functions[self], instance)
        except (AttributeError, KeyError):
            pass
        return MethodType(self._function_of(instance), instance)

    def cache_clear(self) -> None:
        """Forget everything, of all instances too."""
        self._memo.cache_clear()
        for held in self._memos.valuerefs():
            memo = held()
            if memo is not None:
                memo.cache_clear()

    def _function_of(self, owner: Any) -> Any:
        """The function, to be bound to ``owner``, that looks into a cache which ``owner`` keeps."""
        methods = self._methods_of(owner)
        held, inner, name = methods.owner, self._function, self._name

        def current() -> Any:
            owner = held()
            if owner is None:
                raise ReferenceError(f"{name}: the instance is gone")  # a value made anew, which nobody waits for
            return owner

        def bound(*args: Any, **kwargs: Any) -> Any:
            return inner(current(), *args, **kwargs)

        async def async_bound(*args: Any, **kwargs: Any) -> Any:
            return await inner(current(), *args, **kwargs)

        memo = Memo(async_bound if self._is_async else bound, self._policy, name, is_async=self._is_async)
        call = memo.call(is_unary=self._is_unary)

        def method(_: Any, /, *args: Any, **kwargs: Any) -> Any:
            return call(*args, **kwargs)

        async def async_method(_: Any, /, *args: Any, **kwargs: Any) -> Any:
            return await call(*args, **kwargs)

        self._memos[id(memo)] = memo
        return methods.functions.setdefault(self, _as_function(async_method if self._is_async else method, memo, inner))

    def _methods_of(self, owner: Any) -> Any:
        namespace = getattr(owner, "__dict__", None)
        methods = None if namespace is None else namespace.get(_ATTRIBUTE)
        if methods is not None and methods.is_of(owner):
            return methods
        try:
            made = _Methods(weakref.ref(owner))
            if isinstance(owner, type):
                type.__setattr__(owner, _ATTRIBUTE, made)
            else:
                owner.__dict__[_ATTRIBUTE] = made
        except (AttributeError, TypeError):
            raise DeclarationError(
                f"{self._name}: a {type(owner).__name__} has no place for the cache of a method, which has to go"
                ' with it: write "__dict__" and "__weakref__" among its __slots__'
            ) from None
        return made


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


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(_call_of(function))


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # some builtins have none
        return {}


def _is_unary(function: Callable[..., Any], *, skipped: int = 0) -> bool:
    """Whether it takes one argument, by place or name, and no others."""
    parameters = list(_parameters(function).values())[skipped:]
    by_place = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return len(parameters) == 1 and parameters[0].kind in by_place and parameters[0].default is inspect.Parameter.empty


def _as_function(call: Any, memo: Memo, function: Callable[..., Any]) -> Any:
    """A plain function for callers: an object with ``__call__`` costs a hit half as much again."""
    functools.update_wrapper(call, function)
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
    shared: Valkey | None = None,
    name: str | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Callable[[Callable[P, R]], Cached[P, R]]: ...
def cached(function: Any = None, /, **options: Any) -> Any:
    """Remember what a function, sync or async, returned.

    A value is fresh for ``ttl`` seconds (for ever by default). For ``stale_while_revalidate`` seconds after that the
    old value is returned while one thread makes the new one, and for ``stale_if_error`` seconds it is returned when
    making it fails. After a failure the function is not called for ``failure_ttl`` seconds; one of
    ``cache_exceptions`` is raised again meanwhile. Bounds are those of ``LRUCache``. ``key`` makes the key from the
    arguments; the default is ``cachetools.keys.hashkey``. With ``shared`` all processes have one value and make one
    call (not for methods, whose values belong to an instance). Raises ``DeclarationError``.
    """
    if isinstance(function, classmethod | property):
        kind = type(function).__name__
        raise DeclarationError(f"cached around a {kind}: write @{kind} above @cached")
    if function is not None and not callable(function):
        raise DeclarationError(f"cached({function!r}): write @cached or @cached(ttl=60)")
    policy = CachePolicy.of(options)

    def decorate(function: Callable[..., Any]) -> Any:
        if isinstance(function, staticmethod):
            return staticmethod(as_function(function.__func__))
        if not _is_in_class(function):
            return as_function(function)
        if policy.shared is not None:
            raise DeclarationError(
                f"{_qualified_name(function)}: the values of a method belong to its instance and are not shared; write "
                "a function that takes the instance's id, or a staticmethod"
            )
        return Cached(function, policy)

    def as_function(function: Callable[..., Any]) -> Any:
        if policy.shared is not None and policy.name is None and getattr(function, "__closure__", None):
            raise DeclarationError(
                f"{_qualified_name(function)} has variables of the function around it, so there may be several: write "
                "name=, which says whose values are shared"
            )
        memo = Memo(function, policy, policy.name or _qualified_name(function), is_async=_is_async(function))
        return _as_function(memo.call(is_unary=_is_unary(function)), memo, function)

    def checked(function: Callable[..., Any]) -> Any:
        generators = (inspect.isgeneratorfunction, inspect.isasyncgenfunction)
        if any(is_generator(body) for is_generator in generators for body in (function, _call_of(function))):
            raise DeclarationError(
                f"{_qualified_name(function)} is a generator, which is empty the second time: let it return a list"
            )
        return decorate(function)

    return checked(function) if function is not None else checked
