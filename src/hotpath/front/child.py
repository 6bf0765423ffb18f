"""One process of the app's server: started on a socket of its own, looked at, ended."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from hotpath.front.address import Address
from hotpath.front.group import MemoryGroup
from hotpath.front.output import Output
from hotpath.front.servers import ServerCommand, environment
from hotpath.guard.departure import FRONT_PID

# How the kernel weighs it when memory runs out, proc(5): before everything that has not asked for this.
OOM_SCORE: Final = 500
LOOK_SECONDS: Final = 0.05
# From SIGTERM to SIGKILL for what should have no request any more.
END_SECONDS: Final = 10.0
KILL_SECONDS: Final = 5.0
# Attempts to take away a memory group whose last process was killed just now.
REMOVALS: Final = 40

_LAUNCH: Final = Path(__file__).with_name("launch.py")


class Child:
    """The app's server on the Unix socket ``socket``, started at once. ``ended`` is set when it has.

    For one event loop, in the main thread: the process dies with the thread that started it. It leads a session of its
    own, so that Ctrl-C reaches the front alone. Raises ``OSError`` where no process can be made now.
    """

    def __init__(
        self,
        command: ServerCommand,
        socket: Path,
        *,
        group: MemoryGroup | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.socket = socket
        self.address = Address(path=str(socket))
        self.group = group
        self.ready_at: float | None = None
        self.ended = asyncio.Event()
        self._lock = threading.Lock()
        self._loop = asyncio.get_running_loop()
        launch = [sys.executable, "-I", "-S", str(_LAUNCH), str(os.getpid()), str(int(command.death_signal))]
        groups = [str(group.joined)] if group is not None else []
        self._process = subprocess.Popen(
            [*launch, str(OOM_SCORE), *groups, "--", *command.at(socket)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={
                **environment(environ),
                "PYTHONUNBUFFERED": "1",  # what it prints is seen when it is printed
                FRONT_PID: str(os.getpid()),
            },
            start_new_session=True,
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        try:
            self._output = Output([(self._process.stdout, 1), (self._process.stderr, 2)], b"app | ")
            threading.Thread(target=self._wait, name="hotpath-child", daemon=True).start()
        except RuntimeError as error:  # as many threads as the user or the group may have
            self._process.kill()
            self._process.wait()
            raise OSError(errno.EAGAIN, str(error)) from None

    @property
    def pid(self) -> int:
        """The id of its first process."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether its first process is gone."""
        return self._process.returncode is not None

    @property
    def served_seconds(self) -> float | None:
        """How long it has been ready; ``None`` if it never was."""
        return None if self.ready_at is None else time.monotonic() - self.ready_at

    @property
    def how_it_ended(self) -> str:
        """For people: ``ended with status 1``, ``was killed by SIGKILL``."""
        code = self._process.returncode
        if code is None:
            return "runs"
        if code >= 0:
            return f"ended with status {code}"
        name = signal.Signals(-code).name if -code in {*signal.Signals} else f"signal {-code}"
        if self.group is not None and self.group.oom_kills():
            return f"was killed by {name}: the kernel had no more memory within {self.group.text}"
        return f"was killed by {name}"

    def last_lines(self) -> list[str]:
        """What it printed last: on standard output, then on standard error."""
        return self._output.last_lines()

    async def become_ready(self, ready: str | None, health: str, seconds: float) -> bool:
        """Wait until ``ready`` is answered with 2xx or 3xx, or, where it is ``None``, ``health`` with anything.

        Not only until it accepts: a server with workers does so before any of them has the app. False when the process
        ends before, or after ``seconds``.
        """
        until = time.monotonic() + seconds
        while not self.has_ended and time.monotonic() < until:
            status = await ask(self.socket, ready or health, max(LOOK_SECONDS, until - time.monotonic()))
            if status is not None and (ready is None or 200 <= status < 400):
                self.ready_at = time.monotonic()
                return True
            await asyncio.sleep(LOOK_SECONDS)
        return False

    async def end(self, seconds: float = END_SECONDS) -> None:
        """SIGTERM for its first process, and after ``seconds`` SIGKILL for all; then nothing of it is left."""
        if not self.has_ended:
            self._process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.ended.wait(), seconds)
        self.kill()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.ended.wait(), KILL_SECONDS)
        await self.clean_up()

    def kill(self) -> None:
        """SIGKILL for it and all that it started."""
        self._signal(signal.SIGKILL)
        if self.group is not None:
            self.group.kill()

    async def clean_up(self) -> None:
        """After its end: take its socket and its group away."""
        self.socket.unlink(missing_ok=True)
        for _ in range(REMOVALS):
            if self.group is None or self.group.remove():
                return
            self.group.kill()
            await asyncio.sleep(LOOK_SECONDS)

    def _signal(self, number: signal.Signals) -> None:
        """To all of its session, as long as its number cannot be another's: until it has been waited for."""
        with self._lock, contextlib.suppress(ProcessLookupError, PermissionError):
            if self._process.returncode is None:
                os.killpg(self.pid, number)

    def _wait(self) -> None:
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        # Workers that it has left behind.
        self._signal(signal.SIGKILL)
        with self._lock:
            self._process.wait()
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self.ended.set)


async def ask(socket: Path, path: str, seconds: float) -> int | None:
    """The status of a GET; ``None`` where no answer begins within ``seconds``."""
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_unix_connection(socket)
            request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: hotpath\r\nConnection: close\r\n\r\n"
            writer.write(request.encode("ascii", "replace"))
            line = await reader.readline()
    except (OSError, ValueError, TimeoutError):
        return None
    finally:
        if writer is not None:
            writer.close()
    words = line.split(b" ", 2)
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else None
