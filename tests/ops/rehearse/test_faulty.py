"""Faults around an app that knows nothing of them."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from hotpath.ops.rehearse.faulty import DatabaseGone, FaultyApp
from hotpath.ops.rehearse.switches import Switches
from hotpath.types import Receive, Scope, Send


@pytest.fixture
def switches(tmp_path: Path) -> Switches:
    return Switches(tmp_path / "switches")


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


def ask(faulty: FaultyApp) -> int:
    sent: list[int] = []

    async def send(message: object) -> None:
        assert isinstance(message, dict)
        sent.append(message["status"])

    async def receive() -> dict[str, object]:
        return {}

    asyncio.run(faulty({"type": "http", "path": "/a"}, receive, send))
    return sent[0]


def now() -> int:
    return time.monotonic_ns() // 1_000_000


def test_switches_are_seen_by_whoever_maps_the_same_page(tmp_path: Path, switches: Switches) -> None:
    other = Switches(tmp_path / "switches")
    other["leak_bytes"] = 4096
    assert switches["leak_bytes"] == 4096


def test_without_an_order_nothing_is_done(switches: Switches) -> None:
    faulty = FaultyApp(app, switches, catches_up=True)
    assert ask(faulty) == 200
    assert (switches["starts"], switches["leaked_bytes"], switches["is_leaking"]) == (1, 0, 0)


def test_a_leak_grows_with_each_request_until_the_process_ends(switches: Switches) -> None:
    faulty = FaultyApp(app, switches, catches_up=True)
    switches["leak_bytes"], switches["leaks_ordered"] = 1000, 1
    assert [ask(faulty) for _ in range(3)] == [200, 200, 200]
    assert switches["leaked_bytes"] == 3000
    again = FaultyApp(app, switches, catches_up=True)  # the next process: the leak is done
    ask(again)
    assert (switches["leaks_done"], switches["leaked_bytes"], switches["starts"]) == (1, 0, 2)


def test_a_leak_that_was_due_without_a_process_is_caught_up_where_that_is_wanted(switches: Switches) -> None:
    switches["leak_bytes"], switches["leaks_ordered"] = 1000, 2
    ask(FaultyApp(app, switches, catches_up=False))
    assert switches["leaked_bytes"] == 0
    switches["leaks_done"] = 0
    ask(FaultyApp(app, switches, catches_up=True))
    assert switches["leaked_bytes"] == 1000


def test_a_database_that_is_gone_is_back_after_its_time(switches: Switches) -> None:
    faulty = FaultyApp(app, switches, catches_up=True)
    switches["database_until"] = now() + 60_000
    with pytest.raises(DatabaseGone):
        ask(faulty)
    switches["database_until"] = now() - 1
    assert ask(faulty) == 200


def test_a_blocked_loop_is_blocked_until_its_time(switches: Switches) -> None:
    faulty = FaultyApp(app, switches, catches_up=True)
    until = switches["block_until"] = now() + 100
    assert ask(faulty) == 200
    assert now() >= until


def test_only_requests_meet_the_faults(switches: Switches) -> None:
    seen = []

    async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    switches["database_until"] = now() + 60_000
    faulty = FaultyApp(lifespan, switches, catches_up=True)
    asyncio.run(faulty({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    assert seen == ["lifespan"]
