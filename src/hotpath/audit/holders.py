"""The holder of an object: a module, class, function or instance, and the name it has there."""

from __future__ import annotations

import functools
import gc
import sys
import types
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

# Maximum steps from an object to its holder: container → cell → tuple → function is three, an attribute of an instance
# that a module holds in a dict is four. Each step is one pass of the collector over all it knows.
MAX_STEPS = 5
MAX_HOLDERS = 1_000
MAX_SEARCHED = 200_000
UNKNOWN = "something that could not be named"

_LRU_WRAPPER = type(functools.lru_cache(len))
_NEVER_NAMED = (types.FrameType, types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType)


@dataclass(frozen=True, slots=True)
class _Part:
    """One step of a name: an attribute or an entry."""

    key: object
    is_attribute: bool

    def __str__(self) -> str:
        return f".{self.key}" if self.is_attribute else f"[{_short(self.key)}]"


@dataclass(frozen=True, slots=True)
class _Way:
    """From one of the objects up to a holder: which object, and the name so far, outermost part first."""

    index: int
    parts: tuple[_Part, ...]

    def below(self, *parts: _Part) -> _Way:
        return _Way(self.index, (*parts, *self.parts))

    def as_attribute(self) -> _Way:
        """The same way where the first part is a key of a ``__dict__``."""
        if not self.parts:
            return self
        return _Way(self.index, (_Part(self.parts[0].key, is_attribute=True), *self.parts[1:]))

    def __str__(self) -> str:
        return "".join(map(str, self.parts))


_ENTRY = _Part(..., is_attribute=False)

# Objects with the ways up to them, by id.
_Frontier = dict[int, tuple[object, list[_Way]]]


def held_by(targets: list[object], *, not_by: Iterable[object] = ()) -> list[str]:
    """For each object ``module.name``, ``module.Class.name``, ``module.function …`` or ``an instance of Class``.

    The way through a module or class is preferred to that through an instance alone. Calls no code of theirs.
    """
    modules = _namespaces()
    named: list[str | None] = [
        f"{modules[id(target)]}.__dict__" if id(target) in modules else None for target in targets
    ]
    fallback: list[str | None] = [None] * len(targets)
    ours = {id(targets), id(named), id(fallback), *map(id, not_by)}
    frontier: _Frontier = {id(target): (target, [_Way(index, ())]) for index, target in enumerate(targets)}
    seen = set(frontier)
    for _ in range(MAX_STEPS):
        objects = [target for target, _ in frontier.values()]
        if not objects:
            break
        ours |= {id(frontier), id(objects), *map(id, frontier.values())}
        above: _Frontier = {}
        for holder in gc.get_referrers(*objects):
            if id(holder) in ours or isinstance(holder, _NEVER_NAMED):
                continue
            ways = [way for child, way in _ways(holder, frontier) if named[way.index] is None]
            _name_all(holder, ways, modules, named, fallback)
            going_on = [way for way in ways if named[way.index] is None]
            if going_on and id(holder) not in seen and len(above) < MAX_HOLDERS:
                above[id(holder)] = (holder, going_on)
        ours |= {id(above)}
        seen |= set(above)
        frontier = {
            key: (holder, kept)
            for key, (holder, ways) in above.items()
            if (kept := [way for way in ways if named[way.index] is None])
        }
    return [name or other or UNKNOWN for name, other in zip(named, fallback, strict=True)]


def _namespaces() -> dict[int, str]:
    """The names of all modules by the ids of their namespaces."""
    modules: dict[int, str] = {}
    for name, module in list(sys.modules.items()):
        if issubclass(type(module), types.ModuleType):
            modules.setdefault(id(object.__getattribute__(module, "__dict__")), name)
    return modules


def _name_all(
    holder: object,
    ways: list[_Way],
    modules: dict[int, str],
    named: list[str | None],
    fallback: list[str | None],
) -> None:
    """Name the objects that ``holder`` holds, where it has a name itself, or is at least an instance of a class."""
    name = _name_of(holder, modules)
    for way in ways:
        if name is not None:
            named[way.index] = _name_of_way(name, way, holder)
        elif not isinstance(holder, _PLAIN) and fallback[way.index] is None:
            fallback[way.index] = f"an instance of {_type_name(type(holder))}: {str(way).lstrip('.') or 'inside'}"


_PLAIN = (dict, list, set, frozenset, tuple, deque, types.CellType)


def _name_of_way(name: str, way: _Way, holder: object) -> str:
    if isinstance(holder, _LRU_WRAPPER):
        return f"{name} (the results it keeps)"
    if isinstance(holder, types.FunctionType):
        return f"{name} ({str(way).lstrip('.')})"
    return f"{name}{way.as_attribute()}"


def _name_of(holder: object, modules: dict[int, str]) -> str | None:
    """The name of a module's namespace, a class or a function; None for what is held by something else in turn."""
    if id(holder) in modules:
        return modules[id(holder)]
    if issubclass(type(holder), type):
        return _type_name(holder)  # type: ignore[arg-type]
    if type(holder) is types.FunctionType or type(holder) is _LRU_WRAPPER:
        return f"{getattr(holder, '__module__', '?')}.{getattr(holder, '__qualname__', '?')}"
    return None


