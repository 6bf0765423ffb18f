"""Names in one file: which scope binds what, what a name or an attribute stands for, and where something grows."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

_DICTS = {
    "collections.defaultdict": "defaultdict",
    "collections.OrderedDict": "OrderedDict",
    "collections.Counter": "Counter",
    "dict": "dict",
    "list": "list",
    "set": "set",
}
_INFINITE = {"math.inf", "sys.maxsize", "numpy.inf"}
MAX_DEPTH = 6  # how many names are followed from one to the next


@dataclass(slots=True, eq=False)
class Container:
    """Something made empty, or with what the code names, that other code may add to."""

    owner: str  # the module's last name, or the class
    name: str
    kind: str
    where: str  # module, class, closure, default
    line: int
    end_line: int
    scope: Scope
    shrinks: bool = False


@dataclass(slots=True, eq=False)
class Scope:
    """A module, class or function, and the names it binds with what they are bound to."""

    kind: str
    name: str
    node: ast.AST
    parent: Scope | None
    params: dict[str, ast.arg] = field(default_factory=dict)
    bound: dict[str, list[ast.AST]] = field(default_factory=dict)
    foreign: set[str] = field(default_factory=set)  # names declared global or nonlocal
    returned: set[str] = field(default_factory=set)  # names in return and yield
    gives_back: set[str] = field(default_factory=set)  # names that are all that is returned
    containers: dict[str, Container] = field(default_factory=dict)
    classes: dict[str, Scope] = field(default_factory=dict)
    functions: dict[str, Scope] = field(default_factory=dict)
    is_static: bool = False
    sets_flag: bool = False  # assigns True to a global: runs its body once
    calls: set[str] = field(default_factory=set)

    def bind(self, name: str, value: ast.AST) -> None:
        """Remember one more thing that ``name`` is bound to here."""
        self.bound.setdefault(name, []).append(value)

    @property
    def enclosing_function(self) -> Scope | None:
        """This scope if it is a function, else the function around it."""
        scope: Scope | None = self
        while scope is not None and scope.kind != "function":
            scope = scope.parent
        return scope

    @property
    def method_of(self) -> Scope | None:
        """The class whose method this function is."""
        return self.parent if self.kind == "function" and self.parent and self.parent.kind == "class" else None

    @property
    def receiver(self) -> str | None:
        """What a method calls its instance or class."""
        return next(iter(self.params), None) if self.method_of and not self.is_static else None


# What encloses a statement: a condition and whether it holds there, or what a loop goes through and None.
Tests = tuple[tuple[ast.expr, bool | None], ...]


@dataclass(slots=True, eq=False)
class Grow:
    """One place that may add to something. ``keys`` decide whether a new entry is made; ``tests`` enclose it."""

    scope: Scope
    receiver: ast.expr
    operation: str
    keys: tuple[ast.expr, ...]
    value: ast.expr | None
    line: int
    tests: Tests
    nested: bool = False
    reads: bool = False  # X[key] as a value, which adds to a defaultdict


@dataclass(slots=True, eq=False)
class Shrink:
    """One place that takes something out, looks at how much there is, or puts a new container in its place."""

    scope: Scope
    receiver: ast.expr
    line: int
    tests: Tests


def lookup(scope: Scope, name: str) -> Scope | None:
    """The scope that binds ``name`` as Python would find it from ``scope``: class bodies are skipped."""
    current: Scope | None = scope
    while current is not None:
        sees = current.kind != "class" or current is scope
        if sees and name not in current.foreign and (name in current.params or name in current.bound):
            return current
        current = current.parent
    return None


def dotted(node: ast.AST, imports: dict[str, str]) -> str | None:
    """``functools.lru_cache`` for a name or attribute, whatever the file calls it; a plain name stays as it is."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    parts.append(imports.get(node.id, node.id))
    return ".".join(reversed(parts))


def terminal(node: ast.AST) -> str | None:
    """The last name of what is called: ``get`` for ``app.router.get``."""
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else None


def container_kind(node: ast.AST | None, imports: dict[str, str]) -> str | None:
    """What kind of growing container an expression makes; None for what is bounded, weak or something else."""
    match node:
        case ast.Dict() | ast.DictComp():
            return "dict"
        case ast.List() | ast.ListComp():
            return "list"
        case ast.Set() | ast.SetComp():
            return "set"
        case ast.Call():
            made = dotted(node.func, imports) or ""
            if made == "collections.deque":
                return "deque" if argument(node, 1, "maxlen") is None else None
            return _DICTS.get(made)
        case _:
            return None


