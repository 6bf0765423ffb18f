"""Settings for all tests."""

from __future__ import annotations

import contextvars
import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer  # type: ignore[import-untyped]
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]
from xdist.workermanage import WorkerController  # type: ignore[import-untyped]

from hotpath.batch.limits import ItemLimits
from hotpath.batch.pool import Outcome
from hotpath.batch.worker import Task
from hotpath.errors import ItemError
from hotpath.pages.routes import PlannedItem
from hotpath.site import Hotpath

# Modules and tests are no garbage. Looking for some among them, until they all are there, takes a third of collecting.
gc.disable()

# Several packages of tests use it: before the first of them.
pytest.register_assert_rewrite("tests.wire.conformance.judge")

# A busy machine is no failure, so no deadline. In CI the same examples every time: red means that the code changed; and
# all of them, where a quick run by hand tries fewer, but others each time.
_slow_machine = [HealthCheck.too_slow]
settings.register_profile("dev", deadline=None, suppress_health_check=_slow_machine)
settings.register_profile("quick", settings.get_profile("dev"), max_examples=40)
settings.register_profile("ci", deadline=None, suppress_health_check=_slow_machine, derandomize=True, print_blob=True)
settings.register_profile("thorough", deadline=None, suppress_health_check=_slow_machine, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))

# Tests that share what takes long to make, servers, distributions or all modules parsed: one worker has all of a line.
TOGETHER = (
    "tests/ops/render/test_prometheus.py",
    "tests/ops/render/test_web_scenarios.py",
    "examples/fastapi_app/test_marketpulse.py",
    "tests/wire/servers/",
    "tests/wire/differential/test_how_to_nginx.py",
    "tests/wire/differential/test_how_to_rename.py",
    "tests/project/test_architecture.py",
    "tests/project/test_dependencies.py",
    "tests/project/test_packaging.py",
)

# Quick tests that wait more than they compute: two workers have them all, from the beginning, while the others keep the
# cores busy.
WAITING = tuple(f"tests/front/test_{letter}" for letter in "cdfu"), ("tests/front/",)

# Slow tests that bring real servers to a real memory limit, or measure time: nothing may run beside them.
ALONE = ("tests/guard/test_fault_*.py", "tests/guard/test_trim_real.py", "tests/serving/test_watched_rewrites.py")


# Where temporary directories of quick tests are, if there is room: nobody waits for a disk. Not of slow tests, some of
# which lose power or memory.
IN_MEMORY = Path("/dev/shm")
IN_MEMORY_BYTES = 1024**3


def pytest_configure(config: pytest.Config) -> None:
    """Of quick tests: fewer examples, and temporary directories in memory."""
    if config.option.markexpr != "not slow":
        return
    if not (os.environ.get("HYPOTHESIS_PROFILE") or os.environ.get("CI")):
        settings.load_profile("quick")
    if os.access(IN_MEMORY, os.W_OK | os.X_OK):
        room = os.statvfs(IN_MEMORY)
        if room.f_bavail * room.f_frsize >= IN_MEMORY_BYTES and not room.f_flag & os.ST_NOEXEC:
            os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(IN_MEMORY))


@pytest.hookimpl(tryfirst=True)  # before pytest's own deselects by marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark as serial the slow tests of ``ALONE``; beside other workers ``WAITING`` comes first."""
    for item in items:
        if item.get_closest_marker("slow") and any(item.path.match(pattern) for pattern in ALONE):
            item.add_marker(pytest.mark.serial)
    if hasattr(config, "workerinput") and config.option.markexpr == "not slow":
        items.sort(key=lambda item: not item.nodeid.startswith(WAITING[-1]))


def pytest_collection_finish() -> None:
    """What holds for all tests."""
    # The modules and thousands of tests are left out of each later collection of garbage, which takes 0.1 s with them.
    gc.collect()
    gc.freeze()
    gc.enable()
    # Tests write a module twice within a second, at equal length: the first one's bytecode would be taken for it.
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"


@pytest.fixture(scope="session", autouse=True)
def threads_of_pytest_are_none_of_the_batch() -> Iterator[None]:
    """Builds fork their workers, as they do in a process without threads; xdist and faulthandler have some.

    What a build does where the site has threads is seen in processes of their own: ``tests/batch/test_launch.py``.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hotpath.batch.launch.reason_not_to_fork", lambda: None)
        yield


@pytest.fixture
def short_directory() -> Iterator[Path]:
    """For Unix sockets, whose paths have 107 bytes at most: pytest's own directories may be longer."""
    with tempfile.TemporaryDirectory(prefix="hotpath-") as name:
        yield Path(name)


@pytest.fixture
def items_in_this_process(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Builds call their items here, and compare with earlier runs here: for quick tests of what reads a store.

    Forking the workers, after thousands of tests were collected, takes ten times as long as all else of a build.
    """
    if request.node.get_closest_marker("slow"):
        return

    def run_items(
        planned: Sequence[PlannedItem], task: Task, limits: ItemLimits, site: Hotpath | None = None
    ) -> Iterator[Outcome]:
        for item in planned:
            built, error, began = None, None, time.monotonic()
            try:
                built = contextvars.copy_context().run(task, item)
            except ItemError as failed:
                error = ItemError(
                    failed.problem, key=item.key, where=failed.where or item.route.where, path=failed.path
                )
            except Exception as raised:
                error = ItemError(f"raised {type(raised).__name__}: {raised}", key=item.key, where=item.route.where)
            yield Outcome(item, built, error, time.monotonic() - began, 0, "")

    def run_isolated(function: Callable[[], Any], **limits: object) -> Any:
        return json.loads(json.dumps(function()))

    monkeypatch.setattr("hotpath.batch.run.run_items", run_items)
    monkeypatch.setattr("hotpath.batch.verdict.run_isolated", run_isolated)


class Scheduling(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types of its own
    """One test function at a time to whichever worker is free, and each line of ``TOGETHER`` or ``WAITING`` to one.

    Slow tests are given one by one, with each set of parameters for itself: one of them may take a minute.
    In place of ``--dist loadgroup``: xdist 3.8 notes the groups where pytest 9.2 does not look any more.
    """

    def _split_scope(self, nodeid: str) -> str:
        if self.config.option.markexpr == "not slow":
            for prefixes in WAITING:
                if nodeid.startswith(prefixes):
                    return prefixes[0]
            return next((line for line in TOGETHER if nodeid.startswith(line)), nodeid.partition("[")[0])
        return next((line for line in TOGETHER if nodeid.startswith(line)), nodeid)

    def mark_test_complete(self, node: WorkerController, item_index: int, duration: float = 0) -> None:
        """Forget what is done: xdist looks for what is not through all that a worker was ever given, at each test."""
        super().mark_test_complete(node, item_index, duration)
        work = self.assigned_work[node]
        scope = self._split_scope(self.registered_collections[node][item_index])
        if all(work[scope].values()):
            del work[scope]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    """The schedule of ``make test``."""
    return Scheduling(config, log)
