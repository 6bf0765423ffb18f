"""The way to the server: given up when it is slow or gone, and tried again beside the requests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from hotpath.log import Once
from hotpath.process import after_fork
from hotpath.process.redis_server import client_of, reason, redacted

if TYPE_CHECKING:
    import redis

T = TypeVar("T")

# No call waits longer than this for the server in all. An operation begins only while there is room for all of it.
BUDGET_SECONDS = 0.05
OPERATION_SECONDS = 0.025
# Failures in a row after which the server is left alone.
MAX_FAILURES = 3
# Seconds between two looks at a server that is left alone.
RETRY_SECONDS = 1.0
MAX_CONNECTIONS = 64
# What a user of the server has to be allowed.
RIGHTS = "GET, STRLEN, SET, DEL, PTTL, EVAL, PUBLISH and SUBSCRIBE on its prefix"
# Answers after which the next operation would fail too, though reading may still go well.
_REFUSALS = ("OutOfMemoryError", "ReadOnlyError", "NoPermissionError", "AuthenticationError")


class Budget:
    """What one call may still wait for the server, in seconds."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = BUDGET_SECONDS


class ServerUnavailable(Exception):
    """The server is left alone, or the operation failed: the caller goes on without."""


class Link:
    """A server by its address. Raises ``DeclarationError`` where ``url`` is none, or redis is not installed.

    A thread connects, and asks again while the server is left alone; what callers see is ``is_up``.
    """

    def __init__(self, url: str, probe: str, on_change: Callable[[], None], clock: Callable[[], float]) -> None:
        self.name = redacted(url)
        self.client = client_of(
            url,
            "a shared cache",
            socket_timeout=OPERATION_SECONDS,
            socket_connect_timeout=OPERATION_SECONDS,
            max_connections=MAX_CONNECTIONS,
        )
        self._failures = 0
        self._probe = probe
        self._on_change = on_change
        self._clock = clock
        self._once = Once()
        self.restart_after_fork()
        after_fork.register(self)

    def restart_after_fork(self) -> None:
        """The child connects anew: it has none of its parent's threads."""
        self._lock = threading.Lock()
        self._is_up = False
        self._was_tried = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def is_up(self) -> bool:
        """Whether the server may be asked now. The first caller waits for the first try, within the budget."""
        if not self._is_up:
            self._start()
            if not self._was_tried.is_set():
                self._was_tried.wait(BUDGET_SECONDS)
        return self._is_up

    def run(self, operation: Callable[[redis.Redis], T], budget: Budget) -> T:
        """What ``operation`` of the client returns, which may run again after a failure, while the budget has room.

        Raises ``ServerUnavailable``.
        """
        while budget.left >= OPERATION_SECONDS and self.is_up:
            began = self._clock()
            try:
                result = operation(self.client)
            except Exception as error:  # whatever the client raises
                self._failed(error)
            else:
                self._failures = 0
                return result
            finally:
                budget.left -= self._clock() - began
        raise ServerUnavailable

    def close(self) -> None:
        """End the thread and the connections."""
        with self._lock:
            self._is_up, self._thread = False, None
        self.client.close()

    def _failed(self, error: Exception) -> None:
        if "Too many connections" in str(error):  # our own maximum
            return
        self._failures += 1
        if type(error).__name__ in _REFUSALS or self._failures >= MAX_FAILURES:
            self._leave_alone(error)

    def _leave_alone(self, error: Exception) -> None:
        with self._lock:
            if not self._is_up:
                return
            self._is_up = False
        self._once.warn(
            f"the shared cache {self.name} is left alone ({reason(error, RIGHTS)}); "
            "each process goes on with its own cache",
            "lost",
        )
        self._on_change()
        self._start()

    def _start(self) -> None:
        with self._lock:
            if self._is_up or (self._thread is not None and self._thread.is_alive()):
                return
            self._thread = threading.Thread(target=self._connect, name="hotpath-shared-cache", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # no more threads in this process
                self._thread = None

    def _connect(self) -> None:
        """Try until the server takes a write: one that is full or read-only is of no use."""
        me = threading.current_thread()
        while self._thread is me:
            try:
                self._try()
            except Exception as error:
                self._once.warn(
                    f"the shared cache {self.name} cannot be used ({reason(error, RIGHTS)}); "
                    "each process goes on with its own cache",
                    "lost",
                )
                self._was_tried.set()
                time.sleep(RETRY_SECONDS)
            else:
                with self._lock:
                    self._is_up, self._thread, self._failures = True, None, 0
                self._once.forget("lost")
                self._was_tried.set()
                return

    def _try(self) -> None:
        """Everything that is needed later; a server that allows a part of it would fail in a request."""
        with self.client.pipeline(transaction=False) as batch:
            batch.set(self._probe, b"1", px=1000)
            batch.eval("return redis.call('pttl', KEYS[1])", 1, self._probe)
            batch.publish(self._probe, b"")
            batch.execute()
