"""Whatever the kernel's files hold, a parser gives what they say or ``UnreadableMemory``, and nothing else."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hotpath.errors import UnreadableMemory
from hotpath.guard.cgroups import (
    NO_LIMIT,
    Membership,
    Mount,
    Stat,
    find_groups,
    parse_count,
    parse_field,
    parse_limit,
    parse_membership,
    parse_mounts,
    parse_stat,
)
from hotpath.guard.memory import MemoryReader
from tests.guard.trees import MIB, PAGE, Tree

PATH = Path("/sys/fs/cgroup/file")

SIZES = st.integers(0, 2**63)
SPACES = st.sampled_from([b"", b" ", b"\n", b" \n", b"\t\n\n"])

# Bytes that are near to what is expected, so that more than the first check is reached.
WORDS = st.sampled_from(
    b"0 1 -1 max memory cgroup cgroup2 / /a /a/../b : :: 0:: 4:memory:/a - kB MemTotal: active_file total_active_file "
    b"inactive_file total_inactive_file file_dirty file_writeback slab_reclaimable oom_kill \\040 \\777 \0 \xff".split()
)
NEARLY = st.lists(st.tuples(WORDS | st.binary(max_size=6), st.sampled_from([b" ", b"\n", b":", b""])), max_size=30).map(
    lambda parts: b"".join(word + end for word, end in parts)
)
ANY = st.binary(max_size=300) | NEARLY


@given(ANY)
def test_no_bytes_make_a_parser_fail_in_another_way(data: bytes) -> None:
    for parse in (parse_count, parse_limit, parse_membership, parse_mounts):
        with contextlib.suppress(UnreadableMemory):
            parse(data, PATH)
    for version in (1, 2):
        with contextlib.suppress(UnreadableMemory):
            stat = parse_stat(data, version, PATH)
            assert 0 <= stat.unreclaimable(1000) <= 1000
    for name in (b"MemTotal:", b"Pss:", b"oom_kill"):
        with contextlib.suppress(UnreadableMemory):
            assert parse_field(data, name, PATH) >= 0


@given(SIZES, SPACES, SPACES)
def test_a_number_comes_back_whatever_stands_around_it(size: int, before: bytes, after: bytes) -> None:
    assert parse_count(before + b"%d" % size + after, PATH) == size


@given(st.text(max_size=30).filter(lambda text: not (text.strip().isascii() and text.strip().isdigit())))
def test_what_is_no_number_is_never_read_as_one(text: str) -> None:
    with pytest.raises(UnreadableMemory):
        parse_count(text.encode("utf-8", "replace"), PATH)


def test_max_is_no_limit() -> None:
    assert parse_limit(b"max\n", PATH) == NO_LIMIT
    assert parse_limit(b"max \n", PATH) == NO_LIMIT
    with pytest.raises(UnreadableMemory):
        parse_limit(b"maximum\n", PATH)


@given(st.permutations(["active_file", "inactive_file", "slab_reclaimable", "file_dirty", "file_writeback", "anon"]))
def test_the_order_of_lines_in_stat_does_not_matter(names: list[str]) -> None:
    sizes = {
        "active_file": 1,
        "inactive_file": 20,
        "slab_reclaimable": 300,
        "file_dirty": 4000,
        "file_writeback": 50000,
    }
    data = "".join(f"{name} {sizes.get(name, 7)}\n" for name in names).encode("ascii")
    assert parse_stat(data, 2, PATH) == Stat(21, 300, 54000, NO_LIMIT)


@given(SIZES, SIZES, SIZES, SIZES)
def test_unreclaimable_is_between_nothing_and_all(usage: int, file: int, slab: int, unwritten: int) -> None:
    found = Stat(file, slab, unwritten, NO_LIMIT).unreclaimable(usage)
    assert 0 <= found <= usage
    assert found in {0, usage, usage - file - slab + unwritten}


def test_a_field_is_not_taken_for_another_that_begins_or_ends_like_it() -> None:
    data = b"oom_kill_disable 1\nunder_oom 2\noom_kill 3\nxoom_kill 4\n"
    assert parse_field(data, b"oom_kill", PATH) == 3
    assert parse_field(b"oom_kill 5\n", b"oom_kill", PATH) == 5
    for absent in (b"oom_kill_disable 1\n", b"xoom_kill 4\n", b"oom_kill\n3\n", b"oom_kill \n"):
        with pytest.raises(UnreadableMemory):
            parse_field(absent, b"oom_kill", PATH)


def test_kilobytes_of_proc_are_1024() -> None:
    assert parse_field(b"Rss: 1 kB\nPss:    123 kB\n", b"Pss:", PATH) == 123 * 1024


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Membership(None, None)),
        ("0::/", Membership(None, "/")),
        ("0::/a b/c:d\n", Membership(None, "/a b/c:d")),
        ("4:memory:/a\n0::/b\n", Membership("/a", "/b")),
        ("4:cpu,memory:/a\n", Membership("/a", None)),
        ("4:memoryless:/a\n1:name=memory:/b\n", Membership(None, None)),
    ],
)
def test_membership(text: str, expected: Membership) -> None:
    assert parse_membership(text.encode("utf-8"), PATH) == expected


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\n\0"), min_size=1, max_size=8)


@given(st.lists(NAMES, max_size=4), st.lists(NAMES, min_size=1, max_size=4))
@example([" ", "\\040"], ["a\tb", "c d"])
@example(["\x85\u2028"], ["\x1c"])
def test_mounts_come_back_whatever_their_names(top: list[str], point: list[str]) -> None:
    fields = ["/" + "/".join(one) for one in (top, point)]
    written = [os.fsencode(field) for field in fields]
    for number in b"\\ \t":
        written = [field.replace(bytes([number]), b"\\%03o" % number) for field in written]
    line = b"35 23 0:29 " + b" ".join(written) + b" rw - cgroup2 cgroup2 rw\n"
    assert parse_mounts(line, PATH) == [Mount(2, *fields)]


@pytest.mark.slow
@given(membership=ANY, mountinfo=ANY)
@settings(max_examples=60)
@example(membership=b"0::/" + b"a" * 5000, mountinfo=b"35 23 0:29 / / rw - cgroup2 cgroup2 rw\n")
@example(membership=b"0::/../..", mountinfo=b"35 23 0:29 /.. / rw - cgroup2 cgroup2 rw\n")
@example(membership=b"0::/a", mountinfo=b"35 23 0:29 / /../../.. rw - cgroup2 cgroup2 rw\n")
def test_any_tables_lead_to_groups_to_none_or_to_the_error(
    tmp_path_factory: pytest.TempPathFactory, membership: bytes, mountinfo: bytes
) -> None:
    root = tmp_path_factory.getbasetemp() / "any"
    (root / "proc/self").mkdir(parents=True, exist_ok=True)
    (root / "proc/self/mountinfo").write_bytes(mountinfo)
    with contextlib.suppress(UnreadableMemory):
        find_groups(root, membership, PATH).close()


@given(name=st.sampled_from(["max", "current", "stat"]), data=ANY)
@settings(max_examples=60)
def test_any_bytes_in_a_group_are_a_reading_that_makes_sense_or_the_error(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: bytes
) -> None:
    tree = Tree(tmp_path_factory.mktemp("tree"))
    tree.joined("/app")
    (tree.group("/app", limit=512 * MIB) / f"memory.{name}").write_bytes(data)
    reader = MemoryReader(root=tree.root, page_size=PAGE)
    with contextlib.suppress(UnreadableMemory):
        found = reader.read()
        assert found.limit > 0
        assert 0 <= found.unreclaimable <= found.usage
    reader.close()
