"""``origin.json`` in a store: what its follower saw last, for status and metrics of any process."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace

import orjson

from hotpath.errors import StoreError
from hotpath.options import json_bytes, to_json
from hotpath.store.directories import prepare
from hotpath.store.store import Store

FILE = "origin.json"

# Looks that a follower may miss before it counts as silent: requests that fail are repeated for a while.
MISSED_LOOKS = 6
LEAST_SILENCE_SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class FollowRecord:
    """The last look at the origin; times in seconds since the epoch, by this machine's clock.

    ``generation`` is what was served then and ``origin_generation`` what had to be. ``behind_since`` is since when this
    machine is known to be behind (``None``: it was not), ``error`` why. ``is_ahead``: it serves what was built here
    and not sent yet. ``every`` is the time between two looks in seconds, ``name`` what the machine is called.
    """

    origin: str
    name: str
    time: float
    every: float
    generation: int | None
    origin_generation: int | None
    behind_since: float | None = None
    error: str | None = None
    is_ahead: bool = False

    def age_seconds(self, now: float) -> float:
        """Since the last look; a clock that went back gives no negative age."""
        return max(0.0, now - self.time)

    def lag_seconds(self, now: float) -> float:
        """Since when this machine is known to be behind its origin, 0 where it is not."""
        return 0.0 if self.behind_since is None else max(0.0, now - self.behind_since)

    def is_silent(self, now: float) -> bool:
        """Whether the follower has stopped looking."""
        return self.age_seconds(now) > max(LEAST_SILENCE_SECONDS, MISSED_LOOKS * self.every)


def write_record(store: Store, record: FollowRecord) -> None:
    """Replace the record, without the writer's lock. Raises ``OSError`` or ``StoreError``."""
    if not store.root.is_dir():
        prepare(store.disk, store.root, new=True)
    temporary = store.root / f".new-{FILE}-{os.getpid()}"
    store.disk.unlink(temporary)
    store.disk.write_new(temporary, json_bytes(to_json(record)) + b"\n")
    store.disk.replace(temporary, store.root / FILE)


def read_record(store: Store) -> FollowRecord | None:
    """The record; ``None`` where nothing follows, or the file is not one that this version wrote."""
    try:
        facts = orjson.loads(store.disk.read(store.root / FILE))
        record = FollowRecord(**{field.name: facts[field.name] for field in fields(FollowRecord)})
        return replace(record, time=float(record.time), every=float(record.every))
    except (OSError, StoreError, ValueError, TypeError, KeyError):
        return None
