"""Cloudflare: ``POST /zones/{zone}/purge_cache`` with the URLs as ``files`` ("Purge Cached Content by URL")."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson

from hotpath.errors import DeclarationError
from hotpath.ops.http import Reply, parse_url
from hotpath.ops.purge.purger import Call, CallLimits, Purged, batches, check_token, run_calls
from hotpath.ops.secret import Secret

BASE_URL = "https://api.cloudflare.com/client/v4"

# What every plan takes: 30 a call was the limit of all but Enterprise for years, 100 is since 2025.
URLS_A_CALL = 30

_ZONE = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Cloudflare:
    """A zone, and a token with the permission "Cache Purge" for it. Raises ``DeclarationError``."""

    zone: str
    token: Secret
    base_url: str = BASE_URL
    limits: CallLimits = field(default=CallLimits(), repr=False)

    def __post_init__(self) -> None:
        if not _ZONE.fullmatch(self.zone):
            raise DeclarationError(
                f"the Cloudflare zone {self.zone!r} is no zone ID; it has 32 characters, 0-9 and a-f"
            )
        check_token(self.token, "the Cloudflare token")
        parse_url(self.base_url, "base_url")

    @property
    def name(self) -> str:
        return "cloudflare"

    def purge(self, urls: Sequence[str]) -> Purged:
        """Purge these URLs, 30 a call."""
        path = parse_url(self.base_url, "base_url").path.rstrip("/")
        headers = {"Authorization": f"Bearer {self.token.reveal()}", "Content-Type": "application/json"}
        target = f"{path}/zones/{self.zone}/purge_cache"
        calls = (
            Call(part, "POST", target, headers, orjson.dumps({"files": list(part)}))
            for part in batches(urls, URLS_A_CALL)
        )
        return run_calls(self.name, self.base_url, calls, _refusal, self.limits, [self.token])


def _refusal(reply: Reply) -> str | None:
    """Cloudflare says in the body whether it did it, and may say no with 200."""
    try:
        answer = orjson.loads(reply.body)
        taken = answer["success"] is True
        errors = "; ".join(f"{error['message']} (code {error['code']})" for error in answer.get("errors") or ())
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return f"{reply.status} without the JSON that Cloudflare answers"
    if taken and reply.status == 200:
        return None
    return f"{reply.status}: {errors or 'success is false, and no error is given'}"
