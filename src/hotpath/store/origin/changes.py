"""Rollback, pin, unpin and approve at the origin: every machine follows.

``BAD`` and ``PIN`` are replaced first, and are in force when ``CURRENT`` names them. Whoever is killed in between has
changed nothing that is served; the same command again does the rest.
"""

from __future__ import annotations

import hashlib
from threading import Lock

from hotpath.errors import Corrupt, OriginConflict, OriginError
from hotpath.store.manifest import decode
from hotpath.store.origin.bucket import Bucket, Seen, representations
from hotpath.store.origin.pointers import BAD, CURRENT, PIN, Current
from hotpath.store.origin.quarantine import quarantine_key
from hotpath.store.origin.send import MOVES, accept, put_manifest
from hotpath.store.pointer import Pointer


def rollback(
    bucket: Bucket, to: int | None = None, reason: str = "rolled back by hand", *, pin: bool = True
) -> tuple[int, int]:
    """Let all machines go back to the newest sound generation before the one they serve, or to ``to``; pins it.

    As ``Store.rollback``: what is left behind is marked bad, and without ``pin`` the next generation is served. Every
    blob of the target that is not also in what is served now is read first. Returns (from, to).
    """
    seen, current = _require_current(bucket)
    state = seen.state
    if state.is_rollback_half_done and state.bad.rollback is not None:
        start, target = state.bad.rollback
        if to in (None, target) and target in current.accepted:
            _finish_rollback(bucket, seen, Pointer(target, current.accepted[target]), pin)
            return start, target
    bad = state.bad.marks
    serving = state.chosen
    assert serving is not None
    now = serving.sequence
    if to is not None and (to in bad or to == now):
        what = f"marked bad ({bad[to]})" if to in bad else "the one that is served"
        raise _refused(bucket, "rolling back", f"generation {to} is {what}")
    candidates = [n for n in sorted(current.accepted) if n not in bad and (n < now if to is None else n == to)]
    problems = []
    for target in reversed(candidates):
        pointer = Pointer(target, current.accepted[target])
        problem = find_damage(bucket, pointer, serving)
        if problem is None:
            marks = {n: reason for n in current.accepted if target < n <= now} | dict(bad)
            bucket.replace(BAD, state.bad.moved(marks, (now, target)), seen.bad_etag)
            _finish_rollback(bucket, seen, pointer, pin)
            return now, target
        problems.append(problem)
    wanted = f"no generation {to}" if to is not None else f"no sound generation before {now}"
    raise _refused(bucket, "rolling back", "; ".join([f"there is {wanted} to go back to", *problems]))


def pin(bucket: Bucket, sequence: int) -> None:
    """Let all machines serve this generation, whatever is published, until ``unpin``."""
    seen, current = _require_current(bucket)
    marks = seen.state.bad.marks
    if sequence in marks:
        raise _refused(bucket, "pinning", f"generation {sequence} is marked bad ({marks[sequence]})")
    if sequence not in current.accepted:
        raise _refused(bucket, "pinning", f"there is no generation {sequence}")
    pointer = Pointer(sequence, current.accepted[sequence])
    problem = find_damage(bucket, pointer, seen.state.chosen)
    if problem is not None:
        raise _refused(bucket, "pinning", f"generation {sequence} is damaged: {problem}")
    if seen.state.pin.pointer != pointer:
        bucket.replace(PIN, seen.state.pin.moved(pointer), seen.pin_etag)
    _put_in_force(bucket)


def unpin(bucket: Bucket) -> int | None:
    """Let all machines serve the newest accepted generation again. Returns the one that was pinned, or ``None``."""
    seen, _ = _require_current(bucket)
    pinned = seen.state.pin.pointer
    if pinned is not None:
        bucket.replace(PIN, seen.state.pin.moved(None), seen.pin_etag)
    _put_in_force(bucket)
    return pinned.sequence if pinned else None


