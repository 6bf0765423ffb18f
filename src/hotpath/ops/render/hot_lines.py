"""Hot routes as patterns of request targets, each with the file of its page, for servers that read the store."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from hotpath.ops.render.facts import RouteFacts, SiteFacts
from hotpath.pages.codings import is_compressible
from hotpath.pages.keys import TRACKING, Ignored, Template, make_key, parse_file_template, parse_path_template
from hotpath.pages.policy import IMPORTED, Policy
from hotpath.pages.routes import default_file

# A value that is the same on the wire, in the key and in the name of the file. Others are answered by the app.
VALUE: Final = "[A-Za-z0-9_-][A-Za-z0-9_.~-]*"
# Subsets of more parameters would be more lines than anybody reads.
MAX_QUERY: Final = 3

_PLAIN_FILE: Final = re.compile(r"[A-Za-z0-9_./@~-]+")
# What means something in a string of nginx, Caddy or VCL.
_NOT_IN_A_PATTERN: Final = re.compile(r"[\"'`\\${}\x00-\x1f\x7f]")
_NOT_IN_A_FIELD: Final = re.compile(r"[`\\${}]|[^\x20-\x7e]")
# No value of a parameter: it holds the place of one.
_PLACE: Final = "\ue000{}\ue001"
_PLACES: Final = re.compile(r"\ue000(\d+)\ue001")


@dataclass(frozen=True, slots=True)
class HotLine:
    """Targets that match ``pattern``, whole, are answered from ``file``, where ``${1}`` is its first group."""

    route: str
    pattern: str
    file: str
    policy: Policy
    headers: tuple[tuple[str, str], ...]

    @property
    def ending(self) -> str:
        """Of its file, without the dot."""
        return self.file.rpartition(".")[2]

    @property
    def fields(self) -> dict[str, str]:
        """Fields of an answer beside those about the bytes."""
        policy = self.policy
        cdn = {} if policy.cdn_cache_control is None else {"CDN-Cache-Control": policy.cdn_cache_control}
        vary = {"Vary": "Accept-Encoding"} if is_compressible(policy.media_type) else {}
        return {"Cache-Control": policy.cache_control, **cdn, **vary, **dict(self.headers)}


@dataclass(frozen=True, slots=True)
class HotLines:
    """All lines, those without parameters first, and for each route that has none the reason."""

    lines: tuple[HotLine, ...]
    left_out: tuple[tuple[str, str], ...]

    def left_out_notes(self) -> list[str]:
        """Lines of a comment."""
        if not self.left_out:
            return []
        return ["Answered by the app, where they are hot too:", *(f"  {path}: {why}" for path, why in self.left_out)]


def hot_lines(facts: SiteFacts) -> HotLines:
    """The lines of a site's routes; directories of other programs have none."""
    lines: list[HotLine] = []
    left_out: list[tuple[str, str]] = []
    routes = [(route, *_templates(route)) for route in facts.routes if route.path != IMPORTED]
    for route, path, file in routes:
        why = _problem(facts, route, path, file) or _shared(path, file, ((p, f) for r, p, f in routes if r != route))
        if why is None:
            lines += _lines(facts, route, path, file)
        else:
            left_out.append((route.path, why))
    if any(route.path == IMPORTED for route in facts.routes):
        left_out.append((IMPORTED, "its pages have no route"))
    lines = list(_of_one_type(lines, left_out))
    lines.sort(key=lambda line: "${" in line.file)
    return HotLines(tuple(lines), tuple(left_out))


def _of_one_type(lines: Sequence[HotLine], left_out: list[tuple[str, str]]) -> Iterator[HotLine]:
    """Servers know the type of a file by its ending: the first route with an ending decides."""
    types: dict[str, HotLine] = {}
    for line in lines:
        first = types.setdefault(line.ending, line)
        if line.policy.media_type == first.policy.media_type:
            yield line
        elif (line.route, why := f"its files end in .{line.ending} as those of {first.route}, of another type") not in (
            left_out
        ):
            left_out.append((line.route, why))


def tracking_pattern(facts: SiteFacts) -> str:
    """One parameter of those that choose no page, with its value."""
    ignored = _ignored(facts)
    names = [re.escape(name) for name in sorted(ignored.names)]
    names += [rf"{re.escape(prefix)}[A-Za-z0-9_.-]*" for prefix in ignored.prefixes]
    return f"(?:{'|'.join(names)})(?:=[^&]*)?"


def trust_note(facts: SiteFacts) -> list[str]:
    """What the front has to know of a server before it; lines of a comment."""
    if facts.layout == "none":
        return []
    return ["The front behind it believes what it says of clients with '--trust 127.0.0.1/32'."]


