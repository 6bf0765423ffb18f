"""Fastly: ``POST /purge/{host}/{path}`` for each URL ("Purge a URL"); URL purges are not rate-limited there.

Purging by surrogate key is not done: the pages would have to carry ``Surrogate-Key``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from hotpath.ops.http import Reply, parse_url
from hotpath.ops.purge.purger import Call, CallLimits, Purged, check_token, run_calls, said
from hotpath.ops.secret import Secret

BASE_URL = "https://api.fastly.com"


@dataclass(frozen=True, slots=True)
class Fastly:
    """A token with the scope ``purge_select``. Raises ``DeclarationError``.

    ``soft`` marks the copies stale and does not remove them, so that Fastly can still answer with them when the origin
    is down (``stale-if-error``).
    """

    token: Secret
    soft: bool = True
    base_url: str = BASE_URL
    limits: CallLimits = field(default=CallLimits(), repr=False)

    def __post_init__(self) -> None:
        check_token(self.token, "the Fastly token")
        parse_url(self.base_url, "base_url")

    @property
    def name(self) -> str:
        return "fastly"

    def purge(self, urls: Sequence[str]) -> Purged:
        """Purge these URLs, one a call."""
        prefix = parse_url(self.base_url, "base_url").path.rstrip("/")
        headers = {"Fastly-Key": self.token.reveal(), "Accept": "application/json"}
        if self.soft:
            headers["Fastly-Soft-Purge"] = "1"
        calls = (Call([url], "POST", f"{prefix}/purge/{_cached_url(url)}", headers) for url in urls)
        return run_calls(self.name, self.base_url, calls, _refusal, self.limits, [self.token])


def _cached_url(url: str) -> str:
    """The URL without its scheme, as the path of the call has it."""
    parts = urlsplit(url)
    return parts.netloc + (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _refusal(reply: Reply) -> str | None:
    return None if reply.status == 200 else f"{reply.status}: {said(reply)}"
