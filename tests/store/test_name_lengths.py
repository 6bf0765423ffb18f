"""Names and paths that a file system would refuse: said before anything runs, with key, length and limit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hotpath.batch.reports import last_run
from hotpath.batch.run import build
from hotpath.errors import BuildFailed, DeclarationError, ItemError, StoreError
from hotpath.pages.file_names import MAX_NAME_BYTES, MAX_PATH_BYTES
from hotpath.pages.keys import MAX_VALUE_BYTES
from hotpath.pages.policy import Policy
from hotpath.site import Hotpath
from hotpath.store.directories import longest_prefix_bytes
from hotpath.store.publish import staging
from hotpath.store.store import Store

LAST = MAX_NAME_BYTES - len(".zst")
POLICY = Policy("/{page}", "application/json", "public, max-age=60", None, 3600)


@pytest.fixture
def hot(tmp_path: Path) -> Hotpath:
    return Hotpath(tmp_path / "hot")


def _page(**arguments: str) -> dict[str, str]:
    return arguments


def _two_in_one_segment(hot: Hotpath) -> None:
    hot.route("/x/{a}-{b}", each={"a": ["a" * 120], "b": ["b" * 192]})(_page)


def _two_of_a_query(hot: Hotpath) -> None:
    hot.route("/x", query=("q", "r"), each={"q": ["q" * 200], "r": ["r" * 200]})(_page)


def _literal(hot: Hotpath) -> None:
    hot.route("/" + "x" * 408)(_page)


def _literal_folder(hot: Hotpath) -> None:
    hot.route("/" + "x" * 256 + "/{a}", each={"a": ["a"]})(_page)


def _not_ascii(hot: Hotpath) -> None:
    hot.route("/{a}{b}", each={"a": ["가" * 60], "b": ["나" * 30]})(_page)


def _own_file(hot: Hotpath) -> None:
    hot.route("/{a}", file="f" * 60 + "{a}.json", each={"a": ["a" * 200]})(_page)


def _ending(hot: Hotpath) -> None:
    hot.route("/" + "x" * (LAST + 1 - len(".json")))(_page)


@pytest.mark.parametrize(
    ("declare", "key", "length", "possible"),
    [
        (_two_in_one_segment, "/x/aaa", 318, LAST),
        (_two_of_a_query, "/x?q=qqq", 408, LAST),
        (_literal, "/xxx", 413, LAST),
        (_literal_folder, "/xxx", 256, MAX_NAME_BYTES),
        (_not_ascii, "/%EA%B0%80", 275, LAST),
        (_own_file, "/aaa", 265, LAST),
        (_ending, "/xxx", 252, LAST),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_name_that_is_too_long_is_refused_by_the_plan(
    hot: Hotpath, declare: object, key: str, length: int, possible: int
) -> None:
    assert callable(declare)
    declare(hot)
    with pytest.raises(DeclarationError) as refused:
        hot.plan()
    text = str(refused.value)
    assert text.startswith(f"{__file__}:")
    assert f": {key}" in text
    assert f"has {length} bytes, {possible} are possible" in text
    assert not hot.store.root.exists()


def _of_length(length: int) -> str:
    """A path of this length in parts that are short enough."""
    parts = "/".join(["d" * 199] * (length // 200 + 1))[:length]
    return parts[:-2] + "xx" if parts.endswith("/") else parts


def test_a_path_that_is_too_long_is_refused_by_the_plan(hot: Hotpath) -> None:
    hot.route("/" + _of_length(6001))(_page)
    with pytest.raises(
        DeclarationError, match=r"/ddd.*the path of its file has [67],\d{3} bytes .*, 4,095 are possible"
    ):
        hot.plan()


def test_the_longest_that_the_plan_lets_through_can_be_published(tmp_path: Path) -> None:
    """Also where the way to the generation has its most digits: the limits are those of the kernel."""
    hot = Hotpath(tmp_path / "hot")
    whole = MAX_PATH_BYTES - longest_prefix_bytes(hot.store.root) - len(".json.zst")
    hot.route("/" + _of_length(whole))(lambda: {"n": "0" * 2000})
    hot.route("/" + "x" * (LAST - len(".json")))(lambda: {"n": "1" * 2000})
    hot.route("/{a}", file="{a}", each={"a": ["a" * MAX_VALUE_BYTES]})(lambda a: {"n": "2" * 2000})
    assert build(hot).published.items == 3
    assert os.path.lexists(hot.store.files_path(1) / ("x" * (LAST - 5) + ".json.gz"))
    hot = Hotpath(tmp_path / "hot")
    hot.route("/" + _of_length(whole + 1))(_page)
    with pytest.raises(DeclarationError, match="4,096 bytes"):
        hot.plan()


def test_a_build_with_such_an_item_runs_nothing_and_says_so_in_its_report(hot: Hotpath) -> None:
    """``each=`` may ask a database, so the plan is made inside of the run, which leaves a report."""
    ran = []

    def titles() -> Iterator[dict[str, str]]:
        yield from ({"a": f"page-{number}", "b": "x"} for number in range(100))
        yield {"a": "a" * 120, "b": "b" * 192}

    @hot.route("/x/{a}{b}", each=titles)
    def page(a: str, b: str) -> dict[str, str]:
        ran.append(a)
        return {"a": a, "b": b}

    with pytest.raises(BuildFailed, match="has 317 bytes, 251 are possible"):
        build(hot)
    run = last_run(hot.store)
    assert run is not None
    assert "has 317 bytes, 251 are possible" in str(run["reason"])
    assert (ran, hot.store.sequences()) == ([], [])


@pytest.mark.parametrize("file", ["x" * 300 + ".json", "d" * 256 + "/x.json", _of_length(5000) + ".json"])
def test_a_stage_refuses_the_item_before_it_writes(tmp_path: Path, file: str) -> None:
    store = Store(tmp_path / "hot")
    with staging(store) as stage:
        with pytest.raises(ItemError, match="are possible") as refused:
            stage.add("/long", file, b"{}", POLICY)
        assert refused.value.key == "/long"
        assert stage.carry("/long", file, POLICY) is None
        stage.add("/short", "short.json", b"{}", POLICY)
        assert stage.publish().items == 1


def test_a_file_system_with_shorter_names_fails_the_item_and_not_the_run(
    tmp_path: Path, hot: Hotpath, monkeypatch: pytest.MonkeyPatch
) -> None:
    """eCryptfs has 143 bytes for a name, which only the store's directory can tell."""
    hot.route("/x/{a}", each={"a": ["short", "long" * 40]})(lambda a: {"a": a})
    build(hot)
    statvfs = os.statvfs

    def short(path: str | Path) -> os.statvfs_result:
        return os.statvfs_result([*statvfs(path)[:9], 143])

    monkeypatch.setattr(os, "statvfs", short)
    report = build(hot)
    assert [error.key for error in report.failures] == ["/x/" + "long" * 40]
    assert "has 165 bytes, 139 are possible (143 less 4 for a coding)" in str(report.failures[0])
    assert (report.published.items, report.carried) == (1, ())


def test_an_item_that_has_no_place_fails_alone(hot: Hotpath) -> None:
    """One file and one folder cannot have one name; what was built before does not help the second."""
    hot.route("/a/b", file="a/b")(lambda: {"page": "a/b"})
    build(hot)
    hot.route("/a", file="a")(lambda: {"page": "a"})
    report = build(hot)
    assert len(report.failures) == 1
    assert "one name as a file and as a folder" in str(report.failures[0])


def test_a_store_whose_own_path_is_too_long_says_what_to_do(tmp_path: Path) -> None:
    told = "File name too long; give the store a directory with a shorter path"
    with pytest.raises(StoreError, match=told), staging(Store(tmp_path / ("x" * 300))):
        pass
