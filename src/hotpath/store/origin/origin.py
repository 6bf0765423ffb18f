"""An origin: the object storage by which several machines serve the same generations."""

from __future__ import annotations

import random as random_module
import time
from collections.abc import Callable

from hotpath.errors import DeclarationError
from hotpath.store.origin.bucket import THREADS, Bucket, Seen
from hotpath.store.origin.machines import MachineReport, read_reports
from hotpath.store.origin.objects import Objects, Retrying
from hotpath.store.origin.send import Sent, send
from hotpath.store.origin.site_copy import Copied, copy_site, update_copy
from hotpath.store.origin.url import OriginUrl
from hotpath.store.store import Store


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

    def send(self, store: Store, since: Seen | None = None) -> Sent:
        """Make the store's current generation that of all machines; ``since`` is what ``begin`` returned.

        Raises ``OriginConflict`` (exit code 75) where another machine was first.
        """
        return send(self.bucket, store, since)

    def copy_site(self, store: Store | None = None) -> Copied:
        """Keep what all machines serve as plain objects below ``pages/`` too, for a CDN: what has changed is put.

        ``store`` may have the bytes; they come from the origin otherwise. Raises ``DeclarationError`` where the origin
        is no bucket; interrupted or refused, the same again does the rest.
        """
        if self.url.startswith("file:"):
            raise DeclarationError(
                f"{self.url}: a site copy has header fields, which files have not; use s3://…, gs://… or az://…"
            )
        return copy_site(self.bucket, store)

    def update_copy(self, store: Store | None = None) -> Copied | None:
        """The same where there is a copy, ``None`` where there is none: after a rollback, a pin, an approval."""
        return update_copy(self.bucket, store)

    def machines(self) -> list[MachineReport]:
        """The last report of each machine that follows this origin."""
        return read_reports(self.bucket)


def _open(url: OriginUrl) -> Objects:
    from hotpath.store.origin.obstore_objects import ObstoreObjects

    return ObstoreObjects(url)