def argument(call: ast.Call, position: int, name: str) -> ast.expr | None:
    """An argument by place or by name; an explicit None counts as not given."""
    given = call.args[position] if len(call.args) > position else None
    for keyword in call.keywords:
        given = keyword.value if keyword.arg == name else given
    return None if isinstance(given, ast.Constant) and given.value is None else given


def is_infinite(node: ast.AST | None, imports: dict[str, str]) -> bool:
    """``math.inf``, ``float("inf")``, ``sys.maxsize``."""
    match node:
        case ast.Call(func=ast.Name(id="float"), args=[ast.Constant(value=str(text))]):
            return text.strip().lower().lstrip("+") in ("inf", "infinity")
        case ast.Attribute() | ast.Name():
            return dotted(node, imports) in _INFINITE
        case _:
            return False


def class_of(node: ast.AST, scope: Scope) -> Scope | None:
    """The class of this file that ``self``, ``cls``, ``type(self)``, ``self.__class__`` or its name stands for."""
    match node:
        case ast.Call(func=ast.Name(id="type"), args=[only]):
            return class_of(only, scope)
        case ast.Attribute(value=value, attr="__class__"):
            return class_of(value, scope)
        case ast.Name(id=name):
            function: Scope | None = scope.enclosing_function
            while function is not None:
                if name == function.receiver:
                    return function.method_of
                if name in function.params:
                    return None
                function = function.parent.enclosing_function if function.parent else None
            where = lookup(scope, name)
            return where.classes.get(name) if where else None
        case _:
            return None


def find(node: ast.AST, scope: Scope, depth: int = 0) -> Container | None:
    """The container that an expression stands for, through aliases, ``self`` and the bases that are in this file."""
    if depth > MAX_DEPTH:
        return None
    if isinstance(node, ast.Name):
        where = lookup(scope, node.id)
        if where is None:
            return None
        if node.id in where.containers:
            return where.containers[node.id]
        values = where.bound.get(node.id, ())
        if len(values) == 1 and where.kind == "function" and isinstance(values[0], ast.Name | ast.Attribute):
            return find(values[0], where, depth + 1)
        return None
    if isinstance(node, ast.Attribute):
        owner = class_of(node.value, scope)
        return class_container(owner, node.attr) if owner else None
    return None


def class_container(owner: Scope, name: str, depth: int = 0) -> Container | None:
    """A class-level container, looked for in the bases too, as far as this file holds them."""
    if name in owner.containers:
        return owner.containers[name]
    if name in owner.bound or depth > MAX_DEPTH or not isinstance(owner.node, ast.ClassDef):
        return None
    for base in owner.node.bases:
        if isinstance(base, ast.Name) and owner.parent:
            where = lookup(owner.parent, base.id)
            parent = where.classes.get(base.id) if where else None
            container = class_container(parent, name, depth + 1) if parent else None
            if container:
                return container
    return None


def is_app_state(node: ast.AST) -> bool:
    """``app.state.x``, also of ``request.app``; ``request.state`` ends with the request."""
    match node:
        case ast.Attribute(value=ast.Attribute(value=owner, attr="state")):
            return (terminal(owner) or "").lower().endswith(("app", "application"))
        case _:
            return False


def elsewhere(node: ast.AST, scope: Scope, imports: dict[str, str]) -> tuple[str, str] | None:
    """(owner, name) of an imported name or of an attribute of an imported module or class."""
    if isinstance(node, ast.Name) and node.id in imports and _is_imported(node.id, scope):
        owner, _, name = imports[node.id].rpartition(".")
        return (owner.rpartition(".")[2], name) if owner else None
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in imports:
        return imports[node.value.id].rpartition(".")[2], node.attr
    return ("state", node.attr) if isinstance(node, ast.Attribute) and is_app_state(node) else None


def _is_imported(name: str, scope: Scope) -> bool:
    where = lookup(scope, name)
    return where is not None and all(isinstance(value, ast.alias) for value in where.bound.get(name, ()))
