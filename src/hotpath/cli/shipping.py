"""A generation on its way from this machine to the origin, for the commands that publish."""

from __future__ import annotations

import base64
import pickle
from typing import TYPE_CHECKING

from hotpath.cli.origin import origin_of, send_hint
from hotpath.cli.output import warn
from hotpath.cli.progress import sending_progress
from hotpath.errors import HotpathError, IsolatedFailure, NotCopied, NothingPublished, NotSent, OriginConflict
from hotpath.options import counted, human_bytes, to_json
from hotpath.store.os_errors import explain
from hotpath.store.sharing import Sharing
from hotpath.store.store import Store

if TYPE_CHECKING:
    from hotpath.ops.alerts.alerts import Alerts
    from hotpath.store.origin.bucket import Seen
    from hotpath.store.origin.origin import Origin
    from hotpath.store.origin.send import Sent
    from hotpath.store.origin.site_copy import Copied

# Before a build this machine takes over what it lacks, in a child, which may be as large as a first pull.
PREPARE_SECONDS = 1800.0
PREPARE_BYTES = 4 * 1024**3


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
        except (OriginConflict, NothingPublished) as error:
            self.error = error
        except HotpathError as error:
            self.error = NotSent(self._published(), self._target, error)
        except OSError as error:
            self.error = NotSent(self._published(), self._target, explain(error, self._store.root))
        except KeyboardInterrupt:
            warn(
                [f"generation {self._published()} is published on this machine; 'hotpath push {self._target}' sends it"]
            )
            raise
        else:
            send_hint(self._sharing)
            self._copy(self._origin, self._sent.generation)
        finally:
            progress.finish()

    def _published(self) -> int:
        """What was to be sent: not always what is served, where a generation is pinned."""
        pointer = self._store.pointer(self._store.current_path)
        return pointer.sequence if pointer is not None else 0

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
        if sent.already:
            return [f"generation {sent.generation} is at {self._origin} already", *self._copy_lines()]
        files = f"{counted(sent.blobs, 'new file')}, {human_bytes(sent.bytes)}"
        return [f"sent generation {sent.generation} to {self._origin}: {files}", *self._copy_lines()]

    def _copy_lines(self) -> list[str]:
        copied = self._copied
        if copied is None:
            return []
        changes = f"{copied.put} of {counted(copied.pages, 'page')} put, {copied.removed} removed"
        return [f"the site copy is generation {copied.generation}: {changes}", *copied.notes]

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
