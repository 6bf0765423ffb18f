"""Who may see the page: this machine, who shows the token, or who the app's own login lets through."""

from __future__ import annotations

import hashlib
import hmac
import inspect
import ipaddress
import os
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Final

from starlette.datastructures import Headers

from hotpath.errors import DeclarationError
from hotpath.types import Scope

TOKEN_VARIABLE: Final = "HOTPATH_DASHBOARD_TOKEN"
COOKIE: Final = "hotpath_dashboard"
MIN_TOKEN: Final = 16
# A request with one of these came by way of a proxy, so the address of its client is the proxy's.
_PROXY_FIELDS: Final = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")

Allow = Callable[[Scope], bool | Awaitable[bool]]


def token_from_environment() -> str | None:
    """The token that the environment sets, so that none stands on a command line."""
    return os.environ.get(TOKEN_VARIABLE) or None


@dataclass(frozen=True, slots=True)
class Refused:
    """Not for this request. ``asks_token``: it may show one."""

    status: int
    problem: str
    asks_token: bool = False


class Access:
    """Decides about each request. ``local_socket``: a client without an address came by a socket that is protected.

    With neither ``token`` nor ``allow`` only this machine is answered, and only by a ``Host`` that is an address,
    localhost or one of ``hosts``: a page elsewhere that points its own name here (DNS rebinding) is refused. Raises
    ``DeclarationError``.
    """

    def __init__(
        self,
        *,
        token: str | None = None,
        allow: Allow | None = None,
        hosts: Iterable[str] = (),
        local_socket: bool = False,
    ) -> None:
        if token is not None and (len(token) < MIN_TOKEN or not token.isascii() or not token.isprintable()):
            raise DeclarationError(f"token: write {MIN_TOKEN} or more printable ASCII characters, drawn by chance")
        if allow is not None and not callable(allow):
            raise DeclarationError("allow=: write a function that takes a scope and returns a bool")
        if isinstance(hosts, str) or not all(isinstance(host, str) and host for host in hosts):
            raise DeclarationError(f"hosts={hosts!r}: write names, ('status.example.org',)")
        self._token = token
        self._allow = allow
        self._hosts = frozenset(host.lower() for host in hosts)
        self._local_socket = local_socket

    @property
    def cookie(self) -> str:
        """The value of the cookie of who has shown the token; it does not give the token away."""
        return hmac.new((self._token or "").encode(), b"hotpath dashboard", hashlib.sha256).hexdigest()

    def is_token(self, given: str) -> bool:
        """Whether this is the token, compared in constant time."""
        return self._token is not None and hmac.compare_digest(given.encode("utf-8", "replace"), self._token.encode())

    async def check(self, scope: Scope) -> Refused | None:
        """Why this request is refused; ``None`` where it is not."""
        headers = Headers(scope=scope)
        is_open = self._token is None and self._allow is None
        if (is_open or self._hosts) and not self._is_known_host(headers.get("host", "")):
            return Refused(
                421, "The name in this address is not one of this page's: write it into hosts=, or --allow-host."
            )
        if self._allow is not None:
            allowed = self._allow(scope)
            return (
                None if (await allowed if inspect.isawaitable(allowed) else allowed) else Refused(403, "Log in first.")
            )
        if self._token is not None:
            return None if self._has_token(headers) else Refused(401, "", asks_token=True)
        if not self._is_local(scope, headers):
            return Refused(
                403,
                "Without a token this page answers this machine only, and no proxy. Set a token"
                " (HOTPATH_DASHBOARD_TOKEN), or put it behind a login of your own (allow=).",
            )
        return None

    def _has_token(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.is_token(given.strip()):
            return True
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return morsel is not None and hmac.compare_digest(morsel.value.encode(), self.cookie.encode())

    def _is_known_host(self, host: str) -> bool:
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() and not host.endswith("]") else host
        name = name.strip("[]").lower().rstrip(".")
        return name == "localhost" or name.endswith(".localhost") or _is_address(name) or name in self._hosts

    def _is_local(self, scope: Scope, headers: Headers) -> bool:
        # Browsers speak 1.1 and more; what is 1.0 is a proxy that says nothing of itself.
        if any(name in headers for name in _PROXY_FIELDS) or scope.get("http_version") == "1.0":
            return False
        client = scope.get("client")
        if not client or not client[0]:
            return self._local_socket
        try:
            address = ipaddress.ip_address(client[0])
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return (mapped or address).is_loopback


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
