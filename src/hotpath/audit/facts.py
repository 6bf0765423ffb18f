"""What a file shows about what grows, in values without syntax trees, so that whole projects fit in memory."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from hotpath.audit.expressions import mentions_time, tells_time
from hotpath.audit.origins import ValueOrigin, is_imported, origin
from hotpath.audit.scopes import (
    Container,
    Grow,
    Scope,
    Shrink,
    class_container,
    class_of,
    elsewhere,
    find,
    is_app_state,
    terminal,
)
from hotpath.audit.walk import Walk

_LISTS = frozenset({"list", "deque"})
_ROUTES = frozenset("get post put delete patch head options route websocket api_route api_view websocket_route".split())
_REQUESTS = frozenset({"Request", "HttpRequest", "WebSocket", "HTTPConnection", "ASGIRequest", "WSGIRequest"})
_METACLASS_METHODS = frozenset({"__new__", "__init__", "__call__", "__prepare__"})

# Classes whose body declares fields that each instance gets of its own.
_DECLARATIVE = re.compile(
    r"(BaseModel|BaseSettings|Model|Schema|Struct|Serializer|Form|TypedDict|NamedTuple|Enum|Flag|Document|TestCase|Protocol)$"
)

Target = tuple[str, str]  # the module's last name or the class, and the name in it


@dataclass(frozen=True, slots=True)
class GrowthPoint:
    """A place that adds to a container on each call. ``bounded_by`` is what ends it, as far as this file shows."""

    path: str
    line: int
    function: str  # what others call: the class for __init__
    described: str
    origin: ValueOrigin
    each_call: bool  # adds whatever the key is
    registers: bool
    stamped: bool
    in_handler: bool
    stores_self: bool
    words: str  # the names of the function and its arguments
    bounded_by: str | None


@dataclass(frozen=True, slots=True)
class Held:
    """A container of a module or class, or one in a closure or default that grows."""

    path: str
    line: int
    end_line: int
    target: Target
    kind: str
    where: str
    text: str
    shrinks: bool
    expires_on_read: bool
    growths: tuple[GrowthPoint, ...]


@dataclass(slots=True)
class Facts:
    """What one file shows: its containers, who calls what, and which containers of other files it changes."""

    path: str
    held: list[Held] = field(default_factory=list)
    grown_elsewhere: list[tuple[Target, GrowthPoint]] = field(default_factory=list)
    shrunk_elsewhere: set[Target] = field(default_factory=set)
    called: dict[str, set[str]] = field(default_factory=dict)
    decorators: set[str] = field(default_factory=set)
    given_data: dict[str, set[int | str]] = field(default_factory=dict)
    cleared: set[str] = field(default_factory=set)
    called_later: dict[str, set[str]] = field(default_factory=dict)


def facts(path: str, lines: list[str], walk: Walk) -> Facts:
    """Resolve what ``walk`` saw: which container each place means, and where its keys come from."""
    result = Facts(
        path,
        called=walk.called,
        decorators=walk.decorators,
        given_data=walk.given_data,
        cleared=walk.cleared,
        called_later=_called_later(walk),
    )
    shrinks = _shrinks(result, walk)
    growths = _growths(result, walk)
    for container in dict.fromkeys([*walk.containers, *growths]):
        if container.where == "class" and _declares_fields(container.scope):
            continue
        taken = shrinks.get(container, [])
        on_read = bool(taken) and all(_is_expiry(shrink) for shrink in taken)
        result.held.append(
            Held(
                path,
                container.line,
                container.end_line,
                (container.owner, container.name),
                container.kind,
                container.where,
                lines[container.line - 1].strip() if container.line <= len(lines) else "",
                container.shrinks or (bool(taken) and not on_read),
                on_read,
                tuple(growths.get(container, ())),
            )
        )
    return result


def _shrinks(result: Facts, walk: Walk) -> dict[Container, list[Shrink]]:
    """The places that take out of each container of this file; those of other files' containers go to ``result``."""
    shrinks: dict[Container, list[Shrink]] = {}
    for shrink in walk.shrinks:
        container = _container(shrink.receiver, shrink.scope, walk)
        if container is not None:
            shrinks.setdefault(container, []).append(shrink)
        elif (foreign := elsewhere(shrink.receiver, shrink.scope, walk.imports)) is not None:
            result.shrunk_elsewhere.add(foreign)
    for scope, target in walk.shadows:
        owner = class_of(target.value, scope)
        container = class_container(owner, target.attr) if owner else None
        if container is not None:
            container.shrinks = True
        elif (foreign := elsewhere(target, scope, walk.imports)) is not None:
            result.shrunk_elsewhere.add(foreign)
    return shrinks


