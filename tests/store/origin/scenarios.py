"""What may be interrupted: an origin and two machines as they are before, and the step that is made."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hotpath.errors import Implausible, OriginError
from hotpath.store.disk import Disk
from hotpath.store.publish import staging
from hotpath.testing import FakeClock
from tests.store.origin.fake import FakeObjects, Killed
from tests.store.origin.machines import POLICY, Machine, origin_state, pages

DAY = 86400


@dataclass
class World:
    """An engine, the machine that makes the step, and one that only follows."""

    root: Path
    objects: FakeObjects
    clock: FakeClock
    builder: Machine
    machine: Machine

    @classmethod
    def new(cls, root: Path) -> World:
        clock = FakeClock()
        objects = FakeObjects(clock)
        return cls(
            root, objects, clock, Machine(root / "builder", objects, clock), Machine(root / "machine", objects, clock)
        )

    def copy(self, root: Path, disk: Callable[[Path], Disk] | None = None) -> World:
        """The same, elsewhere; with ``disk``, on another disk for the machine that only follows."""
        clock = FakeClock(self.clock.now)
        objects = FakeObjects(clock)
        objects.objects = dict(self.objects.objects)
        for name in ("builder", "machine"):
            if (self.root / name).exists():
                shutil.copytree(self.root / name, root / name, symlinks=True, copy_function=_link_or_copy)
        other = disk(root / "machine") if disk else None
        builder = Machine(root / "builder", objects, clock)
        return World(root, objects, clock, builder, Machine(root / "machine", objects, clock, disk=other))

    def send(self, number: int) -> None:
        self.builder.publish(pages(number))
        self.builder.origin.send(self.builder.store)
        self.clock.advance(DAY)

    def state(self) -> dict[str, Any]:
        """Of the engine and of both machines, after they have looked."""
        for machine in (self.builder, self.machine):
            look = machine.follower.look()
            assert look.error is None
        return {
            "origin": origin_state(self.objects),
            "builder": self.builder.state(),
            "machine": self.machine.state(),
        }


def _link_or_copy(source: str, target: str) -> None:
    """Generations are never changed in place; of the other files each world has its own."""
    (os.link if "/files/" in source else shutil.copy2)(source, target)


def _look(world: World) -> None:
    look = world.machine.follower.look()
    if look.error is not None:
        raise AssertionError(look.error)


def _quarantined(world: World) -> None:
    with staging(world.builder.store) as stage:
        for name, body in pages(4).items():
            stage.add(f"/{name}", f"{name}.json", body, POLICY)
        with contextlib.suppress(Implausible):
            stage.publish(problems=["half the rows"])


def _three(world: World) -> None:
    for number in (1, 2, 3):
        world.send(number)
    _look(world)


def _before_send(world: World) -> None:
    _three(world)
    world.builder.publish(pages(4))


def _before_first(world: World) -> None:
    world.builder.publish(pages(1))


def _before_follow(world: World) -> None:
    _three(world)
    world.send(4)


def _before_following_a_rollback(world: World) -> None:
    _three(world)
    world.builder.origin.rollback()


def _before_following_a_pin_of_what_is_gone(world: World) -> None:
    _three(world)
    shutil.rmtree(world.machine.store.generation_path(1), ignore_errors=True)
    world.builder.origin.pin(1)


def _before_following_an_unpin(world: World) -> None:
    _three(world)
    world.builder.origin.rollback()
    _look(world)
    world.send(5)
    world.builder.origin.unpin()


def _before_following_a_winner(world: World) -> None:
    _three(world)
    world.machine.publish(pages(9))
    world.send(4)


def _before_unpin(world: World) -> None:
    _three(world)
    world.builder.origin.pin(1)


def _before_prune(world: World) -> None:
    for number in range(1, 10):
        world.send(number)
    world.clock.advance(3.5 * DAY)
    world.send(10)
    _look(world)  # its report is the newest object, whoever else looks


def _before_quarantine(world: World) -> None:
    _three(world)
    _quarantined(world)


def _send_quarantined(world: World) -> None:
    world.builder.origin.send_quarantined(world.builder.store, 4)


def _before_approve(world: World) -> None:
    _before_quarantine(world)
    _send_quarantined(world)


@dataclass(frozen=True)
class Scenario:
    """``prepare`` makes the world, ``step`` is what is interrupted. It may be repeated: twice is once."""

    prepare: Callable[[World], None]
    step: Callable[[World], object]


SCENARIOS = {
    "send the first": Scenario(_before_first, lambda world: world.builder.origin.send(world.builder.store)),
    "send": Scenario(_before_send, lambda world: world.builder.origin.send(world.builder.store)),
    "rollback": Scenario(_three, lambda world: world.builder.origin.rollback(to=2, reason="half the rows")),
    "rollback without a pin": Scenario(_three, lambda world: world.builder.origin.rollback(to=2, pin=False)),
    "pin": Scenario(_three, lambda world: world.builder.origin.pin(1)),
    "unpin": Scenario(_before_unpin, lambda world: world.builder.origin.unpin()),
    "approve": Scenario(_before_approve, lambda world: world.builder.origin.approve(4, "right after all")),
    "quarantine": Scenario(_before_quarantine, _send_quarantined),
    "prune": Scenario(_before_prune, lambda world: world.builder.origin.prune(keep=2)),
    "follow from nothing": Scenario(lambda world: world.send(2), _look),
    "follow": Scenario(_before_follow, _look),
    "follow a rollback": Scenario(_before_following_a_rollback, _look),
    "follow a pin of what is gone": Scenario(_before_following_a_pin_of_what_is_gone, _look),
    "follow an unpin": Scenario(_before_following_an_unpin, _look),
    "follow a winner": Scenario(_before_following_a_winner, _look),
}


def finish(world: World, scenario: Scenario) -> None:
    """The same command again, by another process, when all is well; a rollback that was done says so."""
    world.objects.heal()
    world.builder.restart()
    world.machine.restart()
    try:
        scenario.step(world)
    except OriginError as error:
        if "is marked bad" not in str(error) and "the one that is served" not in str(error):
            raise


def interrupted(world: World, scenario: Scenario) -> None:
    """Make the step, as far as it comes."""
    try:
        scenario.step(world)
    except (Killed, OriginError, AssertionError):
        return
