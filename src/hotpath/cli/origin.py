"""What commands share that work with an origin: options, the pointers before a build, sending, hints."""

from __future__ import annotations

import base64
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hotpath.cli.output import warn
from hotpath.cli.progress import sending_progress
from hotpath.errors import DeclarationError, HotpathError, IsolatedFailure, NotCopied, NotSent, OriginConflict
from hotpath.options import counted, human_bytes, to_json
from hotpath.site import Hotpath
from hotpath.store.follow_record import read_record
from hotpath.store.sharing import OFF, Sharing
from hotpath.store.store import Store

if TYPE_CHECKING:
    from hotpath.ops.alerts.alerts import Alerts
    from hotpath.store.origin.bucket import Seen
    from hotpath.store.origin.origin import Origin
    from hotpath.store.origin.send import Sent
    from hotpath.store.origin.site_copy import Copied

_Command = TypeVar("_Command", bound=Callable[..., Any])
_Result = TypeVar("_Result")

# Before a build this machine takes over what it lacks, in a child, which may be as large as a first pull.
PREPARE_SECONDS = 1800.0
PREPARE_BYTES = 4 * 1024**3

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


def _send_hint(sharing: Sharing) -> None:
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
        _send_hint(self._sharing)
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

        look = Follower(self.store, origin, reports=False).look()
        if look.error is not None:
            warn([f"it is changed there, and this machine does not follow yet: {look.error}"])

    def generation(self) -> int | None:
        """What has to be served now."""
        if self._origin is None:
            return self.store.chosen_sequence()
        chosen = self._origin.begin().state.chosen
        return chosen.sequence if chosen is not None else None


class Shipping:
    """Brings what a command publishes on this machine to the origin; where there is none, nothing of it does anything.

    ``target`` is what the user called the store. Raises ``DeclarationError`` for addresses that cannot be used.
    """

    def __init__(self, target: str, store: Store, sharing: Sharing, *, quiet: bool = False) -> None:
        self._target = target
        self._store = store
        self._sharing = sharing
        self._quiet = quiet
        self._origin: Origin | None = None
        # The pointers as they were before anything was built.
        self._seen: Seen | None = None
        self._sent: Sent | None = None
        self._copied: Copied | None = None
        self.error: HotpathError | None = None
        if sharing.origin is not None:
            from hotpath.store.origin.following import hints_of

            self._origin = origin_of(sharing)
            hints_of(sharing)

    def prepare(self) -> None:
        """Read the origin's pointers before anything is built, and take over what this machine lacks.

        An origin that does not answer is a warning: it may when there is something to send.
        """
        if self._origin is None:
            return
        from hotpath.process.fork import run_isolated

        try:
            # In a child: obstore has threads, and beside threads the batch could not fork its workers.
            facts = run_isolated(self._look, timeout_seconds=PREPARE_SECONDS, memory_bytes=PREPARE_BYTES)
        except IsolatedFailure as failure:
            facts = {"problem": f"{self._origin}: reading it {failure}"}
        if problem := facts["problem"]:
            warn([f"{problem}; this goes on, and the origin is asked again when there is something to send"])
        else:
            self._seen = pickle.loads(base64.b64decode(facts["seen"]))

    def _look(self) -> dict[str, str | None]:
        """In the child."""
        from hotpath.store.origin.follower import Follower

        assert self._origin is not None
        try:
            problem = Follower(self._store, self._origin, reports=False).look().error
            seen = None if problem else base64.b64encode(pickle.dumps(self._origin.begin())).decode("ascii")
        except HotpathError as error:
            return {"problem": str(error)}
        return {"problem": problem, "seen": seen}

    def send(self) -> None:
        """Send what is published here, then a hint. What fails is in ``error``, for ``finish``."""
        if self._origin is None:
            return
        progress = sending_progress(quiet=self._quiet)
        try:
            self._sent = self._origin.send(self._store, self._seen, progress)
        except OriginConflict as conflict:
            self.error = conflict
        except HotpathError as error:
            self.error = NotSent(self._store.chosen_sequence(), self._target, error)
        else:
            _send_hint(self._sharing)
            self._copy(self._origin, self._sent.generation)
        finally:
            progress.finish()

    def _copy(self, origin: Origin, generation: int) -> None:
        """Keep the copy of the site: where that was asked for, and where somebody has begun one."""
        update = origin.copy_site if self._sharing.site_copy else origin.update_copy
        try:
            self._copied = update(self._store)
        except HotpathError as error:
            self.error = NotCopied(generation, self._target, error)
        else:
            warn(self._copied.warnings if self._copied else [])

    def send_quarantined(self, sequence: int) -> None:
        """Send what failed validation, so that it can be approved on any machine."""
        if self._origin is not None:
            try:
                self._origin.send_quarantined(self._store, sequence)
            except HotpathError as error:
                warn([f"generation {sequence} can be approved on this machine alone: {error}"])

    def facts(self) -> dict[str, object]:
        """For ``--json``."""
        if self._origin is None:
            return {}
        sent = self._sent
        return {
            "origin": {
                "url": str(self._origin),
                "generation": sent.generation if sent else None,
                "already": sent.already if sent else False,
                "blobs": sent.blobs if sent else 0,
                "bytes": sent.bytes if sent else 0,
                "problem": str(self.error) if self.error else None,
                "site_copy": to_json(self._copied) if self._copied else None,
            }
        }

    def lines(self) -> list[str]:
        """What was sent, for people."""
        sent = self._sent
        if sent is None:
            return []
        files = f"{counted(sent.blobs, 'new file')}, {human_bytes(sent.bytes)}"
        said = [
            f"generation {sent.generation} is at {self._origin} already"
            if sent.already
            else f"sent generation {sent.generation} to {self._origin}: {files}"
        ]
        if (copied := self._copied) is not None:
            changes = f"{copied.put} of {counted(copied.pages, 'page')} put, {copied.removed} removed"
            said += [f"the site copy is generation {copied.generation}: {changes}", *copied.notes]
        return said

    def finish(self, alerts: Alerts | None = None) -> None:
        """Raise what went wrong, ``OriginConflict``, ``NotSent`` or ``NotCopied``, and alert of it."""
        if self._origin is None:
            return
        if self.error is None:
            if alerts is not None:
                warn(alerts.resolved(self._store, "origin", f"the generation is at {self._origin}"))
            return
        if alerts is not None:
            warn(alerts.failed(self._store, self.error, "origin"))
        raise self.error
