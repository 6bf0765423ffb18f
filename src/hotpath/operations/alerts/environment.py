"""``Alerts`` from ``HOTPATH_ALERT_…`` variables, so that no password stands in code or on a command line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from hotpath.errors import DeclarationError
from hotpath.operations.alerts.alerts import REMIND_SECONDS, Alerts, Way
from hotpath.operations.alerts.apprise import Apprise
from hotpath.operations.alerts.mail import Mail
from hotpath.operations.alerts.ping import Ping
from hotpath.operations.alerts.webhook import Webhook
from hotpath.operations.secret import Secret
from hotpath.quantities import parse_seconds

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
        raise DeclarationError(f"{PREFIX}{name} is no setting; there are {', '.join(PREFIX + known for known in NAMES)}")
    ways: list[Way] = []
    if mail := _mail(given):
        ways.append(mail)
    if "WEBHOOK" in given:
        ways.append(_named("WEBHOOK", lambda: Webhook(Secret(given["WEBHOOK"]))))
    for number, url in enumerate(given.get("APPRISE", "").split(), 1):
        ways.append(_apprise(url, number))
    ping = _ping(given["PING"]) if "PING" in given else None
    remind = parse_seconds(given.get("REMIND", REMIND_SECONDS), f"{PREFIX}REMIND")
    return Alerts(ways, ping=ping, site=given.get("SITE"), remind_seconds=remind)
