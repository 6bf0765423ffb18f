"""The commands of a machine that shares generations with others: ``follow`` and ``push``."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress

import click

from hotpath.cli.origin import HINTS, SITE_COPY, origin_of, origin_option, sharing_of, store_of
from hotpath.cli.output import JSON, STORE, complain, say, show
from hotpath.cli.shipping import Shipping
from hotpath.cli.targets import load_site_or_store
from hotpath.guard.systemd import notify
from hotpath.options import parse_seconds
from hotpath.site import Hotpath
from hotpath.store.sharing import NAME, Sharing
from hotpath.store.store import Store

# A request that is under way when the command is ended.
END_SECONDS = 1.0
# More often than twice a second nothing new can be there; a day is a machine that nobody looks at.
LEAST_EVERY_SECONDS = 0.5


@click.command(epilog="Example: hotpath follow var/hot --origin s3://bucket/site")
@click.argument("target", metavar="TARGET|STORE")
@origin_option("What to follow: s3://bucket/site?endpoint_url=https://…")
@click.option("--every", default="10s", show_default=True, help="How often to ask the origin.")
@HINTS
@click.option("--name", envvar=NAME, help=f"What reports call this machine.  [default: {NAME}, else the host name]")
@click.option("--once", is_flag=True, help="Ask once and end: 0 in step, 69 an error, 75 another process is writing.")
@JSON
def follow(
    target: str,
    origin: str | None,
    every: str,
    hints: str | None,
    name: str | None,
    once: bool,
    as_json: bool,
) -> None:
    """Serve what an origin has, whole or not at all.

    Fetches what this machine lacks whenever another one has sent a generation, and goes back when one rolls back.
    While the origin cannot be reached, what is served stays. A STORE that is not there yet is made.
    """
    seconds = parse_seconds(every, "--every", least=LEAST_EVERY_SECONDS)
    site = _site(target)
    sharing = sharing_of(site, origin, hints)
    sharing = Sharing(sharing.origin, sharing.hints, name or sharing.name)
    if once:
        _look_once(store_of(site), sharing, seconds, as_json)
    else:
        _run(store_of(site), sharing, seconds)


def _site(target: str) -> Hotpath | Store:
    """As the other commands, but for a path where nothing is yet."""
    is_new = bool(target) and ":" not in target and not os.path.lexists(target)
    return Store(target) if is_new else load_site_or_store(target)


def _look_once(store: Store, sharing: Sharing, every: float, as_json: bool) -> None:
    from hotpath.store.origin.follower import Follower
    from hotpath.store.origin.following import Witness

    lines: list[str] = []
    follower = Follower(store, origin_of(sharing), every=every, name=sharing.name)
    witness = Witness(follower, lambda text, is_problem: None if is_problem else lines.append(text))
    look = follower.look()
    witness.saw(look)
    if look.generation is None and look.error is None:
        lines.append(f"nothing is published at {follower.origin} yet")
    elif look.is_ahead:
        lines.append(
            f"generation {look.generation} of this machine is served, the origin has {look.origin_generation}: 'hotpath"
            " push' sends it"
        )
    elif not lines and look.error is None:
        lines.append(f"generation {look.generation} is served, as the origin says")
    if as_json or (look.error is None and not look.is_busy):
        show(look, lines, as_json)
    if look.error is not None:
        complain(f"hotpath: {look.error}")
        raise SystemExit(69)
    if look.is_busy:
        complain(f"hotpath: {store.root}: another process is changing this store; try again")
        raise SystemExit(75)


def _run(store: Store, sharing: Sharing, every: float) -> None:
    """Until a signal ends it, at once: what is half done on the disk is finished or removed by the next run."""
    from hotpath.store.origin.following import Following

    following = Following(store, sharing, every=every, report=_print_line)
    try:
        say(f"following {sharing.origin} every {every:g} s" + (", and at once by hints" if sharing.hints else ""))
        following.start()
        notify("READY=1", f"STATUS=following {sharing.origin}")
        threading.Event().wait()
    except KeyboardInterrupt:
        notify("STOPPING=1")
        if not following.stop(END_SECONDS):
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError):
                    stream.flush()
            os._exit(0)  # a thread in a request would keep the interpreter for as long as that takes


def _print_line(text: str, is_problem: bool) -> None:
    complain(f"hotpath: {text}") if is_problem else _say(text)


def _say(text: str) -> None:
    with suppress(OSError):  # it goes on, also where nobody reads along any more
        say(text)


@click.command(epilog="Example: hotpath push myapp:hot")
@STORE
@origin_option("Where to.")
@HINTS
@SITE_COPY
@click.option("--quiet", is_flag=True, help="Print only what is wrong, for cron.")
@JSON
def push(target: str, origin: str | None, hints: str | None, site_copy: bool, quiet: bool, as_json: bool) -> None:
    """Send the generation of this machine to the origin.

    As 'hotpath build' does; for one that could not be sent then, or was made by another command.
    """
    site = load_site_or_store(target)
    sharing = sharing_of(site, origin, hints, site_copy=site_copy)
    origin_of(sharing)  # raises where there is none
    shipping = Shipping(target, store_of(site), sharing, quiet=quiet)
    shipping.send()
    show(shipping.facts()["origin"], [] if quiet else shipping.lines(), as_json)
    shipping.finish()
