"""Who goes to the app, who waits and who is refused: the line and the ramp, without a clock."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hotpath.front.admission import RAMP_START, Arrival, Line, Ramp, Ticket
from hotpath.guard.priorities import Priority

P0, P1, P2, P3 = Priority


def line_of(places: int, *priorities: Priority) -> tuple[Line, list[Ticket]]:
    line = Line(places)
    tickets = [Ticket(priority, line.number()) for priority in priorities]
    for ticket in tickets:
        line.enter(ticket)
    return line, tickets


def order(line: Line) -> list[Ticket]:
    tickets = []
    while (ticket := line.first()) is not None:
        tickets.append(ticket)
    return tickets


def test_first_come_first_served_among_equals() -> None:
    line, tickets = line_of(9, P2, P2, P2)
    assert order(line) == tickets


def test_the_important_go_first() -> None:
    line, (low, middle, high) = line_of(9, P3, P2, P0)
    assert order(line) == [high, middle, low]


def test_a_full_line_refuses_the_lowest_priority_at_once() -> None:
    line, tickets = line_of(2, P2, P2)
    assert line.enter(Ticket(P3, line.number())) == (Arrival.REFUSED, None)
    assert line.enter(Ticket(P2, line.number())) == (Arrival.REFUSED, None)
    important = Ticket(P1, line.number())
    assert line.enter(important) == (Arrival.WAITS, tickets[1])
    assert len(line) == 2
    assert order(line) == [important, tickets[0]]


def test_who_could_not_be_sent_has_the_old_place_in_a_full_line_too() -> None:
    line, (first, second, third) = line_of(3, P2, P2, P2)
    assert line.first() is first
    line.enter(Ticket(P2, line.number()))
    line.put_back(first)
    assert len(line) == 4
    assert line.leave(second)
    line.put_back(second)
    assert order(line)[:3] == [first, second, third]


def test_who_leaves_is_not_served() -> None:
    line, (first, second) = line_of(9, P2, P2)
    assert line.leave(first)
    assert not line.leave(first)
    assert order(line) == [second]


@given(st.integers(1, 5), st.lists(st.sampled_from([*Priority, None]), max_size=40))
def test_the_line_is_bounded_and_loses_nobody(places: int, steps: list[Priority | None]) -> None:
    line, inside = Line(places), set[Ticket]()
    for step in steps:
        if step is None:
            ticket = line.first()
            assert (ticket is None) == (not inside)
            if ticket is not None:
                assert ticket.priority == min(waiting.priority for waiting in inside)
                inside.remove(ticket)
            continue
        ticket = Ticket(step, line.number())
        entry, loser = line.enter(ticket)
        if entry is Arrival.WAITS:
            inside.add(ticket)
        else:
            assert all(waiting.priority <= step for waiting in inside)
        if loser is not None:
            inside.remove(loser)
        assert len(line) == len(inside) <= places
    assert set(order(line)) == inside


def test_an_app_that_is_back_gets_two_and_then_more_with_each_answer() -> None:
    ramp = Ramp(4)
    limits = [ramp.limit]
    ramp.fall()
    limits.append(ramp.limit)
    ramp.grow()
    limits.append(ramp.limit)
    ramp.start()
    for _ in range(4):
        limits.append(ramp.limit)
        ramp.grow()
    assert limits == [4, 0, 0, RAMP_START, 3, 4, 4]
    assert ramp.is_full


def test_one_at_a_time_stays_one_at_a_time() -> None:
    ramp = Ramp(1)
    ramp.fall()
    ramp.start()
    ramp.grow()
    assert ramp.limit == 1


def test_streams_that_outlive_their_process_leave_room_for_the_ramp() -> None:
    ramp = Ramp(64)
    ramp.fall()
    ramp.start(active=40)
    assert ramp.limit == 42
    ramp.start(active=64)
    assert ramp.limit == 64
