"""What one client tries against all the others: a leak past the limit, large uploads, requests that idle.

Each was seen to shut out the others, or to be let in without a bound, before bodies had a budget.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guard.groups import memory_group, needs_groups
from tests.guard.load import Load, Stream
from tests.guard.rig import HOT, MIB, Rig, Watch, report, served

pytestmark = [pytest.mark.slow, needs_groups]

OTHERS = (
    Stream("hot", HOT[0], 20),
    Stream("cold", "/cold", 20, 2),
    Stream("login", "/login", 10, 2, method="POST", body=b"user=a&password=b"),
)


def share_of_200(load: Load) -> float:
    """Of the other clients' cold reads and logins."""
    return sum(load.count(name, 200) for name in ("cold", "login")) / sum(
        load.count(name) for name in ("cold", "login")
    )


def post(rig: Rig, target: str, size: int, fields: str = "") -> int | None:
    """Send a body of ``size`` bytes; the status, ``None`` where the connection broke."""
    piece = b"x" * MIB
    with socket.create_connection(("127.0.0.1", rig.port), timeout=20) as connection, contextlib.suppress(OSError):
        connection.sendall(f"POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n{fields}\r\n".encode())
        with contextlib.suppress(OSError):  # refused while it is sent
            for begin in range(0, size, MIB):
                connection.sendall(piece[: size - begin])
        return int(connection.recv(1000).split(b" ")[1])
    return None


def test_uploads_of_one_client_do_not_shut_out_the_others(tmp_path: Path) -> None:
    """Five of 95 MB, each as soon as the state that the last one caused would have been left."""
    with memory_group(400 * MIB) as group, served(tmp_path, group, guard={"leave": False}) as rig:
        rig.await_sample()
        with Watch(rig) as watch, Load(rig.port, OTHERS) as load:
            got = []
            for _ in range(5):
                started = time.monotonic()
                got.append(post(rig, "/upload", 95_000_000))
                time.sleep(max(0.0, 9 - (time.monotonic() - started)))
        share = share_of_200(load)
        report("13-uploads", load, watch, rig, note=f"uploads got {got}; {share:.1%} of the others' 200")
        assert group.oom_kills() == 0
        assert load.count("hot", 200) == load.count("hot")
        assert share >= 0.95


@contextlib.contextmanager
def idle_posts(rig: Rig, target: str, count: int) -> Iterator[None]:
    """Heads of POST requests whose bodies never come."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", rig.port), timeout=20))
            connection.sendall(f"POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n".encode())
        yield


def test_requests_that_idle_lock_no_route(tmp_path: Path) -> None:
    """One POST of 60 MB to the login, then three that idle."""
    with memory_group(300 * MIB) as group, served(tmp_path, group, guard={"leave": False}) as rig:
        rig.await_sample()
        with Load(rig.port, OTHERS):  # the others are there, so that what the route takes is seen
            time.sleep(1)
            got = post(rig, "/login", 60_000_000)
            rig.await_state("NORMAL", seconds=40)
            time.sleep(1)
        with idle_posts(rig, "/login", 3):
            time.sleep(1)
            with Watch(rig) as watch, Load(rig.port, OTHERS) as load:
                time.sleep(10)
        share = share_of_200(load)
        report("13-idle", load, watch, rig, note=f"the POST of 60 MB got {got}; {share:.1%} of the others' 200")
        assert group.oom_kills() == 0
        assert share >= 0.95


def test_a_leak_past_the_limit_without_a_group_is_brake(tmp_path: Path) -> None:
    """``limit=`` alone: what is above it is above it, and no reading that cannot be."""
    tree = tmp_path / "tree"
    (tree / "proc").mkdir(parents=True)
    (tree / "proc/meminfo").symlink_to("/proc/meminfo")
    (tree / "proc/self").symlink_to("/proc/self")
    streams = (*OTHERS, Stream("leak", "/leak?mib=10", 10))
    with (
        memory_group(1500 * MIB) as group,
        served(tmp_path, group, guard={"leave": False}, tree=str(tree), budget_mib=150) as rig,
    ):
        rig.await_sample()
        assert rig.get("/leak?mib=400") == "leaked"
        time.sleep(4)
        with Watch(rig) as watch, Load(rig.port, streams) as load:
            time.sleep(8)
        state = rig.look()["state"]
        report("13-leak", load, watch, rig, note=f"limit 150 MiB; {load.count('leak', 200)} leaks of 10 MiB let in")
        assert load.count("hot", 200) == load.count("hot")
        assert load.count("leak", 200) == load.count("cold", 200) == 0
        assert state == "BRAKE"
        assert group.oom_kills() == 0
