"""What one client tries against all the others: a leak past the limit, large uploads, requests that idle.

Each was seen to shut out the others, or to be let in without a bound, before bodies had a budget.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections import Counter
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


def post(rig: Rig, target: str, size: int, *, is_chunked: bool = False) -> int | None:
    """Send a body of ``size`` bytes; the status, ``None`` where the connection broke."""
    field = "Transfer-Encoding: chunked" if is_chunked else f"Content-Length: {size}"
    with socket.create_connection(("127.0.0.1", rig.port), timeout=20) as connection, contextlib.suppress(OSError):
        connection.sendall(f"POST {target} HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n".encode())
        with contextlib.suppress(OSError):  # refused while it is sent
            for begin in range(0, size, MIB):
                piece = b"x" * min(MIB, size - begin)
                connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece) if is_chunked else piece)
            if is_chunked:
                connection.sendall(b"0\r\n\r\n")
        return int(connection.recv(1000).split(b" ")[1])
    return None


def test_uploads_of_one_client_do_not_shut_out_the_others(tmp_path: Path) -> None:
    """Five of 95 MB, with a length and without; and as many of what there is room for."""
    with memory_group(400 * MIB) as group, served(tmp_path, group, guard={"leave": False}) as rig:
        rig.await_sample()
        with Watch(rig) as watch, Load(rig.port, OTHERS) as load:
            got: Counter[int | None] = Counter()
            for _ in range(5):
                started = time.monotonic()
                got[post(rig, "/upload", 95_000_000)] += 1
                got[post(rig, "/upload", 95_000_000, is_chunked=True)] += 1
                fits = post(rig, "/form", 25_000_000)
                time.sleep(max(0.0, 9 - (time.monotonic() - started)))
        share = share_of_200(load)
        text = ", ".join(f"{count} × {code or 'reset'}" for code, count in got.items())
        report("13-uploads", load, watch, rig, note=f"uploads of 95 MB got {text}; {share:.1%} of the others 200")
        assert group.oom_kills() == 0
        assert load.count("hot", 200) == load.count("hot")
        assert share >= 0.95
        assert fits == 200


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
        held = group.usage() // MIB
        note = f"limit 150 MiB; {load.count('leak', 200)} leaks of 10 MiB let in, {held} MiB held in the end"
        report("13-leak", load, watch, rig, note=note)
        assert load.count("hot", 200) == load.count("hot")
        assert load.count("leak", 200) == load.count("cold", 200) == 0
        assert state == "BRAKE"
        assert group.oom_kills() == 0


def test_the_memory_of_another_program_in_the_group_does_not_count(tmp_path: Path) -> None:
    """It holds more than the limit; the server's workers are no strangers to each other."""
    hog = "import time; held = bytearray(b'x') * (300 << 20); print('held', flush=True); time.sleep(600)"
    with memory_group() as group:
        other = group.start([sys.executable, "-c", hog], stdout=subprocess.PIPE)
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "held\n"
            with served(tmp_path, group, guard={"leave": False, "limit": "250MiB"}, workers=2) as rig:
                rig.await_sample()
                time.sleep(2)
                seen = rig.look()
                assert (seen["state"], seen["limit"]) == ("NORMAL", 250 * MIB)
                assert seen["used"] < 100 * MIB
                assert rig.status("/cold") == 200
                assert f"({other.pid}) in it hold" in rig.said()
        finally:
            other.kill()
            other.communicate()
    with memory_group() as group, served(tmp_path, group, guard={"leave": False, "limit": "250MiB"}, workers=4) as rig:
        rig.await_sample()
        assert rig.look()["used"] > 100 * MIB, "all workers together"
        assert "in it hold" not in rig.said()
