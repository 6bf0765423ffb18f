"""Generations that failed validation: kept whole with a report, never served, released by a person or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import orjson

from hotpath.errors import Corrupt, StoreError
from hotpath.options import json_bytes
from hotpath.store.damage import find_damage
from hotpath.store.directories import is_made, make
from hotpath.store.disk import PRIVATE_MODE
from hotpath.store.history import read_history
from hotpath.store.prune import tidy
from hotpath.store.store import Store

# A job that fails every night must not fill the disk with its candidates.
KEEP_QUARANTINED = 3


def quarantine(store: Store, stage: Path, sequence: int, problems: Sequence[str]) -> Path:
    """Put a complete stage aside, with ``report.json`` in it; returns where. The lock must be held."""
    disk = store.disk
    if not is_made(store.quarantine_path):
        make(disk, store.quarantine_path)
    report = {"sequence": sequence, "time": int(store.clock()), "problems": list(problems)}
    disk.write_new(stage / "report.json", json_bytes(report, option=orjson.OPT_INDENT_2) + b"\n", PRIVATE_MODE)
    disk.sync_tree(stage)
    target = store.quarantine_path / str(sequence)
    disk.rename(stage, target)
    disk.sync_directory(store.quarantine_path)
    store.append_history({"event": "quarantine", "sequence": sequence, "accepted": False, "problems": len(problems)})
    for old in store.quarantined()[:-KEEP_QUARANTINED]:
        trash = store.root / f".trash-{old}"
        disk.rename(store.quarantine_path / str(old), trash)
        disk.remove_tree(trash)
    return target


def problems_of(store: Store, sequence: int) -> list[str]:
    """Why a generation is in quarantine. Raises ``Corrupt`` where its report cannot be read."""
    path = store.quarantine_path / str(sequence) / "report.json"
    try:
        report = orjson.loads(store.disk.read(path))
        return [str(problem) for problem in report["problems"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"the report cannot be read ({error})", path=path) from error


def approve(store: Store, sequence: int, reason: str) -> list[str]:
    """Release a quarantined generation: it becomes the current one, and from then on what others are compared with.

    Every file of it is verified first. Returns warnings. Raises ``StoreError`` where there is no such generation or a
    newer one was accepted since, ``Corrupt`` where it is damaged; then nothing has changed.
    """
    if not reason.strip():
        raise StoreError("an approval needs a reason; it is kept in the history", path=store.root, fix="--reason …")
    with store.locked(new=False), store.explained():
        source, released = store.quarantine_path / str(sequence), store.generation_path(sequence)
        # One that was killed after the rename is finished by the next.
        half_done = sequence in store.sequences() and (released / "report.json").exists()
        if not half_done and sequence not in store.quarantined():
            held = ", ".join(map(str, store.quarantined())) or "none"
            raise StoreError(
                f"generation {sequence} is not in quarantine (there: {held})",
                path=store.quarantine_path,
                fix="'hotpath status' lists what can be approved",
            )
        newer = [other for other in store.sequences() if other > sequence and other not in store.bad()]
        if newer:
            raise StoreError(
                f"generation {newer[-1]} was accepted after {sequence}: approving would bring older data back",
                path=source,
                fix="run 'hotpath build TARGET' for a new candidate",
            )
        current = store.pointer(store.current_path)
        record: dict[str, object] = {"event": "approve", "sequence": sequence, "accepted": True, "reason": reason}
        if half_done and current is not None and current.sequence == sequence:
            return [] if _is_recorded(store, sequence) else tidy(store, record)
        damages = find_damage(store.disk, released if half_done else source, sequence)
        if damages:
            raise Corrupt(damages[0].problem, path=damages[0].path, fix="run 'hotpath build TARGET' again")
        if not half_done:
            store.disk.rename(source, released)
        # Also after the rename of a killed approval, which may not be durable.
        store.disk.sync_directory(store.generations_path)
        store.disk.sync_directory(store.quarantine_path)
        store.commit(sequence)
        return tidy(store, record)


def _is_recorded(store: Store, sequence: int) -> bool:
    """Whether the history has the approval: without that line nothing is compared with it."""
    try:
        events = [(event.get("event"), event.get("sequence")) for event in read_history(store)]
    except (OSError, StoreError):
        return False
    return ("approve", sequence) in events
