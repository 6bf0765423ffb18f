"""Ask a server over HTTP, bounded in every way: in time, in bytes, and no redirect is followed.

The standard library's client, since the package needs no other one. It bounds each read but not all of them together,
so every exchange runs in a thread of its own that is waited for no longer than allowed. It blocks the caller for that
long: an event loop calls it by way of a thread.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import SplitResult, urlsplit

from hotpath.errors import DeclarationError, Unreachable

USER_AGENT = "hotpath (asgi-hotpath)"

# What an answer to a webhook or a purge says is a line or two.
MAX_ANSWER_BYTES = 64 * 1024

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer; header names are in lower case. ``seconds`` is up to the last byte.

    ``is_whole`` is false where the body has more than the allowed bytes; ``body`` is its beginning then.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    seconds: float
    is_whole: bool = True

    def header(self, name: str) -> str | None:
        """The value of a field, repeated lines joined with a comma; ``None`` where there is none."""
        values = [value for key, value in self.headers if key == name]
        return ", ".join(values) if values else None


def within(seconds: float, work: Callable[[], T], cut: Callable[[], object]) -> T:
    """What ``work`` returns or raises; ``TimeoutError`` when that takes longer than ``seconds`` altogether.

    A thread cannot be ended, and a name look-up not even cut off: one that is late is left alone, after ``cut`` has
    taken away what it waits for.
    """
    outcome: list[tuple[T | None, BaseException | None]] = []

    def run() -> None:
        try:
            outcome.append((work(), None))
        except BaseException as error:  # is raised again, in the caller's thread
            outcome.append((None, error))

    thread = threading.Thread(target=run, daemon=True, name="hotpath-fetch")
    thread.start()
    thread.join(seconds)
    if not outcome:
        cut()
        raise TimeoutError
    value, error = outcome[0]
    if error is not None:
        raise error
    return value  # type: ignore[return-value]  # None only where work returned it


def parse_url(url: str, name: str, *, secret: bool = False) -> SplitResult:
    """An http or https URL, taken apart. ``name`` is the option, for the error, which never shows a ``secret`` one.

    Raises ``DeclarationError``.
    """
    told = "it" if secret else repr(url)
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  raises where it is no number
    except ValueError:
        raise DeclarationError(f"{name}: {told} is no URL; write https://example.org") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise DeclarationError(f"{name}: {told} is no URL of a web server; write https://example.org")
    if not url.isascii() or any(character <= " " for character in url):
        raise DeclarationError(f"{name}: {told} has characters that a URL has percent-encoded")
    return parts


class Client:
    """One kept-alive connection to the server of ``url``; use it from one thread at a time, and close it.

    ``shown`` stands for the server in errors.
    """

    def __init__(self, url: str, *, timeout_seconds: float, shown: str) -> None:
        parts = parse_url(url, shown, secret=True)
        self._timeout = timeout_seconds
        self._shown = shown
        self._host = parts.hostname or ""
        self._port = parts.port
        # Certificates are always verified. An authority of your own is named with SSL_CERT_FILE, as OpenSSL has it.
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._connection = self._new()
        self._socket: socket.socket | None = None

    def close(self) -> None:
        self._connection.close()

    def ask(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        *,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> Reply:
        """One answer. Raises ``Unreachable`` where there is none within the time."""
        fields = {"User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "identity", **(headers or {})}
        try:
            return within(self._timeout, lambda: self._exchange(method, target, fields, body, max_bytes), self._cut_off)
        except (OSError, ValueError, http.client.HTTPException) as error:
            # A timed-out thread may still hold the old one.
            self._connection = self._new()
            problem = self._problem(error)
        # Not inside the except: what is raised must not hold on to frames that have tokens in them.
        raise Unreachable(self._shown, problem)

    def _new(self) -> http.client.HTTPConnection:
        if self._tls is not None:
            return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout, context=self._tls)
        return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)

    def _cut_off(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):  # it has ended by itself
                self._socket.shutdown(socket.SHUT_RDWR)

    def _exchange(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None, max_bytes: int
    ) -> Reply:
        started = time.perf_counter()
        connection = self._connection
        reused = connection.sock is not None
        try:
            response = self._send(connection, method, target, headers, body)
        except (ConnectionResetError, BrokenPipeError, http.client.RemoteDisconnected):
            if not reused:
                raise
            # A server may close an idle connection at any moment; what met that is sent once more (RFC 9112 §9.3.1).
            connection.close()
            response = self._send(connection, method, target, headers, body)
        try:
            data = response.read(max_bytes + 1)
            is_whole = len(data) <= max_bytes
            promised = response.getheader("content-length", "")
            if is_whole and method != "HEAD" and promised.isdigit() and len(data) < int(promised):
                raise http.client.IncompleteRead(data, int(promised) - len(data))
        except BaseException:
            connection.close()
            raise
        if not is_whole:
            connection.close()
        found = tuple((name.lower(), value) for name, value in response.getheaders())
        return Reply(response.status, found, data[:max_bytes], time.perf_counter() - started, is_whole)

    def _send(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None,
    ) -> http.client.HTTPResponse:
        try:
            if connection.sock is None:
                connection.connect()
            self._socket = connection.sock
            connection.request(method, target, body=body, headers=dict(headers))
            return connection.getresponse()
        except BaseException:
            connection.close()
            raise

    def _problem(self, error: OSError | ValueError | http.client.HTTPException) -> str:
        # What an error says may hold the URL or a header, so only what is known to be harmless is told.
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted ({error.verify_message})"
        if isinstance(error, TimeoutError):
            return f"no whole answer within {self._timeout:g} s"
        if isinstance(error, ConnectionRefusedError):
            return "connection refused"
        if isinstance(error, socket.gaierror | UnicodeError):
            return "this host name cannot be resolved"
        if isinstance(error, http.client.RemoteDisconnected | ConnectionResetError):
            return "the connection was closed without an answer"
        if isinstance(error, http.client.IncompleteRead):
            return f"the answer ended {error.expected} bytes too early"
        if isinstance(error, http.client.HTTPException):
            return f"what came is not HTTP ({type(error).__name__})"
        if isinstance(error, ValueError):
            return "a request field has characters that HTTP does not allow"
        return error.strerror or type(error).__name__


def post(url: str, body: bytes, headers: Mapping[str, str], *, timeout_seconds: float, shown: str) -> Reply:
    """One POST on a connection of its own. Raises ``Unreachable``."""
    parts = parse_url(url, shown, secret=True)
    client = Client(url, timeout_seconds=timeout_seconds, shown=shown)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return client.ask("POST", target, {"Connection": "close", **headers}, body)
    finally:
        client.close()
