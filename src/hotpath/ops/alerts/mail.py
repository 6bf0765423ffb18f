"""An alert as a mail: SMTP with STARTTLS and a certificate that is verified, within a time that is kept."""

from __future__ import annotations

import smtplib
import socket
import ssl
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid
from ipaddress import ip_address
from pathlib import Path

from hotpath.errors import DeclarationError, Unreachable
from hotpath.ops.alerts.message import Message
from hotpath.ops.http import within
from hotpath.ops.secret import Secret, scrubbed

STARTTLS, TLS, NONE = "starttls", "tls", "none"
PORTS = {STARTTLS: 587, TLS: 465, NONE: 25}

# Beyond this a mail server is as good as dead, and the batch has to end.
TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Mail:
    """Send mail by way of ``host``.

    ``tls`` is ``starttls`` (RFC 3207, port 587), ``tls`` (RFC 8314, port 465) or ``none`` (port 25), which sends no
    password to another machine. ``ca_file`` has the certificates to trust in place of the system's. A mail takes at
    most ``timeout_seconds`` altogether. Raises ``DeclarationError``.
    """

    host: str
    to: tuple[str, ...]
    sender: str
    port: int | None = None
    user: str | None = None
    password: Secret | None = None
    tls: str = STARTTLS
    ca_file: Path | None = None
    timeout_seconds: float = TIMEOUT_SECONDS

    def __post_init__(self) -> None:
        if self.tls not in PORTS:
            raise DeclarationError(f"tls={self.tls!r}: write 'starttls', 'tls' or 'none'")
        if not self.to:
            raise DeclarationError("to=(): write who gets the mail")
        if not self.host or any(character in self.host for character in "@/ \r\n"):
            # Not shown: of a URL it may be the part with the password.
            raise DeclarationError("host is no host name; write mail.example.org, and user and password by themselves")
        for address in (*self.to, self.sender):
            if (
                address.count("@") != 1
                or not address.isascii()
                or any(character in address for character in " \r\n,<>")
            ):
                raise DeclarationError(f"{address!r} is no mail address; write name@example.org")
        if (self.user is None) != (self.password is None):
            raise DeclarationError("user and password go together; write both or none of them")
        if self.password is not None and not self.password.reveal().isascii():
            raise DeclarationError("the password has characters beyond ASCII, which smtplib cannot send")
        if self.password is not None and self.tls == NONE and not _is_this_machine(self.host):
            raise DeclarationError("tls='none' would send the password in the open; write 'starttls' or 'tls'")
        if self.ca_file is not None and not self.ca_file.is_file():
            raise DeclarationError(f"ca_file={str(self.ca_file)!r}: there is no such file")

    @property
    def name(self) -> str:
        return f"mail to {', '.join(self.to)}"

    def send(self, message: Message) -> str | None:
        """Deliver; what is worth a warning all the same. Raises ``Unreachable``."""
        stage = ["connecting"]
        open_now: list[smtplib.SMTP] = []

        def cut() -> None:
            for client in open_now:
                if client.sock is not None:
                    client.close()

        try:
            refused = within(self.timeout_seconds, lambda: self._deliver(message, stage, open_now), cut)
        except (OSError, smtplib.SMTPException, ValueError) as error:
            problem = f"{self._problem(error)} (while {stage[0]})"
        else:
            return f"not taken for {self._told(refused)}; the others have it" if refused else None
        # Not inside the except: the frames of smtplib have the password, and must not hang on what is raised.
        raise Unreachable(f"{self.host}:{self._port}", problem)

    @property
    def _port(self) -> int:
        return self.port or PORTS[self.tls]

    def _deliver(
        self, message: Message, stage: list[str], open_now: list[smtplib.SMTP]
    ) -> dict[str, tuple[int, bytes]]:
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.tls == TLS:
            client: smtplib.SMTP = smtplib.SMTP_SSL(
                self.host, self._port, timeout=self.timeout_seconds, context=context
            )
        else:
            client = smtplib.SMTP(self.host, self._port, timeout=self.timeout_seconds)
        open_now.append(client)
        try:
            if self.tls == STARTTLS:
                stage[0] = "starting TLS"
                client.starttls(context=context)
            if self.user is not None and self.password is not None:
                stage[0] = "logging in"
                client.login(self.user, self.password.reveal())
            stage[0] = "sending; whether the mail was taken is not known"
            refused = client.send_message(self._mail(message), self.sender, self.to)
            stage[0] = "saying goodbye"
            client.docmd("QUIT")
            return refused
        except smtplib.SMTPServerDisconnected:
            if stage[0] == "saying goodbye":
                return {}
            raise
        finally:
            client.close()

    def _mail(self, message: Message) -> EmailMessage:
        mail = EmailMessage(policy=SMTP)
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
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted ({error.verify_message}); name its authority with ca_file"
        if isinstance(error, smtplib.SMTPNotSupportedError):
            return "it offers no STARTTLS or no log-in; write tls='tls' for port 465, or 'none' for this machine's own"
        if isinstance(error, smtplib.SMTPRecipientsRefused):
            return f"not taken for {self._told(error.recipients)}"
        if isinstance(error, smtplib.SMTPAuthenticationError):
            return f"user or password refused: {self._said(error.smtp_code, error.smtp_error)}"
        if isinstance(error, smtplib.SMTPResponseException):
            return self._said(error.smtp_code, error.smtp_error)
        if isinstance(error, TimeoutError):
            return f"not done within {self.timeout_seconds:g} s"
        if isinstance(error, smtplib.SMTPServerDisconnected | ConnectionResetError):
            return "the connection was dropped"
        if isinstance(error, ConnectionRefusedError):
            return "connection refused"
        if isinstance(error, socket.gaierror | UnicodeError):
            return "this host name cannot be resolved"
        if isinstance(error, OSError):
            return error.strerror or type(error).__name__
        return type(error).__name__

    def _said(self, code: int, text: bytes | str) -> str:
        decoded = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
        hidden = []
        if self.password is not None:
            # As RFC 4616 puts them on the wire, in case the server repeats the line.
            hidden = [Secret(f"\0{self.user}\0{self.password.reveal()}"), self.password]
        return f"{code} {scrubbed(' '.join(decoded.split()), hidden)}"[:300]

    def _told(self, refused: dict[str, tuple[int, bytes]]) -> str:
        return "; ".join(f"{address}: {self._said(code, text)}" for address, (code, text) in refused.items())


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
