"""An origin in memory with machines, and the fixtures of the real S3 server and of the proxy in front of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hotpath.testing import FakeClock
from tests.store.origin.engine import credentials, engine, start_engine
from tests.store.origin.fake import FakeObjects
from tests.store.origin.machines import Machine
from tests.store.origin.proxy import start_proxy

__all__ = ["credentials", "engine", "start_engine", "start_proxy"]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def objects(clock: FakeClock) -> FakeObjects:
    return FakeObjects(clock)


@pytest.fixture
def builder(tmp_path: Path, objects: FakeObjects, clock: FakeClock) -> Machine:
    return Machine(tmp_path / "builder", objects, clock)


@pytest.fixture
def machine(tmp_path: Path, objects: FakeObjects, clock: FakeClock) -> Machine:
    return Machine(tmp_path / "machine", objects, clock)


@pytest.fixture
def one(tmp_path: Path, objects: FakeObjects, clock: FakeClock) -> Machine:
    return Machine(tmp_path / "one", objects, clock)


@pytest.fixture
def two(tmp_path: Path, objects: FakeObjects, clock: FakeClock) -> Machine:
    return Machine(tmp_path / "two", objects, clock)
