"""An origin: the object storage by which several machines serve the same generations."""

from __future__ import annotations

import random as random_module
import time
from collections.abc import Callable

from hotpath.store.origin.bucket import THREADS, Bucket, Seen
from hotpath.store.origin.changes import approve, pin, rollback, unpin
from hotpath.store.origin.directory import DirectoryObjects
from hotpath.store.origin.machines import MachineReport, read_reports
from hotpath.store.origin.objects import Objects, Retrying
from hotpath.store.origin.prune import DEFAULT_GRACE_SECONDS, OriginPruned, prune
from hotpath.store.origin.quarantine import quarantined, send_quarantined
from hotpath.store.origin.send import SendProgress, Sent, send
from hotpath.store.origin.site_copy import Copied, copy_site, update_copy
from hotpath.store.origin.url import OriginUrl
from hotpath.store.origin.verify import OriginVerification, verify
from hotpath.store.store import DEFAULT_KEEP, Store


class Origin:
    """A bucket and prefix that holds generations: ``s3://bucket/site?endpoint_url=https://…``, ``gs://``, ``az://``.

    Credentials are those of the environment or of the machine's role, as obstore finds them. ``str`` of an origin can
    be printed. ``objects`` takes the place of what the URL names; ``clock`` (seconds since the epoch), ``sleep``,
    ``random`` (0 to 1) and ``threads`` (requests at once) are for tests and simulations.

    Raises ``DeclarationError`` for a URL that cannot be used. All methods raise ``OriginError`` for what the engine
    does not do; requests that may be tried again were.
    """

    def __init__(
        self,
        url: str,
        *,
        objects: Objects | None = None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], object] = time.sleep,
        random: Callable[[], float] = random_module.random,
        threads: int = THREADS,
    ) -> None:
        parsed = OriginUrl.parse(url)
        self.url = str(parsed)
        self.clock = clock
        raw = objects if objects is not None else _open(parsed)
        self.bucket = Bucket(Retrying(raw, sleep=sleep, random=random), clock=clock, threads=threads)

    def __str__(self) -> str:
        return self.url

    def __repr__(self) -> str:
        return f"Origin({self.url!r})"

    def begin(self) -> Seen:
        """The pointers as they are now, for ``send``: to be read before a build begins."""
        return self.bucket.read()

    def send(self, store: Store, since: Seen | None = None, progress: SendProgress | None = None) -> Sent:
        """Make the store's current generation that of all machines; ``since`` is what ``begin`` returned.

        Raises ``OriginConflict`` (exit code 75) where another machine was first.
        """
        return send(self.bucket, store, since, progress)

    def rollback(
        self, to: int | None = None, reason: str = "rolled back by hand", *, pin: bool = True
    ) -> tuple[int, int]:
        """Let all machines go back to the generation before, or to ``to``, and pins it. Returns (from, to)."""
        return rollback(self.bucket, to, reason, pin=pin)

    def pin(self, sequence: int) -> None:
        """Let all machines serve this generation, whatever is published, until ``unpin``."""
        pin(self.bucket, sequence)

    def unpin(self) -> int | None:
        """Let all machines serve the newest accepted generation. Returns the one that was pinned, or ``None``."""
        return unpin(self.bucket)

    def send_quarantined(self, store: Store, sequence: int) -> None:
        """Send a generation that is in quarantine on this machine, for any machine to approve."""
        send_quarantined(self.bucket, store, sequence)

    def quarantined(self) -> list[int]:
        """The numbers of the generations that can be approved."""
        return quarantined(self.bucket)

    def approve(self, sequence: int, reason: str) -> None:
        """Release a generation that is in quarantine at the origin: all machines serve it."""
        approve(self.bucket, sequence, reason)

    def verify(self, store: Store | None = None) -> OriginVerification:
        """Read all accepted generations; with ``store``, put again what is damaged there and sound here."""
        return verify(self.bucket, store)

    def prune(self, keep: int = DEFAULT_KEEP, *, grace_seconds: float = DEFAULT_GRACE_SECONDS) -> OriginPruned:
        """Remove what is older than ``grace_seconds`` and named by no generation that is kept."""
        return prune(self.bucket, keep, grace_seconds)

    def copy_site(self, store: Store | None = None) -> Copied:
        """Keep what all machines serve as plain objects below ``pages/`` too, for a CDN: what has changed is put.

        ``store`` may have the bytes; they come from the origin otherwise. Raises ``DeclarationError`` where the origin
        is no bucket; interrupted or refused, the same again does the rest.
        """
        OriginUrl.parse(self.url).require_fields()
        return copy_site(self.bucket, store)

    def update_copy(self, store: Store | None = None) -> Copied | None:
        """The same where there is a copy, ``None`` where there is none: after a rollback, a pin, an approval."""
        return update_copy(self.bucket, store)

    def machines(self) -> list[MachineReport]:
        """The last report of each machine that follows this origin."""
        return read_reports(self.bucket)


def _open(url: OriginUrl) -> Objects:
    if url.scheme == "file":
        return DirectoryObjects(url)
    from hotpath.store.origin.obstore_objects import ObstoreObjects

    return ObstoreObjects(url)
