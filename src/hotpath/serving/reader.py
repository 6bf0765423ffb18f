"""The read side of a site in this process: made once for a ``Hotpath``, however many middlewares ask for it."""

from __future__ import annotations

import functools
import threading
import weakref

from hotpath.log import Once
from hotpath.pages.site_wide import SiteWide
from hotpath.process import after_fork
from hotpath.serving.loader import Loader
from hotpath.serving.loading_thread import LoadingThread
from hotpath.serving.snapshot import Page, Snapshot
from hotpath.serving.watcher import Watcher
from hotpath.site import Hotpath

# Files of other programs must be seen twice before they count, and be served within two seconds.
DIRECTORY_REFRESH_SECONDS = 0.5


class Reader:
    """What this process serves of a site, kept current by one thread. Safe to use from any thread.

    ``reader_of(hot)`` gives the one that the middleware uses. ``loader`` has the figures of what is loaded.
    """

    def __init__(self, hot: Hotpath) -> None:
        self.once = Once()
        self._hot = weakref.ref(hot)  # a reader lives as long as its key in ``_readers``, so it must not hold that
        self._thread = LoadingThread()
        self.loader = Loader(
            hot.store,
            hot.directories,
            hot.reading,
            pause=self._thread.pause,
            on_site=functools.partial(_apply, self._hot) if hot.follows_store else None,
        )
        self._watcher = Watcher(self.refresh, functools.partial(_interval, self._hot))
        self._is_started = False
        after_fork.register(self)

    @property
    def snapshot(self) -> Snapshot:
        """What this process serves now; empty before the first load."""
        return self.loader.snapshot

    @property
    def is_started(self) -> bool:
        """Whether the first load has happened in this process."""
        return self._is_started

    def start(self) -> None:
        """Load what there is and keep it current from now on. Idempotent; blocks while loading, so not for a loop.

        The log says once where the loaded generation has no page of a declared route, or a directory has no file.
        """
        self._thread.run(self._start)
        hot = self._hot()
        if hot is None:
            return
        built = self.loader.built_routes
        missing = [route for route in hot.routes if route.path.text not in built] if built else []
        if missing:
            more = f" and {len(missing) - 1} more declared routes" if len(missing) > 1 else ""
            self.once.warn(
                f"generation {self.snapshot.generation} has no page of {missing[0].path.text!r}{more}"
                f" ({missing[0].where}), so the app answers; run 'hotpath build TARGET' with the Hotpath object that"
                " declares it"
            )
        for directory in hot.directories:
            if problem := directory.problem():
                self.once.warn(problem)

    def close(self) -> None:
        """Stop watching and let the generation be pruned; the snapshot stays."""
        self._watcher.stop()
        self.loader.release()
        self._thread.close()

    def refresh(self) -> bool:
        """Look at the store and the directories now; whether a new snapshot is in place. Blocks, so not for a loop."""
        return self._thread.run(self.loader.look)

    def load_page(self, key: bytes) -> Page | None:
        """The page of one key, read from disk where it is not in memory. Blocks, so not for a loop.

        ``None`` where no valid bytes exist anywhere; the key is taken out then.
        """
        return self._thread.run_soon(self.loader.load_page, key)

    def restart_after_fork(self) -> None:
        """Start anew with the first request, if one ever comes: most children never serve."""
        self._thread.restart_after_fork()
        self._watcher.stop()
        self._is_started = False
        self.loader.restart_after_fork()

    def _start(self) -> None:
        if not self._is_started:
            self.loader.load_first()
        self._watcher.start()
        self._is_started = True


# Neither holds the reader: the loader and the watcher's thread have them.
def _apply(of: weakref.ref[Hotpath], site: SiteWide) -> None:
    if (hot := of()) is not None:
        hot.apply(site)


def _interval(of: weakref.ref[Hotpath]) -> float:
    hot = of()
    seconds = hot.reading.refresh_seconds if hot is not None else DIRECTORY_REFRESH_SECONDS
    return min(seconds, DIRECTORY_REFRESH_SECONDS) if hot is not None and hot.directories else seconds


_readers: weakref.WeakKeyDictionary[Hotpath, Reader] = weakref.WeakKeyDictionary()
_making = threading.Lock()


def reader_of(hot: Hotpath) -> Reader:
    """The read side of ``hot`` in this process, made when it is first asked for."""
    reader = _readers.get(hot)
    if reader is None:
        with _making:
            reader = _readers.get(hot)
            if reader is None:
                reader = _readers[hot] = Reader(hot)
    return reader
