"""A dead man's switch: a service that complains when the batch has not said that it ran.

As healthchecks.io has it and others do after it: POST to ``URL/start``, ``URL`` and ``URL/fail``.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from hotpath.ops.http import parse_url, post
from hotpath.ops.secret import Secret, shown

TIMEOUT_SECONDS = 10.0

# healthchecks.io keeps the first 100 kB.
MAX_BODY_BYTES = 10_000

START, SUCCESS, FAIL = "start", "", "fail"


@dataclass(frozen=True, slots=True)
class Ping:
    """Ping ``url``. Raises ``DeclarationError``."""

    url: Secret
    timeout_seconds: float = TIMEOUT_SECONDS

    def __post_init__(self) -> None:
        parse_url(self.url.reveal(), "the ping URL", secret=True)

    @property
    def name(self) -> str:
        return f"ping {shown(self.url.reveal())}"

    def send(self, signal: str, text: str = "") -> None:
        """``START``, ``SUCCESS`` or ``FAIL``, with a text for the log there. Raises ``Unreachable``."""
        parts = urlsplit(self.url.reveal())
        path = parts.path.rstrip("/") + (f"/{signal}" if signal else "")
        post(
            urlunsplit(parts._replace(path=path)),
            text.encode()[:MAX_BODY_BYTES],
            {"Content-Type": "text/plain; charset=utf-8"},
            timeout_seconds=self.timeout_seconds,
            shown=shown(self.url.reveal()),
        )
