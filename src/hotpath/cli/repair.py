"""The commands that bring a site or its store back, and remove old generations."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from hotpath.batch.run import build as run_batch
from hotpath.cli.batch_options import batch_options, limits_of
from hotpath.cli.origin import HINTS, Served, origin_flag, origin_of, origin_option, sharing_of, store_of
from hotpath.cli.output import (
    BASE_URL,
    EDGE,
    JSON,
    STORE,
    TARGET,
    USER_AGENT,
    complain,
    say,
    show,
    warn,
)
from hotpath.cli.progress import progress_for
from hotpath.cli.shipping import Shipping
from hotpath.cli.targets import load, load_site_or_store
from hotpath.errors import DeclarationError, NothingPublished, OriginError, StoreError
from hotpath.ops.check import CheckOptions
from hotpath.ops.http import USER_AGENT as DEFAULT_USER_AGENT
from hotpath.ops.purge.environment import purgers_from_environment
from hotpath.ops.recovery import recover as recovery
from hotpath.ops.recovery.incident import RecoveryOptions
from hotpath.ops.recovery.journal import BEGIN, DOING, END, JournalEntry
from hotpath.options import counted, human_bytes, parse_seconds, to_json
from hotpath.store import verify as store_verify
from hotpath.store.prune import prune as prune_store
from hotpath.store.quarantine import approve as approve_generation
from hotpath.store.repair import repair as repair_store
from hotpath.store.store import Store

if TYPE_CHECKING:
    from hotpath.store.origin.origin import Origin


_WHERE = "Where what is served is decided; off: on this machine alone."


@click.command(epilog="Example: hotpath recover myapp:hot --rollback --base-url https://example.org")
@TARGET
@click.option("--rollback", is_flag=True, help="What is served now is wrong: go back, also when nothing is damaged.")
@click.option("--build", is_flag=True, help="Run the batch, and serve its result.")
@click.option("--base-url", help=f"{BASE_URL}. With it the edge is purged, the pages are warmed and checked.")
@click.option("--edge", is_flag=True, help=EDGE)
@click.option("--dry-run", is_flag=True, help="Show what would be done; change nothing.")
@click.option("--purge-all", is_flag=True, help="Purge every URL, not only those whose bytes changed in this recovery.")
@batch_options
@click.option("--user-agent", default=DEFAULT_USER_AGENT, show_default=True, help=USER_AGENT)
@click.option("--new", is_flag=True, help="Begin another recovery, where this would continue the last one.")
@JSON
# Long since each of its options is a line.
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
    user_agent: str,
    partial: bool,
    new: bool,
    as_json: bool,
) -> None:
    """Bring a site back, step by step; run it again at any time.

    Verifies the store, rolls back, builds, publishes, purges, warms and checks, as far as asked for.
    """
    hot = load(target)
    sharing = sharing_of(hot)
    if rollback and sharing.origin is not None:
        raise DeclarationError(
            f"--rollback: what this site serves is decided at {sharing.origin}; run 'hotpath rollback {target}', and"
            " recover without --rollback"
        )
    limits = limits_of(memory, timeout, workers)
    options = RecoveryOptions(
        rollback=rollback,
        build=build,
        base_url=base_url,
        purgers=purgers_from_environment() if base_url else (),
        purge_all=purge_all,
        check=CheckOptions(edge=edge, user_agent=user_agent),
    )
    if dry_run:
        plan = recovery.plan(hot, options, target=target, new=new)
        show(plan, recovery.plan_lines(plan), as_json)
        if plan.stops:
            raise SystemExit(1)
        return

    result = recovery.recover(
        hot,
        options,
        target=target,
        new=new,
        run_batch=lambda site: run_batch(
            site, progress_for(), limits=limits, max_failures=max_failures, partial=partial
        ),
        report=lambda entry: None if as_json else _say_step(entry, str(hot.store.root)),
    )
    show(result, recovery.ending(result) if result.changed else recovery.lines(result), as_json)
    if not result.finished:
        raise SystemExit(1)
    if build:
        shipping = Shipping(target, hot.store, sharing, quiet=as_json)
        shipping.send()
        say(*([] if as_json else shipping.lines()))
        shipping.finish()


def _say_step(entry: JournalEntry, store: str) -> None:
    with suppress(OSError):  # it continues, also where nobody reads along any more
        if entry.state == BEGIN:
            say(recovery.heading(entry.recovery, entry.time, store))
        elif entry.state == DOING:
            complain(f"  … {entry.step}: {entry.text}")
        elif entry.state != END:
            say(recovery.line(entry))


@click.command(epilog="Example: hotpath verify var/hot --repair")
@STORE
@click.option(
    "--repair",
    is_flag=True,
    help="Restore damaged files from other generations; the rest falls back to older bytes or the app.",
)
@origin_flag("Read what the origin has instead; with --repair this machine puts there again what is damaged.")
@JSON
def verify(target: str, repair: bool, origin: str | None, as_json: bool) -> None:
    """Read every file and name those that are damaged."""
    site = load_site_or_store(target)
    store = store_of(site)
    if origin is not None:
        _verify_origin(origin_of(sharing_of(site, origin)), store if repair else None, as_json)
        return
    report = repair_store(store) if repair else store_verify.verify(store)
    if report.is_sound and not report.generations:
        raise NothingPublished(
            "nothing is published here, so nothing was read", path=store.root, fix="run 'hotpath build TARGET' first"
        )
    show(report, store_verify.lines(report), as_json)
    if report.is_sound:
        return
    if not as_json:
        again = "hotpath build TARGET makes all of it anew"
        complain(again if repair else f"hotpath verify {target} --repair repairs what it can")
    raise SystemExit(1)


def _verify_origin(origin: Origin, store: Store | None, as_json: bool) -> None:
    result = origin.verify(store)
    if result.is_sound and not result.generations:
        raise OriginError("nothing is published there, so nothing was read", url=str(origin), operation="verifying")
    lines = [*result.problems, *(f"put there again: {key}" for key in result.repaired)]
    read = f"{counted(result.generations, 'generation')} of {origin} read, {counted(result.blobs, 'file')}"
    lines.append(f"{read}: {'all whole' if result.is_sound else counted(len(result.problems), 'problem')}")
    show({"sound": result.is_sound, **to_json(result)}, lines, as_json)
    if not result.is_sound:
        if not as_json and store is None:
            complain("with --repair a machine that has these files puts them there again")
        raise SystemExit(1)


@click.command(epilog="Example: hotpath rollback myapp:hot --reason 'prices of yesterday'")
@STORE
@click.option("--to", type=int, help="Go back to this generation instead of the one before.")
@click.option("--reason", default="rolled back by hand", show_default=True, help="Why; kept in the history.")
@origin_option(_WHERE)
@HINTS
@JSON
def rollback(target: str, to: int | None, reason: str, origin: str | None, hints: str | None, as_json: bool) -> None:
    """Go back to the generation before, and pin it.

    What came after it is never served again. A site with an origin goes back there, and all its machines follow.
    """
    served = Served(load_site_or_store(target), origin, hints)
    start, end = served.change(lambda store: store.rollback(to, reason), lambda there: there.rollback(to, reason))
    lines = (
        f"rolled back from generation {start} to {end}{served.place}; {served.when}",
        f"generation {end} is pinned: builds publish beside it until 'hotpath unpin {target}'",
    )
    show({"from": start, "to": end, "pinned": True, **served.facts}, lines, as_json)


@click.command(epilog="Example: hotpath pin myapp:hot 41")
@STORE
@click.argument("generation", type=int)
@origin_option(_WHERE)
@HINTS
def pin(target: str, generation: int, origin: str | None, hints: str | None) -> None:
    """Serve GENERATION, whatever is published, until unpin."""
    served = Served(load_site_or_store(target), origin, hints)
    served.change(lambda store: store.pin(generation), lambda there: there.pin(generation))
    say(f"generation {generation} is pinned{served.place}: builds publish beside it until 'hotpath unpin {target}'")


@click.command(epilog="Example: hotpath unpin myapp:hot")
@STORE
@origin_option(_WHERE)
@HINTS
def unpin(target: str, origin: str | None, hints: str | None) -> None:
    """Serve the newest accepted generation again."""
    served = Served(load_site_or_store(target), origin, hints)
    pinned = served.change(lambda store: store.unpin(), lambda there: there.unpin())
    if pinned is None:
        say(f"nothing was pinned{served.place}")
    else:
        now = served.generation()
        kept = "it stays served, as no newer one is accepted" if now == pinned else f"generation {now} is served"
        say(f"generation {pinned} is no longer pinned{served.place}; {kept}")


@click.command(epilog="Example: hotpath approve myapp:hot 42 --reason 'a holiday: half of the rows'")
@STORE
@click.argument("generation", type=int)
@click.option("--reason", required=True, help="Why it is right after all; kept in the history.")
@origin_option(_WHERE)
@HINTS
def approve(target: str, generation: int, reason: str, origin: str | None, hints: str | None) -> None:
    """Release GENERATION from quarantine, and serve it.

    What comes next is compared with it. A site with an origin approves it there, on whichever machine.
    """
    served = Served(load_site_or_store(target), origin, hints)
    warnings: list[str] = []

    def approve_here(store: Store) -> None:
        warnings.extend(approve_generation(store, generation, reason))

    def approve_there(there: Origin) -> None:
        is_here = generation in served.store.quarantined()
        if is_here:
            there.send_quarantined(served.store, generation)
        there.approve(generation, reason)
        if is_here:
            try:
                approve_here(served.store)
            except StoreError as error:  # it is approved; this machine takes it over as the others do
                warnings.append(str(error))

    served.change(approve_here, approve_there)
    serving = served.generation()
    if serving == generation:
        say(f"generation {generation} is approved and current{served.place}; {served.when}")
    else:
        say(
            f"generation {generation} is approved, but {serving} is pinned: it is served until 'hotpath unpin {target}'"
        )
    warn(warnings)


@click.command(epilog="Example: hotpath prune var/hot --keep 3")
@STORE
@click.option("--keep", type=click.IntRange(1), help="Generations to keep.  [default: the store's own]")
@click.option(
    "--grace",
    default="7d",
    show_default=True,
    help="With --origin: what is younger stays, for machines that were off meanwhile.",
)
@origin_flag("Remove what no machine needs from the origin instead.")
@JSON
def prune(target: str, keep: int | None, grace: str, origin: str | None, as_json: bool) -> None:
    """Remove old generations.

    Never the current one, the pinned one, or one that a server still reads.
    """
    site = load_site_or_store(target)
    store = store_of(site)
    if origin is not None:
        there = origin_of(sharing_of(site, origin))
        removed = there.prune(keep or store.keep, grace_seconds=parse_seconds(grace, "--grace", least=0))
        files = f"{counted(removed.blobs, 'file')} ({human_bytes(removed.bytes)})" if removed.blobs else ""
        parts = [_numbers(removed.generations) if removed.generations or not files else "", files]
        show(removed, [f"removed {' and '.join(filter(None, parts))} from {there}"], as_json)
        return
    pruned = prune_store(store, keep)
    lines = [f"removed {_numbers(pruned.removed)}"]
    if pruned.held:
        lines.append(f"kept {_numbers(pruned.held)}: a server still reads from there, or another process has locked it")
    show({"removed": list(pruned.removed), "held": list(pruned.held)}, lines, as_json)


def _numbers(sequences: Sequence[int]) -> str:
    if not sequences:
        return "nothing"
    return ("generation " if len(sequences) == 1 else "generations ") + ", ".join(map(str, sequences))
