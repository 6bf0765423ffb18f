"""The machine's own memory controller: readings of processes in real groups."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hotpath.guard.memory import MemoryReader, children_bytes
from tests.guard.ending import ended
from tests.guard.groups import Group, memory_group, needs_groups

MIB = 1024 * 1024

START = """
import json, os, sys, time
from dataclasses import asdict
from hotpath.guard.memory import MemoryReader
reader = MemoryReader()
def say(**more):
    line = json.dumps({**asdict(reader.read()), "kills": reader.oom_kills(), **more})
    os.write(1, line.encode() + b"\\n")  # in one piece, whoever else writes
"""

# Real groups and processes; test_memory.py has the same rules over planted files.
pytestmark = pytest.mark.slow


def readings(group: Group, code: str, *arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in group.run(START + code, *arguments).splitlines()]


@needs_groups
def test_the_limit_of_the_own_group() -> None:
    with memory_group(200 * MIB) as group:
        (found,) = readings(group, "say()")
        assert found["limit"] == 200 * MIB
        assert found["source"] == f"cgroup{group.version}"
        assert 0 < found["unreclaimable"] <= found["usage"] < 200 * MIB
        assert found["kills"] == 0


@needs_groups
def test_the_limit_of_the_group_above_where_the_own_has_none() -> None:
    with memory_group(128 * MIB) as parent, memory_group(parent=parent) as group:
        (found,) = readings(group, "say()")
        assert found["limit"] == 128 * MIB


@needs_groups
def test_what_the_neighbours_hold_counts_where_the_limit_is_above_both() -> None:
    hold = "import sys, time\nheld = bytearray(60 * 2**20)\nprint(flush=True)\ntime.sleep(600)"
    with (
        memory_group(128 * MIB) as parent,
        memory_group(parent=parent) as group,
        memory_group(parent=parent) as other,
        ended(other.start([sys.executable, "-c", hold], stdout=subprocess.PIPE)) as neighbour,
    ):
        assert neighbour.stdout is not None
        neighbour.stdout.readline()
        (found,) = readings(group, "say()")
        assert found["resident"] < 60 * MIB < found["unreclaimable"]


@needs_groups
def test_a_change_of_the_limit_above_is_seen_within_a_second() -> None:
    with memory_group(128 * MIB) as parent, memory_group(parent=parent) as group:
        code = START + "while True:\n    say()\n    time.sleep(0.05)"
        with ended(group.start([sys.executable, "-c", code], stdout=subprocess.PIPE)) as process:
            assert process.stdout is not None
            before = json.loads(process.stdout.readline())
            assert before["limit"] == 128 * MIB
            for limit in (96 * MIB, 160 * MIB):
                parent.set_limit(limit)
                changed = time.monotonic()
                for found in map(json.loads, process.stdout):
                    if found["limit"] == limit:
                        break
                    # Not when the new one was seen: on a busy machine nothing may have been read meanwhile.
                    assert found["at"] - changed <= 1.0, "a reading of a second later has the old limit"
                else:
                    raise AssertionError("the change was not seen")


@needs_groups
def test_files_that_were_written_do_not_count_as_unreclaimable(tmp_path: Path) -> None:
    code = """
say()
with open(sys.argv[1], "wb") as file:
    for _ in range(120):
        file.write(bytes(2**20))
    file.flush()
    os.fsync(file.fileno())
say()
"""
    with memory_group(256 * MIB) as group:
        before, after = readings(group, code, str(tmp_path / "decoy"))
        if after["usage"] - before["usage"] < 100 * MIB:
            pytest.skip("this file system keeps nothing in the page cache")
        assert after["unreclaimable"] - before["unreclaimable"] < 12 * MIB


@needs_groups
def test_what_is_allocated_counts_and_comes_back() -> None:
    code = "say()\nheld = bytearray(os.urandom(1) * (80 * 2**20))\nsay()\ndel held\nsay()"
    with memory_group(256 * MIB) as group:
        before, held, after = (found["unreclaimable"] for found in readings(group, code))
        assert 79 * MIB < held - before < 90 * MIB
        assert abs(after - before) < 4 * MIB


@needs_groups
def test_a_file_in_the_page_cache_that_is_mapped_is_no_growth_and_no_fault(tmp_path: Path) -> None:
    """The process's resident size grows by all of it, and the group's count by not a byte."""
    (tmp_path / "model").write_bytes(bytes(60 * MIB))
    code = """
