"""An alert as JSON, POSTed to a URL."""

from __future__ import annotations

from dataclasses import dataclass

from hotpath.ops.alerts.message import Message
from hotpath.ops.http import parse_url, post
from hotpath.ops.secret import Secret, shown
from hotpath.options import json_bytes

TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Webhook:
    """POST each alert to ``url``; any 2xx is a delivery. Raises ``DeclarationError``."""

    url: Secret
    timeout_seconds: float = TIMEOUT_SECONDS

    def __post_init__(self) -> None:
        parse_url(self.url.reveal(), "the webhook", secret=True)

    @property
    def name(self) -> str:
        return f"webhook {shown(self.url.reveal())}"

    def send(self, message: Message) -> str | None:
        """Deliver. Raises ``Unreachable``."""
        post(
            self.url.reveal(),
            json_bytes(message.as_dict()),
            {"Content-Type": "application/json"},
            timeout_seconds=self.timeout_seconds,
            shown=shown(self.url.reveal()),
        )
        return None
