"""What must be true of a store after a night: ``hotpath check --every-night``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from hotpath.batch.reports import FAILED, QUARANTINED
from hotpath.caching.shared.valkey import in_use
from hotpath.errors import HotpathError, NothingPublished
from hotpath.ops.status import StoreStatus, status
from hotpath.options import counted, human_bytes, human_seconds
from hotpath.site import Hotpath
from hotpath.store import verify as store_verify
from hotpath.store.publish import needed_bytes
from hotpath.store.sharing import Sharing
from hotpath.store.store import Store

# A batch every 24 hours, and two for one that is late; as a page's own lifetime (pages/policy.py).
MAX_RUN_AGE_SECONDS: Final = 26 * 3600


@dataclass(frozen=True, slots=True)
class Invariant:
    """One thing that must be true; ``problem`` is ``None`` where it is. ``fix`` is what to do about it."""

    name: str
    problem: str | None = None
    fix: str = ""

    def __str__(self) -> str:
        return self.name if self.problem is None else f"{self.name}: {self.problem}; {self.fix}"


def every_night(
    site: Hotpath | Store,
    *,
    max_run_age_seconds: float = MAX_RUN_AGE_SECONDS,
    free_bytes: Callable[[Store], int] | None = None,
    sharing: Sharing | None = None,
) -> list[Invariant]:
    """Look at everything that can be known without the public site; changes nothing.

    ``free_bytes`` says how much room the disk has, ``sharing`` where the origin is. Raises ``StoreError`` where this
    user may not read the store.
    """
    store = site.store if isinstance(site, Hotpath) else site
    state = status(site)
    free = (free_bytes or _free)(store)
    return [
        _served(state),
        _ran(state, store.clock(), max_run_age_seconds),
        _fresh(state),
        _released(state),
        _sound(store),
        _roomy(state, free),
        *shared_caches(),
        *shared_generations(store, sharing or Sharing()),
    ]


def shared_caches() -> list[Invariant]:
    """One for each server by which functions of the declared site share values: that it answers, and stays bounded."""
    return [
        Invariant(
            f"{valkey!r} answers, and drops old values when it is full",
            "; ".join(valkey.problems()) or None,
            "each process goes on with its own cache where the server fails",
        )
        for valkey in in_use()
    ]


def shared_generations(store: Store, sharing: Sharing) -> list[Invariant]:
    """That the origin can be read, that this machine serves what it names, and that hints get through.

    Nothing where there is no origin. A hint is sent for it, at which each machine asks the origin once.
    """
    if sharing.origin is None:
        return []
    from hotpath.store.origin.following import hints_of, origin_of  # object storage is an extra

    try:
        chosen = origin_of(sharing).begin().state.chosen
    except HotpathError as error:
        return [Invariant("the origin can be read", str(error), "pages are served from this machine meanwhile")]
    result = [Invariant("the origin can be read")]
    try:
        serving = store.chosen_sequence()
    except NothingPublished:
        serving = None
    name = "this machine serves what the origin names"
    if serving == (chosen.sequence if chosen is not None else None):
        result.append(Invariant(name))
    else:
        here, there = ("nothing" if n is None else f"generation {n}" for n in (serving, chosen and chosen.sequence))
        fix = "see that 'hotpath follow' runs here; 'hotpath push' sends what was built here"
        result.append(Invariant(name, f"it serves {here}, and the origin has {there}", fix))
    hints = hints_of(sharing)
    if hints is not None:
        result.append(Invariant(f"hints get through {hints.name}", hints.problem(), "machines ask at their interval"))
        hints.close()
    return result


def problems(invariants: list[Invariant]) -> list[str]:
    """Those that are not true, a line each."""
    return [str(invariant) for invariant in invariants if invariant.problem is not None]


def lines(invariants: list[Invariant]) -> Iterator[str]:
    """All, as a person reads them."""
    for invariant in invariants:
        yield f"ok    {invariant.name}" if invariant.problem is None else f"WRONG {invariant}"


def _served(state: StoreStatus) -> Invariant:
    name = "hot pages are served as they were published"
    if state.degraded is not None:
        return Invariant(name, state.degraded, "'hotpath recover TARGET' brings it back")
    served = [generation for generation in state.generations if "serving" in generation.state]
    newest = state.generations[0] if state.generations else None
    if served and newest is not None and served[0] is not newest and "pinned" in served[0].state:
        held = f"generation {served[0].generation} is pinned, and {newest.generation} waits behind it"
        return Invariant(name, held, "'hotpath unpin' serves the newest again")
    return Invariant(name)


def _ran(state: StoreStatus, now: float, most: float) -> Invariant:
    """By the report of the last run; by the newest generation where another program publishes."""
    name = f"the batch ran in the last {human_seconds(int(most))}"
    fix = "look at what starts it: 'systemctl list-timers', /etc/cron.d"
    if state.last_run_problem is not None:
        return Invariant(name, state.last_run_problem, "run the check as the user of the batch")
    run: dict[str, Any] = dict(state.last_run or {})
    if not run:
        ages = [age for generation in state.generations if (age := generation.age_seconds) is not None]
        if not ages:
            # A site of watched directories alone has nothing to run.
            return Invariant(name) if state.directories and state.is_hot else Invariant(name, "it never ran", fix)
        run = {"time": now - min(ages), "outcome": None}
    if (age := now - run["time"]) > most:
        return Invariant(name, f"it ran {human_seconds(int(age))} ago", fix)
    if run["outcome"] in (FAILED, QUARANTINED):
        return Invariant(name, f"its run {run['outcome']}: {run['reason']}", "'hotpath status' says which items")
    if failures := run.get("failures"):
        kept = f"{counted(len(failures), 'item')} failed and kept older bytes or went to the app"
        return Invariant(name, kept, "'hotpath status' says which items")
    return Invariant(name)


def _fresh(state: StoreStatus) -> Invariant:
    name = "no page is older than its lifetime"
    stale = sum(generation.stale for generation in state.generations if "serving" in generation.state)
    if not stale:
        return Invariant(name)
    return Invariant(name, f"{counted(stale, 'item')} past their lifetime", "'hotpath build TARGET' makes them anew")


def _released(state: StoreStatus) -> Invariant:
    name = "nothing waits in quarantine"
    newest = max((generation.generation for generation in state.generations), default=0)
    waiting = [refused for refused in state.quarantined if refused.generation > newest]
    if not waiting:
        return Invariant(name)
    why = waiting[0].problems[0] if waiting[0].problems else "no reason given"
    fix = f"'hotpath approve TARGET {waiting[0].generation} --reason …' serves it, if it is right after all"
    return Invariant(name, f"generation {waiting[0].generation}: {why}", fix)


def _sound(store: Store) -> Invariant:
    name = "every file of the store is whole"
    try:
        report = store_verify.verify(store)
    except (HotpathError, OSError) as error:
        return Invariant(name, str(error), "'hotpath verify' says more")
    if report.is_sound:
        return Invariant(name)
    first = str((*report.problems, *report.damages)[0])
    count = len(report.problems) + len(report.damages)
    more = f" and {count - 1} more" if count > 1 else ""
    return Invariant(name, first + more, "'hotpath verify --repair' repairs what it can")


def _roomy(state: StoreStatus, free: int) -> Invariant:
    name = "the disk has room for the next build"
    served = max((g.bytes or 0 for g in state.generations if "serving" in g.state), default=0)
    if free >= (needed := needed_bytes(served)):
        return Invariant(name)
    left = f"{human_bytes(free)} are free, it needs {human_bytes(needed)}"
    return Invariant(name, left, "'hotpath prune' removes old generations")


def _free(store: Store) -> int:
    filesystem = os.statvfs(store.root if store.root.exists() else store.root.parent)
    return filesystem.f_bavail * filesystem.f_frsize