def _growths(result: Facts, walk: Walk) -> dict[Container, list[GrowthPoint]]:
    """The places that add to each container of this file; those of other files' containers go to ``result``."""
    growths: dict[Container, list[GrowthPoint]] = {}
    for grow in walk.grows:
        container = _container(grow.receiver, grow.scope, walk)
        if grow.reads and not _adds_by_reading(grow, container):
            continue
        if container is None:
            foreign = elsewhere(grow.receiver, grow.scope, walk.imports)
            kind = "dict" if grow.operation in ("item", "setdefault") else "list"
            growth = _growth(result.path, grow, kind, walk.imports)
            if foreign is not None and growth is not None:
                result.grown_elsewhere.append((foreign, growth))
        elif _outlives(container, grow.scope):
            growth = _growth(result.path, grow, container.kind, walk.imports)
            if growth is None:
                continue
            if container.where == "closure" and growth.bounded_by is None and not _wraps(container.scope):
                ends = "it ends with the function that is given back, and nothing shows that this one is kept"
                growth = replace(growth, bounded_by=ends)
            growths.setdefault(container, []).append(growth)
    return growths


def _container(receiver: ast.expr, scope: Scope, walk: Walk) -> Container | None:
    if isinstance(receiver, ast.Attribute) and is_app_state(receiver):
        return walk.states.get(receiver.attr)
    return find(receiver, scope)


def _adds_by_reading(grow: Grow, container: Container | None) -> bool:
    """A ``defaultdict`` that a request handler reads, unless it asked before whether the key is there."""
    function = grow.scope.enclosing_function
    if container is None or container.kind != "defaultdict" or function is None or not _is_handler(function):
        return False
    keys, same = {ast.dump(key) for key in grow.keys}, ast.dump(grow.receiver)
    return not any(
        isinstance(test, ast.Compare)
        and isinstance(test.ops[0], ast.In | ast.NotIn)
        and isinstance(test.ops[0], ast.In) is holds
        and ast.dump(test.left) in keys
        and ast.dump(test.comparators[0]) == same
        for test, holds in _known(grow)
    )


def _called_later(walk: Walk) -> dict[str, set[str]]:
    """The functions of this file that are called by their name with data, and by whom."""
    called: dict[str, set[str]] = {}
    for scope, call in walk.plain_calls:
        function = scope.enclosing_function
        if function is None or not isinstance(call.func, ast.Name) or call.func.id not in walk.module.functions:
            continue
        given = [*call.args, *(keyword.value for keyword in call.keywords)]
        if any(origin(value, scope, walk.imports) is ValueOrigin.DATA for value in given):
            called.setdefault(call.func.id, set()).add(function.name)
    return called


def _outlives(container: Container, scope: Scope) -> bool:
    """Whether the container is still there at the next call of the function that adds to it."""
    function = scope.enclosing_function
    if container.where == "class":
        made_in = container.scope.enclosing_function
        if made_in is not None and (function is made_in or container.scope.name not in made_in.returned):
            return False  # a class that a function makes is another at every call
        return function is not None
    if container.where == "default":
        outer = container.scope.parent.enclosing_function if container.scope.parent else None
        return outer is None or container.scope.name in outer.returned
    if container.where == "module":
        return function is not None
    outer = container.scope
    if function is None or function is outer:
        return False
    while function.parent is not None and function.parent.enclosing_function is not outer:
        parent = function.parent.enclosing_function
        if parent is None:
            return False
        function = parent
    return function.name in outer.returned


def _wraps(outer: Scope) -> bool:
    """Whether a function is a decorator, or what makes one: it calls an argument in a function that it gives back."""
    around: Scope | None = outer
    while around is not None:
        inner = list(outer.functions.values())
        inner += [nested for function in inner for nested in function.functions.values()]
        if any(set(around.params) & function.calls for function in inner):
            return True
        around = around.parent.enclosing_function if around.parent else None
    return False


