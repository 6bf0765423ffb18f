"""The processes of one run: the app as systemd would keep it, or the front, in a memory group or beside a watcher."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final, Protocol

import psutil

from hotpath.errors import UnreadableMemory
from hotpath.guard.cgroups import parse_stat, read_once
from hotpath.process.fork import descendants

# As systemd waits by default (RestartSec=100ms).
RESTART_SECONDS: Final = 0.1
END_SECONDS: Final = 10.0
LAST_LINES: Final = 12
# Interval of measuring without a group: a leak is seen late by as much.
WATCH_SECONDS: Final = 0.05


class LimitedGroup(Protocol):
    """A memory group with a limit, as the front makes them."""

    @property
    def joined(self) -> Path: ...

    def oom_kills(self) -> int: ...

    def kill(self) -> None: ...

    def remove(self) -> bool: ...


class Machine(Protocol):
    """What makes memory groups here; ``problem`` says why there are none. ``launch`` are the words before a command.

    They let it join the group and die with this process.
    """

    @property
    def problem(self) -> str | None: ...

    def make(self, limit: int) -> LimitedGroup | None: ...

    def launch(self, group: LimitedGroup | None) -> list[str]: ...


class Kept:
    """A process that is started again whenever it ends, in a group of ``limit`` bytes. For one event loop.

    Where no group can be made (``group`` is ``None``), a watcher kills at the limit. ``is_whole`` says that the
    process looks after its children itself, so nothing here starts it again or watches it: the front.
    """

    def __init__(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        *,
        machine: Machine,
        limit: int,
        is_whole: bool = False,
    ) -> None:
        group = machine.make(limit)
        self._command = [*machine.launch(group), *command]
        self._environ = dict(environ)
        self.group = group
        self._limit = limit
        self._is_whole = is_whole
        self._process: subprocess.Popen[bytes] | None = None
        self._lines: deque[bytes] = deque(maxlen=LAST_LINES)
        self._tasks: list[asyncio.Task[None]] = []
        self._is_ending = False
        self.ends = 0
        self.watcher_kills = 0
        self.peak_bytes = 0

    def start(self) -> None:
        """Start it, and keep it running from now on."""
        self._spawn()
        self._tasks.append(asyncio.create_task(self._keep()))
        if self.group is None:
            self._tasks.append(asyncio.create_task(self._watch()))

    @property
    def pid(self) -> int:
        """The id of its first process."""
        assert self._process is not None
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it is gone at this moment."""
        return self._process is None or self._process.poll() is not None

    def last_lines(self) -> list[str]:
        """What it printed last."""
        return [line.decode("utf-8", "backslashreplace").rstrip() for line in self._lines]

    def oom_kills(self) -> int:
        """How often the kernel has killed in its group, or the watcher where there is none."""
        return self.watcher_kills if self.group is None else self.group.oom_kills()

    def memory_bytes(self) -> int:
        """What it and its children hold now, without page cache that the kernel can take back."""
        if self.group is None:
            return tree_bytes(self.pid)
        return _group_bytes(self.group.joined.parent)

    def measured_peak(self) -> int:
        """The most that its group, or the samples where there is none, have seen."""
        if self.group is not None:
            for name in ("memory.peak", "memory.max_usage_in_bytes"):
                with contextlib.suppress(OSError, ValueError):
                    return int((self.group.joined.parent / name).read_text("ascii"))
        return self.peak_bytes

    def owns(self, pid: int) -> bool:
        """Whether this process is the first one or below it now: a number of old may be somebody else's."""
        if self.has_ended:
            return False
        return pid == self.pid or any(process.pid == pid for process in descendants(self.pid))

    def signal(self, number: signal.Signals) -> None:
        """To the first process."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def end(self) -> None:
        """SIGTERM, then SIGKILL; nothing of it is left, the group neither."""
        self._is_ending = True
        for task in self._tasks:
            task.cancel()
        self.signal(signal.SIGTERM)
        until = time.monotonic() + END_SECONDS
        while not self.has_ended and time.monotonic() < until:  # noqa: ASYNC110  a process of subprocess has no event
            await asyncio.sleep(0.05)
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        for _ in range(100):
            if self.group is None or self.group.remove():
                return
            self.group.kill()
            await asyncio.sleep(0.05)

    def _spawn(self) -> None:
        self._process = subprocess.Popen(
            self._command,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        asyncio.get_running_loop().add_reader(self._process.stdout, self._read, self._process.stdout)

    def _read(self, pipe: IO[bytes]) -> None:
        data = pipe.read(65536)
        if data:
            self._lines.extend(line for line in data.splitlines() if line.strip())
        elif data == b"":
            asyncio.get_running_loop().remove_reader(pipe)
            pipe.close()

    async def _keep(self) -> None:
        while not self._is_ending:
            if self.has_ended:
                self.ends += 1
                if self._is_whole:
                    return
                await asyncio.sleep(RESTART_SECONDS)
                self._spawn()
            await asyncio.sleep(0.01)

    async def _watch(self) -> None:
        while not self._is_ending:
            held = tree_bytes(self.pid) if not self.has_ended else 0
            self.peak_bytes = max(self.peak_bytes, held)
            if held > self._limit and not self._is_whole:
                self.watcher_kills += 1
                self.signal(signal.SIGKILL)
            await asyncio.sleep(WATCH_SECONDS)


def tree_bytes(pid: int) -> int:
    """What a process and those below it hold (PSS where the kernel knows it): without a group, the best there is."""
    total = 0
    with contextlib.suppress(psutil.Error):
        for process in [psutil.Process(pid), *descendants(pid)]:
            with contextlib.suppress(psutil.Error):
                memory = process.memory_full_info()
                total += getattr(memory, "pss", memory.uss)
    return total


def _group_bytes(directory: Path) -> int:
    stat = directory / "memory.stat"
    for version, usage in ((1, "memory.usage_in_bytes"), (2, "memory.current")):
        with contextlib.suppress(OSError, ValueError, UnreadableMemory):
            held = int((directory / usage).read_text("ascii"))
            return parse_stat(read_once(stat), version, stat).unreclaimable(held)
    return 0
