"""What must be on no page: what the alerts and the purges keep secret, and passwords in addresses."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, Final

from hotpath.ops.secret import HIDDEN, Secret, scrubbed

# Settings of these names are shown by nobody: an address of a webhook is as good as a password.
_SECRET_SETTINGS: Final = re.compile(
    r"HOTPATH_(ALERT_(WEBHOOK|APPRISE|PING|SMTP_PASSWORD)|PURGE_(CLOUDFLARE_TOKEN|FASTLY_TOKEN|BUNNY_KEY|WEBHOOK\w*))"
)
# User and password before a host, as in the address of a database; and what looks like a token in a query or a text.
_USERINFO: Final = re.compile(r"(?<=://)[^/\s@]{1,200}@")
_NAMED: Final = re.compile(
    r"(?i)\b((?:api[_-]?key|access[_-]?token|auth[_-]?token|token|password|passwd|secret|signature)[\"']?\s*[=:]\s*[\"']?)"
    r"[^\s\"'&,;]{1,200}"
)
_BEARER: Final = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}")


class Redaction:
    """Takes out what is secret, from texts and from whatever holds texts."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        given = os.environ if environ is None else environ
        values = [value for name, value in given.items() if _SECRET_SETTINGS.fullmatch(name)]
        # The parts too: several addresses stand in one setting.
        parts = {part for value in values for part in (value, *value.split()) if len(part) >= 4}
        self._secrets = [Secret(part) for part in sorted(parts, key=len, reverse=True)]

    def text(self, value: str) -> str:
        """``value`` without what is secret in it."""
        value = scrubbed(value, self._secrets)
        if "://" in value:
            value = _USERINFO.sub(f"{HIDDEN}@", value)
        return _BEARER.sub(rf"\1 {HIDDEN}", _NAMED.sub(rf"\g<1>{HIDDEN}", value))

    def __call__(self, value: Any) -> Any:
        """The same in every text of a mapping or a list."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(key)): self(part) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return [self(part) for part in value]
        return value
