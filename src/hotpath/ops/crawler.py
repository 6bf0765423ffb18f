"""Ask a server as a crawler does, and keep what was seen: statuses, generations, bytes, latency."""

from __future__ import annotations

import hashlib
import http.client
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

REQUEST_SECONDS = 5.0

CRAWLER_HEADERS = {"User-Agent": "hotpath (a crawler)", "Accept": "*/*"}


@dataclass(frozen=True, slots=True)
class Answer:
    """``status`` is 0 where no answer came; header names are in lower case; ``seconds`` is up to the last byte."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float

    @property
    def generation(self) -> str | None:
        """Which generation hotpath answered from; ``None`` where the app answered."""
        return self.headers.get("x-hotpath-generation")


@dataclass(slots=True)
class Seen:
    """All answers of one page in one pass."""

    statuses: list[int] = field(default_factory=list)
    generations: list[str | None] = field(default_factory=list)
    digests: set[str] = field(default_factory=set)
    seconds: list[float] = field(default_factory=list)

    def add(self, answer: Answer) -> None:
        self.statuses.append(answer.status)
        self.generations.append(answer.generation)
        self.digests.add(hashlib.sha256(answer.body).hexdigest())
        self.seconds.append(answer.seconds)

    @property
    def status(self) -> int:
        """200 only where every answer was; else the first that was not."""
        return next((status for status in self.statuses if status != 200), 200)

    @property
    def generation(self) -> str | None:
        """``None`` where at least one answer was the app's; several are joined by a slash."""
        known = {generation for generation in self.generations if generation is not None}
        return "/".join(sorted(known)) if None not in self.generations else None


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of all are not above (nearest rank)."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


class Crawler:
    """Asks one server over one kept-alive connection, as a crawler does."""

    def __init__(self, port: int) -> None:
        self.reconnections = 0
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=REQUEST_SECONDS)

    def close(self) -> None:
        self._connection.close()

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """One answer, or one with status 0 where the server gave none."""
        started = time.perf_counter()
        reused = self._connection.sock is not None
        try:
            try:
                response = self._send(path, headers)
            except (ConnectionResetError, BrokenPipeError):
                if not reused:
                    raise
                # uvicorn closes a connection after an exception of the app. What was sent on it since is sent once
                # more on a new one, as every client does (RFC 9112 §9.3.1); the time it takes is counted.
                self._connection.close()
                self.reconnections += 1
                response = self._send(path, headers)
            body = response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return Answer(0, {}, b"", time.perf_counter() - started)
        seconds = time.perf_counter() - started
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, body, seconds)

    def _send(self, path: str, headers: Mapping[str, str] | None) -> http.client.HTTPResponse:
        self._connection.request("GET", path, headers={**CRAWLER_HEADERS, **(headers or {})})
        return self._connection.getresponse()

    def measure(self, paths: Sequence[str], rounds: int) -> dict[str, Seen]:
        """``rounds`` rounds over all paths. One that gives no answer at all is not asked again: it may hang."""
        seen = {path: Seen() for path in paths}
        for _ in range(rounds):
            for path in paths:
                if 0 not in seen[path].statuses:
                    seen[path].add(self.get(path, {"Accept-Encoding": "gzip"}))
        return seen
