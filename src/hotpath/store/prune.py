"""Which generations go: never the current, the pinned, the last few, or one that a reader holds.

A generation is renamed before its files are removed, so that a prune that is killed leaves litter and no half of a
generation; the next writer takes the litter away.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from hotpath.errors import Corrupt, StoreError
from hotpath.store.locks import is_without_locks
from hotpath.store.os_errors import explain
from hotpath.store.store import Store, check_keep

# Readers let go within seconds, a recovery within hours. More than this are held by something that never will.
MAX_HELD = 3


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a prune did: ``removed`` generations, and those that are ``held``, which stay until a later prune.

    A reader holds them, or anybody else who has locked their manifests, which takes no more than reading rights.
    """

    removed: tuple[int, ...]
    held: tuple[int, ...]


def prune(store: Store, keep: int | None = None) -> Pruned:
    """Take away what is neither current, pinned, linked, among the last ``keep`` that are not bad, nor read by anyone.

    Refuses to guess: a pointer that cannot be read raises ``Corrupt``, and nothing is removed.
    """
    if keep is not None:
        check_keep(keep)
    with store.locked(new=False), store.explained():
        damages = store.verify_generation(store.chosen_sequence())
        if damages:
            raise Corrupt(
                f"{damages[0].problem}; an older generation may be needed in its place, so nothing was removed",
                path=damages[0].path,
                fix="run 'hotpath verify --repair' or 'hotpath build' first",
            )
        return _prune(store, keep or store.keep)


def tidy(store: Store, record: dict[str, object]) -> list[str]:
    """What follows a commit: the ``current`` link, the history line, pruning. Returns what did not work.

    The generation is published already, so nothing here may turn that into an error. The lock must be held.
    """
    warnings = []
    steps: tuple[tuple[str, Callable[[], object]], ...] = (
        ("the 'current' link was not moved", lambda: store.link_current(store.chosen_sequence())),
        ("the history has no line for this generation", lambda: store.append_history(record)),
        ("old generations were not pruned", lambda: _prune_some(store)),
    )
    for what, step in steps:
        try:
            step()
        except StoreError as error:
            warnings.append(f"{what}: {error}")
        except OSError as error:
            warnings.append(f"{what}: {explain(error, store.root)}")
    return warnings


def _prune(store: Store, keep: int) -> Pruned:
    sequences = store.sequences()
    bad = store.bad()
    # ``current`` too: where it could not be moved, nginx still reads what it leads to.
    wanted = {store.chosen_sequence(), store.linked(), *[n for n in sequences if n not in bad][-keep:]}
    for path in (store.current_path, store.pin_path):
        pointer = store.pointer(path)
        if pointer:
            wanted.add(pointer.sequence)
    removed: list[int] = []
    held: list[int] = []
    unwanted = [sequence for sequence in sequences if sequence not in wanted]
    for sequence in unwanted:
        # Without locks nobody can say what is read. A reader that has not looked since the pointer moved reads this.
        may_be_read = sequence == unwanted[-1]
        (removed if remove_unread(store, sequence, may_be_read) else held).append(sequence)
    return Pruned(tuple(removed), tuple(held))


def _prune_some(store: Store) -> None:
    held = _prune(store, store.keep).held
    if len(held) > MAX_HELD:
        raise StoreError(
            f"the generations {', '.join(map(str, held))} stay, since their manifests are locked",
            path=store.generations_path,
            fix="'lslocks' names the processes that hold them; end those, then run 'hotpath prune'",
        )


def remove_unread(store: Store, sequence: int, may_be_read: bool) -> bool:
    """Remove a generation that nobody holds; without locks, one that is not ``may_be_read``. Whether it was."""
    try:
        descriptor = store.disk.open_regular(store.manifest_path(sequence))
    except FileNotFoundError:
        descriptor = None  # no manifest: nobody can be reading it
    try:
        if descriptor is not None and not _lock(store, descriptor, otherwise=not may_be_read):
            return False
        trash = store.root / f".trash-{sequence}"
        store.disk.rename(store.generation_path(sequence), trash)
    finally:
        if descriptor is not None:
            os.close(descriptor)
    store.disk.remove_tree(trash)
    return True


def _lock(store: Store, descriptor: int, *, otherwise: bool) -> bool:
    """Whether the manifest could be locked; ``otherwise`` where there are no locks."""
    try:
        return store.disk.try_lock(descriptor)
    except OSError as error:
        if not is_without_locks(error):
            raise
        return otherwise
