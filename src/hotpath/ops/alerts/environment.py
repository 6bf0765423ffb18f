"""``Alerts`` from ``HOTPATH_ALERT_…`` variables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from hotpath.errors import DeclarationError
from hotpath.ops.alerts.alerts import REMIND_SECONDS, Alerts, Way
from hotpath.ops.alerts.apprise import Apprise
from hotpath.ops.alerts.mail import PORT, PORT_WITHOUT_TLS, Mail
from hotpath.ops.alerts.ping import Ping
from hotpath.ops.alerts.webhook import Webhook
from hotpath.ops.environment import read_settings
from hotpath.ops.secret import Secret
from hotpath.options import parse_whole_seconds

PREFIX = "HOTPATH_ALERT_"
NAMES = (
    *("MAIL_TO", "MAIL_FROM", "SMTP_HOST", "SMTP_PORT", "SMTP_USER", "SMTP_PASSWORD", "SMTP_TLS"),
    *("WEBHOOK", "APPRISE", "PING", "REMIND", "SITE"),
)


def alerts_from_environment(environ: Mapping[str, str] | None = None) -> Alerts:
    """The alerts that the environment configures; empty (and false) where it says nothing.

    Raises ``DeclarationError`` that names the variable and never shows a value that may be secret.
    """
    given = read_settings(PREFIX, NAMES, environ)
    ways: list[Way] = []
    with _naming("MAIL_…, SMTP_…"):
        if any(name.startswith(("MAIL_", "SMTP_")) for name in given):
            ways.append(_mail(given))
    with _naming("WEBHOOK"):
        if "WEBHOOK" in given:
            ways.append(Webhook(Secret(given["WEBHOOK"])))
    with _naming("APPRISE"):
        ways += [Apprise(Secret(url), number) for number, url in enumerate(given.get("APPRISE", "").split(), 1)]
    with _naming("PING"):
        ping = Ping(Secret(given["PING"])) if "PING" in given else None
    remind = parse_whole_seconds(given.get("REMIND", f"{REMIND_SECONDS}s"), f"{PREFIX}REMIND")
    return Alerts(ways, ping=ping, site=given.get("SITE"), remind_seconds=remind)


def _mail(given: Mapping[str, str]) -> Mail:
    for name in ("SMTP_HOST", "MAIL_TO", "MAIL_FROM"):
        if name not in given:
            raise DeclarationError(f"{PREFIX}{name} is missing; mail needs SMTP_HOST, MAIL_TO and MAIL_FROM")
    tls = given.get("SMTP_TLS", "starttls").lower()
    if tls not in ("starttls", "none"):
        raise DeclarationError(
            f"{PREFIX}SMTP_TLS={tls!r}: write 'starttls' or 'none'; for 'tls' use APPRISE=mailtos://…"
        )
    port = given.get("SMTP_PORT", str(PORT if tls == "starttls" else PORT_WITHOUT_TLS))
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise DeclarationError(f"{PREFIX}SMTP_PORT={port!r} is no port; write a number like {PORT}")
    return Mail(
        host=given["SMTP_HOST"],
        port=int(port),
        to=tuple(address.strip() for address in given["MAIL_TO"].split(",") if address.strip()),
        sender=given["MAIL_FROM"],
        user=given.get("SMTP_USER"),
        password=Secret(given["SMTP_PASSWORD"]) if "SMTP_PASSWORD" in given else None,
        tls=tls == "starttls",
    )


@contextmanager
def _naming(names: str) -> Iterator[None]:
    """Say in which variables the mistake is."""
    try:
        yield
    except DeclarationError as error:
        if error.problem.startswith(PREFIX):
            raise
        raise DeclarationError(f"{PREFIX}{names}: {error.problem}") from None
