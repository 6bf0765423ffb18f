"""Bugs that a store could have, each as a disk that does what such a store would do. Tests of the tests."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hotpath.store.disk import FILE_MODE
from tests.store.crash.operations import NumberedDisk


class FilesNotSynced(NumberedDisk):
    """The pointer is written first, the files are synced after it."""

    def sync_tree(self, path: Path) -> None:
        return None

    def replace(self, source: Path, target: Path) -> None:
        super().replace(source, target)
        if target.name == "CURRENT":
            super().sync_tree(target.parent)


class UnlinkedBeforeThePointer(NumberedDisk):
    """Old generations are removed, then the pointer is moved."""

    def replace(self, source: Path, target: Path) -> None:
        if target.name == "CURRENT":
            _remove_old(self, target.parent)
        super().replace(source, target)


class UnlinkedBeforeThePointerIsDurable(NumberedDisk):
    """The pointer is moved, old generations are removed, then the pointer is made durable."""

    def replace(self, source: Path, target: Path) -> None:
        super().replace(source, target)
        if target.name == "CURRENT":
            _remove_old(self, target.parent)


def _remove_old(disk: NumberedDisk, root: Path) -> None:
    for generation in sorted((root / "generations").iterdir(), key=lambda path: int(path.name))[:-1]:
        trash = root / f".trash-{generation.name}"
        disk.rename(generation, trash)
        disk.remove_tree(trash)


class RootNotSynced(NumberedDisk):
    """Nothing makes the moved pointer durable."""

    def sync_directory(self, path: Path) -> None:
        if not (path / "generations").is_dir():
            super().sync_directory(path)


class GenerationsNotSynced(NumberedDisk):
    """The new generation's name is not made durable before the pointer says it."""

    def sync_directory(self, path: Path) -> None:
        if path.name != "generations":
            super().sync_directory(path)


class PointerNotSynced(NumberedDisk):
    """The pointer's temporary file is not synced before it takes the pointer's place."""

    def sync_file(self, path: Path) -> None:
        if path.name != ".new-CURRENT":
            super().sync_file(path)


class LinkNotSynced(NumberedDisk):
    """The link for other programs is not made durable before what it led to is removed."""

    moved = False

    def replace(self, source: Path, target: Path) -> None:
        super().replace(source, target)
        self.moved = target.name == "current"

    def sync_directory(self, path: Path) -> None:
        if not self.moved:
            super().sync_directory(path)


class FilesAfterTheManifest(NumberedDisk):
    """The manifest is written first, and the files it lists after it."""

    def write_new(self, path: Path, data: bytes, mode: int = FILE_MODE) -> None:
        held = self.__dict__.setdefault("held", {})
        if "files" in path.parts and path.name != "manifest.json":
            held[path] = data
            return
        super().write_new(path, data, mode)
        if path.name == "manifest.json":
            for late, content in held.items():
                super().write_new(late, content)
            held.clear()


class ManifestAfterTheRename(NumberedDisk):
    """A generation gets its number while its manifest is still to be written."""

    def write_new(self, path: Path, data: bytes, mode: int = FILE_MODE) -> None:
        if path.name == "manifest.json":
            self.__dict__["held"] = (path, data)
        else:
            super().write_new(path, data, mode)

    def sync_file(self, path: Path) -> None:
        if path.name != "manifest.json":
            super().sync_file(path)

    def read(self, path: Path) -> bytes:
        held: tuple[Path, bytes] | None = self.__dict__.get("held")
        return held[1] if held and held[0] == path else super().read(path)

    def rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        held: tuple[Path, bytes] | None = self.__dict__.pop("held", None)
        if held:
            super().write_new(target / "manifest.json", held[1])
            super().sync_file(target / "manifest.json")


class PointerInPlace(NumberedDisk):
    """The pointer's file is written over instead of being replaced by another one."""

    def replace(self, source: Path, target: Path) -> None:
        if target.name != "CURRENT":
            super().replace(source, target)
            return
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            self.overwrite(descriptor, self.read(source))
        finally:
            os.close(descriptor)
        self.sync_file(target)
        self.unlink(source)


class LockRemoved(NumberedDisk):
    """The lock's file is tidied away while it is held, so that the next writer locks another one."""

    def overwrite(self, descriptor: int, data: bytes) -> None:
        super().overwrite(descriptor, data)
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.name == "lock":
            self.unlink(path)


class SyncRepeated(NumberedDisk):
    """A sync that failed is tried once more, and then the kernel says that all is well."""

    def sync_tree(self, path: Path) -> None:
        try:
            super().sync_tree(path)
        except OSError:
            super().sync_tree(path)

    def sync_file(self, path: Path) -> None:
        try:
            super().sync_file(path)
        except OSError:
            super().sync_file(path)

    def sync_directory(self, path: Path) -> None:
        try:
            super().sync_directory(path)
        except OSError:
            super().sync_directory(path)


class SyncErrorIgnored(NumberedDisk):
    """What a sync of the files says is not looked at."""

    def sync_tree(self, path: Path) -> None:
        try:
            super().sync_tree(path)
        except OSError:
            return


# By what is wrong; the table of what catches them is in test_planted.py.
PLANTS: Mapping[str, type[NumberedDisk]] = {
    "the pointer is written before the files are synced": FilesNotSynced,
    "old generations are unlinked before the pointer is replaced": UnlinkedBeforeThePointer,
    "old generations are unlinked before the pointer is durable": UnlinkedBeforeThePointerIsDurable,
    "the root is not synced after the pointer is replaced": RootNotSynced,
    "the name of the generation is not synced": GenerationsNotSynced,
    "the pointer's temporary is not synced": PointerNotSynced,
    "the current link is not synced before pruning": LinkNotSynced,
    "the files are written after the manifest": FilesAfterTheManifest,
    "the manifest is written after the rename": ManifestAfterTheRename,
    "the pointer is written in place": PointerInPlace,
    "the lock is removed while it is held": LockRemoved,
    "a sync that failed is repeated": SyncRepeated,
    "an error of a sync is ignored": SyncErrorIgnored,
}


def planted(plant: str, disk: type[NumberedDisk]) -> type[Any]:
    """``disk`` with a planted bug; without a name, as it is."""
    return type("Planted", (PLANTS[plant], disk), {}) if plant else disk
