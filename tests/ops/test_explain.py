"""Why a page is not hot, for people."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from urllib.parse import quote

import pytest

from hotpath.batch.run import build
from hotpath.ops.explain import explain
from hotpath.ops.status import lines, status
from hotpath.serving import reader_of
from hotpath.site import Hotpath
from hotpath.store.verify import verify
from tests.store.faults.sites import edit

pytestmark = pytest.mark.usefixtures("items_in_this_process")


@pytest.mark.parametrize("text", ["caf\u00e9", "\ud55c\uae00"])
@pytest.mark.parametrize(("built", "asked"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_another_unicode_normal_form_is_named(tmp_path: Path, text: str, built: str, asked: str) -> None:
    """File names of macOS are NFD; links are mostly NFC."""
    hot = Hotpath(tmp_path / "hot", refresh=3600)
    hot.route("/s/{name}", each={"name": [unicodedata.normalize(built, text)]})(lambda name: {"a": 1})  # type: ignore[arg-type]
    build(hot)
    there = explain(hot, "/s/" + quote(unicodedata.normalize(built, text)))  # type: ignore[arg-type]
    assert there.hot
    other = explain(hot, "/s/" + quote(unicodedata.normalize(asked, text)))  # type: ignore[arg-type]
    assert not other.hot
    assert f"{there.key} is hot, and the same text in another Unicode normal form" in other.reason
    assert "normal form" not in explain(hot, "/s/" + quote("caf\u00e8")).reason
    assert "normal form" not in explain(hot, "/s/cafe").reason
    reader_of(hot).close()


def test_a_target_without_end_is_explained(tmp_path: Path) -> None:
    hot = Hotpath(tmp_path / "hot", refresh=3600)
    hot.route("/a")(lambda: {"a": 1})
    build(hot)
    assert "more than 8,192 bytes" in explain(hot, "/" + "a" * 9000).reason
    assert "more than 8,192 bytes" in explain(hot, "/a?" + "n" * 9000).reason
    reader_of(hot).close()


@pytest.fixture
def hot(tmp_path: Path) -> Hotpath:
    """Three generations with the same bytes, so that a page is one file with three names."""
    hot = Hotpath(tmp_path / "hot", refresh=3600)
    hot.route("/r/{name}", each={"name": ["a", "b"]})(lambda name: {"name": name})
    hot.route("/q", each={"page": ["1", "2"]}, query=("page",))(lambda page: {"page": page})
    for _ in range(3):
        build(hot)
    return hot


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "key", "data"),
    [
        ("/r/a", "/r/a", b'{"name":"edited by hand"}'),
        ("/r/a", "/r/a", b'{"name":"b"}'),  # of the same size
        ("/r/%61", "/r/a", b""),
        ("/q?utm_source=x&page=1", "/q?page=1", b"{}"),
    ],
)
def test_damage_is_named_as_damage(hot: Hotpath, target: str, key: str, data: bytes) -> None:
    path = hot.store.files_path(3) / hot.store.read_manifest(3).items[key].identity.file
    edit(path, data)
    found = explain(hot, target)
    assert (found.hot, found.key) == (False, key)
    assert found.reason == (
        f"{path} is not what was published (its digest differs), and no older generation has good bytes of this page:"
        " run 'hotpath verify --repair', or build again"
    )
    assert explain(hot, "/r/b").hot
    assert "is the value in each=" in explain(hot, "/r/c").reason, "that is no damage"
    assert "is the value in each=" not in explain(hot, "/q?page=2").reason
    looked = status(hot)
    assert looked.damages == (f"generation 3: {key}: {path}: is not what was published (its digest differs)",)
    assert f"DAMAGED: {looked.damages[0]}" in lines(looked)
    assert {damage.sequence for damage in verify(hot.store).damages} == {1, 2, 3}
    reader_of(hot).close()


def test_a_file_that_is_gone_is_named_and_what_answers_meanwhile(hot: Hotpath) -> None:
    path = hot.store.files_path(3) / "r/a.json"
    path.unlink()
    found = explain(hot, "/r/a")
    assert found.hot
    assert found.reason.startswith(f"served from generation 2, since {path} is not what was published (")
    assert "run 'hotpath verify --repair'" in found.reason
    (damage,) = status(hot).damages
    assert damage == f"generation 3: /r/a: {path}: is missing"
    reader_of(hot).close()


def test_a_sound_store_has_no_damage(hot: Hotpath) -> None:
    assert status(hot).damages == ()
    assert not any("DAMAGED" in line for line in lines(status(hot)))


def test_an_item_that_failed_and_was_left_to_the_app_is_explained_by_its_failure(tmp_path: Path) -> None:
    hot = Hotpath(tmp_path / "hot", refresh=3600)
    hot.route("/ten/{n}", each={"n": [1, 0]})(lambda n: {"a": 10 // n})
    hot.route("/by/{n}", each={"n": [0]})(lambda n: {"a": 10 // n})
    build(hot, partial=True)
    for path in ("/ten/0", "/by/0"):
        reason = explain(hot, path).reason
        assert "it failed in the last run, and the app answers for it: ZeroDivisionError: " in reason
        assert "hotpath build" not in reason
    assert "is the value in each=" in explain(hot, "/ten/2").reason
    for report in (hot.store.root / "runs").iterdir():
        report.unlink()
    assert "is the value in each=" in explain(hot, "/ten/0").reason
    reader_of(hot).close()
