"""Verify what the store holds, and leave a generation that cannot be served."""

from __future__ import annotations

from hotpath.errors import StoreError
from hotpath.operations.recovery.incident import Incident, Look, Stopped
from hotpath.operations.verify import repair, verify


class Verify:
    """Read everything, mend what needs no guess; what stays damaged is the next step's business."""

    name = "verify"

    def __init__(self, incident: Incident) -> None:
        self._incident = incident

    def look(self) -> Look:
        found = verify(self._incident.hot.store)
        read = f"{found.generations} generations, {found.files} files read"
        wrong = [*found.problems, *map(str, found.damages)]
        known = set(self._incident.facts.get(self.name, {}).get("left", ()))
        if not wrong:
            return Look(False, f"{read}: every file is what was published")
        if known.issuperset(wrong):
            return Look(False, f"{read}: {len(wrong)} cannot be mended ({wrong[0]})")
        return Look(True, f"{read}: {len(wrong)} wrong ({wrong[0]})")

    def apply(self) -> str:
        store = self._incident.hot.store
        if RollBack.name in self._incident.begun and _was_cut_off(self._incident):
            store.rollback()  # finishes it; a repair would take what is left of it for damage
        found = repair(store)
        left = [*found.problems, *map(str, found.damages)]
        self._incident.facts = {**self._incident.facts, self.name: {"left": left}}
        told = f"{len(found.repaired)} mended" if found.repaired else "nothing could be mended"
        return f"{told}, {len(left)} cannot be mended ({left[0]})" if left else f"{told}, every file is right"

    def plan(self) -> str:
        look = self.look()
        return f"mend what needs no guess: {look.told}" if look.needed else look.told


class RollBack:
    """Leave a generation that is damaged, or that the caller says is wrong."""

    name = "roll back"

    def __init__(self, incident: Incident) -> None:
        self._incident = incident

    def look(self) -> Look:
        incident = self._incident
        serving = incident.serving
        if serving is None:
            if incident.wish.build:
                return Look(False, "nothing can be served yet; the batch makes a generation", skipped=True)
            raise Stopped("nothing can be served", f"hotpath recover {incident.target} --build runs the batch")
        if self.name in incident.begun and _was_cut_off(incident):
            return Look(True, f"the rollback to generation {serving} was cut off before its end")
        reason = self._reason(serving)
        if reason is None:
            if incident.wish.rollback and serving != incident.begin.serving:
                return Look(
                    False, f"generation {incident.begin.serving} was left in this recovery, {serving} is served"
                )
            return Look(False, f"generation {serving} is whole and stays")
        target = self._target(serving)
        if target is None:
            if incident.wish.build:
                return Look(False, f"{reason}; there is none to go back to, the batch makes a new one")
            raise Stopped(
                f"{reason}, and there is no valid generation before it",
                f"hotpath recover {incident.target} --build runs the batch; pages that are whole are served meanwhile",
            )
        return Look(True, f"{reason}; generation {target} is the newest valid one before it")

    def apply(self) -> str:
        serving = self._incident.serving
        assert serving is not None
        reason = self._reason(serving) or "recover"
        start, end = self._incident.hot.store.rollback(reason=reason)
        return (
            f"back from generation {start} to {end}, which is pinned: builds publish beside it until"
            f" 'hotpath unpin {self._incident.target}'"
        )

    def plan(self) -> str:
        look = self.look()
        return f"go back: {look.told}" if look.needed else look.told

    def _reason(self, serving: int) -> str | None:
        """Why this generation has to be left."""
        incident = self._incident
        if incident.wish.rollback and serving == incident.begin.serving:
            return f"generation {serving} is not wanted (--rollback)"
        damages = incident.hot.store.verify_generation(serving)
        return f"generation {serving} is damaged ({damages[0].path.name} {damages[0].problem})" if damages else None

    def _target(self, serving: int) -> int | None:
        store = self._incident.hot.store
        bad = store.bad()
        older = [n for n in store.sequences() if n < serving and n not in bad]
        return next((n for n in reversed(older) if not store.verify_generation(n)), None)


def _was_cut_off(incident: Incident) -> bool:
    """Whether a rollback was killed between its marks and its pointer, which comes last."""
    store = incident.hot.store
    try:
        current = store.pointer(store.current_path)
        return current is not None and current.sequence in store.bad()
    except (StoreError, OSError):
        return False
