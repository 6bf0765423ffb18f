"""Caches that are made without a maximum: functools, async_lru, cachetools."""

from __future__ import annotations

import ast
from dataclasses import dataclass, replace

from hotpath.audit.findings import Candidate, Finding, Pattern, Severity
from hotpath.audit.origins import CLASS_RECEIVERS, ValueOrigin, is_enumeration, of_parameter
from hotpath.audit.scopes import Scope, argument, container_kind, dotted, is_infinite, lookup, terminal
from hotpath.audit.walk import Walk

_CACHETOOLS = frozenset(
    f"cachetools.{name}" for name in "Cache LRUCache LFUCache FIFOCache RRCache MRUCache TTLCache TLRUCache".split()
)
_CACHETOOLS_FUNC = frozenset(f"cachetools.func.{name}_cache" for name in "lru lfu fifo rr mru ttl".split())
_LRU = frozenset({"functools.lru_cache", "asyncstdlib.lru_cache"})
_ENDLESS = frozenset({"functools.cache", "asyncstdlib.cache"})


@dataclass(frozen=True, slots=True)
class _Cached:
    """A function behind a cache without a maximum."""

    description: str
    pattern: Pattern


def cache_candidates(path: str, lines: list[str], walk: Walk) -> list[Candidate]:
    """Decorators and calls in ``walk`` that make a cache without a maximum."""
    candidates: list[Candidate] = []
    decorators: set[int] = set()
    for outer, inner in walk.functions:
        node = inner.node
        assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for decorator in node.decorator_list:
            cached = _cached(_decorator(decorator, outer), walk.imports)
            if cached is None:
                continue
            decorators.update(id(part) for part in ast.walk(decorator))
            growth = _growth(outer, inner)
            if growth is None:
                continue
            finding = Finding(
                path=path,
                line=decorator.lineno,
                pattern=cached.pattern,
                level=growth[1],
                name=inner.name,
                why=f"{cached.description} on {inner.name}(): {growth[0]}",
                text=lines[decorator.lineno - 1].strip(),
                instead=_instead_of_decorator(inner),
            )
            covered = frozenset(range(decorator.lineno, node.body[0].lineno))
            candidates.append(Candidate(finding, covered, inner.name, _places(inner)))
    for scope, call in walk.caching:
        if id(call) not in decorators:
            made = _of_cache(path, call, walk) or _of_wrapper(path, scope, call, walk)
            if made is not None:
                finding = replace(made, text=lines[call.lineno - 1].strip())
                covered = frozenset(range(call.lineno, (call.end_lineno or call.lineno) + 1))
                candidates.append(Candidate(finding, covered))
    return candidates


def _decorator(node: ast.expr, scope: Scope) -> ast.expr:
    """What a decorator stands for that has a name of its own: ``memo = lru_cache(maxsize=None)``, then ``@memo``."""
    where = lookup(scope, node.id) if isinstance(node, ast.Name) else None
    values = where.bound.get(node.id, []) if where is not None and isinstance(node, ast.Name) else []
    return values[0] if len(values) == 1 and isinstance(values[0], ast.expr) else node


def _cached(node: ast.expr, imports: dict[str, str]) -> _Cached | None:
    """What a decorator, or the function part of a call, makes of a function; None for what has a maximum."""
    call = node if isinstance(node, ast.Call) else None
    name = dotted(call.func if call else node, imports) or ""
    if name in _ENDLESS:
        return _Cached(f"{name.rpartition('.')[2]} without a maximum", Pattern.UNBOUNDED_CACHE)
    if call is None:
        return None
    if name in _LRU and _is_unbounded(call, imports):
        return _Cached("lru_cache(maxsize=None)", Pattern.UNBOUNDED_CACHE)
    if name == "async_lru.alru_cache" and _is_unbounded(call, imports):
        timed = argument(call, len(call.args), "ttl") is not None
        bounds_age = " with a ttl bounds the age of results and not their number;" if timed else ""
        return _Cached(f"alru_cache(maxsize=None){bounds_age}", Pattern.UNBOUNDED_ALRU_CACHE)
    if name in _CACHETOOLS_FUNC and _is_unbounded(call, imports):
        return _Cached(f"{name}(maxsize=None)", Pattern.UNBOUNDED_CACHETOOLS)
    if name in ("cachetools.cached", "cachetools.cachedmethod"):
        cache = argument(call, 0, "cache")
        if container_kind(cache, imports) is not None:
            return _Cached(f"{name} over a plain dict", Pattern.UNBOUNDED_CACHETOOLS)
    return None


