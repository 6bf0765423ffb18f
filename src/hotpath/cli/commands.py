"""The ``hotpath`` command: parse, call one operation, say what it did, end with its exit code."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from hotpath.errors import HotpathError, NothingPublished, TargetError

try:
    import click
    import rich  # noqa: F401  (the progress bar; better said now than at the first build)
except ImportError as error:
    sys.exit(f"hotpath: the command needs {error.name}: pip install 'asgi-hotpath[cli]'")

from hotpath.audit import report as audit_operation
from hotpath.batch.run import Report, nothing_to_retry
from hotpath.batch.run import build as run_batch
from hotpath.cli import demo as demo_operation
from hotpath.cli.output import (
    JSON,
    STORE,
    TARGET,
    alerts_if,
    batch_options,
    limits_of,
    print_error,
    print_json,
    say,
    warn,
)
from hotpath.cli.outward import alert, check, recover
from hotpath.cli.progress import progress_for
from hotpath.cli.targets import load, load_site_or_store, load_store, load_validator
from hotpath.ops import explain as explain_operation
from hotpath.ops import status as status_operation
from hotpath.ops import warm as warm_operation
from hotpath.ops.check import public_base
from hotpath.ops.night import run_night
from hotpath.options import human_bytes, parse_seconds
from hotpath.process.signals import exit_code_of, interruptible, told_of
from hotpath.store import import_directory as import_operation
from hotpath.store import repair as verify_operation
from hotpath.store.prune import prune as prune_store
from hotpath.store.publish import Published
from hotpath.store.quarantine import approve as approve_generation
from hotpath.store.store import Store


class _Group(click.Group):
    """Turns every error of ours into one line on stderr and its exit code."""

    def invoke(self, context: click.Context) -> object:
        _open_what_is_closed()
        try:
            with interruptible():
                return super().invoke(context)
        except HotpathError as error:
            print_error(context, error)
            raise SystemExit(error.exit_code) from None
        except KeyboardInterrupt as interrupt:
            with suppress(OSError):  # of a terminal that was closed
                click.echo(f"hotpath: {told_of(interrupt)}; 'hotpath status' says what is served", err=True)
            raise SystemExit(exit_code_of(interrupt)) from None
        except OSError as error:
            place = f"{error.filename}: " if error.filename is not None else ""
            click.echo(f"hotpath: {place}{error.strerror or error}", err=True)
            raise SystemExit(1) from None


def _open_what_is_closed() -> None:
    """A service may have no standard output: a pipe of ours would get its number, and all that is printed."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, "w" if descriptor else "r", encoding="utf-8", closefd=False))  # noqa: SIM115


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="asgi-hotpath")
def main() -> None:
    """Keep a site's most important pages at 200 OK while the backend behind them leaks, restarts or dies.

    TARGET is module:attribute, the Hotpath object of your app (myapp.hot:hot). STORE is the path of its store.

    Exit codes: 0 done; 1 what was built or checked is bad, nothing was published; 2 usage; 75 busy, try again.
    """


