"""One pass over a parsed file: its scopes, and every place that adds to, takes from or replaces something."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field

from hotpath.audit.expressions import (
    EVICTS,
    GROWS,
    HEAP,
    SHRINKS,
    UNHEAP,
    added_to,
    given,
    is_constant,
    is_empty_test,
    is_own_type,
    names,
)
from hotpath.audit.origins import CLASS_RECEIVERS
from hotpath.audit.scopes import (
    Container,
    FunctionNode,
    Grow,
    Scope,
    Shrink,
    Tests,
    container_kind,
    dotted,
    is_app_state,
    terminal,
)

_CACHING = ("functools.", "cachetools.", "async_lru.", "math.", "asyncstdlib.")
_LEAVES = (ast.Constant, ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop)


@dataclass(slots=True, eq=False)
class Walk:
    """What one file does, before names are resolved."""

    owner: str
    imports: dict[str, str] = field(default_factory=dict)
    module: Scope = field(init=False)
    scopes: list[Scope] = field(default_factory=list)
    containers: list[Container] = field(default_factory=list)
    grows: list[Grow] = field(default_factory=list)
    shrinks: list[Shrink] = field(default_factory=list)
    shadows: list[tuple[Scope, ast.Attribute]] = field(default_factory=list)
    caching: list[tuple[Scope, ast.Call]] = field(default_factory=list)
    functions: list[tuple[Scope, Scope]] = field(default_factory=list)  # (where it is defined, its own scope)
    called: dict[str, set[str]] = field(default_factory=dict)  # by whom; "" while a module is imported
    decorators: set[str] = field(default_factory=set)
    given_data: dict[str, set[int | str]] = field(default_factory=dict)  # which arguments are more than constants
    plain_calls: list[tuple[Scope, ast.Call]] = field(default_factory=list)  # of a function by its name
    states: dict[str, Container] = field(default_factory=dict)  # app.state.x, by the name x
    cleared: set[str] = field(default_factory=set)  # functions whose cache_clear() is called

    def __post_init__(self) -> None:
        self.module = Scope("module", self.owner, ast.Module([], []), None)


def walk(tree: ast.Module, owner: str) -> Walk:
    """All that the file says; ``owner`` is the last part of the module's name."""
    walker = _Walker(Walk(owner))
    walker.body(tree.body, walker.seen.module, ())
    return walker.seen


