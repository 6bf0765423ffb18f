"""What ASGI passes around."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Header = tuple[bytes, bytes]
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Any], Awaitable[None]]
# Whatever is called with (scope, receive, send): frameworks type the three in ways that fit no common signature.
ASGIApp = Callable[..., Awaitable[None]]
