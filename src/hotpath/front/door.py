"""The door: a thread that owns the listening sockets, answers hot pages and hands over every other connection."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from hotpath.asgi.access_log import Observer, Watch, result_of
from hotpath.front.connections import Connection, Connections
from hotpath.front.heads import RequestHead, is_half, parse_fields
from hotpath.front.hits import JOIN_BYTES, Hits, Opening, Repeated
from hotpath.front.poller import LAST, ONCE, READ, WRITE, Poller, make_poller
from hotpath.log import Once, logger
from hotpath.serving.rfc9110 import format_http_date
from hotpath.serving.snapshot import Answer
from hotpath.site import Hotpath
from hotpath.types import Header

HandOver = Callable[[socket.socket, bytes], None]

# What one recv takes: most heads, and no more, since it is kept for a client that sends many and reads no answer.
RECV_BYTES: Final = 4096
# Connections accepted before those that are there get their turn.
ACCEPTS: Final = 64
# Seconds between two looks at the clock: the Date, what is overdue, the beat of a door without clients.
TICK_SECONDS: Final = 1.0
# What a client had sent already when the door was stopped is still answered.
LAST_READ_SECONDS: Final = 0.2

# What is watched on a connection from which everything was read.
REQUESTS: Final = READ | LAST | ONCE

# After a fault outside of any request, so that one that lasts takes no core.
FAULT_SECONDS: Final = 0.01

# accept(2): the descriptors of the process, of the machine, or its memory are used up.
_NO_ROOM: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))

SERVER_FIELD: Final[Header] = (b"server", b"uvicorn")


class Door:
    """Answers hot pages of ``hot`` on ``listeners`` in a thread of its own; the rest goes to ``hand_over``.

    ``hand_over`` is called from that thread with a non-blocking socket, which is the callee's from then on, and the
    bytes that were read from it. It must not block. ``connections`` is the most that the door holds at a time: beyond
    half of them the longest idle are ended first. A head must be whole within ``head_seconds``, and a connection ends
    that makes no progress for ``idle_seconds``. ``on_hit`` is called from the thread with each answer given.
    ``closes_listeners``: close them when the door stops, at a moment when nobody waits there, so that the kernel gives
    who comes to others on the same port. ``default_headers`` stand behind ``Date`` in each answer. ``make_poller``
    picks another way to wait.

    ``beat`` is when the thread was last seen, by ``time.monotonic()``. With ``answers = False`` all is handed over.
    ``on_turn``, where it is set, is called in the thread with how many hot pages it has just answered, and how many
    seconds after their requests were there the last of them was with the kernel.
    """

    def __init__(
        self,
        hot: Hotpath,
        listeners: Sequence[socket.socket],
        hand_over: HandOver,
        *,
        connections: int = 4096,
        head_seconds: float = 10,
        idle_seconds: float = 75,
        on_hit: Observer | None = None,
        closes_listeners: bool = False,
        default_headers: Sequence[Header] = (SERVER_FIELD,),
        make_poller: Callable[[], Poller] = make_poller,
    ) -> None:
        self.answers = True
        self.on_turn: Callable[[int, float], None] | None = None
        self.hits = 0
        self.handed_over = 0
        self.beat = time.monotonic()
        self._hits = Hits(hot)
        self._once = Once()
        self._listeners = {listener.fileno(): listener for listener in listeners}
        self._hand_over = hand_over
        self._connections = Connections(connections, head_seconds, idle_seconds)
        self._on_hit = on_hit
        self._closes_listeners = closes_listeners
        self._default_headers = tuple(default_headers)
        self._opening = Opening()
        self._poller = make_poller()
        self._waker, self._wakes = socket.socketpair()
        # Given up for a moment where descriptors are used up, so that a client can be refused.
        self._reserve = _open_reserve()
        self._tick_at = 0.0
        self._not_accepting: set[int] = set()
        self._quiet_at = self._stop_at = float("inf")
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="hotpath-door", daemon=True)

    @property
    def open(self) -> int:
        """Connections that the door holds now."""
        return len(self._connections)

    def start(self) -> None:
        """Load what is published, which blocks, and begin. A store that cannot be read is logged, not raised."""
        try:
            self._hits.reader.start()
        except Exception:
            logger.exception("the door has nothing to serve: the store cannot be read; every request is handed over")
        for listener in self._listeners.values():
            listener.setblocking(False)
        for descriptor in (self._wakes.fileno(), *self._listeners):
            self._poller.register(descriptor, READ)
        self._tick(time.monotonic())
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Accept nobody any more, finish what is being sent within so many seconds, and end the thread.

        The listeners stay open, unless ``closes_listeners`` says otherwise: somebody else may listen on.
        """
        self._stop_at = time.monotonic() + seconds
        self._quiet_at = time.monotonic() + min(seconds, LAST_READ_SECONDS)
        self._is_stopping = True
        with contextlib.suppress(OSError):
            self._waker.send(b".")
        if self._thread.ident is None:
            self._release()
        else:
            self._thread.join(seconds + TICK_SECONDS + 1)

    def _run(self) -> None:
        try:
            goes_on = True
            while goes_on:
                try:
                    goes_on = self._turn()
                except Exception:  # nobody else serves these connections
                    self._log_fault("the door failed, and goes on; logged once")
                    time.sleep(FAULT_SECONDS)
        finally:
            self._release()

    def _release(self) -> None:
        for connection in self._connections.by_descriptor.values():
            connection.close()
        self._connections.by_descriptor.clear()
        self._poller.close()
        self._waker.close()
        self._wakes.close()
        if self._reserve is not None:
            os.close(self._reserve)
            self._reserve = None

    def _turn(self) -> bool:
        """Everything that is ready now; whether there is another turn."""
        by_descriptor = self._connections.by_descriptor
        # Whatever may fail comes before the poll, or after the connections: what was read from it comes once.
        now = time.monotonic()
        if now >= self._tick_at:
            self._tick(now)
        ready = self._poller.poll(0.05 if self._is_stopping else self._tick_at - now)
        self.beat = now = time.monotonic()
        hits = self.hits
        others = []
        for descriptor, mask in ready:
            connection = by_descriptor.get(descriptor)
            if connection is None:
                others.append(descriptor)
                continue
            try:
                if connection.output:
                    self._go_on(connection, now)
                elif mask & ~WRITE:
                    self._read(connection, mask, now)
            except OSError:
                self._end(descriptor)
            except Exception:
                # The thread serves everybody, so a fault of one request ends that one's connection alone.
                self._log_fault("the door failed on a request and closed its connection; logged once")
                self._end(descriptor)
        if self.on_turn is not None and self.hits > hits:
            self.on_turn(self.hits - hits, time.monotonic() - now)
        for descriptor in others:
            if descriptor in self._listeners:
                self._accept(self._listeners[descriptor], now)
            elif descriptor == self._wakes.fileno():
                self._wakes.recv(1)
        return not self._is_stopping or self._finish(now)

    def _accept(self, listener: socket.socket, now: float) -> None:
        for _ in range(ACCEPTS):
            try:
                sock, _ = listener.accept()
            except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                return
            except OSError as error:
                if self._make_room(listener, error, now):
                    continue
                # It would be ready in every turn; the next tick tries again.
                self._poller.unregister(listener.fileno())
                self._not_accepting.add(listener.fileno())
                return
            surplus = self._connections.surplus(now)
            if surplus is not None:
                self._end(surplus)
            elif self._connections.is_full:
                sock.close()
                continue
            sock.setblocking(False)
            if sock.family != socket.AF_UNIX:
                with contextlib.suppress(OSError):  # gone already
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                self._poller.register(sock.fileno(), REQUESTS)
            except OSError as error:  # epoll(7): max_user_watches
                sock.close()
                self._once.warn(f"a connection was refused: {error}")
                continue
            self._connections.by_descriptor[sock.fileno()] = Connection(sock, now)

    def _make_room(self, listener: socket.socket, error: OSError, now: float) -> bool:
        """Free a descriptor: the longest idle connection's, else the reserve; whether to accept again at once."""
        if error.errno not in _NO_ROOM:
            self._once.warn(f"accept() failed: {error}")
            return False
        self._once.warn(f"accept() failed ({error}): idle connections are ended to make room; raise LimitNOFILE=")
        idle = self._connections.longest_idle(now)
        if idle is not None:
            self._end(idle)
            return True
        if self._reserve is None:
            return False
        os.close(self._reserve)
        self._reserve = None
        # Refused, where it would wait for ever and the listener would be ready for ever.
        with contextlib.suppress(OSError):
            listener.accept()[0].close()
        self._reserve = _open_reserve()
        return self._reserve is not None

    def _read(self, connection: Connection, mask: int, now: float) -> None:
        try:
            data = connection.recv(RECV_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        if not data:
            self._end(connection.sock.fileno())
            return
        connection.since = now
        # There may be more, or the end: to be told of in the next turn, if the connection is still here then.
        is_more = len(data) == RECV_BYTES or mask & LAST
        if connection.data:
            data = connection.data + data
            connection.data = b""
        elif connection.repeated is not None and self.answers and not self._is_stopping:
            answer = self._hits.find_again(connection.repeated, data)
            if answer is not None:
                self.hits += 1
                self._send(connection, "GET", answer)
                if connection.output:
                    self._poller.modify(connection.sock.fileno(), WRITE)
                elif is_more:
                    self._poller.modify(connection.sock.fileno(), REQUESTS)
                return
        self._serve(connection, data, now)
        descriptor = connection.sock.fileno()
        if is_more and not connection.output and self._connections.by_descriptor.get(descriptor) is connection:
            self._poller.modify(descriptor, REQUESTS)

    def _serve(self, connection: Connection, data: bytes, now: float) -> None:
        """Answer the heads in ``data`` in order, as long as they are hot and the client takes the answers."""
        start, hits = 0, self._hits
        while True:
            head = hits.blocks.read(data, start) if self.answers else None
            answer = hits.find(head) if head is not None else None
            if head is None or answer is None:
                if self.answers and head is None and is_half(data, start):
                    self._keep_half(connection, data[start:], now)
                else:
                    self._give_away(connection, data[start:])
                return
            method, _, meaning, _, start = head
            connection.head_since = None
            connection.closes = meaning.closes or self._is_stopping
            self.hits += 1
            if self._on_hit is None:
                self._send(connection, method, answer)
            else:
                self._send_observed(connection, head, answer, self._on_hit)
            if connection.output:
                connection.data = data[start:]
                self._poller.modify(connection.sock.fileno(), WRITE)
                return
            if connection.closes:
                self._end(connection.sock.fileno())
                return
            if start == len(data):
                if self._on_hit is None:
                    connection.repeated = Repeated.of(head)
                return

    def _send(self, connection: Connection, method: str, answer: Answer) -> None:
        """Give the answer to the kernel; what it does not take waits in ``connection.output``."""
        body = answer.body if method == "GET" else b""
        is_joined = len(body) <= JOIN_BYTES
        try:
            if is_joined:
                first = self._opening.head(answer, connection.closes, body)
                size = len(first)
                sent = connection.send(first)
            else:
                first = self._opening.head(answer, connection.closes)
                size = len(first) + len(body)
                sent = connection.sock.sendmsg((first, body))
        except (BlockingIOError, InterruptedError):
            sent = 0
        if sent == size:
            return
        # The body is the page's own, so a client that reads nothing holds no copy of it.
        opening = size - len(body)
        if sent < opening:
            connection.output = [memoryview(first[sent:opening]), memoryview(body)]
        else:
            connection.output = [memoryview(body)[sent - opening :]]

    def _send_observed(self, connection: Connection, head: RequestHead, answer: Answer, observe: Observer) -> None:
        raw_path = head.target.partition(b"?")[0]
        watch = Watch({"method": head.method, "raw_path": raw_path, "headers": parse_fields(head.block)}, _unsent)
        self._send(connection, head.method, answer)
        watch.status, watch.headers, watch.body_bytes = answer.status, answer.headers, len(answer.body)
        try:
            observe(watch.request(result_of(answer)))
        except Exception:  # a user's function; the request is answered already
            self._log_fault("on_hit= failed on a request, which is not harmed; logged once")

    def _go_on(self, connection: Connection, now: float) -> None:
        """Write more of an answer; when it is out, serve what the client had sent meanwhile."""
        waiting = sum(map(len, connection.output))
        is_out = connection.flush()
        if is_out or sum(map(len, connection.output)) < waiting:
            connection.since = now
        if not is_out:
            return
        if connection.closes:
            self._end(connection.sock.fileno())
            return
        self._poller.modify(connection.sock.fileno(), REQUESTS)
        data, connection.data = connection.data, b""
        if data:
            self._serve(connection, data, now)

    def _keep_half(self, connection: Connection, data: bytes, now: float) -> None:
        connection.data = data
        if connection.head_since is None:
            connection.head_since = now

    def _give_away(self, connection: Connection, data: bytes) -> None:
        descriptor = connection.sock.fileno()
        self._poller.unregister(descriptor)
        del self._connections.by_descriptor[descriptor]
        self.handed_over += 1
        try:
            self._hand_over(connection.sock, data)
        except Exception:
            # The caller's function; the thread serves everybody else.
            connection.close()
            self._log_fault("hand_over= failed, and the connection was closed; logged once")

    def _end(self, descriptor: int) -> None:
        connection = self._connections.by_descriptor.pop(descriptor, None)
        if connection is not None:
            self._poller.unregister(descriptor)
            connection.close()

    def _log_fault(self, text: str) -> None:
        if self._once.is_new(text):
            logger.exception(text)

    def _tick(self, now: float) -> None:
        """Once a second: the Date of answers, and who has been silent for too long."""
        self._tick_at = now + TICK_SECONDS
        self._hits.follow()
        date = (b"date", format_http_date(int(time.time())))
        self._opening = Opening((date, *self._default_headers))
        for descriptor in self._connections.overdue(now):
            self._end(descriptor)
        if self._reserve is None:
            self._reserve = _open_reserve()
        for descriptor in self._not_accepting:
            self._poller.register(descriptor, READ)
        self._not_accepting.clear()

    def _finish(self, now: float) -> bool:
        """Whether there is something to finish before the thread ends."""
        for listener in self._listeners.values() if self._closes_listeners else ():
            self._accept(listener, now)
        for descriptor in self._listeners.keys() - self._not_accepting:
            self._poller.unregister(descriptor)
        for listener in self._listeners.values() if self._closes_listeners else ():
            listener.close()
        self._listeners = {}
        self._not_accepting.clear()
        rest = self._connections.by_descriptor.values()
        if rest and now < self._quiet_at:
            return True
        return now < self._stop_at and any(connection.output or connection.data for connection in rest)


def _open_reserve() -> int | None:
    try:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


async def _unsent(_: object) -> None:
    """The send of a ``Watch`` through which nothing is sent."""
