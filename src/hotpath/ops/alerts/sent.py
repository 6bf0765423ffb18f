"""Which alerts were sent by which way and are not resolved yet: ``alerts.jsonl`` in the store's root.

A line is added and none is ever changed, so a process that is killed leaves at most one line that cannot be read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import orjson

from hotpath.errors import StoreError
from hotpath.ops.alerts.message import FAILED, REMINDER, RESOLVED
from hotpath.process.lock import lock
from hotpath.store.store import Store

# Maximum wait for another process that is sending. After it two alerts are sent rather than none.
WAIT_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class AlertTimes:
    """An alert that a way has delivered: first and last, in seconds since the epoch."""

    first: int
    last: int


# By kind of failure and what it is about, then by way.
Open = Mapping[tuple[str, str], Mapping[str, AlertTimes]]


def alerts_path(store: Store) -> Path:
    return store.root / "alerts.jsonl"


def read_open(store: Store) -> Open:
    """What is still open. Raises ``OSError`` or ``StoreError`` where that cannot be read."""
    try:
        lines = store.disk.read(alerts_path(store)).splitlines()
    except FileNotFoundError:
        return {}
    open_alerts: dict[tuple[str, str], dict[str, AlertTimes]] = {}
    for line in lines:
        try:
            record = orjson.loads(line)
            at, event, kind, way = record["time"], record["event"], record["kind"], record["way"]
            about = record.get("about", "")
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            continue  # torn by a kill or a full disk
        ways = open_alerts.setdefault((kind, about), {})
        if event == RESOLVED:
            ways.pop(way, None)
        elif event in (FAILED, REMINDER):
            ways[way] = AlertTimes(ways[way].first if way in ways else at, at)
    return {failure: ways for failure, ways in open_alerts.items() if ways}


def append(store: Store, records: Sequence[tuple[str, str, str, str]], now: int) -> None:
    """Note deliveries: (event, kind, about, way) each. Raises ``OSError`` or ``StoreError``."""
    path = alerts_path(store)
    data = b"".join(
        orjson.dumps({"time": now, "event": event, "kind": kind, "about": about, "way": way}) + b"\n"
        for event, kind, about, way in records
    )
    store.disk.append(path, data)
    store.disk.sync_file(path)


@contextmanager
def held(store: Store) -> Iterator[None]:
    """One process at a time looks, sends and notes. Goes on without the lock where it cannot be had."""
    descriptor = None
    try:
        with suppress(OSError, StoreError):  # whoever notes the delivery says so
            # Not the alerts themselves: whoever may read those could hold their lock.
            descriptor = store.disk.open_lock(store.root / "alerts.lock")
            lock(descriptor, within_seconds=WAIT_SECONDS)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)
