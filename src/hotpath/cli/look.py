"""The commands that look and change nothing: ``status``, ``explain``, ``check`` and ``audit``."""

from __future__ import annotations

from pathlib import Path

import click

from hotpath.audit import report as audit_report
from hotpath.cli.batch_options import alerts_if
from hotpath.cli.origin import HINTS, origin_flag, origin_of, origin_option, sharing_of, store_of
from hotpath.cli.output import (
    BASE_URL,
    EDGE,
    JSON,
    STORE,
    USER_AGENT,
    complain,
    print_json,
    say,
    show,
    warn,
)
from hotpath.cli.targets import load_site_or_store
from hotpath.errors import HotpathError
from hotpath.ops import check as public_check
from hotpath.ops import invariants
from hotpath.ops import status as store_status
from hotpath.ops.alerts.alerts import Alerts
from hotpath.ops.http import USER_AGENT as DEFAULT_USER_AGENT
from hotpath.options import parse_seconds
from hotpath.site import Hotpath
from hotpath.store.sharing import Sharing
from hotpath.store.store import Store


@click.command(epilog="Example: hotpath status myapp:hot")
@STORE
@origin_flag("Show the origin and the machines that follow it instead.")
@JSON
def status(target: str, origin: str | None, as_json: bool) -> None:
    """Show the generation served, the others, and their age."""
    site = load_site_or_store(target)
    if origin is not None:
        from hotpath.ops.machines import origin_lines, origin_status  # object storage is an extra

        there = origin_status(origin_of(sharing_of(site, origin)))
        show(there, origin_lines(there), as_json)
        return
    report = store_status.status(site)
    show(report, store_status.lines(report), as_json)
    if not report.is_hot:
        raise SystemExit(1)


@click.command(epilog="Example: hotpath explain myapp:hot /rankings/kospi --accept-encoding gzip")
@click.argument("target", metavar="TARGET|STORE", required=False)
@click.argument("url", required=False)
@click.option("--accept-encoding", help="Accept-Encoding of the request: 'gzip, br'.")
@click.option(
    "--front",
    metavar="URL",
    help="Ask a front's --admin port, or the site, without TARGET: whether URL is hot or has a last good answer.",
)
@JSON
def explain(target: str | None, url: str | None, accept_encoding: str | None, front: str | None, as_json: bool) -> None:
    """Show the file and headers that URL gets, or why it is not hot.

    Of a STORE only what is published is known, not what the site declares.
    """
    if front is not None:
        from hotpath.cli.last_good import explain_last_good

        page = target if url is None else url
        if page is None:
            raise click.UsageError(f"--front: write the page too: hotpath explain --front {front} /rankings/kospi")
        explain_last_good(front, page, as_json)
        return
    if target is None:
        raise click.UsageError("Missing argument 'TARGET|STORE'.")
    if url is None:
        raise click.UsageError("Missing argument 'URL'.")
    from hotpath.ops import explain as explanation  # loads the read side, which no other command needs

    site = load_site_or_store(target)
    hot = site if isinstance(site, Hotpath) else Hotpath(site.root)
    answer = explanation.explain(hot, url, accept_encoding)
    show(answer, explanation.lines(answer), as_json)
    if not answer.hot:
        raise SystemExit(1)


