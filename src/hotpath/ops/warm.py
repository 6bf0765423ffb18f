"""``hotpath warm``: fetch the critical pages of a fresh deploy until all answer 200, or the time is over."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import orjson

from hotpath.errors import DeclarationError
from hotpath.ops.http import USER_AGENT, Client, check_user_agent, parse_url, request_target

CONCURRENCY = 8
DEADLINE_SECONDS = 60.0
MAX_BODY_BYTES = 64 * 1024 * 1024

# Between two tries of one page.
PAUSE_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Warmed:
    """One page: its last ``status`` (None where there was no answer), how often it was asked, how long it took."""

    url: str
    status: int | None
    tries: int
    seconds: float
    problem: str | None

    @property
    def is_warm(self) -> bool:
        """Whether it was 200."""
        return self.status == 200


def warm(
    urls: Sequence[str],
    *,
    concurrency: int = CONCURRENCY,
    deadline_seconds: float = DEADLINE_SECONDS,
    user_agent: str = USER_AGENT,
) -> list[Warmed]:
    """Ask every URL until it is 200, at most ``concurrency`` at a time and ``deadline_seconds`` in all.

    ``user_agent`` is what a firewall has to let pass. Raises ``DeclarationError`` for what is no URL.
    """
    if not urls:
        raise DeclarationError("nothing to warm; write the URLs of the pages that have to stand")
    if not 1 <= concurrency <= 64 or not deadline_seconds > 0:
        raise DeclarationError("concurrency is 1 to 64, and the deadline is in seconds, more than 0")
    for url in urls:
        parse_url(url, "URL")
    check_user_agent(user_agent)
    deadline = time.monotonic() + deadline_seconds
    with ThreadPoolExecutor(concurrency, thread_name_prefix="hotpath-warm") as pool:
        return list(pool.map(lambda url: _warm_one(url, deadline, user_agent), urls))


def _warm_one(url: str, deadline: float, user_agent: str) -> Warmed:
    started = time.monotonic()
    status: int | None = None
    problem: str | None = "there was no time left"
    tries = 0
    while (left := deadline - time.monotonic()) > 0:
        tries += 1
        with Client(url, timeout_seconds=left, shown=url, max_bytes=MAX_BODY_BYTES) as client:
            reply = client.get(request_target(url), {"User-Agent": user_agent})
        status, problem = reply.status or None, reply.problem
        if status == 200:
            break
        if status is not None:
            problem = f"answered {status}{_why(reply.body)}"
        time.sleep(min(PAUSE_SECONDS, max(0.0, deadline - time.monotonic())))
    return Warmed(url, status, tries, round(time.monotonic() - started, 3), problem)


def _why(body: bytes) -> str:
    """What ``Health`` says of a process that is not ready; nothing for any other answer."""
    try:
        reasons = orjson.loads(body)["reasons"]
    except (orjson.JSONDecodeError, TypeError, KeyError, IndexError):
        return ""
    texts = [reason for reason in reasons if isinstance(reason, str)] if isinstance(reasons, list) else []
    # Text from a network is not printed as it is: it could control the terminal.
    return "".join(f"; {''.join(filter(str.isprintable, text))[:200]}" for text in texts[:5])


def lines(pages: Sequence[Warmed]) -> list[str]:
    """As a person reads it."""
    lines = []
    for page in pages:
        state = "warm" if page.is_warm else f"NOT WARM: {page.problem}"
        tries = f" after {page.tries} tries" if page.tries > 1 else ""
        lines.append(f"{page.url}  {state}{tries}, {page.seconds:.2f} s")
    cold = sum(not page.is_warm for page in pages)
    lines.append(f"{len(pages) - cold} of {len(pages)} warm")
    return lines
