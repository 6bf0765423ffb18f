"""``hotpath verify --repair``: repair what can be repaired without a guess.

A damaged file is replaced by a second name for the same bytes, where another generation has them. A damaged manifest
cannot be made again: its generation is marked bad, and the newest valid one is served. What stays damaged falls back
by itself: readers take the newest valid bytes of that key, else the app is asked.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

from hotpath.errors import NewerFormat, NothingPublished, StoreError
from hotpath.store.damage import Damage
from hotpath.store.directories import is_made, make
from hotpath.store.history import read_history
from hotpath.store.store import Store
from hotpath.store.verify import Verification, manifest_of, verify


def repair(store: Store) -> Verification:
    """Repair what can be repaired; the result says what was done and what stays damaged. A second run changes nothing.

    Raises ``StoreBusy`` where another process is publishing, ``StoreError`` where the store cannot be written.
    """
    repaired: list[str] = []
    with store.locked(new=False), store.explained():
        _repair_marks(store, repaired)
        for damage in verify(store).damages:
            if damage.is_transient:
                continue  # not a guess: the next look may find every byte of it right
            if damage.key is None:
                _give_up(store, damage, repaired)
            elif _relink(store, damage):
                repaired.append(f"{damage.path} is again what was published, from another generation")
        _repair_pointers(store, repaired)
        if repaired:
            # The same pointer in a new file: running servers look at it and load anew.
            current = store.pointer(store.current_path)
            if current is not None and _points_well(store, store.current_path):
                store.commit(current.sequence)
            store.append_history({"event": "repair", "repaired": repaired[:100]})
        result = verify(store)
        result.repaired = repaired
        result.fallen_back = _falling_back(store, result.damages)
    return result


def _relink(store: Store, damage: Damage) -> bool:
    """Give a damaged file's name to the same bytes of another generation; whether there were any."""
    for sequence in reversed(store.sequences()):
        manifest = manifest_of(store, sequence)
        item = manifest.items.get(damage.key) if manifest and damage.key else None
        for representation in item.representations if item else ():
            source = store.files_path(sequence) / representation.file
            if representation.sha256 != damage.sha256 or not _holds(store, source, representation.sha256):
                continue
            parents = [store.root / part for part in reversed([*damage.path.relative_to(store.root).parents][:-1])]
            if damage.path.is_dir() or any(_is_no_directory(parent) for parent in parents):
                return False  # something else was put there, and nobody knows what for
            for parent in parents:
                if not is_made(parent):
                    make(store.disk, parent)
            temporary = store.root / ".new-repaired"
            store.disk.unlink(temporary)
            store.disk.link(source, temporary)
            store.disk.replace(temporary, damage.path)
            store.disk.sync_tree(damage.path.parent)
            return True
    return False


def _is_no_directory(path: Path) -> bool:
    return path.is_symlink() or (path.exists() and not path.is_dir())


def _holds(store: Store, path: Path, sha256: bytes) -> bool:
    try:
        return hashlib.sha256(store.disk.read(path)).digest() == sha256
    except (StoreError, OSError):
        return False


def _give_up(store: Store, damage: Damage, repaired: list[str]) -> None:
    """Mark a generation whose manifest is damaged as bad, so that nothing chooses or compares with it."""
    marks = store.bad()
    if damage.sequence not in marks:
        store.mark_bad({**marks, damage.sequence: f"its manifest {damage.problem}"})
        repaired.append(f"generation {damage.sequence} is marked bad: its manifest cannot be made again")


def _repair_marks(store: Store, repaired: list[str]) -> None:
    """``BAD`` anew from the history of rollbacks, where it cannot be read."""
    try:
        store.bad()
    except StoreError:
        marks = _marks_of_history(store)
        store.mark_bad(marks)
        repaired.append(f"{store.bad_path} was made again from the history: {sorted(marks)} are bad")


def _marks_of_history(store: Store) -> dict[int, str]:
    marks: dict[int, str] = {}
    for event in read_history(store):
        with contextlib.suppress(KeyError, TypeError):
            if event["event"] == "rollback":
                marks |= dict.fromkeys(range(event["sequence"] + 1, event["from"] + 1), event["reason"])
    return marks


def _repair_pointers(store: Store, repaired: list[str]) -> None:
    try:
        serving = store.chosen_sequence()
    except NothingPublished:
        return
    for path in (store.pin_path, store.current_path):
        if _points_well(store, path):
            continue
        if path == store.pin_path:
            # Which generation was pinned cannot be known; what is served now stays until the next publish.
            store.disk.unlink(path)
            store.disk.sync_directory(store.root)
            repaired.append(f"{path} could not be used and was removed; generation {serving} is served, not pinned")
        else:
            store.commit(serving)
            repaired.append(f"{path} now names generation {serving}, the newest valid one")
    if store.linked() != serving:
        store.link_current(serving)
        repaired.append(f"{store.root / 'current'} now leads to generation {serving}")


def _points_well(store: Store, path: Path) -> bool:
    try:
        pointer = store.pointer(path)
        if pointer is None:
            return path == store.pin_path
        store.read_manifest(pointer.sequence, pointer.sha256)
        return path == store.pin_path or pointer.sequence not in store.bad()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (NewerFormat, OSError):
        return True  # nothing is known against it
    except StoreError:
        return False


def _falling_back(store: Store, damages: list[Damage]) -> list[str]:
    """How readers answer for each key that stays damaged in the generation that is served."""
    try:
        serving = store.chosen_sequence()
    except NothingPublished:
        return ["nothing can be served: every hot page goes to the app; run 'hotpath build TARGET'"]
    fallbacks = []
    for key in dict.fromkeys(damage.key for damage in damages if damage.sequence == serving and damage.key):
        if _serves(store, serving, key):
            fallbacks.append(f"{key} is served without the damaged coding")
            continue
        older = next((n for n in reversed(store.sequences()) if n < serving and _serves(store, n, key)), None)
        fallbacks.append(f"{key} is served from generation {older}" if older else f"{key} goes to the app")
    return fallbacks


def _serves(store: Store, sequence: int, key: str) -> bool:
    manifest = manifest_of(store, sequence)
    item = manifest.items.get(key) if manifest else None
    return item is not None and _holds(store, store.files_path(sequence) / item.identity.file, item.identity.sha256)
