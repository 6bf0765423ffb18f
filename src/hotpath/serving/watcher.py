"""The thread that keeps a process current."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable

from hotpath.log import logger


class Watcher:
    """Calls the method ``look`` every ``pause()`` seconds, in a daemon thread, the first time after a pause.

    So a new generation is found without a restart, without a request having to look, and without any lifespan
    protocol. The thread ends when the watcher is stopped, or when the object whose method it calls is gone.
    """

    def __init__(self, look: Callable[[], object], pause: Callable[[], float]) -> None:
        self._look = weakref.WeakMethod(look)
        self._pause = pause
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread where none runs. Raises ``RuntimeError`` where the process can have no more threads."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="hotpath", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:
                self._thread = None
                raise

    def stop(self) -> None:
        """Let the thread end at its next look. Also in a forked child, which has no thread."""
        self._thread = None

    def _run(self) -> None:
        while True:
            time.sleep(self._pause())  # whoever starts it has looked
            if self._thread is not threading.current_thread():
                return
            look = self._look()
            if look is None:
                return
            try:
                look()
            except Exception:  # the watcher must outlive any surprise, or a site would silently stay on old pages
                logger.exception("hotpath: refreshing failed, will try again in %s s", self._pause())
            del look
