"""The commands that make generations: ``build`` and ``import``."""

from __future__ import annotations

import time
from pathlib import Path

import click

from hotpath.batch.run import Report, nothing_to_retry
from hotpath.batch.run import build as run_batch
from hotpath.cli.batch_options import alerts_if, batch_options, limits_of
from hotpath.cli.origin import HINTS, SITE_COPY, origin_option, sharing_of
from hotpath.cli.output import (
    JSON,
    TARGET,
    GivenPath,
    ReaderGone,
    print_json,
    say,
    show,
    warn,
)
from hotpath.cli.output import USER_AGENT as USER_AGENT_HELP
from hotpath.cli.progress import progress_for
from hotpath.cli.shipping import Shipping
from hotpath.cli.targets import load, load_validator
from hotpath.errors import HotpathError, Implausible, PublicUnseen, TargetError
from hotpath.ops.check import CheckOptions, public_base
from hotpath.ops.http import USER_AGENT
from hotpath.ops.night import Night, run_night
from hotpath.options import counted, human_bytes, to_json
from hotpath.store.import_directory import import_directory
from hotpath.store.publish import Published
from hotpath.store.store import Store

# Skipped files that a line names; --json names all.
MAX_NAMED_FILES = 20


@click.command(epilog="Example: hotpath build myapp:hot --check https://example.org --alert")
@TARGET
@batch_options
@click.option("--retry-failed", is_flag=True, help="Run only what failed in the last run, and take over the rest.")
@click.option(
    "--check", "check_url", metavar="URL", help="Ask the public site afterwards; roll back where it is wrong."
)
@click.option("--user-agent", default=USER_AGENT, show_default=True, help=f"{USER_AGENT_HELP} With --check.")
@click.option("--alert", is_flag=True, help="Send an alert when it fails, as HOTPATH_ALERT_… says.")
@origin_option("Send the generation there, for other machines to serve.")
@HINTS
@SITE_COPY
@click.option("--quiet", is_flag=True, help="Print only what is wrong, for cron.")
@JSON
# Long by its options.
def build(
    target: str,
    memory: str,
    timeout: str,
    workers: int,
    max_failures: float,
    partial: bool,
    retry_failed: bool,
    check_url: str | None,
    user_agent: str,
    alert: bool,
    origin: str | None,
    hints: str | None,
    site_copy: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Run the batch of TARGET and publish a new generation.

    On this machine first; where there is an origin it is sent there then. The exit code is 69 where that could not be
    done, and 75 where another machine was first.
    """
    started = time.monotonic()
    alerts = alerts_if(alert)
    limits = limits_of(memory, timeout, workers)
    options = CheckOptions(user_agent=user_agent)
    if check_url is not None:
        check_url = public_base(check_url, "--check")
    try:
        hot = load(target)
        sharing = sharing_of(hot, origin, hints, site_copy=site_copy)
    except HotpathError as error:
        warn(alerts.failed(None, error))
        raise
    shipping = Shipping(target, hot.store, sharing, quiet=quiet)

    def run() -> Report:
        progress = progress_for(quiet=quiet)
        return run_batch(
            hot, progress, limits=limits, max_failures=max_failures, partial=partial, retry_failed=retry_failed
        )

    # Before anything says that a run begins: that there is nothing to do says nothing about the last night.
    idle = nothing_to_retry(hot) if retry_failed else None
    shipping.prepare()
    if idle is not None:
        shipping.send()  # what the last run could not
        facts = {"generation": None, "reason": idle, **shipping.facts()}
        show(facts, [] if quiet else [idle, *shipping.lines()], as_json)
        shipping.finish(alerts)
        return
    try:
        night = run_night(hot, run, alerts=alerts, check_url=check_url, options=options, warn=lambda text: warn([text]))
    except Implausible as refused:
        shipping.send_quarantined(refused.sequence)
        raise
    warn(night.warnings)
    shipping.send()
    _say_night(night, hot.store.root, time.monotonic() - started, shipping, quiet, as_json)
    shipping.finish(alerts)
    if night.check is not None and night.check.unseen:
        raise PublicUnseen(night.check.base_url, night.check.generation, [str(page) for page in night.check.unseen])


def _say_night(night: Night, root: Path, seconds: float, shipping: Shipping, quiet: bool, as_json: bool) -> None:
    report = night.report
    try:
        if as_json:
            print_json({**night.as_dict(), **shipping.facts()})
            return
        if not quiet:
            _say_published(report.published, root, f" in {seconds:.1f} s")
            say(*shipping.lines())
    except ReaderGone:  # what was done is done, and nobody asks
        return
    except OSError as error:  # the exit code 1 would say that nothing was published
        warn([f"generation {report.published.generation} is published, but stdout does not take it: {error.strerror}"])
    warn(report.warnings)
    if report.failures:
        failed, carried = len(report.failures), len(report.carried)
        kept = f"items that failed: {failed}; those that keep their last good bytes: {carried}"
        warn([kept + (f"; those that the app answers for: {failed - carried}" if failed > carried else "")])


@click.command("import", epilog="Example: hotpath import var/hot dist/ --strip-suffix .html")
@click.argument("store", type=GivenPath(file_okay=False))
@click.argument("directory", type=GivenPath(exists=True, file_okay=False))
@click.option("--prefix", default="/", show_default=True, help="URL path of the directory.")
@click.option("--strip-suffix", default="", help="Ending to take off the URLs, like .json.")
@click.option("--keep-precompressed", is_flag=True, help="Publish a.js.gz beside a.js too, as a page of its own.")
@click.option("--replace", is_flag=True, help="Publish even if that removes pages of a build, or most pages.")
@click.option("--allow", multiple=True, metavar="FILE", help="Publish it though its name looks like a secret's.")
@click.option("--validate", metavar="TARGET", help="A function of (new, previous) manifests that returns problems.")
@origin_option("Send the generation there, for other machines to serve.")
@HINTS
@JSON
# Long by its options.
def import_(
    store: Path,
    directory: Path,
    prefix: str,
    strip_suffix: str,
    keep_precompressed: bool,
    replace: bool,
    allow: tuple[str, ...],
    validate: str | None,
    origin: str | None,
    hints: str | None,
    as_json: bool,
) -> None:
    """Publish the files of a DIRECTORY as a generation of STORE."""
    if ":" in str(store) and len(store.parts) == 1 and not store.exists():
        raise TargetError(
            str(store),
            "this is a TARGET, expected the path of a store that only imports publish to, var/imported for example;"
            f" write {store.absolute()} if that is its name",
        )
    if (directory / "generations").is_dir() and (directory / "CURRENT").exists():
        raise TargetError(
            str(directory), "this is a store, expected a directory of files; write 'hotpath import STORE DIRECTORY'"
        )
    validator = load_validator(validate) if validate else None
    target = Store(store)
    shipping = Shipping(str(store), target, sharing_of(target, origin, hints))
    shipping.prepare()
    imported = import_directory(
        target,
        directory,
        prefix=prefix,
        strip_suffix=strip_suffix,
        keep_precompressed=keep_precompressed,
        replace=replace,
        allow=allow,
        validate=validator,
    )
    shipping.send()
    if as_json:
        print_json({**to_json(imported), **shipping.facts()})
    else:
        _say_published(imported, store, "")
        _say_skipped("left by editors, transfers or desktops", imported.left_behind)
        _say_skipped("copies that hotpath makes itself", imported.precompressed)
        say(*shipping.lines())
    shipping.finish()


def _say_skipped(what: str, names: tuple[str, ...]) -> None:
    if names:
        more = ", …" if len(names) > MAX_NAMED_FILES else ""
        say(f"skipped {counted(len(names), 'file')}, {what}: {', '.join(names[:MAX_NAMED_FILES])}{more}")


def _say_published(published: Published, root: Path, duration: str) -> None:
    unchanged = f", {published.unchanged} unchanged" if published.unchanged else ""
    say(
        f"published generation {published.generation} to {root}: {counted(published.items, 'item')}{unchanged},"
        f" {human_bytes(published.bytes)}{duration}"
    )
    warn(published.warnings)
