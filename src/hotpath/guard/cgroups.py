"""The control groups that bound the memory of this process: where they are, and what their files say.

A process is in one group of a tree, and each group above it may have a limit too; the tree is version 2
(``memory.max``) or version 1 (``memory.limit_in_bytes``), and in a container often only its lower end can be seen.
Source: cgroups(7), proc(5) for mountinfo, cgroup-v2.rst and cgroup-v1/memory.rst of the kernel.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from hotpath.errors import UnreadableMemory

_BLOCK_BYTES = 16 * 1024
_OCTAL = re.compile(rb"\\([0-7]{3})")

# Maximum groups that are walked through for one sample.
_MAX_GROUPS = 4096

# "max" of version 2. Version 1 writes a number near to this one, which no machine's memory reaches either.
NO_LIMIT = 2**63


class KernelFile:
    """A file that the kernel makes anew for each read: kept open, and read from its start."""

    __slots__ = ("_descriptor", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def read(self) -> bytes:
        """All of it. Raises ``UnreadableMemory``."""
        try:
            if self._descriptor is None:
                self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            data = os.pread(self._descriptor, _BLOCK_BYTES, 0)
            if len(data) == _BLOCK_BYTES:
                while part := os.pread(self._descriptor, _BLOCK_BYTES, len(data)):
                    data += part
            return data
        except OSError as error:
            raise UnreadableMemory(self.path, error.strerror or str(error)) from error

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def read_once(path: Path) -> bytes:
    """All of a file of the kernel, which is not kept open. Raises ``UnreadableMemory``."""
    with contextlib.closing(KernelFile(path)) as file:
        return file.read()


def parse_count(data: bytes, path: Path) -> int:
    """A number alone in its file, or a number out of one. Raises ``UnreadableMemory`` for anything else."""
    digits = data.strip()
    # 20 digits hold 64 bits; what is longer is no size, and costs Python time that grows with its square.
    if not digits.isdigit() or len(digits) > 20:
        raise UnreadableMemory(path, f"{data[:40]!r} is no number of bytes")
    return int(digits)


def parse_limit(data: bytes, path: Path) -> int:
    """Bytes, ``NO_LIMIT`` for ``max``. Raises ``UnreadableMemory``, also for 0, below which nothing lives."""
    if data.strip() == b"max":
        return NO_LIMIT
    limit = parse_count(data, path)
    if limit == 0:
        raise UnreadableMemory(path, "a limit of 0 bytes, and yet this process lives")
    return limit


@dataclass(frozen=True, slots=True)
class Stat:
    """The fields of ``memory.stat`` that say what the kernel could take back, in bytes."""

    file: int
    """Page cache on the two lists that the kernel reclaims from; memory of tmpfs and locked pages are not in it."""
    slab: int
    unwritten: int
    """The part of ``file`` that has to be written first."""
    inherited_limit: int
    """The smallest limit of this group and all above it; only version 1 says so, ``NO_LIMIT`` elsewhere."""

    def unreclaimable(self, usage: int) -> int:
        """The part of ``usage`` that stays. The kernel counts in batches, so the sum may be off on either side."""
        return min(usage, max(0, usage - self.file - self.slab + self.unwritten))


def parse_stat(data: bytes, version: int, path: Path) -> Stat:
    """Raises ``UnreadableMemory`` when the page cache is not in it, or what is in it is no number."""

    def count(name: bytes, default: bytes | None = None) -> int:
        value = _behind(data, name)
        if value is None:
            value = default
        if value is None:
            raise UnreadableMemory(path, f"has no line {name.decode('ascii')!r}")
        return parse_count(value, path)

    if version == 2:
        return Stat(
            count(b"active_file") + count(b"inactive_file"),
            # Not there with cgroup.memory=nokmem, which then does not count slab as usage either.
            count(b"slab_reclaimable", b"0"),
            count(b"file_dirty") + count(b"file_writeback"),
            NO_LIMIT,
        )
    # total_… is the group with all below it, as its usage is. Slab is in usage but in no field. Kernels
    # before 4.2 have no dirty and writeback.
    return Stat(
        count(b"total_active_file") + count(b"total_inactive_file"),
        0,
        count(b"total_dirty", b"0") + count(b"total_writeback", b"0"),
        count(b"hierarchical_memory_limit", str(NO_LIMIT).encode("ascii")),
    )


def parse_field(data: bytes, name: bytes, path: Path) -> int:
    """The number behind a name at the start of a line: ``MemTotal:  123 kB`` in bytes, ``oom_kill 3`` as it is.

    Raises ``UnreadableMemory`` where there is none.
    """
    words = (_behind(data, name) or b"").split()
    if not words:
        raise UnreadableMemory(path, f"has no line {name.decode('ascii')!r}")
    return parse_count(words[0], path) * (1024 if words[1:] == [b"kB"] else 1)


def _behind(data: bytes, name: bytes) -> bytes | None:
    """What stands behind a name and a space at the start of a line; much faster than to split all lines."""
    _, match, after = (b"\n" + data).partition(b"\n" + name + b" ")
    return after.partition(b"\n")[0] if match else None


@dataclass(frozen=True, slots=True)
class Membership:
    """The paths of this process's groups within their trees; ``None`` where it is in no such tree."""

    version_1: str | None
    version_2: str | None


