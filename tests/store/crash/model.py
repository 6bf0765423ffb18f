"""A file system that loses power: what may be on the disk after any prefix of a recorded trace.

Pure: a trace goes in, trees come out. Every name of a directory and the bytes of every file have a history; its first
entry is durable, the others happened since. A sync forgets all but the last. After a power loss each name has any of
the values of its history, independently of all others, and each file holds any of its contents, or, where it was
written since, part of it, zeros or garbage.

This is stricter than the file systems the store runs on, so that what holds here holds there:

* ext4 with ``data=ordered`` and xfs commit their journal in order, so a later rename is never durable before an earlier
  one; here any may be. On ext4 fsync(2) of a new file makes its name durable too; here it takes fsync of the directory.
* ext4 writes a file's data before it commits a rename over another one (``auto_da_alloc``), and data blocks before the
  size in ``data=ordered``; here a rename or a size may be durable with none of the data.
* A rename is one transaction in any journal; here the old name may stay while the new one is there, or both be gone.
* One thing all of them hold, and the model as well: a name is either what it was or what it is replaced with.

After Pillai et al., "All File Systems Are Not Created Equal: On the Complexity of Crafting Crash-Consistent
Applications", OSDI 2014, and the model with the fewest guarantees that it tests applications on.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from tests.store.crash.operations import Operation

# What is on the disk: for each path the bytes of a file, the text of a link, or None for a directory.
Tree = Mapping[str, bytes | str | None]


@dataclass
class File:
    """``contents``: the durable one first."""

    contents: list[bytes] = field(default_factory=lambda: [b""])


@dataclass
class Link:
    text: str


@dataclass
class Directory:
    """The history of each name, the durable value first; ``None`` is no such name."""

    names: dict[str, list[File | Link | Directory | None]] = field(default_factory=dict)

    def set(self, name: str, value: File | Link | Directory | None) -> None:
        self.names.setdefault(name, [None]).append(value)

    def get(self, name: str) -> File | Link | Directory | None:
        return self.names.get(name, [None])[-1]

    def sync(self) -> None:
        for history in self.names.values():
            del history[:-1]


@dataclass(frozen=True)
class Loss:
    """What a power loss does: which value of a name's history stays, and what of a file's contents.

    ``name`` is told the directory, and how long the history is.
    """

    name: Callable[[str, int], int]
    content: Callable[[list[bytes]], bytes]


class Disk:
    """The modelled disk. Starts with ``tree``, all of it durable."""

    def __init__(self, tree: Tree) -> None:
        self.root = Directory()
        for path in sorted(tree):
            value = tree[path]
            directory, name = self._parent(path)
            directory.set(
                name, Directory() if value is None else Link(value) if isinstance(value, str) else File([value])
            )
        self._sync_all(self.root)

    def apply(self, operation: Operation) -> None:
        """One operation of a trace, that did not fail."""
        directory, name = self._parent(operation.path)
        match operation.kind:
            case "make_directory" | "begin_directory":
                directory.set(name, Directory())
            case "finish_directory":  # of modes the model knows nothing
                assert isinstance(directory.get(name), Directory)
            case "open_lock":
                if directory.get(name) is None:
                    directory.set(name, File())
            case "write_new":
                file = File()
                directory.set(name, file)
                file.contents.append(operation.data)
            case "append" | "overwrite":
                found = directory.get(name)
                if found is None:
                    found = File()
                    directory.set(name, found)
                assert isinstance(found, File)
                before = found.contents[-1] if operation.kind == "append" else b""
                if operation.kind == "overwrite":
                    found.contents.append(b"")
                found.contents.append(before + operation.data)
            case "link":
                self._set(operation.target, directory.get(name))
            case "symlink":
                directory.set(name, Link(operation.target))
            case "rename" | "replace":
                self._set(operation.target, directory.get(name))
                directory.set(name, None)
            case "unlink" | "remove_directory":
                if directory.get(name) is not None:
                    directory.set(name, None)
            case "sync_file":
                synced = directory.get(name)
                assert isinstance(synced, File)
                del synced.contents[:-1]
            case "sync_directory":
                self._directory(operation.path).sync()
            case "sync_tree":  # syncfs(2): all there is, wherever it is
                self._sync_all(self.root)
            case kind:
                raise AssertionError(f"the model does not know the operation {kind!r}")

    def after(self, loss: Loss) -> Tree:
        """What is there when the power comes back."""
        return dict(self._left(self.root, "", loss, {}))

    def unsynced(self) -> list[str]:
        """The directories in which a name is not durable, as ``Loss.name`` is told them."""
        return sorted(_unsynced(self.root, ""))

    def _left(
        self, directory: Directory, prefix: str, loss: Loss, held: dict[int, bytes]
    ) -> Iterator[tuple[str, bytes | str | None]]:
        for name, history in directory.names.items():
            value = history[loss.name(prefix, len(history))]
            path = prefix + name
            if isinstance(value, File):
                # Two names of one file hold the same bytes.
                yield path, held.setdefault(id(value), loss.content(value.contents))
            elif isinstance(value, Link):
                yield path, value.text
            elif isinstance(value, Directory):
                yield path, None
                yield from self._left(value, f"{path}/", loss, held)

    def _sync_all(self, directory: Directory) -> None:
        # Also what has no name any more is walked: a name that is dropped later may have been its last.
        for history in directory.names.values():
            for value in history:
                if isinstance(value, File):
                    del value.contents[:-1]
                elif isinstance(value, Directory):
                    self._sync_all(value)
        directory.sync()

    def _set(self, path: str, value: File | Link | Directory | None) -> None:
        directory, name = self._parent(path)
        directory.set(name, value)

    def _parent(self, path: str) -> tuple[Directory, str]:
        pure = PurePosixPath(path)
        return self._directory(str(pure.parent)), pure.name

    def _directory(self, path: str) -> Directory:
        found = self.root
        for part in PurePosixPath(path).parts:
            below = found.get(part)
            assert isinstance(below, Directory), path
            found = below
        return found


def _first(directory: str, count: int) -> int:
    return 0


def _last(directory: str, count: int) -> int:
    return count - 1


def _lost(contents: list[bytes]) -> bytes:
    return contents[0]


def _written(contents: list[bytes]) -> bytes:
    return contents[-1]


def _damaged(damage: Callable[[bytes, bytes], bytes]) -> Callable[[list[bytes]], bytes]:
    """What was written since the last sync is damaged; what was there before stays where it was only added to."""

    def content(contents: list[bytes]) -> bytes:
        if len(contents) == 1:
            return contents[0]
        kept = contents[0] if contents[-1].startswith(contents[0]) else b""
        return kept + damage(contents[-1][len(kept) :], contents[0])

    return content


_DAMAGES: tuple[Callable[[bytes, bytes], bytes], ...] = (
    lambda new, old: b"",
    lambda new, old: new[: len(new) // 2],
    lambda new, old: bytes(len(new)),
    lambda new, old: new[: len(new) // 2] + bytes(len(new) - len(new) // 2),
    lambda new, old: bytes(byte ^ 0x5A for byte in new),
)

# Row 2: all names that are not durable are dropped, or all are kept, with each damage to the bytes behind them.
WORST: tuple[Loss, ...] = (
    Loss(_first, _lost),
    Loss(_first, _written),
    Loss(_last, _lost),
    Loss(_last, _written),
    *(Loss(_last, _damaged(damage)) for damage in _DAMAGES),
    *(Loss(_first, _damaged(damage)) for damage in _DAMAGES),
)


def one_directory(directory: str) -> tuple[Loss, Loss]:
    """Row 2: the names of this directory are dropped and all others kept, and the other way round."""
    return (
        Loss(lambda found, count: 0 if found == directory else count - 1, _written),
        Loss(lambda found, count: count - 1 if found == directory else 0, _written),
    )


def by_chance(seed: int) -> Loss:
    """Row 3: each name and each file for itself."""
    chance = random.Random(seed)

    def content(contents: list[bytes]) -> bytes:
        damage = chance.choice((None, None, *_DAMAGES))
        return chance.choice(contents) if damage is None else _damaged(damage)(contents)

    return Loss(lambda directory, count: chance.randrange(count), content)


def _unsynced(directory: Directory, prefix: str) -> Iterator[str]:
    if any(len(history) > 1 for history in directory.names.values()):
        yield prefix
    for name in directory.names:
        below = directory.get(name)
        if isinstance(below, Directory):
            yield from _unsynced(below, f"{prefix}{name}/")


def prefixes(tree: Tree, trace: Iterable[Operation]) -> Iterator[tuple[int, Disk]]:
    """The disk before the first operation and after each: the number of operations done, and the same object."""
    disk = Disk(tree)
    yield 0, disk
    for number, operation in enumerate(trace, start=1):
        if not operation.failed:
            disk.apply(operation)
        yield number, disk
