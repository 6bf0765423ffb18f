"""The world of the simulation keeps time as the real one does."""

from __future__ import annotations

from tests.simulation.world import Event, World


def test_tasks_go_on_in_the_order_of_their_times() -> None:
    world = World(0)
    seen: list[tuple[str, float]] = []

    def task(name: str, pause: float) -> None:
        for _ in range(3):
            world.sleep(pause)
            seen.append((name, world.now))

    world.start(lambda: task("a", 2))
    world.start(lambda: task("b", 3), after=0.5)
    world.run(7)
    assert seen == [("a", 2), ("b", 3.5), ("a", 4), ("a", 6), ("b", 6.5)]
    world.run(3)
    assert (seen[-1], world.now) == (("b", 9.5), 10)


def test_an_event_ends_a_wait_and_so_does_its_time() -> None:
    world = World(0)
    event = Event(world)
    seen: list[tuple[bool, float]] = []

    def wait() -> None:
        for timeout in (1, 10, None):
            seen.append((event.wait(timeout), world.now))
            event.clear()

    world.start(wait)
    world.start(event.set, after=5)
    world.start(event.set, after=30)
    world.run(40)
    assert seen == [(False, 1), (True, 5), (True, 30)]


def test_the_end_of_an_old_wait_does_not_end_a_new_one() -> None:
    world = World(0)
    event = Event(world)
    seen: list[tuple[bool, float]] = []

    def wait() -> None:
        seen.append((event.wait(10), world.now))
        event.clear()
        world.sleep(10)
        seen.append((event.wait(20), world.now))

    world.start(wait)
    world.start(event.set, after=2)
    world.run(40)
    assert seen == [(True, 2), (False, 32)]
