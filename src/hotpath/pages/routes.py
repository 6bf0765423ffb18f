"""Hot routes as declared, and the items they come to: every check that needs no data and no function to be run."""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hotpath.errors import DeclarationError
from hotpath.pages.codings import SUFFIXES
from hotpath.pages.file_names import length_problem
from hotpath.pages.keys import Template, make_key, parameter_text
from hotpath.pages.media_types import ending_of_media_type, media_type_of_name
from hotpath.pages.policy import Policy

Each = Mapping[str, Iterable[object]] | Iterable[Mapping[str, object]] | Callable[[], Iterable[Mapping[str, object]]]

# Annotations of what a framework gives an endpoint.
_OF_A_REQUEST = ("Request", "HttpRequest", "HTTPConnection", "Depends", "Security", "BackgroundTasks", "Response")


# A page larger than this is a mistake far more often than a page.
MAX_BYTES = 32 * 1024 * 1024

# An each= that yields for ever would take all memory before the first function is run.
MAX_ITEMS = 1_000_000


@dataclass(frozen=True, slots=True)
class Expectations:
    """What a payload has to hold before anybody sees it; ``hot.route`` says what each means."""

    records: str | None = None
    required: tuple[str, ...] = ()
    row_key: str | None = None
    source_time: str | None = None
    min_rows: int = 1
    max_bytes: int = MAX_BYTES
    check: Callable[[Any], object] | None = None
    critical: bool = False
    timeout_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """One ``@hot.route``: ``where`` is ``file:line`` of the declaration, ``each`` still unexpanded."""

    path: Template
    file: Template
    query: tuple[str, ...]
    policy: Policy
    each: Each | None
    function: Callable[..., Any]
    where: str
    expects: Expectations = Expectations()


@dataclass(frozen=True, slots=True)
class PlannedItem:
    """One item to build: the key it gets, the file it goes to, and the arguments of the function."""

    key: str
    file: str
    route: Route
    arguments: Mapping[str, object]


def default_file(path: Template, query: tuple[str, ...], media_type: str) -> str:
    """``rankings/{market}.json`` for ``/rankings/{market}``; an ending of the path itself is kept."""
    name = path.text[1:]
    if not name or name.endswith("/"):
        name += "index"
    if media_type_of_name(name):
        stem, dot, ending = name.rpartition(".")
    else:
        stem, dot, ending = name, ".", ending_of_media_type(media_type)
    return stem + "".join(f"@{{{parameter}}}" for parameter in query) + dot + ending


def check_expectations(expects: Expectations) -> None:
    """Raises ``DeclarationError`` for what could never be held."""
    if expects.records is None:
        for name in ("required", "row_key", "source_time"):
            if value := getattr(expects, name):
                raise DeclarationError(
                    f"{name}={value!r} is about rows; write records='items' too, where the payload has its rows"
                )
    if not isinstance(expects.min_rows, int) or expects.min_rows < 0:
        raise DeclarationError(f"min_rows={expects.min_rows!r}: write how many rows there are at least, 0 for none")
    if expects.check is not None and not callable(expects.check):
        raise DeclarationError(
            f"check={expects.check!r}: write a function that takes the payload and says what is wrong"
        )


def check_route(route: Route) -> None:
    """What can be known before ``each`` gives a single item. Raises ``DeclarationError`` with the line to change."""
    if other := re.search(r"<(?:\w+:)?(\w+)>", route.path.text):
        raise DeclarationError(
            f"{route.path.text!r}: {other[0]} is no parameter here; write {{{other[1]}}}", where=route.where
        )
    wanted = (*route.path.names, *route.query)
    given: tuple[str, ...] | None = None
    if route.each is None:
        given = ()
    elif inspect.iscoroutinefunction(route.each) or inspect.isasyncgenfunction(route.each):
        raise DeclarationError(
            f"each={getattr(route.each, '__name__', route.each)} is async; write a plain function: def, not async def",
            where=route.where,
        )
    elif isinstance(route.each, Mapping):
        given = tuple(route.each)
        for name, values in route.each.items():
            if isinstance(values, str | bytes) or not isinstance(values, Iterable):
                raise DeclarationError(
                    f"each={{{name!r}: {values!r}}} is no list of values; write [{values!r}]", where=route.where
                )
    if given is not None:
        _check_names(route, given, wanted)
    for name in route.file.names:
        if given is not None and name not in given:
            raise DeclarationError(f"file={route.file.text!r}: each= does not give {name!r}", where=route.where)
    for name in wanted:
        if name not in route.file.names:
            raise DeclarationError(
                f"file={route.file.text!r} lacks {{{name}}}: two items would have one file", where=route.where
            )


def _check_names(route: Route, given: tuple[str, ...], wanted: tuple[str, ...]) -> None:
    for name in wanted:
        if name not in given:
            has = ", ".join(map(repr, given)) or "nothing"
            raise DeclarationError(
                f"{route.path.text!r} needs {name!r}, and each= gives {has}; write each={{{name!r}: [...]}}",
                where=route.where,
            )
    name = getattr(route.function, "__name__", "the function")
    try:
        signature = inspect.signature(route.function)
        for parameter in signature.parameters.values():
            _require_batch_can_fill(route, parameter, given)
        signature.bind(**dict.fromkeys(given))
    except (TypeError, ValueError) as error:
        arguments = ", ".join(given)
        raise DeclarationError(
            f"{name} is called with what each= gives ({error}); write def {name}({arguments})", where=route.where
        ) from None


