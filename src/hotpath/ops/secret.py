"""Text that must be in no log, no error, no traceback and no JSON."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from urllib.parse import quote, urlsplit

HIDDEN = "***"


class Secret:
    """A password, a token, or a URL that is as good as one. Whatever prints it gets ``***``; JSON refuses it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself, for the one call that needs it."""
        return self._text

    def __repr__(self) -> str:
        return f"Secret({HIDDEN})"

    def __str__(self) -> str:
        return HIDDEN


def scrubbed(text: str, secrets: Iterable[Secret]) -> str:
    """``text`` without the secrets, also where it has them percent-encoded or in base64, as a server may echo them."""
    for secret in secrets:
        plain = secret.reveal()
        encoded = base64.b64encode(plain.encode()).decode("ascii")
        for form in (plain, quote(plain, safe=""), quote(plain), encoded, encoded.rstrip("=")):
            if form:
                text = text.replace(form, HIDDEN)
    return text


def shown(url: str) -> str:
    """A URL as it may be printed: its scheme and host. User, path and query are often the key to it."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return HIDDEN
    place = f"{host or HIDDEN}:{port}" if port else host or HIDDEN
    rest = f"/{HIDDEN}" if parts.path.strip("/") or parts.query else ""
    return f"{parts.scheme}://{place}{rest}"
