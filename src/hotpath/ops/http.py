"""Ask a server over HTTP, bounded in every way: in time, in bytes, and no redirect is followed.

The standard library's client, since the package needs no other one. It bounds each read but not all of them together,
so every exchange runs in a thread of its own that is waited for no longer than allowed. It blocks the caller for that
long: an event loop calls it in a thread.
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
from email.utils import parsedate_to_datetime
from typing import Self, TypeVar
from urllib.parse import SplitResult, urlsplit

from hotpath.errors import DeclarationError, Unreachable

USER_AGENT = "hotpath (asgi-hotpath)"

# Maximum body of an answer; a webhook or a purge answers with a line or two.
MAX_ANSWER_BYTES = 64 * 1024

T = TypeVar("T")


def check_user_agent(user_agent: str) -> None:
    """Raise ``DeclarationError`` for what no request field may hold."""
    if not user_agent.strip() or any(not " " <= character <= "~" for character in user_agent):
        raise DeclarationError("user_agent: write what a request field may hold, printable ASCII")


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. Header names are in lower case, repeated lines joined with a comma.

    ``seconds`` is up to the last byte. ``is_whole`` is false where the body has more than the allowed bytes; ``body``
    is its beginning then. ``status`` is 0 where no answer came, and ``problem`` says why.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float
    is_whole: bool = True
    problem: str | None = None

    @property
    def generation(self) -> str | None:
        """The generation that hotpath answered from; ``None`` where the app answered."""
        return self.headers.get("x-hotpath-generation")

    @property
    def age(self) -> int | None:
        """Seconds since a cache stored it (RFC 9111 §5.1); ``None`` where no cache says so."""
        value = self.headers.get("age", "").strip()
        return int(value) if value.isascii() and value.isdigit() else None

    @property
    def retry_after_seconds(self) -> float:
        """What a refusal asks for (RFC 9110 §10.2.3); 0 where it asks for nothing."""
        value = self.headers.get("retry-after", "").strip()
        if self.status not in (429, 503) or not value:
            return 0.0
        if value.isascii() and value.isdigit():
            return float(value[:9])
        try:
            return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
        except (ValueError, OverflowError):
            return 0.0


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
    text = "it" if secret else repr(url)
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  raises where it is no number
    except ValueError:
        raise DeclarationError(f"{name}: {text} is no URL; write https://example.org") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise DeclarationError(f"{name}: {text} is no URL of a web server; write https://example.org")
    if not url.isascii() or any(character <= " " for character in url):
        raise DeclarationError(f"{name}: {text} has characters that a URL has percent-encoded")
    return parts


def request_target(url: str) -> str:
    """What a request line has of a URL: path and query."""
    parts = urlsplit(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


class Client:
    """One kept-alive connection to the server of ``url``; use it from one thread at a time, and close it.

    ``shown`` stands for the server in errors; of a body at most ``max_bytes`` are read.
    ``reconnections`` counts the requests that were sent again since the server had closed the connection.
    """

    def __init__(self, url: str, *, timeout_seconds: float, shown: str, max_bytes: int = MAX_ANSWER_BYTES) -> None:
        parts = parse_url(url, shown, secret=True)
        self._timeout = timeout_seconds
        self._shown = shown
        self._max_bytes = max_bytes
        self._host = parts.hostname or ""
        self._port = parts.port
        # Certificates are always verified. An authority of your own is named with SSL_CERT_FILE, as OpenSSL has it.
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._connection = self._new()
        self._socket: socket.socket | None = None
        self.reconnections = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def get(
        self,
        target: str,
        headers: Mapping[str, str] | None = None,
        *,
        method: str = "GET",
        max_bytes: int | None = None,
    ) -> Reply:
        """``ask``, for those who count requests without an answer too: their ``status`` is 0. Does not raise."""
        started = time.perf_counter()
        try:
            return self.ask(method, target, headers, max_bytes=max_bytes)
        except Unreachable as error:
            return Reply(0, {}, b"", time.perf_counter() - started, problem=error.problem)

    def ask(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        *,
        max_bytes: int | None = None,
    ) -> Reply:
        """One answer. Raises ``Unreachable`` where there is none within the time."""
        fields = {"User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "identity", **(headers or {})}
        most = self._max_bytes if max_bytes is None else max_bytes
        try:
            return within(self._timeout, lambda: self._exchange(method, target, fields, body, most), self._cut_off)
        except (OSError, ValueError, http.client.HTTPException) as error:
            # A timed-out thread may still hold the old one.
            self._connection = self._new()
            problem = network_problem(error, self._timeout)
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
            self.reconnections += 1
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
        fields: dict[str, str] = {}
        for name, value in response.getheaders():
            fields[name.lower()] = f"{fields[name.lower()]}, {value}" if name.lower() in fields else value
        return Reply(response.status, fields, data[:max_bytes], time.perf_counter() - started, is_whole)

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


def network_problem(error: Exception, timeout_seconds: float) -> str:
    """What went wrong, for people. An error's own text may hold a URL or a header, so only harmless parts are shown."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    if isinstance(error, TimeoutError):
        return f"no whole answer within {timeout_seconds:g} s"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, socket.gaierror | UnicodeError):
        return "this host name cannot be resolved"
    if isinstance(error, http.client.RemoteDisconnected | ConnectionResetError):
        return "the connection was closed without an answer"
    if isinstance(error, http.client.IncompleteRead):
        return f"the answer ended {error.expected} bytes too early"
    if isinstance(error, http.client.HTTPException):
        return f"the answer is not HTTP ({type(error).__name__})"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if isinstance(error, ValueError):
        return "a request field has characters that HTTP does not allow"
    return type(error).__name__


def post(url: str, body: bytes, headers: Mapping[str, str], *, timeout_seconds: float, shown: str) -> None:
    """One POST on a connection of its own, to be answered with 2xx. Raises ``Unreachable``."""
    with Client(url, timeout_seconds=timeout_seconds, shown=shown) as client:
        reply = client.ask("POST", request_target(url), {"Connection": "close", **headers}, body)
    if not 200 <= reply.status < 300:
        raise Unreachable(shown, f"it answered {reply.status}")