def _is_unbounded(call: ast.Call, imports: dict[str, str]) -> bool:
    """``maxsize`` is None or infinite; left out, it is bounded by default."""
    given = call.args[0] if call.args else None
    for keyword in call.keywords:
        given = keyword.value if keyword.arg == "maxsize" else given
    if isinstance(given, ast.Constant):
        return given.value is None
    return is_infinite(given, imports)


def _growth(outer: Scope, inner: Scope) -> tuple[str, Severity] | None:
    """Why a cache around ``inner`` grows. None where it ends with the call that made it, or has one entry."""
    params = dict(inner.params)
    owner = inner.method_of
    of_instance = False
    if owner is not None and inner.receiver is not None:
        receiver = inner.receiver
        params.pop(receiver)
        of_class = any(terminal(decorator) == "classmethod" for decorator in getattr(inner.node, "decorator_list", ()))
        of_class = of_class or receiver in CLASS_RECEIVERS
        of_instance = not of_class and not is_enumeration(owner.name, owner)
    if outer.kind == "function" and inner.name not in outer.returned:
        return None
    if of_instance:
        instances = "its key holds self, so no instance is ever freed"
        return (instances + (", and it keeps a result for every set of arguments" if params else "")), Severity.WARNING
    if not params:
        return None
    from_data = [name for name, arg in params.items() if _origin(arg, inner) is ValueOrigin.DATA]
    if not from_data:
        return "its arguments are classes, functions or flags: as many as the code has", Severity.NOTE
    shown = ", ".join(from_data[:3])
    return f"it keeps a result for every {shown} it was ever called with", Severity.WARNING


def _places(inner: Scope) -> tuple[int | str, ...]:
    """The arguments that come from data, each by its place and its name."""
    return tuple(
        position
        for place, (name, arg) in enumerate(inner.params.items())
        if _origin(arg, inner) is ValueOrigin.DATA
        for position in (place, name)
    )


def _origin(arg: ast.arg, inner: Scope) -> ValueOrigin:
    if isinstance(arg.annotation, ast.Name) and is_enumeration(arg.annotation.id, inner):
        return ValueOrigin.CODE
    return of_parameter(arg)


def _instead_of_decorator(inner: Scope) -> str:
    if inner.method_of is not None or isinstance(inner.node, ast.AsyncFunctionDef):
        return "@cached(max_entries=1024)  # from hotpath import cached; keeps no instance alive"
    return "@lru_cache(maxsize=1024)  # or @cached(max_entries=1024, ttl=300), from hotpath import cached"


def _of_cache(path: str, call: ast.Call, walk: Walk) -> Finding | None:
    """``cachetools.LRUCache(maxsize=inf)``."""
    name = dotted(call.func, walk.imports) or ""
    if name not in _CACHETOOLS or not is_infinite(argument(call, 0, "maxsize"), walk.imports):
        return None
    short = name.rpartition(".")[2]
    timed = short in ("TTLCache", "TLRUCache")
    why = f"{short} with an infinite maxsize never evicts" + (
        ": until its time has passed, everything stays" if timed else ""
    )
    instead = f"{short}(maxsize=1024{', ttl=300' if timed else ''})"
    return Finding(
        path=path, line=call.lineno, pattern=Pattern.UNBOUNDED_CACHETOOLS, name=short, why=why, instead=instead
    )


def _of_wrapper(path: str, scope: Scope, call: ast.Call, walk: Walk) -> Finding | None:
    """``lru_cache(None)(function)``, ``cache(function)``."""
    cached = _cached(call.func, walk.imports) if isinstance(call.func, ast.Call) else None
    if cached is None and dotted(call.func, walk.imports) in _ENDLESS:
        cached = _cached(call, walk.imports)
    if cached is None or not call.args or isinstance(call.args[0], ast.Starred):
        return None
    if scope.kind == "function":
        return None  # most caches that are made in a call end with the call
    function = _function(call.args[0], scope, walk)
    if function is not None:
        growth = _growth(function.parent or scope, function)
    else:
        growth = "it keeps a result for every set of arguments; what those are is not in this file", Severity.NOTE
    if growth is None:
        return None
    shown = terminal(call.args[0]) or "it"
    return Finding(
        path=path,
        line=call.lineno,
        pattern=cached.pattern,
        level=growth[1],
        name=shown,
        why=f"{cached.description} around {shown}: {growth[0]}",
        instead=f"lru_cache(maxsize=1024)({shown})",
    )


def _function(node: ast.expr, scope: Scope, walk: Walk) -> Scope | None:
    if isinstance(node, ast.Lambda):
        return next((scope for scope in walk.scopes if scope.node is node), None)
    if isinstance(node, ast.Name):
        return scope.functions.get(node.id) or walk.module.functions.get(node.id)
    return None
