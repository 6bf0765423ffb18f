"""A worker in a fresh interpreter: it imports the site, then works like a forked one.

The batch puts a ``Setup`` into one file without a name that all such workers read, and the parameters of an item into
the worker's file for pages just before the item's number is sent: nothing of it has to fit into a pipe.
"""

from __future__ import annotations

import importlib
import os
import pickle
import signal
import struct
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

from hotpath.batch.sqlite import join_view
from hotpath.batch.worker import Ends, Task, work
from hotpath.errors import DeclarationError, ItemError
from hotpath.pages.routes import PlannedItem, Route
from hotpath.process.fork import die_with
from hotpath.process.fresh import reopened
from hotpath.process.signals import NUMBERS
from hotpath.site import Hotpath

# The first byte on the pipe for results: the site is imported, or why it could not be.
READY = b"+"
FAILED = b"-"

MAX_PROBLEM_BYTES = 4096

_SIZE = struct.Struct("!Q")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a fresh interpreter finds a ``Hotpath`` object: the ``target`` module:attribute, after ``modules``.

    ``main`` is the program that was run, an absolute path or a module, where some of it is declared there.
    """

    target: str
    modules: tuple[str, ...] = ()
    main: str | None = None


@dataclass(frozen=True, slots=True)
class Setup:
    """What every worker of a run gets."""

    place: Place
    arguments: list[str]
    view: Path | None
    routes: frozenset[str]
    task: Task
    memory_bytes: int


def main(tasks: int, results: int, output: int, pages: int, setup: int, parent: int, must_reseed: int) -> None:
    """Called by the interpreter that ``process.fresh`` starts; never returns."""
    status = 1
    try:
        die_with(parent)
        for descriptor in (tasks, results, output, pages, setup):
            os.set_inheritable(descriptor, False)
        for number in NUMBERS:
            signal.signal(number, signal.SIG_DFL)
        try:
            given, routes = _set_up(setup)
        except BaseException as error:  # whatever the site's module does while it is imported
            _say_why_not(results, error)
            return
        os.close(setup)
        os.write(results, READY)
        ends = Ends(tasks, results, output, pages)
        work(ends, SentItems(pages, routes), given.task, given.memory_bytes, must_reseed=bool(must_reseed))
        status = 0
    finally:
        os._exit(status)  # threads and pools of the site must not be waited for


def _set_up(descriptor: int) -> tuple[Setup, Mapping[str, Route]]:
    with reopened(descriptor).open("rb") as file:
        setup: Setup = pickle.load(file)
    sys.argv[:] = setup.arguments
    if setup.view is not None:
        join_view(setup.view)
    here = Path.cwd()
    routes = {route.path.text: route for route in _site_at(setup.place).routes}
    os.chdir(here)  # what changes it while it is imported has done that in the batch already
    missing = sorted(setup.routes - routes.keys())
    if missing:
        raise DeclarationError(f"{setup.place.target} does not declare {missing[0]!r} there")
    return setup, routes


def _site_at(place: Place) -> Hotpath:
    if place.main is not None:
        _import_program(place.main)
    for name in place.modules:
        importlib.import_module(name)
    module_name, _, attributes = place.target.partition(":")
    value: object = importlib.import_module(module_name)
    for name in attributes.split("."):
        value = getattr(value, name)
    if not isinstance(value, Hotpath):
        raise DeclarationError(f"{place.target} is a {type(value).__name__} there, not a Hotpath object")
    return value


def _import_program(path: str) -> None:
    """As a module that is not ``__main__`` by its name, but is found as that where parameters are of its classes."""
    if not os.path.isabs(path):  # noqa: PTH117  it may be the name of a module
        sys.modules["__main__"] = importlib.import_module(path)
        return
    name = "__mp_main__"  # as multiprocessing calls it
    loader = SourceFileLoader(name, path)
    spec = spec_from_loader(name, loader)
    assert spec is not None  # the loader is no namespace's
    module = module_from_spec(spec)
    sys.modules["__main__"] = sys.modules[name] = module
    loader.exec_module(module)


def _say_why_not(results: int, error: BaseException) -> None:
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    problem = str(error) if isinstance(error, DeclarationError) else f"{type(error).__name__}: {error}{where}"
    os.write(results, FAILED + problem.encode("utf-8", "backslashreplace")[:MAX_PROBLEM_BYTES])


class SentItems:
    """The items of a run as one of its fresh interpreters sees them: each is in the file for pages when it is asked."""

    def __init__(self, pages: int, routes: Mapping[str, Route]) -> None:
        self._pages = pages
        self._routes = routes

    def __getitem__(self, index: int) -> PlannedItem:
        (size,) = _SIZE.unpack(os.pread(self._pages, _SIZE.size, 0))
        data = os.pread(self._pages, size, _SIZE.size)
        try:
            key, file, route, arguments = pickle.loads(data)
        except Exception as error:
            problem = f"its parameters cannot be read in a fresh interpreter ({type(error).__name__}: {error})"
            raise ItemError(f"{problem}; let each= give text and numbers") from error
        return PlannedItem(key, file, self._routes[route], arguments)


def send_item(pages: int, item: PlannedItem) -> None:
    """Put an item where ``SentItems`` reads it. Raises whatever its parameters raise where pickle cannot take them."""
    data = pickle.dumps((item.key, item.file, item.route.path.text, item.arguments), pickle.HIGHEST_PROTOCOL)
    os.pwrite(pages, _SIZE.pack(len(data)) + data, 0)
