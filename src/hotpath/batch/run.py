"""The batch: run the declared routes in worker processes, check the results, publish all of them or nothing."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hotpath.batch.failures import FailureGroups
from hotpath.batch.item import ItemBuilder
from hotpath.batch.limits import ItemLimits
from hotpath.batch.packing import Packed, Packer
from hotpath.batch.plausibility import PPM
from hotpath.batch.pool import Outcome, run_items
from hotpath.batch.progress import Done, Progress, Silent
from hotpath.batch.reports import FAILED, PUBLISHED, QUARANTINED, last_run, write_run
from hotpath.batch.sqlite import one_view
from hotpath.batch.time_limit import time_limit
from hotpath.batch.verdict import check_run
from hotpath.errors import (
    BuildFailed,
    DeclarationError,
    HotpathError,
    Implausible,
    ItemError,
    NothingToRetry,
    StoreError,
)
from hotpath.options import check_between, counted, human_seconds, to_json
from hotpath.pages.policy import IMPORTED
from hotpath.pages.routes import PlannedItem
from hotpath.process.signals import uninterrupted
from hotpath.site import Hotpath
from hotpath.store.directories import VIEW_PREFIX
from hotpath.store.manifest import Item
from hotpath.store.publish import Published, Stage, staging

# A page in twenty may keep yesterday's bytes; more is no longer an accident. One page always may.
DEFAULT_MAX_FAILURES = 0.05

# Metrics that readers of a generation may want; all others are in the report of the run.
_IN_THE_MANIFEST = ("rows", "newest")

# All functions of each= together: a function that waits for a database for ever would hold the lock of the store,
# without a word.
EACH_SECONDS = 300.0

# Characters of a failed item's output kept in the report.
MAX_OUTPUT_CHARACTERS = 2000

# Characters of all failed items' problems and output kept in the report: where everything fails, they must not fill
# memory, log and disk. Above that each item is still named, with the beginning of its problem.
MAX_REPORT_CHARACTERS = 1_000_000
MAX_SHORT_CHARACTERS = 200

# Pages that a retry takes over must not look new for longer than those of a nightly batch.
RETRY_SECONDS = 24 * 3600

# Routes that one warning names.
MAX_NAMED_ROUTES = 3

# Building a page twice to see whether it is the same is not worth more than this.
TWICE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Report:
    """What a build did. ``seconds`` is wall time from the first function to the published pointer.

    ``failures`` are the items that failed; those in ``carried`` keep their last good bytes, the others are missing.
    ``peak_bytes`` is the most memory that a worker used. ``path`` is where the whole report is kept.
    """

    published: Published
    failures: tuple[ItemError, ...]
    carried: tuple[str, ...]
    warnings: tuple[str, ...]
    peak_bytes: int
    seconds: float
    path: Path | None

    def as_dict(self) -> dict[str, object]:
        """For ``--json``."""
        return {
            **to_json(self.published),
            "seconds": round(self.seconds, 3),
            "peak_bytes": self.peak_bytes,
            "failures": [failure_facts(error, self.carried) for error in self.failures],
            "failure_groups": grouped_facts(self.failures),
            "warnings": list(self.warnings),
            "report": to_json(self.path),
        }


def failure_facts(error: ItemError, carried: Sequence[str]) -> dict[str, object]:
    """One failed item as JSON has it."""
    return {
        "key": error.key,
        "problem": error.problem,
        "where": error.where,
        "path": error.path,
        "carried": error.key in carried,
    }


def grouped_facts(errors: Sequence[ItemError]) -> list[dict[str, object]]:
    """Failed items by their cause, as JSON has them: the first of each, and how many there are."""
    return [
        {"key": group.first.key, "problem": group.first.problem, "count": group.count}
        for group in FailureGroups(errors).groups()
    ]


def build(
    hot: Hotpath,
    progress: Progress | None = None,
    *,
    limits: ItemLimits | None = None,
    max_failures: float = DEFAULT_MAX_FAILURES,
    partial: bool = False,
    retry_failed: bool = False,
) -> Report:
    """Run every item of ``hot`` and publish the results as one generation.

    All items are run, also after one failed, so that one run names every failure. A failed item keeps its last good
    bytes and says since when they are stale. More than a share of ``max_failures`` (one is always allowed), an item of
    a ``critical`` route, or any on the first run: nothing is published. ``partial`` leaves items that failed and have
    no last good bytes to the app, and does not count them: on the first run that is all of them, so ``max_failures``
    says nothing there. Where nothing was built, nothing is published either. ``retry_failed`` runs only what failed in
    the last run and takes everything else over.

    Raises ``DeclarationError`` before anything is run, ``BuildFailed`` when too much failed and ``Implausible`` when
    the results are not like those of the last thirty days (nothing is published then), ``NothingToRetry``,
    ``StoreBusy``, ``StoreError``.
    """
    check_between(max_failures, "max_failures", 0, 1, "write a share from 0 to 1, 0.05 for one page in twenty")
    progress = progress or Silent()
    # A function of each= may read a database: it sees the same moment of it as the items.
    planned = None if any(callable(route.each) for route in hot.routes) else hot.plan()
    last_run(hot.store)  # raises where the run could not be compared in the end
    view = hot.store.root / f"{VIEW_PREFIX}{os.getpid()}"
    with staging(hot.store, hot.site_wide()) as stage, one_view(view):
        only, whole_time = _failed_before(hot) if retry_failed else (None, None)
        run = _Build(hot, stage, limits or ItemLimits(), progress, whole_time=whole_time)
        run.plan(planned)
        with _finishing(progress):
            run.build(only)
            return run.publish(max_failures, partial=partial)


@contextmanager
def _finishing(progress: Progress) -> Iterator[None]:
    """Leave the terminal in order, whatever ends the run."""
    try:
        yield
    finally:
        progress.finish()


def nothing_to_retry(hot: Hotpath) -> str | None:
    """Why ``retry_failed`` has nothing to do; ``None`` where it has, and where ``build`` has to say what is wrong."""
    try:
        _failed_before(hot)
    except NothingToRetry as reason:
        return str(reason)
    except (HotpathError, OSError):
        return None
    return None


def _failed_before(hot: Hotpath) -> tuple[set[str], int]:
    """What failed in the last run, and when everything was built last.

    Raises ``DeclarationError`` where that does not say what to retry, ``NothingToRetry`` where nothing failed.
    """
    run = last_run(hot.store)
    is_kept = run is not None and (run.get("outcome") == PUBLISHED or run.get("sequence") in hot.store.sequences())
    if run is None or not is_kept:
        what = "there was none" if run is None else f"that run was {run.get('outcome')} and none of its pages were kept"
        raise DeclarationError(f"--retry-failed takes over the last run, but {what}; run the whole batch")
    whole_time = int(run.get("whole_time", run["time"]))
    age = int(hot.store.clock()) - whole_time
    if age > RETRY_SECONDS:
        raise DeclarationError(
            f"--retry-failed takes over what was built {human_seconds(age)} ago; run the whole batch"
        )
    if run.get("sequence") in hot.store.bad():
        raise DeclarationError(
            f"--retry-failed takes over generation {run['sequence']}, which was rolled back from; run the whole batch"
        )
    if not run["failures"]:
        raise NothingToRetry("nothing failed in the last run, so nothing is retried and nothing published")
    return {failure["key"] for failure in run["failures"]}, whole_time


@dataclass(slots=True)
class _Build:
    """One run on its way from the plan to the report."""

    hot: Hotpath
    stage: Stage
    limits: ItemLimits
    progress: Progress
    planned: Sequence[PlannedItem] = ()
    started: float = field(default_factory=time.monotonic)
    failures: list[ItemError] = field(default_factory=list)
    carried: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    facts: dict[str, Packed] = field(default_factory=dict)
    packed: Packer = field(default_factory=Packer)
    outputs: dict[str, str] = field(default_factory=dict)
    report_characters: int = 0
    whole_time: int | None = None
    peak_bytes: int = 0

    def plan(self, planned: Sequence[PlannedItem] | None) -> None:
        """``planned``, or what the functions of ``each=`` say now. Raises ``BuildFailed`` where they cannot."""
        if planned is None:
            try:
                with time_limit(EACH_SECONDS):
                    planned = self.hot.plan()
            except (DeclarationError, TimeoutError) as error:
                self._keep({**self._record(), "outcome": FAILED, "reason": str(error)})
                raise BuildFailed([], 0, str(error)) from error
        self.planned = planned

    def build(self, only: set[str] | None) -> None:
        """Run every item, or take over what is not in ``only``."""
        wanted = []
        for item in self.planned:
            if only is not None and item.key not in only:
                kept = self.stage.carry(item.key, item.file, item.route.policy, stale=False)
                if kept is not None:
                    self._carry_facts(kept)
                    continue
            wanted.append(item)
        previous = self.stage.previous
        files = self.hot.store.files_path(previous.sequence) if previous else None
        builder = ItemBuilder(previous, files, self.stage.codings)
        self.progress.start(len(wanted))
        changed: dict[str, tuple[PlannedItem, bytes]] = {}
        for outcome in run_items(wanted, builder, self.limits, self.hot):
            digest = self._take(outcome)
            if digest is not None and outcome.seconds < TWICE_SECONDS:
                changed.setdefault(outcome.item.route.path.text, (outcome.item, digest))
            del outcome  # a large body is not held while the next one comes
        self._build_twice(ItemBuilder(previous, files), changed)

    def _take(self, outcome: Outcome) -> bytes | None:
        """Put one result into the stage; the digest of bytes that are not those of the generation before."""
        item, error, digest = outcome.item, outcome.error, None
        self.peak_bytes = max(self.peak_bytes, outcome.peak_bytes)
        length = 0
        carried = False
        built = outcome.built
        if built is not None:
            metrics = built.metrics or {}
            try:
                kept = {name: value for name, value in metrics.items() if name in _IN_THE_MANIFEST}
                added = self.stage.add(
                    item.key, item.file, built.body, item.route.policy, kept or None, encoded=built.encoded
                )
            except ItemError as refused:
                error = refused
            else:
                length = len(built.body)
                before = self.stage.previous.items.get(item.key) if self.stage.previous else None
                digest = None if before and before.digests[0] == added.digests[0] else added.digests[0]
                made = {"bytes": length, "ms": int(outcome.seconds * 1e3), "same": int(digest is None)}
                self.facts[item.key] = self.packed({**made, **metrics})
        if error is not None:
            error = self._keep_failure(item.key, error, outcome.output[-MAX_OUTPUT_CHARACTERS:])
            kept_item = self.stage.carry(item.key, item.file, item.route.policy)
            carried = kept_item is not None
            if kept_item is not None:
                self.carried.append(item.key)
                self._carry_facts(kept_item)
        output = self.outputs.get(item.key, "")
        self.progress.done(Done(item.key, length, error, carried, outcome.peak_bytes, output))
        return digest

    def _keep_failure(self, key: str, error: ItemError, output: str) -> ItemError:
        if self.report_characters > MAX_REPORT_CHARACTERS:
            problem, where, path = (
                text and text[:MAX_SHORT_CHARACTERS] for text in (error.problem, error.where, error.path)
            )
            error, output = ItemError(problem or "", key=key, where=where, path=path), ""
        self.report_characters += len(error.problem) + len(output)
        self.failures.append(error)
        if output:
            self.outputs[key] = output
        return error

    def _carry_facts(self, item: Item) -> None:
        self.facts[item.key] = self.packed({"bytes": item.identity.length, **(item.metrics or {}), "carried": 1})

    def _build_twice(self, builder: ItemBuilder, changed: Mapping[str, tuple[PlannedItem, bytes]]) -> None:
        """Warn of pages whose bytes differ each time, which are never a 304; one item of each route is enough."""
        items = {item.key: digest for item, digest in changed.values()}
        for again in run_items([item for item, _ in changed.values()], builder, self.limits, self.hot):
            if again.built is not None and hashlib.sha256(again.built.body).digest() != items[again.item.key]:
                self.warnings.append(
                    f"{again.item.key}: built twice, it is not the same; a time or a random value in the payload makes"
                    f" every client fetch it anew. generation and date are in the headers already"
                    f" ({again.item.route.where})"
                )

    def publish(self, max_failures: float, *, partial: bool) -> Report:
        """Check the results, then publish them."""
        record = self._record()
        reason = self._too_many(max_failures, partial)
        if reason:
            self._keep({**record, "outcome": FAILED, "reason": reason})
            raise BuildFailed(self.failures, len(self.planned), reason)
        self.warnings += self._no_longer_declared()
        verdict = check_run(self.hot.store, record)
        self.warnings += verdict.warnings
        record["findings"] = verdict.findings
        with uninterrupted():  # what is published is in the history too
            try:
                published = self.stage.publish(problems=verdict.problems)
            except Implausible as error:
                self._keep({**record, "sequence": error.sequence, "outcome": QUARANTINED})
                raise
            path = self._keep({**record, "sequence": published.generation, "outcome": PUBLISHED})
        return Report(
            published,
            tuple(self.failures),
            tuple(self.carried),
            (*published.warnings, *self.warnings),
            self.peak_bytes,
            time.monotonic() - self.started,
            path,
        )

    def _no_longer_declared(self) -> list[str]:
        """A warning: routes may be removed on purpose, but two ``Hotpath`` objects with one store are a mistake."""
        previous, declared = self.stage.previous, {route.path.text for route in self.hot.routes}
        gone = sorted({policy.route for policy in previous.head.policies} - declared) if previous else []
        if previous and IMPORTED in gone:
            pages = counted(len(previous.items), "page")
            warning = (
                f"generation {previous.sequence} was imported, and its {pages} are replaced by what is declared here;"
                " where that is not meant, give imports a store of their own ('hotpath rollback' brings them back)"
            )
            return [warning]
        if not gone:
            return []
        named = ", ".join(map(repr, gone[:MAX_NAMED_ROUTES])) + " …" * (len(gone) > MAX_NAMED_ROUTES)
        warning = (
            f"{named}: built last time and declared no more, so the app answers; where that is not meant, is there"
            " another Hotpath object with this store? each needs a store of its own"
        )
        return [warning]

    def _too_many(self, max_failures: float, partial: bool) -> str | None:
        """Why nothing is published, where too much failed."""
        failed, total = len(self.failures), len(self.planned)
        if not failed:
            return None
        critical = {item.key for item in self.planned if item.route.expects.critical}
        hit = [error.key for error in self.failures if error.key in critical]
        if hit:
            return f"{hit[0]} belongs to a route that is critical=True"
        if failed == total:
            return "nothing was built at all"
        lost = failed - len(self.carried)
        if self.stage.previous is None and not partial:
            return (
                "this is the first run, so there are no last good bytes to keep (max_failures has no effect here);"
                f" --partial publishes the {total - failed:,} that could be built, and the app answers for the others"
            )
        counts = len(self.carried) if partial else failed
        if counts > max(1.0, max_failures * total) or (counts and not max_failures):
            hint = f"; --partial leaves those without last good bytes to the app: {lost:,}" if lost > 0 else ""
            return f"that is more than may fail (max_failures={max_failures:g}){'' if partial else hint}"
        return None

    def _record(self) -> dict[str, Any]:
        """The report of the run: see ``reports``."""
        routes: dict[str, dict[str, int]] = {}
        for item in self.planned:
            counts = routes.setdefault(item.route.path.text, dict.fromkeys(("items", "rows", "bytes", "ms", "same"), 0))
            facts = self.facts.get(item.key)
            if facts is not None:
                counts["items"] += 1
                for name in ("rows", "bytes", "ms", "same"):
                    counts[name] += facts.get(name, 0)
        for counts in routes.values():
            counts["unchanged"] = counts.pop("same") * PPM // max(counts["items"], 1)
        return {
            "sequence": self.hot.store.next_sequence(),
            "time": self.stage.now,
            # When everything was built last: what a retry takes over is not new.
            "whole_time": self.whole_time or self.stage.now,
            "seconds": round(time.monotonic() - self.started, 3),
            "peak_bytes": self.peak_bytes,
            "total": len(self.planned),
            "failures": [
                failure_facts(error, self.carried) | {"output": self.outputs.get(error.key or "", "")}
                for error in self.failures
            ],
            "failure_groups": grouped_facts(self.failures),
            "warnings": list(self.warnings),
            "routes": routes,
            "items": self.facts,
        }

    def _keep(self, record: dict[str, Any]) -> Path | None:
        """Write the report; a failure is a warning, since what is served does not depend on it."""
        try:
            return write_run(self.hot.store, record)
        except (OSError, StoreError) as error:
            self.warnings.append(f"the report of this run could not be kept: {error}")
            return None