@main.command()
@click.option("--csv", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Real valuations to use.")
@click.option("--market", default="CSV", show_default=True, help="What the market of the CSV file is called.")
@click.option("--serve", is_flag=True, help="Keep it running, with its backend broken, until Ctrl-C.")
@click.option("--keep", type=click.Path(path_type=Path), help="A new directory that stays; without it nothing stays.")
@click.option(
    "--tickers", type=click.IntRange(4, 100_000), default=8_000, show_default=True, help="How many stocks to make."
)
def demo(csv: Path | None, market: str, serve: bool, keep: Path | None, tickers: int) -> None:
    """Precompute a small stock screener, serve it, break its backend, and show what still answers."""
    raise SystemExit(demo_operation.run(csv, serve=serve, keep=keep, market=market, tickers=tickers))


@main.command()
@TARGET
@batch_options
@click.option("--retry-failed", is_flag=True, help="Run only what failed in the last run, and take over the rest.")
@click.option(
    "--check", "check_url", metavar="URL", help="Ask the public site afterwards; roll back where it is wrong."
)
@click.option("--alert", is_flag=True, help="Tell people of a failure, as HOTPATH_ALERT_… says how.")
@click.option("--quiet", is_flag=True, help="Print nothing but what is wrong, for cron.")
@JSON
def build(
    target: str,
    memory: str,
    timeout: str,
    workers: int,
    max_failures: float,
    retry_failed: bool,
    check_url: str | None,
    alert: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Run the batch of TARGET and publish the result as a new generation."""
    alerts = alerts_if(alert)
    limits = limits_of(memory, timeout, workers)
    if check_url is not None:
        check_url = public_base(check_url, "--check")
    try:
        hot = load(target)
    except HotpathError as error:
        warn(alerts.failed(None, error))
        raise

    def run() -> Report:
        progress = progress_for(quiet=quiet)
        return run_batch(hot, progress, limits=limits, max_failures=max_failures, retry_failed=retry_failed)

    # Before anybody is told that a run begins: that there is nothing to do says nothing about the last night.
    idle = nothing_to_retry(hot) if retry_failed else None
    if idle is not None:
        if as_json:
            print_json({"generation": None, "told": idle})
        elif not quiet:
            say(idle)
        return
    night = run_night(hot, run, alerts=alerts, check_url=check_url, warn=lambda text: warn([text]))
    report = night.report
    warn(night.warnings)
    try:
        if as_json:
            print_json(night.as_dict())
            return
        if not quiet:
            _say_published(report.published, hot.store.root, f" in {report.seconds:.1f} s")
    except OSError as error:  # the exit code 1 would say that nothing was published
        warn([f"generation {report.published.sequence} is published, but stdout does not take it: {error.strerror}"])
    warn(report.warnings)
    if report.failures:
        warn(
            [f"items that failed: {len(report.failures)}; those that keep their last good bytes: {len(report.carried)}"]
        )


@main.command()
@STORE
@JSON
def status(target: str, as_json: bool) -> None:
    """Say which generation is served, which others there are, and how old they are."""
    found = status_operation.status(load_site_or_store(target))
    if as_json:
        print_json(found.as_dict())
    else:
        say(*status_operation.lines(found))
    if not found.is_hot:
        raise SystemExit(1)


@main.command()
@STORE
@click.option("--to", type=int, help="Go back to this generation instead of the one before.")
@click.option("--reason", default="rolled back by hand", show_default=True, help="Is kept in the history.")
@JSON
def rollback(target: str, to: int | None, reason: str, as_json: bool) -> None:
    """Go back to the generation before and pin it; what came after is never served again."""
    start, end = load_store(target).rollback(to, reason)
    if as_json:
        print_json({"from": start, "to": end, "pinned": True})
    else:
        say(
            f"rolled back from generation {start} to {end}; running servers follow within two seconds",
            f"generation {end} is pinned: builds publish beside it until 'hotpath unpin {target}'",
        )


@main.command()
@STORE
@click.argument("generation", type=int)
def pin(target: str, generation: int) -> None:
    """Serve GENERATION, whatever is published, until unpin."""
    load_store(target).pin(generation)
    say(f"generation {generation} is pinned")


@main.command()
@STORE
def unpin(target: str) -> None:
    """Serve the newest accepted generation again."""
    store = load_store(target)
    pinned = store.unpin()
    if pinned is None:
        say("nothing was pinned")
    else:
        say(f"generation {pinned} is no longer pinned; generation {store.chosen_sequence()} is served")


@main.command()
@STORE
@click.argument("generation", type=int)
@click.option("--reason", required=True, help="Why it is right after all; is kept in the history.")
def approve(target: str, generation: int, reason: str) -> None:
    """Release GENERATION from quarantine: it is served, and what comes next is compared with it."""
    store = load_store(target)
    warnings = approve_generation(store, generation, reason)
    serving = store.chosen_sequence()
    if serving == generation:
        say(f"generation {generation} is approved and current; running servers follow within two seconds")
    else:
        say(
            f"generation {generation} is approved, but {serving} is pinned: it is served until 'hotpath unpin {target}'"
        )
    warn(warnings)


@main.command()
@STORE
@click.option("--keep", type=click.IntRange(1), help="How many generations stay.  [default: the store's own]")
@JSON
def prune(target: str, keep: int | None, as_json: bool) -> None:
    """Remove old generations; never the current, the pinned, or one that a server still reads."""
    pruned = prune_store(load_store(target), keep)
    if as_json:
        print_json({"removed": list(pruned.removed), "held": list(pruned.held)})
    else:
        say(f"removed {_numbers(pruned.removed)}")
        if pruned.held:
            say(f"kept {_numbers(pruned.held)}: a server still reads from there")


@main.command()
@STORE
@click.option("--repair", is_flag=True, help="Mend what can be mended without a guess; the rest falls back.")
@JSON
def verify(target: str, repair: bool, as_json: bool) -> None:
    """Read every file of every generation and say which is not what was published."""
    store = load_store(target)
    found = verify_operation.repair(store) if repair else verify_operation.verify(store)
    if found.is_sound and not found.generations:
        raise NothingPublished(
            "nothing is published here, so nothing was read", path=store.root, fix="run 'hotpath build TARGET' first"
        )
    if as_json:
        print_json(found.as_dict())
    else:
        say(*verify_operation.lines(found))
        if not found.is_sound:
            mends = (
                "hotpath build TARGET makes all of it anew"
                if repair
                else f"hotpath verify {target} --repair mends what it can"
            )
            click.echo(mends, err=True)
    if not found.is_sound:
        raise SystemExit(1)


@main.command("import")
@click.argument("store", type=click.Path(file_okay=False, path_type=Path))
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--prefix", default="/", show_default=True, help="The URL path the directory stands for.")
@click.option("--strip-suffix", default="", help="Taken off the URLs, like .json.")
@click.option("--validate", metavar="TARGET", help="A function of (new, previous) manifests that returns problems.")
@JSON
def import_(store: Path, directory: Path, prefix: str, strip_suffix: str, validate: str | None, as_json: bool) -> None:
    """Publish a DIRECTORY that another program wrote to STORE as a new generation."""
    if ":" in str(store) and len(store.parts) == 1 and not store.exists():
        raise TargetError(
            str(store),
            f"expected the path of a store, which no code builds; write {store.absolute()} if that is its name",
        )
    published = import_operation.import_directory(
        Store(store),
        directory,
        prefix=prefix,
        strip_suffix=strip_suffix,
        validate=load_validator(validate) if validate else None,
    )
    if as_json:
        print_json(published.as_dict())
    else:
        _say_published(published, store, "")


@main.command()
@TARGET
@click.argument("url")
@click.option("--accept-encoding", help="As a browser would send it: 'gzip, br'.")
@JSON
def explain(target: str, url: str, accept_encoding: str | None, as_json: bool) -> None:
    """Say which key, file and headers a GET of URL gets, or why it is not hot."""
    found = explain_operation.explain(load(target), url, accept_encoding)
    if as_json:
        print_json(found.as_dict())
    else:
        say(*explain_operation.lines(found))
    if not found.hot:
        raise SystemExit(1)


@main.command()
@click.argument("urls", metavar="URL…", nargs=-1, required=True)
@click.option("--deadline", default="60s", show_default=True, help="How long to try, all pages together.")
@click.option("--concurrency", default=warm_operation.CONCURRENCY, show_default=True, help="How many at a time.")
@JSON
def warm(urls: tuple[str, ...], deadline: str, concurrency: int, as_json: bool) -> None:
    """Fetch each URL of a fresh deploy until it is 200; exit 0 only when all are."""
    found = warm_operation.warm(urls, concurrency=concurrency, deadline_seconds=parse_seconds(deadline, "--deadline"))
    if as_json:
        print_json([one.as_dict() for one in found])
    else:
        say(*warm_operation.lines(found))
    if not all(one.is_warm for one in found):
        raise SystemExit(1)


@main.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path), metavar="PATH...")
@click.option("--all", "everything", is_flag=True, help="Tests too, and what the code bounds as far as can be seen.")
@click.option("--sarif", type=click.Path(dir_okay=False, path_type=Path), help="Write SARIF 2.1.0 for a review tool.")
@JSON
def audit(paths: tuple[Path, ...], everything: bool, sarif: Path | None, as_json: bool) -> None:
    """List what grows without a bound in the Python files under PATH, and what to write instead. Imports nothing."""
    report = audit_operation.audit(paths, tests=everything)
    if sarif:
        audit_operation.write_sarif(report, sarif, notes=everything)
    if as_json:
        print_json(dataclasses.asdict(report))
    else:
        say(*audit_operation.lines(report, notes=everything))
    if report.findings:
        raise SystemExit(1)


def _say_published(published: Published, root: Path, how_long: str) -> None:
    unchanged = f", {published.unchanged} unchanged" if published.unchanged else ""
    say(
        f"published generation {published.sequence} to {root}: {published.items} items{unchanged},"
        f" {human_bytes(published.bytes)}{how_long}"
    )
    warn(published.warnings)


def _numbers(sequences: Sequence[int]) -> str:
    if not sequences:
        return "nothing"
    return ("generation " if len(sequences) == 1 else "generations ") + ", ".join(map(str, sequences))


for _command in (check, alert, recover):
    main.add_command(_command)