def _require_batch_can_fill(route: Route, parameter: inspect.Parameter, given: tuple[str, ...]) -> None:
    """A batch has no request: what a framework fills in for one is not there, and its marker is no value."""
    if parameter.name in given:
        return
    default, annotation = parameter.default, str(parameter.annotation)
    source = type(default).__name__ if type(default).__module__.startswith("fastapi.") else ""
    if default is inspect.Parameter.empty:
        source = next((word for word in _OF_A_REQUEST if re.search(rf"\b{word}\b", annotation)), "")
    if source:
        raise DeclarationError(
            f"{parameter.name} ({source}) is filled in for a request, and a batch has none; move the body into a"
            f" function that takes ({', '.join(given)}), declare that as the hot route, and call it from the endpoint",
            where=route.where,
        )


# One function, since each item is compared with all before it.
def plan(routes: Iterable[Route], *, prefix_bytes: int = 0) -> list[PlannedItem]:
    """All items of all routes. Raises ``DeclarationError`` before any function was run.

    ``prefix_bytes`` is the length of the directory that their files go to.
    """
    planned: dict[str, PlannedItem] = {}
    files: dict[str, PlannedItem] = {}
    for route in routes:
        count = 0
        checked: tuple[str, ...] | None = None
        for values in _expand(route):
            count += 1
            names = _names_in(route, values)
            if names != checked:  # the signature of the function is asked once, not for each of many thousand items
                _check_names(route, names, route.path.names)
                checked = names
            if len(planned) == MAX_ITEMS:
                raise DeclarationError(
                    f"each= of {route.path.text!r} is past {MAX_ITEMS:,} items, and may have no end; declare the pages"
                    " that matter most and leave the others to the app",
                    where=route.where,
                )
            item = _plan_item(route, values, prefix_bytes)
            for name, known, what in ((item.key, planned, "key"), (item.file, files, "file")):
                other = known.get(name)
                if other is not None:
                    raise DeclarationError(
                        f"two items have the {what} {name!r}: {other.key} of {other.route.path.text!r}"
                        f" ({other.route.where}) with {dict(other.arguments)}, and {item.key} of"
                        f" {item.route.path.text!r} with {dict(item.arguments)};"
                        " leave one out, make a parameter differ, or give one another file with file=",
                        where=route.where,
                    )
            for suffix in SUFFIXES.values():
                files[item.file + suffix] = item
            planned[item.key] = item
        if not count:
            raise DeclarationError(
                f"each= of {route.path.text!r} gave no items at all; a route that vanished is never published",
                where=route.where,
            )
    if not planned:
        raise DeclarationError("no hot route is declared; write @hot.route('/path') above a function")
    return list(planned.values())


def _expand(route: Route) -> Iterator[Mapping[str, object]]:
    each = route.each
    if each is None:
        yield {}
    elif isinstance(each, Mapping):
        names = tuple(each)
        for values in itertools.product(*each.values()):
            yield dict(zip(names, values, strict=True))
    elif callable(each):
        try:
            yield from each()
        except (Exception, SystemExit) as error:  # sys.exit(0) would be a night that went well
            raise DeclarationError(
                f"each= could not be asked ({type(error).__name__}: {error})", where=route.where
            ) from error
    else:
        yield from each


def _names_in(route: Route, values: object) -> tuple[str, ...]:
    if not isinstance(values, Mapping):
        raise DeclarationError(
            f"each= gave {values!r}, expected a dict; write {{{'name'!r}: {values!r}}}", where=route.where
        )
    return tuple(values)


def _plan_item(route: Route, values: Mapping[str, object], prefix_bytes: int) -> PlannedItem:
    texts = {}
    for name in {*route.path.names, *route.query, *route.file.names}:
        value = values.get(name)
        if value is None and name in route.query:
            continue  # this item is the page without the parameter
        try:
            texts[name] = parameter_text(value)
        except ValueError as error:
            raise DeclarationError(
                f"each= gave {name}={value!r} for {route.path.text!r}: {error}", where=route.where
            ) from None
    try:
        key = make_key(route.path, route.query, texts, fold_case=route.policy.fold_case)
    except DeclarationError as error:
        raise DeclarationError(error.problem, where=route.where) from None
    file = route.file.render({name: texts.get(name, "") for name in route.file.names})
    if any(part in (".", "..") for part in file.split("/")):
        raise DeclarationError(
            f"each= gave {dict(values)}, whose file {file!r} leaves the directory", where=route.where
        )
    problem = length_problem(file, prefix_bytes=prefix_bytes)
    if problem is not None:
        raise DeclarationError(
            f"{key[:200]}{'…' if len(key) > 200 else ''} of {route.path.text[:200]!r}: {problem};"
            " make a parameter shorter, or put the parameters into more segments",
            where=route.where,
        )
    return PlannedItem(key, file, route, values)


def location_of(function: Callable[..., Any]) -> str:
    """``file:line`` of a function, as an editor opens it."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(function)
