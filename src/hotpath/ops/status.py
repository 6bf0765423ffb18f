"""``hotpath status``: what is served, what else is there, how old and how large it is."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hotpath.batch.reports import PUBLISHED, last_run
from hotpath.errors import HotpathError, NothingPublished, StoreError
from hotpath.options import human_bytes, human_seconds
from hotpath.site import Hotpath
from hotpath.store.quarantine import problems_of
from hotpath.store.store import Store

# Of the report of a run, what a script would ask first; the whole is in ``runs/``.
_OF_A_RUN = ("sequence", "time", "outcome", "reason", "total", "failures", "warnings", "seconds", "peak_bytes")


@dataclass(frozen=True, slots=True)
class GenerationStatus:
    """One generation; ``age_seconds`` is since it was made, ``problem`` why it cannot be read.

    ``stale`` counts the items past their lifetime: they are still served, and say so in ``Cache-Status``.
    """

    sequence: int
    age_seconds: int | None
    items: int | None
    bytes: int | None
    state: tuple[str, ...]
    stale: int = 0
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class DirectoryStatus:
    """One watched directory: its pages, their files, and how many of these there are."""

    path: str
    files: str
    count: int


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """The state of a store; ``degraded`` says why another generation than the wanted one is served.

    ``quarantined`` has the problems of each generation that failed validation, ``last_run`` the report of the last
    batch, where there was one. ``directories`` are those of the site, where one was asked for.
    """

    root: str
    serving: int | None
    degraded: str | None
    generations: tuple[GenerationStatus, ...]
    quarantined: Mapping[int, Sequence[str]]
    last_run: Mapping[str, Any] | None
    directories: tuple[DirectoryStatus, ...] = ()

    @property
    def is_hot(self) -> bool:
        """Whether any page is."""
        return self.serving is not None or any(one.count for one in self.directories)

    def as_dict(self) -> dict[str, object]:
        """For ``--json``."""
        return {
            "store": self.root,
            "serving": self.serving,
            "degraded": self.degraded,
            "generations": [
                {
                    "generation": one.sequence,
                    "age_seconds": one.age_seconds,
                    "items": one.items,
                    "bytes": one.bytes,
                    "state": list(one.state),
                    "stale": one.stale,
                    "problem": one.problem,
                }
                for one in self.generations
            ],
            "quarantined": [
                {"generation": sequence, "problems": list(problems)} for sequence, problems in self.quarantined.items()
            ],
            "last_run": {name: self.last_run.get(name) for name in _OF_A_RUN} if self.last_run else None,
            "directories": [asdict(one) for one in self.directories],
        }


def status(site: Hotpath | Store) -> StoreStatus:
    """Look at a store, and at the directories of a site; changes nothing.

    Raises ``StoreError`` where this user may not.
    """
    if isinstance(site, Store):
        with site.explained():
            return _status(site)
    directories = tuple(DirectoryStatus(one.path.text, one.files.text, one.count()) for one in site.directories)
    with site.store.explained():
        return _status(site.store, directories, has_routes=bool(site.routes))


def _status(store: Store, directories: tuple[DirectoryStatus, ...] = (), *, has_routes: bool = True) -> StoreStatus:
    serving = degraded = None
    pinned = current = None
    try:
        choice = store.choose()
        os.close(choice.descriptor)
        serving, degraded = choice.sequence, choice.degraded
    except NothingPublished as error:
        # A site of watched directories alone never publishes.
        if has_routes or not directories:
            degraded = f"{error.problem}; {error.fix}"
    problems = []
    for name in ("pin_path", "current_path"):
        try:
            pointer = store.pointer(getattr(store, name))
        except (HotpathError, OSError) as error:
            problems.append(str(error))
            continue
        if name == "pin_path":
            pinned = pointer.sequence if pointer else None
        else:
            current = pointer.sequence if pointer else None
    try:
        bad = store.bad()
    except (HotpathError, OSError) as error:
        problems.append(str(error))
        bad = {}
    # Behind a pin, say, where it does no harm yet.
    degraded = degraded or "; ".join(problems) or None
    generations = []
    for sequence in reversed(store.sequences()):
        state = [
            word
            for word, holds in (
                ("serving", sequence == serving),
                ("current", sequence == current),
                ("pinned", sequence == pinned),
                (f"bad: {bad.get(sequence)}", sequence in bad),
            )
            if holds
        ]
        generations.append(_look_at(store, sequence, tuple(state)))
    quarantined = {sequence: _why(store, sequence) for sequence in reversed(store.quarantined())}
    try:
        run = last_run(store)
    except (StoreError, OSError) as error:
        run, degraded = None, degraded or str(error)
    return StoreStatus(str(store.root), serving, degraded, tuple(generations), quarantined, run, directories)


def _look_at(store: Store, sequence: int, state: tuple[str, ...]) -> GenerationStatus:
    try:
        manifest = store.read_manifest(sequence)
    except (HotpathError, OSError) as error:
        return GenerationStatus(sequence, None, None, None, state, problem=str(error))
    size = sum(one.length for item in manifest.items.values() for one in item.representations)
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


def lines(found: StoreStatus) -> list[str]:
    """The status as a person reads it."""
    told = [f"store {found.root}"]
    if found.serving is not None:
        told.append(f"serving generation {found.serving}")
    elif not found.is_hot:
        told.append("serving nothing: every hot page goes to the app")
    told += [
        f"watching {one.files} for {one.path}: {one.count} file{'s' * (one.count != 1)}" for one in found.directories
    ]
    if found.degraded:
        told.append(f"DEGRADED: {found.degraded}")
    for one in found.generations:
        state = ", ".join(one.state)
        if one.problem:
            told.append(f"  {one.sequence:>6}  unreadable: {one.problem}  {state}")
        else:
            state += f"  {one.stale} items past their lifetime" if one.stale and "serving" in one.state else ""
            age, size = human_seconds(one.age_seconds or 0), human_bytes(one.bytes or 0)
            told.append(f"  {one.sequence:>6}  {age:>8} old  {one.items:>7} items  {size:>10}  {state}".rstrip())
    for sequence, problems in found.quarantined.items():
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        told.append(f"  {sequence:>6}  in quarantine: {problems[0] if problems else 'no reason given'}{more}")
    if found.last_run is not None:
        told += _of_the_run(found.last_run)
    return told


def _of_the_run(run: Mapping[str, Any]) -> list[str]:
    """The last batch, where it is not simply the generation that is served."""
    failures = run.get("failures", [])
    if run.get("outcome") == PUBLISHED and not failures:
        return []
    told = [f"last run: {run.get('outcome')}, {len(failures)} of {run.get('total')} items failed"]
    if reason := run.get("reason"):
        told[0] += f"; {reason}"
    for failure in failures[:3]:
        kept = "; its last good bytes stay" if failure.get("carried") else ""
        told.append(f"    {failure.get('key')}: {failure.get('problem')}{kept}")
    if len(failures) > 3:
        told.append(f"    … and {len(failures) - 3} more, see runs/")
    return told
