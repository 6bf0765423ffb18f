"""Sitemaps by the protocol of sitemaps.org, from what is published."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

from hotpath.errors import DeclarationError
from hotpath.ops.render.escape import xml
from hotpath.ops.render.facts import SiteFacts, head
from hotpath.ops.render.files import RenderedFile
from hotpath.ops.render.template import commented, fill

# sitemaps.org: of one file. Its 50 MiB would be reached by addresses of 1,000 characters only.
MAX_URLS: Final = 50_000
# What a search engine shows: no data, no sitemap.
_PAGES: Final = frozenset({"text/html", "application/xhtml+xml", "application/pdf"})


def render(facts: SiteFacts) -> list[RenderedFile]:
    """``sitemap.xml``: every hot page that is HTML or PDF, with the time at which its bytes last changed.

    Of more than 50,000 it is an index of the others. Raises ``DeclarationError`` where there is none.
    """
    items = facts.manifest.items if facts.manifest is not None else {}
    pages = []
    for key in sorted(items):
        item = items[key]
        if item.policy.media_type.partition(";")[0].strip().lower() in _PAGES:
            pages.append((_address(facts, key), item.last_modified))
    if not pages:
        raise DeclarationError(f"{facts.store}: no hot page that is published is HTML or PDF, so a sitemap has nothing")
    parts = [pages[start : start + MAX_URLS] for start in range(0, len(pages), MAX_URLS)]
    if len(parts) == 1:
        return [_file(facts, "sitemap.xml", "url", parts[0])]
    listed = [
        (_address(facts, f"/sitemap-{number}.xml"), max(time for _, time in part))
        for number, part in enumerate(parts, 1)
    ]
    files = [_file(facts, f"sitemap-{number}.xml", "url", part) for number, part in enumerate(parts, 1)]
    return [_file(facts, "sitemap.xml", "sitemap", listed), *files]


def _address(facts: SiteFacts, path: str) -> str:
    base = urlsplit(facts.base_url)
    return f"{base.scheme}://{base.netloc}{base.path}{path}"


def _file(facts: SiteFacts, name: str, element: str, entries: list[tuple[str, int]]) -> RenderedFile:
    values = {
        # Two dashes end a comment of XML.
        "head": commented(head(facts, "base_url"), "").replace("--", "- -"),
        "outer": "urlset" if element == "url" else "sitemapindex",
        "entries": "\n".join(
            f"  <{element}><loc>{xml(address)}</loc><lastmod>{_time(time)}</lastmod></{element}>"
            for address, time in entries
        ),
    }
    return RenderedFile(name, fill("sitemap.xml", values))


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
