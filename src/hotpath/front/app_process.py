"""The app behind the front, over all of its processes: restarts, deploys, and what it may use of memory."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from hotpath.errors import HotpathError
from hotpath.front.child import Child, await_accepting, start, status_of
from hotpath.front.group import MemoryGroup, make_group
from hotpath.front.restarts import Restarts
from hotpath.front.servers import command_of
from hotpath.front.upstream import Address, Upstream
from hotpath.log import logger
from hotpath.options import human_bytes

HEALTH_EVERY_SECONDS: Final = 2.0
# Where there is no memory group: how often the memory of the app is looked at, and from which share it is replaced.
WATCH_SECONDS: Final = 0.5
REPLACE_SHARE: Final = 0.9
# Requests in the old process are waited for, before it gets SIGTERM.
DRAIN_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AppOptions:
    """How the app is run. ``memory_bytes`` bounds it alone; ``ready`` is a path that is 200 once it can be used.

    ``health`` is a path that answers as long as it lives: who does not answer within ``health_seconds`` is ended.
    """

    app: str
    directory: Path
    server: str = "uvicorn"
    workers: int = 1
    memory_bytes: int | None = None
    ready: str | None = None
    health: str | None = None
    health_seconds: float = 10.0
    drain_seconds: float = DRAIN_SECONDS
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)


class AppProcess:
    """Keeps one process of the app running, and puts a new one in its place on request.

    ``upstream`` learns where it listens. ``restarts`` counts the ends that nobody asked for.
    """

    def __init__(self, options: AppOptions, upstream: Upstream) -> None:
        self.options = options
        self.restarts = Restarts()
        self.deploys = 0
        self.failed_deploys = 0
        self.child: Child | None = None
        self.group: MemoryGroup | None = None
        self.problem: str | None = None
        self._upstream = upstream
        self._number = 0
        self._wanted = asyncio.Event()
        self._is_closing = False
        self._ended_by_us: Child | None = None
        self._deploying = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        """Start the first process, and watch."""
        if self.options.memory_bytes is not None:
            self.group, why_not = make_group(f"hotpath-app-{os.getpid()}", self.options.memory_bytes)
            if self.group is None:
                logger.warning("--memory: %s; the front looks at the app's memory twice a second instead", why_not)
                self._tasks.append(asyncio.create_task(self._watch_memory(self.options.memory_bytes)))
        self._tasks.append(asyncio.create_task(self._keep()))
        if self.options.health is not None:
            self._tasks.append(asyncio.create_task(self._watch_health(self.options.health)))

    async def close(self) -> None:
        """End the app."""
        self._is_closing = True
        for task in self._tasks:
            task.cancel()
        if self.child is not None:
            await self.child.end()
        if self.group is not None:
            await asyncio.to_thread(self.group.remove)

    async def deploy(self) -> str | None:
        """Put a new process in the place of the running one. ``None``, or why everything is as before.

        Requests go to the new one once it is ready; those in the old one may end. With too little memory for both the
        old one ends first, and requests are held meanwhile.
        """
        async with self._deploying:
            old = self.child
            self.restarts.forget()
            if old is None or old.has_ended:
                self._wanted.set()  # whoever waits out a crash loop tries at once
                return None
            if not self._has_room_beside(old):
                logger.warning("too little memory for the old and the new app at once: the old one ends first")
                await self._upstream.drained(_address(old), self.options.drain_seconds)
                self._ended_by_us = old
                await old.end()  # the next one is started where it is waited for
                self.deploys += 1
                return None
            new = await self._start()
            problem = await await_accepting(new, self.options.ready)
            if problem is not None:
                said = "\n".join(f"  {line}" for line in new.printed)
                await new.kill()
                self.failed_deploys += 1
                self.problem = f"the new version did not start: it {problem}"
                logger.error("%s; the old one goes on\n%s", self.problem, said)
                return self.problem
            self.child, self.problem = new, None
            self._upstream.switch(_address(new))
            self.deploys += 1
            await self._upstream.drained(_address(old), self.options.drain_seconds)
            await old.end()
            return None

    async def _start(self) -> Child:
        self._number += 1
        options, path = self.options, self.options.directory / f"app-{self._number}.sock"
        return await start(
            command_of(options.server, options.app, str(path), options.workers),
            path,
            prefix="app | ",
            procs=self.group.procs if self.group is not None else None,
            environ=options.environ,
            workers=options.workers,
        )

    async def _keep(self) -> None:
        """Have a process, wait until it has ended, and again."""
        while not self._is_closing:
            try:
                child = await self._present()
            except OSError as error:
                logger.error("the app cannot be started: %s", error)
                await self._pause(self.restarts.ended(0.0))
                continue
            await child.process.wait()
            useful = child.useful_seconds
            async with self._deploying:  # a deploy that goes on has another one in its place soon
                if self._is_closing or self.child is not child:
                    continue
            await child.kill()
            if child is not self._ended_by_us:
                delay = self.restarts.ended(useful)
                self._say_how_it_ended(child, delay)
                await self._pause(delay)

    async def _present(self) -> Child:
        """The process that runs, or a new one."""
        async with self._deploying:
            child = self.child
            if child is None or child.has_ended:
                child = self.child = await self._start()
                self._upstream.switch(_address(child))
            return child

    async def _pause(self, seconds: float) -> None:
        self._wanted.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wanted.wait(), seconds)

    def _say_how_it_ended(self, child: Child, delay: float) -> None:
        kills = " (the kernel killed it at --memory)" if self.group is not None and self.group.kills() else ""
        self.problem = f"the app {child.how_it_ended()}{kills} after {child.lived_seconds:.1f} s"
        if self.restarts.is_loop_now:
            said = "\n".join(f"  {line}" for line in child.printed) or "  (it printed nothing)"
            logger.error(
                "%s, for the third time: it is started again every 30 s at last, 'hotpath reload' or SIGHUP tries at"
                " once. Hot pages are served meanwhile. Its last lines:\n%s",
                self.problem,
                said,
            )
        elif self.restarts.in_a_row < 3:
            logger.warning("%s; it is started again %s", self.problem, f"in {delay:g} s" if delay else "at once")

    def _has_room_beside(self, old: Child) -> bool:
        """Whether another one as large fits, as far as can be seen."""
        held = old.memory_bytes()
        if self.options.memory_bytes is not None:
            return 2 * held < self.options.memory_bytes and held < psutil.virtual_memory().available
        return held < psutil.virtual_memory().available

    async def _watch_health(self, target: str) -> None:
        """End a process whose health path hangs; an answer of any status is one."""
        while True:
            await asyncio.sleep(HEALTH_EVERY_SECONDS)
            child = self.child
            if child is None or child.has_ended or child.lived_seconds < self.options.health_seconds:
                continue
            if await status_of(child.path, target, self.options.health_seconds) is None and child is self.child:
                logger.error("the app did not answer %s within %g s, and is ended", target, self.options.health_seconds)
                await child.kill()

    async def _watch_memory(self, limit: int) -> None:
        """Replace the app at nine tenths of its memory, and end it at the limit."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            child = self.child
            if child is None or child.has_ended:
                continue
            held = await asyncio.to_thread(child.memory_bytes)
            if held >= limit:
                logger.error("the app holds %s, more than --memory, and is ended", human_bytes(held))
                await child.kill()
            elif held >= REPLACE_SHARE * limit and not self._deploying.locked():
                logger.warning("the app holds %s, nine tenths of --memory, and is replaced", human_bytes(held))
                self._tasks.append(asyncio.create_task(self._replace()))

    async def _replace(self) -> None:
        with contextlib.suppress(HotpathError):
            await self.deploy()


def _address(child: Child) -> Address:
    return Address(path=str(child.path))
