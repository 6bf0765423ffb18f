"""``hotpath verify``: read everything a store holds; with ``--repair``, mend what can be mended without a guess.

A damaged file is replaced by a second name for the same bytes, where another generation has them. A damaged manifest
cannot be made again: its generation is marked bad, and the newest valid one is served. What stays damaged falls back
by itself: readers take the newest valid bytes of that key, else the app is asked.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from hotpath.errors import NewerFormat, NothingPublished, StoreError
from hotpath.store.directories import is_made, make
from hotpath.store.manifest import Manifest
from hotpath.store.store import Store
from hotpath.store.verify import Damage
from hotpath.text import counted


@dataclass(slots=True)
class Verification:
    """What was read, what is wrong with it, and what was done.

    ``problems`` are those of pointers and marks; ``repaired`` says what was mended, ``fallen_back`` what a reader does
    about each damage that stays in the generation that is served.
    """

    generations: int = 0
    files: int = 0
    damages: list[Damage] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)
    fallen_back: list[str] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        return not (self.damages or self.problems)

    def as_dict(self) -> dict[str, object]:
        """For ``--json``."""
        return {
            "sound": self.is_sound,
            "generations": self.generations,
            "files": self.files,
            "damages": [
                {"generation": one.sequence, "key": one.key, "path": str(one.path), "problem": one.problem}
                for one in self.damages
            ],
            "problems": self.problems,
            "repaired": self.repaired,
            "fallen_back": self.fallen_back,
        }


def verify(store: Store) -> Verification:
    """Read every file of every generation. Changes nothing, and waits for nobody."""
    found = Verification(problems=_pointer_problems(store))
    try:
        bad = store.bad()
    except (StoreError, OSError):
        bad = {}
    for sequence in store.sequences():
        if sequence in bad:
            continue  # nothing will ever read it again
        with _held(store, sequence) as is_there:
            if is_there:
                found.generations += 1
                found.files += _count_files(store, sequence)
                found.damages += store.verify_generation(sequence)
    return found


def repair(store: Store) -> Verification:
    """Mend what can be mended; the result says what was done and what is still damaged. A second run changes nothing.

    Raises ``StoreBusy`` where another process is publishing, ``StoreError`` where the store cannot be written.
    """
    repaired: list[str] = []
    with store.locked(new=False), store.explained():
        _mend_marks(store, repaired)
        for damage in verify(store).damages:
            if damage.may_pass:
                continue  # not a guess: the next look may find every byte of it right
            if damage.key is None:
                _give_up(store, damage, repaired)
            elif _relink(store, damage):
                repaired.append(f"{damage.path} is again what was published, from another generation")
        _mend_pointers(store, repaired)
        if repaired:
            # The same pointer in a new file: running servers look at it and load anew.
            current = store.pointer(store.current_path)
            if current is not None and _points_well(store, store.current_path):
                store.commit(current.sequence)
            store.append_history({"event": "repair", "repaired": repaired[:100]})
        found = verify(store)
        found.repaired = repaired
        found.fallen_back = _falling_back(store, found.damages)
    return found


def lines(found: Verification) -> list[str]:
    """The result as a person reads it."""
    told = [f"{counted(found.generations, 'generation')}, {counted(found.files, 'file')} read"]
    told += [f"repaired: {one}" for one in found.repaired]
    told += [f"DAMAGED: {one}" for one in (*found.problems, *map(str, found.damages))]
    told += [f"meanwhile: {one}" for one in found.fallen_back]
    if found.is_sound:
        told.append("every file is what was published")
    return told


def _pointer_problems(store: Store) -> list[str]:
    problems = []
    checks: tuple[Callable[[], object], ...] = (
        store.bad,
        lambda: store.pointer(store.pin_path),
        lambda: store.pointer(store.current_path),
    )
    for check in checks:
        try:
            check()
        except (StoreError, OSError) as error:
            problems.append(str(error))
    try:
        choice = store.choose()
        os.close(choice.descriptor)
    except NothingPublished as error:
        if store.sequences():
            problems.append(error.problem)
        return problems
    if choice.degraded and not problems:
        problems.append(choice.degraded)
    if store.linked() != choice.sequence:
        problems.append(f"{store.root / 'current'}: expected a link to generations/{choice.sequence}/files")
    return problems


@contextmanager
def _held(store: Store, sequence: int) -> Iterator[bool]:
    """Keep a generation from being pruned while it is read; whether it is still there."""
    try:
        descriptor = store.disk.open_regular(store.manifest_path(sequence))
    except (StoreError, OSError):
        yield store.generation_path(sequence).exists()
        return
    try:
        yield store.disk.try_lock(descriptor, shared=True)
    finally:
        os.close(descriptor)


def _manifest(store: Store, sequence: int) -> Manifest | None:
    try:
        return store.read_manifest(sequence)
    except (StoreError, OSError):
        return None


def _count_files(store: Store, sequence: int) -> int:
    manifest = _manifest(store, sequence)
    return 1 + (sum(len(item.representations) for item in manifest.items.values()) if manifest else 0)


def _relink(store: Store, damage: Damage) -> bool:
    """Give a damaged file's name to the same bytes of another generation; whether there were any."""
    for sequence in reversed(store.sequences()):
        manifest = _manifest(store, sequence)
        item = manifest.items.get(damage.key) if manifest and damage.key else None
        for one in item.representations if item else ():
            source = store.files_path(sequence) / one.file
            if one.sha256 != damage.sha256 or not _holds(store, source, one.sha256):
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


def _mend_marks(store: Store, repaired: list[str]) -> None:
    """``BAD`` anew from the history of rollbacks, where it cannot be read."""
    try:
        store.bad()
    except StoreError:
        marks = _marks_of_history(store)
        store.mark_bad(marks)
        repaired.append(f"{store.bad_path} was made again from the history: {sorted(marks)} are bad")


def _marks_of_history(store: Store) -> dict[int, str]:
    marks: dict[int, str] = {}
    data = b""
    with contextlib.suppress(FileNotFoundError):
        data = store.disk.read(store.history_path)
    for line in data.splitlines():
        try:
            record = orjson.loads(line)
            if record["event"] == "rollback":
                for sequence in range(record["sequence"] + 1, record["from"] + 1):
                    marks[sequence] = record["reason"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            continue
    return marks


def _mend_pointers(store: Store, repaired: list[str]) -> None:
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
    """What readers do about each key that stays damaged in the generation that is served."""
    try:
        serving = store.chosen_sequence()
    except NothingPublished:
        return ["nothing can be served: every hot page goes to the app; run 'hotpath build TARGET'"]
    told = []
    for key in dict.fromkeys(one.key for one in damages if one.sequence == serving and one.key):
        if _serves(store, serving, key):
            told.append(f"{key} is served without the damaged coding")
            continue
        older = next((n for n in reversed(store.sequences()) if n < serving and _serves(store, n, key)), None)
        told.append(f"{key} is served from generation {older}" if older else f"{key} goes to the app")
    return told


def _serves(store: Store, sequence: int, key: str) -> bool:
    manifest = _manifest(store, sequence)
    item = manifest.items.get(key) if manifest else None
    return item is not None and _holds(store, store.files_path(sequence) / item.identity.file, item.identity.sha256)