def _declares_fields(scope: Scope) -> bool:
    node = scope.node
    if not isinstance(node, ast.ClassDef):
        return False
    if any(_DECLARATIVE.search(terminal(base) or "") for base in node.bases):
        return True
    decorators = (item.func if isinstance(item, ast.Call) else item for item in node.decorator_list)
    return any(terminal(item) in ("dataclass", "define", "attrs", "s", "frozen", "mutable") for item in decorators)


def _growth(path: str, grow: Grow, kind: str, imports: dict[str, str]) -> GrowthPoint | None:
    """None where nothing new is added: a fixed key, an index of a list."""
    scope = grow.scope
    function = scope.enclosing_function
    assert function is not None
    if kind in _LISTS and grow.operation in ("item", "setdefault", "update", "add") and not grow.nested:
        return None
    if kind not in _LISTS and kind != "set" and grow.operation in ("append", "add") and not grow.keys:
        return None
    by_value = grow.operation in ("append", "extend", "update", "add")
    keys = [origin(key, scope, imports) for key in grow.keys]
    value = origin(grow.value, scope, imports)
    worst = max(keys, default=ValueOrigin.FIXED)
    each_call = grow.operation in ("append", "extend") and (kind in _LISTS or grow.nested)
    if by_value:
        each_call = each_call and not _is_deduplicated(grow)
        if each_call or not grow.nested:
            worst = max(worst, value)
    if not each_call and worst is ValueOrigin.FIXED:
        return None
    return GrowthPoint(
        path=path,
        line=grow.line,
        function=_callable_name(function),
        described=_described(function),
        origin=worst,
        each_call=each_call,
        registers=_is_registration(grow),
        stamped=tells_time(grow.value),
        in_handler=_is_handler(function),
        stores_self=_stores_self(grow, function),
        words=" ".join([function.name, *function.params]),
        bounded_by=_bounded_by(grow, function, worst, each_call),
    )


def _bounded_by(grow: Grow, function: Scope, worst: ValueOrigin, each_call: bool) -> str | None:
    scope = grow.scope
    if _is_filled_once(grow):
        return "filled only while it is empty"
    outer: Scope | None = function
    while outer is not None:
        if outer.sets_flag:
            return f"{outer.name}() runs its body once"
        outer = outer.parent.enclosing_function if outer.parent else None
    if function.name in ("__init_subclass__", "__set_name__", "__class_getitem__"):
        return "one entry for each class that is written"
    owner = function.method_of
    if owner is not None and function.name in _METACLASS_METHODS and _is_metaclass(owner):
        return "one entry for each class that is written"
    if _is_decorator(grow, function):
        return "entered by a decorator, while modules are imported"
    if worst is ValueOrigin.CODE and not each_call:
        return "entries are classes or functions of the code"
    if (table := _checked_against(grow)) is not None:
        return f"keys are checked against {table}"
    if not each_call and is_imported(grow.value, scope):
        return "entries are what was imported"
    if worst is ValueOrigin.AMBIENT and not each_call:
        return "keys come from the environment, not from arguments"
    if worst is ValueOrigin.INSTANCE and grow.keys and grow.operation != "add" and not _stores_self(grow, function):
        return "keys are what its instances are made with"
    return None


def _stores_self(grow: Grow, function: Scope) -> bool:
    return isinstance(grow.value, ast.Name) and grow.value.id == function.receiver


def _known(grow: Grow) -> Iterator[tuple[ast.expr, bool]]:
    """The conditions, each with whether it holds, that are certain where something is added."""
    waiting = [(test, holds) for test, holds in grow.tests if holds is not None]
    while waiting:
        test, holds = waiting.pop(0)
        match test:
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                waiting.insert(0, (operand, not holds))
            case ast.BoolOp(op=operator) if isinstance(operator, ast.And) is holds:
                waiting[:0] = [(part, holds) for part in test.values]
            case _:
                yield test, holds


