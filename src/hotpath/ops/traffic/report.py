"""What a person reads of a log: the crawl table, the hot set, the quiet hour and the damage."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import unquote

from hotpath.ops.traffic.damage import Burst
from hotpath.ops.traffic.quiet import Window
from hotpath.ops.traffic.summary import CLASSES, MINUTES_OF_DAY, Crawl, Summary
from hotpath.ops.traffic.templates import Tally
from hotpath.options import counted, human_bytes

DAYS: Final = 30
MAX_ROUTES: Final = 20
MAX_SUGGESTED: Final = 5
MAX_BURSTS: Final = 10

# Endings of what an app makes; any other one is a file, which a web server or a CDN should serve.
_PAGES: Final = frozenset(
    {"asp", "aspx", "atom", "cgi", "do", "htm", "html", "json", "jsp", "php", "rss", "txt", "xml"}
)
_ENDING = re.compile(r"\.([A-Za-z][A-Za-z0-9]{0,7})$")


@dataclass(frozen=True, slots=True)
class CrawlLine:
    """One crawler's requests in the last days; ``verified`` by its address, else its user agent only says so."""

    crawler: str
    verified: bool
    requests: int
    classes: dict[str, int]
    error_share: float
    days: dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True)
class RouteLine:
    """One template of paths. ``seconds`` is what the app spent on it in all, where the log has times.

    ``is_hot_set`` marks those that would save most; ``declared`` says whether a hot route of the site covers it
    (``None``: no site was given). ``missing`` are the requests answered 404 or 410.
    """

    path: str
    requests: int
    crawled: int
    bytes: int
    seconds: float | None
    errors: int
    missing: int
    is_hot_set: bool
    declared: bool | None
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Files:
    """All that is no page: images, styles, downloads."""

    requests: int
    crawled: int
    bytes: int


@dataclass(frozen=True, slots=True)
class BurstLine:
    """Errors that came together; ``crawlers`` counts those of crawlers."""

    first: str
    last: str
    errors: int
    statuses: dict[str, int]
    crawlers: dict[str, int]
    restarts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LogReport:
    """``covered`` and ``covered_crawl`` are the hot set's shares of all requests and of verified crawlers' ones.

    ``unasked`` are declared routes that nobody asked for. Times are UTC.
    """

    lines: int
    bad_lines: int
    bad_shown: tuple[str, ...]
    first: str | None
    last: str | None
    days: int
    error_share: float | None
    crawls: tuple[CrawlLine, ...]
    ranked_by: str
    routes: tuple[RouteLine, ...]
    files: Files
    covered: float
    covered_crawl: float
    suggestions: tuple[str, ...]
    unasked: tuple[str, ...]
    quiet: Window | None
    damage: tuple[BurstLine, ...]
    warnings: tuple[str, ...]


def report(
    summary: Summary,
    *,
    days: int = DAYS,
    declared: Sequence[str] | None = None,
    quiet: Window | None = None,
    damage: Iterable[Burst] = (),
    warnings: Iterable[str] = (),
) -> LogReport:
    """``declared`` are the paths of the site's hot routes, where there is a site."""
    crawls = _crawls(summary, days)
    verified = [line for line in crawls if line.verified]
    asked = sum(line.requests for line in verified)
    wrong = sum(line.classes["5xx"] + line.classes["reset"] for line in verified)
    routes, ranked_by = _routes(summary, declared)
    hot_set = [route for route in routes if route.is_hot_set]
    files = [tally for path, tally in summary.templates.items() if _is_static(path)]
    return LogReport(
        summary.lines,
        summary.bad_lines,
        tuple(line.decode("utf-8", "backslashreplace") for line in summary.bad_shown),
        _time(summary.first_minute),
        _time(summary.last_minute),
        days,
        wrong / asked if asked else None,
        tuple(crawls),
        ranked_by,
        tuple(routes[:MAX_ROUTES]),
        Files(sum(each.hits for each in files), sum(each.crawled for each in files), sum(each.size for each in files)),
        _share(sum(route.requests for route in hot_set), summary.hits),
        _share(sum(route.crawled for route in hot_set), summary.crawled),
        tuple(
            _suggestion(route)
            for route in routes
            if not route.declared and _is_page(route.errors + route.missing, route.requests)
        )[:MAX_SUGGESTED],
        _unasked(declared or (), routes),
        quiet,
        tuple(_burst(each) for each in sorted(damage, key=_weight, reverse=True)[:MAX_BURSTS]),
        tuple(warnings),
    )


