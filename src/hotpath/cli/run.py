"""The commands around a running site: ``demo``, ``warm`` and ``alert``."""

from __future__ import annotations

from pathlib import Path

import click

from hotpath.cli import demo as demo_site
from hotpath.cli.output import JSON, USER_AGENT, print_json, say, show, warn
from hotpath.errors import DeclarationError
from hotpath.ops.alerts.environment import PREFIX, alerts_from_environment
from hotpath.ops.alerts.unit import last_lines
from hotpath.ops.http import USER_AGENT as DEFAULT_USER_AGENT
from hotpath.ops.warm import CONCURRENCY, lines
from hotpath.ops.warm import warm as warm_urls
from hotpath.options import parse_seconds


@click.command(epilog="Example: hotpath demo --serve --keep trial/")
@click.option("--csv", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Use real valuations.")
@click.option("--market", default="CSV", show_default=True, help="Name of the market in the CSV file.")
@click.option("--serve", is_flag=True, help="Keep it running, with its backend broken, until Ctrl-C.")
@click.option("--keep", type=click.Path(path_type=Path), help="Keep the files, in this new directory.")
@click.option(
    "--tickers", type=click.IntRange(4, 100_000), default=8_000, show_default=True, help="How many stocks to make."
)
def demo(csv: Path | None, market: str, serve: bool, keep: Path | None, tickers: int) -> None:
    """Serve a small site, kill its app, and take its database away.

    Its pages are precomputed; it shows which of them still answer.
    """
    raise SystemExit(demo_site.run(csv, serve=serve, keep=keep, market=market, tickers=tickers))


@click.command(epilog="Example: hotpath warm https://example.org/ https://example.org/rankings/kospi")
@click.argument("urls", metavar="URL…", nargs=-1, required=True)
@click.option("--deadline", default="60s", show_default=True, help="Time limit for all pages together.")
@click.option("--concurrency", default=CONCURRENCY, show_default=True, help="Requests at a time.")
@click.option("--user-agent", default=DEFAULT_USER_AGENT, show_default=True, help=USER_AGENT)
@JSON
def warm(urls: tuple[str, ...], deadline: str, concurrency: int, user_agent: str, as_json: bool) -> None:
    """Fetch each URL of a fresh deploy until all are 200."""
    seconds = parse_seconds(deadline, "--deadline")
    pages = warm_urls(urls, concurrency=concurrency, deadline_seconds=seconds, user_agent=user_agent)
    show(pages, lines(pages), as_json)
    if not all(page.is_warm for page in pages):
        raise SystemExit(1)


@click.command(epilog="Example: hotpath alert test")
@click.argument("action", type=click.Choice(["test", "failed"]))
@click.argument("unit", required=False)
@JSON
def alert(action: str, unit: str | None, as_json: bool) -> None:
    """Send a test message by every way that HOTPATH_ALERT_… sets.

    'hotpath alert failed UNIT' sends that a systemd unit failed, and what it printed last: for OnFailure=.
    """
    if (unit is None) == (action == "failed"):
        raise DeclarationError("write 'hotpath alert test', or 'hotpath alert failed UNIT' for a systemd unit")
    alerts = alerts_from_environment()
    deliveries = alerts.test() if unit is None else alerts.unit_failed(unit, last_lines(unit))
    if as_json:
        print_json(deliveries)
    for delivery in deliveries if not as_json else ():
        say(f"{delivery.way}: {'sent' if delivery.problem is None else f'NOT SENT: {delivery.problem}'}")
        warn([delivery.warning] if delivery.warning else [])
    if not deliveries:
        click.echo(
            f"hotpath: no way to send an alert is set; set {PREFIX}WEBHOOK, {PREFIX}APPRISE or {PREFIX}PING, a URL, or"
            f" {PREFIX}SMTP_HOST, {PREFIX}MAIL_TO and {PREFIX}MAIL_FROM for mail",
            err=True,
        )
    if not deliveries or any(delivery.problem for delivery in deliveries):
        raise SystemExit(1)
