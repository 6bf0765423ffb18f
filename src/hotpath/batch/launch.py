"""Starting workers: forked where that is safe, else in a fresh interpreter that imports the site."""

from __future__ import annotations

import ast
import contextlib
import fcntl
import os
import pickle
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import psutil

from hotpath.batch.limits import ItemLimits
from hotpath.batch.output import Printed
from hotpath.batch.spawned import Place, Setup, send_item
from hotpath.batch.sqlite import current_view
from hotpath.batch.worker import HELD, Ends, Result, Task, work
from hotpath.log import Once
from hotpath.pages.routes import PlannedItem
from hotpath.process.fork import forked, status_bytes
from hotpath.process.fresh import reason_not_to_fork, started_fresh
from hotpath.process.malloc import trim_malloc
from hotpath.site import Hotpath

# As large as an unprivileged process may have it (pipe(7)): what an item prints waits in it while the batch is busy.
_PIPE_BYTES = 1024 * 1024

_MAIN = "__main__"

_once = Once()


@dataclass(slots=True)
class WorkerProcess:
    """One process, this process' ends of its pipes, and the item it is at.

    ``is_forked`` says that it has the items already, ``is_ready`` that it can begin: it has the site's modules.
    """

    pid: int
    ends: Ends
    is_forked: bool
    printed: Printed
    is_ready: bool
    base_bytes: int
    index: int | None = None
    result: Result | None = None
    received: bytearray = field(default_factory=bytearray)
    is_fresh: bool = True
    started: float = 0.0
    deadline: float = 0.0
    peak_bytes: int = 0
    children: list[psutil.Process] = field(default_factory=list)
    children_bytes: int = 0
    children_seen: int = 0
    looked_at_children: float = 0.0


