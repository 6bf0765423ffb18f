"""An app behind the guard's measure: its request's body is counted while it arrives."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from hotpath.guard.refusal import Refusal
from hotpath.types import ASGIApp, Message, Receive, Scope, Send


class Metered:
    """An app that gets no more of a body than there is room for, and no request before there is room for it.

    ``wait`` is awaited before the app is called, ``take`` is called with each message of a body: both say whether to go
    on. ``refuse`` gives the answer, by the reason, where they say no: it is sent in the app's place, unless the app has
    begun to answer. The app then sees a client that has gone.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        wait: Callable[[], Awaitable[bool]],
        take: Callable[[Message], bool],
        refuse: Callable[[str], Refusal],
    ) -> None:
        self._app = app
        self._wait = wait
        self._take = take
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        has_begun = is_refused = is_cut = False

        async def metered_receive() -> Message:
            nonlocal is_refused, is_cut
            if not is_cut:
                message = await receive()
                if message["type"] != "http.request" or self._take(message):
                    return message
                is_cut, is_refused = True, not has_begun
                if is_refused:
                    await self._refuse("body").send(scope, send)
            return {"type": "http.disconnect"}

        async def metered_send(message: Message) -> None:
            nonlocal has_begun
            if not is_refused:
                has_begun = True
                await send(message)

        if not await self._wait():
            await self._refuse("cost").send(scope, send)
            return
        try:
            await self._app(scope, metered_receive, metered_send)
        except Exception:
            if not is_cut:  # else it is what the app says of a client that has gone
                raise