import mmap
from hotpath.guard.outlook import implausible
with open(sys.argv[1], "rb") as file:
    while file.read(2**20):
        pass
    data = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
before = reader.read()
for place in range(0, len(data), 4096):
    data[place]
after = reader.read()
os.write(1, json.dumps([implausible(after, before), after.resident - before.resident]).encode())
"""
    with memory_group(256 * MIB) as group:
        problem, grown = json.loads(group.run(START + code, str(tmp_path / "model")))
    assert grown > 50 * MIB
    assert problem is None


@needs_groups
def test_pages_that_forked_workers_share_count_once() -> None:
    code = """
held = bytearray(os.urandom(1) * (60 * 2**20))
reader.read()
for _ in range(4):
    if os.fork() == 0:
        say(unique=reader.unique_bytes())
        time.sleep(600)
ready = sys.stdin.readline()
"""
    with memory_group(200 * MIB) as group:
        command = [sys.executable, "-c", START + code]
        with ended(group.start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=1)) as process:
            assert process.stdout is not None
            try:
                found = [json.loads(process.stdout.readline()) for _ in range(4)]
            finally:
                group.kill()
    assert sum(one["resident"] for one in found) > 4 * 60 * MIB
    for one in found:
        assert 60 * MIB < one["unreclaimable"] < 150 * MIB
    assert found[-1]["unique"] < 45 * MIB


@needs_groups
def test_a_forked_child_reads_of_itself() -> None:
    code = """
say(pid=os.getpid())
child = os.fork()
if child == 0:
    held = bytearray(os.urandom(1) * (50 * 2**20))
    say(pid=os.getpid())
    os._exit(0)
os.waitpid(child, 0)
say(pid=os.getpid())
"""
    with memory_group(256 * MIB) as group:
        before, child, after = readings(group, code)
    assert child["pid"] != before["pid"] == after["pid"]
    assert child["resident"] - before["resident"] > 40 * MIB
    assert after["resident"] - before["resident"] < 10 * MIB


@needs_groups
def test_a_process_that_is_moved_reads_of_its_new_group() -> None:
    code = """
say()
with open(sys.argv[1], "w") as file:
    file.write(str(os.getpid()))
held = bytearray(os.urandom(1) * (30 * 2**20))
time.sleep(0.6)
say()
"""
    with memory_group(256 * MIB) as first, memory_group(128 * MIB) as second:
        before, after = readings(first, code, str(second.directory / "cgroup.procs"))
    assert (before["limit"], after["limit"]) == (256 * MIB, 128 * MIB)
    assert after["usage"] > 30 * MIB


@needs_groups
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare (util-linux)")
def test_a_namespace_of_groups_below_a_mount_that_begins_above_it() -> None:
    with memory_group(256 * MIB) as parent, memory_group(128 * MIB, parent=parent) as group:
        command = [shutil.which("unshare") or "", "-C", sys.executable, "-c", START + "say()"]
        with ended(group.start(command, stdout=subprocess.PIPE)) as process:
            out, _ = process.communicate(timeout=60)
    found = json.loads(out)
    assert (found["limit"], found["source"]) == (128 * MIB, f"cgroup{group.version}")


@needs_groups
def test_a_kill_is_counted() -> None:
    code = """
import subprocess
say()
eater = subprocess.run([sys.executable, "-c", "held = bytearray(b'x' * (300 * 2**20))"])
say(ended=eater.returncode)
"""
    with memory_group(100 * MIB) as group:
        before, after = readings(group, code)
        assert (before["kills"], after["kills"], after["ended"]) == (0, 1, -9)
        assert group.oom_kills() == 1


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux")
def test_this_process_on_this_machine() -> None:
    reader = MemoryReader()
    before = set(Path("/proc/self/fd").iterdir())
    try:
        found = reader.read()
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        assert 0 < found.limit <= reader.host_total() == pages
        assert 5 * MIB < reader.unique_bytes() < 4096 * MIB
        assert 5 * MIB < found.resident < 4096 * MIB
    finally:
        reader.close()
    assert set(Path("/proc/self/fd").iterdir()) == before


def test_children_count_with_what_is_theirs() -> None:
    code = "held = bytearray(b'x' * (40 * 2**20))\nprint(flush=True)\ninput()"
    before = children_bytes()
    command = [sys.executable, "-c", code]
    with ended(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert 40 * MIB < children_bytes() - before < 80 * MIB
    assert children_bytes() - before < MIB
