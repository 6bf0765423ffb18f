"""Paths of the own site in what a page answered: HTML's links, a sitemap's places, paths in JSON. Computes only."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from typing import Final
from urllib.parse import urljoin, urlsplit

_LINK: Final = re.compile(rb"""(?:href|src)\s*=\s*["']?([^"'\s>]+)|<loc>\s*([^<\s]+)|"(/[^"\s\\]{1,300})\"""", re.I)
MAX_LINK_BYTES: Final = 1024


def links(body: bytes, base: str, host: str) -> Iterator[str]:
    """Targets that ``base`` links to, without those of other hosts. A sitemap names the public host, so that counts."""
    for match in _LINK.finditer(body):
        place = match[1] or match[2] or match[3]
        if len(place) > MAX_LINK_BYTES:
            continue
        try:
            parts = urlsplit(urljoin(base, unescape(place.decode("utf-8"))))
        except ValueError:
            continue
        is_own = not parts.netloc or parts.hostname == host or match[2] is not None
        if is_own and parts.scheme in ("", "http", "https") and parts.path.startswith("/"):
            yield parts.path + (f"?{parts.query}" if parts.query else "")
