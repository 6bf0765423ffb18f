"""The open-loop client: requests go out when they are due, and their time counts from then."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from hotpath.ops.rehearse.client import DueRequest, OpenLoopClient, request_bytes
from hotpath.ops.rehearse.outcomes import RESET, TIMED_OUT
from tests.ops.rehearse.serving import Handler, answering, served

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
REQUEST = request_bytes("/", "127.0.0.1", "test")

Results = list[tuple[int, float, int, float]]


def run(handler: Handler, due: Sequence[float], *, timeout: float = 5.0, connections: int = 100) -> Results:
    async def main() -> Results:
        results: Results = []
        async with served(handler) as port:
            client = OpenLoopClient(
                "127.0.0.1",
                port,
                [REQUEST],
                lambda *result: results.append(result),
                timeout=timeout,
                connections=connections,
            )
            await client.run([DueRequest(at, 0) for at in due])
        return results

    return asyncio.run(main())


def statuses(results: Results) -> list[int]:
    return [status for _, _, status, _ in results]


def test_a_slow_answer_does_not_hold_back_the_next_request() -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.2)
        writer.write(OK)

    results = run(slow, [0.0, 0.01, 0.02])
    assert statuses(results) == [200, 200, 200]
    assert all(seconds > 0.19 for *_, seconds in results)


def test_time_counts_from_when_a_request_was_due_and_not_from_when_it_was_sent() -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(0.1)
            writer.write(OK)

    results = run(slow, [0.0, 0.0, 0.0], connections=1)
    assert results[-1][3] >= 0.28


@pytest.mark.parametrize(
    "answer",
    [
        OK,
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\ncontent-length: 99\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK,
        b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nuntil the end",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
    ],
)
def test_every_kind_of_answer_is_read_to_its_end(answer: bytes) -> None:
    wanted = int(answer.rpartition(b"HTTP/1.")[2][2:5])
    assert statuses(run(answering(answer), [0.0, 0.05])) == [wanted, wanted]


def test_an_answer_may_come_byte_by_byte() -> None:
    whole = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\ntrailer: x\r\n\r\n"

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            for place in range(len(whole)):
                writer.write(whole[place : place + 1])
                await writer.drain()
                await asyncio.sleep(0)

    assert statuses(run(slow, [0.0, 0.2], connections=1)) == [200, 200]


def test_a_connection_that_ends_without_an_answer_is_a_reset() -> None:
    assert statuses(run(answering(b""), [0.0])) == [RESET]


def test_half_an_answer_is_a_reset() -> None:
    assert statuses(run(answering(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"), [0.0])) == [RESET]
    assert statuses(run(answering(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nhalf"), [0.0])) == [RESET]


def test_a_server_that_is_not_there_resets() -> None:
    async def main() -> Results:
        async with served(answering()) as port:
            pass
        results: Results = []
        client = OpenLoopClient("127.0.0.1", port, [REQUEST], lambda *result: results.append(result), timeout=1)
        await client.run([DueRequest(0.0, 0)])
        return results

    assert statuses(asyncio.run(main())) == [RESET]


def test_no_answer_in_time_is_a_timeout_and_frees_its_connection() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    results = run(silent, [0.0, 0.0, 0.0], timeout=0.2, connections=1)
    assert statuses(results) == [TIMED_OUT] * 3
    assert all(0.2 <= seconds < 1 for *_, seconds in results)


def test_a_kept_connection_that_the_server_closed_is_no_error() -> None:
    assert statuses(run(answering(OK), [0.0, 0.1])) == [200, 200]


def test_a_request_is_what_it_should_be_on_the_wire() -> None:
    assert request_bytes("/a?b=c", "example.org", "bot", [("Connection", "close")]) == (
        b"GET /a?b=c HTTP/1.1\r\nHost: example.org\r\nUser-Agent: bot\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    )
