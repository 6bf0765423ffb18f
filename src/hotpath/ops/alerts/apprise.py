"""An alert by any of the services that apprise knows (an extra: ``pip install 'asgi-hotpath[alerts]'``)."""

from __future__ import annotations

from dataclasses import dataclass

from hotpath.errors import DeclarationError, Unreachable
from hotpath.ops.alerts.message import RESOLVED, TEST, Message
from hotpath.ops.http import within
from hotpath.ops.secret import Secret

TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Apprise:
    """Send to one apprise URL; ``number`` tells several apart. Raises ``DeclarationError`` without the URL in it."""

    url: Secret
    number: int = 1
    timeout_seconds: float = TIMEOUT_SECONDS

    def __post_init__(self) -> None:
        try:
            import apprise
        except ImportError:
            raise DeclarationError("an apprise URL needs an extra: pip install 'asgi-hotpath[alerts]'") from None
        if not apprise.Apprise().add(self.url.reveal()):
            raise DeclarationError(f"apprise URL {self.number} ({self._scheme}) is none that apprise knows")

    @property
    def name(self) -> str:
        return f"apprise {self.number} ({self._scheme})"

    @property
    def _scheme(self) -> str:
        # In tgram://token/chat even the host is a secret.
        return self.url.reveal().partition("://")[0] + "://***"

    def send(self, message: Message) -> str | None:
        """Deliver. Raises ``Unreachable``."""
        import apprise

        kind = apprise.NotifyType.SUCCESS if message.event == RESOLVED else apprise.NotifyType.FAILURE
        kind = apprise.NotifyType.INFO if message.event == TEST else kind
        service = apprise.Apprise()
        service.add(self.url.reveal())
        try:
            taken = within(
                self.timeout_seconds,
                lambda: service.notify(title=message.subject, body=message.text, notify_type=kind),
                lambda: None,
            )
        except TimeoutError:
            raise Unreachable(self.name, f"not done within {self.timeout_seconds:g} s") from None
        if not taken:
            raise Unreachable(self.name, "apprise could not deliver; its log (logger 'apprise') says why")
        return None
