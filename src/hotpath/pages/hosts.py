"""Which hosts a site answers for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from hotpath.errors import DeclarationError
from hotpath.types import Header

_NAME = re.compile(r"(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\]")
_PORT = re.compile(rb":[0-9]*\Z")

# The longest name that DNS has is 253 bytes; a port comes behind it.
_MAX_BYTES = 300


@dataclass(frozen=True, slots=True)
class Hosts:
    """``names`` as they are, and any name that ends with one of ``suffixes``."""

    names: frozenset[bytes]
    suffixes: tuple[bytes, ...]

    @classmethod
    def parse(cls, hosts: Iterable[str]) -> Hosts:
        """Raises ``DeclarationError`` for what is no host name without a port."""
        names, suffixes = set(), []
        for host in hosts:
            if not _NAME.fullmatch(host.lower()):
                raise DeclarationError(
                    f"hosts holds {host!r}; write a name as in 'example.org' or '*.example.org', without scheme and"
                    " port (in punycode where it is not ASCII)"
                )
            if host.startswith("*"):
                suffixes.append(host[1:].lower().encode("ascii"))
            else:
                names.add(host.lower().encode("ascii"))
        if not names and not suffixes:
            raise DeclarationError("hosts=() would answer nobody; leave it out or write hosts=('example.org',)")
        return cls(frozenset(names), tuple(suffixes))

    def accept(self, authority: bytes | None, headers: Iterable[Header]) -> bool:
        """Whether a request is for one of them: by the authority of its target, else by its one ``Host`` field."""
        if authority is None:
            values = [value for name, value in headers if name == b"host"]
            if len(values) != 1:  # RFC 9112 §3.2: none or several is a bad request
                return False
            authority = values[0]
        if len(authority) > _MAX_BYTES:
            return False
        name = _PORT.sub(b"", authority.strip(b" \t").lower())
        return name in self.names or name.endswith(self.suffixes)
