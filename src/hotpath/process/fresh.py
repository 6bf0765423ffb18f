"""A fresh interpreter as a child process, for work that a fork of this process could not do safely."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

# A thread that was joined is the kernel's for a moment more.
ENDING_SECONDS = 0.02

# Replaces the path before anything is imported: what the parent can import, the child can.
_CODE = "import sys; sys.path[:] = eval(sys.argv[1]); from {module} import main; main({arguments})"


def reason_not_to_fork() -> str | None:
    """Why a forked child of this process might hang or disturb it, for people; ``None`` where fork(2) is safe.

    A child has none of the other threads, but every lock that they held (native thread pools have such locks too). A
    connection has two users then, and what one of them reads the other misses.
    """
    deadline = time.monotonic() + ENDING_SECONDS
    while (threads := psutil.Process().num_threads()) > 1 and time.monotonic() < deadline:
        time.sleep(0.001)
    if threads > 1:
        return f"this process has {threads} threads"
    peer = _connected_to()
    return f"this process has an open connection to {peer}" if peer else None


def _connected_to() -> str | None:
    """The other side of a stream socket beyond the standard streams, which may be the journal's."""
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc/self/fd"):  # noqa: PTH208  no object for each
            descriptor = int(name)
            with contextlib.suppress(OSError):
                if descriptor > 2 and stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                    with socket.socket(fileno=os.dup(descriptor)) as connection:
                        peer = connection.getpeername() if connection.type == socket.SOCK_STREAM else None
                    if peer:  # one of socketpair(2) has no name
                        return ":".join(map(str, peer[:2])) if isinstance(peer, tuple) else str(peer)
    return None


def started_fresh(module: str, arguments: Sequence[int], descriptors: Sequence[int], output: int) -> int:
    """The id of a new interpreter that calls ``main(*arguments)`` of ``module``, in a session of its own.

    It has ``descriptors`` under the same numbers; standard input is empty, both other streams go to ``output``. Like a
    forked child it is ended and waited for by its id. Raises ``OSError`` where it cannot be started.
    """
    code = _CODE.format(module=module, arguments=", ".join(map(str, arguments)))
    path = repr([entry for entry in sys.path if isinstance(entry, str)])
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", code, path],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        pass_fds=descriptors,
        start_new_session=True,
    )
    process.returncode = 0  # Popen must not wait for it too
    return process.pid


def reopened(descriptor: int) -> Path:
    """The path at which a file without a name can be opened again, to be read from its beginning."""
    return Path(f"/proc/self/fd/{descriptor}")