class Launcher:
    """Starts the workers of one run.

    Where the fresh interpreter cannot have the site, or an item's parameters, workers are forked nevertheless: a run
    that would go well is not lost, and items that hang end at their timeouts. ``warning`` says so then.
    """

    def __init__(self, planned: Sequence[PlannedItem], task: Task, limits: ItemLimits, site: Hotpath | None) -> None:
        self.warning: str | None = None
        self._planned = planned
        self._task = task
        self._limits = limits
        self._site = site
        self._started = 0
        self._setup: int | None = None

    def start(self, in_the_child: Callable[[], None]) -> WorkerProcess:
        """A new worker. Where it is forked it calls ``in_the_child``, to let go of what is this process' own."""
        task_reading, task_writing = os.pipe()
        result_reading, result_writing = os.pipe()
        output_reading, output_writing = os.pipe()
        pages = os.memfd_create("hotpath")
        with contextlib.suppress(OSError):  # the user's pipes may be many already
            fcntl.fcntl(output_writing, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        theirs = Ends(task_reading, result_writing, output_writing, pages)
        ours = Ends(task_writing, result_reading, output_reading, pages)
        # A lone worker's draws stay as the module seeded them, and pages the same every night.
        must_reseed = self._limits.workers > 1 or self._started > 0
        self._started += 1
        pid = self._spawn(theirs, must_reseed)
        is_forked = pid is None
        if pid is None:
            pid = self._fork(theirs, ours, in_the_child, must_reseed)
        for descriptor in (task_reading, result_writing, output_writing):
            os.close(descriptor)
        printed = Printed(self._limits.output_bytes)
        return WorkerProcess(pid, ours, is_forked, printed, is_ready=is_forked, base_bytes=status_bytes(pid, *HELD))

    def send(self, worker: WorkerProcess, index: int) -> str | None:
        """Give a fresh interpreter the parameters of its next item; why that cannot be done, for ``give_up``."""
        if worker.is_forked:
            return None
        item = self._planned[index]
        try:
            send_item(worker.ends.pages, item)
        except Exception as error:  # whatever pickling somebody's object raises
            return f"what each= gives for {item.key} cannot be sent to it ({type(error).__name__}: {error})"
        return None

    def give_up(self, problem: str) -> None:
        """Fork from now on, and say why."""
        if self.warning is None:
            reason = reason_not_to_fork() or "this process had threads or connections"
            self.warning = f"{reason}, and a fresh interpreter cannot run the items: {problem}"
            _once.warn(f"{self.warning}; workers are forked, which may hang")

    def close(self) -> None:
        """No worker is started any more."""
        if self._setup is not None:
            os.close(self._setup)
            self._setup = None

    def _fork(self, theirs: Ends, ours: Ends, in_the_child: Callable[[], None], must_reseed: bool) -> int:
        trim_malloc()  # a free heap that the worker could fill would be no part of what it is measured by
        for stream in (sys.stdout, sys.stderr):  # not printed twice; there may be none, or a full disk behind it
            with contextlib.suppress(AttributeError, OSError, ValueError):
                stream.flush()

        def child() -> None:
            in_the_child()
            self.close()
            for descriptor in (ours.tasks, ours.results, ours.output):
                os.close(descriptor)
            work(theirs, self._planned, self._task, self._limits.memory_bytes, must_reseed=must_reseed)

        return forked(child)

    def _spawn(self, theirs: Ends, must_reseed: bool) -> int | None:
        """The id of a fresh interpreter; ``None`` where this process may fork, or has to."""
        if self.warning is not None or reason_not_to_fork() is None:
            return None
        try:
            numbers = (theirs.tasks, theirs.results, theirs.output, theirs.pages, self._setup_file())
            arguments = (*numbers, os.getpid(), int(must_reseed))
            return started_fresh("hotpath.batch.spawned", arguments, numbers, theirs.output)
        except Exception as error:  # no interpreter, no descriptors, a task that cannot be pickled
            self.give_up(f"{error}" if isinstance(error, _NoPlaceError) else f"{type(error).__name__}: {error}")
            return None

    def _setup_file(self) -> int:
        if self._setup is None:
            setup = Setup(
                place=_place_of(self._site, self._planned),
                arguments=sys.argv,
                view=current_view(),
                routes=frozenset(item.route.path.text for item in self._planned),
                task=self._task,
                memory_bytes=self._limits.memory_bytes,
            )
            descriptor = os.memfd_create("hotpath-setup")
            try:
                with open(descriptor, "wb", closefd=False) as file:
                    pickle.dump(setup, file, pickle.HIGHEST_PROTOCOL)
            except BaseException:
                os.close(descriptor)
                raise
            self._setup = descriptor
        return self._setup


class _NoPlaceError(Exception):
    """The ``Hotpath`` object is nowhere that could be imported."""


def _place_of(site: Hotpath | None, planned: Sequence[PlannedItem]) -> Place:
    """Where it can be imported. Raises ``_NoPlaceError`` that says what to write."""
    advice = "declare it at the top of a module, or run 'hotpath build module:attribute'"
    if site is None:
        raise _NoPlaceError("its Hotpath object is not known here")
    if site.target:
        return Place(site.target)
    if site.target is not None:
        raise _NoPlaceError("its Hotpath object has no target")
    targets = [
        (name, attribute)
        for name, module in list(sys.modules.items())
        if isinstance(module, ModuleType)
        for attribute, value in list(vars(module).items())
        if value is site
    ]
    if not targets:
        raise _NoPlaceError(f"no module has this Hotpath object; {advice}")
    # Also modules that only declare routes of it.
    names = {name for name, _ in targets} | {getattr(item.route.function, "__module__", None) or "" for item in planned}
    targets.sort(key=lambda target: target[0] == _MAIN)
    script = _script() if _MAIN in names else None
    if _MAIN in names and script is None:
        raise _NoPlaceError(f'the program that runs declares it, without if __name__ == "__main__"; {advice}')
    modules = tuple(name for name in sys.modules if name in names and name != _MAIN)
    return Place(":".join(targets[0]), modules, script)


def _script() -> str | None:
    """The program that runs, where it is written to be imported too: its absolute path, or its module's name.

    ``python -m`` runs a module; a directory or an archive is run as ``__main__``, which names nothing elsewhere.
    """
    main = sys.modules[_MAIN]
    file = getattr(main, "__file__", None)
    try:
        tree = ast.parse(Path(file).read_bytes()) if file else None
    except (OSError, SyntaxError, ValueError):
        return None
    guards = [node.test for node in tree.body if isinstance(node, ast.If)] if tree else []
    if not any("__name__" in ast.dump(guard) for guard in guards):
        return None
    if main.__spec__ is not None and main.__spec__.name != _MAIN:
        return main.__spec__.name
    return str(Path(file).absolute()) if file else None


def close_ends(ends: Ends) -> None:
    for descriptor in (ends.tasks, ends.results, ends.output, ends.pages):
        os.close(descriptor)


def read_now(descriptor: int) -> bytes | None:
    """What is there; ``None`` for nothing yet, empty where the other end is closed."""
    try:
        return os.read(descriptor, 1024 * 1024)
    except BlockingIOError:
        return None