def _is_filled_once(grow: Grow) -> bool:
    """``if not X: X[…] = …``, or ``len(X) == 0``; also where another table, filled together with it, is tested."""
    same = ast.dump(grow.receiver)
    for test, holds in _known(grow):
        match test:
            case ast.Name() | ast.Attribute() if not holds:
                other = find(test, grow.scope)
                if ast.dump(test) == same or (other is not None and other.where in ("module", "class")):
                    return True
            case ast.Compare(
                left=ast.Call(func=ast.Name(id="len"), args=[sized]),
                ops=[operator],
                comparators=[ast.Constant(value=0)],
            ) if ast.dump(sized) == same and isinstance(operator, ast.Eq) is holds:
                return True
            case _:
                pass
    return False


def _is_deduplicated(grow: Grow) -> bool:
    """``if x not in X: X.append(x)``: a list used as a set."""
    same = ast.dump(grow.receiver)
    return any(
        isinstance(part, ast.Compare)
        and isinstance(part.ops[0], ast.In | ast.NotIn)
        and ast.dump(part.comparators[0]) == same
        for test, holds in grow.tests
        if holds is not None
        for part in ast.walk(test)
    )


def _checked_against(grow: Grow) -> str | None:
    """``if key not in TABLE: raise``: the table that the key has to be in, if it is another than what grows."""
    keys = {ast.dump(key) for key in grow.keys}
    same = ast.dump(grow.receiver)
    for test, holds in _known(grow):
        match test:
            case ast.Compare(left=key, ops=[ast.In() | ast.NotIn() as operator], comparators=[table]):
                if ast.dump(key) in keys and isinstance(operator, ast.In) is holds and ast.dump(table) != same:
                    return terminal(table) or "a table"
            case _:
                pass
    return None


def _is_metaclass(owner: Scope) -> bool:
    bases = getattr(owner.node, "bases", ())
    names = [owner.name, *(terminal(base) or "" for base in bases)]
    return "type" in names or any(re.search(r"(Meta|Metaclass|MetaClass|Type)$", name) for name in names)


def _is_decorator(grow: Grow, function: Scope) -> bool:
    """Whether the function gives back one of its own functions, or the very argument that it stores."""
    if any(name in function.functions for name in function.returned):
        return True
    if _is_made_decorator(function):
        return True
    stored = {part.id for part in ast.walk(grow.value) if isinstance(part, ast.Name)} if grow.value else set()
    given = {name for name in function.params if name != function.receiver}
    return bool(function.gives_back & stored & given) and len(given) <= 2


def _is_made_decorator(function: Scope) -> bool:
    """``def enter(name): def inner(function): …; return function; return inner``."""
    outer = function.parent
    made = outer is not None and outer.kind == "function" and function.name in outer.returned
    return made and len(function.params) == 1 and bool(function.gives_back & set(function.params))


def _is_handler(function: Scope) -> bool:
    node = function.node
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    for decorator in node.decorator_list:
        if isinstance(decorator, ast.Call) and terminal(decorator.func) in _ROUTES:
            paths = [arg.value for arg in decorator.args[:1] if isinstance(arg, ast.Constant)]
            if any(isinstance(path, str) and (path.startswith("/") or not path) for path in paths):
                return True
        elif terminal(decorator) in ("api_view", "websocket", "require_GET", "require_POST", "csrf_exempt"):
            return True
    return any(
        arg.annotation is not None
        and any(terminal(part) in _REQUESTS for part in ast.walk(arg.annotation) if isinstance(part, ast.expr))
        for arg in function.params.values()
    )


def _is_registration(grow: Grow) -> bool:
    """What is stored is the instance itself, or under a key an argument, rather than something worked out."""
    function = grow.scope.enclosing_function
    if function is None or not isinstance(grow.value, ast.Name) or grow.value.id not in function.params:
        return False
    return grow.value.id == function.receiver or grow.operation != "add"


def _is_expiry(shrink: Shrink) -> bool:
    """One entry is taken out because it is too old when it is asked for; whoever is not asked for stays."""
    if any(holds is None for _, holds in shrink.tests):
        return False
    return any(mentions_time(test) for test in shrink.tests)


def _callable_name(function: Scope) -> str:
    owner = function.method_of
    if owner is not None and function.name in ("__init__", "__new__", "__post_init__"):
        return owner.name
    return function.name


def _described(function: Scope) -> str:
    parts = [function.name]
    outer = function.parent
    while outer is not None and outer.kind != "module":
        parts.append(outer.name)
        outer = outer.parent
    return ".".join(reversed(parts))
