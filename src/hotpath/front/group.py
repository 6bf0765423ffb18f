"""A memory group for the app alone, so that the kernel never picks the front when the app has taken too much.

Version 2 where systemd has given the front its group (``Delegate=yes``), version 1 as root. Elsewhere the front
measures the app itself. Source: cgroups(7), cgroup-v2.rst ("No Internal Process Constraint") of the kernel.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import psutil

from hotpath.errors import DeclarationError, UnreadableMemory
from hotpath.guard.cgroups import find_groups, parse_field, read_once
from hotpath.guard.memory import MemoryReader
from hotpath.options import human_bytes
from hotpath.process.fork import descendants

# Bytes. Less is a number without its unit.
LEAST_LIMIT: Final = 1 << 20

_CGROUP: Final = Path("proc/self/cgroup")
_LIMIT: Final = {1: "memory.limit_in_bytes", 2: "memory.max"}
_EVENTS: Final = {1: "memory.oom_control", 2: "memory.events"}


class MemoryGroup:
    """One group with a limit in bytes, made at once. Raises ``OSError`` where that is not allowed."""

    def __init__(self, directory: Path, version: int, limit: int) -> None:
        self.text = human_bytes(limit)
        self._directory = directory
        self._version = version
        directory.mkdir()
        try:
            (directory / _LIMIT[version]).write_text(str(limit), "ascii")
        except OSError:
            self.remove()
            raise

    @property
    def joined(self) -> Path:
        """The file that a process writes its id to."""
        return self._directory / "cgroup.procs"

    def oom_kills(self) -> int:
        """How many processes the kernel has killed because this group was full; 0 where that is not known."""
        path = self._directory / _EVENTS[self._version]
        try:
            return parse_field(read_once(path), b"oom_kill", path)
        except UnreadableMemory:
            return 0

    def kill(self) -> None:
        """SIGKILL for everybody in it."""
        with contextlib.suppress(OSError):
            if (self._directory / "cgroup.kill").exists():
                (self._directory / "cgroup.kill").write_text("1", "ascii")
                return
            for pid in self.joined.read_text("ascii").split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)

    def remove(self) -> bool:
        """Take it away. False while somebody is in it."""
        try:
            self._directory.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True


class GroupMaker:
    """Makes memory groups below the front's own. ``problem`` says why it cannot, or is ``None``.

    ``root`` is where ``proc`` and the control groups are.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self.problem: str | None = None
        self._directory: Path | None = None
        self._version = 0
        self._numbers = itertools.count(1)
        try:
            self._prepare(root)
        except (OSError, UnreadableMemory) as error:
            self.problem = f"no memory group for the app could be made ({error})"

    def make(self, limit: int) -> MemoryGroup | None:
        """A new group; ``None``, and ``problem`` says why, where that fails."""
        if self._directory is None or self.problem is not None:
            return None
        directory = self._directory / f"hotpath-app-{os.getpid()}-{next(self._numbers)}"
        try:
            return MemoryGroup(directory, self._version, limit)
        except OSError as error:
            self.problem = f"no memory group for the app could be made ({error})"
            return None

    def _prepare(self, root: Path) -> None:
        path = root / _CGROUP
        groups = find_groups(root, read_once(path), path)
        try:
            if not groups.groups:
                self.problem = "no memory controller counts this process"
                return
            own = groups.groups[0]
            self._version, directory = own.version, own.directory
        finally:
            groups.close()
        if self._version == 2:
            _make_room(directory)
        self._directory = directory


def _make_room(directory: Path) -> None:
    """Let the groups below this one have limits: for that no process may be in it itself."""
    control = directory / "cgroup.subtree_control"
    if "memory" not in control.read_text("ascii").split():
        leaf = directory / "hotpath-front"
        leaf.mkdir(exist_ok=True)
        (leaf / "cgroup.procs").write_text(str(os.getpid()), "ascii")
        control.write_text("+memory", "ascii")


def check_limit(limit: int) -> int:
    """``limit``, unless the machine or the container does not have so much. Raises ``DeclarationError``.

    Nor may it be less than ``LEAST_LIMIT``: the kernel would kill every app.
    """
    if limit < LEAST_LIMIT:
        raise DeclarationError(f"--memory {human_bytes(limit)} is too little for any app; write a unit, as in 900MiB")
    with contextlib.closing(MemoryReader()) as reader:
        try:
            most = min(reader.read().limit, psutil.virtual_memory().total)
        except UnreadableMemory:
            most = psutil.virtual_memory().total
    if limit > most:
        raise DeclarationError(
            f"--memory {human_bytes(limit)} is more than there is ({human_bytes(most)}), so it would protect nothing;"
            f" write about {human_bytes(most * 3 // 4)} or less"
        )
    return limit


def free_bytes() -> int:
    """What may still be allocated here: by the limits above the front, and by the machine."""
    free = int(psutil.virtual_memory().available)
    with contextlib.closing(MemoryReader()) as reader, contextlib.suppress(UnreadableMemory):
        reading = reader.read()
        free = min(free, reading.limit - reading.unreclaimable)
    return free


def tree_bytes(pid: int) -> int:
    """What a process and those below it hold: what each has for itself, and once what they share since their fork."""
    try:
        processes = [psutil.Process(pid)]
    except psutil.Error:
        return 0
    return _held([*processes, *descendants(pid)])


def _held(processes: Iterable[psutil.Process]) -> int:
    own = shared = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            memory = process.memory_full_info()
            own += memory.uss + memory.swap
            shared = max(shared, memory.rss - memory.uss)
    return own + shared


def set_own_oom_score(score: int, path: Path = Path("/proc/self/oom_score_adj")) -> bool:
    """Be killed later (below 0) or earlier than others, proc(5); whether that was allowed."""
    try:
        path.write_text(str(score), "ascii")
    except OSError:
        return False
    return True
