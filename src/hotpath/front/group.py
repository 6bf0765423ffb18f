"""A memory group for the app alone, so that the kernel that ends a process for its memory never picks the front.

Source: cgroup-v2.rst, cgroup-v1/memory.rst and cgroups(7). Version 2 wants ``Delegate=yes`` of systemd or root, and no
process in a group that has groups below it with controllers: the front moves into one of its own. Version 1 wants root.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# The kernel is done with a process that was killed before its group may go.
_REMOVE_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class MemoryGroup:
    """A group of this front, with a limit. ``procs`` is the file that a process joins by."""

    directory: Path
    version: int

    @property
    def procs(self) -> Path:
        """Where a process writes its number to be a member."""
        return self.directory / "cgroup.procs"

    def kills(self) -> int:
        """Members that the kernel has killed at the limit."""
        name = "memory.events" if self.version == 2 else "memory.oom_control"
        with contextlib.suppress(OSError, ValueError):
            for line in (self.directory / name).read_text(encoding="ascii").splitlines():
                word, _, count = line.partition(" ")
                if word == "oom_kill":
                    return int(count)
        return 0

    def remove(self) -> None:
        """Remove the group, once it is empty."""
        until = time.monotonic() + _REMOVE_SECONDS
        while time.monotonic() < until:
            try:
                self.directory.rmdir()
            except FileNotFoundError:
                return
            except OSError:
                time.sleep(0.02)
            else:
                return


def make_group(name: str, limit: int) -> tuple[MemoryGroup | None, str]:
    """A new group with this limit in bytes; or ``None``, and why there can be none."""
    try:
        version, own = _own_group()
        if version == 2:
            return _make_v2(own, name, limit), ""
        directory = own / name
        directory.mkdir(exist_ok=True)
        (directory / "memory.limit_in_bytes").write_text(str(limit), encoding="ascii")
        return MemoryGroup(directory, 1), ""
    except OSError as error:
        return None, f"no memory group can be made: {error.strerror or error}"


def _make_v2(own: Path, name: str, limit: int) -> MemoryGroup:
    front = own / f"{name}-front"
    if "memory" not in (own / "cgroup.subtree_control").read_text(encoding="ascii").split():
        front.mkdir(exist_ok=True)
        for pid in (own / "cgroup.procs").read_text(encoding="ascii").split():
            (front / "cgroup.procs").write_text(pid, encoding="ascii")
        (own / "cgroup.subtree_control").write_text("+memory", encoding="ascii")
    directory = own / name
    directory.mkdir(exist_ok=True)
    (directory / "memory.max").write_text(str(limit), encoding="ascii")
    with contextlib.suppress(OSError):  # a kernel without swap accounting
        (directory / "memory.swap.max").write_text("0", encoding="ascii")
    with contextlib.suppress(OSError):  # all of the app or none: a master without its workers answers nobody
        (directory / "memory.oom.group").write_text("0", encoding="ascii")
    return MemoryGroup(directory, 2)


def _own_group() -> tuple[int, Path]:
    """Version and directory of the memory group that this process is in. Raises ``OSError`` where there is none."""
    own: dict[int, str] = {}
    for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            own[2] = path
        elif "memory" in controllers.split(","):
            own[1] = path
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = [*after.split(" "), "", ""][:3]
        root, point = before.split(" ")[3:5]
        if kind == "cgroup" and "memory" in options.split(",") and 1 in own:
            return 1, _below(Path(point), root, own[1])
        if kind == "cgroup2" and 2 in own:
            directory = _below(Path(point), root, own[2])
            if "memory" in (directory / "cgroup.controllers").read_text(encoding="ascii").split():
                return 2, directory
    raise OSError(0, "no memory controller is mounted here")


def _below(point: Path, root: str, path: str) -> Path:
    """The directory of a group, where ``root`` of the tree is mounted at ``point``."""
    relative = os.path.relpath(path, root) if path.startswith(root) else path.lstrip("/")
    return point / relative
