"""Where the key of an entry comes from: from the code, which is finite, or from arguments, which are not."""

from __future__ import annotations

import ast
import re
from enum import IntEnum

from hotpath.audit.scopes import MAX_DEPTH, Scope, dotted, lookup, terminal

# Arguments that by their names are pieces of the code: classes, functions, modules. There are as many as were written.
_CODE_NAMES = frozenset(
    "cls klass class_ clazz claz owner model model_class mcs metacls metaclass mcls func fn function callable method "
    "wrapped tp typ type_ type_hint typehint hint annotation cls_or_instance module mod obj_type objtype fun meth f "
    "dtype".split()
)
_CODE_ENDING = re.compile(r"_(cls|class|klass|model|func|fn|function|dtype)$")

# Arguments that by their names choose among what the code or its configuration offers.
_CHOICE_NAMES = frozenset(
    "encoding charset codec import_path dotted_path module_name modname mod_name module_path urlconf class_name "
    "classname cls_name type_name func_name function_name method_name app_label app_name model_name backend "
    "backend_name dialect engine_name alias driver kind how mode axis style level log_level loglevel verbose "
    "strict debug executor provider device region zone lang language locale interpreter executable python domain "
    "desc description fmt format scope slug schema cmd cmdname command option setting feature tz timezone namespace "
    "package pkg protocol version version_info transport prefix suffix maxsize max_size limit ttl timeout "
    "interval".split()
)
# As an argument, a name is one that the code gives, unless it is of what comes with visitors and their data.
_CHOICE_ENDING = re.compile(
    r"^(?!.*(user|file|host|client|customer|account|queue|topic|channel|room|player|session|bucket|path|project))"
    r"(.+_)?(name|lang|language|locale|device|provider|format|region|zone|slug|executable|description"
    r"|seconds|timeout|limit|version|protocol)$"
)
_CODE_TYPES = frozenset(
    "type Type bool Literal ModuleType FunctionType Callable MethodType Any_type GenericAlias TypeVar TypeForm".split()
)
_CODE_ATTRIBUTES = frozenset(
    "__name__ __qualname__ __module__ __class__ __func__ __code__ __doc__ _meta __wrapped__ __file__ __bases__".split()
)
_NEW_EVERY_TIME = frozenset(
    "uuid1 uuid4 uuid7 time time_ns monotonic monotonic_ns perf_counter now utcnow get_ident get_native_id next "
    "token_hex token_urlsafe token_bytes random randint randbytes getrandbits input read readline recv receive "
    "current_task current_thread getcurrent".split()
)
_FROM_CODE = frozenset(
    "type bool isinstance issubclass callable hasattr getpid get_origin getmodule get_type_hints signature "
    "_getframe get_default_encoding getdefaultencoding getfilesystemencoding".split()
)

CLASS_RECEIVERS = frozenset({"cls", "mcs", "metacls", "mcls", "klass", "class_"})

_IMPORTERS = frozenset(
    "import_module import_string import_object import_from_string import_by_name import_by_path symbol_by_name "
    "load_entry_point load_object instantiate __import__".split()
)

_Seen = set[tuple[int, str]]  # names that are part of the answer already


class ValueOrigin(IntEnum):
    """Where a value comes from, the worst of its parts."""

    FIXED = 0  # constants, names of the module, what is the same at every call
    CODE = 1  # classes, functions, types, choices: as many as the program has
    AMBIENT = 2  # a call without arguments: the current language, loop, directory
    INSTANCE = 3  # self, or what an instance holds
    DATA = 4  # arguments, or something new every time


def origin(node: ast.AST | None, scope: Scope, imports: dict[str, str], seen: _Seen | None = None) -> ValueOrigin:
    """The worst origin among the parts of an expression, followed through local names, each once."""
    if node is None:
        return ValueOrigin.FIXED
    seen = set() if seen is None else seen

    def worst(*parts: ast.AST | None) -> ValueOrigin:
        return max((origin(part, scope, imports, seen) for part in parts), default=ValueOrigin.FIXED)

    match node:
        case ast.Constant() | ast.Compare():
            return ValueOrigin.FIXED
        case ast.Lambda() | ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() | ast.alias():
            return ValueOrigin.CODE
        case ast.UnaryOp(op=ast.Not()):
            return ValueOrigin.FIXED
        case ast.Name(id=name):
            return _name(name, scope, imports, seen)
        case ast.Attribute(value=value, attr=attr):
            if attr in _CODE_ATTRIBUTES or attr.lstrip("_") in _CHOICE_NAMES:
                return ValueOrigin.CODE if worst(value) is not ValueOrigin.FIXED else ValueOrigin.FIXED
            return worst(value)
        case ast.Call():
            return _call(node, scope, imports, seen)
        case ast.Subscript(value=ast.Name(id=name)) if _is_global(name, scope):
            return ValueOrigin.FIXED  # what is looked up in a table of the module is in the table
        case ast.ExceptHandler():
            return ValueOrigin.DATA
        case ast.expr():
            parts = [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.comprehension):
                    parts.append(child.iter)
            return worst(*parts)
        case _:
            return ValueOrigin.FIXED