def approve(bucket: Bucket, sequence: int, reason: str) -> None:
    """Release a generation that a machine has put in quarantine there: all machines serve it.

    As ``quarantine.approve`` of a store. Every blob that is not also in what is served now is read first.
    """
    if not reason.strip():
        raise _refused(
            bucket,
            "approving",
            "an approval needs a reason, which is kept in the history of each machine",
            "--reason …",
        )
    seen, current = _require_current(bucket)
    key = quarantine_key(sequence)
    found = bucket.objects.get(key)
    if found is None:
        raise _refused(bucket, "approving", f"generation {sequence} is not in quarantine there")
    pointer = Pointer(sequence, hashlib.sha256(found.data).digest())
    try:
        decode(found.data, key)
    except Corrupt as error:
        raise bucket.error(error.problem, key, error.fix) from error
    marks, newest = seen.state.bad.marks, seen.state.newest
    if sequence in marks:
        raise _refused(bucket, "approving", f"generation {sequence} is marked bad ({marks[sequence]})")
    if newest >= sequence and current.accepted.get(sequence) != pointer.sha256:
        raise _refused(
            bucket,
            "approving",
            f"generation {newest} was accepted after {sequence}: approving would bring older data back",
            "run 'hotpath build TARGET' for a new candidate",
        )
    problem = find_damage(bucket, pointer, current.pointer, found.data)
    if problem is not None:
        raise _refused(bucket, "approving", f"generation {sequence} is damaged: {problem}")
    accept(bucket, seen, pointer, lambda _: put_manifest(bucket, pointer, found.data), reason)


def find_damage(bucket: Bucket, pointer: Pointer, serving: Pointer | None, data: bytes | None = None) -> str | None:
    """The first object of a generation that is not what was published, of those that ``serving`` does not have too."""
    try:
        manifest = bucket.manifest(pointer) if data is None else decode(data, quarantine_key(pointer.sequence))
        wanted = representations(manifest).keys()
    except OriginError as error:
        if error.is_transient:
            raise
        return str(error)
    try:
        shared = representations(bucket.manifest(serving)).keys() if serving else set()
    except OriginError as error:
        if error.is_transient:
            raise
        shared = set()
    problems: list[str] = []
    adding = Lock()

    def check(sha256: bytes) -> None:
        try:
            bucket.blob(sha256)
        except OriginError as error:
            if error.is_transient:
                raise
            with adding:
                problems.append(str(error))

    bucket.each(check, wanted - shared)
    return min(problems, default=None)


def _finish_rollback(bucket: Bucket, seen: Seen, target: Pointer, pin: bool) -> None:
    pinned = seen.state.pin
    if (pin or pinned.pointer is not None) and pinned.pointer != target:
        bucket.replace(PIN, pinned.moved(target), seen.pin_etag)
    _put_in_force(bucket, target)


def _put_in_force(bucket: Bucket, target: Pointer | None = None) -> None:
    """Let ``CURRENT`` name the ``PIN`` and ``BAD`` there are; and ``target`` in place of what is marked bad."""
    for _ in range(MOVES):
        seen, current = _require_current(bucket)
        state = seen.state
        is_bad = current.pointer.sequence in state.bad.marks
        pointer = target if target is not None and is_bad else current.pointer
        if state.is_in_force and pointer == current.pointer:
            return
        try:
            bucket.replace(CURRENT, current.changed(pointer, state.pin, state.bad), seen.current_etag)
            return
        except OriginConflict:
            continue
    raise OriginConflict(
        "other machines replace it again and again", url=bucket.url, operation="replacing", key=CURRENT, fix="try again"
    )


def _require_current(bucket: Bucket) -> tuple[Seen, Current]:
    seen = bucket.read()
    if seen.state.current is None:
        raise bucket.error(
            "nothing is published there yet", CURRENT, "run 'hotpath build TARGET' with this origin first"
        )
    return seen, seen.state.current


def _refused(
    bucket: Bucket, operation: str, problem: str, fix: str = "'hotpath status --origin' lists the others"
) -> OriginError:
    return OriginError(problem, url=bucket.url, operation=operation, fix=fix)
