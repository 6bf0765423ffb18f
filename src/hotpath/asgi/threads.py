"""Waiting for a thread without a place in the app's queue."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

T = TypeVar("T")

# All of them wait for the one thread that loads pages.
MOST_THREADS = 8

_limiter: RunVar[anyio.CapacityLimiter] = RunVar("hotpath_limiter")


async def run_in_thread(function: Callable[..., T], *args: object) -> T:
    """What ``function`` returns, called in a thread of hotpath's own number.

    Those of anyio are for the endpoints of the app too (forty of them, in Starlette): where all of these hang, a hot
    page must not have to wait for one.
    """
    try:
        limiter = _limiter.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(MOST_THREADS)
        _limiter.set(limiter)
    return await anyio.to_thread.run_sync(function, *args, limiter=limiter)
