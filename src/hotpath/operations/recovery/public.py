"""What stands between the store and people: the edge's copies, cold caches, and what the public is answered."""

from __future__ import annotations

from hotpath.operations.check import check
from hotpath.operations.check import lines as check_lines
from hotpath.operations.purge.changed import changed_keys
from hotpath.operations.recovery.incident import Incident, Look, Stopped
from hotpath.operations.warm import warm

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
