"""Directories that look like ``/proc`` and the trees of control groups, version 1 or 2, for a ``MemoryReader``."""

from __future__ import annotations

from pathlib import Path

MIB = 1024 * 1024
PAGE = 4096

# What version 1 says for "no limit" on a machine with pages of 4 KiB.
HUGE = 9223372036854771712

# Lines as kernels write them, around those that count, so that a parser cannot go by their places.
_STAT_2 = """anon {anon}
file {file}
kernel 4907008
kernel_stack 196608
pagetables 819200
sock 0
shmem 0
file_mapped 0
file_dirty {dirty}
file_writeback {writeback}
swapcached 0
inactive_anon {anon}
active_anon 4096
inactive_file {inactive}
active_file {active}
unevictable 0
slab_reclaimable {slab}
slab_unreclaimable 1000000
slab 1
workingset_refault_file 190860
pgfault 3634863
thp_fault_alloc 12
"""
_STAT_1 = """cache 1
rss 2
dirty 3
writeback 4
inactive_file 5
active_file 6
hierarchical_memory_limit {inherited}
hierarchical_memsw_limit 9223372036854771712
total_cache {file}
total_rss {anon}
total_mapped_file 0
total_dirty {dirty}
total_writeback {writeback}
total_pgfault 18220
total_inactive_anon {anon}
total_active_anon 8192
total_inactive_file {inactive}
total_active_file {active}
total_unevictable 0
"""
_NAMES = {
    1: {"limit": "memory.limit_in_bytes", "usage": "memory.usage_in_bytes", "events": "memory.oom_control"},
    2: {"limit": "memory.max", "usage": "memory.current", "events": "memory.events"},
}


class Tree:
    """One machine: 8 GiB, 4 GiB of them available, this process with 50 MiB resident, in no group yet."""

    def __init__(self, root: Path, version: int = 2, *, total: int = 8192 * MIB, available: int = 4096 * MIB) -> None:
        self.root = root
        self.version = version
        self.point = root / ("sys/fs/cgroup/memory" if version == 1 else "sys/fs/cgroup")
        self.point.mkdir(parents=True)
        if version == 1:
            self.write(self.point / "release_agent", "\n")
            self.write(self.point / "memory.use_hierarchy", "1\n")
        self.write("proc/meminfo", meminfo(total, available))
        self.write("proc/self/statm", f"76500 {50 * MIB // PAGE} 426 5 0 123 0\n")
        self.write(
            "proc/self/smaps_rollup", "55d0-7ffc ---p 00000000 00:00 0    [rollup]\nRss:  51200 kB\nPss:  30720 kB\n"
        )
        self.write("proc/self/cgroup", "")
        self.mounted("/", self.point)

    def write(self, path: Path | str, text: str) -> Path:
        """In place, as the kernel changes its files, so that an open descriptor sees it."""
        path = self.root / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def mounted(self, top: str, point: Path) -> None:
        """Say in mountinfo that ``point`` shows the group ``top``."""
        fields = f"35 23 0:29 {_escape(top)} {_escape('/' + str(point.relative_to(self.root)))} rw,relatime shared:9"
        tail = "cgroup2 cgroup2 rw,nsdelegate" if self.version == 2 else "cgroup cgroup rw,memory"
        self.write(
            "proc/self/mountinfo",
            "23 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
            "30 23 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
            f"{fields} - {tail}\n"
            "40 23 0:37 / /sys/fs/cgroup/systemd rw,nosuid - cgroup cgroup rw,name=systemd\n",
        )

    def joined(self, path: str) -> None:
        """Say in /proc/self/cgroup that this process is in the group ``path``."""
        line = f"0::{path}" if self.version == 2 else f"4:memory:{path}"
        self.write("proc/self/cgroup", f"9:name=systemd:/init.scope\n3:cpu,cpuacct:/elsewhere\n{line}\n")

    def file(self, path: str, name: str) -> Path:
        """A file of a group by what it tells: ``limit``, ``usage``, ``events`` or ``stat``."""
        return self.point / path.strip("/") / _NAMES[self.version].get(name, f"memory.{name}")

    def group(
        self,
        path: str,
        *,
        limit: int | str | None = None,
        usage: int = 100 * MIB,
        active: int = 0,
        inactive: int = 0,
        slab: int = 0,
        dirty: int = 0,
        writeback: int = 0,
        inherited: int = HUGE,
        kills: int = 0,
    ) -> Path:
        """Make a group, or say what is so in it now. Sizes in bytes; version 1 tells of no slab."""
        directory = self.point / path.strip("/")
        unlimited = "max" if self.version == 2 else HUGE
        self.write(self.file(path, "limit"), f"{unlimited if limit is None else limit}\n")
        self.write(self.file(path, "usage"), f"{usage}\n")
        stat = _STAT_2 if self.version == 2 else _STAT_1
        self.write(
            self.file(path, "stat"),
            stat.format(
                anon=usage - active - inactive,
                file=active + inactive,
                active=active,
                inactive=inactive,
                slab=slab,
                dirty=dirty,
                writeback=writeback,
                inherited=inherited,
            ),
        )
        events = "low 0\nhigh 0\nmax 9\noom 2\noom_kill {}\noom_group_kill 0\n"
        if self.version == 1:
            events = "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n"
        self.write(self.file(path, "events"), events.format(kills))
        return directory


def meminfo(total: int, available: int) -> str:
    """As proc(5) has it; sizes in bytes."""
    return (
        f"MemTotal:       {total // 1024} kB\nMemFree:        {available // 2048} kB\n"
        f"MemAvailable:   {available // 1024} kB\nBuffers:           51348 kB\nSwapTotal:             0 kB\n"
    )


def _escape(path: str) -> str:
    return path.replace("\\", "\\134").replace(" ", "\\040")