# Long by its options.
@click.command(epilog="Example: hotpath check myapp:hot --base-url https://example.org --edge")
@STORE
@click.option("--base-url", required=True, help=BASE_URL)
@click.option(
    "--sample",
    default=public_check.DEFAULT_SAMPLE,
    show_default=True,
    help="Pages to ask for in addition to the critical ones; at least one of each route.",
)
@click.option("--all", "everything", is_flag=True, help="Ask for every page, not for a sample.")
@click.option("--edge", is_flag=True, help=EDGE)
@click.option("--wait", default="10s", show_default=True, help="How long to retry a wrong answer; 0: never.")
@click.option("--timeout", default="5s", show_default=True, help="Time limit of each answer.")
@click.option("--max-latency", type=click.FloatRange(min=0.001), help="Seconds; a slower answer is wrong.")
@click.option("--concurrency", default=public_check.DEFAULT_CONCURRENCY, show_default=True, help="Requests at a time.")
@click.option("--user-agent", default=DEFAULT_USER_AGENT, show_default=True, help=USER_AGENT)
@click.option(
    "--every-night", is_flag=True, help="Also that the batch ran, pages are fresh and whole, nothing is in quarantine."
)
@origin_option("What this machine has to serve, where it follows one.")
@HINTS
@click.option("--alert", is_flag=True, help="Send an alert when it is wrong or right again, as HOTPATH_ALERT_… says.")
@click.option("--quiet", is_flag=True, help="Print only what is wrong, for cron.")
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
    user_agent: str,
    every_night: bool,
    origin: str | None,
    hints: str | None,
    alert: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Compare what the public site answers with what is published.

    Ends with 1 where an answer is wrong, with 69 where the site could not be looked at.
    """
    site = load_site_or_store(target)
    options = public_check.CheckOptions(
        sample=sample,
        everything=everything,
        edge=edge,
        timeout_seconds=parse_seconds(timeout, "--timeout"),
        wait_seconds=parse_seconds(wait, "--wait", least=0),
        concurrency=concurrency,
        max_seconds=max_latency,
        user_agent=user_agent,
    )
    alerts, store, sharing = alerts_if(alert), store_of(site), sharing_of(site, origin, hints)
    # First, since it needs nobody: where nothing is published, or nobody answers, it is known all the same.
    night = _look_at_night(site, sharing, alerts) if every_night else None
    if night is None:
        shared = [*invariants.shared_caches(), *invariants.shared_generations(store, sharing)]
        warn(invariants.problems(shared))
    try:
        report = public_check.check(site, base_url, options)
    except HotpathError as error:
        warn(alerts.failed(store, error, "check"))
        if night is not None:
            for line in invariants.problems(night):
                complain(line)
        raise
    lines = public_check.lines(report)
    if report.is_right:
        warn(alerts.resolved(store, "check", f"{report.base_url}: {lines[-1]}", about=report.base_url))
    else:
        kind = "check.wrong" if report.failures else "check.unseen"
        warn(alerts.wrong(store, kind, f"{report.base_url}: {lines[-1]}", lines, about=report.base_url))
    _show_check(report, lines, night, quiet, as_json)
    if night is not None and invariants.problems(night):
        raise SystemExit(1)
    if not report.is_right:
        raise SystemExit(report.exit_code)


def _look_at_night(site: Hotpath | Store, sharing: Sharing, alerts: Alerts) -> list[invariants.Invariant]:
    store = store_of(site)
    night = invariants.every_night(site, sharing=sharing)
    if wrong := invariants.problems(night):
        warn(alerts.wrong(store, "night.wrong", wrong[0], wrong))
    else:
        warn(alerts.resolved(store, "night", "everything that must be true after a night is"))
    return night


def _show_check(
    report: public_check.CheckReport,
    lines: list[str],
    night: list[invariants.Invariant] | None,
    quiet: bool,
    as_json: bool,
) -> None:
    wrong = [] if night is None else invariants.problems(night)
    if as_json:
        facts = report.as_dict()
        print_json(facts if night is None else {**facts, "right": facts["right"] and not wrong, "every_night": night})
    elif not quiet:
        say(*(() if night is None else invariants.lines(night)), *lines)
    else:
        say(*wrong, *(() if report.is_right else lines))


@click.command(epilog="Example: hotpath audit src/ --sarif audit.sarif")
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path), metavar="PATH...")
@click.option("--all", "everything", is_flag=True, help="Include tests, and what the code appears to bound.")
@click.option("--sarif", type=click.Path(dir_okay=False, path_type=Path), help="Write SARIF 2.1.0 for a review tool.")
@JSON
def audit(paths: tuple[Path, ...], everything: bool, sarif: Path | None, as_json: bool) -> None:
    """List what grows without a bound in Python files. Imports nothing.

    Each finding says what to write instead.
    """
    report = audit_report.audit(paths, tests=everything)
    if sarif:
        audit_report.write_sarif(report, sarif, notes=everything)
    show(report, audit_report.lines(report, notes=everything), as_json)
    if report.findings:
        raise SystemExit(1)
