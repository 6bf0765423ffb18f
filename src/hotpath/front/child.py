"""The app's own server as a child of the front: started, watched, ended; its output passed through with a prefix."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from hotpath.process.fork import descendants, how_it_ended, own_bytes

# Lines of its last output that a crash is shown with.
LAST_LINES: Final = 12
# An app that prints a line without an end must not fill the front.
MAX_LINE_BYTES: Final = 16 * 1024
START_SECONDS: Final = 120.0
LOOK_SECONDS: Final = 0.05
# Between SIGTERM and SIGKILL.
END_SECONDS: Final = 10.0

# Becomes the server: dies with the front, is the first that the kernel kills, and counts in its own memory group. A
# program of its own, since a front with threads must not run Python between fork and exec.
_LAUNCH: Final = """
import ctypes, os, signal, sys
parent, procs, kind = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, kind)
if os.getppid() != parent:
    sys.exit(1)
try:
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("500")
except OSError:
    pass
if procs:
    with open(procs, "w") as file:
        file.write(str(os.getpid()))
os.execvp(sys.argv[4], sys.argv[4:])
"""


@dataclass(slots=True, eq=False)
class Child:
    """One process that runs the app on the socket ``path``. ``printed`` are its last lines."""

    path: Path
    process: asyncio.subprocess.Process
    started: float
    printed: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_LINES))
    reader: asyncio.Task[None] | None = None
    accepts: asyncio.Task[None] | None = None
    accepted_at: float | None = None

    @property
    def pid(self) -> int:
        """Its number."""
        return self.process.pid

    @property
    def has_ended(self) -> bool:
        """Whether there is nothing to wait for."""
        return self.process.returncode is not None

    @property
    def lived_seconds(self) -> float:
        """Since its start."""
        return time.monotonic() - self.started

    @property
    def useful_seconds(self) -> float:
        """Since it took the first connection; 0 where it never did."""
        return time.monotonic() - self.accepted_at if self.accepted_at is not None else 0.0

    def how_it_ended(self) -> str:
        """``was killed by SIGKILL``, or the status it ended with."""
        code = self.process.returncode or 0
        return how_it_ended(-code if code < 0 else code << 8)

    def memory_bytes(self) -> int:
        """What it and all below it hold for themselves."""
        try:
            own = psutil.Process(self.pid)
        except psutil.Error:
            return 0
        return sum(map(own_bytes, [own, *descendants(self.pid)]))

    def signal(self, number: int) -> None:
        """Send a signal to it alone."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    async def end(self, seconds: float = END_SECONDS) -> None:
        """SIGTERM, and after so many seconds SIGKILL for it and all below it."""
        below = descendants(self.pid)
        if not self.has_ended:
            self.signal(signal.SIGTERM)
            self.signal(signal.SIGCONT)  # a stopped one could not end
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.process.wait(), seconds)
        await self.kill(below)

    async def kill(self, below: Sequence[psutil.Process] = ()) -> None:
        """SIGKILL for it and all below it, and wait until it is gone."""
        for process in {*below, *descendants(self.pid)}:
            with contextlib.suppress(psutil.Error):
                process.kill()
        if not self.has_ended:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
        await self.process.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        if self.reader is not None:
            # Somebody else may hold the pipe open.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.reader, 1)
        with contextlib.suppress(OSError):
            os.unlink(self.path)  # noqa: PTH108


async def start(
    command: Sequence[str], path: Path, *, prefix: str, procs: Path | None, environ: Mapping[str, str], workers: int
) -> Child:
    """Start the server. Raises ``OSError`` where that cannot be done at all."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108  blocks no longer than any look at a directory
    # Of several workers the first process ends the others; killed, it could not.
    kind = signal.SIGTERM if workers > 1 else signal.SIGKILL
    launch = [sys.executable, "-I", "-S", "-c", _LAUNCH, str(os.getpid()), str(procs or ""), str(int(kind)), *command]
    process = await asyncio.create_subprocess_exec(
        *launch,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=dict(environ),
        start_new_session=True,
        limit=MAX_LINE_BYTES,
    )
    child = Child(path, process, time.monotonic())
    child.reader = asyncio.create_task(_pass_through(child, prefix))
    child.accepts = asyncio.create_task(_note_accepting(child))
    return child


async def _pass_through(child: Child, prefix: str) -> None:
    """Each line of the child to standard error, and the last of them kept."""
    stream = child.process.stdout
    assert stream is not None
    while True:
        try:
            line = await stream.readuntil(b"\n")
        except asyncio.IncompleteReadError as rest:
            line = rest.partial
            if not line:
                return
        except asyncio.LimitOverrunError as full:
            line = await stream.readexactly(max(1, full.consumed))
        text = line.decode("utf-8", "replace").rstrip("\n")
        child.printed.append(text)
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"{prefix}{text}\n")
            sys.stderr.flush()


async def _note_accepting(child: Child) -> None:
    if await await_accepting(child, None) is None:
        child.accepted_at = time.monotonic()


async def await_accepting(child: Child, ready: str | None, seconds: float = START_SECONDS) -> str | None:
    """Wait until it takes connections, and where ``ready`` is a path, until that answers 200; else why it does not."""
    until = time.monotonic() + seconds
    problem = "does not listen"
    while time.monotonic() < until:
        if child.has_ended:
            return child.how_it_ended()
        answer = await status_of(child.path, ready)
        if answer == 200 or (ready is None and answer is not None):
            return None
        if answer is not None:
            problem = f"answers {answer} at {ready}"
        await asyncio.sleep(LOOK_SECONDS)
    return f"{problem} within {seconds:g} s"


async def status_of(path: Path, target: str | None, seconds: float = 5.0) -> int | None:
    """The status of a GET; 0 for a connection alone, where there is no ``target``. ``None`` where nobody answers."""
    writer = None
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_unix_connection(path)
            if target is None:
                return 0
            writer.write(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode("ascii"))
            line = await reader.readline()
            words = line.split()
            return int(words[1]) if len(words) > 1 and words[1].isdigit() else None
    except (OSError, TimeoutError, ValueError):
        return None
    finally:
        if writer is not None:
            writer.close()
