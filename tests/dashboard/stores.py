"""Stores to look at: full ones with sixty nights behind them, broken ones, and memory over a week."""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hotpath.batch.reports import PUBLISHED, QUARANTINED, write_run
from hotpath.dashboard.facts import MemorySample
from hotpath.dashboard.memory_log import MemoryLog
from hotpath.errors import Implausible
from hotpath.ops.alerts.sent import append
from hotpath.ops.recovery.journal import BEGIN, DOING, DONE, END, Journal, JournalEntry
from hotpath.pages.policy import Policy
from hotpath.store.disk import Disk
from hotpath.store.publish import staging
from hotpath.store.store import Store

DAY = 86400
MIB = 1024 * 1024
# A night at which a sector was missing, and one at which a market was closed.
REFUSED_NIGHT, FAILED_NIGHT = 41, 22
POLICY = Policy("/stocks/{ticker}", "application/json", "public, max-age=60", None, 26 * 3600)


class Clock:
    """Seconds since the epoch that a test sets."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class QuickDisk(Disk):
    """Nothing here has to outlive a power cut."""

    def sync_file(self, path: Path) -> None:
        """Not."""

    def sync_directory(self, path: Path) -> None:
        """Not."""

    def sync_tree(self, path: Path) -> None:
        """Not."""

    def sync_each(self, path: Path) -> None:
        """Not."""


def full_store(root: Path, now: float, *, pages: int = 10_000, nights: int = 60, held: bool = True) -> Store:
    """``nights`` nights up to five hours ago: the last one published ``pages``; reports of all, one held back."""
    clock = Clock(now)
    store = Store(root, clock=clock, disk=QuickDisk())
    chance = random.Random(20)
    last = int(now) - 5 * 3600
    for night in range(nights):
        clock.now = last - (nights - 1 - night) * DAY
        outcome = QUARANTINED if night == REFUSED_NIGHT else "failed" if night == FAILED_NIGHT else PUBLISHED
        sequence = store.next_sequence()
        if outcome == PUBLISHED:
            _publish(store, pages if night == nights - 1 else min(pages, 20), night)
        _report(store, sequence, outcome, night, pages, chance)
    if held:
        clock.now = last + 3600
        _quarantine(store, pages)
    clock.now = now
    _history(store, last)
    return store


def _publish(store: Store, pages: int, night: int, problems: tuple[str, ...] = ()) -> None:
    with staging(store) as stage:
        for number in range(pages):
            changed = night if number % 3 == 0 else 0
            body = b'{"ticker":"T%05d","night":%d,"rows":[%s]}' % (number, changed, b"1," * (number % 300) + b"1")
            stage.add(f"/stocks/T{number:05d}", f"stocks/T{number:05d}.json", body, POLICY, encoded={})
        stage.publish(problems=list(problems))


def _quarantine(store: Store, pages: int) -> None:
    problems = (
        "/stocks/{ticker}: fewer rows: expected at least 41,230 (43,400 ± 2,170, the same weekday), found 36,020",
        "/stocks/{ticker}: all rows of one sector are gone: expected every sector to be there, found one of 4,310 gone",
        "/stocks/{ticker}: pe is null: expected at most 11% (usually 6.0%), found 31.4%",
        "/indices/{name}: the source is old: expected at most 26 h old at the time of the run, found 49 h",
    )
    try:
        _publish(store, min(pages, 50), 0, problems)
    except Implausible as error:
        with store.locked():
            write_run(store, _record(store, error.sequence, QUARANTINED, 36_020, 8_000_000, pages, 0, problems))


def _report(store: Store, sequence: int, outcome: str, night: int, pages: int, chance: random.Random) -> None:
    week = 1 - 0.06 * ((store.clock() // DAY) % 7 in (2, 3))
    rows = int((40_000 + 55 * night) * week + chance.gauss(0, 120))
    size = int(rows * 212 + chance.gauss(0, 30_000))
    failures = 0
    problems: tuple[str, ...] = ()
    if outcome == QUARANTINED:
        rows, size = int(rows * 0.82), int(size * 0.8)
        problems = ("/stocks/{ticker}: fewer rows: expected at least 40,100, found 34,500",)
    elif outcome == "failed":
        rows, size, failures = int(rows * 0.4), int(size * 0.4), 812
    elif night % 17 == 4:
        failures = chance.randrange(1, 9)
    with store.locked():
        write_run(store, _record(store, sequence, outcome, rows, size, pages, failures, problems))


def _record(
    store: Store,
    sequence: int,
    outcome: str,
    rows: int,
    size: int,
    pages: int,
    failures: int,
    problems: tuple[str, ...],
) -> dict[str, Any]:
    seconds = 31 + 6 * math.sin(sequence) + pages / 900
    return {
        "sequence": sequence,
        "time": int(store.clock()),
        "seconds": seconds,
        "peak_bytes": 210 * MIB,
        "total": pages,
        "failures": [
            {"key": f"/stocks/T{n:05d}", "problem": "ConnectionError: no route to the database", "carried": True}
            for n in range(failures)
        ],
        "routes": {"/stocks/{ticker}": {"items": pages - failures, "rows": rows, "bytes": size, "ms": 9}},
        "items": {f"/stocks/T{n:05d}": {"rows": 4, "bytes": 900} for n in range(pages)},
        "outcome": outcome,
        "reason": f"{failures} of {pages} items failed, more than may fail" if outcome == "failed" else None,
        "findings": [
            dict(zip(("subject", "rule", "expected", "found"), _four(text), strict=True), fails=True)
            for text in problems
        ],
    }


def _four(text: str) -> tuple[str, str, str, str]:
    subject, rule, rest = text.split(": ", 2)
    expected, _, actual = rest.removeprefix("expected ").rpartition(", found ")
    return subject, rule, expected, actual


def _history(store: Store, last: int) -> None:
    journal = Journal(store)
    day = last - 6 * DAY
    for state, step, text in (
        (BEGIN, "", ""), (DOING, "verify", ""), (DONE, "verify", "5 generations are good"),
        (DONE, "purge", "cloudflare: 3,334 URLs purged"), (DONE, "warm", "312 pages warm"), (END, "", ""),
    ):  # fmt: skip
        facts = {"serving": 1, "newest": 1, "pinned": None} if state == BEGIN else {}
        journal.append(JournalEntry(day, 1, state, step, text, facts=facts))
    append(store, [("failed", "build.failed", "", "mail"), ("failed", "build.failed", "", "webhook")], last - 37 * DAY)
    append(
        store, [("resolved", "build.failed", "", "mail"), ("resolved", "build.failed", "", "webhook")], last - 36 * DAY
    )
    append(store, [("failed", "memory.usage_80", "", "mail")], last - 3600)


def incident_memory(now: float, *, limit: int = 512 * MIB, hours: float = 6) -> list[MemorySample]:
    """An app that leaks and is replaced three times: a line a minute, and one at each change of state."""
    samples, used, pid, state = [], 0.35, 4711, "NORMAL"
    chance = random.Random(7)
    at = now - hours * 3600
    while at <= now:
        used += 0.0058 + chance.gauss(0, 0.002)
        state = "NORMAL" if used < 0.7 else "TRIM" if used < 0.8 else "SHED" if used < 0.9 else "DRAIN"
        samples.append(MemorySample(at, pid, state, limit, int(used * limit)))
        if state == "DRAIN":
            pid, used = pid + 13, 0.33
        at += 60
    return samples


def write_memory(store: Store, samples: list[MemorySample]) -> None:
    log = MemoryLog(store.root / "memory.csv")
    for start in range(0, len(samples), 500):
        log.append(samples[start : start + 500])


def broken_store(root: Path, now: float) -> Store:
    """A store with damage of every kind that still serves something."""
    store = full_store(root, now, pages=60, nights=8)
    write_memory(store, incident_memory(now))
    root = store.root
    damages: dict[str, Callable[[bytes], bytes]] = {
        "history.jsonl": lambda data: data + b'{"time":1,"event":"pub',
        "alerts.jsonl": lambda data: data + b'\x00\xff{"time"\n[1,2]\nnull\n',
        "recover.jsonl": lambda data: data[: len(data) // 2],
        "memory.csv": lambda data: data + b"1795305600,1,NORM\n\x00\x00,,,\n1e999,1,x,2,3\n",
        "CURRENT": lambda data: data[:9],
    }
    for name, damage in damages.items():
        path = root / name
        data = damage(path.read_bytes())
        path.unlink()
        path.write_bytes(data)
    runs = sorted((root / "runs").iterdir())
    for path, content in zip(
        runs[:3],
        (b'{"format":1,"sequence":', b'{"format":99,"time":1795305600,"sequence":3}', b'{"format":1,"time":5}'),
        strict=True,
    ):
        path.chmod(0o640)
        path.write_bytes(content)
    manifest = store.manifest_path(store.sequences()[0])
    manifest.chmod(0o640)
    manifest.write_bytes(b"{")
    file = next((store.files_path(store.sequences()[-1]) / "stocks").iterdir())
    file.chmod(0o640)
    file.write_bytes(b"edited")
    return store


HOSTILE = (
    '<script>alert(1)</script><img src=x onerror="alert(2)">',
    "\x1b[31mred\x07 \u202egnp.exe\u2066 \u200f",
    "A" * 10_000,
    "'\"`</style></title></script><!--",
)


def hostile_store(root: Path, now: float) -> Store:
    """Names, errors, reasons and alerts that want to be markup, or more than text."""
    clock = Clock(now - 3 * DAY)
    store = Store(root, clock=clock, disk=QuickDisk())
    for night in range(3):
        clock.now = now - (3 - night) * DAY
        _publish(store, 10, night)
        record = _record(store, store.chosen_sequence(), "failed" if night else PUBLISHED, 10, 10, 10, 0, ())
        failures = [{"key": text, "problem": text, "carried": False} for text in HOSTILE]
        findings = [{"subject": text, "rule": text, "expected": text, "found": text, "fails": True} for text in HOSTILE]
        with store.locked():
            write_run(store, record | {"failures": failures, "findings": findings, "reason": HOSTILE[night]})
    clock.now = now
    with contextlib.suppress(Implausible):
        _publish(store, 5, 0, HOSTILE)
    store.rollback(reason=" ".join(HOSTILE))
    append(store, [("failed", f"build.{text[:2000]}", text[:2000], text[:2000]) for text in HOSTILE], int(now))
    journal = Journal(store)
    journal.append(JournalEntry(int(now), 1, BEGIN, facts={"serving": 1, "newest": 1, "pinned": None}))
    for text in HOSTILE:
        journal.append(JournalEntry(int(now), 1, DONE, text, text, text))
    (root / "memory.csv").write_text(f"time,pid,state,limit,used\n{now:.0f},1,<b>x</b>\u202e,100,50\n", "utf-8")
    return store
