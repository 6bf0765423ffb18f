"""The decisions of a shared cache about one answer: whether it may be kept, for how long, and for whom it may be used.

RFC 9111 §3 and §4, RFC 5861, RFC 9213. Pure: the time is an argument, in seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from hotpath.asgi.last_good.directives import MAX_SECONDS, AnswerPolicy, Directives, parse_delta, policy_of, values_of
from hotpath.asgi.last_good.requests import vary_of
from hotpath.serving.rfc9110 import parse_http_date
from hotpath.types import Header

# Heuristically cacheable (RFC 9110 §15.1), without those whose storing helps nobody: 204, 206, 405, 414, 501.
_HEURISTIC: Final = frozenset((200, 203, 300, 301, 308, 404, 410))
# Understood where the answer says that it may be kept.
UNDERSTOOD: Final = _HEURISTIC | {302, 307}
# What an app says that cannot answer now.
FAILURES: Final = frozenset((500, 502, 503, 504))

# RFC 9111 §4.2.2: a tenth of the time since the last change is usual; no browser and no proxy goes beyond a day.
HEURISTIC_FRACTION: Final = 10
MAX_HEURISTIC_SECONDS: Final = 86400
FOREVER: Final = float("inf")

_NEVER_STALE: Final = ("no-store", "private", "no-cache", "must-revalidate", "proxy-revalidate", "s-maxage")


@dataclass(frozen=True, slots=True)
class Stored:
    """A whole answer to a GET, as the cache has it.

    ``requested`` and ``received`` are when the request was sent and the head of the answer came. ``is_invalid``: must
    be validated before it is used, and is no last good answer.
    """

    status: int
    headers: tuple[Header, ...]
    body: bytes
    requested: float
    received: float
    is_invalid: bool = False


@dataclass(frozen=True, slots=True)
class CacheVerdict:
    """A decision and its reason, which completes the sentence "it is (not) kept" or "(not) used": ``because``."""

    is_allowed: bool
    because: str

    def __bool__(self) -> bool:
        return self.is_allowed


def storable(status: int, headers: Sequence[Header], asked: Directives) -> CacheVerdict:
    """Whether an answer to a GET that nothing makes personal may be kept (RFC 9111 §3). ``asked``: the request's."""
    directives = policy_of(headers).directives
    if status not in UNDERSTOOD:
        return CacheVerdict(False, f"status {status} is not kept")
    if "no-store" in asked:
        return CacheVerdict(False, "the request says no-store")
    forbidden = forbidding(status, headers)
    if forbidden is not None:
        return CacheVerdict(False, forbidden)
    if any(name == b"set-cookie" for name, _ in headers):
        return CacheVerdict(False, "it has Set-Cookie")
    if any(name == b"content-range" for name, _ in headers):
        return CacheVerdict(False, "it is a part of something")
    explicit = directives.names & {"public", "max-age", "s-maxage"} or any(name == b"expires" for name, _ in headers)
    if status not in _HEURISTIC and not explicit:
        return CacheVerdict(False, f"status {status} is kept only with public, max-age, s-maxage or Expires")
    return CacheVerdict(True, "nothing forbids it")


def forbidding(status: int, headers: Sequence[Header]) -> str | None:
    """Which word of an answer says that no shared cache may have it; one that was kept before goes then."""
    directives = policy_of(headers).directives
    if "private" in directives:
        return "it says private"
    # must-understand takes the place of no-store for who understands the status (§5.2.2.3).
    if "no-store" in directives and not ("must-understand" in directives and status in UNDERSTOOD):
        return "it says no-store"
    if "must-understand" in directives and status not in UNDERSTOOD:
        return f"it says must-understand, and status {status} is not understood"
    if vary_of(headers) is None:
        return "it has Vary: * or a Vary that cannot be read"
    return None


def lifetime(status: int, headers: Sequence[Header], received: float) -> float:
    """Seconds from the making of an answer for which it is fresh in a shared cache (RFC 9111 §4.2.1, §4.2.2)."""
    policy = policy_of(headers)
    explicit = _explicit_lifetime(policy, headers, received)
    if explicit is not None:
        return explicit
    if policy.directives.problems or (status not in _HEURISTIC and "public" not in policy.directives):
        return 0
    modified = _date(headers, b"last-modified")
    if modified is None:
        return 0
    since = (_date(headers, b"date") or received) - modified
    return max(0.0, min(since / HEURISTIC_FRACTION, MAX_HEURISTIC_SECONDS))


def _explicit_lifetime(policy: AnswerPolicy, headers: Sequence[Header], received: float) -> float | None:
    seconds = policy.directives.seconds
    for name in ("s-maxage", "max-age"):
        if name in seconds:
            return seconds[name]
    expires = values_of(headers, b"expires") if policy.uses_expires else []
    if not expires:
        return None
    until = parse_http_date(expires[0]) if len(set(expires)) == 1 else None  # §5.3: what is no date is in the past
    if until is None:
        return 0
    made = _date(headers, b"date")
    return max(0.0, min(until - (received if made is None else made), MAX_SECONDS))


def age(stored: Stored, now: float) -> int:
    """The ``Age`` of an answer (RFC 9111 §4.2.3). A clock that went back makes nothing younger than it came."""
    return int(corrected_initial_age(stored) + max(0.0, now - stored.received))


def corrected_initial_age(stored: Stored) -> float:
    """How old an answer was when it came."""
    made = _date(stored.headers, b"date")
    apparent = 0.0 if made is None else max(0.0, stored.received - made)
    first = next(iter(values_of(stored.headers, b"age")), None)
    # Of several members the first counts (§5.1).
    given = None if first is None else parse_delta(first.partition(b",")[0].strip(b" \t"))
    delay = max(0.0, stored.received - stored.requested)
    return max(apparent, (given or 0) + delay)


