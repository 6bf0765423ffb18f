"""The status page of a front: what its door and its app do, and the memory of the app over time."""

from __future__ import annotations

import asyncio
import contextlib
from bisect import bisect_left
from collections.abc import AsyncIterator
from typing import Final

import psutil

from hotpath.dashboard.access import Access, token_from_environment
from hotpath.dashboard.app import Dashboard
from hotpath.dashboard.facts import AppFacts
from hotpath.dashboard.traffic import BOUNDS
from hotpath.front.door import Door
from hotpath.front.group import tree_bytes
from hotpath.front.supervisor import Supervisor
from hotpath.front.upstream import Upstream
from hotpath.log import logger
from hotpath.serving.reader import reader_of
from hotpath.site import Hotpath

# Seconds between two looks at the memory of the app, and between two countings of hits, which visit every page.
MEMORY_SECONDS: Final = 5.0
LOOKS_PER_COUNT: Final = 4


class FrontBoard:
    """``dashboard`` with what only the front knows. ``local_socket``: it is asked for by a Unix socket of the user."""

    def __init__(
        self,
        hot: Hotpath,
        door: Door,
        upstream: Upstream,
        supervisor: Supervisor | None,
        *,
        local_socket: bool = False,
    ) -> None:
        self._hot = hot
        self._upstream = upstream
        self._supervisor = supervisor
        self._hits = 0
        # Hot answers by bucket of their time: all of them, which the door's thread counts without a lock, and those
        # that the page has.
        self._turns = [0] * (len(BOUNDS) + 1)
        self._taken = [*self._turns]
        door.on_turn = self._door_answered
        self.dashboard = Dashboard(hot=hot, access=Access(token=token_from_environment(), local_socket=local_socket))
        self.dashboard.sources.app = self._app

    def answered(self, seconds: float) -> None:
        """The app has answered a request after so long."""
        self.dashboard.sources.traffic.add(cold=1, seconds=seconds)

    def _door_answered(self, count: int, seconds: float) -> None:
        self._turns[bisect_left(BOUNDS, seconds)] += count

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Measure for as long as the block runs."""
        task = asyncio.ensure_future(self._watch())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _app(self) -> AppFacts:
        upstream, supervisor = self._upstream, self._supervisor
        return AppFacts(
            address=str(upstream.address),
            is_up=upstream.is_up if supervisor is None else supervisor.is_up,
            is_paused=upstream.is_paused,
            in_flight=upstream.in_flight,
            waiting=upstream.waiting,
            held=upstream.held,
            restarts=0 if supervisor is None else supervisor.restarts,
            deploys=0 if supervisor is None else supervisor.deploys,
            failed_deploys=0 if supervisor is None else supervisor.failed_deploys,
        )

    async def _watch(self) -> None:
        look = 0
        while True:
            try:
                if look % LOOKS_PER_COUNT == 0:
                    await asyncio.to_thread(self._count)
                if self._supervisor is not None:
                    await asyncio.to_thread(self._measure, self._supervisor)
            except Exception:  # the front serves on without its plots
                logger.exception("hotpath: the status page could not measure; it goes on")
            look += 1
            await asyncio.sleep(MEMORY_SECONDS)

    def _count(self) -> None:
        hits = sum(reader_of(self._hot).loader.answers.values())
        turns = [*self._turns]
        timed = [now - before for now, before in zip(turns, self._taken, strict=True)]
        self.dashboard.sources.traffic.add(hot=max(0, hits - self._hits), hot_seconds=timed)
        self._hits, self._taken = hits, turns

    def _measure(self, supervisor: Supervisor) -> None:
        child = supervisor.current
        used = 0 if child is None or child.has_ended else tree_bytes(child.pid)
        limit = supervisor.care.memory or psutil.virtual_memory().total
        pid = child.pid if child is not None else 0
        self.dashboard.sources.recorder.note("up" if supervisor.is_up else "down", limit, used, pid=pid)
