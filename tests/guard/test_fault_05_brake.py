"""A minute of BRAKE under load: what is P0 or P1 is a 200 all the time, and nothing else gets to the app.

Part of the load would end the process, and does without the guard.
"""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from tests.guard.groups import memory_group, needs_groups
from tests.guard.load import Load, Stream
from tests.guard.rig import HOT, MIB, Watch, report, served
from tests.guard.waiting import wait_until

pytestmark = [pytest.mark.slow, needs_groups]

SECONDS = 60.0
STREAMS = (
    *(Stream("hot", path, 15) for path in HOT[:2]),
    Stream("metrics", "/metrics", 2),
    Stream("alive", "/livez", 10),
    Stream("account", "/account/7", 10),
    Stream("cold", "/cold", 20, 2),
    Stream("leak", "/leak?mib=1", 10, 2),
    Stream("write", "/cold", 10, method="POST"),
)


def handshake(port: int) -> bytes:
    """What a client that wants to open a WebSocket gets."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(
            b"GET /chat HTTP/1.1\r\nHost: example.org\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        return connection.recv(1000)


def test_without_the_guard_this_load_is_a_kill(tmp_path: Path) -> None:
    with memory_group(256 * MIB) as group, served(tmp_path, group, guard=None) as rig:
        rig.get("/leak?mib=195")
        with Watch(rig) as watch, Load(rig.port, STREAMS) as load:
            wait_until(lambda: not rig.is_alive(), 90, "it was not killed, so the test proves nothing")
        report("05", load, watch, rig, guarded=False)
        assert group.oom_kills() > 0


def test_p0_and_p1_are_served(tmp_path: Path) -> None:
    guard = {"leave": False, "priority": {"/account/*": 1}}
    with memory_group(256 * MIB) as group, served(tmp_path, group, guard=guard) as rig:
        rig.get("/leak?mib=195")
        rig.await_state("BRAKE")
        assert handshake(rig.port).startswith(b"HTTP/1.1 503"), "uvicorn offers websocket.http.response"
        with Watch(rig) as watch, Load(rig.port, STREAMS) as load:
            time.sleep(SECONDS)
        report("05", load, watch, rig, note="P0 and P1 all 200")
        for name in ("hot", "metrics", "alive", "account"):
            assert load.count(name, 200) == load.count(name) > SECONDS, name
        for name in ("cold", "leak", "write"):
            assert load.count(name, 503) == load.count(name) > SECONDS, name
        assert not load.broken
        # "" is an answer that took more than a second.
        assert {state for _, state, _ in watch.seen} - {""} == {"BRAKE"}
        refusal = load.refusals["cold"]
        assert refusal["retry-after"].isdigit()
        assert (refusal["connection"], refusal["cache-control"]) == ("close", "no-store")
        assert group.oom_kills() == 0
