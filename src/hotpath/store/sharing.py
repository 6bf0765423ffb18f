"""Where the machines of a site share its generations: the addresses of the origin and of the server of hints."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from hotpath.errors import DeclarationError
from hotpath.process.redis_server import check_address

ORIGIN = "HOTPATH_ORIGIN"
HINTS = "HOTPATH_HINTS"
NAME = "HOTPATH_NAME"

# In place of an address: there is none, whatever the environment or the declaration says.
OFF = "off"


@dataclass(frozen=True, slots=True)
class Sharing:
    """``origin`` is a URL without anything secret, ``hints`` one that may hold a password, ``name`` this machine's.
    With ``site_copy`` whoever builds keeps the pages there as plain objects too.

    Raises ``DeclarationError`` for addresses that cannot be used.
    """

    origin: str | None = None
    hints: str | None = field(default=None, repr=False)
    name: str | None = None
    site_copy: bool = False

    def __post_init__(self) -> None:
        if self.origin not in (None, OFF):
            if not isinstance(self.origin, str):
                raise DeclarationError(f"origin={self.origin!r}: write its URL, as in 's3://bucket/site'")
            from hotpath.store.origin.url import OriginUrl  # a site on one machine has none

            parsed = OriginUrl.parse(self.origin)
            if self.site_copy:
                parsed.require_fields()
            object.__setattr__(self, "origin", str(parsed))
        if self.hints not in (None, OFF):
            check_address(self.hints, "a server of hints")

    def effective(
        self, origin: str | None = None, hints: str | None = None, *, environ: Mapping[str, str] = os.environ
    ) -> Sharing:
        """What holds where this is declared: options of the command, ``origin`` and ``hints``, win over the
        environment, and that over the declaration.

        Whoever runs a command knows best, and the machine knows better than the code. ``"off"`` at any of them is none;
        an empty text says nothing.
        """
        return Sharing(
            _address(origin, environ.get(ORIGIN), self.origin),
            _address(hints, environ.get(HINTS), self.hints),
            environ.get(NAME) or self.name,
            self.site_copy,
        )

    def is_off(self, environ: Mapping[str, str] = os.environ) -> bool:
        """Whether somebody has said that there is no origin, and not only nobody that there is one."""
        return (environ.get(ORIGIN) or self.origin) == OFF


def _address(*by_rank: str | None) -> str | None:
    first = next((address for address in by_rank if address), None)
    return None if first == OFF else first