def parse_membership(data: bytes, path: Path) -> Membership:
    """/proc/self/cgroup: ``4:memory:/a/b`` for version 1, ``0::/a/b`` for version 2. Raises ``UnreadableMemory``."""
    paths: dict[int, str] = {}
    for line in filter(None, data.split(b"\n")):
        number, _, rest = line.partition(b":")
        controllers, colon, group = rest.partition(b":")
        if not number.isdigit() or not colon or not group.startswith(b"/") or b"\0" in group:
            raise UnreadableMemory(path, f"{line[:80]!r} is not 'number:controllers:/path'")
        if b"memory" in controllers.split(b","):
            paths[1] = os.fsdecode(group)
        elif number == b"0" and not controllers:
            paths[2] = os.fsdecode(group)
    return Membership(paths.get(1), paths.get(2))


@dataclass(frozen=True, slots=True)
class Mount:
    """A tree of groups as it is mounted: ``point`` shows the group ``top``."""

    version: int
    top: str
    point: str


def parse_mounts(data: bytes, path: Path) -> list[Mount]:
    """The trees that hold memory groups, of all that /proc/self/mountinfo lists. Raises ``UnreadableMemory``."""
    mounts = []
    # A mount point may hold any byte but newline and those that are written in octal, so no splitlines().
    for line in filter(None, data.split(b"\n")):
        before, dash, after = line.partition(b" - ")
        head, tail = before.split(b" "), after.split(b" ")
        if not dash or len(head) < 6 or len(tail) < 3 or b"\0" in line:
            raise UnreadableMemory(path, f"{line[:80]!r} is no line of mountinfo")
        version = 2 if tail[0] == b"cgroup2" else 1 if tail[0] == b"cgroup" else 0
        if version == 2 or (version == 1 and b"memory" in tail[2].split(b",")):
            mounts.append(Mount(version, _unescape(head[3]), _unescape(head[4])))
    if not data.strip():
        raise UnreadableMemory(path, "is empty, and yet this file was found")
    return mounts


def _unescape(field: bytes) -> str:
    return os.fsdecode(_OCTAL.sub(lambda match: bytes([int(match[1], 8) & 255]), field))


@dataclass(frozen=True, slots=True)
class Group:
    """One group that counts, and may bound, the memory of this process."""

    version: int
    directory: Path
    limit: KernelFile
    usage: KernelFile
    stat: KernelFile

    @classmethod
    def of(cls, directory: Path, version: int, limit: str, usage: str) -> Self:
        """The group of a directory, by the names of its files."""
        files = (KernelFile(directory / name) for name in (limit, usage, "memory.stat"))
        return cls(version, directory, *files)

    def close(self) -> None:
        for file in (self.limit, self.usage, self.stat):
            file.close()


@dataclass(frozen=True, slots=True)
class Groups:
    """The group of this process and those above it, the nearest first; empty where there is no memory controller.

    ``is_login`` tells of a login session (below systemd's ``user.slice``), where other programs are in the group too.
    """

    groups: tuple[Group, ...]
    is_login: bool = False

    def close(self) -> None:
        for group in self.groups:
            group.close()


NO_GROUPS = Groups(())


