"""Real control groups with a memory limit, and processes in them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

_JOIN = "import os, sys; open(sys.argv[1], 'w').write(str(os.getpid())); os.execv(sys.argv[2], sys.argv[2:])"


def _controller() -> tuple[int, Path] | None:
    """Version and directory of the top of the memory controller's tree."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ")[:3]
        point = Path(before.split(" ")[4])
        if kind == "cgroup" and "memory" in options.split(","):
            return 1, point
        if kind == "cgroup2" and "memory" in (point / "cgroup.controllers").read_text().split():
            return 2, point
    return None


def _why_not() -> str:
    found = _controller() if sys.platform == "linux" else None
    if found is None:
        return "no memory controller is mounted here"
    version, point = found
    if os.geteuid() != 0 or not os.access(point, os.W_OK):
        return "needs root to make a control group"
    if version == 2 and "memory" not in (point / "cgroup.subtree_control").read_text().split():
        return "the memory controller is not on for the groups below the top"
    return ""


WHY_NOT = _why_not()
needs_groups = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)


@dataclass(frozen=True)
class Group:
    """A real group; sizes in bytes."""

    version: int
    directory: Path

    def set_limit(self, limit: int) -> None:
        (self.directory / ("memory.max" if self.version == 2 else "memory.limit_in_bytes")).write_text(str(limit))

    def usage(self) -> int:
        return int((self.directory / ("memory.current" if self.version == 2 else "memory.usage_in_bytes")).read_text())

    def oom_kills(self) -> int:
        text = (self.directory / ("memory.events" if self.version == 2 else "memory.oom_control")).read_text()
        return int(dict(line.split() for line in text.splitlines())["oom_kill"])

    def pids(self) -> list[int]:
        return [int(pid) for pid in (self.directory / "cgroup.procs").read_text().split()]

    def start(self, command: Sequence[str], **options: Any) -> subprocess.Popen[str]:
        """Start a process that is in the group before its program is: all that it ever allocates counts here."""
        joined = [sys.executable, "-c", _JOIN, str(self.directory / "cgroup.procs"), *command]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])}
        return subprocess.Popen(joined, text=True, env=environment, **options)

    def run(self, code: str, *arguments: str, timeout: float = 60.0) -> str:
        """What Python code prints in the group."""
        process = self.start([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            out, err = process.communicate(timeout=timeout)
        finally:
            process.kill()
        assert process.returncode == 0, f"ended with {process.returncode}: {err}"
        return out

    def kill(self) -> None:
        """Whoever is in it."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def memory_group(limit: int | None = None, *, parent: Group | None = None) -> Iterator[Group]:
    """A new group with a limit in bytes. At its end whoever is still in it is killed, and it is taken away."""
    found = _controller()
    assert found is not None
    version, top = found
    if parent is None:
        group = Group(version, top / f"hotpath-test-{os.getpid()}-{uuid.uuid4().hex[:8]}")
    else:
        group = Group(version, parent.directory / uuid.uuid4().hex[:8])
        if version == 2:
            (parent.directory / "cgroup.subtree_control").write_text("+memory")
    group.directory.mkdir()
    try:
        if limit is not None:
            group.set_limit(limit)
        yield group
    finally:
        _take_away(group)


def _take_away(group: Group) -> None:
    until = time.monotonic() + 60  # what a killed process held is given back before it is gone
    while True:
        group.kill()
        try:
            group.directory.rmdir()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)
        else:
            return
