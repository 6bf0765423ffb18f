"""Names of files: those that no file system takes, and those that nobody means to publish."""

from __future__ import annotations

import pytest

from hotpath.pages.file_names import is_left_behind, length_problem


@pytest.mark.parametrize("file", ["a" * 251, "d" * 255 + "/a", "가" * 83, "d/" * 2000 + "a"])
def test_names_that_a_file_system_takes(file: str) -> None:
    assert length_problem(file, prefix_bytes=80) is None


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        ("a" * 252, "has 252 bytes, 251 are possible (255 less 4 for a coding)"),
        ("d" * 256 + "/a", "has 256 bytes, 255 are possible"),
        ("가" * 84, "has 252 bytes, 251 are possible"),
        ("d/" * 2010, "the path of its file has 4,104 bytes with the store's directory (80)"),
    ],
)
def test_names_that_are_too_long(file: str, problem: str) -> None:
    assert problem in (length_problem(file, prefix_bytes=80) or "")


@pytest.mark.parametrize(
    "name",
    [
        *("page.html~", "#page.html#", ".#page.html", "~$report.docx", "page.html.~1~"),
        *(".page.html.swp", "page.swo", "page.html.bak", "PAGE.BAK", "page.orig", "page.rej", "page.html.old"),
        *("page.tmp", "page.temp", "film.mp4.part", "film.mp4.crdownload", "page.html.filepart", "page.partial"),
        *(".DS_Store", "._page.html", "__MACOSX", "Thumbs.db", "ehthumbs.db", "desktop.ini"),
        *("page.bak.gz", "page.tmp.br", "page.html~.zst"),
    ],
)
def test_what_others_leave_behind(name: str) -> None:
    assert is_left_behind(name)


@pytest.mark.parametrize(
    "name",
    [
        *("page.html", "~", "~user", "tmp", "old", "bak", "film.swf", "c#", "#", "a.tmpl", "partial.html", "temp.json"),
        *(".env", ".git", ".well-known", "thumbs.json", "a.partx", "sitemap.xml.gz", "page~1.html"),
    ],
)
def test_what_only_looks_like_it(name: str) -> None:
    assert not is_left_behind(name)
