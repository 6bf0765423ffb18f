"""For tests, yours and ours: a clock that stands still and the smallest possible ASGI client."""

from __future__ import annotations

from hotpath.asgi.client import Response, asgi_get


class FakeClock:
    """A clock that moves only by ``advance``: pass it where a ``clock`` is taken. Seconds since the epoch."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


__all__ = ["FakeClock", "Response", "asgi_get"]
