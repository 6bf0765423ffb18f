"""Machines for the tests of an origin: each a store of its own, all with one engine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from hotpath.pages.policy import Policy
from hotpath.store.disk import Disk
from hotpath.store.origin import Follower, Origin
from hotpath.store.origin.objects import Objects
from hotpath.store.publish import staging
from hotpath.store.store import Store
from hotpath.testing import FakeClock
from tests.store.crash.operations import NumberedDisk
from tests.store.origin.fake import URL, FakeObjects

POLICY = Policy("/{page}", "application/json", "public", None, 3600)


class Machine:
    """A store, and the origin as this machine sees it; one request at a time, so that requests have numbers."""

    def __init__(
        self, root: Path, objects: Objects, clock: FakeClock, *, threads: int = 1, disk: Disk | None = None
    ) -> None:
        # A sync is most of the time of a test, and power losses are no matter of these.

        self.store = Store(root, disk=disk or NumberedDisk(root), clock=clock)
        self.origin = Origin(
            URL, objects=objects, clock=clock, sleep=clock.advance, random=lambda: 0.5, threads=threads
        )
        self.clock = clock
        self.restart()

    def restart(self) -> None:
        self.follower = Follower(self.store, self.origin, name=self.store.root.name, random=lambda: 0.5)

    def publish(self, pages: Mapping[str, bytes]) -> int:
        """Make a generation of these pages, here alone."""
        with staging(self.store) as stage:
            for name, body in pages.items():
                stage.add(f"/{name}", f"{name}.json", body, POLICY)
            return stage.publish().generation

    def served(self) -> int | None:
        choice = self.store.choose()
        os.close(choice.descriptor)
        return choice.sequence

    def pages(self) -> dict[str, bytes]:
        """What this machine serves, every byte verified."""
        served = self.served()
        assert served is not None
        assert self.store.verify_generation(served) == []
        files = self.store.files_path(served)
        manifest = self.store.read_manifest(served)
        return {item.key[1:]: (files / item.identity.file).read_bytes() for item in manifest.items.values()}

    def state(self) -> dict[str, Any]:
        """What has to be equal however often a step was interrupted before it was done."""
        pin = self.store.pointer(self.store.pin_path)
        current = self.store.pointer(self.store.current_path)
        return {
            "current": current and current.sequence,
            "pin": pin and pin.sequence,
            "bad": self.store.bad(),
            "pages": self.pages(),
            "linked": self.store.linked(),
            "litter": sorted(path.name for path in self.store.root.glob(".[!.]*")),
        }


def origin_state(objects: FakeObjects) -> dict[str, Any]:
    """What the engine holds, without how often pointers were moved and what machines reported."""
    state: dict[str, Any] = {"keys": sorted(key for key in objects.objects if not key.startswith("machines/"))}
    for name in ("CURRENT", "PIN", "BAD"):
        if name in objects.objects:
            state[name] = orjson.loads(objects.objects[name][0])
    if "CURRENT" in state:
        is_announced = (state["CURRENT"]["pin"], state["CURRENT"]["bad"]) == (
            state.get("PIN", {"change": 0})["change"],
            state.get("BAD", {"change": 0})["change"],
        )
        state["CURRENT"] |= {"pin": is_announced, "bad": is_announced}
    for name in ("CURRENT", "PIN", "BAD"):
        state.get(name, {}).pop("change", None)
    return state


def pages(number: int, count: int = 4) -> dict[str, bytes]:
    """Pages of which one is new in each generation."""
    return {f"p{n}": b'{"page": %d, "made": %d}' % (n, number if n == number % count else 0) for n in range(count)}
