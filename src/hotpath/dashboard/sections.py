"""The sections of the page, each by its id, made of the facts. Values in, markup out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Final

from hotpath.dashboard.facts import PageLine, StatusFacts
from hotpath.dashboard.markup import Child, Markup, join, table, tag
from hotpath.dashboard.memory_plot import memory_plot
from hotpath.dashboard.plot import Plot, draw
from hotpath.dashboard.plots import (
    DAY,
    HOUR,
    age_plot,
    crawl_plot,
    latency_plot,
    moment,
    run_plots,
    share_plot,
)
from hotpath.dashboard.waiting import Notice, headline, notices
from hotpath.options import counted, human_bytes, human_seconds

# Where alerts are sent, for plots of memory whose guard is not known here.
ALERT_MARKS: Final = {"alert": 0.80, "urgent": 0.90}
MAX_PAGES: Final = 25
MAX_EVENTS: Final = 40
MAX_BURSTS: Final = 10


def sections(facts: StatusFacts) -> dict[str, Markup]:
    """The inside of each section. What changes with each second is in none of them."""
    waiting = notices(facts)
    parts: Mapping[str, Callable[[], Markup]] = {
        "headline": lambda: _headline(facts, waiting),
        "now": lambda: _now(facts),
        "waiting": lambda: _waiting(waiting),
        "memory": lambda: _memory(facts),
        "runs": lambda: _runs(facts),
        "requests": lambda: _requests(facts),
        "crawlers": lambda: _crawlers(facts),
        "generations": lambda: _generations(facts),
        "quarantine": lambda: _quarantine(facts),
        "pages": lambda: _pages(facts),
        "history": lambda: _history(facts),
        "notes": lambda: _notes(facts),
    }
    return {name: make() for name, make in parts.items()}


def _headline(facts: StatusFacts, waiting: list[Notice]) -> Markup:
    title, level = headline(facts, waiting)
    return join(
        [
            tag("h1", tag("span", class_=f"lamp {level}", aria_hidden="true"), title),
            tag("p", tag("code", facts.target), class_="where"),
        ]
    )


def _now(facts: StatusFacts) -> Markup:
    tiles = [*_hot_tiles(facts), *_guard_tile(facts), *_app_tile(facts), *_run_tile(facts)]
    return join([tag("h2", "Now", class_="hidden"), tag("dl", tiles, class_="tiles")])


def _tile(name: str, value: Child, detail: Child, level: str = "") -> Markup:
    return tag(
        "div", tag("dt", name), tag("dd", value, class_="value"), tag("dd", detail), class_=f"tile {level}".strip()
    )


def _hot_tiles(facts: StatusFacts) -> Iterable[Markup]:
    store, live = facts.store, facts.live
    hot = live.pages if live is not None else store.hot
    of = max(store.declared, hot)
    generation = live.generation if live is not None else store.serving
    detail = "nothing is published" if generation is None else f"generation {generation}"
    if store.pinned is not None and generation is not None:
        detail += ", pinned"
    if store.stale:
        detail += f", {store.stale:,} stale"
    if live is not None and live.corrupt:
        detail += f", {counted(live.corrupt, 'damaged file')} met"
    level = "bad" if not hot else "warn" if store.degraded or hot < of else "good"
    yield _tile("Hot pages", [f"{hot:,}", tag("small", f" of {of:,}")] if of else "0", detail, level)
    if store.created is not None:
        age = max(0, int(facts.at) - store.created)
        is_late = store.lifetime is not None and age > store.lifetime
        lives = f"made {moment(store.created)} UTC"
        yield _tile("Age", human_seconds(age // 60 * 60), lives, "warn" if is_late else "good")


def _guard_tile(facts: StatusFacts) -> Iterable[Markup]:
    guard = facts.guard
    if guard is not None:
        level = {"NORMAL": "good", "TRIM": "note"}.get(guard.state, "warn")
        used = "nothing read yet"
        if guard.used is not None and guard.limit is not None:
            used = f"{human_bytes(guard.used)} of {human_bytes(guard.limit)}"
        more = [f"{guard.shed:,} refused"] if guard.shed else []
        more += [f"replaced {guard.recycles:,} times"] if guard.recycles else []
        more += [counted(guard.workers, "worker")] if guard.workers > 1 else []
        yield _tile("Memory guard", guard.state, ", ".join([used, *more]), level)
    elif facts.memory:
        last = facts.memory[-1]
        age = int(facts.at - last.time)
        since = "" if age < 180 else f", {human_seconds(age)} ago"
        share = f"{last.used / last.limit:.0%}"
        text = f"{human_bytes(last.used)} of {human_bytes(last.limit)}{since}"
        yield _tile("Memory", share, f"{text}, {last.state}" if last.state else text, _memory_level(last.state))


def _memory_level(state: str) -> str:
    return {"SHED": "warn", "BRAKE": "warn", "DRAIN": "warn", "BLIND": "warn", "down": "warn"}.get(state, "good")


def _app_tile(facts: StatusFacts) -> Iterable[Markup]:
    app = facts.app
    if app is not None:
        state, level = ("up", "good") if app.is_up else ("down", "warn")
        if app.is_paused:
            state, level = "paused", "warn"
        waits = f", {app.held:,} held" if app.held else ""
        begun = f", started again {app.restarts:,} times" if app.restarts else ""
        yield _tile("App", state, f"{app.in_flight:,} in flight{waits}{begun}", level)


def _run_tile(facts: StatusFacts) -> Iterable[Markup]:
    if facts.store.runs:
        last = facts.store.runs[-1]
        failed = f", {last.failures:,} failed" if last.failures else ""
        detail = f"{last.total:,} items{failed}, {moment(last.time)} UTC"
        yield _tile("Last batch", last.outcome, detail, "good" if last.is_accepted else "warn")


def _waiting(waiting: list[Notice]) -> Markup:
    if not waiting:
        return join([tag("h2", "What waits for you"), tag("p", "Nothing.", class_="empty")])
    return join([tag("h2", "What waits for you"), tag("ul", [_notice(notice) for notice in waiting], class_="notices")])


def _notice(notice: Notice) -> Markup:
    words = {"bad": "Urgent", "warn": "To do", "note": "For your information"}
    return tag(
        "li",
        tag("h3", tag("span", f"{words[notice.level]}: ", class_="hidden"), notice.title),
        [tag("p", detail) for detail in notice.details if detail],
        [_command(command) for command in notice.commands],
        class_=notice.level,
    )


def _command(command: str) -> Markup:
    return tag("div", tag("code", command), class_="command")


def _memory(facts: StatusFacts) -> Markup:
    marks = facts.guard.marks if facts.guard is not None else ALERT_MARKS
    plots = [memory_plot("memory-hour", "Memory, the last hour", facts.memory, facts.at - HOUR, facts.at, marks)]
    if facts.memory and facts.memory[0].time < facts.at - HOUR:
        start = max(facts.at - 7 * DAY, facts.memory[0].time)
        title = f"Memory, the last {human_seconds(round((facts.at - start) / HOUR) * 3600).replace(' d', ' days')}"
        plots.append(memory_plot("memory-week", title, facts.memory, start, facts.at, marks))
    nothing = (
        "Nothing has measured it yet. Mount this page in the app, hotpath.dashboard.Dashboard(hot=hot, guard=guard), or"
        " run the app by hotpath serve --admin: memory over time is then kept in the store."
    )
    return _figures("Memory", plots, nothing)


def _runs(facts: StatusFacts) -> Markup:
    plots = run_plots(facts.store.runs)
    refused = [run for run in facts.store.runs if not run.is_accepted and (run.problems or run.failed)]
    found = _figures("The last runs of the batch", plots, "No run has left a report here yet.")
    if not refused:
        return found
    rows = [
        (
            moment(run.time),
            str(run.sequence),
            run.outcome,
            _listed([*run.problems, *(f"{k}: {p}" for k, p in run.failed)]),
        )
        for run in reversed(refused[-10:])
    ]
    return join(
        [
            found,
            tag("h3", "Why runs were refused"),
            table(("Run (UTC)", "Generation", "Outcome", "Why"), rows, "Refused runs"),
        ]
    )


def _listed(lines: Iterable[str]) -> Markup:
    return tag("ul", [tag("li", line) for line in islice(lines, 6)], class_="plain")


def _requests(facts: StatusFacts) -> Markup:
    plots = [share_plot(facts.minutes, facts.at), latency_plot(facts.minutes, facts.at)]
    nothing = (
        "Requests are counted in the process that answers them: see this page on the admin port of hotpath serve, or"
        " mounted in the app with HotpathMiddleware(app, hot=hot, observe=dashboard.observe)."
    )
    found = _figures("Requests", plots, nothing)
    if facts.live is None or not facts.live.answers:
        return found
    routes: dict[str, dict[str, int]] = {}
    for (route, result), count in facts.live.answers.items():
        routes.setdefault(route, {})[result] = count
    results = ("hit", "not_modified", "redirect", "refused")
    ordered = sorted(routes.items(), key=lambda item: -sum(item[1].values()))[:MAX_PAGES]
    rows = [(tag("code", route), *(f"{counts.get(result, 0):,}" for result in results)) for route, counts in ordered]
    heads = ("Route", "200", "304", "308", "406, 412, 416")
    return join([found, tag("h3", "Hot answers of this process by route"), table(heads, rows, "Hot answers by route")])


def _generations(facts: StatusFacts) -> Markup:
    found = _figures("Generations", [age_plot(facts.store, facts.at)], "No generation is on disk that can be read.")
    broken = [(str(each.sequence), each.problem or "") for each in facts.store.generations if each.problem]
    if not broken:
        return found
    return join([found, tag("h3", "Cannot be read"), table(("Generation", "Problem"), broken, "Damaged generations")])


def _quarantine(facts: StatusFacts) -> Markup:
    held = facts.store.held_back
    if not held:
        return join([tag("h2", "Quarantine"), tag("p", "Empty.", class_="empty")])
    parts = []
    for each in held:
        release = f"hotpath approve {facts.target} {each.sequence} --reason 'why it is right'"
        parts += [
            tag("h3", f"Generation {each.sequence}"),
            tag("ul", [tag("li", problem) for problem in each.problems], class_="problems"),
            _command(release)
            if each.can_be_approved
            else tag("p", "A newer generation was accepted since; this one can be released no more.", class_="empty"),
        ]
    return join([tag("h2", "Quarantine"), *parts])


def _pages(facts: StatusFacts) -> Markup:
    changes = {line.key: line.changed for line in facts.store.pages}
    live = facts.live.hits if facts.live is not None else ()
    if live:
        title, lines = "Hot pages by hits", list(live)
        note = "Hits of this process since it started, of the pages in its memory."
    else:
        title, lines = "Hot pages by size", sorted(facts.store.pages, key=lambda line: line.bytes, reverse=True)
        note = "Hits are known where the page is served: mounted in the app, or on the admin port of hotpath serve."
    if not lines:
        return join([tag("h2", "Hot pages"), tag("p", "None.", class_="empty")])
    rows = [_page_row(line, changes.get(line.key, line.changed)) for line in lines[:MAX_PAGES]]
    more = f" The first {len(rows):,} of {facts.store.hot:,}." if facts.store.hot > len(rows) else ""
    whole = table(("Page", "Hits", "Bytes", "Last change (UTC)"), rows, title)
    return join([tag("h2", title), whole, tag("p", note + more, class_="empty")])


def _page_row(line: PageLine, changed: int) -> tuple[Child, ...]:
    hits = "–" if line.hits is None else f"{line.hits:,}"
    stale = tag("span", " stale", class_="tag") if line.is_stale else None
    return [tag("code", line.key), stale], hits, human_bytes(line.bytes), moment(changed) if changed > 0 else "–"


def _crawlers(facts: StatusFacts) -> Markup:
    log = facts.log
    if log is None:
        nothing = "No access log was given: hotpath dashboard STORE --log /var/log/nginx/access.log reads one."
        return join([tag("h2", "Crawlers"), tag("p", nothing, class_="empty")])
    days: dict[str, tuple[int, int]] = {}
    for line in log.crawls:
        for name, figures in line.days.items() if line.verified else ():
            asked, wrong = days.get(name, (0, 0))
            days[name] = (asked + figures["requests"], wrong + figures["5xx"] + figures["reset"])
    found = _figures("Crawlers", [crawl_plot(days)], "No verified crawler is in the log.")
    rows = [
        (
            f"{line.crawler}{'' if line.verified else ' (only claimed)'}",
            f"{line.requests:,}",
            *(f"{count:,}" for count in line.classes.values()),
            f"{line.error_share:.2%}",
        )
        for line in log.crawls[:MAX_PAGES]
    ]
    heads = ("Crawler", "Requests", "2xx", "3xx", "4xx", "5xx", "No answer", "Errors")
    parts: list[Child] = [found, table(heads, rows, f"Crawlers, the last {counted(log.days, 'day')}")]
    if log.damage:
        bursts = [
            (each.first, each.last, f"{each.errors:,}", ", ".join(f"{n:,} × {s}" for s, n in each.statuses.items()),
             ", ".join(f"{n:,} of {who}" for who, n in each.crawlers.items()) or "–")
            for each in log.damage[:MAX_BURSTS]
        ]  # fmt: skip
        parts += [
            tag("h3", "Errors that came together"),
            table(("First (UTC)", "Last", "Errors", "Which", "Crawlers"), bursts, "Bursts of errors"),
        ]
    return join(parts)


def _history(facts: StatusFacts) -> Markup:
    events = facts.store.events[:MAX_EVENTS]
    if not events:
        return join([tag("h2", "History"), tag("p", "Nothing has happened yet.", class_="empty")])
    rows = [(moment(event.time), event.kind, event.text) for event in events]
    whole = table(
        ("Time (UTC)", "What", "Details"), rows, "Publishing, alerts, purges and recoveries, the newest first"
    )
    return join([tag("h2", "History"), whole])


def _notes(facts: StatusFacts) -> Markup:
    notes = [*facts.notes, *facts.store.notes]
    if not notes:
        return Markup("")
    return join([tag("h2", "What could not be read"), tag("ul", [tag("li", note) for note in notes])])


def _figures(title: str, plots: Iterable[Plot | None], nothing: str) -> Markup:
    drawn = [draw(plot) for plot in plots if plot is not None]
    inside = tag("div", drawn, class_="figures") if drawn else tag("p", nothing, class_="empty")
    return join([tag("h2", title), inside])
