"""What each run of the batch found, kept beside the generations: for the baseline, for ``--retry-failed``, for people.

One JSON file a run, accepted or not. They are facts for the next run to look at; nothing that is served depends on
them, so one that cannot be read is passed over.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from hotpath.errors import StoreError, UnsafePath
from hotpath.store import Store

# Thirty nights for the baseline, and a month more for a person who asks what changed since.
KEEP_RUNS = 60

# A later version may mean other things by the same words.
FORMAT = 1

PUBLISHED, QUARANTINED, FAILED = "published", "quarantined", "failed"


def runs_path(store: Store) -> Path:
    """Where the runs are: ``<sequence>-<time>.json``, by the sequence that the run got or would have got."""
    return store.root / "runs"


def write_run(store: Store, record: Mapping[str, Any]) -> Path:
    """Keep one run; ``record`` has ``sequence`` and ``time`` (seconds since the epoch). The lock must be held."""
    disk, directory = store.disk, runs_path(store)
    if directory.is_symlink():
        raise UnsafePath("this is a symbolic link, expected a directory", path=directory, fix="remove it")
    if not directory.exists():
        disk.make_directory(directory)
    name = f"{record['sequence']:08d}-{record['time']}"
    path = directory / f"{name}.json"
    number = 1
    while path.exists():  # two runs in one second
        number += 1
        path = directory / f"{name}-{number}.json"
    disk.write_new(path, orjson.dumps({"format": FORMAT, **record}) + b"\n")
    disk.sync_file(path)
    for old in _paths(store)[:-KEEP_RUNS]:
        disk.unlink(old)
    return path


def newest_runs(store: Store) -> Iterator[dict[str, Any]]:
    """Every run that can be read, the newest first. Raises ``StoreError`` at one that a newer version has written."""
    for path in reversed(_paths(store)):
        try:
            record = orjson.loads(store.disk.read(path))
        except (OSError, StoreError, ValueError):
            continue
        if not isinstance(record, dict) or not isinstance(record.get("time"), int):
            continue
        if record.get("format", FORMAT) != FORMAT:
            raise StoreError(
                f"this report has the format {record['format']} of a newer hotpath; this one reads {FORMAT}",
                path=path,
                fix="run that version; or move the newer reports away, and nights are compared with the older ones",
            )
        yield record


def last_run(store: Store) -> dict[str, Any] | None:
    """The newest run of all."""
    return next(newest_runs(store), None)


def _paths(store: Store) -> list[Path]:
    with contextlib.suppress(FileNotFoundError):
        return sorted(runs_path(store).glob("????????-*.json"), key=_order)
    return []


def _order(path: Path) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else 0 for part in path.stem.split("-"))
