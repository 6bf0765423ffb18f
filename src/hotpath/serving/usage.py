"""How often hot pages answered, by route and result; counted by what requests count anyway."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from hotpath.serving.snapshot import Page

Key = tuple[str, str]


class Usage:
    """Adds up the counters of pages, those that are no longer in memory too.

    Requests never come here but for a redirect: each answer has a counter of its own. A request that is answered from a
    page at the moment this goes may be missing.
    """

    def __init__(self) -> None:
        self._retired: Counter[Key] = Counter()
        self._redirects: Counter[Key] = Counter()
        self._highest: dict[Key, int] = {}

    def retire(self, page: Page) -> None:
        """Keep the counters of a page that is let go of."""
        for result, count in page.results().items():
            if count:
                self._retired[page.policy.route, result] += count

    def redirect(self, route: str) -> None:
        """Count a redirect to a page of this route, which no page counts."""
        self._redirects[route, "redirect"] += 1

    def totals(self, pages: Iterable[Page]) -> Mapping[Key, int]:
        """Answers by route and result, with those of ``pages``. Never less than the last time."""
        totals = self._retired + self._redirects
        for page in pages:
            for result, count in page.results().items():
                if count:
                    totals[page.policy.route, result] += count
        # Between the going of a page and its retirement it is counted nowhere.
        for key, count in totals.items():
            self._highest[key] = max(count, self._highest.get(key, 0))
        return self._highest
