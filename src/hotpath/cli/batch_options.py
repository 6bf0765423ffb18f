"""The options of the commands that run the batch, and what they say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from hotpath.batch.limits import ItemLimits
from hotpath.batch.run import DEFAULT_MAX_FAILURES
from hotpath.errors import DeclarationError
from hotpath.ops.alerts.alerts import Alerts
from hotpath.ops.alerts.environment import alerts_from_environment
from hotpath.options import parse_bytes, parse_seconds

_BATCH = (
    click.option("--memory", default="512MiB", show_default=True, help="Memory that each item may allocate."),
    click.option("--timeout", default="60s", show_default=True, help="Time limit of each item, unless its route says."),
    click.option("--workers", default=1, show_default=True, help="Items that run at once."),
    click.option(
        "--max-failures",
        default=DEFAULT_MAX_FAILURES,
        show_default=True,
        help="Share of items that may fail and keep their last good bytes; one always may, unless this is 0.",
    ),
    click.option(
        "--partial",
        is_flag=True,
        help="Leave items that fail and have no last good bytes to the app, as on a first run; they do not count.",
    ),
)


def batch_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of whatever runs the batch: ``memory``, ``timeout``, ``workers``, ``max_failures``, ``partial``."""
    for option in reversed(_BATCH):
        command = option(command)
    return command


def limits_of(memory: str, timeout: str, workers: int) -> ItemLimits:
    """What these options say. Raises ``DeclarationError``."""
    return ItemLimits(
        memory_bytes=parse_bytes(memory, "--memory"),
        timeout_seconds=parse_seconds(timeout, "--timeout"),
        workers=workers,
    )


def alerts_if(wanted: bool) -> Alerts:
    """The alerts of the environment where ``--alert`` was given, else none. Raises ``DeclarationError``."""
    alerts = alerts_from_environment() if wanted else Alerts()
    if wanted and not alerts:
        raise DeclarationError("--alert: no way to send one is set; set HOTPATH_ALERT_WEBHOOK, HOTPATH_ALERT_MAIL_TO …")
    return alerts