def _ways(holder: object, frontier: _Frontier) -> Iterator[tuple[int, _Way]]:
    """For each object of the frontier that ``holder`` holds: the ways up to it, with the name it has in there."""
    if type(holder) is types.FunctionType:
        yield from _in_function(holder, frontier)
        return
    for child, part in _places(holder, frontier):
        for way in frontier[child][1]:
            if part is not None:
                yield child, way.below(part)
            else:
                yield child, way.as_attribute() if not isinstance(holder, _PLAIN) else way


def _in_function(function: types.FunctionType, frontier: _Frontier) -> Iterator[tuple[int, _Way]]:
    """Through ``__closure__``, ``__defaults__`` and ``__kwdefaults__`` to the name of the variable or argument."""
    code = function.__code__
    arguments = code.co_varnames[: code.co_argcount]
    defaults = function.__defaults__
    tuples = (
        (function.__closure__, code.co_freevars, "its variable "),
        (defaults, arguments[len(arguments) - len(defaults or ()) :], "the default of "),
    )
    for held, names, what in tuples:
        for way in frontier.get(id(held), (None, ()))[1]:
            first = way.parts[0].key if way.parts else None
            name = names[first] if isinstance(first, int) and first < len(names) else "…"
            rest = "".join(map(str, way.parts[1:]))
            yield id(held), _Way(way.index, (_Part(f"{what}{name}{rest}", is_attribute=True),))
    for way in frontier.get(id(function.__kwdefaults__), (None, ()))[1]:
        key = way.parts[0].key if way.parts else "…"
        yield id(function.__kwdefaults__), _Way(way.index, (_Part(f"the default of {key}", is_attribute=True),))
    for way in frontier.get(id(function.__dict__), (None, ()))[1]:
        yield id(function.__dict__), way


def _places(holder: object, wanted: Mapping[int, object]) -> Iterator[tuple[int, _Part | None]]:
    """Where in ``holder`` the wanted objects are. A part of None: the holder's own namespace is the wanted object."""
    kind = type(holder)
    if issubclass(kind, dict):
        yield from _entries(dict.items(holder), dict.__len__(holder), holder, wanted)  # type: ignore[arg-type]
    elif issubclass(kind, list | tuple | deque):
        numbered = enumerate(holder) if kind in (list, tuple, deque) else ()  # type: ignore[arg-type, var-annotated]
        yield from _entries(numbered, len(holder) if kind in (list, tuple, deque) else 0, holder, wanted)  # type: ignore[arg-type]
    elif kind is types.CellType or issubclass(kind, type):
        yield from ((child, None) for child in _direct(holder, wanted))
    else:
        yield from _attributes(holder, wanted)


def _entries(
    entries: Iterable[tuple[object, object]], size: int, holder: object, wanted: Mapping[int, object]
) -> Iterator[tuple[int, _Part | None]]:
    """Where a container changes while it is searched, the name of the entry stays unknown."""
    if size <= MAX_SEARCHED:
        try:
            places = [(id(value), _Part(key, is_attribute=False)) for key, value in entries if id(value) in wanted]
        except RuntimeError:
            places = []
        if places:
            yield from places
            return
    yield from ((child, _ENTRY) for child in _direct(holder, wanted))


def _attributes(holder: object, wanted: Mapping[int, object]) -> Iterator[tuple[int, _Part | None]]:
    yielded = set()
    try:
        namespace = object.__getattribute__(holder, "__dict__")
    except (AttributeError, TypeError):
        namespace = None
    if type(namespace) is dict:
        if id(namespace) in wanted:
            yielded.add(id(namespace))
            yield id(namespace), None
        for name, value in list(namespace.items()):
            if id(value) in wanted:
                yielded.add(id(value))
                yield id(value), _Part(name, is_attribute=True)
    for base in type(holder).__mro__:
        for name, member in vars(base).items():
            if isinstance(member, types.MemberDescriptorType) and name != "__dict__":
                try:
                    value = member.__get__(holder)
                except (AttributeError, TypeError):
                    continue
                if id(value) in wanted:
                    yielded.add(id(value))
                    yield id(value), _Part(name, is_attribute=True)
    yield from ((child, None) for child in _direct(holder, wanted) if child not in yielded)


def _direct(holder: object, wanted: Mapping[int, object]) -> set[int]:
    return {id(child) for child in gc.get_referents(holder) if id(child) in wanted}


def _type_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _short(key: object) -> str:
    """Only of plain keys: the ``repr`` of others is code that could do anything."""
    if key is ...:
        return "…"
    if type(key) in (str, int, bytes, float, bool, type(None)):
        shown = repr(key)
        return shown if len(shown) <= 40 else f"{shown[:37]}…"
    return f"<{type(key).__name__}>"
