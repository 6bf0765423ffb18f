"""``hotpath verify``: read everything that a store holds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from hotpath.errors import NothingPublished, StoreError
from hotpath.options import counted, to_json
from hotpath.store.damage import Damage
from hotpath.store.disk import is_file_at
from hotpath.store.locks import hold
from hotpath.store.manifest import Manifest
from hotpath.store.store import Store


@dataclass(slots=True)
class Verification:
    """What was read, what is wrong with it, and what was done.

    ``problems`` are those of pointers and marks; ``repaired`` says what was repaired, ``fallen_back`` how a reader
    answers for each damage that stays in the generation that is served.
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
        damages = [
            {"generation": damage.sequence, "key": damage.key, "path": damage.path, "problem": damage.problem}
            for damage in self.damages
        ]
        return {"sound": self.is_sound, **to_json(replace(self, damages=[])), "damages": to_json(damages)}


def verify(store: Store) -> Verification:
    """Read every file of every generation. Changes nothing, and waits for nobody."""
    result = Verification(problems=_pointer_problems(store))
    try:
        bad = store.bad()
    except (StoreError, OSError):
        bad = {}
    for sequence in store.sequences():
        if sequence in bad:
            continue  # nothing will ever read it again
        with _held(store, sequence) as is_there:
            files, damages = _count_files(store, sequence), store.verify_generation(sequence)
            if is_there():  # still: what was pruned meanwhile is not damaged
                result.generations += 1
                result.files += files
                result.damages += damages
    return result


def lines(result: Verification) -> list[str]:
    """The result as a person reads it."""
    text = [f"{counted(result.generations, 'generation')}, {counted(result.files, 'file')} read"]
    text += [f"repaired: {line}" for line in result.repaired]
    text += [f"DAMAGED: {problem}" for problem in (*result.problems, *map(str, result.damages))]
    text += [f"meanwhile: {line}" for line in result.fallen_back]
    if result.is_sound:
        text.append("every file is what was published")
    return text


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
def _held(store: Store, sequence: int) -> Iterator[Callable[[], bool]]:
    """Keep a generation from being pruned while it is read, where that can be; says whether it is still there."""
    path = store.manifest_path(sequence)
    try:
        descriptor = store.disk.open_regular(path)
    except (StoreError, OSError):
        yield store.generation_path(sequence).exists
        return
    try:
        hold(store.disk, descriptor)
        yield lambda: is_file_at(descriptor, path)
    finally:
        os.close(descriptor)


def manifest_of(store: Store, sequence: int) -> Manifest | None:
    try:
        return store.read_manifest(sequence)
    except (StoreError, OSError):
        return None


def _count_files(store: Store, sequence: int) -> int:
    manifest = manifest_of(store, sequence)
    return 1 + (sum(len(item.representations) for item in manifest.items.values()) if manifest else 0)
