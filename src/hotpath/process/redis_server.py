"""A Valkey or Redis server that processes share: its address, its client, its errors, a thread that listens."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from hotpath.errors import DeclarationError
from hotpath.process import after_fork

if TYPE_CHECKING:
    import redis

# Seconds after which a silent connection is asked whether it lives, and between two tries to connect.
PING_SECONDS = 5.0
RETRY_SECONDS = 1.0


def client_of(url: str, purpose: str, **options: Any) -> redis.Redis:
    """A client that tries each operation once. ``purpose`` is what it is for, in errors: "a shared cache".

    ``options`` are redis-py's. Raises ``DeclarationError`` where ``url`` is no address, or redis is not installed.
    """
    name = redacted(url)
    try:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError:
        raise DeclarationError(f"{purpose} needs redis: pip install 'asgi-hotpath[redis]'") from None
    check_address(url, purpose)
    options |= {
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,  # with 3, newer clients lengthen their timeouts when the server announces maintenance
    }
    try:
        return redis.Redis.from_url(url.replace("valkey", "redis", 1) if url.startswith("valkey") else url, **options)
    except ValueError as error:
        raise DeclarationError(f"{name}: {str(error).replace(url, name)}") from None


def check_address(url: object, purpose: str) -> None:
    """Raise ``DeclarationError`` where ``url`` is no address of a server; redis need not be installed for that."""
    example = "write redis://127.0.0.1:6379/0"
    if not isinstance(url, str):
        raise DeclarationError(f"{url!r} is no address of {purpose}; {example}")
    name = redacted(url)
    if not url.startswith(("redis://", "rediss://", "unix://", "valkey://", "valkeys://")):
        raise DeclarationError(f"{name!r} is no address of {purpose}; {example}")
    try:
        parts = urlsplit(url)
        is_whole = bool(parts.path.strip("/") if parts.scheme == "unix" else parts.hostname) and parts.port != 0
    except ValueError:
        is_whole = False
    if not is_whole:
        raise DeclarationError(f"{name!r} is no whole address of {purpose}; {example}")


def redacted(url: str) -> str:
    """An address without its password, and without what follows a question mark."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "…"
    if "@" in url[url.find(parts.netloc) + len(parts.netloc) :]:  # a password with a slash, '?' or '#' ends no host
        return f"{parts.scheme}://…"
    return f"{parts.scheme}://{host}{parts.path}"


def reason(error: Exception, rights: str) -> str:
    """The first line of an error of the server or the socket, and what to do where that is known.

    ``rights`` says what a user of the server needs: "GET and SET on its prefix".
    """
    text = (str(error).splitlines() or [""])[0][:200]
    advice = {
        "without any password": "; this server has no password: take it out of the address",
        "OOM command": "; write maxmemory-policy allkeys-lru in its configuration",
        "READONLY": "; this is a replica: write the primary's address",
        "DB index": "; its databases are numbered 0 to 15",
        "NoPermission": f"; the user needs {rights}",
        "Authentication": "; user or password is wrong or missing: write redis://USER:PASSWORD@host",
    }
    line = f"{type(error).__name__}: {text}"
    return line + next((advice[mark] for mark in advice if mark in line), "")


class Listener:
    """One thread, from ``start`` on, that subscribes to ``channel`` and calls ``on_message`` with what it hears.

    A message that was sent while nobody listened is lost, so ``on_subscribed`` is called whenever a subscription
    begins; ``on_lost`` with the error whenever it ends, or cannot begin.
    """

    def __init__(
        self,
        client: redis.Redis,
        channel: str,
        *,
        on_message: Callable[[str], None],
        on_subscribed: Callable[[], None],
        on_lost: Callable[[Exception], None] | None = None,
    ) -> None:
        self._client = client
        self._channel = channel
        self._on_message = on_message
        self._on_subscribed = on_subscribed
        self._on_lost = on_lost
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
                self._thread = threading.Thread(target=self._run, name="hotpath-listener", daemon=True)
                try:
                    self._thread.start()
                except RuntimeError:  # no more threads in this process: the caller's own looks have to do
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
            except Exception as error:  # gone, refused, or no right to subscribe
                self.listens.clear()
                if self._on_lost is not None and self._thread is me:
                    self._on_lost(error)
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
                    self._on_subscribed()
                    self.listens.set()
                elif message["type"] == "message":
                    self._on_message(bytes(message["data"]).decode("ascii", "replace"))
