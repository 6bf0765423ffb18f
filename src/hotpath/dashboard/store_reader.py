"""The store as the page shows it, read without a lock: whatever cannot be read is a note, and the rest stays."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson

from hotpath.batch.reports import read_run, run_paths
from hotpath.dashboard.facts import (
    BatchRun,
    HeldBack,
    OpenAlert,
    PageLine,
    PastEvent,
    StoredGeneration,
    StoreFacts,
)
from hotpath.dashboard.redaction import Redaction
from hotpath.dashboard.runs import run_of, with_expectations
from hotpath.errors import HotpathError, NothingPublished
from hotpath.ops.alerts.sent import Open, alerts_path, read_open
from hotpath.ops.recovery.journal import BEGIN, END, FAILED, Journal, JournalEntry
from hotpath.ops.status import FollowStatus, followed
from hotpath.store.damage import find_edited
from hotpath.store.manifest import Head, decode_head, decode_item, item_lines
from hotpath.store.quarantine import problems_of
from hotpath.store.store import Store

# A file of more bytes is looked at from its end.
MAX_TAIL: Final = 2 * 1024 * 1024
# Pages of a generation that are kept by size, and as many of the newest and of the hits.
MAX_PAGES: Final = 50
MAX_EVENTS: Final = 60
MAX_NOTES: Final = 20
# Each file of the generation is looked at: 10,000 pages take a tenth of a second.
DAMAGE_SECONDS: Final = 300.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Pages:
    """Of a generation: the largest pages and those that changed last, with when they expire; how many expire when."""

    lines: tuple[tuple[PageLine, int], ...] = ()
    expiries: Mapping[int, int] = field(default_factory=dict)
    lifetime: int | None = None

    @property
    def count(self) -> int:
        return sum(self.expiries.values())

    def stale(self, now: float) -> int:
        return sum(count for expires, count in self.expiries.items() if expires < now)

    def lines_at(self, now: float) -> tuple[PageLine, ...]:
        return tuple(replace(line, is_stale=expires < now) for line, expires in self.lines)


def _read_pages(store: Store, sequence: int) -> _Pages:
    path = store.manifest_path(sequence)
    data = store.disk.read(path)
    head = decode_head(data, str(path))
    lines = []
    for line in item_lines(data):
        item = decode_item(head, line, str(path))
        since = head.created if item.stale_since is None else item.stale_since
        shown = PageLine(item.key, item.identity.length, item.last_modified)
        lines.append((shown, since + item.policy.lifetime_seconds))
    largest = sorted(lines, key=lambda pair: pair[0].bytes, reverse=True)[:MAX_PAGES]
    newest = sorted(lines, key=lambda pair: pair[0].changed, reverse=True)[:MAX_PAGES]
    kept = tuple({pair[0].key: pair for pair in (*largest, *newest)}.values())
    lifetime = min((policy.lifetime_seconds for policy in head.policies), default=None)
    return _Pages(kept, Counter(expires for _, expires in lines), lifetime)


class StoreReader:
    """Reads a store again and again; what never changes, generations and reports, is read once."""

    def __init__(self, store: Store, redact: Redaction, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._redact = redact
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._runs: dict[Path, BatchRun | str] = {}
        self._heads: dict[int, Head | str] = {}
        self._pages: tuple[int, _Pages] | None = None
        self._expected: tuple[object, tuple[BatchRun, ...]] | None = None
        self._tails: dict[Path, tuple[object, list[dict[str, Any]], int]] = {}
        self._damages: tuple[str, ...] = ()
        self._damages_of: int | None = None
        self._damages_at = float("-inf")

    def read(self) -> StoreFacts:
        """How it is now. Raises nothing for what is wrong with it."""
        with self._lock:
            notes: list[str] = []
            try:
                facts = self._read(notes)
            except (HotpathError, OSError, ValueError, RecursionError) as error:
                facts = StoreFacts(str(self._store.root), degraded=self._redact.text(str(error)))
            shown = [self._redact.text(note) for note in notes[:MAX_NOTES]]
            more = [f"and {len(notes) - MAX_NOTES} more parts"] if len(notes) > MAX_NOTES else []
            return replace(facts, notes=(*shown, *more))

    def _read(self, notes: list[str]) -> StoreFacts:
        store = self._store
        now = store.clock()
        serving, degraded = self._choose()
        pin = self._try(notes, lambda: store.pointer(store.pin_path), None)
        bad = self._try(notes, store.bad, dict[int, str]())
        sequences = self._try(notes, store.sequences, list[int]())
        history = self._lines(store.history_path, notes)
        self._heads = {sequence: head for sequence, head in self._heads.items() if sequence in sequences}
        accepted = [sequence for sequence in sequences if sequence not in bad]
        pages = self._pages_of(serving, notes)
        runs = self._read_runs(history, bad, notes)
        head = self._head(serving) if serving is not None else None
        return StoreFacts(
            root=str(store.root),
            serving=serving,
            created=head.created if isinstance(head, Head) else None,
            pinned=pin.sequence if pin is not None else None,
            newest=max(accepted, default=None),
            degraded=self._redact.text(degraded) if degraded else None,
            hot=pages.count,
            declared=max(pages.count, runs[-1].total if runs else 0),
            stale=pages.stale(now),
            lifetime=pages.lifetime,
            generations=tuple(self._generation(sequence, serving, bad) for sequence in sequences),
            held_back=tuple(self._held_back(accepted, notes)),
            runs=runs,
            pages=pages.lines_at(now),
            events=self._events(history, notes),
            alerts=self._open_alerts(notes),
            damages=self._find_damages(serving),
            open_recovery=self._open_recovery(notes),
            origin=self._origin(),
        )

    def _origin(self) -> FollowStatus | None:
        status = followed(self._store)
        if status is None or status.error is None:
            return status
        return replace(status, error=self._redact.text(status.error))

    def _choose(self) -> tuple[int | None, str | None]:
        try:
            choice = self._store.choose()
        except NothingPublished as error:
            return None, error.problem
        except (HotpathError, OSError) as error:
            return None, str(error)
        os.close(choice.descriptor)
        return choice.sequence, choice.degraded

    def _try(self, notes: list[str], read: Callable[[], T], otherwise: T) -> T:
        try:
            return read()
        except (HotpathError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            notes.append(str(error) or type(error).__name__)
            return otherwise

    # Generations

    def _head(self, sequence: int) -> Head | str:
        if sequence not in self._heads:
            path = self._store.manifest_path(sequence)
            try:
                self._heads[sequence] = decode_head(self._store.disk.read(path), str(path))
            except (HotpathError, OSError) as error:
                self._heads.pop(sequence, None)
                return str(error)
        return self._heads[sequence]

    def _generation(self, sequence: int, serving: int | None, bad: dict[int, str]) -> StoredGeneration:
        head = self._head(sequence)
        reason = self._redact.text(bad[sequence]) if sequence in bad else None
        if isinstance(head, str):
            return StoredGeneration(sequence, None, sequence == serving, reason, self._redact.text(head))
        return StoredGeneration(sequence, head.created, sequence == serving, reason)

    def _pages_of(self, serving: int | None, notes: list[str]) -> _Pages:
        if serving is None:
            return _Pages()
        if self._pages is None or self._pages[0] != serving:
            pages = self._try(notes, lambda: _read_pages(self._store, serving), None)
            if pages is None:
                return _Pages()
            self._pages = serving, pages
        return self._pages[1]

    def _held_back(self, accepted: list[int], notes: list[str]) -> Iterator[HeldBack]:
        newest = max(accepted, default=0)
        for sequence in reversed(self._try(notes, self._store.quarantined, list[int]())):
            try:
                problems = problems_of(self._store, sequence)
            except HotpathError as error:
                problems = [str(error)]
            shown = tuple(self._redact.text(problem) for problem in problems[:20])
            more = (f"and {len(problems) - 20:,} more",) if len(problems) > 20 else ()
            yield HeldBack(sequence, (*shown, *more), sequence > newest)

    def _find_damages(self, serving: int | None) -> tuple[str, ...]:
        if serving is None:
            return ()
        if self._damages_of != serving or self._monotonic() >= self._damages_at + DAMAGE_SECONDS:
            store = self._store
            found = find_edited(store.disk, store.generation_path(serving), serving)
            self._damages = tuple(self._redact.text(str(damage)) for damage in found)
            self._damages_of, self._damages_at = serving, self._monotonic()
        return self._damages

    # Runs

    def _read_runs(self, history: list[dict[str, Any]], bad: dict[int, str], notes: list[str]) -> tuple[BatchRun, ...]:
        paths = self._try(notes, lambda: run_paths(self._store), list[Path]())
        self._runs = {path: self._runs[path] if path in self._runs else self._run(path) for path in paths}
        notes += [run for run in self._runs.values() if isinstance(run, str)]
        runs = [run for run in self._runs.values() if not isinstance(run, str)]
        approved = {event.get("sequence") for event in history if event.get("event") == "approve"}
        key = (tuple(paths), frozenset(map(str, approved)), frozenset(bad))
        if self._expected is None or self._expected[0] != key:
            numbers = {number for number in approved if isinstance(number, int)}
            self._expected = key, with_expectations(runs, approved=numbers, bad=bad)
        return self._expected[1]

    def _run(self, path: Path) -> BatchRun | str:
        try:
            record = read_run(self._store, path)
            if record is None:
                return f"runs/{path.name}: it is half written or damaged, and left out"
            return run_of(self._redact({name: part for name, part in record.items() if name != "items"}))
        except (HotpathError, OSError) as error:
            return str(error)
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            return f"runs/{path.name}: it makes no sense ({type(error).__name__}), and is left out"

    # What happened

    def _events(self, history: list[dict[str, Any]], notes: list[str]) -> tuple[PastEvent, ...]:
        events = [
            *self._made(history, _of_store),
            *self._made(self._lines(alerts_path(self._store), notes), _of_alert),
            *self._made(self._lines(Journal(self._store).path, notes), _of_recovery),
        ]
        return tuple(sorted(events, key=lambda event: event.time, reverse=True)[:MAX_EVENTS])

    def _made(
        self, records: list[dict[str, Any]], make: Callable[[dict[str, Any]], PastEvent | None]
    ) -> list[PastEvent]:
        events = []
        for record in records[-MAX_EVENTS * 2 :]:
            try:
                event = make(record)
            except (KeyError, TypeError, ValueError):
                continue
            if event is not None and 0 < event.time < 1e11:
                events.append(event)
        return events

    def _lines(self, path: Path, notes: list[str]) -> list[dict[str, Any]]:
        """The last JSON lines of a file that only grows; read again where it has grown."""
        try:
            descriptor = self._store.disk.open_regular(path)
        except FileNotFoundError:
            return []
        except (HotpathError, OSError) as error:
            notes.append(f"{path.name}: {error}")
            return []
        with os.fdopen(descriptor, "rb") as file:
            state = os.fstat(descriptor)
            signature = (state.st_ino, state.st_size, state.st_mtime_ns)
            if path not in self._tails or self._tails[path][0] != signature:
                file.seek(max(0, state.st_size - MAX_TAIL))
                self._tails[path] = signature, *self._parse(file.read(MAX_TAIL), is_whole=state.st_size <= MAX_TAIL)
        _, records, bad = self._tails[path]
        if bad:
            notes.append(f"{path.name}: {bad} of its lines cannot be read and are left out")
        return records

    def _parse(self, content: bytes, *, is_whole: bool) -> tuple[list[dict[str, Any]], int]:
        records, bad = [], 0
        for line in content.splitlines()[0 if is_whole else 1 :]:
            try:
                record = orjson.loads(line)
            except orjson.JSONDecodeError:
                bad += 1
                continue
            if isinstance(record, dict):
                records.append(self._redact(record))
            else:
                bad += 1
        return records, bad

    def _open_alerts(self, notes: list[str]) -> tuple[OpenAlert, ...]:
        still_open: Open = self._try(notes, lambda: read_open(self._store), {})
        return tuple(
            OpenAlert(self._redact.text(str(kind)), self._redact.text(str(about)), min(s.first for s in ways.values()))
            for (kind, about), ways in still_open.items()
        )

    def _open_recovery(self, notes: list[str]) -> str | None:
        """The step at which the last recovery stopped, if it did not come to its end."""
        entries: list[JournalEntry] = self._try(notes, Journal(self._store).last, [])
        if not entries or entries[-1].state == END:
            return None
        last = next((entry for entry in reversed(entries) if entry.step), entries[-1])
        ended = "failed" if last.state == FAILED else "was begun" if last.state == BEGIN else "was the last"
        return self._redact.text(f"step {last.step or 'begin'} {ended}{f': {last.text}' if last.text else ''}")


def _of_store(event: dict[str, Any]) -> PastEvent:
    kind, sequence = str(event["event"]), event.get("sequence")
    details = [f"generation {sequence}"] if sequence is not None else []
    if event.get("from") is not None:
        details.append(f"back from {event['from']}")
    if event.get("reason"):
        details.append(str(event["reason"]))
    if event.get("problems"):
        details.append(f"{event['problems']} problems")
    return PastEvent(int(event["time"]), kind, "; ".join(details))


def _of_alert(record: dict[str, Any]) -> PastEvent:
    about = f", {record['about']}" if record.get("about") else ""
    return PastEvent(int(record["time"]), f"alert {record['event']}", f"{record['kind']} by {record['way']}{about}")


def _of_recovery(record: dict[str, Any]) -> PastEvent | None:
    step, state = record.get("step") or "", str(record["state"])
    if state == "doing":
        return None
    kind = step if step == "purge" else f"recovery {record['recovery']}"
    said = " ".join(part for part in (step if step != "purge" else "", state) if part)
    return PastEvent(int(record["time"]), kind, f"{said}{': ' + str(record['text']) if record.get('text') else ''}")
