"""Machines, builders and an engine that fails, in any order: whole generations, and never back but by a rollback."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from hotpath.errors import OriginError
from hotpath.store.origin.pointers import Current
from hotpath.testing import FakeClock
from tests.store.origin.fake import FAULTS, FakeObjects, Fault, Killed
from tests.store.origin.machines import Machine, pages

NAMES = ("one", "two", "three")
MACHINES = st.sampled_from(NAMES)


class Site(RuleBasedStateMachine):
    """Two of three machines build; each may be killed, or the engine fail it, at any request."""

    @initialize()
    def begin(self) -> None:
        self.root = Path(tempfile.mkdtemp())
        self.clock = FakeClock()
        self.objects = FakeObjects(self.clock)
        self.machines = {name: Machine(self.root / name, self.objects, self.clock) for name in NAMES}
        self.built: dict[bytes, dict[str, bytes]] = {}
        self.number = 0
        self.served: dict[str, int] = {}
        # Numbers that a rollback, or a pin, may lead a machine back to.
        self.may_go_back = False

    def teardown(self) -> None:
        if hasattr(self, "root"):
            try:
                self.settle()
            finally:
                shutil.rmtree(self.root)

    @rule(name=st.sampled_from(NAMES[:2]), looks=st.booleans())
    def build_and_send(self, name: str, looks: bool) -> None:
        machine = self.machines[name]
        if looks:
            self.look_with(machine)
        self.number += 1
        made = pages(self.number)
        try:
            since = machine.origin.begin()
            sequence = machine.publish(made)
            self.built[machine.store.pointer_to(sequence).sha256] = made
            machine.origin.send(machine.store, since)
        except (OriginError, Killed):
            self.restart(name)

    @rule(name=MACHINES)
    def look(self, name: str) -> None:
        self.look_with(self.machines[name])

    def look_with(self, machine: Machine) -> None:
        try:
            machine.follower.look()
        except Killed:
            self.restart(machine.store.root.name)

    @rule(name=MACHINES, change=st.sampled_from(["rollback", "unpin", "pin", "rollback without a pin"]))
    def change(self, name: str, change: str) -> None:
        origin = self.machines[name].origin
        self.may_go_back = True
        try:
            if change == "unpin":
                origin.unpin()
            elif change == "pin":
                current = origin.begin().state.current
                if current is not None:
                    origin.pin(min(current.accepted))
            else:
                origin.rollback(pin=change == "rollback")
        except (OriginError, Killed):
            self.restart(name)

    @rule(name=MACHINES, keep=st.integers(1, 3))
    def prune(self, name: str, keep: int) -> None:
        try:
            self.machines[name].origin.prune(keep, grace_seconds=3 * 86400)
        except (OriginError, Killed):
            self.restart(name)

    @rule(days=st.integers(0, 4))
    def wait(self, days: int) -> None:
        self.clock.advance(days * 86400 + 1000)

    @rule(index=st.integers(0, 12), fault=st.sampled_from(FAULTS))
    def fail(self, index: int, fault: Fault) -> None:
        self.objects.fail(index, fault)

    @rule()
    def settle(self) -> None:
        """Every machine serves the same, and the origin is sound."""
        self.objects.heal()
        origin = self.machines["one"].origin
        state = origin.begin().state
        if state.current is None:
            return
        for machine in self.machines.values():
            machine.restart()
            look = machine.follower.look()
            assert look.error is None
            assert look.is_ahead or look.generation == look.origin_generation
        problems = [problem for problem in origin.verify().problems if "interrupted" not in problem]
        assert problems == []

    def restart(self, name: str) -> None:
        self.objects.heal()
        self.machines[name].restart()

    @invariant()
    def every_machine_serves_one_whole_generation(self) -> None:
        for name, machine in getattr(self, "machines", {}).items():
            if not machine.store.sequences():
                continue
            served = machine.served()
            assert served is not None
            assert machine.pages() == self.built[machine.store.pointer_to(served).sha256]
            if not self.may_go_back and served < self.served.get(name, 0):
                # A machine goes back only from what it has built itself and what was not accepted.
                assert served in self.accepted()
            self.served[name] = served

    def accepted(self) -> set[int]:
        data = self.objects.objects.get("CURRENT")
        assert data is not None
        return set(Current.decode(data[0]).accepted)


@pytest.mark.slow
def test_any_order() -> None:
    run_state_machine_as_test(Site, settings=settings(max_examples=150, stateful_step_count=40, deadline=None))
