"""WebSockets pass: messages, subprotocols, closes of either side, and handshakes that wait."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse, WSCloseCode, WSMsgType, WSServerHandshakeError

from hotpath.front.address import Address
from tests.front import forward_app
from tests.front.forwarding import SECONDS, Backend, Front, Process, Served, free_port, running, wait_until


@pytest.fixture(scope="module", params=["tcp", "unix"])
def front(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    path = tmp_path_factory.mktemp("app") / "app.sock" if request.param == "unix" else None
    app = Served(forward_app.app, path)
    with running(Front(app.address), app) as (front, _):
        yield front


@asynccontextmanager
async def socket_to(front: Front, path: str = "/ws", **options: Any) -> AsyncIterator[ClientWebSocketResponse]:
    async with (
        ClientSession() as session,
        session.ws_connect(f"http://127.0.0.1:{front.port}{path}", max_msg_size=0, autoclose=False, **options) as ws,
    ):
        yield ws


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def within() -> None:
        await asyncio.wait_for(test(), SECONDS)

    asyncio.run(within())


def test_messages_pass_both_ways(front: Front) -> None:
    async def test() -> None:
        async with socket_to(front) as socket:
            for text in ("", "é", "x" * 300_000):
                await socket.send_str(text)
                assert await socket.receive_str() == text
            for data in (b"", b"\0\xff", b"x" * 300_000):
                await socket.send_bytes(data)
                assert await socket.receive_bytes() == data

    run(test)


def test_subprotocols_and_fields_pass(front: Front) -> None:
    async def test() -> None:
        async with socket_to(front, "/fields", protocols=("a", "b"), headers={"Cookie": "c=1"}) as socket:
            assert socket.protocol == "b"
            fields = await socket.receive_str()
        assert "(b'cookie', b'c=1')" in fields
        assert "(b'x-forwarded-for', b'127.0.0.1')" in fields
        assert "(b'via', b'1.1 hotpath')" in fields

    run(test)


def test_the_apps_close_arrives(front: Front) -> None:
    async def test() -> None:
        async with socket_to(front) as socket:
            await socket.send_str("close")
            message = await socket.receive()
            assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, 4321, "the app's")

    run(test)


def test_the_clients_close_arrives(front: Front) -> None:
    path = f"/closed/{front.port}"

    async def test() -> None:
        async with socket_to(front, path) as socket:
            await socket.close(code=4001, message=b"the client's")

    run(test)
    wait_until(lambda: f"{path} 4001 the client's" in forward_app.left)
    wait_until(lambda: front.upstream.in_flight == 0)


def test_a_client_that_vanishes_is_gone_for_the_app(front: Front) -> None:
    path = f"/vanished/{front.port}"

    async def test() -> None:
        async with socket_to(front, path) as socket:
            await socket.send_str("a")
            await socket.receive_str()
            transport = socket.get_extra_info("socket")
            transport.shutdown(2)

    run(test)
    wait_until(lambda: any(line.startswith(path) for line in forward_app.left))


def test_a_refused_handshake_is_refused(front: Front) -> None:
    async def test() -> None:
        with pytest.raises(WSServerHandshakeError) as refusal:
            async with socket_to(front, "/refused"):
                pass
        assert refusal.value.status == 403

    run(test)


def test_a_handshake_that_is_none_is_502() -> None:
    backend = Backend(lambda number, data, sock: sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))

    async def test() -> None:
        with pytest.raises(WSServerHandshakeError) as refusal:
            async with socket_to(place):
                pass
        assert refusal.value.status == 502

    with running(Front(backend.address), backend) as (place, _):
        run(test)


def test_an_open_socket_takes_no_place_of_a_request() -> None:
    app = Served(forward_app.app)

    async def test() -> None:
        async with socket_to(place), socket_to(place) as socket:
            assert place.upstream.in_flight == 2
            assert (await asyncio.to_thread(place.get)).status == 200
            await socket.send_str("a")
            assert await socket.receive_str() == "a"

    with running(Front(app.address, in_flight=1), app) as (place, _):
        run(test)


def test_a_handshake_waits_for_the_app() -> None:
    address = Address("127.0.0.1", free_port())
    texts: list[str] = []

    async def test() -> None:
        async with socket_to(place) as socket:
            await socket.send_str("a")
            texts.append(await socket.receive_str())

    with running(Front(address)) as (place,):
        client = threading.Thread(target=run, args=(test,))
        client.start()
        wait_until(lambda: place.upstream.held == 1)
        with running(Served(forward_app.app, port=address.port)):
            client.join(SECONDS)
    assert texts == ["a"]


def test_a_handshake_waits_no_longer_than_the_hold() -> None:
    async def test() -> None:
        with pytest.raises(WSServerHandshakeError) as refusal:
            async with socket_to(place):
                pass
        assert refusal.value.status == 503
        assert refusal.value.headers is not None
        assert "Retry-After" in refusal.value.headers

    with running(Front(Address("127.0.0.1", free_port()), hold_seconds=0.3)) as (place,):
        run(test)


@pytest.mark.slow
def test_an_app_that_is_killed_closes_the_socket() -> None:
    process = Process(Address("127.0.0.1", free_port()))

    async def test() -> None:
        async with socket_to(place) as socket:
            await socket.send_str("die")
            message = await socket.receive()
            assert (message.type, message.data) == (WSMsgType.CLOSE, WSCloseCode.BAD_GATEWAY)

    process.start()
    try:
        with running(Front(process.address)) as (place,):
            run(test)
    finally:
        process.kill()
