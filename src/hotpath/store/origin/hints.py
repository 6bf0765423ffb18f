"""Hints by Valkey or Redis: a builder says that there is something new, followers look at once."""

from __future__ import annotations

import threading

from hotpath.errors import DeclarationError
from hotpath.log import Once
from hotpath.process.redis_server import Listener, client_of, reason, redacted

# Seconds that an operation may take. A builder that cannot send its hint in that time leaves it.
TIMEOUT_SECONDS = 2.0
_RIGHTS = "PUBLISH and SUBSCRIBE on the channel {channel}"


class Hints:
    """A server that carries hints: ``redis://host:6379/0``, ``rediss://…``, ``unix:///path``. None is connected to yet.

    ``prefix`` keeps sites apart that share a server. A hint carries no data and is not believed: it only wakes a
    follower, which then asks the origin. Without the server followers ask as often as they do anyway. Raises
    ``DeclarationError``.
    """

    def __init__(self, url: str, prefix: str = "hotpath") -> None:
        if not prefix or any(character.isspace() for character in prefix):
            raise DeclarationError(f"prefix={prefix!r}: write a word, such as the site's name")
        self.name = redacted(url)
        self.channel = f"{prefix}:generations"
        self._client = client_of(
            url, "a server of hints", socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS
        )
        self._wakeups: tuple[threading.Event, ...] = ()
        self._once = Once()
        self._listener = Listener(
            self._client,
            self.channel,
            on_message=lambda _: self._wake(),
            on_subscribed=self._subscribed,
            on_lost=lambda error: self._warn("followers ask at their interval", error),
        )

    def __repr__(self) -> str:
        return f"Hints({self.name!r})"

    @property
    def listens(self) -> bool:
        """Whether a hint that is sent now would be received here."""
        return self._listener.listens.is_set()

    def announce(self) -> int | None:
        """Wake whoever listens: how many do, or ``None`` where no hint could be sent, with a line in the log."""
        try:
            listeners = int(self._client.publish(self.channel, b""))
        except Exception as error:  # whatever the client raises: the generation is published already
            self._warn("no hint was sent", error)
            return None
        self._once.forget("lost")
        return listeners

    def problem(self) -> str | None:
        """Why no hint can be sent, by sending one; ``None`` where it can."""
        try:
            self._client.publish(self.channel, b"")
        except Exception as error:  # as above
            return reason(error, _RIGHTS.format(channel=self.channel))
        return None

    def subscribe(self, wakeup: threading.Event) -> None:
        """Set ``wakeup`` at each hint, and whenever a lost connection is there again. Again after a fork."""
        if wakeup not in self._wakeups:
            self._wakeups = (*self._wakeups, wakeup)
        self._listener.start()

    def close(self) -> None:
        """End the thread and the connections."""
        self._listener.stop()
        self._client.close()

    def _subscribed(self) -> None:
        self._once.forget("lost")
        self._wake()

    def _wake(self) -> None:
        for wakeup in self._wakeups:
            wakeup.set()

    def _warn(self, consequence: str, error: Exception) -> None:
        rights = _RIGHTS.format(channel=self.channel)
        self._once.warn(f"hints by {self.name} do not work ({reason(error, rights)}); {consequence}", "lost")
