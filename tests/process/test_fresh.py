"""A process says why it should not be forked: other threads, or connections that would have two users."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

ASK = """
from hotpath.process.fresh import reason_not_to_fork
print(reason_not_to_fork())
"""


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        ("", "None"),
        ("import threading, time; threading.Thread(target=time.sleep, args=(5,), daemon=True).start()", "2 threads"),
        ("from concurrent.futures import ThreadPoolExecutor as P\nwith P(2) as p: p.submit(int)", "None"),
        ("import socket; server = socket.create_server(('127.0.0.1', 0))", "None"),
        ("import asyncio; loop = asyncio.new_event_loop()", "None"),
        ("import socket; a = socket.socket(type=socket.SOCK_DGRAM); a.connect(('127.0.0.1', 9))", "None"),
        (
            (
                "import socket; server = socket.create_server(('127.0.0.1', 0)); port = server.getsockname()[1]\n"
                "client = socket.create_connection(('127.0.0.1', port)); print(port)"
            ),
            "an open connection to 127.0.0.1:{}",
        ),
        (
            (
                "import socket; server = socket.socket(socket.AF_UNIX); server.bind('s'); server.listen()\n"
                "client = socket.socket(socket.AF_UNIX); client.connect('s')"
            ),
            "an open connection to s",
        ),
    ],
    ids=["alone", "thread", "joined threads", "listens", "event loop", "datagrams", "TCP", "Unix"],
)
def test_reasons(before: str, reason: str, tmp_path: str) -> None:
    code = textwrap.dedent(before) + ASK
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    *port, said = done.stdout.splitlines()
    assert said.removeprefix("this process has ") == reason.format(*port)


def test_threads_that_were_joined_are_no_reason_although_the_kernel_still_counts_them() -> None:
    code = """
    import threading
    from hotpath.process.fresh import reason_not_to_fork
    reasons = set()
    for _ in range(200):
        threads = [threading.Thread(target=int) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        reasons.add(reason_not_to_fork())
    print(reasons)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    assert subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout == "{None}\n"