class _Walker:
    """Statements by recursion, since their order and nesting matter; expressions with a stack, since only theirs does
    not, and generated code nests them thousands deep."""

    def __init__(self, seen: Walk) -> None:
        self.seen = seen
        self.parts: set[int] = set()  # X.setdefault(a, []) inside X.setdefault(a, []).append(b)

    def body(self, statements: Iterable[ast.stmt], scope: Scope, tests: Tests) -> None:
        for statement in statements:
            self.statement(statement, scope, tests)
            if isinstance(statement, ast.If) and isinstance(statement.body[-1], ast.Return | ast.Raise | ast.Continue):
                tests = (*tests, (statement.test, False))
            elif isinstance(statement, ast.Assert):
                tests = (*tests, (statement.test, True))

    # Long, since it has a case for each statement of the grammar.
    def statement(self, node: ast.stmt, scope: Scope, tests: Tests) -> None:
        match node:
            case ast.Expr():
                self.expression(node.value, scope, tests)
            case ast.Assign():
                self.expression(node.value, scope, tests)
                for target in node.targets:
                    self.assign(target, node.value, node, scope, tests)
            case ast.AnnAssign():
                if node.value is not None:
                    self.expression(node.value, scope, tests)
                    self.assign(node.target, node.value, node, scope, tests)
            case ast.AugAssign():
                self.expression(node.value, scope, tests)
                self.augmented(node, scope, tests)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self.function(node, scope, tests)
            case ast.ClassDef():
                self.class_(node, scope, tests)
            case ast.If() if terminal(node.test) == "TYPE_CHECKING":
                self.body((item for item in node.body if isinstance(item, ast.Import | ast.ImportFrom)), scope, tests)
                self.body(node.orelse, scope, tests)
            case ast.If():
                self.expression(node.test, scope, tests)
                self.body(node.body, scope, (*tests, (node.test, True)))
                self.body(node.orelse, scope, (*tests, (node.test, False)))
            case ast.While():
                self.expression(node.test, scope, tests)
                self.body(node.body, scope, (*tests, (node.test, True), (node.test, None)))
                self.body(node.orelse, scope, tests)
            case ast.For() | ast.AsyncFor():
                self.expression(node.iter, scope, tests)
                self.bind(node.target, node.iter, scope)
                self.body(node.body, scope, (*tests, (node.iter, None)))
                self.body(node.orelse, scope, tests)
            case ast.With() | ast.AsyncWith():
                for item in node.items:
                    self.expression(item.context_expr, scope, tests)
                    if item.optional_vars is not None:
                        self.bind(item.optional_vars, item.context_expr, scope)
                self.body(node.body, scope, tests)
            case ast.Try() | ast.TryStar():
                self.body(node.body, scope, tests)
                for handler in node.handlers:
                    if handler.name:
                        scope.bind(handler.name, handler)
                    self.body(handler.body, scope, tests)
                self.body(node.orelse, scope, tests)
                self.body(node.finalbody, scope, tests)
            case ast.Match():
                self.match(node, scope, tests)
            case ast.Delete():
                for target in node.targets:
                    if isinstance(target, ast.Subscript):
                        self.shrink(target.value, node.lineno, scope, tests)
            case ast.Return():
                if node.value is not None:
                    scope.returned.update(names(node.value))
                    if isinstance(node.value, ast.Name):
                        scope.gives_back.add(node.value.id)
                    self.expression(node.value, scope, tests)
            case ast.Global() | ast.Nonlocal():
                scope.foreign.update(node.names)
            case ast.Import() | ast.ImportFrom():
                self.import_(node, scope)
            case ast.Assert() | ast.Raise():
                for child in ast.iter_child_nodes(node):
                    if isinstance(child, ast.expr):
                        self.expression(child, scope, tests)

    def match(self, node: ast.Match, scope: Scope, tests: Tests) -> None:
        self.expression(node.subject, scope, tests)
        for case in node.cases:
            for part in ast.walk(case.pattern):
                if isinstance(part, ast.MatchAs | ast.MatchStar) and part.name:
                    scope.bind(part.name, node.subject)
                elif isinstance(part, ast.MatchMapping) and part.rest:
                    scope.bind(part.rest, node.subject)
            if case.guard is not None:
                self.expression(case.guard, scope, tests)
            self.body(case.body, scope, tests)

    def import_(self, node: ast.Import | ast.ImportFrom, scope: Scope) -> None:
        for alias in node.names:
            name = alias.asname or alias.name.partition(".")[0]
            scope.bind(name, alias)
            if isinstance(node, ast.ImportFrom):
                self.seen.imports[name] = f"{node.module or ''}.{alias.name}".strip(".")
            else:
                self.seen.imports[name] = alias.name if alias.asname else name

    def class_(self, node: ast.ClassDef, scope: Scope, tests: Tests) -> None:
        inner = Scope("class", node.name, node, scope)
        scope.bind(node.name, node)
        scope.classes[node.name] = inner
        self.seen.scopes.append(inner)
        for decorator in node.decorator_list:
            self.decorator(decorator, scope, tests)
        for expression in (*node.bases, *(keyword.value for keyword in node.keywords)):
            self.expression(expression, scope, tests)
        self.body(node.body, inner, tests)

    def function(self, node: FunctionNode, scope: Scope, tests: Tests) -> None:
        name = "<lambda>" if isinstance(node, ast.Lambda) else node.name
        inner = Scope("function", name, node, scope)
        arguments = node.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        inner.params = {arg.arg: arg for arg in (*every, arguments.vararg, arguments.kwarg) if arg is not None}
        positional = [*arguments.posonlyargs, *arguments.args]
        defaults = [
            *zip(positional[len(positional) - len(arguments.defaults) :], arguments.defaults, strict=True),
            *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
        ]
        for arg, default in defaults:
            if default is not None:
                self.expression(default, scope, tests)
                kind = container_kind(default, self.seen.imports)
                if kind:
                    inner.containers[arg.arg] = Container(
                        name, arg.arg, kind, "default", default.lineno, default.end_lineno or 0, inner
                    )
        self.seen.scopes.append(inner)
        if isinstance(node, ast.Lambda):
            self.expression(node.body, inner, ())
            return
        scope.bind(name, node)
        scope.functions[name] = inner
        self.seen.functions.append((scope, inner))
        for decorator in node.decorator_list:
            self.decorator(decorator, scope, tests)
            inner.is_static = inner.is_static or terminal(decorator) == "staticmethod"
        self.body(node.body, inner, ())

    def decorator(self, node: ast.expr, scope: Scope, tests: Tests) -> None:
        name = terminal(node.func if isinstance(node, ast.Call) else node)
        if name:
            self.seen.decorators.add(name)
        self.expression(node, scope, tests)

    def assign(self, target: ast.expr, value: ast.expr, node: ast.stmt, scope: Scope, tests: Tests) -> None:
        match target:
            case ast.Name():
                self.name(target, value, node, scope, tests)
            case ast.Subscript(slice=ast.Slice()):
                self.shrink(target.value, node.lineno, scope, tests)
            case ast.Subscript():
                self.expression(target.slice, scope, tests)
                self.grow(target.value, "item", (target.slice,), value, node.lineno, scope, tests)
            case ast.Attribute():
                if not self.added(target, value, node.lineno, scope, tests) and not self.state(target, value, node):
                    self.seen.shadows.append((scope, target))
                self.expression(target.value, scope, tests)
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                for part in parts:
                    self.assign(part, value, node, scope, tests)
            case ast.Starred():
                self.assign(target.value, value, node, scope, tests)

    def added(self, target: ast.Name | ast.Attribute, value: ast.expr, line: int, scope: Scope, tests: Tests) -> bool:
        """``X = X + [item]``, ``X = [*X, item]``, ``X = {**X, key: item}``: X grows."""
        function = scope.enclosing_function
        owner = terminal(target.value) if isinstance(target, ast.Attribute) else None
        if owner is not None and function is not None and owner == function.receiver and owner not in CLASS_RECEIVERS:
            return False  # self.x = self.x + […] leaves the class as it is
        addition = added_to(target, value)
        if addition is not None:
            self.grow(target, *addition, line, scope, tests)
        return addition is not None

    def state(self, target: ast.Attribute, value: ast.expr, node: ast.stmt) -> bool:
        """``app.state.x = {}``: as much a global as a name of the module."""
        kind = container_kind(value, self.seen.imports)
        if not is_app_state(target) or kind is None:
            return False
        known = self.seen.states.get(target.attr)
        if known is not None:
            known.shrinks = True
            return True
        end = node.end_lineno or node.lineno
        made = Container("state", target.attr, kind, "module", node.lineno, end, self.seen.module)
        self.seen.states[target.attr] = made
        self.seen.containers.append(made)
        return True

    def name(self, target: ast.Name, value: ast.expr, node: ast.stmt, scope: Scope, tests: Tests) -> None:
        name = target.id
        if name in scope.foreign and self.added(target, value, node.lineno, scope, tests):
            return
        if name in scope.foreign:
            if isinstance(value, ast.Constant) and value.value is True:
                scope.sets_flag = True
            self.seen.shrinks.append(Shrink(scope, ast.Name(name, ast.Load()), node.lineno, ()))
            return
        if name in scope.params:
            scope.containers.pop(name, None)  # bound again: it may be either of the two
            scope.bind(name, value)
            return
        kind = container_kind(value, self.seen.imports)
        if name not in scope.bound and kind and name != "__all__":
            where = {"function": "closure"}.get(scope.kind, scope.kind)
            owner = scope.name
            container = Container(owner, name, kind, where, node.lineno, node.end_lineno or node.lineno, scope)
            scope.containers[name] = container
            if where != "closure":
                self.seen.containers.append(container)
        elif name in scope.containers and scope.kind == "function":
            scope.containers.pop(name)
        scope.bind(name, value)

    def augmented(self, node: ast.AugAssign, scope: Scope, tests: Tests) -> None:
        match node.target, node.op:
            case ast.Name() | ast.Attribute() as target, ast.Add() | ast.BitOr():
                self.grow(target, "extend", (), node.value, node.lineno, scope, tests)
            case ast.Name() | ast.Attribute() as target, ast.Sub() | ast.BitAnd():
                self.shrink(target, node.lineno, scope, tests)
            case ast.Subscript() as target, _:
                self.grow(target.value, "item", (target.slice,), node.value, node.lineno, scope, tests)
        if isinstance(node.target, ast.Name) and node.target.id not in scope.foreign:
            scope.bind(node.target.id, node.value)

    def bind(self, target: ast.expr, value: ast.expr, scope: Scope) -> None:
        for part in ast.walk(target):
            if isinstance(part, ast.Name):
                scope.bind(part.id, value)

    def grow(
        self,
        receiver: ast.expr,
        operation: str,
        keys: tuple[ast.expr, ...],
        value: ast.expr | None,
        line: int,
        scope: Scope,
        tests: Tests,
    ) -> None:
        """Note it, and for ``X[a].append(b)``, ``X[a][b] = c``, ``X.setdefault(a, []).append(b)`` that X grows."""
        if scope.enclosing_function is None:
            return
        nested = False
        while not isinstance(receiver, ast.Name | ast.Attribute):
            here = receiver
            match receiver:
                case ast.Subscript():
                    keys = (receiver.slice, *keys)
                    receiver = receiver.value
                case ast.Call(func=ast.Attribute(value=inner, attr="setdefault" | "get"), args=[key, *_]):
                    keys = (key, *keys)
                    receiver = inner
                case _:
                    break
            nested = True
            self.parts.add(id(here))
        if isinstance(receiver, ast.Name | ast.Attribute) or is_own_type(receiver):
            self.seen.grows.append(Grow(scope, receiver, operation, keys, value, line, tests, nested))

    def shrink(self, receiver: ast.expr, line: int, scope: Scope, tests: Tests) -> None:
        while True:
            match receiver:
                case (
                    ast.Subscript(value=inner)
                    | ast.Call(func=ast.Attribute(value=inner, attr="setdefault" | "get" | "values"))
                ):
                    receiver = inner
                case _:
                    break
        if scope.enclosing_function is not None:
            self.seen.shrinks.append(Shrink(scope, receiver, line, tests))

    def expression(self, root: ast.expr, scope: Scope, tests: Tests) -> None:
        """Visit every call, comparison, lambda and comprehension of an expression, in no order."""
        stack: list[ast.AST] = [root]
        while stack:
            node = stack.pop()
            kind = type(node)
            if kind is ast.Name or kind is ast.Constant:
                continue
            if kind is ast.Call:
                self.call(node, scope, tests)  # type: ignore[arg-type]
            elif kind is ast.Lambda:
                self.function(node, scope, tests)  # type: ignore[arg-type]
                continue
            elif kind is ast.Attribute and node.attr in SHRINKS:  # type: ignore[attr-defined]
                # Also without a call: task.add_done_callback(TASKS.discard)
                self.shrink(node.value, node.lineno, scope, tests)  # type: ignore[attr-defined]
            elif kind is ast.Subscript and "defaultdict" in self.seen.imports:
                self.read(node, scope, tests)  # type: ignore[arg-type]
            elif kind is ast.Compare:
                self.compare(node, scope, tests)  # type: ignore[arg-type]
            elif kind is ast.comprehension:
                self.bind(node.target, node.iter, scope)  # type: ignore[attr-defined]
            elif kind is ast.NamedExpr:
                scope.bind(node.target.id, node.value)  # type: ignore[attr-defined]
            elif kind in (ast.Yield, ast.YieldFrom) and node.value is not None:  # type: ignore[attr-defined]
                scope.returned.update(names(node.value))  # type: ignore[attr-defined]
            for name in node._fields:
                child = getattr(node, name)
                if type(child) is list:
                    stack.extend(part for part in child if isinstance(part, ast.AST))
                elif isinstance(child, ast.AST) and not isinstance(child, _LEAVES):
                    stack.append(child)

    def read(self, node: ast.Subscript, scope: Scope, tests: Tests) -> None:
        if scope.enclosing_function is not None and isinstance(node.value, ast.Name | ast.Attribute):
            self.seen.grows.append(Grow(scope, node.value, "item", (node.slice,), None, node.lineno, tests, reads=True))

    def call(self, node: ast.Call, scope: Scope, tests: Tests) -> None:
        name = terminal(node.func)
        if name is None:
            if isinstance(node.func, ast.Call):
                self.caching(node, scope)
            return
        function = scope.enclosing_function
        self.seen.called.setdefault(name, set()).add(function.name if function else "")
        if function is not None:
            function.calls.add(name)
            data = {place for place, value in given(node) if not is_constant(value)}
            if data:
                self.seen.given_data.setdefault(name, set()).update(data)
                if isinstance(node.func, ast.Name):
                    self.seen.plain_calls.append((scope, node))
        if isinstance(node.func, ast.Attribute):
            receiver = node.func.value
            if name == "cache_clear":
                self.seen.cleared.update(filter(None, [terminal(receiver)]))
            elif id(node) in self.parts:
                pass
            elif (operation := GROWS.get(name)) is not None and (node.args or node.keywords):
                keys = (node.args[0],) if node.args and operation in ("setdefault", "add") else ()
                value = node.args[-1] if node.args else node.keywords[0].value
                self.grow(receiver, operation, keys, value, node.lineno, scope, tests)
        if name in ("setattr", "__setattr__") and len(node.args) > 1:
            self.setattr(node.args[0], node.args[1], scope)
        self.caching(node, scope)
        if node.args and isinstance(node.args[0], ast.Name | ast.Attribute):
            whole = dotted(node.func, self.seen.imports) or ""
            if whole in HEAP and len(node.args) > 1:
                self.grow(node.args[0], HEAP[whole], (), node.args[1], node.lineno, scope, tests)
            elif whole in UNHEAP or any(word in name.lower() for word in EVICTS):
                self.shrink(node.args[0], node.lineno, scope, ())

    def setattr(self, owner: ast.expr, name: ast.expr, scope: Scope) -> None:
        """``object.__setattr__(self, "x", {})`` is ``self.x = {}`` in a class that is frozen."""
        if isinstance(name, ast.Constant) and isinstance(name.value, str):
            self.seen.shadows.append((scope, ast.Attribute(owner, name.value, ast.Store())))

    def caching(self, node: ast.Call, scope: Scope) -> None:
        func = node.func.func if isinstance(node.func, ast.Call) else node.func
        if (dotted(func, self.seen.imports) or "").startswith(_CACHING):
            self.seen.caching.append((scope, node))

    def compare(self, node: ast.Compare, scope: Scope, tests: Tests) -> None:
        """``len(X) > N``: somebody looks at how large it is."""
        if scope.enclosing_function is None or all(is_empty_test(part) for part in node.comparators):
            return
        for side in (node.left, *node.comparators):
            match side:
                case ast.Call(func=ast.Name(id="len"), args=[ast.Name() | ast.Attribute() as what]):
                    self.shrink(what, node.lineno, scope, ())
                case _:
                    pass
