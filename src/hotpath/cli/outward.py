"""The commands that look outward: what the public gets, who is told, and how a site comes back."""

from __future__ import annotations

from contextlib import suppress

import click

from hotpath.batch.run import build as run_batch
from hotpath.cli.output import JSON, STORE, TARGET, alerts_if, batch_options, limits_of, print_json, say, warn
from hotpath.cli.progress import progress_for
from hotpath.cli.targets import load, load_site_or_store
from hotpath.errors import HotpathError
from hotpath.ops import check as check_operation
from hotpath.ops.alerts.environment import NAMES as ALERT_NAMES
from hotpath.ops.alerts.environment import PREFIX as ALERT_PREFIX
from hotpath.ops.alerts.environment import alerts_from_environment
from hotpath.ops.purge.environment import purgers_from_environment
from hotpath.ops.recovery import recover as recover_operation
from hotpath.ops.recovery.incident import RecoveryOptions
from hotpath.ops.recovery.journal import BEGIN, DOING, END, Entry
from hotpath.options import parse_seconds
from hotpath.site import Hotpath
from hotpath.store.store import Store

_BASE_URL = "What stands before the path of every page: https://example.org"
_EDGE = "A cache stands in front: its copies may be older."


@click.command()
@STORE
@click.option("--base-url", required=True, help=_BASE_URL)
@click.option(
    "--sample",
    default=check_operation.DEFAULT_SAMPLE,
    show_default=True,
    help="How many pages to ask for beside the critical ones; at least one of each route.",
)
@click.option("--all", "everything", is_flag=True, help="Ask for every page.")
@click.option("--edge", is_flag=True, help=_EDGE)
@click.option("--wait", default="10s", show_default=True, help="How long a wrong answer is asked for again; 0: never.")
@click.option("--timeout", default="5s", show_default=True, help="What each answer may take altogether.")
@click.option("--max-latency", type=click.FloatRange(min=0.001), help="Seconds; a slower answer is wrong.")
@click.option(
    "--concurrency", default=check_operation.DEFAULT_CONCURRENCY, show_default=True, help="How many to ask at once."
)
@click.option("--alert", is_flag=True, help="Tell by the ways that HOTPATH_ALERT_… sets: wrong, still wrong, resolved.")
@JSON
def check(
    target: str,
    base_url: str,
    sample: int,
    everything: bool,
    edge: bool,
    wait: str,
    timeout: str,
    max_latency: float | None,
    concurrency: int,
    alert: bool,
    as_json: bool,
) -> None:
    """Ask the public endpoints as a crawler would, and compare with what is published."""
    site = load_site_or_store(target)
    options = check_operation.CheckOptions(
        sample=sample,
        everything=everything,
        edge=edge,
        timeout_seconds=parse_seconds(timeout, "--timeout"),
        wait_seconds=parse_seconds(wait, "--wait", least=0),
        concurrency=concurrency,
        max_seconds=max_latency,
    )
    alerts, store = alerts_if(alert), _store_of(site)
    try:
        found = check_operation.check(site, base_url, options)
    except HotpathError as error:
        warn(alerts.failed(store, error, "check"))
        raise
    told = check_operation.lines(found)
    if found.is_right:
        warn(alerts.resolved(store, "check", told[-1]))
    else:
        warn(alerts.wrong(store, "check.wrong", f"{base_url}: {told[-1]}", told))
    if as_json:
        print_json(found)
    else:
        say(*told)
    if not found.is_right:
        raise SystemExit(1)


@click.command()
@click.argument("action", type=click.Choice(["test"]))
@JSON
def alert(action: str, as_json: bool) -> None:
    """Send a message by every way that HOTPATH_ALERT_… sets, and say what became of it."""
    alerts = alerts_from_environment()
    deliveries = alerts.test()
    if as_json:
        print_json(deliveries)
    for one in deliveries if not as_json else ():
        say(f"{one.way}: {'sent' if one.problem is None else f'NOT SENT: {one.problem}'}")
        warn([one.warning] if one.warning else [])
    if not deliveries:
        names = ", ".join(ALERT_PREFIX + name for name in ALERT_NAMES)
        click.echo(f"hotpath: no way to send an alert is set; there are {names}", err=True)
    if not deliveries or any(one.problem for one in deliveries):
        raise SystemExit(1)


@click.command()
@TARGET
@click.option("--rollback", is_flag=True, help="What is served now is wrong: go back, also when nothing is damaged.")
@click.option("--build", is_flag=True, help="Run the batch, and serve its result.")
@click.option("--base-url", help=f"{_BASE_URL}. With it the edge is purged, the pages are warmed and checked.")
@click.option("--edge", is_flag=True, help=_EDGE)
@click.option("--dry-run", is_flag=True, help="Show what would be done; change nothing.")
@click.option("--purge-all", is_flag=True, help="Purge every URL, not only those whose bytes changed in this recovery.")
@batch_options
@click.option("--new", is_flag=True, help="Begin another recovery, where this would go on with the last one.")
@JSON
def recover(
    target: str,
    rollback: bool,
    build: bool,
    base_url: str | None,
    edge: bool,
    dry_run: bool,
    purge_all: bool,
    memory: str,
    timeout: str,
    workers: int,
    max_failures: float,
    new: bool,
    as_json: bool,
) -> None:
    """Bring a site back: verify, roll back, build, publish, purge, warm, check. Run it again as often as you like."""
    hot = load(target)
    limits = limits_of(memory, timeout, workers)
    options = RecoveryOptions(
        rollback=rollback,
        build=build,
        base_url=base_url,
        purgers=purgers_from_environment() if base_url else (),
        purge_all=purge_all,
        check=check_operation.CheckOptions(edge=edge),
    )
    if dry_run:
        plan = recover_operation.plan(hot, options, target=target, new=new)
        if as_json:
            print_json(plan)
        else:
            say(*recover_operation.plan_lines(plan))
        if plan.stops:
            raise SystemExit(1)
        return

    def report(entry: Entry) -> None:
        with suppress(OSError):  # it goes on, also where nobody reads along any more
            if entry.state == BEGIN:
                say(recover_operation.heading(entry.recovery, entry.time, str(hot.store.root)))
            elif entry.state == DOING:
                click.echo(f"  … {entry.step}: {entry.text}", err=True)
            elif entry.state != END:
                say(recover_operation.line(entry))

    found = recover_operation.recover(
        hot,
        options,
        target=target,
        new=new,
        run_batch=lambda site: run_batch(site, progress_for(), limits=limits, max_failures=max_failures),
        report=(lambda entry: None) if as_json else report,
    )
    if as_json:
        print_json(found)
    else:
        say(*(recover_operation.ending(found) if found.changed else recover_operation.lines(found)))
    if not found.finished:
        raise SystemExit(1)


def _store_of(site: Hotpath | Store) -> Store:
    return site.store if isinstance(site, Hotpath) else site
