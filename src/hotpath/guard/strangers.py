"""Whether other programs are in the control group of this process: then its usage is not what ``limit=`` is about."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hotpath.guard.departure import is_child_process

# Maximum names of programs in a line of the log.
MAX_NAMED = 3


@dataclass(frozen=True, slots=True)
class Crowd:
    """The processes of a group, as far as this one can see them. Sizes in bytes."""

    strangers: tuple[str, ...]
    """``redis-server (12)``: those that are neither of this service nor above it."""
    family_bytes: int
    """Resident size of this process, its server's parent, and all below that; what they share counts for each."""

    @property
    def names(self) -> str:
        """The first of them, for people."""
        more = len(self.strangers) - MAX_NAMED
        return ", ".join(self.strangers[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def has_parent() -> bool:
    """Whether the parent of this process has started it as a worker. Asked before the server runs."""
    return is_child_process() or "gunicorn.arbiter" in sys.modules


def find_crowd(
    root: Path,
    directory: Path,
    page_size: int,
    *,
    own_pid: int | None = None,
    is_worker: Callable[[], bool] = has_parent,
) -> Crowd | None:
    """Who is in the group ``directory`` and those below it; ``None`` where that cannot be read."""
    own = os.getpid() if own_pid is None else own_pid
    pids = _pids(directory)
    if own not in pids:
        return None
    parents = {pid: _parent(root, pid) for pid in pids}
    head = parents[own]
    top = head if head in pids and (is_worker() or _command(root, head) == _command(root, own)) else own
    above = _line(parents.get(top, 0), parents)  # a shell, an init
    family = {pid for pid in pids if top in _line(pid, parents) or _is_twin(root, pid, top, parents)}
    strangers = [f"{_name(root, pid)} ({pid})" for pid in sorted(pids - family - above)]
    return Crowd(tuple(strangers), sum(_resident(root, pid, page_size) for pid in family))


def _pids(directory: Path) -> set[int]:
    pids: set[int] = set()
    for path in (directory, *(Path(name) for name, _, _ in os.walk(directory))):
        try:
            pids.update(int(line) for line in (path / "cgroup.procs").read_bytes().split())
        except (OSError, ValueError):  # gone by now, or one of threads only
            continue
    return pids - {0}  # those of another namespace, of which nothing is known


def _line(pid: int, parents: dict[int, int]) -> set[int]:
    """A process and those above it."""
    line: set[int] = set()
    while pid in parents and pid not in line:
        line.add(pid)
        pid = parents[pid]
    return line


def _is_twin(root: Path, pid: int, top: int, parents: dict[int, int]) -> bool:
    """Another server of this service, that the same parent started with the same command."""
    return parents[pid] == parents[top] and bool(_command(root, pid)) and _command(root, pid) == _command(root, top)


def _parent(root: Path, pid: int) -> int:
    return _second_number(_read(root, pid, "stat").rpartition(b")")[2])


def _command(root: Path, pid: int) -> bytes:
    return _read(root, pid, "cmdline")


def _name(root: Path, pid: int) -> str:
    return _read(root, pid, "comm").decode("utf-8", "backslashreplace").strip() or "a process"


def _resident(root: Path, pid: int, page_size: int) -> int:
    return _second_number(_read(root, pid, "statm")) * page_size


def _read(root: Path, pid: int, name: str) -> bytes:
    """A file of proc(5); empty where it cannot be read."""
    try:
        return (root / f"proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _second_number(data: bytes) -> int:
    fields = data.split()
    return int(fields[1]) if len(fields) > 1 and fields[1].isdigit() else 0
