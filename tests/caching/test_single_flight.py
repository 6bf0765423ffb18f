"""One call for each key at a time, and nobody who waits for a leader that is gone."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

from hotpath.caching.single_flight import AsyncSingleFlight, SingleFlight


def test_a_child_does_not_wait_for_a_leader_that_stayed_in_the_parent() -> None:
    flight: SingleFlight[int] = SingleFlight()
    leading, go_on = threading.Event(), threading.Event()

    def lead() -> int:
        leading.set()
        go_on.wait(10)
        return 1

    leader = threading.Thread(target=flight.call, args=("a", lead))
    leader.start()
    assert leading.wait(10)
    child = os.fork()
    if child == 0:
        os._exit(flight.call("a", lambda: 7, timeout_seconds=5))
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7
    with pytest.raises(TimeoutError):
        flight.call("a", lambda: 2, timeout_seconds=0.05)
    go_on.set()
    leader.join(10)


def test_a_loop_that_was_closed_over_a_call_holds_nobody_up() -> None:
    flight: AsyncSingleFlight[int] = AsyncSingleFlight()

    async def never() -> int:
        await asyncio.sleep(100)
        return 1

    async def quick() -> int:
        return 7

    first = asyncio.new_event_loop()
    task = first.create_task(flight.call("a", never))
    first.run_until_complete(asyncio.sleep(0.01))
    assert asyncio.run(asyncio.wait_for(flight.call("a", quick), 5)) == 7
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        first.run_until_complete(task)
    first.close()
