"""Keeps the app running: starts it, looks whether it lives, replaces what has ended, hangs or is too large."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hotpath.front.child import Child, ask
from hotpath.front.deploy import deploy
from hotpath.front.group import GroupMaker, free_bytes, tree_bytes
from hotpath.front.restarts import DELAYS, Restarts
from hotpath.front.servers import ServerCommand
from hotpath.front.upstream import Upstream
from hotpath.log import logger
from hotpath.options import human_bytes

HEALTH_SECONDS: Final = 5.0
# Where no group can be made: a leak of 100 MB a second grows by 50 MB between two looks.
MEMORY_SECONDS: Final = 0.5
REPLACE_AT: Final = 0.9
# One that is so large this soon will be again: replacing it would only go on for ever.
REPLACE_AFTER_SECONDS: Final = 10.0
# Where no process can be made.
RETRY_SECONDS: Final = 0.5
# What must be free beside a second copy of the app: for the front, and because a new process grows while it starts.
SPARE_BYTES: Final = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Care:
    """How the app is looked after; times in seconds, ``memory`` in bytes.

    ``health`` is a path that is asked now and then: any answer says that the app lives, none within ``health_timeout``
    that it does not. ``ready`` is a path that answers 2xx or 3xx once the app may get requests; without one it may as
    soon as it answers ``health``.
    """

    ready: str | None = None
    health: str = "/healthz"
    health_timeout: float = 30.0
    start_timeout: float = 60.0
    drain: float = 30.0
    memory: int | None = None


class Supervisor:
    """The app at ``upstream``, with ``command`` on sockets in ``directory``. For one event loop, in the main thread.

    ``groups`` makes memory groups; ``free`` says how many bytes may still be allocated.
    """

    def __init__(
        self,
        command: ServerCommand,
        upstream: Upstream,
        directory: Path,
        care: Care,
        *,
        groups: GroupMaker | None = None,
        free: Callable[[], int] = free_bytes,
    ) -> None:
        self.upstream = upstream
        self.care = care
        self.current: Child | None = None
        self.restarts = 0
        self.deploys = 0
        self.failed_deploys = 0
        self._command = command
        self._directory = directory
        self._groups = groups
        self._free = free
        self._numbers = itertools.count(1)
        self._failures = Restarts()
        self._wanted = asyncio.Event()
        self._asked: list[asyncio.Future[bool]] = []
        self._children: set[Child] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._heard_at = 0.0

    @property
    def is_up(self) -> bool:
        """Whether requests are sent to an app that is there."""
        child = self.current
        return child is not None and not child.has_ended and self.upstream.address == child.address

    def reload(self) -> asyncio.Future[bool]:
        """Replace the app by a new process, with the code that is there now; in the end, whether that one serves."""
        self._wanted.set()
        asked: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._asked.append(asked)
        return asked

    def heard(self) -> None:
        """The app has answered somebody, so it lives."""
        self._heard_at = time.monotonic()

    async def run(self) -> None:
        """Keep the app running until cancelled; then everything that was started has ended."""
        try:
            while True:
                self._wanted.clear()
                try:
                    child = self.start()
                except OSError as error:  # no memory, or no process more
                    await self._postpone(error)
                    continue
                self.current = child
                is_ready = await self._first(self.is_ready(child))
                if is_ready or not self._wanted.is_set():
                    asked, self._asked = self._asked, []
                    _settle(asked, is_ready)
                if is_ready:
                    self.up(child)
                    child = await self._serve(child)
                elif not child.has_ended and not self._wanted.is_set():
                    logger.warning("hotpath: the app is not ready after %g s and is ended", self.care.start_timeout)
                await self._bury(child)
        finally:
            await self._end_all()

    def start(self) -> Child:
        """A new process of the app; nobody is sent there yet. Raises ``OSError`` where none can be made now."""
        group = None
        if self.care.memory is not None and self._groups is not None:
            group = self._groups.make(self.care.memory)
        try:
            child = Child(self._command, self._directory / f"app-{next(self._numbers)}.sock", group=group)
        except OSError:
            if group is not None:
                group.remove()
            raise
        self._children.add(child)
        return child

    async def is_ready(self, child: Child) -> bool:
        """Wait until the app may get requests; whether it may."""
        return await child.become_ready(self.care.ready, self.care.health, self.care.start_timeout)

    def up(self, child: Child) -> None:
        """Send new requests there from now on."""
        self.current = child
        self.upstream.switch(child.address)
        self._spawn(self._watch_health(child))
        if self.care.memory is not None and child.group is None:
            self._spawn(self._watch_memory(child, self.care.memory))

    def retire(self, child: Child) -> None:
        """Let the requests end that it has, then end it; nobody waits for that."""
        self._spawn(self._retire(child))

    async def end(self, child: Child) -> None:
        """End a process and forget it."""
        await child.end()
        self._children.discard(child)

    async def drain(self, child: Child) -> None:
        """Hold new requests, until ``upstream.resume``, and wait for those that the child has."""
        if not self.upstream.is_paused:
            self.upstream.pause(self.care.drain + self.care.start_timeout)
        await self.upstream.drained(child.address, self.care.drain)

    def has_room_beside(self, child: Child) -> bool:
        """Whether there is memory for a second process as large as this one."""
        return self._free() >= tree_bytes(child.pid) + SPARE_BYTES

    async def _serve(self, child: Child) -> Child:
        """Replace the app as often as that is wanted; the process that has ended at last."""
        while not child.has_ended:
            await self._first(child.ended.wait())
            if self._wanted.is_set() and not child.has_ended:
                self._wanted.clear()
                asked, self._asked = self._asked, []
                old, child = child, await deploy(self, child)
                if child is not old:
                    self._failures.forget()
                _settle(asked, child is not old)
        return child

    async def _bury(self, child: Child) -> None:
        """Say how it ended, and wait until the next is due."""
        served = child.served_seconds
        was_wanted = self._wanted.is_set()
        if not child.has_ended:
            await self.end(child)
        how = child.how_it_ended
        lines = await asyncio.to_thread(child.last_lines)
        await child.clean_up()
        self._children.discard(child)
        if was_wanted:
            self._failures.forget()
            return
        self.restarts += 1
        restart = self._failures.ended(served)
        if restart.is_loop:
            logger.error(
                "hotpath: the app %s: it %s. It is started again after %s s, and at once on SIGHUP or 'hotpath reload'."
                " It printed last:%s",
                "does not start" if served is None else "ends again and again",
                how,
                ", ".join(f"{delay:g}" for delay in DELAYS[1:]),
                "".join(f"\n  {line}" for line in lines) or " nothing",
            )
        elif self._failures.failures == 1:
            logger.warning("hotpath: the app %s; a new one starts", how)
        await self._first(asyncio.sleep(restart.delay))
        if self._wanted.is_set():
            self._failures.forget()

    async def _postpone(self, error: OSError) -> None:
        failure = self._failures.ended(None)
        if failure.is_loop:
            logger.error("hotpath: the app cannot be started now (%s); it is tried again", error)
        await self._first(asyncio.sleep(max(failure.delay, RETRY_SECONDS)))

    async def _first(self, waiting: Awaitable[object]) -> bool:
        """Wait for something, or until a reload is wanted; whether it was the first, and true."""
        task = asyncio.ensure_future(waiting)
        wanted = asyncio.ensure_future(self._wanted.wait())
        try:
            await asyncio.wait((task, wanted), return_when=asyncio.FIRST_COMPLETED)
            return task.done() and bool(task.result())
        finally:
            for each in (task, wanted):
                each.cancel()

    async def _retire(self, child: Child) -> None:
        if not await self.upstream.drained(child.address, self.care.drain):
            logger.warning(
                "hotpath: the old app had requests for more than %g s (--drain) and is ended", self.care.drain
            )
        await self.end(child)

    async def _watch_health(self, child: Child) -> None:
        limit = self.care.health_timeout
        self.heard()
        while True:
            await asyncio.sleep(min(HEALTH_SECONDS, limit / 3))
            if child.has_ended or child is not self.current:
                return
            left = self._heard_at + limit - time.monotonic()
            if left > limit / 2:
                continue  # it has answered somebody else
            if await ask(child.socket, self.care.health, max(left, limit / 3)) is not None:
                self.heard()
            elif time.monotonic() - self._heard_at >= limit and not child.has_ended and child is self.current:
                logger.warning("hotpath: the app gave no answer for %g s (--health-timeout) and is killed", limit)
                child.kill()
                return

    async def _watch_memory(self, child: Child, limit: int) -> None:
        is_replaced = False
        while not child.has_ended:
            held = await asyncio.to_thread(tree_bytes, child.pid)
            if held >= limit and not child.has_ended:
                logger.warning(
                    "hotpath: the app holds %s of --memory %s and is killed", human_bytes(held), human_bytes(limit)
                )
                child.kill()
            elif held >= limit * REPLACE_AT and child is self.current and not is_replaced and _has_served(child):
                is_replaced = True
                logger.warning(
                    "hotpath: the app holds %s of --memory %s and is replaced", human_bytes(held), human_bytes(limit)
                )
                self.reload()
            await asyncio.sleep(MEMORY_SECONDS)

    async def _end_all(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*(child.end() for child in self._children), return_exceptions=True)
        _settle(self._asked, False)

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _has_served(child: Child) -> bool:
    return (child.served_seconds or 0.0) >= REPLACE_AFTER_SECONDS


def _settle(asked: list[asyncio.Future[bool]], is_done: bool) -> None:
    for future in asked:
        if not future.done():
            future.set_result(is_done)
