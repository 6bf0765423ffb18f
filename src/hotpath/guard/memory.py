"""How much memory there is, how much of it is used, and how much of that could be had back.

Raw usage is no signal: a group whose process wrote files stands at 80 % with nothing resident, since page cache counts
until the kernel needs the room. What counts is what the kernel cannot take back, beside the smallest limit that holds.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from hotpath.errors import DeclarationError, UnreadableMemory
from hotpath.guard.cgroups import (
    NO_GROUPS,
    NO_LIMIT,
    Groups,
    KernelFile,
    count_oom_kills,
    find_groups,
    parse_count,
    parse_field,
    parse_limit,
    parse_stat,
    read_once,
)
from hotpath.guard.outlook import MemoryReading
from hotpath.guard.strangers import Crowd, find_crowd
from hotpath.options import human_bytes
from hotpath.process import after_fork

__all__ = ["MemoryReader", "MemoryReading", "children_bytes"]

# Interval of reading the limits and the own group again. With samples 1 s apart a change is seen within a second.
LOOK_SECONDS = 0.5

# Interval of measuring the children: a walk through /proc, and through the memory of each.
CHILDREN_SECONDS = 10.0

# Share of the budget that other programs in the own group, such as a shell or a script, may hold unnoticed.
STRANGERS_SHARE = 0.1
STRANGERS_SECONDS = 10.0

# A count above this many times the machine's memory is invalid. Memory plus swap, as version 1 counts, and containers
# that see only part of the machine stay far below.
_MACHINES = 16


def children_bytes() -> int:
    """What the processes below this one hold for themselves (PSS, so that shared pages count once), in bytes."""
    total = 0
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                memory = child.memory_full_info()
                total += getattr(memory, "pss", memory.uss)
    return total


class MemoryReader:
    """Reads memory again and again, with the kernel's files kept open.

    ``budget`` is a limit in bytes on top of those of the kernel; it bounds the whole group, so all workers in it
    together. ``root`` is where ``proc`` and the control groups are, for tests; ``children`` is what the processes
    below this one hold. ``read`` is for one thread at a time, the other methods for any. A forked child goes on with
    its own files. Memory that was swapped out is not in ``usage``, but where version 1 limits memory and swap together.

    Where no group counts this process, the process and those below it are counted. So they are against ``budget``
    where other programs are in the group (a login session, or a tenth of ``budget`` that is held by processes which
    this one's server has not started); a limit of the group then counts by itself. ``basis`` says which and why.
    """

    def __init__(
        self,
        *,
        budget: int | None = None,
        root: Path = Path("/"),
        clock: Callable[[], float] = time.monotonic,
        page_size: int | None = None,
        children: Callable[[], int] = children_bytes,
        crowd: Callable[[Path, Path, int], Crowd | None] = find_crowd,
    ) -> None:
        if budget is not None and budget <= 0:
            raise DeclarationError(f"budget={budget} is no positive number of bytes")
        self._budget = NO_LIMIT if budget is None else budget
        self._shared_with: str | None = None
        self._find_crowd = crowd
        self._crowd_at = float("-inf")
        self.basis = ""
        self._root = root
        self._clock = clock
        self._page_size = page_size or os.sysconf("SC_PAGE_SIZE")
        self._children = children
        self._membership = KernelFile(root / "proc/self/cgroup")
        self._meminfo = KernelFile(root / "proc/meminfo")
        self._statm = KernelFile(root / "proc/self/statm")
        self._has_procfs = self._meminfo.path.exists()
        self._has_groups = self._membership.path.exists()
        self._forget()
        after_fork.register(self)

    def read(self) -> MemoryReading:
        """One reading. Raises ``UnreadableMemory`` when something cannot be read, or says what cannot be."""
        try:
            return self._read()
        except UnreadableMemory:
            # The group may have been moved, and the old one removed, since it was looked for.
            self.close()
        try:
            return self._read()
        except UnreadableMemory:
            self.close()
            raise

    @property
    def is_shared(self) -> bool:
        """Whether other programs are in the own group, so that ``budget`` is not about all that it holds."""
        return self._shared_with is not None

    def unique_bytes(self) -> int:
        """What this process holds, with its share of what it shares (PSS); USS elsewhere than on Linux. In bytes.

        Walks through all of its memory, milliseconds for a large one: ask every 10 s at most.
        """
        if not self._has_procfs:
            with self._psutil():
                return psutil.Process().memory_full_info().uss
        rollup = self._root / "proc/self/smaps_rollup"
        return parse_field(read_once(rollup), b"Pss:", rollup)

    def host_total(self) -> int:
        """The machine's memory in bytes. Raises ``UnreadableMemory``."""
        if not self._has_procfs:
            with self._psutil():
                return psutil.virtual_memory().total
        return _total(read_once(self._meminfo.path), self._meminfo.path)

    def check_budget(self) -> None:
        """Raise ``DeclarationError`` for a budget that cannot work: above the machine, below what is used."""
        budget = self._budget
        if budget == NO_LIMIT:
            return
        try:
            total, resident = self.host_total(), self.read().resident
        except UnreadableMemory:
            return  # said when it is sampled: BLIND, with an alarm
        if budget > total:
            raise DeclarationError(
                f"limit={budget} ({human_bytes(budget)}) is more than this machine has, {human_bytes(total)}; write"
                " less than that, or leave limit out: then the control group's limit or the machine's memory counts"
            )
        if budget <= resident:
            raise DeclarationError(
                f"limit={budget} ({human_bytes(budget)}) is less than this process holds already,"
                f" {human_bytes(resident)}: everything would be refused from the start; write a limit well above that"
            )

    def oom_kills(self) -> int | None:
        """How many processes of the own group the kernel has killed for memory; ``None`` where that is not known."""
        membership = self._membership.path
        try:
            return count_oom_kills(find_groups(self._root, read_once(membership), membership))
        except UnreadableMemory:
            return None

    def close(self) -> None:
        """Let go of all files; a later ``read`` opens them again."""
        self._groups.close()
        for file in (self._membership, self._meminfo, self._statm):
            file.close()
        self._forget()

    def restart_after_fork(self) -> None:
        """The parent's files say how the parent is."""
        self.close()

    def _forget(self) -> None:
        self._groups: Groups = NO_GROUPS
        self._limits: tuple[int, ...] = ()
        self._seen: bytes | None = None
        self._look_at = self._children_at = float("-inf")
        self._below = 0

    def _read(self) -> MemoryReading:
        now = self._clock()
        total, available, resident, anonymous = self._read_process()
        if now >= self._look_at:
            self._look()
            self._look_at = now + LOOK_SECONDS
        groups = self._groups
        bounds: list[tuple[int, int, int, str]] = []
        if groups.groups:
            self._look_for_strangers(now, total)
        if groups.groups and (self._shared_with is None or min(self._limits) < total):
            bounds.append((*self._nearest(total), f"cgroup{groups.groups[0].version}"))
        if not bounds or (self._shared_with is not None and self._budget < total):
            usage = resident + self._read_children(now)
            bounds.append((min(self._budget, total), usage, usage, "process"))
        limit, usage, unreclaimable, source = min(bounds, key=lambda bound: bound[0] - bound[2])
        self._say_basis()
        return MemoryReading(now, limit, usage, unreclaimable, available, resident, anonymous, source)

    def _look_for_strangers(self, now: float, total: int) -> None:
        """Whether other programs are in the own group, which ``budget`` is not about. Once seen, it stays so."""
        if self._shared_with is not None or now < self._crowd_at:
            return
        self._crowd_at = now + STRANGERS_SECONDS
        if self._groups.is_login:
            self._shared_with = "it is a login session's"
        elif self._budget < total:
            _, _, unreclaimable = self._nearest(total)
            crowd = self._find_crowd(self._root, self._groups.groups[0].directory, self._page_size)
            if crowd is not None and crowd.strangers:
                others = unreclaimable - crowd.family_bytes
                if others > STRANGERS_SHARE * self._budget:
                    self._shared_with = f"{crowd.names} in it hold about {human_bytes(others)}"

    def _say_basis(self) -> None:
        if not self._groups.groups:
            self.basis = "this process and those below it: no control group counts them"
            return
        group = self._groups.groups[0].directory
        if self._shared_with is None:
            self.basis = f"the control group {group}"
        else:
            self.basis = f"this process and those below it, not the control group {group}: {self._shared_with}"
            if min(self._limits) < self.host_total():  # version 1 writes a number where there is none
                self.basis += f"; the group's own limit, {human_bytes(min(self._limits))}, counts beside"

    def _look(self) -> None:
        """Find the own group again if it is another one, and read all limits again."""
        if self._has_groups:
            membership = self._membership.read()
            if membership != self._seen:
                self._groups.close()
                self._groups = NO_GROUPS
                self._groups = find_groups(self._root, membership, self._membership.path)
                self._seen = membership
                self._shared_with, self._crowd_at = None, float("-inf")
        self._limits = tuple(parse_limit(group.limit.read(), group.limit.path) for group in self._groups.groups)

    def _nearest(self, total: int) -> tuple[int, int, int]:
        """Limit, usage and unreclaimable of what has least left.

        The own group is also bound by the budget, by the machine's memory, and by the limit of a group above that
        cannot be seen from here, which version 1 shows. A group above without a limit bounds nothing.
        """
        own = self._groups.groups[0]
        bounds = []
        for group, limit in zip(self._groups.groups, self._limits, strict=True):
            if group is own or limit < total:
                usage = parse_count(group.usage.read(), group.usage.path)
                if usage == 0:
                    raise UnreadableMemory(group.usage.path, "0 bytes are used, and yet this process lives")
                if usage > _MACHINES * total:
                    raise UnreadableMemory(group.usage.path, f"{usage} bytes are used of {total} that there are")
                stat = parse_stat(group.stat.read(), group.version, group.stat.path)
                budget = self._budget if self._shared_with is None else NO_LIMIT
                bound = min(limit, total, budget, stat.inherited_limit) if group is own else limit
                bounds.append((bound, usage, stat.unreclaimable(usage)))
        return min(bounds, key=lambda numbers: numbers[0] - numbers[2])

    def _read_process(self) -> tuple[int, int, int, int]:
        """The machine's memory and what of it is available; the resident size of this process, and what of that is no
        file's or shared, in bytes. psutil does not have the last everywhere: all of it, then.
        """
        if not self._has_procfs:
            with self._psutil():
                machine, rss = psutil.virtual_memory(), psutil.Process().memory_info().rss
            return machine.total, machine.available, rss, rss
        data, path = self._meminfo.read(), self._meminfo.path
        # size, resident, shared … in pages: proc(5)
        pages = [*self._statm.read().split(), b"", b"", b""]
        resident, shared = (parse_count(count, self._statm.path) * self._page_size for count in pages[1:3])
        if resident == 0:
            raise UnreadableMemory(self._statm.path, "0 pages are resident, and yet this process lives")
        return _total(data, path), parse_field(data, b"MemAvailable:", path), resident, max(0, resident - shared)

    @contextlib.contextmanager
    def _psutil(self) -> Iterator[None]:
        """On Linux it reads /proc too, which may not be mounted; elsewhere a sandbox may forbid to ask."""
        try:
            yield
        except (psutil.Error, OSError) as error:
            raise UnreadableMemory(self._meminfo.path, f"is not there, and psutil failed: {error}") from error

    def _read_children(self, now: float) -> int:
        if now >= self._children_at:
            self._below = self._children()
            self._children_at = now + CHILDREN_SECONDS
        return self._below


def _total(meminfo: bytes, path: Path) -> int:
    total = parse_field(meminfo, b"MemTotal:", path)
    if total == 0:
        raise UnreadableMemory(path, "a machine of 0 bytes")
    return total
