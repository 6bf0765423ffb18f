"""The report of each run, kept beside the generations: for the baseline, for ``--retry-failed``, for people.

One JSON file a run, accepted or not. Nothing that is served depends on them, so a file that cannot be read is passed
over.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from hotpath.errors import StoreError, UnsafePath
from hotpath.options import json_bytes
from hotpath.store.directories import is_made, make
from hotpath.store.disk import PRIVATE_MODE
from hotpath.store.os_errors import explain
from hotpath.store.store import Store

# Thirty nights for the baseline, and a month more for a person who asks what changed since. An hourly build
# keeps the newest run of each day too. Refused runs are counted apart: a job that always fails removes no baseline.
KEEP_RUNS = 60
_DAY = 24 * 3600
_REFUSED = ".refused.json"

# A later version may mean other things by the same words.
FORMAT = 1

PUBLISHED, QUARANTINED, FAILED = "published", "quarantined", "failed"


def runs_path(store: Store) -> Path:
    """Where the runs are: ``<sequence>-<time>.json``, by the sequence that the run got or would have got.

    What was not published ends in ``.refused.json``.
    """
    return store.root / "runs"


def write_run(store: Store, record: Mapping[str, Any]) -> Path:
    """Keep one run: ``sequence``, ``time`` (seconds since the epoch), ``outcome``, and whatever else; mappings as JSON.

    The lock must be held.
    """
    disk, directory = store.disk, runs_path(store)
    if directory.is_symlink():
        raise UnsafePath("this is a symbolic link, expected a directory", path=directory, fix="remove it")
    if not is_made(directory):
        make(disk, directory)
    name = f"{record['sequence']:08d}-{record['time']}"
    ending = ".json" if record["outcome"] == PUBLISHED else _REFUSED
    number, numbered = 1, name
    # Two runs in one second. A refused one counts too: else nothing says which of the two is newer.
    while any((directory / f"{numbered}{other}").exists() for other in (".json", _REFUSED)):
        number += 1
        numbered = f"{name}-{number}"
    path = directory / f"{numbered}{ending}"
    line = json_bytes({"format": FORMAT, **record}, default=dict, option=orjson.OPT_APPEND_NEWLINE)
    disk.write_new(path, line, PRIVATE_MODE)
    disk.sync_file(path)
    for old in _worn_out(run_paths(store)):
        disk.unlink(old)
    return path


def _worn_out(paths: list[Path]) -> list[Path]:
    """The runs that are not kept; ``paths`` has the oldest first."""
    refused = [path for path in paths if path.name.endswith(_REFUSED)]
    accepted = [path for path in paths if not path.name.endswith(_REFUSED)]
    newest_of_a_day = {_order(path)[1] // _DAY: path for path in accepted}
    kept = {*refused[-KEEP_RUNS:], *accepted[-KEEP_RUNS:], *[*newest_of_a_day.values()][-KEEP_RUNS:]}
    return [path for path in paths if path not in kept]


def newest_runs(store: Store) -> Iterator[dict[str, Any]]:
    """Every run that can be read, the newest first.

    Raises ``StoreError`` at one that a newer version has written, or where this user may not read the newest: a run
    that was made for another user is not none.
    """
    paths = run_paths(store)
    for path in reversed(paths):
        try:
            record = read_run(store, path)
        except PermissionError as error:
            if path == paths[-1]:
                raise explain(error, store.root) from error
            continue
        if record is not None:
            yield record


def read_run(store: Store, path: Path) -> dict[str, Any] | None:
    """One report; ``None`` where it cannot be read, as one that was torn.

    Raises ``StoreError`` for one that a newer version has written, and ``PermissionError``.
    """
    try:
        record = orjson.loads(store.disk.read(path))
    except PermissionError:
        raise
    except (OSError, StoreError, ValueError):
        return None
    if not isinstance(record, dict) or not isinstance(record.get("time"), int):
        return None
    if record.get("format", FORMAT) != FORMAT:
        raise StoreError(
            f"this report has the format {record['format']} of a newer hotpath; this one reads {FORMAT}",
            path=path,
            fix="run that version; or move the newer reports away, and nights are compared with the older ones",
        )
    return record


def last_run(store: Store) -> dict[str, Any] | None:
    """The newest run of all."""
    return next(newest_runs(store), None)


def run_paths(store: Store) -> list[Path]:
    """The files of all reports, the oldest run first."""
    # No glob, which passes over a directory that cannot be read: nights nobody looked at are not none.
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return sorted((path for path in runs_path(store).iterdir() if path.match("????????-*.json")), key=_order)
    return []


def _order(path: Path) -> tuple[int, ...]:
    """Sequence, time, and number where there was another one."""
    return tuple(int(part) if part.isdigit() else 0 for part in path.name.partition(".")[0].split("-"))
