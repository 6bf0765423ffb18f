"""Rendered files are written once and whole, and compared with what is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from hotpath.errors import DeclarationError
from hotpath.ops.render.files import RenderedFile, compare, write

FILES = [RenderedFile("etc/a.conf", "one\ntwo\n"), RenderedFile("usr/b.sh", "#!/bin/sh\n", 0o755)]


def test_what_is_written_is_what_is_compared(tmp_path: Path) -> None:
    assert [difference.problem for difference in compare(FILES, tmp_path)] == ["is missing", "is missing"]
    assert write(FILES, tmp_path) == [tmp_path / "etc/a.conf", tmp_path / "usr/b.sh"]
    assert compare(FILES, tmp_path) == []
    assert (tmp_path / "usr/b.sh").stat().st_mode & 0o777 == 0o755
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["a.conf", "b.sh"]


def test_a_file_that_is_right_is_not_touched(tmp_path: Path) -> None:
    write(FILES, tmp_path)

    def state() -> tuple[int, int, int]:
        stat = (tmp_path / "etc/a.conf").stat()  # without the time of the last read, which may differ
        return stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns

    before = state()
    assert write(FILES, tmp_path) == []
    assert state() == before


def test_a_difference_is_shown_as_a_diff(tmp_path: Path) -> None:
    write(FILES, tmp_path)
    (tmp_path / "etc/a.conf").write_text("one\nthree\n")
    (tmp_path / "usr/b.sh").chmod(0o600)
    text, mode = compare(FILES, tmp_path)
    assert (text.problem, text.diff[-2:]) == ("differs", ("-three", "+two"))
    assert mode.problem == "has mode 0600, expected 0755"


def test_a_long_diff_is_cut(tmp_path: Path) -> None:
    file = RenderedFile("long", "".join(f"{number}\n" for number in range(100)))
    (tmp_path / "long").write_text("")
    (difference,) = compare([file], tmp_path)
    assert len(difference.diff) == 21
    assert difference.diff[-1] == "… and 83 more lines"


def test_nothing_is_written_where_not_all_can_be(tmp_path: Path) -> None:
    (tmp_path / "usr").write_text("a file where a directory should be")
    with pytest.raises(DeclarationError, match="usr"):
        write(FILES, tmp_path)
    assert not list((tmp_path / "etc").iterdir())


def test_a_path_that_is_not_utf_8_is_written_as_its_bytes(tmp_path: Path) -> None:
    file = RenderedFile("a", "d \udcff\n")
    write([file], tmp_path)
    assert (tmp_path / "a").read_bytes() == b"d \xff\n"
    assert compare([file], tmp_path) == []
