"""Follow an origin: make what its pointers name what this machine serves, whole or not at all.

An origin that is gone, or broken, is an error in the record of a look. What is served stays.
"""

from __future__ import annotations

import random as random_module
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from hotpath.errors import HotpathError, NothingPublished, StoreBusy, StoreError
from hotpath.log import Once
from hotpath.store import foreign
from hotpath.store.damage import serious
from hotpath.store.foreign import is_foreign, origin_of
from hotpath.store.history import read_history
from hotpath.store.origin.bucket import Bucket
from hotpath.store.origin.machines import MachineReport, write_report
from hotpath.store.origin.objects import UNCHANGED
from hotpath.store.origin.origin import Origin
from hotpath.store.origin.pointers import OriginState
from hotpath.store.origin.pull import Pulled, forget_kept, holds, pull
from hotpath.store.os_errors import explain
from hotpath.store.pointer import Pointer
from hotpath.store.prune import tidy
from hotpath.store.store import Store

DEFAULT_EVERY_SECONDS = 10.0
# Machines that were started together must not ask together for ever.
JITTER = 0.1
# A hint wakes all machines at once; within this they ask one after the other.
HINT_SPREAD_SECONDS = 0.1

REPORT_SECONDS = 60.0
# With nothing new, a sign of life: 1,000 machines cost 4 million writes a month.
HEARTBEAT_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at the origin found and did.

    ``time`` is seconds since the epoch. ``generation`` is what this machine serves afterwards and
    ``origin_generation`` what all have to serve (``None``: nothing); ``changed`` says that this look changed something
    here. ``blobs`` and ``bytes`` crossed the network, ``linked`` files were here already. ``error`` is why the machine
    does not serve what it has to; with ``is_busy`` another writer has the store's lock, and with ``is_ahead`` this
    machine serves what it has built and not yet sent: those are no errors. ``lag_seconds`` is since when it is known
    to be behind, 0 where it is not.
    """

    time: float
    generation: int | None
    origin_generation: int | None
    changed: bool = False
    blobs: int = 0
    bytes: int = 0
    linked: int = 0
    error: str | None = None
    is_busy: bool = False
    is_ahead: bool = False
    lag_seconds: float = 0.0


class Follower:
    """Keeps a store at the generation that its origin names.

    ``every`` is the time between looks in seconds. ``name`` is what this machine is called in reports; ``None``: its
    host name; with ``reports=False`` it makes none. ``clock`` (seconds since the epoch) and ``random`` (0 to 1) are
    for tests and simulations. One thread at a time may call ``look`` or ``run``.
    """

    def __init__(
        self,
        store: Store,
        origin: Origin,
        *,
        every: float = DEFAULT_EVERY_SECONDS,
        name: str | None = None,
        reports: bool = True,
        clock: Callable[[], float] | None = None,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        self.store = store
        self.origin = origin
        self.every = every
        self.name = name or socket.gethostname()
        self._reports = reports
        self.last: Look | None = None
        self._clock = clock or origin.clock
        self._random = random
        self._bucket: Bucket = origin.bucket
        self._etag: str | None = None
        self._state = OriginState()
        # Whether there was a CURRENT at the last look: nothing is written where something else may be.
        self._is_ours = False
        self._served: tuple[object, int | None] = (None, None)
        self._in_step_at = self._clock()
        self._reported: tuple[float, MachineReport] | None = None
        self._once = Once()

    def run(
        self, stop: threading.Event, wakeup: threading.Event, on_look: Callable[[Look], object] = lambda look: None
    ) -> None:
        """Look again and again until ``stop`` is set; a set ``wakeup`` makes the next look at once.

        ``on_look`` gets each. Whoever sets ``stop`` sets ``wakeup`` too, so that nobody waits.
        """
        while not stop.is_set():
            on_look(self.look())
            if wakeup.wait(self.pause_seconds()):
                wakeup.clear()
                stop.wait(self._random() * HINT_SPREAD_SECONDS)

    def pause_seconds(self) -> float:
        """The time until the next look, with jitter."""
        return self.every * (1 - JITTER + 2 * JITTER * self._random())

    def look(self) -> Look:
        """Ask the origin once and do what follows. What goes wrong is in the result; nothing is raised for it."""
        now = self._clock()
        look = Look(now, None, None)
        try:
            look = self._look(look)
        except StoreBusy:
            look = replace(look, is_busy=True)
            self._etag = None
        except Exception as error:  # whatever it is: a follower that ended would be noticed by nobody
            look = replace(look, error=_problem(error, self.store))
            self._etag = None
        chosen = self._state.chosen
        generation = self._generation()
        is_in_step = look.error is None and not look.is_busy
        if is_in_step:
            self._in_step_at = now
        look = replace(
            look,
            generation=generation,
            origin_generation=chosen.sequence if chosen else None,
            lag_seconds=0.0 if is_in_step else max(0.0, now - self._in_step_at),
        )
        if self._is_ours and self._reports:
            self._report(look)
        self.last = look
        return look

    def _look(self, look: Look) -> Look:
        self._is_ours = False
        found = self._bucket.look(self._etag)
        self._is_ours = found is not None
        if found is UNCHANGED:
            return replace(look, is_ahead=self.last.is_ahead if self.last else False)
        if found is None:
            if self._state.current is not None:
                raise self._bucket.error(
                    "is gone", "CURRENT", "send a generation again, and look who emptied the bucket"
                )
            return look
        current, etag = found
        # Those that belong to this CURRENT, or later ones; read again only where they have changed.
        pin = self._state.pin if current.pin_change == self._state.pin.change else self._bucket.pin()
        bad = self._state.bad if current.bad_change == self._state.bad.change else self._bucket.bad()
        self._state = OriginState(current, pin, bad)
        look = self._apply(look)
        self._etag = etag
        return look

    def _apply(self, look: Look) -> Look:
        state, store = self._state, self.store
        chosen = state.chosen
        assert chosen is not None  # there is a CURRENT
        if _is_applied(store, state, chosen):
            return look
        self._require_same_site(state)
        if self._is_behind(chosen):
            return replace(look, is_ahead=True)
        with store.locked(), store.explained():
            pulled = Pulled()
            if not _is_sound(store, chosen):
                pulled = pull(self._bucket, store, chosen)
            forget_kept(store)
            _point(store, state, chosen)
            _record_approvals(store, state)
            for warning in tidy(store, {"event": "follow", "sequence": chosen.sequence}):
                self._once.warn(warning)
        return replace(look, changed=True, blobs=pulled.blobs, bytes=pulled.bytes, linked=pulled.linked)

    def _is_behind(self, chosen: Pointer) -> bool:
        """Whether the origin lacks a generation of this machine's own. Raises ``OriginError`` where it went back."""
        here = self._generation()
        if here is None or self._state.pin.pointer or here <= chosen.sequence or here in self._state.bad.marks:
            return False
        if self._has_followed(here):
            raise self._bucket.error(
                f"the origin went back from generation {here} to {chosen.sequence}, and not by a rollback; "
                f"{here} stays served",
                "CURRENT",
                "was the bucket brought back from a backup? Build again on a machine that follows it",
            )
        return True

    def _require_same_site(self, state: OriginState) -> None:
        """Raise ``OriginError`` at an origin that this machine was not given before, and that holds other pages."""
        store, here = self.store, self._generation()
        before = origin_of(store.generation_path(here)) if here is not None else None
        if here is None or before is None or before == self._bucket.url:
            return
        accepted = state.current.accepted if state.current else {}
        if not any(n in accepted and holds(store, Pointer(n, accepted[n])) for n in store.sequences()):
            raise self._bucket.error(
                f"it has none of the generations of this machine, which are from {before}; {here} stays served",
                "CURRENT",
                f"correct the address; where it is meant, remove {store.generation_path(here) / foreign.FILE}",
            )

    def _has_followed(self, here: int) -> bool:
        """Whether this machine has this generation from the origin; one that was killed may not have noted it."""
        return is_foreign(self.store.generation_path(here)) or any(
            (event.get("event"), event.get("sequence")) == ("follow", here) for event in read_history(self.store)
        )

    def _generation(self) -> int | None:
        signature = self.store.signature()
        if self._served[0] != signature:
            try:
                served = self.store.chosen_sequence()
            except (NothingPublished, StoreError, OSError):
                served = None
            self._served = (signature, served)
        return self._served[1]

    def _report(self, look: Look) -> None:
        report = MachineReport(
            self.name, look.generation, look.origin_generation, round(look.lag_seconds, 1), look.error, int(look.time)
        )
        if self._reported is not None:
            at, before = self._reported
            is_news = (report.generation, report.error) != (before.generation, before.error)
            # A clock that was set back is no reason to be silent until it is as late again.
            if 0 <= look.time - at < (REPORT_SECONDS if is_news else HEARTBEAT_SECONDS):
                return
        self._reported = (look.time, report)
        try:
            write_report(self._bucket, report)
        except HotpathError as error:
            self._once.warn(f"this machine does not show up in 'hotpath status --origin': {error}", "report")


