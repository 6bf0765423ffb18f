"""Whose connection ends where there are too many."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from hotpath.front.connections import Connection, Connections
from hotpath.front.heads import Blocks
from hotpath.front.hits import Repeated

HEAD = b"GET /rows HTTP/1.1\r\nHost: example.org\r\n\r\n"


@pytest.fixture
def connections() -> Iterator[Connections]:
    made = Connections(100, 10, 75)
    yield made
    for connection in made.by_descriptor.values():
        connection.close()


def add(connections: Connections, since: float, *, answered: bool = False) -> int:
    ours, theirs = socket.socketpair()
    theirs.close()
    connection = Connection(ours, since)
    if answered:
        head = Blocks().read(HEAD)
        assert head is not None
        connection.repeated = Repeated.of(head)
        assert connection.repeated is not None
    connections.by_descriptor[ours.fileno()] = connection
    return ours.fileno()


def end(connections: Connections, descriptor: int) -> None:
    connections.by_descriptor.pop(descriptor).close()


def test_who_never_got_an_answer_goes_before_who_did_and_the_longest_idle_first(connections: Connections) -> None:
    client, later = add(connections, 1.0, answered=True), add(connections, 4.0, answered=True)
    silent = [add(connections, since) for since in (3.0, 2.0)]
    order = []
    for _ in range(4):
        descriptor = connections.longest_idle(5.0)
        assert descriptor is not None
        order.append(descriptor)
        end(connections, descriptor)
    assert order == [silent[1], silent[0], client, later]
    assert connections.longest_idle(5.0) is None


def test_a_crowd_that_comes_in_one_turn_ends_its_own(connections: Connections) -> None:
    client = add(connections, 1.0, answered=True)
    add(connections, 2.0)
    for _ in range(50):
        descriptor = connections.longest_idle(5.0)
        assert descriptor is not None
        assert descriptor != client
        end(connections, descriptor)
        add(connections, 5.0)


def test_while_there_is_room_the_longest_idle_goes_whoever_it_is(connections: Connections) -> None:
    client = add(connections, 1.0, answered=True)
    add(connections, 4.9)
    assert connections.longest_idle(5.0, 1.0) == client
    end(connections, client)
    assert connections.longest_idle(5.0, 1.0) is None
