"""Verify what the store holds, and leave a generation that cannot be served."""

from __future__ import annotations

from hotpath.errors import BuildFailed, Implausible, StoreError
from hotpath.ops.check import check
from hotpath.ops.check import lines as check_lines
from hotpath.ops.purge.changed import changed_keys
from hotpath.ops.recovery.incident import Incident, Look, Stopped
from hotpath.ops.warm import warm
from hotpath.store.repair import repair
from hotpath.store.verify import verify


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


# Where no route is critical, so many pages are asked for to warm the caches.
WARM_PAGES = 20

# A site that was just started has its first workers up by then.
WARM_SECONDS = 30.0


class Purge:
    """Tell the edge what it holds other bytes of."""

    name = "purge"

    def __init__(self, incident: Incident) -> None:
        self._incident = incident

    def look(self) -> Look:
        if (why := self._why_not()) is not None:
            return Look(False, why, skipped=True)
        serving = self._incident.serving
        urls = self._urls()
        if not urls:
            return Look(False, f"no URL has other bytes in generation {serving} than before")
        if self._incident.facts.get(self.name, {}).get("to") == serving:
            return Look(False, f"{len(urls)} URLs were purged in this recovery")
        told = "are to be purged" if self._is_all else f"have other bytes in generation {serving} than before"
        return Look(True, f"{len(urls)} URLs {told}")

    def apply(self) -> str:
        serving, urls = self._incident.serving, self._urls()
        done = []
        for purger in self._incident.wish.purgers:
            purged = purger.purge(urls)
            if purged.problem is not None:
                raise Stopped(
                    str(purged), "mend that and run this again; until then the edge keeps its copies for their max-age"
                )
            done.append(str(purged))
        self._incident.facts = {**self._incident.facts, self.name: {"to": serving}}
        return ", ".join(done)

    def plan(self) -> str:
        what = "every URL" if self._is_all else f"what differs from generation {self._incident.begin.serving}"
        return self._why_not() or f"purge {what}: {self._names()}"

    def _why_not(self) -> str | None:
        if self._incident.wish.base_url is None:
            return "no --base-url is given"
        return None if self._incident.wish.purgers else "no HOTPATH_PURGE_… is set"

    def _names(self) -> str:
        return ", ".join(purger.name for purger in self._incident.wish.purgers)

    @property
    def _is_all(self) -> bool:
        """Whether it is not known what the edge holds."""
        return self._incident.wish.purge_all or self._incident.begin.serving is None

    def _urls(self) -> list[str]:
        incident = self._incident
        after = incident.manifest(incident.serving)
        if after is None:
            return []
        # The edge may hold bytes of any generation that was served since the recovery began.
        held = {None} if self._is_all else incident.served - {incident.serving}
        keys = dict.fromkeys(key for old in held for key in changed_keys(incident.manifest(old), after))
        return [f"{incident.wish.base_url}{key}" for key in keys]


class Warm:
    """Ask for the critical pages once, so that caches have them before people come."""

    name = "warm"

    def __init__(self, incident: Incident) -> None:
        self._incident = incident

    def look(self) -> Look:
        if self._incident.wish.base_url is None:
            return Look(False, "no --base-url is given", skipped=True)
        if self._incident.facts.get(self.name, {}).get("to") == self._incident.serving:
            return Look(False, f"generation {self._incident.serving} was warmed in this recovery")
        return Look(True, f"ask for {len(self._keys())} pages")

    def apply(self) -> str:
        incident = self._incident
        urls = [f"{incident.wish.base_url}{key}" for key in self._keys()]
        cold = [one for one in warm(urls, deadline_seconds=WARM_SECONDS) if not one.is_warm]
        if cold:
            raise Stopped(
                f"{len(cold)} of {len(urls)} pages did not answer 200, the first {cold[0].url}: {cold[0].problem}",
                "start the site (or its front), see that --base-url is right, then run this again;"
                f" 'hotpath status {incident.target}' says what it would serve",
            )
        incident.facts = {**incident.facts, self.name: {"to": incident.serving}}
        return f"{len(urls)} pages answered 200"

    def plan(self) -> str:
        if self._incident.wish.base_url is None:
            return "no --base-url is given"
        return f"ask for the critical pages of {self._incident.wish.base_url}"

    def _keys(self) -> list[str]:
        incident = self._incident
        manifest = incident.manifest(incident.serving)
        if manifest is None:
            return []
        critical = {route.path.text for route in incident.hot.routes if route.expects.critical}
        keys = [key for key, item in manifest.items.items() if item.policy.route in critical]
        return keys or list(manifest.items)[:WARM_PAGES]


class Check:
    """See what the public gets."""

    name = "check"

    def __init__(self, incident: Incident) -> None:
        self._incident = incident

    def look(self) -> Look:
        incident = self._incident
        if incident.wish.base_url is None:
            return Look(False, "no --base-url is given", skipped=True)
        found = check(incident.hot, incident.wish.base_url, incident.wish.check)
        if found.is_right:
            return Look(
                False, f"{found.asked} of {found.pages} pages asked for, every answer is generation {found.generation}"
            )
        raise Stopped(
            f"{check_lines(found)[-1]}, the first {found.failures[0]}",
            f"'hotpath check {incident.target} --base-url {incident.wish.base_url}' names all; mend that, run again",
        )

    def apply(self) -> str:
        raise AssertionError("there is never anything to do")

    def plan(self) -> str:
        if self._incident.wish.base_url is None:
            return "no --base-url is given"
        return f"compare what {self._incident.wish.base_url} answers with what is published"
