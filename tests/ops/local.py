"""Real servers on this machine: one whose answers a test gives, a site with hotpath in front, a mail server."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import anyio
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword, Session

from hotpath.asgi.middleware import HotpathMiddleware
from hotpath.serving import reader_of
from hotpath.site import Hotpath
from hotpath.testing import asgi_get

SECONDS = 10.0


@dataclass(frozen=True)
class Asked:
    """One request as it came; header names are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Answered:
    """What to answer; ``length`` is sent instead of the real one where it is given."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    length: int | None = None


Answer = Callable[[Asked], Answered]


class Server:
    """Answers each request with what ``answer`` makes of it, and keeps what was asked."""

    def __init__(self, answer: Answer, tls: ssl.SSLContext | None = None) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one packet: apart, each answer waits 40 ms for an acknowledgement

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                asked = Asked(self.command, self.path, headers, body)
                outer.asked.append(asked)
                answered = outer.answer(asked)
                self.send_response_only(answered.status)
                for name, value in answered.headers.items():
                    self.send_header(name, value)
                length = len(answered.body) if answered.length is None else answered.length
                if "content-length" not in {name.lower() for name in answered.headers}:
                    self.send_header("content-length", str(length))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answered.body)
                if answered.length is not None:
                    self.close_connection = True

            do_GET = do_HEAD = do_POST = handle_any  # noqa: N815  as http.server has them

            def handle(self) -> None:
                with contextlib.suppress(OSError, ssl.SSLError):  # the client hung up
                    super().handle()

            def log_message(self, format: str, *args: object) -> None:
                return None

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                return None

        self._server = Quiet(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.port: int = self._server.server_address[1]
        self.url = f"{'https' if tls else 'http'}://{'localhost' if tls else '127.0.0.1'}:{self.port}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join(SECONDS)
        self._server.server_close()


@contextmanager
def raw_server(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port on which ``talk`` says whatever it wants; its connections end with the block."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()
    held: list[socket.socket] = []

    def serve() -> None:
        while not over.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.settimeout(2 * SECONDS)  # also where the client never goes
            held.append(connection)
            threading.Thread(target=one, args=(connection,), daemon=True).start()

    def one(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            talk(connection)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        over.set()
        with contextlib.suppress(OSError):
            socket.create_connection(listener.getsockname(), timeout=1).close()
        listener.close()
        thread.join(SECONDS)
        for connection in held:
            connection.close()


def hang(connection: socket.socket) -> None:
    """Take the connection and say nothing, until the client goes away."""
    while connection.recv(65536):
        pass


def closed_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


async def _cold(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"the app"})


@contextmanager
def public_site(hot: Hotpath, tamper: Callable[[Asked, Answered], Answered] | None = None) -> Iterator[Server]:
    """The site as the public has it; ``tamper`` is what a proxy, an edge or a mistake makes of each answer."""
    app = HotpathMiddleware(_cold, hot=hot)
    lock = threading.Lock()

    def answer(asked: Asked) -> Answered:
        with lock:
            reader_of(hot).refresh()
            headers = [(name.encode(), value.encode()) for name, value in asked.headers.items()]
            method = asked.method
            response = anyio.run(lambda: asgi_get(app, asked.target, method=method, headers=headers))
        fields = {name.decode("latin-1"): value.decode("latin-1") for name, value in response.headers}
        found = Answered(response.status, response.body, fields)
        if tamper is None:
            return found
        changed = tamper(asked, found)
        if changed.body != found.body:
            kept = {name: value for name, value in changed.headers.items() if name.lower() != "content-length"}
            changed = replace(changed, headers=kept)
        return changed

    with Server(answer) as server:
        yield server


@dataclass
class Mailbox:
    """What a mail server took, and how it behaves."""

    mails: list[Envelope] = field(default_factory=list)
    logins: list[tuple[str, str]] = field(default_factory=list)
    refused: frozenset[str] = frozenset()
    data_answer: str | None = None
    was_encrypted: list[bool] = field(default_factory=list)

    async def handle_RCPT(  # noqa: N802  aiosmtpd's name
        self, server: Any, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.refused:
            return "550 no such user here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.data_answer == "drop":
            server.transport.abort()
            return "250 never sent"
        self.was_encrypted.append(session.ssl is not None)
        if self.data_answer is not None:
            return self.data_answer
        self.mails.append(envelope)
        return "250 taken"


@contextmanager
def mail_server(box: Mailbox, tls: ssl.SSLContext | None = None, *, password: str | None = None) -> Iterator[int]:
    """An SMTP server: STARTTLS with ``tls``, log-in with ``password``."""

    def authenticate(server: Any, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        given = data.password.decode()
        box.logins.append((data.login.decode(), given))
        if given == password:
            return AuthResult(success=True)
        # A server that repeats what it was sent.
        return AuthResult(success=False, handled=False, message=f"535 5.7.8 wrong: {given}")

    controller = Controller(
        box,
        hostname="127.0.0.1",
        port=closed_port(),
        server_hostname="localhost",
        tls_context=tls,
        require_starttls=tls is not None,
        authenticator=authenticate if password is not None else None,
        auth_required=password is not None,
        auth_require_tls=tls is not None,
        ready_timeout=SECONDS,
    )
    controller.start()
    try:
        yield controller.port
    finally:
        controller.stop()
