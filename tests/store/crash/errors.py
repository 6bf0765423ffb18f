"""Fail one operation of a publish, and say what of the promise is not kept."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath

from hotpath.errors import StoreError
from tests.store.crash.bench import Bench
from tests.store.crash.operations import SYNCS, FailingDisk, NumberedDisk, Operation
from tests.store.crash.planted import planted
from tests.store.crash.scenarios import content_in, faults, litter, publish, served

# What the publish that fails is of, as in the scenarios, and what the one after it is of.
CONTENT, NEXT = 4, 8

# What takes room on the disk, and so can find none.
TAKES_ROOM = frozenset(
    {"open_lock", "overwrite", "make_directory", "begin_directory", "write_new", "append", "link", "symlink", "rename"}
)


@dataclass(frozen=True)
class Failure:
    """Operation ``number`` fails with ``code``: before anything of it is done, after half, or when it is done."""

    number: int
    code: int
    moment: str

    def __str__(self) -> str:
        return f"{errno.errorcode[self.code]} {self.moment} {self.number}"


def failures(trace: list[Operation]) -> Iterator[Failure]:
    """Every way in which a command with this trace can fail once."""
    for number, operation in enumerate(trace):
        yield Failure(number, errno.EIO, "at")
        if operation.kind in TAKES_ROOM | {"replace"}:
            yield Failure(number, errno.ENOSPC, "at")
            yield Failure(number, errno.EDQUOT, "at")
        if operation.has_middle:
            yield Failure(number, errno.ENOSPC, "in the middle of")
        if operation.kind in SYNCS | {"replace", "rename"}:
            yield Failure(number, errno.EIO, "when done with")


def broken(bench: Bench, failure: Failure, *, whole: bool) -> Iterator[str]:
    """What is wrong with a publish that meets the failure, one text for each."""
    root = bench.fresh()
    disk = planted(bench.plant, FailingDisk)(
        base=root.parent,
        whole=whole,
        looks=True,
        errors={failure.number: failure.code},
        torn={failure.number} if failure.moment == "in the middle of" else (),
        late={failure.number} if failure.moment == "when done with" else (),
    )
    store = bench.scenario.store(root, disk)
    before = store.current_path.read_bytes()
    told: StoreError | None = None
    warnings: tuple[str, ...] = ()
    try:
        warnings = publish(store, CONTENT).warnings
    except StoreError as error:
        told = error
    except OSError as error:
        yield f"{type(error).__name__}, not StoreError"
        return
    operation = disk.trace[failure.number]
    replaced = _index(disk.trace, "replace", "CURRENT")
    moved = store.current_path.read_bytes() != before
    fresh = bench.scenario.store(root)
    after = served(fresh)

    yield from _repeated(disk.trace, failure.number)
    if moved != (after == bench.scenario.after) or after not in (bench.scenario.before, bench.scenario.after):
        yield f"{after} is served, and the pointer is {'moved' if moved else 'where it was'}"
    if told is not None:
        if str(root.parent) not in str(told.path):
            yield f"the error names {told.path}, no path of the store"
        names = {str(root.parent / operation.path), str(root.parent / operation.target), str(root)}
        if not moved and str(told.path) not in names:
            yield f"the error names {told.path}, not what failed"
        if moved != ("is current and valid" in str(told)):
            yield f"which generation is current is told wrongly: {told}"
        if moved and "nothing was changed" in str(told):
            yield f"it says that nothing was changed: {told}"
        if moved and bench.scenario.before not in {content_in(fresh.files_path(n)) for n in fresh.sequences()}:
            yield "the generation before was removed, while it may come back"
    elif not moved:
        yield "success was reported, and the pointer is where it was"
    elif operation.kind in SYNCS and failure.number < replaced + 2:
        yield "success was reported though what it was about was not made durable"
    elif failure.number > replaced and not warnings and operation.kind not in {"try_lock", "open_regular"}:
        yield "something after the pointer failed, and there is no warning"
    if told is not None and [path.name for path in root.glob(".stage-*")]:
        yield "the stage was not removed"
    yield from faults(fresh)
    publish(fresh, NEXT)
    if served(fresh) != NEXT:
        yield "the next publish is not served"
    yield from litter(fresh)
    yield from faults(fresh)


def _index(trace: list[Operation], kind: str, name: str) -> int:
    found = [number for number, one in enumerate(trace) if one.kind == kind and one.target.endswith(f"/{name}")]
    return found[0] if found else len(trace)


def _repeated(trace: list[Operation], number: int) -> Iterator[str]:
    """Syncs, later in the trace, of what a failed sync was about."""
    failed = trace[number]
    if failed.kind not in SYNCS:
        return
    for later in trace[number + 1 :]:
        below = failed.kind == "sync_tree" and PurePosixPath(later.path).is_relative_to(failed.path)
        if later.kind in SYNCS and (later.path == failed.path or below):
            yield f"{failed} failed and was done again as {later}"


def wrong_errors(bench: Bench, *, whole: bool = True, to_the_end: bool = True, every: int = 1) -> tuple[int, list[str]]:
    """Fail every operation in turn, or one of ``every``: how many failures there were, and what was wrong."""
    root = bench.fresh()
    disk = planted(bench.plant, NumberedDisk)(base=root.parent, whole=whole, looks=True)
    publish(bench.scenario.store(root, disk), CONTENT)
    wrong = []
    count = 0
    for failure in islice(failures(disk.trace), 0, None, every):
        count += 1
        problems = list(broken(bench, failure, whole=whole))
        if problems:
            wrong.append(f"{failure} ({disk.trace[failure.number]}): {'; '.join(problems)}")
            if not to_the_end:
                break
    return count, wrong
