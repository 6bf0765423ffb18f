"""A sitemap by the protocol: pages that people read, with the time at which their bytes changed."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from hotpath.batch.run import build
from hotpath.errors import DeclarationError
from hotpath.ops.render import sitemap
from hotpath.ops.render.facts import gather
from hotpath.site import Hotpath
from tests.ops.render.conftest import MakeFacts

SPACE = "{http://www.sitemaps.org/schemas/sitemap/0.9}"


def entries(text: str) -> list[tuple[str | None, str | None]]:
    root = ET.fromstring(text.encode())
    return [(entry.findtext(f"{SPACE}loc"), entry.findtext(f"{SPACE}lastmod")) for entry in root]


class Shop:
    def __init__(self, root: Path) -> None:
        self.hot = Hotpath(root)
        self.texts = {"a&b": "x", "ü": "y"}

        @self.hot.route("/p/{name}", each={"name": list(self.texts)}, media_type="text/html")
        def page(name: str) -> str:
            return self.texts[name]

        @self.hot.route("/data")
        def data() -> list[int]:
            return [1]

    def build_at(self, seconds: float) -> None:
        self.hot.store.clock = lambda: seconds
        build(self.hot)

    def entries(self, base_url: str = "https://example.org") -> list[tuple[str | None, str | None]]:
        (file,) = sitemap.render(gather(self.hot, "shop:hot", base_url=base_url))
        assert file.path == "sitemap.xml"
        return entries(file.text)


def test_pages_and_no_data(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "hot")
    shop.build_at(1e9)
    assert shop.entries() == [
        ("https://example.org/p/%C3%BC", "2001-09-09T01:46:40Z"),
        ("https://example.org/p/a&b", "2001-09-09T01:46:40Z"),
    ]


def test_the_time_is_that_of_the_change_and_not_of_the_batch(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "hot")
    shop.build_at(1e9)
    shop.texts["ü"] = "z"
    shop.build_at(1e9 + 86400)
    assert shop.entries() == [
        ("https://example.org/p/%C3%BC", "2001-09-10T01:46:40Z"),
        ("https://example.org/p/a&b", "2001-09-09T01:46:40Z"),
    ]


def test_many_pages_are_an_index_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sitemap, "MAX_URLS", 1)
    shop = Shop(tmp_path / "hot")
    shop.build_at(1e9)
    index, *parts = sitemap.render(gather(shop.hot, "shop:hot", base_url="https://example.org/sub"))
    assert ET.fromstring(index.text).tag == f"{SPACE}sitemapindex"
    assert [address for address, _ in entries(index.text)] == [
        "https://example.org/sub/sitemap-1.xml",
        "https://example.org/sub/sitemap-2.xml",
    ]
    assert [part.path for part in parts] == ["sitemap-1.xml", "sitemap-2.xml"]
    assert [len(entries(part.text)) for part in parts] == [1, 1]


def test_the_command_in_the_head_ends_no_comment(make_facts: MakeFacts) -> None:
    (file,) = sitemap.render(make_facts(command="hotpath render sitemap -- 'a-->b'"))
    assert len(entries(file.text)) == 1


def test_a_site_of_data_alone_has_none(tmp_path: Path) -> None:
    hot = Hotpath(tmp_path / "hot")
    hot.route("/data")(lambda: [1])
    build(hot)
    with pytest.raises(DeclarationError, match="HTML or PDF"):
        sitemap.render(gather(hot, "shop:hot"))
