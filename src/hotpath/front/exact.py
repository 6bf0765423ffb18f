"""uvicorn's protocol, with requests exactly as they came: what ASGI loses would be lost for the app behind the front.

uvicorn with httptools takes the trailers of a chunked body for fields of the request, so that a proxy before the front
could not keep a field for itself; and a target that ends with ``?``, or names a host, is another one in ASGI's words.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from hotpath.front.fields import TARGET


class ExactProtocol(HttpToolsProtocol):
    """Drops trailers (RFC 9110 §6.5.1), and leaves the target as it was written in the scope."""

    _is_past_head = False

    def on_message_begin(self) -> None:
        """A request begins."""
        self._is_past_head = False
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head, or a trailer."""
        if not self._is_past_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The app is about to be called."""
        self._is_past_head = True
        self.scope[TARGET] = self.url  # type: ignore[typeddict-unknown-key] # beside what ASGI has
        super().on_headers_complete()
