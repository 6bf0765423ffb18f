"""An alert as a mail: SMTP with STARTTLS, within a time limit. For anything else there is apprise."""

from __future__ import annotations

import smtplib
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid
from typing import Any

from hotpath.errors import DeclarationError, Unreachable
from hotpath.ops.alerts.message import Message
from hotpath.ops.http import network_problem, within
from hotpath.ops.secret import Secret, scrubbed

PORT, PORT_WITHOUT_TLS = 587, 25
TIMEOUT_SECONDS = 10.0

# Servers without 8BITMIME (RFC 6152) refuse 8-bit text.
_POLICY = SMTP.clone(cte_type="7bit")


@dataclass(frozen=True, slots=True)
class Mail:
    """Send mail through ``host``, with STARTTLS and a verified certificate (RFC 3207).

    Without ``tls`` nothing is encrypted, and no password is sent: for a mail server on this machine. A mail takes at
    most ``timeout_seconds`` altogether. A certificate authority of your own is named with ``SSL_CERT_FILE``. Raises
    ``DeclarationError``.
    """

    host: str
    to: tuple[str, ...]
    sender: str
    port: int = PORT
    user: str | None = None
    password: Secret | None = None
    tls: bool = True
    timeout_seconds: float = TIMEOUT_SECONDS

    def __post_init__(self) -> None:
        if not self.host or any(character in self.host for character in "@/ \r\n"):
            # Not shown: of a URL it may be the part with the password.
            raise DeclarationError("host is no host name; write mail.example.org, and user and password by themselves")
        if not self.to:
            raise DeclarationError("to=(): write who gets the mail")
        for address in (*self.to, self.sender):
            if address.count("@") != 1 or not address.isascii() or any(c in address for c in " \r\n,<>"):
                raise DeclarationError(f"{address!r} is no mail address; write name@example.org")
        if (self.user is None) != (self.password is None):
            raise DeclarationError("user and password go together; write both or none of them")
        if self.password is not None and not self.password.reveal().isascii():
            raise DeclarationError("the password has characters beyond ASCII, which smtplib cannot send")
        if self.password is not None and not self.tls:
            raise DeclarationError("without TLS the password would be sent in the open; leave it out, or use TLS")

    @property
    def name(self) -> str:
        return f"mail to {', '.join(self.to)}"

    def send(self, message: Message) -> str | None:
        """Deliver; returns a warning where only some recipients were refused. Raises ``Unreachable``."""
        clients: list[smtplib.SMTP] = []

        def cut_off() -> None:
            for client in clients:
                if client.sock is not None:
                    with suppress(OSError):  # it has ended by itself
                        client.sock.shutdown(socket.SHUT_RDWR)

        try:
            refused = within(self.timeout_seconds, lambda: self._deliver(message, clients), cut_off)
        except (OSError, ValueError) as error:  # an SMTPException is an OSError
            problem = self._problem(error)
        else:
            return f"not taken for {self._replies(refused)}; the others have it" if refused else None
        # Not inside the except: the frames of smtplib have the password, and must not hang on what is raised.
        raise Unreachable(f"{self.host}:{self.port}", problem)

    def _deliver(self, message: Message, clients: list[smtplib.SMTP]) -> Mapping[str, tuple[int, bytes]]:
        # The host name is given since smtplib would look it up, which a silent resolver makes slow. The time limit is
        # that of ``send``; the one here only ends the thread that was left behind, a little later.
        name = "".join(character if character.isascii() else "-" for character in socket.gethostname())
        timeout = self.timeout_seconds + 1
        with smtplib.SMTP(self.host, self.port, local_hostname=name, timeout=timeout) as client:
            clients.append(client)
            if self.tls:
                client.starttls(context=ssl.create_default_context())
            if self.user is not None and self.password is not None:
                client.login(self.user, self.password.reveal())
            return client.send_message(self._mail(message), self.sender, self.to)

    def _mail(self, message: Message) -> EmailMessage:
        mail = EmailMessage(policy=_POLICY)
        mail["From"] = self.sender
        mail["To"] = ", ".join(self.to)
        mail["Subject"] = message.subject
        mail["Date"] = formatdate(message.time)
        mail["Message-ID"] = make_msgid(domain=self.sender.partition("@")[2])
        # No answer from a holiday robot (RFC 3834 §5).
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(message.text)
        return mail

    def _problem(self, error: Exception) -> str:
        if isinstance(error, smtplib.SMTPRecipientsRefused):
            return f"not taken for {self._replies(error.recipients)}"
        if isinstance(error, smtplib.SMTPResponseException):
            login = "user or password refused: " if isinstance(error, smtplib.SMTPAuthenticationError) else ""
            return f"{login}{self._reply(error.smtp_code, error.smtp_error)}"
        if isinstance(error, smtplib.SMTPNotSupportedError):
            return "it offers no STARTTLS or no login; for other servers use HOTPATH_ALERT_APPRISE"
        if isinstance(error, smtplib.SMTPServerDisconnected):
            return "the connection was dropped; whether the mail was taken is not known"
        return network_problem(error, self.timeout_seconds)

    def _replies(self, refused: Mapping[str, tuple[int, bytes]]) -> str:
        return "; ".join(f"{address}: {self._reply(code, text)}" for address, (code, text) in refused.items())

    def _reply(self, code: int, text: Any) -> str:
        """What the server said, without the password, in case it repeats the line (RFC 4616)."""
        decoded = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
        secrets = [] if self.password is None else [Secret(f"\0{self.user}\0{self.password.reveal()}"), self.password]
        return f"{code} {scrubbed(' '.join(decoded.split()), secrets)}"[:300]
