"""``Alerts`` from ``HOTPATH_ALERT_…`` variables, so that no password stands in code or on a command line."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from hotpath.errors import DeclarationError
from hotpath.ops.alerts.alerts import REMIND_SECONDS, Alerts, Way
from hotpath.ops.alerts.apprise import Apprise
from hotpath.ops.alerts.mail import STARTTLS, Mail
from hotpath.ops.alerts.ping import Ping
from hotpath.ops.alerts.webhook import Webhook
from hotpath.ops.secret import Secret
from hotpath.options import parse_whole_seconds

PREFIX = "HOTPATH_ALERT_"
NAMES = (
    "MAIL_TO",
    "MAIL_FROM",
    "SMTP_HOST",
    "SMTP_PORT",
    "SMTP_USER",
    "SMTP_PASSWORD",
    "SMTP_TLS",
    "SMTP_CA",
    "WEBHOOK",
    "APPRISE",
    "PING",
    "REMIND",
    "SITE",
)


def alerts_from_environment(environ: Mapping[str, str] | None = None) -> Alerts:
    """The alerts that the environment configures; empty (and false) where it says nothing.

    Raises ``DeclarationError`` that names the variable and never shows a value that may be secret.
    """
    given = {
        name.removeprefix(PREFIX): value.strip()
        for name, value in (os.environ if environ is None else environ).items()
        if name.startswith(PREFIX) and value.strip()
    }
    for name in given.keys() - set(NAMES):
        raise DeclarationError(
            f"{PREFIX}{name} is no setting; there are {', '.join(PREFIX + known for known in NAMES)}"
        )
    ways: list[Way] = []
    with _naming("MAIL_…, SMTP_…"):
        if mail := _mail(given):
            ways.append(mail)
    with _naming("WEBHOOK"):
        if "WEBHOOK" in given:
            ways.append(Webhook(Secret(given["WEBHOOK"])))
    with _naming("APPRISE"):
        ways += [Apprise(Secret(url), number) for number, url in enumerate(given.get("APPRISE", "").split(), 1)]
    with _naming("PING"):
        ping = Ping(Secret(given["PING"])) if "PING" in given else None
    remind = parse_whole_seconds(given.get("REMIND", f"{REMIND_SECONDS}s"), f"{PREFIX}REMIND")
    return Alerts(ways, ping=ping, site=given.get("SITE"), remind_seconds=remind)


def _mail(given: Mapping[str, str]) -> Mail | None:
    if not any(name.startswith(("MAIL_", "SMTP_")) for name in given):
        return None
    for name in ("SMTP_HOST", "MAIL_TO", "MAIL_FROM"):
        if name not in given:
            raise DeclarationError(f"{PREFIX}{name} is missing; mail needs SMTP_HOST, MAIL_TO and MAIL_FROM")
    port = given.get("SMTP_PORT")
    if port is not None and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise DeclarationError(f"{PREFIX}SMTP_PORT={port!r} is no port; write a number like 587")
    return Mail(
        host=given["SMTP_HOST"],
        port=int(port) if port else None,
        to=tuple(address.strip() for address in given["MAIL_TO"].split(",") if address.strip()),
        sender=given["MAIL_FROM"],
        user=given.get("SMTP_USER"),
        password=Secret(given["SMTP_PASSWORD"]) if "SMTP_PASSWORD" in given else None,
        tls=given.get("SMTP_TLS", STARTTLS).lower(),
        ca_file=Path(given["SMTP_CA"]) if "SMTP_CA" in given else None,
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
