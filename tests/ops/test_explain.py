"""Why a page is not hot, for people."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from urllib.parse import quote

import pytest

from hotpath.batch.run import build
from hotpath.ops.explain import explain
from hotpath.serving import reader_of
from hotpath.site import Hotpath


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
