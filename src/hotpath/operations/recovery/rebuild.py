"""Run the batch, see that its result was accepted, and that it is what is served."""

from __future__ import annotations

from hotpath.errors import BuildFailed, Implausible
from hotpath.operations.recovery.incident import Incident, Look, Stopped


class Build:
    """Run the batch, once in a recovery."""

    name = "build"

    def __init__(self, incident: Incident) -> None:
        self._incident = incident

    def look(self) -> Look:
        if not self._incident.wish.build:
            return Look(False, "not asked for (--build)", skipped=True)
        if self._incident.built is not None:
            return Look(False, f"generation {self._incident.built} was built in this recovery")
        if self._incident.refused is not None:
            return Look(False, f"the batch ran, generation {self._incident.refused.sequence} is in quarantine")
        return Look(True, f"run the batch, {len(self._incident.hot.plan())} items")

    def apply(self) -> str:
        try:
            self._incident.run_batch(self._incident.hot)
        except Implausible as error:
            self._incident.refused = error
            return f"the batch ran, generation {error.sequence} is in quarantine"
        except BuildFailed as error:
            first = f" ({error.failures[0]})" if error.failures else ""
            raise Stopped(f"{error}{first}", "mend what failed, then run this again") from None
        return f"generation {self._incident.built} is built"

    def plan(self) -> str:
        return self.look().told


class Validate:
    """See that what was built was accepted, and is on the disk as it was built."""

    name = "validate"

    def __init__(self, incident: Incident) -> None:
        self._incident = incident

    def look(self) -> Look:
        incident = self._incident
        if not incident.wish.build:
            return Look(False, "nothing was built", skipped=True)
        if incident.refused is not None:
            number = incident.refused.sequence
            raise Stopped(
                f"generation {number} is not plausible: {'; '.join(incident.refused.problems[:3])}",
                f"mend the data and run this again, or: hotpath approve {incident.target} {number} --reason …",
            )
        assert incident.built is not None
        damages = incident.hot.store.verify_generation(incident.built)
        if damages:
            raise Stopped(str(damages[0]), "look at the kernel's log (dmesg): the disk does not keep what is written")
        return Look(False, f"generation {incident.built} was accepted and reads back as it was built")

    def apply(self) -> str:
        raise AssertionError("there is never anything to do")

    def plan(self) -> str:
        return (
            "see that the new generation is plausible and reads back" if self._incident.wish.build else self.look().told
        )


class Publish:
    """See that the new generation is served; take away the pin that the rollback of this recovery has set."""

    name = "publish"

    def __init__(self, incident: Incident) -> None:
        self._incident = incident

    def look(self) -> Look:
        incident, store = self._incident, self._incident.hot.store
        if not incident.wish.build:
            return Look(False, "nothing was built", skipped=True)
        built, serving = incident.built, incident.serving
        if serving == built:
            return Look(False, f"generation {built} is served")
        pin = store.pointer(store.pin_path)
        if pin is not None and incident.begin.pinned is not None:
            return Look(
                False,
                f"generation {built} is published; {serving} was pinned before and stays served until"
                f" 'hotpath unpin {incident.target}'",
            )
        if pin is not None:
            return Look(True, f"generation {built} is published beside generation {pin.sequence}, which is pinned")
        raise Stopped(f"generation {built} is published, but {serving} is served", f"hotpath status {incident.target}")

    def apply(self) -> str:
        pinned = self._incident.hot.store.unpin()
        return f"generation {self._incident.built} is served; {pinned} is no longer pinned"

    def plan(self) -> str:
        return "serve the new generation" if self._incident.wish.build else self.look().told
