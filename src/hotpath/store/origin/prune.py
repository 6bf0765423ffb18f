"""Remove what no machine can need any more. Never by a comparison with this machine: by the kept manifests alone.

It lists, then reads the manifests, then removes; what cannot be read ends it before anything is removed. A mark in
``CURRENT`` keeps new generations out meanwhile: they would share blobs that are about to go.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass

from hotpath.errors import Corrupt, HotpathError, OriginConflict, OriginError
from hotpath.store.manifest import decode
from hotpath.store.origin.bucket import BLOBS, GENERATIONS, Bucket, manifest_key, representations
from hotpath.store.origin.machines import MACHINES
from hotpath.store.origin.objects import Entry
from hotpath.store.origin.pointers import CURRENT
from hotpath.store.origin.quarantine import QUARANTINE
from hotpath.store.origin.send import MOVES, PRUNING_SECONDS
from hotpath.store.pointer import Pointer
from hotpath.store.store import DEFAULT_KEEP, check_keep

# Longer than any follower sleeps: one that has read a manifest still gets every blob of it.
DEFAULT_GRACE_SECONDS = 7 * 86400.0

# As many as S3 takes in one request.
BATCH = 1000

# The mark that keeps new generations out holds for longer.
MAX_REMOVING_SECONDS = PRUNING_SECONDS - 5 * 60

_BLOB = re.compile(rf"{BLOBS}[0-9a-f]{{2}}/([0-9a-f]{{64}})")
_GENERATION = re.compile(rf"{GENERATIONS}(\d{{8,18}})\.json")
_MANIFEST = re.compile(rf"(?:{GENERATIONS}|{QUARANTINE})\d{{8,18}}\.json")


@dataclass(frozen=True, slots=True)
class OriginPruned:
    """What a prune removed: ``generations`` by their numbers, and how many ``blobs`` of how many ``bytes``."""

    generations: tuple[int, ...]
    blobs: int
    bytes: int


def prune(bucket: Bucket, keep: int = DEFAULT_KEEP, grace_seconds: float = DEFAULT_GRACE_SECONDS) -> OriginPruned:
    """Remove generations that are neither current, pinned nor among the last ``keep`` good ones, and their blobs.

    Nothing younger than ``grace_seconds`` is removed, by the engine's own times.
    """
    check_keep(keep)
    began, kept = _begin(bucket, keep)
    try:
        pruned = _remove(bucket, kept, began, grace_seconds)
    except HotpathError:
        with suppress(OriginError):  # the mark holds for a quarter of an hour; the first error is the one to tell
            _end(bucket, began)
        raise
    _end(bucket, began)
    return pruned


def _begin(bucket: Bucket, keep: int) -> tuple[int, dict[int, bytes]]:
    """Mark ``CURRENT``, and take out of it what will not be kept. Returns the mark and what will."""
    for _ in range(MOVES):
        seen = bucket.read()
        state, current = seen.state, seen.state.current
        if current is None or not state.is_in_force:
            problem = "nothing is published there yet" if current is None else "a rollback or a pin was interrupted"
            raise bucket.error(f"{problem}; nothing was removed", CURRENT, "run that again first")
        good = [n for n in sorted(current.accepted) if n not in state.bad.marks]
        pinned = state.pin.pointer
        wanted = {current.pointer.sequence, *good[-keep:], *([pinned.sequence] if pinned else [])}
        accepted = {n: sha256 for n, sha256 in current.accepted.items() if n in wanted}
        # A mark of its own, so that one prune does not take away that of another.
        began = max(int(bucket.clock()), (current.pruning or 0) + 1)
        try:
            bucket.replace(CURRENT, current.pruned(began, accepted), seen.current_etag)
        except OriginConflict:
            continue
        return began, accepted | ({pinned.sequence: pinned.sha256} if pinned else {})
    raise _conflict(bucket, "other machines replace it again and again")


def _end(bucket: Bucket, began: int) -> None:
    for _ in range(MOVES):
        seen = bucket.read()
        current = seen.state.current
        if current is None or current.pruning != began:
            return
        try:
            bucket.replace(CURRENT, current.pruned(None, current.accepted), seen.current_etag)
            return
        except OriginConflict:
            continue
    raise _conflict(bucket, "other machines replace it again and again")


def _remove(bucket: Bucket, kept: Mapping[int, bytes], began: int, grace_seconds: float) -> OriginPruned:
    listed = [entry for prefix in (GENERATIONS, QUARANTINE, MACHINES, BLOBS) for entry in bucket.objects.list(prefix)]
    # The newest object is not from the future: a clock that is wrong here removes nothing that is young there.
    now = min([bucket.clock(), max((entry.modified for entry in listed), default=0.0)])
    old = {entry.key for entry in listed if entry.modified < now - grace_seconds}
    named: set[bytes] = set()
    for sequence, sha256 in kept.items():
        named |= representations(bucket.manifest(Pointer(sequence, sha256))).keys()
    kept_keys = {manifest_key(sequence) for sequence in kept}
    doomed = []
    for entry in listed:
        is_manifest = _MANIFEST.fullmatch(entry.key) is not None
        if entry.key in kept_keys or not (is_manifest or entry.key.startswith((QUARANTINE, MACHINES))):
            continue
        if entry.key in old:
            doomed.append(entry)
        elif is_manifest:
            named |= _named_by(bucket, entry.key)
    blobs = [entry for entry in listed if entry.key in old and _is_unnamed(entry.key, named)]
    # Manifests are the first: whoever is killed in between leaves no manifest without its blobs.
    generations = [int(match[1]) for entry in doomed if (match := _GENERATION.fullmatch(entry.key))]
    _delete(bucket, doomed, began)
    _delete(bucket, blobs, began)
    return OriginPruned(tuple(generations), len(blobs), sum(entry.length for entry in blobs))


def _named_by(bucket: Bucket, key: str) -> AbstractSet[bytes]:
    """The blobs of a manifest that is not accepted: one that was kept until now, or of a build that goes on."""
    found = bucket.objects.get(key)
    if found is None:
        return set()
    try:
        return representations(decode(found.data, key)).keys()
    except Corrupt as error:
        raise bucket.error(f"{error.problem}; nothing was removed", key, error.fix) from error


def _is_unnamed(key: str, named: AbstractSet[bytes]) -> bool:
    """Whether it is a blob of ours that no manifest names; what somebody else has put there stays."""
    match = _BLOB.fullmatch(key)
    return match is not None and bytes.fromhex(match[1]) not in named


def _delete(bucket: Bucket, entries: Sequence[Entry], began: int) -> None:
    for start in range(0, len(entries), BATCH):
        current = bucket.read().state.current
        if current is None or current.pruning != began or bucket.clock() - began > MAX_REMOVING_SECONDS:
            raise _conflict(bucket, "another prune began, or this one takes too long")
        bucket.objects.delete([entry.key for entry in entries[start : start + BATCH]])


def _conflict(bucket: Bucket, problem: str) -> OriginConflict:
    return OriginConflict(problem, url=bucket.url, operation="removing", key=CURRENT, fix="try again")
