"""Where generations are: the directory layout, the pointers, and which generation is the one to serve.

Readers need no lock and no write permission. What one generation *is* stands in ``manifest``; how a new one comes to
be stands in ``publish``.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import orjson

from hotpath.errors import Corrupt, DeclarationError, HotpathError, NothingPublished, StoreError, UnsafePath
from hotpath.options import json_bytes
from hotpath.store.damage import Damage, find_damage, serious
from hotpath.store.directories import prepare, remove_litter
from hotpath.store.disk import Disk, is_file_at, stat_signature
from hotpath.store.locks import give_back, hold, take
from hotpath.store.manifest import Head, Manifest, decode, decode_head
from hotpath.store.os_errors import explain, in_words
from hotpath.store.pointer import REPAIR, Pointer

# Five nights back: a bad Friday is still undone on Tuesday.
DEFAULT_KEEP = 5

# Reads of the pointers at most, where they move meanwhile. A writer takes milliseconds for each move.
MOST_LOOKS = 5

_LINK = re.compile(r"generations/(\d{1,18})/files")


@dataclass(frozen=True, slots=True)
class Choice:
    """The generation a reader has to serve, with its verified manifest: ``head`` decoded, ``data`` the whole file.

    ``degraded`` says why this is not the one that the pointer names, or is ``None``. ``descriptor`` is that of the
    manifest; whoever takes the choice closes it. Where ``is_held``, it has a shared lock, which keeps the generation
    from being pruned; ``locks.hold`` tries again.
    """

    sequence: int
    head: Head
    data: bytes
    path: Path
    descriptor: int
    is_held: bool
    pinned: bool
    degraded: str | None


class Store:
    """A directory of numbered generations on one POSIX file system: one writer at a time, any number of readers.

    ``keep`` is how many generations stay when a new one is published; the current and the pinned one always stay.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        keep: int = DEFAULT_KEEP,
        disk: Disk | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        check_keep(keep)
        # Absolute from the start: a later chdir(2) must not move the store.
        self.root = Path(root).absolute()
        self._is_relative = not Path(root).is_absolute()
        self.keep = keep
        self.disk = disk or Disk()
        self.clock = clock

    def __repr__(self) -> str:
        return f"Store({str(self.root)!r})"

    @property
    def current_path(self) -> Path:
        return self.root / "CURRENT"

    @property
    def pin_path(self) -> Path:
        return self.root / "PIN"

    @property
    def bad_path(self) -> Path:
        return self.root / "BAD"

    @property
    def history_path(self) -> Path:
        return self.root / "history.jsonl"

    @property
    def quarantine_path(self) -> Path:
        return self.root / "quarantine"

    @property
    def generations_path(self) -> Path:
        return self.root / "generations"

    def generation_path(self, sequence: int) -> Path:
        return self.generations_path / str(sequence)

    def manifest_path(self, sequence: int) -> Path:
        return self.generation_path(sequence) / "manifest.json"

    def files_path(self, sequence: int) -> Path:
        return self.generation_path(sequence) / "files"

    # Reading

    def sequences(self) -> list[int]:
        """The numbers of the published generations on disk, oldest first."""
        return _numbers(self.generations_path)

    def quarantined(self) -> list[int]:
        """The numbers of the generations in quarantine, oldest first."""
        return _numbers(self.quarantine_path)

    def pointer(self, path: Path) -> Pointer | None:
        """The pointer in ``CURRENT`` or ``PIN``, ``None`` where there is none. Raises ``Corrupt`` or ``UnsafePath``."""
        try:
            return Pointer.parse(self.disk.read(path), path)
        except FileNotFoundError:
            return None

    def bad(self) -> dict[int, str]:
        """The generations that a rollback marked as bad, with the reason. They are never chosen again."""
        try:
            lines = self.disk.read(self.bad_path).splitlines()
        except FileNotFoundError:
            return {}
        marks: dict[int, str] = {}
        for line in lines:
            try:
                mark = orjson.loads(line)
                sequence, reason = mark["sequence"], mark["reason"]
                if type(sequence) is not int or not isinstance(reason, str):
                    raise TypeError
                marks[sequence] = reason
            except (orjson.JSONDecodeError, KeyError, TypeError):
                raise Corrupt(f"a line cannot be read: {line[:60]!r}", path=self.bad_path, fix=REPAIR) from None
        return marks

    def read_manifest(self, sequence: int, expected: bytes | None = None) -> Manifest:
        """One generation's manifest, verified against its own digest and, where given, the pointer's."""
        path = self.manifest_path(sequence)
        try:
            data = self.disk.read(path)
        except FileNotFoundError:
            raise Corrupt("the generation has no manifest", path=path) from None
        _require_digest(data, expected, path)
        return decode(data, str(path))

    def choose(self) -> Choice:
        """The generation to serve now: the pinned one, else the current one, else the newest that is valid.

        Raises ``NothingPublished``. Problems on the way are in ``degraded``, not raised: stale beats down. What a
        writer has pruned between the pointer and the look at its generation is no problem: the pointer has moved then.
        """
        for _ in range(MOST_LOOKS):
            before = self.signature()
            try:
                choice = self._choose_once()
            except NothingPublished:
                if self.signature() == before:
                    raise
                continue
            # A pruner takes only what no pointer names: what one still names was not being pruned, held or not.
            if (choice.is_held and choice.degraded is None) or self.signature() == before:
                return choice
            os.close(choice.descriptor)
        return self._choose_once()

    def _choose_once(self) -> Choice:
        problems: list[str] = []
        try:
            bad = self.bad()
        except (StoreError, OSError) as error:
            problems.append(in_words(error))
            bad = {}
        named: set[int] = set()
        for path, pinned in ((self.pin_path, True), (self.current_path, False)):
            try:
                pointer = self.pointer(path)
                if pointer is None:
                    continue
                named.add(pointer.sequence)
                if pointer.sequence in bad and not pinned:
                    problems.append(f"generation {pointer.sequence} is marked bad: {bad[pointer.sequence]}")
                    continue
                return self._open(pointer.sequence, pointer.sha256, pinned, problems)
            except (StoreError, OSError) as error:
                problems.append(in_words(error))
        for sequence in reversed(self.sequences()):
            if sequence not in bad and sequence not in named:
                if not problems:
                    problems.append(f"{self.current_path} is missing")
                try:
                    return self._open(sequence, None, False, problems)
                except (StoreError, OSError) as error:
                    problems.append(in_words(error))
        raise NothingPublished(
            "; ".join(problems) or "nothing is published here yet",
            path=self.root,
            fix="run 'hotpath build TARGET' first" + (_RELATIVE if self._is_relative else ""),
        )

    def _open(self, sequence: int, expected: bytes | None, pinned: bool, problems: list[str]) -> Choice:
        path = self.manifest_path(sequence)
        descriptor = self.disk.open_regular(path)
        try:
            # A pruner that has it locked at this moment, or was there between the opening and the lock: then it is the
            # pointer that is out of date, as ``choose`` sees. Anybody else's lock is no reason not to read.
            is_held = hold(self.disk, descriptor)
            if not is_file_at(descriptor, path):
                raise Corrupt("the generation is being pruned", path=path)
            with os.fdopen(os.dup(descriptor), "rb") as file:
                data = file.read()
            _require_digest(data, expected, path)
            head = decode_head(data, str(path))
            if head.sequence != sequence:
                raise Corrupt(f"this is the manifest of generation {head.sequence}", path=path)
        except BaseException:
            os.close(descriptor)
            raise
        return Choice(sequence, head, data, path, descriptor, is_held, pinned, "; ".join(problems) or None)

    def signature(self) -> tuple[object, ...]:
        """Changes whenever ``choose`` could give another answer; costs three stat(2)."""
        return tuple(stat_signature(path) for path in (self.current_path, self.pin_path, self.bad_path))

    # Writing

    @contextmanager
    def locked(self, *, new: bool = True) -> Iterator[None]:
        """Hold the writer's lock. Raises ``StoreBusy`` at once where another process has it.

        With ``new`` the store is made where there is none; without, that raises ``NothingPublished``.

        It ends with its holder, so it is never broken by age. What a killed writer left is put in order first: litter,
        which nobody else can be using, and a ``current`` link that was not moved yet.
        """
        with self.explained():
            prepare(self.disk, self.root, new=new)
            descriptor = take(self.disk, self.root / "lock", self.root)
        try:
            with self.explained():
                remove_litter(self.disk, self.root)
                self._repair_link()
            yield
        finally:
            give_back(self.disk, descriptor)

    def rollback(
        self, to: int | None = None, reason: str = "rolled back by hand", *, pin: bool = True
    ) -> tuple[int, int]:
        """Go back to the newest valid generation before the one that is served, or to ``to``; pins it.

        Every generation from the target to the one that was served is marked bad, so that nothing brings it back;
        publishing goes on beside the pin. Without ``pin`` the next generation is served. Returns (from, to).

        Every file of the target is verified before anything is changed. A rollback that was killed half-way is finished
        by the next one, not repeated.
        """
        with self.locked(new=False), self.explained():
            now = self.chosen_sequence()
            bad = self.bad()
            current = self.pointer(self.current_path)
            if to in (None, now) and current is not None and current.sequence in bad and now not in bad:
                self._finish_rollback(current.sequence, now, bad, pin)
                return current.sequence, now
            if to is not None and (to in bad or to == now):
                state = f"marked bad ({bad[to]})" if to in bad else "the one that is served"
                raise StoreError(f"generation {to} is {state}", path=self.root, fix="'hotpath status' lists the others")
            candidates = [n for n in self.sequences() if n not in bad and (n < now if to is None else n == to)]
            problems = []
            for target in reversed(candidates):
                damages = serious(self.verify_generation(target))
                if not damages:
                    marks = {n: reason for n in self.sequences() if target < n <= now} | bad
                    self._finish_rollback(now, target, marks, pin)
                    return now, target
                problems.append(str(damages[0]))
            wanted = f"no generation {to}" if to is not None else f"no valid generation before {now}"
            fix = "'hotpath status' lists them" if to is not None else "run 'hotpath build TARGET' for new data"
            raise StoreError("; ".join([f"there is {wanted} to go back to", *problems]), path=self.root, fix=fix)

    def _finish_rollback(self, start: int, target: int, marks: dict[int, str], pin: bool) -> None:
        # The marks come first: from then on readers choose the target. CURRENT comes last: as long as it names a bad
        # generation, a second run sees that this one was not finished.
        pointer = self.pointer_to(target)
        self.mark_bad(marks)
        if pin or self.pin_path.exists():  # one that is there would hold what was just marked bad
            self.replace(self.pin_path, pointer.encode())
        self.link_current(target)
        self.append_history({"event": "rollback", "sequence": target, "from": start, "reason": marks.get(start, "")})
        current = self.pointer(self.current_path)
        if current is None or current.sequence in marks:
            self.replace(self.current_path, pointer.encode())

    def pin(self, sequence: int) -> None:
        """Serve this generation, whatever is published, until ``unpin``."""
        with self.locked(new=False), self.explained():
            bad = self.bad()
            if sequence in bad:
                raise StoreError(
                    f"generation {sequence} is marked bad ({bad[sequence]})",
                    path=self.root,
                    fix="it is never served again; 'hotpath build' makes a new one, 'hotpath status' lists the others",
                )
            if sequence not in self.sequences():
                raise StoreError(
                    f"there is no generation {sequence}", path=self.root, fix="'hotpath status' lists them"
                )
            problems = serious(self.verify_generation(sequence))
            if problems:
                raise Corrupt(
                    problems[0].problem, path=problems[0].path, fix="'hotpath verify' lists all that is damaged"
                )
            self.replace(self.pin_path, self.pointer_to(sequence).encode())
            self.link_current(sequence)
            self.append_history({"event": "pin", "sequence": sequence})

    def unpin(self) -> int | None:
        """Serve the newest accepted generation again. Returns the one that was pinned, or ``None``."""
        with self.locked(new=False), self.explained():
            pinned = self.pointer(self.pin_path)
            if pinned is None:
                return None
            # Recorded first: an unpin that is killed in between is in the history, and the next one is recorded too.
            self.append_history({"event": "unpin", "sequence": pinned.sequence})
            self.disk.unlink(self.pin_path)
            self.disk.sync_directory(self.root)
            self.link_current(self.chosen_sequence())
            return pinned.sequence

    def pointer_to(self, sequence: int) -> Pointer:
        """A pointer to a generation as it is on disk now."""
        return Pointer(sequence, hashlib.sha256(self.disk.read(self.manifest_path(sequence))).digest())

    def verify_generation(self, sequence: int) -> list[Damage]:
        """Read every file of a generation; one entry for each that is not what the manifest says. Empty is good."""
        return find_damage(self.disk, self.generation_path(sequence), sequence)

    def next_sequence(self) -> int:
        """A number above every one that was ever given out and can still be seen."""
        seen = [*self.sequences(), *self.bad(), *self.quarantined()]
        for path in (self.current_path, self.pin_path):
            try:
                pointer = self.pointer(path)
            except HotpathError:
                continue
            if pointer:
                seen.append(pointer.sequence)
        return max(seen, default=0) + 1

    def commit(self, sequence: int) -> None:
        """Make a complete, durable generation the current one. This is the step that publishes."""
        self.replace(self.current_path, self.pointer_to(sequence).encode())

    def chosen_sequence(self) -> int:
        """The generation to serve now. Raises ``NothingPublished``."""
        choice = self.choose()
        os.close(choice.descriptor)
        return choice.sequence

    def mark_bad(self, marks: dict[int, str]) -> None:
        """Replace the marks: each generation with the reason it must never be served. The lock must be held."""
        lines = [json_bytes({"sequence": n, "reason": reason}) for n, reason in sorted(marks.items())]
        self.replace(self.bad_path, b"".join(line + b"\n" for line in lines))

    def replace(self, path: Path, data: bytes) -> None:
        """Give a pointer or the marks other bytes, durably and at once. The lock must be held."""
        temporary = self.root / f".new-{path.name}"
        self.disk.unlink(temporary)
        self.disk.write_new(temporary, data)
        self.disk.sync_file(temporary)
        self.disk.replace(temporary, path)
        self.disk.sync_directory(self.root)

    def link_current(self, sequence: int) -> None:
        """Move ``current``, the link for nginx and other languages. The lock must be held."""
        temporary = self.root / ".new-current"
        self.disk.unlink(temporary)
        self.disk.symlink(f"generations/{sequence}/files", temporary)
        self.disk.replace(temporary, self.root / "current")
        # Durable before anything is pruned: it must not lead to a generation that is gone.
        self.disk.sync_directory(self.root)

    def linked(self) -> int | None:
        """The generation that ``current`` leads to."""
        link = self.root / "current"
        match = _LINK.fullmatch(str(link.readlink())) if link.is_symlink() else None
        return int(match[1]) if match else None

    def append_history(self, record: dict[str, object]) -> None:
        """One more line of ``history.jsonl``, with the time. The lock must be held."""
        self.disk.append(self.history_path, json_bytes({"time": int(self.clock()), **record}) + b"\n")

    def _repair_link(self) -> None:
        try:
            sequence = self.chosen_sequence()
        except NothingPublished:
            return
        if self.linked() != sequence:
            with suppress(OSError):  # nothing is served by way of it, and ``tidy`` tells when it cannot be moved
                self.link_current(sequence)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """For writers: turn the kernel's error into one that names the path and the fix."""
        try:
            yield
        except OSError as error:
            raise explain(error, self.root) from error


_RELATIVE = " (a relative path counts from the working directory; Path(__file__).parent / '…' does not)"


def check_keep(keep: int) -> None:
    """Raise ``DeclarationError`` for a number of generations that cannot stay."""
    if not isinstance(keep, int) or isinstance(keep, bool):
        raise DeclarationError(f"keep={keep!r}: write how many generations stay, a whole number of 1 or more")
    if keep < 1:
        raise DeclarationError(f"keep={keep}: at least the current generation has to stay; write keep=1 or more")


def _numbers(directory: Path) -> list[int]:
    try:
        names = [path.name for path in directory.iterdir()]
    except FileNotFoundError:
        return []
    except NotADirectoryError:
        raise UnsafePath("this is a file, expected a directory", path=directory, fix="remove it") from None
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def _require_digest(data: bytes, expected: bytes | None, path: Path) -> None:
    if expected is not None and hashlib.sha256(data).digest() != expected:
        raise Corrupt("the manifest is not the one that the pointer names (its digest differs)", path=path)