def host_pattern(facts: SiteFacts) -> str | None:
    """The hosts that the site declares, without a port; ``None`` where it answers for any."""
    if facts.sources["hosts"] != "known":
        return None
    names = [re.escape(host).replace(r"\*", "[A-Za-z0-9.-]+", 1) for host in facts.hosts]
    return f"(?:{'|'.join(names)})"


def generation_header(facts: SiteFacts) -> bool:
    """Whether hot pages say their generation."""
    return facts.site is None or facts.site.reading.generation_header


def _templates(route: RouteFacts) -> tuple[Template, Template]:
    path = parse_path_template(route.path)
    text = route.file or default_file(path, route.policy.query, route.policy.media_type)
    return path, parse_file_template(text)


def _ignored(facts: SiteFacts) -> Ignored:
    return facts.site.reading.ignored if facts.site is not None else TRACKING


def _problem(facts: SiteFacts, route: RouteFacts, path: Template, file: Template) -> str | None:
    """Why a server that knows only patterns cannot answer for this route."""
    query = route.policy.query
    if route.policy.fold_case:
        return "upper and lower case are one page"
    if any(_ignored(facts).covers(name) for name in query):
        return "a parameter of its own is one of those that are dropped"
    if len(query) > MAX_QUERY:
        return f"it has more than {MAX_QUERY} parameters"
    if any(segment.count("{") > 1 for segment in path.text.split("/")):
        return "two parameters stand in one segment"
    if any(_NOT_IN_A_PATTERN.search(text) for text in (re.sub(r"\{\w+\}", "", path.text), *query)):
        return "its path has characters that mean something in the file"
    if not _PLAIN_FILE.fullmatch(re.sub(r"\{\w+\}", "x", file.text)):
        return "the names of its files have characters that mean something in the file"
    if set(file.names) - set(path.names) - set(query):
        return "its files are named by more than what stands in the address"
    if "." not in file.text.rpartition("/")[2]:
        return "the names of its files have no ending"
    if any(_NOT_IN_A_FIELD.search(value) for _, value in _headers(facts, route.policy)):
        return "a field of it has characters that mean something in the file"
    return _not_as_published(facts, route, path, file)


def _not_as_published(facts: SiteFacts, route: RouteFacts, path: Template, file: Template) -> str | None:
    lines = _lines(facts, route, path, file)
    for key, item in facts.manifest.items.items() if facts.manifest is not None else ():
        if item.policy.route != route.path:
            continue
        for line in lines:
            found = re.fullmatch(line.pattern, key)
            if found and found.expand(re.sub(r"\$\{(\d+)\}", r"\\g<\1>", line.file)) != item.identity.file:
                return f"the file of {key} is {item.identity.file}"
    return None


def _shared(path: Template, file: Template, others: Iterable[tuple[Template, Template]]) -> str | None:
    """Whether another route may have a file where a page of this one would be looked for."""
    for other_path, other_file in others:
        samples = dict.fromkeys((*other_path.names, *other_file.names), "x")
        if file.match(other_file.render(samples)) and not path.match(other_path.render(samples)):
            return f"{other_path.text} has files with names of the same form"
    return None


def _lines(facts: SiteFacts, route: RouteFacts, path: Template, file: Template) -> list[HotLine]:
    return [
        HotLine(route.path, pattern, name, route.policy, _headers(facts, route.policy))
        for pattern, name in _targets(path, file, route.policy.query)
    ]


def _targets(path: Template, file: Template, query: Sequence[str]) -> Iterator[tuple[str, str]]:
    """A pattern and a file for each choice of the query's parameters: absent, or in the order of the key."""
    for count in range(len(query), -1, -1):
        for chosen in itertools.combinations(sorted(query), count):
            names = [*path.names, *chosen]
            places = {name: _PLACE.format(number) for number, name in enumerate(names, start=1)}
            key = make_key(path, (), {name: f"0{number}0PLACE" for number, name in enumerate(path.names, start=1)})
            pattern = re.sub(r"0(\d+)0PLACE", lambda found: _PLACE.format(found[1]), key)
            if chosen:
                pattern += "?" + "&".join(f"{name}={places[name]}" for name in chosen)
            name = file.render({name: places.get(name, "") for name in file.names})
            escaped = re.escape(pattern)
            yield _PLACES.sub(f"({VALUE})", escaped), _PLACES.sub(r"${\1}", name)


def _headers(facts: SiteFacts, policy: Policy) -> tuple[tuple[str, str], ...]:
    """The site's fields, replaced by the route's own of the same name."""
    own = {name.lower() for name, _ in policy.headers}
    site = facts.site.reading.headers if facts.site is not None else ()
    return (*((name, value) for name, value in site if name.lower() not in own), *policy.headers)
