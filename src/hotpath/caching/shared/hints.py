"""Hears what other processes have forgotten, and lets this one's copies go too."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from hotpath.process import after_fork

if TYPE_CHECKING:
    import redis

# Seconds after which a silent connection is asked whether it lives, and between two tries to connect.
PING_SECONDS = 5.0
RETRY_SECONDS = 1.0


class Listener:
    """One thread, from the first value on, that subscribes to ``channel`` and calls ``forget``.

    A message that was sent while nobody listened is lost, so ``forget_all`` is called whenever the connection was.
    """

    def __init__(
        self,
        client: redis.Redis,
        channel: str,
        forget: Callable[[str], None],
        forget_all: Callable[[], None],
    ) -> None:
        self._client = client
        self._channel = channel
        self._forget = forget
        self._forget_all = forget_all
        self.restart_after_fork()
        after_fork.register(self)

    def restart_after_fork(self) -> None:
        """The child subscribes anew."""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self.listens = threading.Event()

    def start(self) -> None:
        """Listen from now on."""
        if self._thread is not None:
            return
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="hotpath-shared-hints", daemon=True)
                try:
                    self._thread.start()
                except RuntimeError:  # no more threads in this process: copies live as long as their ttl
                    self._thread = None

    def stop(self) -> None:
        """Listen no more."""
        with self._lock:
            self._thread = None

    def _run(self) -> None:
        me = threading.current_thread()
        while self._thread is me:
            try:
                self._listen(me)
            except Exception:  # gone, refused, or no right to subscribe: the link says why
                self.listens.clear()
                time.sleep(RETRY_SECONDS)

    def _listen(self, me: threading.Thread) -> None:
        with self._client.pubsub() as subscription:  # type: ignore[no-untyped-call]
            subscription.subscribe(self._channel)
            heard = time.monotonic()
            while self._thread is me:
                message = subscription.get_message(timeout=PING_SECONDS / 2)
                if message is None:
                    if time.monotonic() - heard > 2 * PING_SECONDS:
                        raise ConnectionError("no answer to a ping")
                    if time.monotonic() - heard > PING_SECONDS:
                        subscription.ping()
                    continue
                heard = time.monotonic()
                if message["type"] == "subscribe":
                    self._forget_all()
                    self.listens.set()
                elif message["type"] == "message":
                    self._forget(bytes(message["data"]).decode("ascii", "replace"))
