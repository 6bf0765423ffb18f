"""The analysis of all files together: what only grows, and which of it a reviewer wants to see."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace

from hotpath.audit.facts import Facts, GrowthPoint, Held, Target
from hotpath.audit.findings import CACHES, Candidate, Finding, Pattern, Severity, replacement
from hotpath.audit.origins import ValueOrigin
from hotpath.audit.source import File

# Functions that by their names run while a program starts.
_STARTS = re.compile(
    r"^_*(set_?up|configure|configuration|init|initiali[sz]e|install|(un)?register|populate|autodiscover|discover|bootstrap|"
    r"define|declare|patch|monkey_?patch|main|includeme|ready|load_(plugins|extensions|modules|settings|config)|enable|"
    r"(create|make|build|get)_(app|application|parser)|app_factory|add_(option|argument|parser)s?|run_from_argv)(_|\b)"
)
# Files whose code runs once and ends.
_RUNS_ONCE = re.compile(
    r"(^|/)(commands|migrations|scripts|bin|cli|_?distutils|f2py|config|benchmarks?|docs|examples?)/|(^|/)(setup|__main__|conf|config|testing_utils)\.py$"
)
_ONCE = "this file runs once and ends"
_SAID = "by its name it remembers what was said once"
_MAX_STEPS = 4

# Things that come with every visitor. A function that registers one of these is not part of the start.
_COMES_AND_GOES = re.compile(
    r"client|session|connection|conn\b|socket|\bws|request|user|task|job|future|listener|subscri|watcher|peer|player"
    r"|room|channel|order|device|message|event|token",
    re.IGNORECASE,
)

# Words in the names of containers that hold pieces of code or of the configuration.
_HOLDS_CODE = re.compile(
    r"(^|_)(backend|plugin|driver|implementation|extension|codec|encoder|decoder|serializer|converter|loader|adapter"
    r"|factory|factories|hook|provider|formatter|subclass|class|type|typedef|scheme|dialect|module|engine|executor|logger"
    r"|specializer|op|symbol|config|namespace|lang|language|locale|domain|command|option|setting|feature|capability"
    r"|capabilities)(e?s)?(?=_|$)",
    re.IGNORECASE,
)

# Words for messages that are logged once: there are as many of them as the code has.
_SAYS_ONCE = re.compile(
    r"warn|deprecat|(^|_)(emit|emitted|logged|notified|announced|reported)(_|$)|^_*log_", re.IGNORECASE
)


class _Program:
    """Who calls whom, by the last name of what is called, over all files."""

    def __init__(self, files: Iterable[Facts]) -> None:
        self.called: dict[str, set[str]] = {}
        self.decorators: set[str] = set()
        self.given_data: dict[str, set[int | str]] = {}
        self.cleared: set[str] = set()
        self.called_later: set[tuple[str, str]] = set()
        for file in files:
            for name, callers in file.called.items():
                self.called.setdefault(name, set()).update(callers)
            self.decorators |= file.decorators
            for name, places in file.given_data.items():
                self.given_data.setdefault(name, set()).update(places)
            self.cleared |= file.cleared
            for name, callers in file.called_later.items():
                if not all(map(_starts, callers)):
                    self.called_later.add((file.path, name))

    def bounds(self, name: str, arguments: tuple[int | str, ...] = ()) -> str | None:
        """What bounds the number of results or entries, by the calls of a function that can be seen.

        With ``arguments``, only these matter.
        """
        if self.only_starts(name):
            return f"{name}() is called only while the program starts"
        called = self.called.get(name, set()) - {name}
        data = self.given_data.get(name, set())
        if arguments and "*" not in data:
            data = data & set(arguments)
        if called and not data and name not in self.decorators:
            return f"{name}() is called with constants only"
        return None

    def only_starts(self, name: str, steps: int = _MAX_STEPS) -> bool:
        """Whether all calls that can be seen are made while modules are imported or the program starts."""
        callers = self.called.get(name, set()) - {name}
        if not callers:
            return name in self.decorators
        return steps > 0 and all(
            caller in ("", "<lambda>")
            or _starts(caller)
            or (self.called.get(caller, set()) - {caller} and self.only_starts(caller, steps - 1))
            for caller in callers
        )


def _starts(words: str) -> bool:
    """Whether a function by its names sets something up, and not for a client, session or task."""
    return bool(_STARTS.search(words)) and not words.startswith("__") and not _COMES_AND_GOES.search(words)


def analyze(files: list[File]) -> list[Candidate]:
    """What the files show together, in their order; also what a comment silences."""
    program = _Program(file.facts for file in files)
    shrunk = {target for file in files for target in file.facts.shrunk_elsewhere}
    grown: dict[Target, list[GrowthPoint]] = {}
    for file in files:
        for target, growth in file.facts.grown_elsewhere:
            grown.setdefault(target, []).append(growth)
    times = Counter(held.target for file in files for held in file.facts.held)
    candidates: list[Candidate] = []
    for file in files:
        candidates += [_seen_with_calls(candidate, program) for candidate in file.candidates]
        for held in file.facts.held:
            shared = held.where in ("module", "class")
            if held.shrinks or (shared and held.target in shrunk):
                continue
            others = grown.get(held.target, []) if shared and times[held.target] == 1 else []
            is_list = held.kind in ("list", "deque")  # a place in another file shows how it adds, and so to what
            growths = [*held.growths, *(growth for growth in others if growth.each_call == is_list)]
            if growths:
                candidates += _of_container(held, growths, program)
    return candidates


def _seen_with_calls(candidate: Candidate, program: _Program) -> Candidate:
    """A cache without a maximum, after a look at its calls in all files."""
    finding, function = candidate.finding, candidate.function
    if finding.pattern not in CACHES or finding.level is Severity.NOTE:
        return candidate
    bounded_by = None
    if function in program.cleared:
        bounded_by = "cache_clear() empties it somewhere"
    elif _RUNS_ONCE.search(finding.path):
        bounded_by = _ONCE
    elif function is not None and _SAYS_ONCE.search(function):
        bounded_by = _SAID
    elif function is not None and "holds self" not in finding.why:
        bounded_by = program.bounds(function, candidate.arguments)
    if bounded_by is None:
        return candidate
    return replace(candidate, finding=replace(finding, level=Severity.NOTE, why=f"{finding.why}; {bounded_by}"))


def _of_container(held: Held, growths: list[GrowthPoint], program: _Program) -> Iterator[Candidate]:
    """The growth that a reviewer should see first; nothing where what expires is taken out when it is read."""
    bounds = [(growth, _bounded_by(held, growth, program)) for growth in growths]
    growth, bounded_by = min(bounds, key=lambda pair: (pair[1] is not None, -pair[0].origin, pair[0].line))
    if held.expires_on_read and not growth.stamped:
        return
    pattern = _pattern(held, growth)
    why = _why(held, growth, pattern)
    own = growth.path == held.path
    finding = Finding(
        path=held.path,
        line=held.line,
        pattern=pattern,
        level=Severity.NOTE if bounded_by else Severity.WARNING,
        name=held.target[1],
        why=f"{why}; {bounded_by}" if bounded_by else why,
        grows_at=f"line {growth.line}" if own else f"{growth.path}:{growth.line}",
        text=held.text,
        instead=replacement(held.target[1], held.kind, pattern, stores_self=growth.stores_self),
    )
    yield Candidate(finding, frozenset({*range(held.line, held.end_line + 1), *((growth.line,) if own else ())}))


def _bounded_by(held: Held, growth: GrowthPoint, program: _Program) -> str | None:
    """What ends the growth, as far as the code shows; None where nothing does."""
    if growth.bounded_by is not None:
        return growth.bounded_by
    if _RUNS_ONCE.search(growth.path):
        return _ONCE
    if held.where == "default" or growth.in_handler:
        return None
    if growth.each_call and growth.origin is ValueOrigin.CODE:
        return "entries are classes or functions of the code"
    if held.where == "closure":
        return None
    is_later = (growth.path, growth.function) in program.called_later and not program.only_starts(growth.function)
    if _starts(f"{growth.words} {held.target[1]}") and not is_later:
        return f"{growth.described}() sets something up, by its name"
    if _SAYS_ONCE.search(held.target[1]) or _SAYS_ONCE.search(growth.function):
        return _SAID
    if _HOLDS_CODE.search(held.target[1]):
        return "by its name it holds pieces of the code"
    return program.bounds(growth.function) if growth.origin is ValueOrigin.DATA else None


def _pattern(held: Held, growth: GrowthPoint) -> Pattern:
    if held.where == "default":
        return Pattern.MUTABLE_DEFAULT
    if held.where == "closure":
        return Pattern.CLOSURE_MEMO
    if growth.stamped and held.kind not in ("list", "deque", "set"):
        return Pattern.TTL_WITHOUT_MAXIMUM
    if growth.in_handler:
        return Pattern.HANDLER_APPEND
    if growth.registers and not growth.each_call:
        return Pattern.GLOBAL_REGISTRY
    return Pattern.GROWING_CLASS_ATTRIBUTE if held.where == "class" else Pattern.GROWING_GLOBAL


def _why(held: Held, growth: GrowthPoint, pattern: Pattern) -> str:
    entry = "one more at every call" if growth.each_call else "one more for every key it has not seen"
    by = f"{growth.described}() adds {entry}"
    match pattern:
        case Pattern.MUTABLE_DEFAULT:
            return f"the default {held.target[1]} is one {held.kind} for all calls; {by}"
        case Pattern.CLOSURE_MEMO:
            return f"it lives as long as the function around it is held; {by} and nothing takes one out"
        case Pattern.TTL_WITHOUT_MAXIMUM if held.expires_on_read:
            return f"{by} and only what is asked for again is checked for its age; the rest stays"
        case Pattern.TTL_WITHOUT_MAXIMUM:
            return f"{by} with a time, but nothing takes out what has expired"
        case Pattern.HANDLER_APPEND:
            return f"the request handler {by} and nothing takes one out"
        case Pattern.GROWING_CLASS_ATTRIBUTE:
            return f"all instances share it; {by} and nothing takes one out"
        case _:
            return f"{by} and nothing takes one out"
