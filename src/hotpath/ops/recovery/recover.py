"""``hotpath recover``: the one command for a bad night. Every step is looked at, done, and looked at again.

It can be killed at any moment and run again: the second run goes on where the first was. A third one finds nothing to
do and changes nothing. It stops at the first step that fails and says what to do.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime

from hotpath.batch.run import build
from hotpath.errors import HotpathError, NothingPublished, StoreBusy, StoreError
from hotpath.ops.check import public_base
from hotpath.ops.recovery.incident import Begin, Incident, Step, Stopped, Wish
from hotpath.ops.recovery.journal import BEGIN, DOING, DONE, END, FAILED, SKIPPED, Entry, Journal
from hotpath.ops.recovery.steps import Build, Check, Publish, Purge, RollBack, Validate, Verify, Warm
from hotpath.process.fork import LOCK_DESCRIPTORS
from hotpath.site import Hotpath
from hotpath.store.store import Store

# Within this time another run belongs to the same bad night: it goes on, and undoes or repeats nothing.
SAME_NIGHT_SECONDS = 6 * 3600

# In their order; the names are what the journal and the checklist call them.
_STEPS: tuple[Callable[[Incident], Step], ...] = (Verify, RollBack, Build, Validate, Publish, Purge, Warm, Check)

_MARKS = {DONE: "[x]", SKIPPED: "[-]", FAILED: "[!]", DOING: "[>]"}


@dataclass(frozen=True, slots=True)
class Recovery:
    """A recovery as its journal has it: the last entry of each step, in order.

    ``serving`` is what is served now; ``changed`` says whether this run did anything.
    """

    store: str
    number: int
    begun: int
    entries: tuple[Entry, ...]
    finished: bool
    changed: bool
    serving: int | None

    @property
    def failed(self) -> Entry | None:
        return next((entry for entry in self.entries if entry.state == FAILED), None)

    def as_dict(self) -> dict[str, object]:
        """For ``--json``."""
        return {
            "store": self.store,
            "recovery": self.number,
            "begun": self.begun,
            "finished": self.finished,
            "changed": self.changed,
            "serving": self.serving,
            "steps": [
                {"step": entry.step, "state": entry.state, "told": entry.told, "next": entry.next_step}
                for entry in self.entries
            ],
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """What a recovery would do; ``stops`` says that it would not come to its end."""

    number: int
    goes_on: bool
    steps: tuple[tuple[str, str], ...]
    stops: bool

    def as_dict(self) -> dict[str, object]:
        """For ``--json``."""
        return {
            "recovery": self.number,
            "goes_on": self.goes_on,
            "stops": self.stops,
            "steps": [{"step": name, "would": told} for name, told in self.steps],
        }


def recover(
    hot: Hotpath,
    wish: Wish,
    *,
    target: str = "TARGET",
    new: bool = False,
    run_batch: Callable[[Hotpath], object] = build,
    tell: Callable[[Entry], object] | None = None,
) -> Recovery:
    """Bring a site back; ``tell`` gets each line of the journal as it is written.

    A run within six hours goes on with the last recovery, unless that was finished and something else is served since,
    or ``new`` is given. ``target`` is what the user calls ``hot``, for what is told. Raises ``StoreBusy`` where another
    recovery or a build is at it, ``DeclarationError`` for a wrong wish.
    """
    _check_wish(hot, wish)
    journal = Journal(hot.store)
    with hot.store.explained():
        _make_root(hot.store)
    with journal.held():
        known = [] if new else _same_night(hot.store, journal.last())
        if known and known[-1].state == END:
            incident = _incident(hot, wish, target, known, run_batch)
            if _holds(_steps(incident)):
                return _result(hot.store, known, changed=False)
        return _Run(hot, wish, target, journal, known, run_batch, tell or (lambda entry: None)).go()


def plan(hot: Hotpath, wish: Wish, *, target: str = "TARGET", new: bool = False) -> Plan:
    """What ``recover`` would do now. Changes nothing, and asks no server."""
    _check_wish(hot, wish)
    entries = Journal(hot.store).last()
    known = [] if new else _same_night(hot.store, entries)
    incident = _incident(hot, wish, target, known, build)
    told = []
    stops = False
    for step in _steps(incident):
        try:
            told.append((step.name, step.plan()))
        except Stopped as error:
            told.append((step.name, f"stop: {error.problem}; next: {error.next_step}"))
            stops = True
            break
    number = known[-1].recovery if known else (entries[-1].recovery if entries else 0) + 1
    return Plan(number, bool(known), tuple(told), stops)


def lines(found: Recovery) -> list[str]:
    """The checklist as a person reads it."""
    return [heading(found.number, found.begun, found.store), *map(line, found.entries), *ending(found)]


def heading(number: int, begun: int, store: str) -> str:
    """The first line of the checklist."""
    return f"recovery {number} of {store}, begun {datetime.fromtimestamp(begun, UTC):%Y-%m-%d %H:%M:%S} UTC"


def line(entry: Entry) -> str:
    """One step of the checklist."""
    told = f"  {_MARKS[entry.state]} {entry.step:<10} {entry.told}"
    return f"{told}\n      next: {entry.next_step}" if entry.next_step else told


def ending(found: Recovery) -> list[str]:
    """How it ended."""
    if not found.finished:
        return [f"stopped; generation {found.serving} is served" if found.serving else "stopped; nothing is served"]
    told = [f"done: generation {found.serving} is served"]
    if not found.changed:
        told.append("all of this still holds; nothing was changed (--new begins another recovery)")
    return told


def plan_lines(found: Plan) -> list[str]:
    """The plan as a person reads it."""
    first = f"recovery {found.number} would {'go on' if found.goes_on else 'begin'}; nothing is changed now"
    return [first, *(f"  [ ] {name:<10} {told}" for name, told in found.steps)]


@dataclass(slots=True)
class _Run:
    """One run of a recovery, from what is ``known`` of it to its end."""

    hot: Hotpath
    wish: Wish
    target: str
    journal: Journal
    known: list[Entry]
    run_batch: Callable[[Hotpath], object]
    tell: Callable[[Entry], object]
    number: int = field(init=False)

    def go(self) -> Recovery:
        store = self.hot.store
        if self.known:
            self.number = self.known[-1].recovery
        else:
            last = self.journal.last()
            self.number = last[-1].recovery + 1 if last else 1
            begin = _begin_now(store)
            self._write(BEGIN, facts=asdict(begin))
        incident = _incident(self.hot, self.wish, self.target, self.known, self.run_batch)
        with _kept(store, incident.served):
            self._go_through(incident)
        return _result(store, self.known, changed=True)

    def _go_through(self, incident: Incident) -> None:
        """All steps, up to the first that fails."""
        for step in _steps(incident):
            try:
                self._take(step, incident)
            except StoreBusy:
                raise
            except Stopped as error:
                return self._write(FAILED, step.name, error.problem, error.next_step)
            except HotpathError as error:
                return self._write(FAILED, step.name, str(error), "mend that, then run this again")
            serving = incident.serving
            incident.served |= {serving} if serving is not None else set()
        return self._write(END)

    def _take(self, step: Step, incident: Incident) -> None:
        """Look, do, look again."""
        look = step.look()
        before = _last_of(self.known, step.name)
        if not look.needed:
            state = SKIPPED if look.skipped else DONE
            if before is None or before.state not in (DONE, state):
                self._write(state, step.name, look.told, facts=incident.facts.get(step.name))
            return
        self._write(DOING, step.name, look.told)
        incident.begun |= {step.name}
        told = step.apply()
        after = step.look()
        if after.needed:
            raise Stopped(
                f"{told}, and still: {after.told}", f"hotpath status {self.target} and 'hotpath verify' say more"
            )
        self._write(DONE, step.name, told, facts=incident.facts.get(step.name))

    def _write(
        self,
        state: str,
        step: str = "",
        told: str = "",
        next_step: str | None = None,
        facts: Mapping[str, object] | None = None,
    ) -> None:
        store = self.hot.store
        noted = {"serving": _serving(store), **(facts or {})}
        entry = Entry(int(store.clock()), self.number, state, step, told, next_step, noted)
        self.journal.append(entry)
        self.known.append(entry)
        self.tell(entry)


def _steps(incident: Incident) -> list[Step]:
    return [step(incident) for step in _STEPS]


def _incident(
    hot: Hotpath, wish: Wish, target: str, known: Sequence[Entry], run_batch: Callable[[Hotpath], object]
) -> Incident:
    begin = Begin(**known[0].facts) if known else _begin_now(hot.store)
    facts = {entry.step: entry.facts for entry in known if entry.state == DONE}
    begun = frozenset(entry.step for entry in known if entry.state == DOING)
    seen = (begin.serving, _serving(hot.store), *(entry.facts.get("serving") for entry in known))
    base_url = public_base(wish.base_url) if wish.base_url is not None else None
    asked = replace(wish, base_url=base_url)
    return Incident(
        hot, target, asked, begin, facts, begun, frozenset(one for one in seen if one is not None), run_batch
    )


def _begin_now(store: Store) -> Begin:
    try:
        pinned = store.pointer(store.pin_path)
    except (StoreError, OSError):
        pinned = None
    return Begin(_serving(store), store.next_sequence() - 1, pinned.sequence if pinned else None)


@contextmanager
def _kept(store: Store, sequences: Iterable[int]) -> Iterator[None]:
    """Keep generations, bad ones too, from being pruned: the edge has what they had, and the difference is purged."""
    held = []
    try:
        for sequence in sequences:
            with suppress(StoreError, OSError):  # one that cannot be read is purged by all of its successor's URLs
                held.append(store.disk.open_regular(store.manifest_path(sequence)))
                store.disk.try_lock(held[-1], shared=True)
        LOCK_DESCRIPTORS.update(held)
        yield
    finally:
        LOCK_DESCRIPTORS.difference_update(held)
        for descriptor in held:
            os.close(descriptor)


def _same_night(store: Store, entries: list[Entry]) -> list[Entry]:
    """The entries of the last recovery where this run belongs to it."""
    if not entries or entries[0].state != BEGIN or store.clock() - entries[-1].time > SAME_NIGHT_SECONDS:
        return []
    if entries[-1].state == END and entries[-1].facts.get("serving") != _serving(store):
        return []
    return entries


def _holds(all_steps: Sequence[Step]) -> bool:
    """Whether there is nothing to do in any step."""
    try:
        return not any(step.look().needed for step in all_steps)
    except StoreBusy:
        raise
    except HotpathError:
        return False


def _last_of(entries: Sequence[Entry], step: str) -> Entry | None:
    return next((entry for entry in reversed(entries) if entry.step == step), None)


def _result(store: Store, known: Sequence[Entry], *, changed: bool) -> Recovery:
    names = dict.fromkeys(entry.step for entry in known if entry.step)
    entries = tuple(entry for name in names if (entry := _last_of(known, name)) is not None)
    finished, serving = known[-1].state == END, _serving(store)
    return Recovery(str(store.root), known[0].recovery, known[0].time, entries, finished, changed, serving)


def _serving(store: Store) -> int | None:
    try:
        return store.chosen_sequence()
    except NothingPublished:
        return None


def _check_wish(hot: Hotpath, wish: Wish) -> None:
    """What could never work is said before anything is done."""
    if wish.base_url is not None:
        public_base(wish.base_url)
    if wish.build:
        hot.plan()


def _make_root(store: Store) -> None:
    """The journal comes before the first generation, so it has to have a place."""
    if not store.root.exists():
        with store.locked():
            pass