def of_parameter(arg: ast.arg) -> ValueOrigin:
    """What an argument can be, by its annotation or else by its name."""
    if arg.annotation is not None:
        named = {
            part.id if isinstance(part, ast.Name) else part.attr
            for part in ast.walk(arg.annotation)
            if isinstance(part, ast.Name | ast.Attribute)
        }
        if isinstance(arg.annotation, ast.Constant) and isinstance(arg.annotation.value, str):
            named = set(re.findall(r"\w+", arg.annotation.value))
        if named & _CODE_TYPES:
            return ValueOrigin.CODE
    if arg.arg in _CODE_NAMES | _CHOICE_NAMES or _CODE_ENDING.search(arg.arg) or _CHOICE_ENDING.search(arg.arg):
        return ValueOrigin.CODE
    return ValueOrigin.DATA


def is_imported(node: ast.AST | None, scope: Scope, depth: int = 0) -> bool:
    """Whether a value is a module or something out of one that was imported by its name."""
    match node:
        case ast.Call():
            name = terminal(node.func) or ""
            owner = terminal(node.func.value) if isinstance(node.func, ast.Attribute) else None
            if name in _IMPORTERS or (name == "load" and owner in ("ep", "entry_point")):
                return True
            if name in ("getattr", "cast"):
                return any(is_imported(part, scope, depth) for part in node.args)
            return depth < MAX_DEPTH and is_imported(node.func, scope, depth + 1)
        case ast.Attribute(value=value):
            return is_imported(value, scope, depth)
        case ast.Name(id=name):
            where = lookup(scope, name)
            values = where.bound.get(name, ()) if where is not None and where.kind == "function" else ()
            return depth < MAX_DEPTH and any(is_imported(value, scope, depth + 1) for value in values)
        case _:
            return False


def is_enumeration(name: str, scope: Scope) -> bool:
    """Whether ``name`` is a class of this file with a base called Enum or a Flag."""
    where = lookup(scope, name)
    scope_of_class = where.classes.get(name) if where else None
    return scope_of_class is not None and any(
        (terminal(base) or "").endswith(("Enum", "Flag")) for base in getattr(scope_of_class.node, "bases", ())
    )


def _name(name: str, scope: Scope, imports: dict[str, str], seen: _Seen) -> ValueOrigin:
    where = lookup(scope, name)
    if where is None or (id(where), name) in seen:
        return ValueOrigin.FIXED
    seen.add((id(where), name))
    if where.kind != "function":
        values = where.bound.get(name, ())
        return (
            ValueOrigin.CODE
            if any(isinstance(value, ast.ClassDef | ast.FunctionDef) for value in values)
            else ValueOrigin.FIXED
        )
    worst = ValueOrigin.FIXED
    if name in where.params:
        arg = where.params[name]
        if name == where.receiver:
            worst = ValueOrigin.CODE if name in CLASS_RECEIVERS else ValueOrigin.INSTANCE
        elif isinstance(arg.annotation, ast.Name) and is_enumeration(arg.annotation.id, where):
            worst = ValueOrigin.CODE
        else:
            worst = of_parameter(arg)
    return max([worst, *(origin(value, where, imports, seen) for value in where.bound.get(name, ()))])


def _call(node: ast.Call, scope: Scope, imports: dict[str, str], seen: _Seen) -> ValueOrigin:
    name = terminal(node.func) or ""
    if name in _FROM_CODE:
        return ValueOrigin.CODE
    if name in _NEW_EVERY_TIME:
        return ValueOrigin.DATA
    parts: list[ast.AST] = [*node.args, *(keyword.value for keyword in node.keywords)]
    if isinstance(node.func, ast.Attribute):
        parts.append(node.func.value)
    before = set(seen)  # what leads here, and not what the arguments lead to: they are looked at twice
    worst = max((origin(part, scope, imports, seen) for part in parts), default=ValueOrigin.FIXED)
    if (
        name == "id"
        and worst <= ValueOrigin.AMBIENT
        and any(origin(arg, scope, imports, before) is not ValueOrigin.CODE for arg in node.args)
    ):
        return ValueOrigin.DATA
    if worst is ValueOrigin.FIXED and dotted(node.func, imports) is not None:
        return ValueOrigin.AMBIENT
    return worst


def _is_global(name: str, scope: Scope) -> bool:
    where = lookup(scope, name)
    return where is not None and where.kind == "module"