def find_groups(root: Path, membership: bytes, path: Path) -> Groups:
    """From the text of /proc/self/cgroup to open-able files. ``path`` is where the text stood, for the error.

    Raises ``UnreadableMemory`` when the kernel's tables make no sense; no group at all is an answer.
    """
    member = parse_membership(membership, path)
    if member == Membership(None, None):
        return NO_GROUPS
    mountinfo = root / "proc/self/mountinfo"
    mounts = parse_mounts(read_once(mountinfo), mountinfo)
    # In a hybrid setup both trees are there; the memory controller is in the one whose line names it.
    for version, group_path in ((1, member.version_1), (2, member.version_2)):
        if group_path is None:
            continue
        try:
            places = _places(root, [mount for mount in mounts if mount.version == version], group_path)
            chains = (_climb(top, own, version) for top, own in places)
            groups = next(filter(None, chains), [])
        except OSError as error:
            raise UnreadableMemory(path, f"leads to a group that cannot be looked at: {error}") from error
        if groups:
            return Groups(tuple(groups), is_login="user.slice" in group_path.split("/"))
    return NO_GROUPS


def _places(root: Path, mounts: list[Mount], group_path: str) -> list[tuple[Path, Path]]:
    """Where the group could be seen, as (mount point, directory of the group), what shows most of the tree first.

    A mount that does not lead to the path comes last, with the group in it that lists this process, else with its top.
    In a container without a namespace of its own for groups the path is the host's, and what is mounted is mostly the
    container's group. In one with a namespace that was given the host's tree, both begin elsewhere: then ``..`` is in
    the one or the other, as it is for a process that was moved to a group outside its namespace.
    """
    outside = ".." in group_path.split("/")
    leading: list[tuple[Path, Path]] = []
    other: list[tuple[Path, Path]] = []
    for mount in sorted(mounts, key=lambda mount: len(mount.top)):
        point = root / mount.point.lstrip("/")
        top = mount.top.rstrip("/")
        own = point / group_path[len(top) :].strip("/")
        if (group_path + "/").startswith(top + "/") and not outside and own.is_dir():
            leading.append((point, own))
        else:
            other.append((point, _listing(point) or point))
    return leading + other


def _listing(top: Path) -> Path | None:
    """The group from ``top`` down that this process is listed in, of the first few thousand."""
    own = str(os.getpid()).encode("ascii")
    for directory, _, _ in itertools.islice(os.walk(top), _MAX_GROUPS):
        try:
            if own in Path(directory, "cgroup.procs").read_bytes().split():
                return Path(directory)
        except OSError:  # gone by now, or one of threads only
            continue
    return None


def _climb(top: Path, own: Path, version: int) -> list[Group]:
    """The groups from ``own`` up to ``top`` that count memory.

    A version 2 group without the controller has no such files: its memory is counted by the next one above that has
    it. The root of a tree has no limit, and its usage is the machine's.
    """
    groups = []
    for directory in (own, *own.parents):
        if version == 2 and (directory / "memory.current").exists():
            groups.append(Group.of(directory, version, "memory.max", "memory.current"))
            # Nothing is killed above it, but where nothing can be reclaimed a process that allocates sleeps, for hours.
            if (directory / "memory.high").exists():
                groups.append(Group.of(directory, version, "memory.high", "memory.current"))
        elif version == 1 and not (directory / "release_agent").exists():
            if groups and not _is_hierarchical(directory):
                break
            if (directory / "memory.usage_in_bytes").exists():
                groups.append(Group.of(directory, version, "memory.limit_in_bytes", "memory.usage_in_bytes"))
            # Memory and swap together, where swap is counted: full, it kills just the same.
            if (directory / "memory.memsw.usage_in_bytes").exists():
                groups.append(
                    Group.of(directory, version, "memory.memsw.limit_in_bytes", "memory.memsw.usage_in_bytes")
                )
        if directory == top:
            break
    return groups


def _is_hierarchical(directory: Path) -> bool:
    """Whether a version 1 group counts those below it too; since 5.11 all do."""
    try:
        return (directory / "memory.use_hierarchy").read_bytes().strip() != b"0"
    except OSError:
        return True


def count_oom_kills(groups: Groups) -> int | None:
    """How many processes of the own group the kernel has killed for memory; ``None`` where that is not known."""
    if not groups.groups:
        return None
    own = groups.groups[0]
    events = own.directory / ("memory.events" if own.version == 2 else "memory.oom_control")
    try:
        return parse_field(read_once(events), b"oom_kill", events)
    except UnreadableMemory:
        return None
