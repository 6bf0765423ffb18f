"""Any other cache: the URLs as JSON, POSTed to a URL of yours that knows how to purge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson

from hotpath.ops.http import Reply, parse_url, request_target
from hotpath.ops.purge.purger import Call, CallLimits, Purged, batches, check_token, run_calls
from hotpath.ops.secret import Secret, shown

URLS_A_CALL = 500


@dataclass(frozen=True, slots=True)
class PurgeWebhook:
    """POST ``{"purge": [URL, …]}`` to ``url``; any 2xx says that it is done. ``token`` is sent as a bearer token.

    Raises ``DeclarationError``.
    """

    url: Secret
    token: Secret | None = None
    limits: CallLimits = field(default=CallLimits(), repr=False)

    def __post_init__(self) -> None:
        parse_url(self.url.reveal(), "the purge webhook", secret=True)
        if self.token is not None:
            check_token(self.token, "the token of the purge webhook")

    @property
    def name(self) -> str:
        return f"webhook {shown(self.url.reveal())}"

    def purge(self, urls: Sequence[str]) -> Purged:
        """Purge these URLs, 500 a call."""
        headers = {"Content-Type": "application/json"}
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token.reveal()}"
        target = request_target(self.url.reveal())
        calls = (
            Call(part, "POST", target, headers, orjson.dumps({"purge": list(part)}))
            for part in batches(urls, URLS_A_CALL)
        )
        secrets = [self.url, *([self.token] if self.token else [])]
        return run_calls(self.name, self.url.reveal(), calls, _refusal, self.limits, secrets)


def _refusal(reply: Reply) -> str | None:
    return None if 200 <= reply.status < 300 else f"it answered {reply.status}"