def lines(report: LogReport) -> list[str]:
    """As a person reads it in a terminal."""
    out = [
        f"{counted(report.lines, 'line')}, {report.first or 'without times'}"
        + (f" to {report.last} UTC" if report.last else "")
    ]
    if report.bad_lines:
        out.append(f"{counted(report.bad_lines, 'line')} in no format that is known, the first:")
        out += [f"  {line}" for line in report.bad_shown[:1]]
    out += ["", *_crawl_lines(report), "", *_route_lines(report)]
    if report.suggestions:
        python = "\n".join(report.suggestions).split("\n")
        out += ["", "the next routes worth declaring, with what the log shows of their parameters:", "", *python]
    if report.unasked:
        out += ["", f"declared, and asked for by nobody: {', '.join(report.unasked)}"]
    out += ["", _quiet_line(report.quiet), "", *_damage_lines(report)]
    return [*out, *(f"note: {warning}" for warning in report.warnings)]


def _crawl_lines(report: LogReport) -> list[str]:
    if not report.crawls:
        return ["no crawler is in this log: the lines have no user agent, or none of the known ones"]
    heads = ("requests", *CLASSES, "errors")
    out = [f"{'crawlers, the last ' + counted(report.days, 'day'):<34}" + "".join(f"{head:>10}" for head in heads)]
    for line in report.crawls:
        name = line.crawler if line.verified else f"{line.crawler} (only claimed)"
        figures = (line.requests, *line.classes.values())
        out.append(f"  {name:<32}" + "".join(f"{figure:>10}" for figure in figures) + f"{line.error_share:>9.1%} ")
    if report.error_share is not None:
        out.append(f"verified crawlers got 5xx or no answer for {report.error_share:.2%} of their requests")
    return [line.rstrip() for line in out]


def _route_lines(report: LogReport) -> list[str]:
    heads = f"{'requests':>10}{'crawlers':>10}{'bytes':>12}{'seconds':>10}"
    out = [f"{heads}   path, by {report.ranked_by}; * is the hot set"]
    for route in report.routes:
        seconds = "" if route.seconds is None else f"{route.seconds:.1f}"
        figures = f"{route.requests:>10}{route.crawled:>10}{human_bytes(route.bytes):>12}{seconds:>10}"
        mark, end = "*" if route.is_hot_set else " ", "  (declared)" if route.declared else ""
        out.append(f"{figures} {mark} {route.path}{end}")
    files = report.files
    if files.requests:
        out.append(f"{files.requests:>10}{files.crawled:>10}{human_bytes(files.bytes):>12}{'':>10}   files, no pages")
    all_share, crawl_share = f"{report.covered:.0%}", f"{report.covered_crawl:.0%}"
    return [*out, f"the hot set is {all_share} of all requests and {crawl_share} of those of verified crawlers"]


def _quiet_line(quiet: Window | None) -> str:
    if quiet is None:
        return "no quiet hour can be told: no verified crawler is in this log, or it has no times"
    day = f"on {quiet.weekday} " if quiet.weekday else ""
    found = f"{quiet.minutes} minutes {day}from {quiet.starts} UTC: {quiet.expected:g} crawler requests expected"
    if not quiet.is_quiet:
        return f"no quiet hour: the least are {found}, and {quiet.average:g} in any other"
    return f"quiet: {found}, {quiet.average:g} in an average window"


def _damage_lines(report: LogReport) -> list[str]:
    if not report.damage:
        return ["no 5xx, and no request without an answer"]
    out = ["errors that came together, those that crawlers saw first:"]
    for burst in report.damage:
        until = burst.last.partition(" ")[2] if burst.last[:10] == burst.first[:10] else burst.last
        span = burst.first if burst.first == burst.last else f"{burst.first}–{until}"
        statuses = ", ".join(f"{count} × {status}" for status, count in burst.statuses.items())
        seen = ", ".join(f"{count} of {name}" for name, count in burst.crawlers.items())
        restarts = f"; the unit: {', '.join(burst.restarts)}" if burst.restarts else ""
        out.append(f"  {span} UTC: {statuses}{f' ({seen})' if seen else ''}{restarts}")
    return out


def _crawls(summary: Summary, days: int) -> list[CrawlLine]:
    last_day = None if summary.last_minute is None else summary.last_minute // MINUTES_OF_DAY
    by_crawler: dict[tuple[str, bool], dict[str, Crawl]] = {}
    for (crawler, verified, day), crawl in sorted(summary.crawls.items(), key=lambda item: item[0][2] or 0):
        if day is None or last_day is None or day > last_day - days:
            name = "without a time" if day is None else _day(day)
            by_crawler.setdefault((crawler, verified), {})[name] = crawl
    found = []
    for (crawler, verified), by_day in by_crawler.items():
        total = Crawl()
        for crawl in by_day.values():
            total.requests += crawl.requests
            total.classes = [sum(pair) for pair in zip(total.classes, crawl.classes, strict=True)]
        daily = {day: {"requests": crawl.requests, **_named(crawl)} for day, crawl in by_day.items()}
        found.append(CrawlLine(crawler, verified, total.requests, _named(total), total.error_share, daily))
    return sorted(found, key=lambda line: (not line.verified, -line.requests, line.crawler))