def ttl(stored: Stored, now: float) -> float:
    """Seconds for which it is still fresh; negative since it is stale."""
    if stored.is_invalid:
        return min(0.0, -float(age(stored, now))) - 1
    return lifetime(stored.status, stored.headers, stored.received) - age(stored, now)


def reusable(stored: Stored, asked: Directives, now: float) -> CacheVerdict:
    """Whether it may be used without asking the app (RFC 9111 §4), for a request with the directives ``asked``."""
    left, directives = ttl(stored, now), policy_of(stored.headers).directives
    if stored.is_invalid or "no-cache" in directives:
        return CacheVerdict(False, "it must be validated")
    if "no-cache" in asked or "no-store" in asked:
        return CacheVerdict(False, "the request wants an answer of the app")
    if left <= 0:
        return CacheVerdict(False, "it is stale")
    if age(stored, now) > asked.seconds.get("max-age", MAX_SECONDS):
        return CacheVerdict(False, "it is older than the request wants")
    if left < asked.seconds.get("min-fresh", 0):
        return CacheVerdict(False, "it is not fresh for as long as the request wants")
    return CacheVerdict(True, "it is fresh")


def usable_on_error(stored: Stored, now: float, stale_seconds: float) -> CacheVerdict:
    """Whether it may stand in for an app that fails (RFC 9111 §4.2.4, RFC 5861 §4).

    ``stale_seconds`` is for how long after its freshness, where the answer itself does not say ``stale-if-error``;
    ``FOREVER`` is for ever, whatever that says.
    """
    directives = policy_of(stored.headers).directives
    if stored.is_invalid:
        return CacheVerdict(False, "a later answer or request made it invalid")
    if "no-cache" in directives:
        return CacheVerdict(False, "it says no-cache")
    left = ttl(stored, now)
    if left > 0:
        return CacheVerdict(True, "it is still fresh")
    for name in _NEVER_STALE:
        if name in directives:
            return CacheVerdict(False, f"it is stale, and {name} forbids its use then")
    window = FOREVER if stale_seconds == FOREVER else directives.seconds.get("stale-if-error", stale_seconds)
    if -left > window:
        return CacheVerdict(False, "it is stale for longer than stale-if-error or --stale allows")
    return CacheVerdict(True, "it is stale, which is allowed while the app fails")


def usable_while_revalidating(stored: Stored, asked: Directives, now: float) -> bool:
    """Whether it may be used while a fresh one is fetched (RFC 5861 §3)."""
    directives = policy_of(stored.headers).directives
    if stored.is_invalid or any(name in directives for name in _NEVER_STALE):
        return False
    if asked.names & {"no-cache", "no-store", "max-age", "min-fresh"}:
        return False
    return 0 <= -ttl(stored, now) < directives.seconds.get("stale-while-revalidate", 0)


def is_worth_keeping(headers: Sequence[Header], *, is_fresh_mode: bool) -> CacheVerdict:
    """Whether there is a use for what may be kept: what is always validated first is no last good answer.

    What is ``is_bound_by_time`` has none where it is ``is_stale_at_once`` too.
    """
    directives = policy_of(headers).directives
    if any(name == b"content-type" and value.lower().startswith(b"text/event-stream") for name, value in headers):
        return CacheVerdict(False, "it is a stream of events, which has no end")
    if is_fresh_mode:
        return CacheVerdict(True, "it can be validated")
    if "no-cache" in directives:
        return CacheVerdict(False, "it says no-cache, which forbids its use while the app fails")
    return CacheVerdict(True, "it can stand in for an app that fails")


def is_bound_by_time(headers: Iterable[Header]) -> bool:
    """Whether an answer says that it is not to be used once it is stale."""
    return bool(policy_of(headers).directives.names & {"must-revalidate", "proxy-revalidate", "s-maxage"})


def is_stale_at_once(status: int, headers: Sequence[Header]) -> bool:
    """Whether it is stale when it comes."""
    return lifetime(status, headers, 0.0) <= 0


def is_worse(status: int, body_length: int, kept_status: int, kept_length: int) -> bool:
    """Whether a new answer is worse than the one that is kept: an empty 200 after a full one."""
    return status == 200 and body_length == 0 and kept_status == 200 and kept_length > 0


def is_robots(key: bytes) -> bool:
    """Whether the key is that of a ``robots.txt``; while it fails, crawlers leave the site alone (RFC 9309 §2.3.1.4).

    That of a URL with a query is not.
    """
    path = key.partition(b"\n")[0].split(b"/", 3)
    return len(path) == 4 and path[3] == b"robots.txt"


def selecting_fields(headers: Sequence[Header]) -> tuple[bytes, ...]:
    """The names of the request fields that select an answer: those of ``Vary`` and, where the answer has a content
    coding, ``Accept-Encoding``, which apps forget.
    """
    names = vary_of(headers) or ()
    if any(name == b"content-encoding" for name, _ in headers):
        names = tuple(sorted({*names, b"accept-encoding"}))
    return names


def tags_of(headers: Iterable[Header]) -> frozenset[bytes]:
    """The names by which an answer can be purged: ``Surrogate-Key`` (spaces) and ``Cache-Tag`` (commas)."""
    headers = list(headers)
    keys = [tag for value in values_of(headers, b"surrogate-key") for tag in value.split()]
    tags = [tag.strip(b" \t") for value in values_of(headers, b"cache-tag") for tag in value.split(b",")]
    return frozenset(tag for tag in (*keys, *tags) if tag)


def _date(headers: Sequence[Header], name: bytes) -> int | None:
    values = values_of(headers, name)
    return parse_http_date(values[0].strip(b" \t")) if len(values) == 1 else None
