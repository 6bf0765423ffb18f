"""The commands that are interrupted, the stores they start from, and what must hold of a store afterwards.

The pages of one *content* belong together: its number is in every body, so that a page of another generation among
them is seen. Sequence numbers do not serve for that, since a run after an interrupted one may take the next.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from hotpath.errors import Implausible, NothingPublished, StoreError
from hotpath.pages.policy import Policy
from hotpath.serving import Reader, reader_of
from hotpath.site import Hotpath
from hotpath.store.disk import Disk
from hotpath.store.prune import prune
from hotpath.store.publish import Published, Validator, staging
from hotpath.store.quarantine import approve
from hotpath.store.store import Store
from hotpath.testing import FakeClock

LITTER = (".stage-", ".trash-", ".new-")
POLICY = Policy("/{page}", "application/json", "public", None, 3600)
CONTENTS = range(1, 9)


def pages(content: int) -> dict[str, bytes]:
    """One small page, one with content codings, one that never changes and so is taken over with a link."""
    return {
        "/small": b'{"content":%d}' % content,
        "/sub/large": b'{"content":%d,"fill":"%s"}' % (content, b"x" * 200),
        "/constant": b'{"content":"any"}',
    }


def content_of(bodies: Mapping[str, bytes]) -> int | None:
    """The content that these pages are, all of them, byte for byte; ``None`` where they are not one."""
    return next((content for content in CONTENTS if pages(content) == bodies), None)


def open_store(root: Path, keep: int, disk: Disk | None = None) -> Store:
    return Store(root, keep=keep, disk=disk, clock=FakeClock())


def publish(store: Store, content: int, validate: Validator | None = None) -> Published:
    with staging(store) as stage:
        for key, body in pages(content).items():
            stage.add(key, key[1:] + ".json", body, POLICY)
        return stage.publish(validate)


def reject(store: Store, content: int) -> None:
    """A publish whose generation is put in quarantine."""
    try:
        publish(store, content, lambda manifest, previous: ["half of the rows are missing"])
    except Implausible:
        return
    raise AssertionError("it was not put in quarantine")


def _roll_back(store: Store) -> None:
    try:
        store.rollback(to=1, reason="half of the rows are missing")
    except StoreError as error:
        if "the one that is served" not in str(error):
            raise


def _approve(store: Store) -> None:
    approve(store, 3, "the market was closed")


@dataclass(frozen=True)
class Scenario:
    """A command on a store: what is served ``before`` and ``after`` it, as contents (``None``: nothing).

    ``reader`` says that another process reads the store all the while.
    """

    name: str
    prepare: Callable[[Store], None]
    command: Callable[[Store], object]
    before: int | None
    after: int | None
    keep: int = 2
    reader: bool = False

    def store(self, root: Path, disk: Disk | None = None) -> Store:
        return open_store(root, self.keep, disk)


def _nothing(store: Store) -> None:
    return None


def _publish_all(store: Store, *contents: int) -> None:
    keeping = open_store(store.root, 9, store.disk)
    for content in contents:
        publish(keeping, content)


def _two(store: Store) -> None:
    _publish_all(store, 1, 2)


def _three(store: Store) -> None:
    _publish_all(store, 1, 2, 3)


def _pinned(store: Store) -> None:
    _two(store)
    store.pin(1)


def _rejected(store: Store) -> None:
    _two(store)
    reject(store, 3)


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("first publish", _nothing, lambda store: publish(store, 4), None, 4),
        Scenario("publish, old ones pruned", _two, lambda store: publish(store, 4), 2, 4, keep=1),
        Scenario("publish beside a reader", _two, lambda store: publish(store, 4), 2, 4, keep=1, reader=True),
        Scenario("publish beside a pin", _pinned, lambda store: publish(store, 4), 1, 1, keep=1),
        Scenario("publish into quarantine", _two, lambda store: reject(store, 4), 2, 2),
        Scenario("rollback", _three, _roll_back, 3, 1, keep=3, reader=True),
        Scenario("pin", _two, lambda store: store.pin(1), 2, 1, reader=True),
        Scenario("unpin", _pinned, lambda store: store.unpin(), 1, 2, reader=True),
        Scenario("approve", _rejected, _approve, 2, 3),
        Scenario("prune", _three, lambda store: prune(store, 1), 3, 3, keep=1),
    )
}


def served(store: Store) -> int | None:
    """The content that a process which starts now serves, every page of it from one generation; ``None``: nothing.

    A page that is not what was published, or not of the chosen generation, is an error.
    """
    with reading(store) as reader:
        return content_served(reader)


# Not among the others: run again after its end, it goes back once more, as it should.
STEP_BACK = Scenario("step back", _three, lambda store: store.rollback(reason="wrong"), 3, 2, keep=3)
COMMANDS = {**SCENARIOS, STEP_BACK.name: STEP_BACK}


@contextmanager
def reading(store: Store) -> Iterator[Reader]:
    """A reader that has looked once and keeps one page in memory, so that others are read from disk when asked for."""
    hot = Hotpath(store.root, refresh=3600, max_body_bytes=1)
    hot.store = store
    reader = reader_of(hot)
    reader.refresh()
    try:
        yield reader
    finally:
        reader.close()


def content_served(reader: Reader) -> int | None:
    """What a reader answers: each key from the generation that the snapshot names, and all of them one content."""
    generation = reader.snapshot.generation
    bodies = {}
    for key in sorted(reader.loader.keys):
        page = reader.load_page(key)
        assert page is not None, f"{key!r} of generation {generation} cannot be read"
        assert page.generation == generation, f"{key!r} is of generation {page.generation}, not of {generation}"
        bodies[key.decode("ascii")] = page.bodies["identity"]
    assert not reader.loader.corrupt_items
    found = content_of(bodies)
    assert found is not None or not bodies, f"generation {generation} serves a mixture: {bodies}"
    return found


def litter(store: Store) -> list[str]:
    return sorted(path.name for path in store.root.iterdir() if path.name.startswith(LITTER))


def faults(store: Store, *, whole: bool = True) -> list[str]:
    """What is wrong with a store at rest: I1, and that the link for other programs leads to a complete generation.

    ``whole``: every numbered generation is complete, since one is put in its place and taken away with a rename. A
    first generation that is in its place and not yet named by any pointer may be served, as after a lost pointer.
    """
    found = []
    for path in (store.current_path, store.pin_path):
        try:
            pointer = store.pointer(path)
            if pointer is None:
                continue
            store.read_manifest(pointer.sequence, pointer.sha256)
            found += [f"{path.name}: {damage}" for damage in store.verify_generation(pointer.sequence)]
        except (StoreError, OSError) as error:
            found.append(f"{path.name}: {error}")
    told = why_degraded(store)
    if told is not None:
        found.append(f"degraded: {told}")
    link = store.root / "current"
    if link.is_symlink():
        target = link.readlink()
        sequence = int(target.parts[1]) if len(target.parts) == 3 and target.parts[1].isdigit() else -1
        found += [f"current -> {target}: {damage}" for damage in store.verify_generation(sequence)]
    if whole:
        for sequence in store.sequences():
            found += [f"not whole: {damage}" for damage in store.verify_generation(sequence)]
    return sorted(set(found))


def why_degraded(store: Store) -> str | None:
    """Why another generation is served than the pointer names, unless a command that was killed had got that far.

    Two such states are no fault: the first generation is in its place and no pointer names it yet; a rollback has
    marked the generation that the pointer still names.
    """
    try:
        choice = store.choose()
    except NothingPublished:
        return "there is a pointer, and nothing to serve" if store.current_path.exists() else None
    os.close(choice.descriptor)
    current = store.pointer(store.current_path)
    if current is None and not store.pin_path.exists() and store.sequences() == [choice.sequence]:
        return None
    if current is not None and current.sequence in store.bad() and choice.sequence not in store.bad():
        return None
    return choice.degraded


@dataclass(frozen=True)
class State:
    """A store as its readers see it, without sequence numbers and times: two runs that did the same compare equal."""

    served: int | None
    pointer: int | None
    pinned: int | None
    linked: int | None
    bad: tuple[int | None, ...]
    quarantined: frozenset[int | None]
    litter: tuple[str, ...]
    faults: tuple[str, ...]

    def difference(self, other: State) -> dict[str, tuple[object, object]]:
        """What is not the same in both, with both values."""
        mine, theirs = asdict(self), asdict(other)
        return {name: (mine[name], theirs[name]) for name in mine if mine[name] != theirs[name]}


def content_in(directory: Path) -> int | None:
    """The content in a directory of files as another program would read them."""
    if not directory.exists():
        return None
    return content_of({key: (directory / (key[1:] + ".json")).read_bytes() for key in pages(1)})


def state_of(store: Store) -> State:
    def content(path: Path) -> int | None:
        pointer = store.pointer(path)
        return content_in(store.files_path(pointer.sequence)) if pointer else None

    return State(
        served=served(store),
        pointer=content(store.current_path),
        pinned=content(store.pin_path),
        linked=content_in(store.root / "current"),
        bad=tuple(content_in(store.files_path(sequence)) for sequence in sorted(store.bad())),
        quarantined=frozenset(content_in(store.quarantine_path / str(n) / "files") for n in store.quarantined()),
        litter=tuple(litter(store)),
        faults=tuple(faults(store)),
    )
