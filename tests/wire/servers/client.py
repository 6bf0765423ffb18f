"""A client that shows what is on the wire: it sends bytes as they are and reads one answer after the other."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Self

from hotpath.testing import Response


class ConnectionEnded(Exception):
    """The server closed the connection before the answer was whole."""


@dataclass
class Connection:
    """One connection; ``read`` takes the next answer off it."""

    port: int
    timeout_seconds: float = 10.0

    def __post_init__(self) -> None:
        self._socket = socket.create_connection(("127.0.0.1", self.port), timeout=self.timeout_seconds)
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def ask(self, data: bytes) -> Response:
        """Send one request and read its answer."""
        self.send(data)
        return self.read(head=data.startswith(b"HEAD "))

    def read(self, *, head: bool = False) -> Response:
        """The next final answer. Raises ``ConnectionEnded``."""
        while True:
            lines = self.read_until(b"\r\n\r\n").split(b"\r\n")
            version, status, *_ = lines[0].split(b" ", 2)
            assert version in (b"HTTP/1.1", b"HTTP/1.0"), lines[0]
            headers = []
            for line in lines[1:]:
                name, colon, value = line.partition(b":")
                assert colon, f"{line!r} is no field"
                headers.append((name.lower(), value.strip(b" \t")))
            if int(status) >= 200:
                return Response(int(status), headers, self._body(int(status), headers, head))

    def is_quiet(self, seconds: float = 0.2) -> bool:
        """Whether nothing else comes: no byte is left over from an answer."""
        if self._buffer:
            return False
        self._socket.settimeout(seconds)
        try:
            return self._socket.recv(1, socket.MSG_PEEK) == b""
        except TimeoutError:
            return True
        finally:
            self._socket.settimeout(self.timeout_seconds)

    def _body(self, status: int, headers: list[tuple[bytes, bytes]], head: bool) -> bytes:
        if head or status in (204, 304):
            return b""
        fields = dict(headers)
        if b"content-length" in fields:
            return self.read_exactly(int(fields[b"content-length"]))
        if fields.get(b"transfer-encoding") == b"chunked":
            body = b""
            while size := int(self.read_until(b"\r\n"), 16):
                body += self.read_exactly(size)
                self.read_until(b"\r\n")
            self.read_until(b"\r\n")
            return body
        return self._to_the_end()

    def read_until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            self._more()
        found, _, self._buffer = self._buffer.partition(mark)
        return found

    def read_exactly(self, length: int) -> bytes:
        while len(self._buffer) < length:
            self._more()
        found, self._buffer = self._buffer[:length], self._buffer[length:]
        return found

    def _to_the_end(self) -> bytes:
        try:
            while True:
                self._more()
        except ConnectionEnded:
            found, self._buffer = self._buffer, b""
            return found

    def _more(self) -> None:
        try:
            data = self._socket.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            raise ConnectionEnded(f"after {self._buffer[:200]!r}")
        self._buffer += data


def request(method: str, target: str, *lines: str, shape: str = "wrapped", body: bytes = b"") -> bytes:
    """A request as it goes on the wire; ``lines`` are its fields."""
    host = [] if any(line.lower().startswith("host:") for line in lines) else ["Host: example.org"]
    head = [f"{method} {target} HTTP/1.1", *host, f"x-shape: {shape}", *lines]
    if body:
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body
