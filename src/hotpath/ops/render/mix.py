"""What a load script asks for: the site's hot pages, or the real mix of its access logs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final
from urllib.parse import quote

from hotpath.errors import DeclarationError
from hotpath.ops.render.facts import SiteFacts
from hotpath.ops.traffic.logs import summarize
from hotpath.ops.traffic.summary import Summary
from hotpath.ops.traffic.templates import Tally

# Paths of one route in a script, spread over all of them: a file that can still be read.
MAX_PATHS: Final = 200
MAX_ROUTES: Final = 50
# Without a log: what a small site's crawlers ask for in all.
RATE: Final = 10
# Of a hot page: what one process answers in less than a millisecond may take a tenth of a second on the way.
HOT_P99_MS: Final = 100
# Of cold ones without a log, and at least; with one, so many times the mean that it has.
COLD_P95_MS: Final = 1000
TIMES_MEAN: Final = 3


@dataclass(frozen=True, slots=True)
class MixedRoute:
    """``weight`` is its share of the requests, in requests; ``paths`` are asked for in any order."""

    name: str
    hot: bool
    weight: int
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Mix:
    """``rate`` is requests a second; ``source`` says in a line where all of it is from."""

    routes: tuple[MixedRoute, ...]
    rate: int
    cold_p95_ms: int
    source: str

    def as_lists(self) -> list[dict[str, object]]:
        """For a script."""
        return [asdict(route) for route in self.routes]


def mix_of(facts: SiteFacts) -> Mix:
    """By the logs of ``facts.logs`` where there are some. Raises ``DeclarationError`` where nothing is published."""
    hot = _hot_paths(facts)
    if not hot:
        raise DeclarationError(f"{facts.store}: nothing is published, so no page is hot; run 'hotpath build' first")
    if not facts.logs:
        routes = [MixedRoute(name, True, len(paths), _spread(paths)) for name, paths in hot.items()]
        return Mix(tuple(routes[:MAX_ROUTES]), RATE, COLD_P95_MS, "every hot page alike: give --log for the real mix")
    summary = summarize(facts.logs, [])
    return _from_log(summary, hot)


def _hot_paths(facts: SiteFacts) -> dict[str, list[str]]:
    by_route: dict[str, list[str]] = {}
    for key in facts.manifest.items if facts.manifest is not None else ():
        route = facts.manifest.items[key].policy.route  # type: ignore[union-attr]
        by_route.setdefault(route, []).append(key)
    return {route: by_route[route] for route in sorted(by_route)}


def _from_log(summary: Summary, hot: dict[str, list[str]]) -> Mix:
    route_of = {key.partition("?")[0]: route for route, keys in hot.items() for key in keys}
    weights: dict[str, int] = {}
    cold: list[tuple[str, Tally]] = []
    for path, tally in summary.templates.items():
        examples = [route_of.get(example.decode("utf-8", "replace")) for example in tally.examples]
        route = next((route for route in examples if route is not None), None)
        if route is not None:
            weights[route] = weights.get(route, 0) + tally.hits
        elif tally.examples and 2 * tally.errors < tally.hits:
            cold.append((path, tally))
    routes = [MixedRoute(route, True, weight, _spread(hot[route])) for route, weight in weights.items()]
    routes += [MixedRoute(path, False, tally.hits, _quoted(tally.examples)) for path, tally in cold]
    routes.sort(key=lambda route: (-route.weight, route.name))
    seconds = 60 * summary.observed_minutes
    timed = sum(tally.timed for _, tally in cold)
    mean_ms = 1000 * sum(tally.seconds for _, tally in cold) / timed if timed else 0.0
    hits = sum(route.weight for route in routes)
    return Mix(
        tuple(routes[:MAX_ROUTES]),
        max(1, round(hits / seconds)) if seconds else RATE,
        max(COLD_P95_MS, round(TIMES_MEAN * mean_ms)),
        f"the mix of {hits} requests in the logs, whose addresses are asked for by GET",
    )


def _spread(paths: Sequence[str]) -> tuple[str, ...]:
    step = -(-len(paths) // MAX_PATHS)
    return tuple(paths[::step])


def _quoted(examples: Sequence[bytes]) -> tuple[str, ...]:
    """As ASCII, whatever somebody asked for; what was an escape stays one."""
    return tuple(quote(re.sub(rb"[\x00-\x20]", b"", example), safe="/%!$&'()*+,;=:@~") for example in examples)
