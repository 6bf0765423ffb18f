"""Who a crawler is: by the ranges of addresses that its owner publishes; its user agent alone is a claim.

The ranges are data of the package (``crawlers.json``, adjoining ranges joined) with the day they are of. A newer file
as the owner publishes it (``{"prefixes": [{"ipv4Prefix": …}, {"ipv6Prefix": …}]}``) can be given in their place.
"""

from __future__ import annotations

import bisect
import ipaddress
import json
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Final

from hotpath.errors import DeclarationError

# How each calls itself, in lower case, and whose it is. More exact ones come first.
AGENTS: Final[tuple[tuple[bytes, str], ...]] = (
    (b"googlebot", "Googlebot"),
    (b"google-inspectiontool", "Googlebot"),
    (b"googleother", "Googlebot"),
    (b"storebot-google", "Googlebot"),
    (b"adsbot-google", "Googlebot"),
    (b"mediapartners-google", "Googlebot"),
    (b"bingbot", "Bingbot"),
    (b"msnbot", "Bingbot"),
    (b"applebot", "Applebot"),
    (b"duckduckbot", "DuckDuckBot"),
    (b"yandex", "Yandex"),
    (b"baiduspider", "Baidu"),
    (b"yeti/", "Naver"),
    (b"naverbot", "Naver"),
    (b"slurp", "Yahoo"),
    (b"gptbot", "GPTBot"),
    (b"oai-searchbot", "OAI-SearchBot"),
    (b"perplexitybot", "PerplexityBot"),
    (b"claudebot", "ClaudeBot"),
)
MAX_REMEMBERED: Final = 50_000


class Crawlers:
    """Which crawler a request is of, and whether its address says so too."""

    def __init__(self, ranges: Mapping[str, Iterable[str]]) -> None:
        """``ranges`` by crawler. Raises ``DeclarationError`` for what is no range of addresses."""
        self._tables: dict[str, dict[int, tuple[list[int], list[int]]]] = {}
        for name, prefixes in ranges.items():
            self._tables[name] = _tables(name, prefixes)
        self._claimed: dict[bytes, str | None] = {}
        self._verified: dict[tuple[str, bytes], bool] = {}

    def claimed(self, agent: bytes) -> str | None:
        """Whose crawler this user agent says that it is."""
        try:
            return self._claimed[agent]
        except KeyError:
            lower = agent.lower()
            name = next((name for word, name in AGENTS if word in lower), None)
            if len(self._claimed) >= MAX_REMEMBERED:
                self._claimed.clear()
            self._claimed[agent] = name
            return name

    def is_verified(self, name: str, address: bytes) -> bool:
        """Whether this address is in the published ranges of that crawler."""
        known = self._verified.get((name, address))
        if known is None:
            if len(self._verified) >= MAX_REMEMBERED:
                self._verified.clear()
            known = self._verified[name, address] = self._is_in(name, address)
        return known

    def _is_in(self, name: str, address: bytes) -> bool:
        try:
            parsed = ipaddress.ip_address(address.decode("ascii").partition("%")[0].strip("[]"))
        except ValueError:
            return False
        if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped:
            parsed = parsed.ipv4_mapped
        starts, ends = self._tables.get(name, {}).get(parsed.version, ([], []))
        place = bisect.bisect_right(starts, int(parsed)) - 1
        return place >= 0 and int(parsed) <= ends[place]


def shipped(newer: Mapping[str, Path] | None = None) -> Crawlers:
    """With the ranges of the package, and ``newer`` files of their owners in their place.

    Raises ``DeclarationError`` for a file that does not hold such ranges.
    """
    data = json.loads(resources.files("hotpath.ops.traffic").joinpath("crawlers.json").read_text(encoding="ascii"))
    ranges: dict[str, Iterable[str]] = {name: entry["prefixes"] for name, entry in data.items()}
    for name, path in (newer or {}).items():
        try:
            published = json.loads(path.read_bytes())
            ranges[name] = [next(iter(entry.values())) for entry in published["prefixes"]]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
            raise DeclarationError(
                f"{path}: not the ranges of {name}; give the file that its owner publishes, with 'prefixes' ({error})"
            ) from error
    return Crawlers(ranges)


def _tables(name: str, prefixes: Iterable[str]) -> dict[int, tuple[list[int], list[int]]]:
    """By version of the protocol: first and last addresses, joined and in order."""
    by_version: dict[int, list[ipaddress.IPv4Network | ipaddress.IPv6Network]] = {4: [], 6: []}
    for prefix in prefixes:
        try:
            network = ipaddress.ip_network(prefix, strict=False)
        except ValueError as error:
            raise DeclarationError(f"{name}: {prefix!r} is no range of addresses ({error})") from error
        by_version[network.version].append(network)
    tables: dict[int, tuple[list[int], list[int]]] = {}
    for version, networks in by_version.items():
        joined = sorted((int(each[0]), int(each[-1])) for each in ipaddress.collapse_addresses(networks))  # type: ignore[type-var]
        tables[version] = [first for first, _ in joined], [last for _, last in joined]
    return tables
