"""What commands share that work with an origin: options, and where it is decided what a site serves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hotpath.cli.output import warn
from hotpath.errors import DeclarationError, HotpathError
from hotpath.site import Hotpath
from hotpath.store.follow_record import read_record
from hotpath.store.sharing import OFF, Sharing
from hotpath.store.store import Store

if TYPE_CHECKING:
    from hotpath.store.origin.origin import Origin

_Command = TypeVar("_Command", bound=Callable[..., Any])
_Result = TypeVar("_Result")

# Given as --origin without a URL.
DECLARED = "declared"

HINTS = click.option(
    "--hints", metavar="URL", help="Valkey or Redis for hints; better HOTPATH_HINTS, which no list shows."
)


SITE_COPY = click.option(
    "--site-copy", is_flag=True, help="Keep the pages at the origin as plain objects too, for a CDN."
)


def origin_option(meaning: str) -> Callable[[_Command], _Command]:
    """``--origin URL``. ``meaning`` is its help."""
    return click.option("--origin", metavar="URL|off", help=f"{meaning}  [default: HOTPATH_ORIGIN, else as declared]")


def origin_flag(meaning: str) -> Callable[[_Command], _Command]:
    """``--origin [URL]``, for commands that are about this machine without it."""
    return click.option(
        "--origin", metavar="[URL]", is_flag=False, flag_value=DECLARED, help=f"{meaning} Write it last, or with a URL."
    )


def sharing_of(
    site: Hotpath | Store, origin: str | None = None, hints: str | None = None, *, site_copy: bool = False
) -> Sharing:
    """What holds for a command. Raises ``DeclarationError``."""
    declared = site.sharing if isinstance(site, Hotpath) else Sharing()
    sharing = declared.effective(None if origin == DECLARED else origin, hints)
    if not site_copy:
        return sharing
    if sharing.origin is None:
        raise DeclarationError(
            "--site-copy keeps pages at an origin, and there is none; give --origin s3://bucket/site"
        )
    return replace(sharing, site_copy=True)


def store_of(site: Hotpath | Store) -> Store:
    return site.store if isinstance(site, Hotpath) else site


def origin_of(sharing: Sharing) -> Origin:
    """The origin, with obstore. Raises ``DeclarationError`` where there is none."""
    from hotpath.store.origin.following import origin_of as make  # an extra, which most commands do without

    return make(sharing)


def send_hint(sharing: Sharing) -> None:
    """Wake the machines that follow; where that fails they ask all the same."""
    from hotpath.store.origin.following import hints_of

    hints = hints_of(sharing)
    if hints is not None:
        hints.announce()
        hints.close()


class Served:
    """Where it is decided what a site serves: at its origin, for all machines, or on this machine alone.

    Raises ``DeclarationError`` for addresses that cannot be used.
    """

    def __init__(self, site: Hotpath | Store, origin: str | None, hints: str | None) -> None:
        self.store = store_of(site)
        self._is_off = origin == OFF
        self._sharing = sharing_of(site, origin, hints)
        self._origin = origin_of(self._sharing) if self._sharing.origin is not None else None
        self.place = f" at {self._origin}" if self._origin else ""
        self.when = "running servers follow within two seconds"
        if self._origin is not None:
            self.when = "every machine follows when it asks next" + (
                ", at once by hints" if self._sharing.hints else ""
            )
        self.facts: dict[str, object] = {"origin": str(self._origin)} if self._origin else {}

    def change(self, here: Callable[[Store], _Result], there: Callable[[Origin], _Result]) -> _Result:
        """Make the change where it counts; a machine that follows goes after the origin, and not its own way."""
        if self._origin is None:
            result = here(self.store)
            record = read_record(self.store)
            if record is not None and not record.is_silent(self.store.clock()):
                hint = "" if self._is_off else f"; write --origin {record.origin} to change it there"
                warn([f"this machine follows {record.origin}, which undoes this at its next change{hint}"])
            return result
        result = there(self._origin)
        send_hint(self._sharing)
        self._take_over(self._origin)
        self._update_copy(self._origin)
        return result

    def _update_copy(self, origin: Origin) -> None:
        """What machines serve from now on is what a CDN gets without them, where there is a copy for it."""
        try:
            origin.update_copy(self.store)
        except HotpathError as error:
            warn([f"the site copy was not brought up to this: {error}; then run 'hotpath push TARGET --site-copy'"])

    def _take_over(self, origin: Origin) -> None:
        """Follow at once on this machine, where the command was run."""
        if not self.store.root.is_dir():
            return
        from hotpath.store.origin.follower import Follower
        from hotpath.store.origin.following import Witness

        record = read_record(self.store)
        if record is None or record.origin != origin.url:
            look = Follower(self.store, origin, reports=False).look()
        else:  # what follows here has not seen it yet, and status asks for it at once
            follower = Follower(self.store, origin, every=record.every, name=record.name, reports=False)
            look = follower.look()
            Witness(follower, lambda text, is_problem: None).saw(look)
        if look.error is not None:
            warn([f"it is changed there, and this machine does not follow yet: {look.error}"])

    def generation(self) -> int | None:
        """What has to be served now."""
        if self._origin is None:
            return self.store.chosen_sequence()
        chosen = self._origin.begin().state.chosen
        return chosen.sequence if chosen is not None else None
