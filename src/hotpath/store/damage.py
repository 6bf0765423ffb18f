"""Whether the files of a generation are what its manifest says, wherever the generation lies."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hotpath.errors import NewerFormat, StoreError
from hotpath.store.disk import Disk
from hotpath.store.manifest import Item, Representation, decode


@dataclass(frozen=True, slots=True)
class Damage:
    """A file of a generation that is not what was published.

    ``sha256`` is the digest it should have; ``key`` and ``sha256`` are ``None`` where it is the manifest itself.
    ``is_transient`` says that reading failed, or that a newer version can read it: nothing is known of the bytes.
    """

    sequence: int
    key: str | None
    path: Path
    problem: str
    sha256: bytes | None = None
    is_transient: bool = False
    coding: str | None = None

    def __str__(self) -> str:
        return f"generation {self.sequence}: {self.key or 'the manifest'}: {self.path}: {self.problem}"


def find_damage(disk: Disk, directory: Path, sequence: int) -> list[Damage]:
    """Read the manifest and every file of a generation, wherever it lies; what is not as it was published."""
    path = directory / "manifest.json"
    try:
        manifest = decode(disk.read(path), str(path))
    except FileNotFoundError:
        return [Damage(sequence, None, path, "is missing")]
    except NewerFormat as error:
        return [Damage(sequence, None, path, error.problem, is_transient=True)]
    except StoreError as error:
        return [Damage(sequence, None, path, error.problem)]
    except OSError as error:
        return [Damage(sequence, None, path, error.strerror or str(error), is_transient=True)]
    if manifest.sequence != sequence:
        return [Damage(sequence, None, path, f"this is the manifest of generation {manifest.sequence}")]
    damages: list[Damage] = []
    for item in manifest.items.values():
        for representation in item.representations:
            damages += _damage_of(disk, directory, sequence, item, representation)
    return damages


def find_edited(disk: Disk, directory: Path, sequence: int) -> list[Damage]:
    """What ``find_damage`` finds, of those files alone that are gone, of another size, or younger than the manifest.

    That costs a stat(2) a file, and misses bytes that changed by themselves.
    """
    path = directory / "manifest.json"
    try:
        manifest, written = decode(disk.read(path), str(path)), path.stat().st_mtime_ns
    except (StoreError, OSError):
        return find_damage(disk, directory, sequence)
    damages: list[Damage] = []
    for item in manifest.items.values():
        for representation in item.representations:
            file = directory / "files" / representation.file
            with suppress(OSError):
                state = file.lstat()
                if state.st_size == representation.length and state.st_mtime_ns <= written:
                    continue
            damages += _damage_of(disk, directory, sequence, item, representation)
    return damages


def _damage_of(
    disk: Disk, directory: Path, sequence: int, item: Item, representation: Representation
) -> Iterator[Damage]:
    file = directory / "files" / representation.file
    problem = _problem(disk, file, representation.sha256)
    if problem is not None:
        yield Damage(sequence, item.key, file, problem, representation.sha256, coding=representation.coding)


def serious(damages: Iterable[Damage]) -> list[Damage]:
    """What keeps a generation from being served: a page whose coding is damaged is served without that coding."""
    return [damage for damage in damages if damage.coding in (None, "identity")]


def _problem(disk: Disk, path: Path, sha256: bytes) -> str | None:
    try:
        holds = hashlib.sha256(disk.read(path)).digest() == sha256
    except FileNotFoundError:
        return "is missing"
    except StoreError as error:
        return error.problem
    except OSError as error:
        return error.strerror or str(error)
    return None if holds else "is not what was published (its digest differs)"