def _problem(error: Exception, store: Store) -> str:
    if isinstance(error, OSError):
        error = explain(error, store.root)
    return str(error) if isinstance(error, HotpathError) else f"{type(error).__name__}: {error}"


def _is_applied(store: Store, state: OriginState, chosen: Pointer) -> bool:
    """Whether the pointers of the store say what those of the origin say, and the generation is there."""
    try:
        current = store.pointer(store.current_path)
        is_pinned = store.pointer(store.pin_path) == state.pin.pointer
        bad = store.bad()
        is_current = (
            current == chosen if state.pin.pointer is None else current is not None and current.sequence not in bad
        )
        is_linked = store.linked() == chosen.sequence
        return is_pinned and is_current and is_linked and bad == _marks(bad, state) and holds(store, chosen)
    except (OSError, StoreError):
        return False


def _is_sound(store: Store, chosen: Pointer) -> bool:
    return holds(store, chosen) and not serious(store.verify_generation(chosen.sequence))


def _marks(here: dict[int, str], state: OriginState) -> dict[int, str]:
    """The origin's marks, and those of this machine about generations that the origin knows nothing of."""
    accepted = state.current.accepted if state.current else {}
    return {n: reason for n, reason in here.items() if n not in accepted} | dict(state.bad.marks)


def _point(store: Store, state: OriginState, chosen: Pointer) -> None:
    """Move the pointers of the store. The generation is complete and durable, and the lock is held.

    In the order of a rollback: marks, pin, CURRENT. A second run after a kill in between does the rest.
    """
    try:
        bad, is_readable = store.bad(), True
    except StoreError:
        bad, is_readable = {}, False
    marks = _marks(bad, state)
    current = _readable(store, "CURRENT")
    pin, pinned = state.pin.pointer, _readable(store, "PIN")
    # A mark that has to go went with the generation that was replaced: it must be gone before that is named again.
    if marks != bad or not is_readable:
        store.mark_bad(marks)
    if pin is not None and pinned != pin:
        store.replace(store.pin_path, pin.encode())
    if current is None or current.sequence in marks or (pin is None and current != chosen):
        store.commit(chosen.sequence)
    if pin is None and store.pin_path.exists():
        store.disk.unlink(store.pin_path)
        store.disk.sync_directory(store.root)


def _record_approvals(store: Store, state: OriginState) -> None:
    """In the history of each machine: a builder compares with what was approved, wherever that was."""
    current = state.current
    if current is None or not current.approved:
        return
    known = {event.get("sequence") for event in read_history(store) if event.get("event") == "approve"}
    for sequence, reason in current.approved.items():
        if sequence not in known:
            store.append_history({"event": "approve", "sequence": sequence, "accepted": True, "reason": reason})
        held = store.quarantine_path / str(sequence)
        if held.exists():  # it is released, so nobody has to be asked about it
            trash = store.root / f".trash-{sequence}"
            store.disk.rename(held, trash)
            store.disk.remove_tree(trash)


def _readable(store: Store, name: str) -> Pointer | None:
    try:
        return store.pointer(store.root / name)
    except StoreError:
        return None
