"""Whether what a run has built is plausible beside the runs that were accepted before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from hotpath.batch.forecast import DAY
from hotpath.batch.packing import Packer
from hotpath.batch.plausibility import Deviation, Metrics, Run, deviations
from hotpath.batch.reports import PUBLISHED, QUARANTINED, newest_runs
from hotpath.batch.rules import Rules
from hotpath.errors import IsolatedFailure, StoreError
from hotpath.pages.keys import Template, matches_path, parse_path_template
from hotpath.process.fork import run_isolated
from hotpath.store.history import read_history
from hotpath.store.store import Store

# Comparing ten thousand items with thirty nights takes seconds. With more items only the newest runs are compared item
# by item, and their routes with all.
MAX_ITEMS_WITH_HISTORY = 10_000

# Failures kept, and as many warnings: nobody reads more, and a column that is lost in each of ten thousand items is a
# hundred thousand.
MAX_FINDINGS = 500

# Before the path of a route where that is the subject; an item's begins with a slash.
_ROUTE = "route "

COMPARISON_SECONDS = 300.0
COMPARISON_MEMORY_BYTES = 1024 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Verdict:
    """``problems`` keep a run from being published, ``warnings`` do not; ``findings`` are both, as JSON has them."""

    problems: Sequence[str] = ()
    warnings: Sequence[str] = ()
    findings: Sequence[Mapping[str, Any]] = ()


def check_run(store: Store, record: Mapping[str, Any], rules: Rules | None = None) -> Verdict:
    """Compare a run, as ``reports`` has it, with the accepted runs, in a process of its own.

    A comparison that fails is a problem too: an unchecked run is not plausible.
    """
    rules = rules or Rules()

    def compare() -> list[tuple[list[dict[str, Any]], int]]:
        failures: list[dict[str, Any]] = []
        warnings: list[dict[str, Any]] = []
        counts = Counter[bool]()
        routes = {_subject(route) for route in record["routes"]}
        for finding in deviations(_run_of(record), accepted_runs(store, record["time"], rules), rules):
            kept = failures if finding.fails else warnings
            counts[finding.fails] += 1
            if len(kept) < MAX_FINDINGS or finding.subject in routes:
                kept.append(asdict(finding))
        return [(failures, counts[True]), (warnings, counts[False])]

    try:
        kept_of_each = run_isolated(compare, timeout_seconds=COMPARISON_SECONDS, memory_bytes=COMPARISON_MEMORY_BYTES)
    except IsolatedFailure as failure:
        return Verdict(problems=[f"the comparison with earlier runs {failure}"])
    problems, warnings = (_texts(kept, count) for kept, count in kept_of_each)
    return Verdict(problems, warnings, [facts for kept, _ in kept_of_each for facts in kept])


def _texts(kept: Sequence[Mapping[str, Any]], count: int) -> list[str]:
    more = [f"and {count - len(kept):,} more like these"] if count > len(kept) else []
    return [str(Deviation(**facts)) for facts in kept] + more


def accepted_runs(store: Store, at: int, rules: Rules) -> list[Run]:
    """The runs that a run at ``at`` is compared with, the newest first: published or approved, not rolled back from,
    not older than the window.

    An approval says that what was out of line is right from then on: the runs before it come without those metrics of
    those routes, and with all others.
    """
    bad, approved = store.bad(), _approved(store)
    runs: list[Run] = []
    packed = Packer()
    rebased = _Rebased()
    for record in newest_runs(store):
        # Also where an older one comes later: a clock that was wrong for one run hides no other.
        if not at - rules.window_days * DAY <= record["time"] <= at + DAY:
            continue
        sequence, outcome = record.get("sequence"), record.get("outcome")
        is_approved = outcome == QUARANTINED and sequence in approved
        if sequence in bad or not (outcome == PUBLISHED or is_approved):
            continue
        many = len(record.get("items", ())) > MAX_ITEMS_WITH_HISTORY
        run = _run_of(record, with_items=not many or len(runs) < rules.cold_runs)
        runs.append(replace(run, subjects={key: packed(rebased.without(key, run)) for key in run.subjects}))
        if is_approved:
            rebased.add(record)
    return runs


class _Rebased:
    """The metrics that were out of line in approved runs, by route: the findings of a run name some of its items."""

    def __init__(self) -> None:
        self._metrics: dict[str, set[str]] = {}
        self._templates: dict[str, Template] = {}

    def add(self, record: Mapping[str, Any]) -> None:
        self._templates |= {route: parse_path_template(route) for route in record["routes"]}
        for finding in record.get("findings", ()):
            route = self._route(finding["subject"])
            if route is not None:
                self._metrics.setdefault(route, set()).add(finding["metric"])

    def without(self, subject: str, run: Run) -> Metrics:
        """The metrics of ``subject`` in a run before those that were approved."""
        facts = run.subjects[subject]
        route = self._route(subject) if self._metrics else None
        gone = self._metrics.get(route, ()) if route is not None else ()
        return {name: value for name, value in facts.items() if name not in gone} if gone else facts

    def _route(self, subject: str) -> str | None:
        if subject.startswith(_ROUTE):
            return subject.removeprefix(_ROUTE)
        path = subject.partition("?")[0]
        return next((route for route, template in self._templates.items() if matches_path(template, path)), None)


def _run_of(record: Mapping[str, Any], *, with_items: bool = True) -> Run:
    routes = {_subject(route): counts for route, counts in record["routes"].items()}
    if not with_items:
        return Run(record["time"], routes)
    # What was carried forward was not made in this run.
    items: dict[str, Metrics] = {key: facts for key, facts in record["items"].items() if "carried" not in facts}
    carried = frozenset(record["items"]) - items.keys()
    return Run(record["time"], items | routes, _Kept(carried, tuple(map(parse_path_template, record["routes"]))))


def _subject(route: str) -> str:
    return f"{_ROUTE}{route}"


@dataclass(frozen=True, slots=True)
class _Kept:
    """Pages that a run did not make and has not lost: those carried forward, and those whose route is declared no more.

    A route is removed from the code on purpose; a page that a declared route no longer has may be lost.
    """

    carried: frozenset[str]
    declared: tuple[Template, ...]

    def __contains__(self, subject: object) -> bool:
        path = str(subject).partition("?")[0]
        return subject in self.carried or not any(matches_path(template, path) for template in self.declared)


def _approved(store: Store) -> set[int]:
    try:
        return {event["sequence"] for event in read_history(store) if event.get("event") == "approve"}
    except (OSError, StoreError):
        return set()
