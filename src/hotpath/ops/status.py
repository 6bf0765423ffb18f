"""``hotpath status``: what is served, what else is there, how old and how large it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from hotpath.batch.reports import PUBLISHED, QUARANTINED, last_run
from hotpath.errors import HotpathError, NothingPublished, StoreError
from hotpath.options import counted, human_bytes, human_seconds
from hotpath.site import Hotpath
from hotpath.store.damage import find_edited
from hotpath.store.follow_record import read_record
from hotpath.store.quarantine import problems_of
from hotpath.store.store import Store

T = TypeVar("T")

# Damaged files that are named; ``verify`` names all.
MAX_NAMED_DAMAGES = 5

# Facts of a run that a script asks for first; the whole report is in ``runs/``.
_RUN_FACTS = ("sequence", "time", "outcome", "reason", "total", "failures", "warnings", "seconds", "peak_bytes")


# The outcome of a run that was quarantined, and released by a person since.
APPROVED = "approved"


@dataclass(frozen=True, slots=True)
class GenerationStatus:
    """One generation; ``age_seconds`` is since it was made, ``problem`` why it cannot be read.

    ``stale`` counts the items past their lifetime: they are still served, and say so in ``Cache-Status``.
    """

    generation: int
    age_seconds: int | None
    items: int | None
    bytes: int | None
    state: tuple[str, ...]
    stale: int = 0
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class QuarantineStatus:
    """A generation that failed validation, and the problems it has."""

    generation: int
    problems: Sequence[str]


@dataclass(frozen=True, slots=True)
class DirectoryStatus:
    """One watched directory: its pages, their files, and how many of these there are."""

    path: str
    files: str
    count: int


@dataclass(frozen=True, slots=True)
class FollowStatus:
    """What this machine's follower saw last of its origin; ``lag_seconds`` is since when the machine is behind it.

    ``silent``: the follower has stopped looking, ``age_seconds`` ago. ``ahead``: what is served was not sent there yet.
    """

    url: str
    generation: int | None
    lag_seconds: int
    age_seconds: int
    silent: bool
    ahead: bool
    error: str | None


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """The state of a store; ``degraded`` says why another generation than the wanted one is served.

    ``last_run`` has facts of the last batch, where there was one, or ``last_run_problem`` why this user cannot read it.
    ``directories`` are those of the site, where a site was given. ``damages`` are files of the served generation that
    were lost or edited in place. ``origin`` is what is known of the origin, where this machine follows one. The fields
    are those of ``--json``.
    """

    store: str
    serving: int | None
    degraded: str | None
    generations: tuple[GenerationStatus, ...]
    quarantined: tuple[QuarantineStatus, ...]
    last_run: Mapping[str, Any] | None
    directories: tuple[DirectoryStatus, ...] = ()
    last_run_problem: str | None = None
    damages: tuple[str, ...] = ()
    origin: FollowStatus | None = None

    @property
    def is_hot(self) -> bool:
        """Whether any page is."""
        return self.serving is not None or any(directory.count for directory in self.directories)


def status(site: Hotpath | Store) -> StoreStatus:
    """Look at a store, and at the directories of a site; changes nothing.

    Raises ``StoreError`` where this user may not.
    """
    if isinstance(site, Store):
        with site.explained():
            return _status(site)
    directories = tuple(DirectoryStatus(d.path.text, d.files.text, d.count()) for d in site.directories)
    with site.store.explained():
        return _status(site.store, directories, has_routes=bool(site.routes))


# Long, since each part of a store is read for itself: what cannot be read keeps nothing else from being shown.
def _status(store: Store, directories: tuple[DirectoryStatus, ...] = (), *, has_routes: bool = True) -> StoreStatus:
    serving = degraded = None
    try:
        choice = store.choose()
        os.close(choice.descriptor)
        serving, degraded = choice.sequence, choice.degraded
    except NothingPublished as error:
        # A site of watched directories alone never publishes.
        if has_routes or not directories:
            degraded = f"{error.problem}; {error.fix}"
    problems: list[str] = []
    pin = _or_problem(lambda: store.pointer(store.pin_path), problems)
    current = _or_problem(lambda: store.pointer(store.current_path), problems)
    bad = _or_problem(store.bad, problems) or {}
    report = run_problem = None
    try:
        report = last_run(store)
    except (StoreError, OSError) as error:
        # Reports are for the operator: that somebody else may not read them says nothing against the store.
        if isinstance(error, PermissionError) or isinstance(error.__cause__, PermissionError):
            run_problem = str(error)
        else:
            problems.append(str(error))
    run = {name: report.get(name) for name in _RUN_FACTS} if report else None
    if run is not None and run["outcome"] == QUARANTINED and run["sequence"] in store.sequences():
        run |= {"outcome": APPROVED, "reason": None}  # by a person since
    states = {
        sequence: [
            *(["serving"] if sequence == serving else []),
            *(["current"] if current is not None and sequence == current.sequence else []),
            *(["pinned"] if pin is not None and sequence == pin.sequence else []),
            *([f"bad: {bad[sequence]}"] if sequence in bad else []),
        ]
        for sequence in reversed(store.sequences())
    }
    generations = tuple(_look_at(store, sequence, tuple(state)) for sequence, state in states.items())
    quarantined = tuple(QuarantineStatus(n, _why(store, n)) for n in reversed(store.quarantined()))
    # A broken pointer may be behind a pin, where it does no harm yet.
    degraded = degraded or "; ".join(problems) or None
    edited = find_edited(store.disk, store.generation_path(serving), serving) if serving is not None else ()
    damages = tuple(map(str, edited))
    follows = followed(store)
    return StoreStatus(
        str(store.root), serving, degraded, generations, quarantined, run, directories, run_problem, damages, follows
    )


def followed(store: Store) -> FollowStatus | None:
    """What is known of the origin; ``None`` where nothing has followed one."""
    record = read_record(store)
    if record is None:
        return None
    now = store.clock()
    return FollowStatus(
        record.origin,
        record.origin_generation,
        int(record.lag_seconds(now)),
        int(record.age_seconds(now)),
        record.is_silent(now),
        record.is_ahead,
        record.error,
    )


def _or_problem(read: Callable[[], T], problems: list[str]) -> T | None:
    """What ``read`` returns; ``None`` where it fails, with why in ``problems``."""
    try:
        return read()
    except (HotpathError, OSError) as error:
        problems.append(str(error))
        return None


def _look_at(store: Store, sequence: int, state: tuple[str, ...]) -> GenerationStatus:
    try:
        manifest = store.read_manifest(sequence)
    except (HotpathError, OSError) as error:
        return GenerationStatus(sequence, None, None, None, state, problem=str(error))
    size = sum(representation.length for item in manifest.items.values() for representation in item.representations)
    # A clock that went back must not give a negative age.
    now, created = int(store.clock()), manifest.head.created
    stale = sum(
        now > (created if item.stale_since is None else item.stale_since) + item.policy.lifetime_seconds
        for item in manifest.items.values()
    )
    return GenerationStatus(sequence, max(0, now - created), len(manifest.items), size, state, stale)


def _why(store: Store, sequence: int) -> list[str]:
    try:
        return problems_of(store, sequence)
    except HotpathError as error:
        return [str(error)]


def lines(status: StoreStatus) -> list[str]:
    """The status as a person reads it."""
    lines = [f"store {status.store}"]
    if status.serving is not None:
        lines.append(f"serving generation {status.serving}")
    elif not status.is_hot:
        lines.append("serving nothing: every hot page goes to the app")
    lines += [
        f"watching {watched.files} for {watched.path}: {counted(watched.count, 'file')}"
        for watched in status.directories
    ]
    if status.origin is not None:
        lines.append(_origin_line(status.origin))
    if status.degraded:
        lines.append(f"DEGRADED: {status.degraded}")
    lines += [f"DAMAGED: {damage}" for damage in status.damages[:MAX_NAMED_DAMAGES]]
    if len(status.damages) > MAX_NAMED_DAMAGES:
        lines.append(f"DAMAGED: {len(status.damages) - MAX_NAMED_DAMAGES} more files; 'hotpath verify' names all")
    elif status.damages:
        lines.append("  'hotpath verify --repair' replaces what another generation has; build again for the rest")
    lines += map(_generation_line, status.generations)
    for refused in status.quarantined:
        more = f" (and {len(refused.problems) - 1} more)" if len(refused.problems) > 1 else ""
        reason = refused.problems[0] if refused.problems else "no reason given"
        lines.append(f"  {refused.generation:>6}  in quarantine: {reason}{more}")
    newest = max((generation.generation for generation in status.generations), default=0)
    if status.quarantined and (candidate := status.quarantined[0].generation) > newest:  # an older one is not approved
        lines.append(f"  if it is right after all: 'hotpath approve TARGET {candidate} --reason …'")
    if status.last_run is not None:
        lines += _run_lines(status.last_run)
    if status.last_run_problem:
        lines.append(f"last run: {status.last_run_problem}")
    return lines


def _origin_line(origin: FollowStatus) -> str:
    if origin.silent:
        return f"NOT FOLLOWING {origin.url}: the last look was {human_seconds(origin.age_seconds)} ago"
    names = "has nothing yet" if origin.generation is None else f"has generation {origin.generation}"
    if origin.error is not None:
        return f"BEHIND its origin for {human_seconds(origin.lag_seconds)}: {origin.error}"
    ahead = "; what is served here was not sent there: 'hotpath push TARGET'" if origin.ahead else ""
    return f"following {origin.url}, which {names}{ahead}"


def _generation_line(generation: GenerationStatus) -> str:
    state = ", ".join(generation.state)
    if generation.problem:
        return f"  {generation.generation:>6}  unreadable: {generation.problem}  {state}"
    if generation.stale and "serving" in generation.state:
        state += f"  {counted(generation.stale, 'item')} past their lifetime"
    age, size = human_seconds(generation.age_seconds or 0), human_bytes(generation.bytes or 0)
    items = f"{generation.items:>7} {'item ' if generation.items == 1 else 'items'}"
    return f"  {generation.generation:>6}  {age:>8} old  {items}  {size:>10}  {state}".rstrip()


def _run_lines(run: Mapping[str, Any]) -> list[str]:
    """The last batch, where it is not simply the generation that is served."""
    failures = run["failures"] or []
    if run["outcome"] in (PUBLISHED, APPROVED) and not failures:
        return []
    lines = [f"last run: {run['outcome']}, {len(failures)} of {counted(run['total'] or 0, 'item')} failed"]
    if reason := run["reason"]:
        lines[0] += f"; {reason}"
    for failure in failures[:3]:
        kept = "; its last good bytes stay" if failure.get("carried") else ""
        lines.append(f"    {failure.get('key')}: {failure.get('problem')}{kept}")
    if len(failures) > 3:
        lines.append(f"    … and {len(failures) - 3} more, see runs/")
    return lines
