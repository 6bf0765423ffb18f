"""A new version beside the old one: no request is lost, and a version that does not come up changes nothing."""

from __future__ import annotations

import asyncio
from typing import Protocol

from hotpath.front.child import Child
from hotpath.front.upstream import Upstream
from hotpath.log import logger


class Deployer(Protocol):
    """What a deploy needs of who looks after the app."""

    upstream: Upstream
    deploys: int
    failed_deploys: int

    def start(self) -> Child:
        """A new process of the app; nobody is sent there yet."""

    async def is_ready(self, child: Child) -> bool:
        """Wait until the app may get requests; whether it may."""

    def up(self, child: Child) -> None:
        """Send new requests there from now on."""

    def retire(self, child: Child) -> None:
        """Let the requests end that it has, then end it."""

    async def end(self, child: Child) -> None:
        """End a process at once."""

    async def drain(self, child: Child) -> None:
        """Hold new requests and wait for those that it has."""

    def has_room_beside(self, child: Child) -> bool:
        """Whether there is memory for a second process as large as this one."""


async def deploy(app: Deployer, old: Child) -> Child:
    """Replace ``old``. The process that serves from now on: a new one, or ``old`` where the new one did not start."""
    if not app.has_room_beside(old):
        return await _one_after_the_other(app, old)
    logger.warning("hotpath: a new version of the app starts beside the old one")
    try:
        new = app.start()
    except OSError as error:
        app.failed_deploys += 1
        logger.error("hotpath: no new process can be started now (%s): the old one goes on", error)
        return old
    if not await app.is_ready(new):
        app.failed_deploys += 1
        await _report(app, new, "the old one goes on")
        return old
    app.up(new)
    app.retire(old)
    _say_done(app, new)
    return new


async def _one_after_the_other(app: Deployer, old: Child) -> Child:
    logger.warning("hotpath: memory does not suffice for two: the old app ends first, requests wait for the new one")
    was_paused = app.upstream.is_paused
    try:
        await app.drain(old)
        await app.end(old)
        try:
            new = app.start()
        except OSError:
            return old  # which has ended, so that starting is tried again
        if await app.is_ready(new):
            app.up(new)
            _say_done(app, new)
            return new
    finally:
        if not was_paused:
            app.upstream.resume()
    app.failed_deploys += 1
    await _report(app, new, "the old one has ended, so it is started again")
    return old


async def _report(app: Deployer, new: Child, consequence: str) -> None:
    how = "is not ready" if not new.has_ended else new.how_it_ended
    await app.end(new)
    lines = await asyncio.to_thread(new.last_lines)
    logger.error(
        "hotpath: the new version of the app did not come up (it %s): %s. It printed last:%s",
        how,
        consequence,
        "".join(f"\n  {line}" for line in lines) or " nothing",
    )


def _say_done(app: Deployer, new: Child) -> None:
    app.deploys += 1
    logger.warning("hotpath: the new version of the app serves (process %d)", new.pid)