def _named(crawl: Crawl) -> dict[str, int]:
    return dict(zip(CLASSES, crawl.classes, strict=True))


def _routes(summary: Summary, declared: Sequence[str] | None) -> tuple[list[RouteLine], str]:
    """The templates of pages, what would save most first; the tenth that saves most is the hot set."""
    tallies = [(path, tally) for path, tally in summary.templates.items() if not _is_static(path)]
    timed = 2 * sum(tally.timed for _, tally in tallies) > summary.hits
    patterns = [_pattern(path) for path in declared or ()]

    def worth(tally: Tally) -> float:
        return tally.seconds if timed else float(tally.size)

    ranked = sorted(tallies, key=lambda item: (worth(item[1]), item[1].hits), reverse=True)
    candidates = [path for path, tally in ranked if _is_page(tally.errors + tally.missing, tally.hits)]
    hot_set = set(candidates[: -(-len(candidates) // 10)])
    routes = [
        RouteLine(
            path,
            tally.hits,
            tally.crawled,
            tally.size,
            round(tally.seconds, 3) if tally.timed else None,
            tally.errors,
            tally.missing,
            path in hot_set,
            None if declared is None else any(pattern.fullmatch(_sample(path)) for pattern in patterns),
            tuple(example.decode("utf-8", "backslashreplace") for example in tally.examples),
        )
        for path, tally in ranked
    ]
    return routes, "seconds of the app" if timed else "bytes, as the log has no times"


def _is_static(path: str) -> bool:
    ending = _ENDING.search(path)
    return ending is not None and ending[1].lower() not in _PAGES


def _pattern(path: str) -> re.Pattern[str]:
    """What a declared path covers."""
    parts = re.split(r"\{[^}]*\}", path)
    return re.compile("[^/]+".join(map(re.escape, parts)))


def _sample(path: str) -> str:
    """A path of a template: one that a declared route with the same shape covers."""
    return re.sub(r"\{[^}]*\}", "x", path)


def _unasked(declared: Sequence[str], routes: Sequence[RouteLine]) -> tuple[str, ...]:
    samples = [example for route in routes for example in (_sample(route.path), *route.examples)]
    return tuple(path for path in declared if not any(_pattern(path).fullmatch(sample) for sample in samples))


def _is_page(failed: int, requests: int) -> bool:
    """Whether most of the requests got a page."""
    return 2 * failed < requests


def _suggestion(route: RouteLine) -> str:
    """Lines of Python that declare this route; what the log shows of its parameters is filled in."""
    names = re.findall(r"\{([^}]*)\}", route.path)
    function = re.sub(r"\W+", "_", re.sub(r"\{[^}]*\}", "", route.path)).strip("_").lower() or "start"
    if not function.isidentifier() or keyword.iskeyword(function):
        function = f"page_{function}"
    matches = map(_named_pattern(route.path).fullmatch, route.examples)
    found = [{name: unquote(value) for name, value in match.groupdict().items()} for match in matches if match]
    each = f", each={found!r}" if names else ""
    note = f"# {counted(route.requests, 'request')}, {route.crawled} of verified crawlers"
    return (
        f"{note}\n@hot.route({route.path!r}{each})\n"
        f"def {function}({', '.join(f'{name}: str' for name in names)}) -> object:\n"
        f'    raise NotImplementedError("return what the page shows: JSON, or str and bytes with media_type=")\n'
    )


def _named_pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"\{([^}]*)\}", path)
    texts = [re.escape(part) if place % 2 == 0 else f"(?P<{part}>[^/]+)" for place, part in enumerate(parts)]
    return re.compile("".join(texts))


def _burst(burst: Burst) -> BurstLine:
    return BurstLine(
        _time(burst.first_minute) or "",
        _time(burst.last_minute) or "",
        burst.errors,
        {str(status): count for status, count in burst.statuses.most_common()},
        dict(burst.crawlers.most_common()),
        tuple(burst.restarts),
    )


def _weight(burst: Burst) -> tuple[int, int]:
    return burst.crawlers.total(), burst.errors


def _time(minute: int | None) -> str | None:
    return None if minute is None else datetime.fromtimestamp(minute * 60, UTC).strftime("%Y-%m-%d %H:%M")


def _day(day: int) -> str:
    return datetime.fromtimestamp(day * 86_400, UTC).strftime("%Y-%m-%d")


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
