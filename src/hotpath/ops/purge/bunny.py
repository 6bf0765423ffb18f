"""Bunny: ``POST /purge?url=…`` for each URL ("Purge URL"); 120 at once, then 5 a second, 429 beyond that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

from hotpath.ops.http import Reply, parse_url
from hotpath.ops.purge.purger import Call, CallLimits, Purged, check_token, run_calls, said
from hotpath.ops.secret import Secret

BASE_URL = "https://api.bunny.net"


@dataclass(frozen=True, slots=True)
class Bunny:
    """The account's API key. Raises ``DeclarationError``."""

    key: Secret
    base_url: str = BASE_URL
    limits: CallLimits = field(default=CallLimits(), repr=False)

    def __post_init__(self) -> None:
        check_token(self.key, "the Bunny key")
        parse_url(self.base_url, "base_url")

    @property
    def name(self) -> str:
        return "bunny"

    def purge(self, urls: Sequence[str]) -> Purged:
        """Purge these URLs, one a call."""
        prefix = parse_url(self.base_url, "base_url").path.rstrip("/")
        headers = {"AccessKey": self.key.reveal(), "Accept": "application/json"}
        calls = (Call([url], "POST", f"{prefix}/purge?{_query(url)}", headers) for url in urls)
        return run_calls(self.name, self.base_url, calls, _refusal, self.limits, [self.key])


def _query(url: str) -> str:
    query = {"url": url, "async": "false"}
    if urlsplit(url).path.endswith("/"):
        query["exactPath"] = "true"  # without it everything below is purged as well
    return urlencode(query)


def _refusal(reply: Reply) -> str | None:
    if reply.status in (200, 204):
        return None
    return f"{reply.status}: {'the key is refused' if reply.status == 401 else said(reply)}"
