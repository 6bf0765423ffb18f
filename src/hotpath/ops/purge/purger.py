"""What the providers have in common: one call after another, waiting where they say so, and not for ever."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from hotpath.errors import DeclarationError, Unreachable
from hotpath.ops.http import Client, Reply
from hotpath.ops.secret import Secret, scrubbed
from hotpath.options import counted

TIMEOUT_SECONDS = 10.0

# Maximum time of a purge; a longer one comes too late. Bunny takes 5 URLs a second: three minutes for 1,000 pages.
PATIENCE_SECONDS = 600.0

# Seconds to wait after a 429 that does not say how long, and after an error that is transient.
PAUSE_SECONDS = 2.0
TRIES = 4

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Purged:
    """What one provider did: ``urls`` were purged; ``problem`` says why those from ``first_left`` on were not."""

    provider: str
    urls: int
    problem: str | None = None
    first_left: str | None = None

    def __str__(self) -> str:
        text = f"{self.provider}: {counted(self.urls, 'URL')} purged"
        return f"{text}, then {self.problem} (at {self.first_left})" if self.problem else text


class Purger(Protocol):
    """A cache at the edge that can drop pages."""

    @property
    def name(self) -> str: ...

    def purge(self, urls: Sequence[str]) -> Purged:
        """Purge these URLs. Never raises for what the provider does; a second call with the same ones is harmless."""
        ...


@dataclass(frozen=True, slots=True)
class Call:
    """One request to a provider, for ``urls``."""

    urls: Sequence[str]
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class CallLimits:
    """How a provider is called: each call within ``timeout_seconds``, all of them within ``patience_seconds``."""

    timeout_seconds: float = TIMEOUT_SECONDS
    patience_seconds: float = PATIENCE_SECONDS
    sleep: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic


def run_calls(
    name: str,
    base_url: str,
    calls: Iterable[Call],
    refusal: Callable[[Reply], str | None],
    limits: CallLimits,
    secrets: Sequence[Secret],
) -> Purged:
    """Make the calls one after the other and stop at the first that cannot be made.

    ``refusal`` says what a provider has against a call that it answered, ``None`` where it took it. After 429 the
    provider's ``Retry-After`` is kept; a 5xx or no answer is tried again a few times.
    """
    until = limits.monotonic() + limits.patience_seconds
    done = 0
    with Client(base_url, timeout_seconds=limits.timeout_seconds, shown=name) as client:
        for call in calls:
            problem = _made(client, call, refusal, limits, until)
            if problem is not None:
                return Purged(name, done, scrubbed(problem, secrets), call.urls[0])
            done += len(call.urls)
    return Purged(name, done)


def _made(
    client: Client, call: Call, refusal: Callable[[Reply], str | None], limits: CallLimits, until: float
) -> str | None:
    """Make one call; returns why it could not be made."""
    tries = 0
    while True:
        tries += 1
        pause = PAUSE_SECONDS * tries
        try:
            reply = client.ask(call.method, call.target, call.headers, call.body)
        except Unreachable as error:
            problem = error.problem
        else:
            if reply.status == 429:
                # An answer that says to wait is no failed try; patience bounds it.
                tries -= 1
                pause = reply.retry_after_seconds or PAUSE_SECONDS
                problem = f"429: too many purges, and it says to wait {pause:g} s more"
            elif reply.status >= 500:
                problem = f"{reply.status}: {refusal(reply) or 'it failed'}"
            else:
                return refusal(reply)
        if tries >= TRIES or limits.monotonic() + pause > until:
            return problem
        limits.sleep(pause)


def batches(urls: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """``urls`` in parts of at most ``size``."""
    for start in range(0, len(urls), size):
        yield urls[start : start + size]


def check_token(token: Secret, name: str) -> None:
    """A token that fits into a header. Raises ``DeclarationError``, which does not show it."""
    text = token.reveal()
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise DeclarationError(f"{name} is empty or has characters that no token has; copy it once more")


def said(reply: Reply) -> str:
    """The beginning of what an answer says, on one line."""
    return " ".join(reply.body.decode("utf-8", "replace").split())[:200] or "nothing"
