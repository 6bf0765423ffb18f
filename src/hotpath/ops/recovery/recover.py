"""``hotpath recover``: the one command for a bad night. Each step is looked at, done, and looked at again.

It can be killed at any moment and run again: the second run continues where the first was. A third one has nothing to
do and changes nothing. It stops at the first step that fails and says what to do.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from hotpath.batch.run import build
from hotpath.errors import HotpathError, StoreBusy, StoreError
from hotpath.ops.check import public_base
from hotpath.ops.recovery.incident import Incident, RecoveryOptions, Stopped, serving
from hotpath.ops.recovery.journal import BEGIN, DOING, DONE, END, FAILED, SKIPPED, Journal, JournalEntry
from hotpath.ops.recovery.steps import STEPS, Step
from hotpath.process.fork import LOCK_DESCRIPTORS
from hotpath.site import Hotpath
from hotpath.store.locks import hold
from hotpath.store.store import Store

# A run within this time continues the last recovery, and undoes or repeats nothing.
SAME_NIGHT_SECONDS = 6 * 3600

_MARKS = {DONE: "[x]", SKIPPED: "[-]", FAILED: "[!]", DOING: "[>]"}


@dataclass(frozen=True, slots=True)
class Recovery:
    """A recovery as its journal has it: the last entry of each step, in order.

    ``serving`` is the generation served now; ``changed`` says whether this run did anything.
    """

    store: str
    recovery: int
    begun: int
    finished: bool
    changed: bool
    serving: int | None
    steps: tuple[JournalEntry, ...]

    @property
    def failed(self) -> JournalEntry | None:
        return next((entry for entry in self.steps if entry.state == FAILED), None)

    def as_dict(self) -> dict[str, object]:
        """For ``--json``."""
        steps = [{"step": e.step, "state": e.state, "text": e.text, "next": e.next_step} for e in self.steps]
        return {**asdict(self), "steps": steps}


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A step, and what it would do."""

    step: str
    would: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a recovery would do; ``stops`` says that it would not come to its end."""

    recovery: int
    goes_on: bool
    stops: bool
    steps: tuple[PlannedStep, ...]


def recover(
    hot: Hotpath,
    options: RecoveryOptions,
    *,
    target: str = "TARGET",
    new: bool = False,
    run_batch: Callable[[Hotpath], object] = build,
    report: Callable[[JournalEntry], object] = lambda entry: None,
) -> Recovery:
    """Bring a site back; ``report`` gets each line of the journal as it is written.

    A run within six hours continues the last recovery, unless that was finished and something else is served since, or
    ``new`` is given. ``target`` is what the user calls ``hot``, for messages. Raises ``StoreBusy`` where another
    recovery or a build runs, ``DeclarationError`` for wrong options.
    """
    options = _checked(hot, options)
    store, journal = hot.store, Journal(hot.store)
    with store.explained():
        if not store.root.exists():  # the journal comes before the first generation
            with store.locked():
                pass
    with journal.held():
        number, entries = _continued(store, journal, new)
        incident = Incident(hot, options, target, run_batch, number, entries, journal, report)
        if not entries:
            incident.note(BEGIN)
        with _kept(store, incident.served):
            _run_steps(incident)
    names = dict.fromkeys(entry.step for entry in entries if entry.step)
    steps = tuple(entry for name in names if (entry := incident.last(name)) is not None)
    finished = entries[-1].state == END
    return Recovery(str(store.root), number, entries[0].time, finished, incident.wrote, serving(store), steps)


def plan(hot: Hotpath, options: RecoveryOptions, *, target: str = "TARGET", new: bool = False) -> Plan:
    """What ``recover`` would do now. Changes nothing, and asks no server."""
    options = _checked(hot, options)
    number, entries = _continued(hot.store, Journal(hot.store), new)
    incident = Incident(hot, options, target, build, number, entries)
    steps = []
    stops = False
    for step in STEPS:
        try:
            would = step.skip(options) or (step.plan(incident) if step.plan else step.look(incident).text)
        except Stopped as error:
            would = f"stop: {error.problem}; next: {error.next_step}"
            stops = True
        steps.append(PlannedStep(step.name, would))
        if stops:
            break
    return Plan(number, bool(entries), stops, tuple(steps))


def lines(recovery: Recovery) -> list[str]:
    """The checklist as a person reads it."""
    first = heading(recovery.recovery, recovery.begun, recovery.store)
    return [first, *map(line, recovery.steps), *ending(recovery)]


def heading(number: int, begun: int, store: str) -> str:
    """The first line of the checklist."""
    return f"recovery {number} of {store}, begun {datetime.fromtimestamp(begun, UTC):%Y-%m-%d %H:%M:%S} UTC"


def line(entry: JournalEntry) -> str:
    """One step of the checklist."""
    text = f"  {_MARKS[entry.state]} {entry.step:<10} {entry.text}"
    return f"{text}\n      next: {entry.next_step}" if entry.next_step else text


def ending(recovery: Recovery) -> list[str]:
    """How it ended."""
    served = f"generation {recovery.serving} is served" if recovery.serving else "nothing is served"
    if not recovery.finished:
        return [f"stopped; {served}"]
    unchanged = "all of this still holds; nothing was changed (--new begins another recovery)"
    return [f"done: {served}", *([] if recovery.changed else [unchanged])]


def plan_lines(plan: Plan) -> list[str]:
    """The plan as a person reads it."""
    first = f"recovery {plan.recovery} would {'continue' if plan.goes_on else 'begin'}; nothing is changed now"
    return [first, *(f"  [ ] {planned.step:<10} {planned.would}" for planned in plan.steps)]


def _run_steps(incident: Incident) -> None:
    """All steps, up to the first that fails."""
    for step in STEPS:
        try:
            _run_step(incident, step)
        except StoreBusy:
            raise
        except HotpathError as error:
            next_step = error.next_step if isinstance(error, Stopped) else "fix that, then run this again"
            return incident.note(FAILED, step.name, str(error), next_step)
    if incident.entries[-1].state != END:
        incident.note(END)
    return None


def _run_step(incident: Incident, step: Step) -> None:
    """Look, do, look again. A step that is done already is noted once."""
    last = incident.last(step.name)
    if (why := step.skip(incident.options)) is not None:
        if last is None or last.state not in (DONE, SKIPPED):
            incident.note(SKIPPED, step.name, why)
        return
    look = step.look(incident)
    if look.apply is None:
        if last is None or last.state != DONE:
            incident.note(DONE, step.name, look.text)
        return
    incident.note(DOING, step.name, look.text)
    done = look.apply()
    incident.facts |= {(step.name, name): fact for name, fact in done.facts.items()}
    if (after := step.look(incident)).apply is not None:
        raise Stopped(
            f"{done.text}, and still: {after.text}",
            f"hotpath status {incident.target} and 'hotpath verify' say more",
        )
    incident.note(DONE, step.name, done.text, facts=done.facts)


@contextmanager
def _kept(store: Store, sequences: Iterable[int]) -> Iterator[None]:
    """Keep generations, bad ones too, from being pruned: the edge has what they had, and the difference is purged."""
    descriptors = []
    try:
        for sequence in sequences:
            with suppress(StoreError, OSError):  # one that cannot be read is purged by all of its successor's URLs
                descriptors.append(store.disk.open_regular(store.manifest_path(sequence)))
                hold(store.disk, descriptors[-1])
        LOCK_DESCRIPTORS.update(descriptors)
        yield
    finally:
        LOCK_DESCRIPTORS.difference_update(descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _continued(store: Store, journal: Journal, new: bool) -> tuple[int, list[JournalEntry]]:
    """The number of this recovery, and the entries of its earlier runs."""
    entries = journal.last()
    if not entries:
        return 1, []
    first, last = entries[0], entries[-1]
    is_over = last.state == END and last.facts.get("serving") != serving(store)
    if new or is_over or first.state != BEGIN or store.clock() - last.time > SAME_NIGHT_SECONDS:
        return last.recovery + 1, []
    return last.recovery, entries


def _checked(hot: Hotpath, options: RecoveryOptions) -> RecoveryOptions:
    """The options with the base URL as the steps need it. Raises ``DeclarationError`` before anything is done."""
    if options.build:
        hot.plan()
    return replace(options, base_url=public_base(options.base_url)) if options.base_url is not None else options
