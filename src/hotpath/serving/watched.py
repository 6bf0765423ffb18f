"""Hot pages from plain files that another program writes, in place or not: only whole, settled, valid bytes count.

What is guaranteed, with a look every half second (``reader.DIRECTORY_REFRESH_SECONDS``):

- A file is taken when three looks in a row, over ``UNCHANGED_SECONDS`` or more, find the same inode, size and times,
  the last two read the same bytes, and these parse: one to one and a half seconds after the last write, later where the
  process is busy. A file that is older than ``SETTLED_SECONDS`` when it is first seen is taken at once.
- Until then, and while the file is empty, torn or invalid, the last good bytes stay.
- A writer may pause in the middle of a file for less than ``UNCHANGED_SECONDS``. After a longer pause torn JSON is
  still refused, but half of a text counts as the file. Writes through mmap(2) change no time at first: no promise.
- A file that two looks in a row do not find is a miss. Where a directory cannot be listed, the last good bytes stay.
- ``Last-Modified`` is the ctime, and later than that of the bytes before: an mtime that a program sets, as rsync -t
  does, makes no two versions look like one.
- Links to files are not followed, nor linked folders that lead out of the directory before the first field.
- At most ``MAX_FILES`` files of at most ``routes.MAX_BYTES`` each are looked at, some 6 µs each, and at most
  ``max_body_bytes`` of the site are kept in memory.

A writer that wants certainty writes another name in the same directory (one that the pattern does not match) and
renames it over the old one: then every state that can be seen is whole.
"""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from hotpath.errors import DeclarationError, UnsafePath
from hotpath.log import Once, logger
from hotpath.pages.codings import available, encode_all
from hotpath.pages.file_names import is_left_behind
from hotpath.pages.keys import make_key, parameter_text
from hotpath.pages.payload import unfit_bytes
from hotpath.pages.routes import MAX_BYTES
from hotpath.pages.site_wide import ReadOptions
from hotpath.serving.rfc9110 import IDENTITY
from hotpath.serving.snapshot import Freshness, Page, make_page
from hotpath.site import MAX_FILES, Directory
from hotpath.store.disk import Disk
from hotpath.store.manifest import Item, Representation

# Age of a file from which it need not be seen twice: it was not written between two looks.
SETTLED_SECONDS = 2.0

# Time that a file must stay the same: two looks of half a second, less what setting the clock may take off.
UNCHANGED_SECONDS = 0.9

# The line of a key that has none in a manifest: such a page is always in memory.
_IN_MEMORY = b""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the last look at a file found, ``since`` when; ``digest`` of its first reading since it last changed.

    ``is_judged`` once it was decided whether these bytes are a page: they are not read again.
    """

    signature: tuple[int, int, int, int]
    since: float
    digest: bytes | None
    is_judged: bool = False


class WatchedDirectory:
    """The files of one ``hot.directory`` declaration, looked at by ``poll``."""

    def __init__(
        self,
        directory: Directory,
        options: ReadOptions,
        *,
        disk: Disk | None = None,
    ) -> None:
        self.pages: Mapping[bytes, Page] = {}
        self._directory = directory
        self._policy = directory.policy
        self._pattern = directory.pattern
        self._options = options
        self._disk = disk or Disk()
        self._listed: set[str] = set()
        self._troubles: set[str] = set()
        self._keys: dict[str, str | None] = {}
        self._seen: dict[str, _Seen] = {}
        self._waiting: set[str] = set()  # files there was no room for
        self._missing: set[str] = set()
        self._once = Once(MAX_FILES)
        # The part before the first field is the site's own; another program may have made what a field matches.
        self._base = directory.files.text.partition("{")[0].rpartition("/")[0] or "/"

    def poll(self, now: float) -> bool:
        """Look at every file once; whether ``pages`` was replaced. ``now`` is seconds since the epoch."""
        pages = dict(self.pages)
        by_file = {page.file: key for key, page in pages.items()}
        room: int | None = None
        troubles, self._troubles = self._troubles, set()
        present = self._present()
        for name, key in present.items():
            served = pages.get(key)
            page = self._look(name, key, served, now)
            if page is None:
                continue
            if room is None:
                room = self._options.max_body_bytes - sum(map(_bytes_of, pages.values()))
            left = room - _bytes_of(page) + (_bytes_of(served) if served else 0)
            if left < 0:
                most = self._options.max_body_bytes
                self._warn(name, f"has no room: the directory holds more than max_body_bytes={most:,}")
                self._waiting.add(name)
                continue
            room = left
            pages[key] = page
        for name, key in by_file.items():
            if name in present or not self._is_gone(name):
                self._missing.discard(name)
            elif self._is_gone_twice(name) and pages[key].file == name:
                del pages[key]  # and not another file's, whose name is the same with its case folded
        for name in self._seen.keys() - present.keys() - by_file.keys():
            del self._seen[name]  # gone before it was ever served
        for trouble in sorted(self._troubles - troubles):
            logger.warning("hot directory: %s: %s", self._pattern, trouble)
        changed = pages != self.pages
        self.pages = pages
        return changed

    def _is_gone(self, name: str) -> bool:
        """Whether a file that was served is served no more, since it is not among those that were listed."""
        if name in self._listed:
            return True  # another file has its key, or there are too many
        try:
            os.lstat(name)
            os.scandir(Path(name).parent).close()
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError as error:  # glob passes over what it cannot list
            self._troubles.add(f"{error}; the last good bytes stay")
        return False

    def _is_gone_twice(self, name: str) -> bool:
        """Whether the last look missed the file too: a program that removes and writes anew leaves a short gap."""
        self._missing ^= {name}
        if name in self._missing:
            return False
        self._seen.pop(name, None)
        for waiting in self._waiting:
            self._seen.pop(waiting, None)
        self._waiting.clear()
        return True

    def _present(self) -> dict[str, bytes]:
        names = glob.glob(self._pattern)  # noqa: PTH207 (an absolute pattern, which Path.glob refuses)
        self._listed = set(names)
        if len(names) > MAX_FILES:
            self._warn(self._pattern, f"matches {len(names):,} files, and only the first {MAX_FILES:,} are served")
        # The key of a name is made once: it costs more than the look.
        before, self._keys = self._keys, {}
        keys: dict[str, bytes] = {}
        first_names: dict[str, str] = {}
        for name in sorted(names)[:MAX_FILES]:
            key = self._keys[name] = before[name] if name in before else self._key_of(name)
            if key is None:
                continue
            first = first_names.setdefault(key, name)
            if first != name:
                self._warn(name, f"has the key of {first} ({key}); rename one of them")
                self._seen.pop(name, None)  # looked at anew when the other is gone
                continue
            keys[name] = key.encode("ascii")
        return keys

    def _key_of(self, name: str) -> str | None:
        values = self._directory.files.match(name)
        if values is None:
            return None
        last = name.rpartition("/")[2]
        if is_left_behind(last) and not is_left_behind(self._directory.files.text.rpartition("/")[2]):
            self._warn(name, "is a backup or a temporary file of an editor or a transfer, and is not served")
            return None
        try:
            return make_key(
                self._directory.path,
                (),
                {name: parameter_text(value) for name, value in values.items()},
                fold_case=self._policy.fold_case,
            )
        except (ValueError, DeclarationError) as error:
            self._warn(name, f"cannot be a hot page: {error}")
            return None

    # One function, since a file is known only by what it is before and after the read.
    def _look(self, name: str, key: bytes, page: Page | None, now: float) -> Page | None:
        """The new page of a file, or ``None`` where what is served stays."""
        try:
            stat = os.lstat(name)  # no Path: of ten thousand looks that would be the half
            signature = _signature(stat)
            seen = self._seen.get(name)
            if seen is None or seen.signature != signature:
                seen = _Seen(signature, now, None)
                self._seen[name] = seen
                self._waiting.discard(name)
                if now - stat.st_mtime < SETTLED_SECONDS:
                    return None
            elif seen.is_judged:
                return None  # nothing new
            if stat.st_size > MAX_BYTES:
                self._warn(name, f"has {stat.st_size:,} bytes, and a hot page at most {MAX_BYTES:,}")
                return None
            self._require_inside(name)
            data = self._disk.read(Path(name))
            self._require_inside(name)
            if _signature(os.lstat(name)) != signature:
                return None  # it was written to meanwhile
        except (OSError, UnsafePath) as error:
            self._warn(name, f"cannot be read: {error}")
            return None
        digest = hashlib.sha256(data).digest()
        # A date is a validator only where it moves with the bytes (RFC 9110 §8.8.2.2): these wait for the next second.
        # Not for a clock that was set back.
        if page is not None and digest != page.digests[0] and 0 <= _date_of(page) - int(now) <= 1:
            return None
        if seen.digest != digest:
            self._seen[name] = _Seen(signature, seen.since, digest)
            if now - stat.st_mtime < SETTLED_SECONDS:
                return None  # the second reading comes with the next look
        elif 0 <= now - seen.since < UNCHANGED_SECONDS and now - stat.st_mtime < SETTLED_SECONDS:
            return None  # looks that come faster than usual make nothing older
        self._seen[name] = _Seen(signature, seen.since, digest, is_judged=True)
        problem = unfit_bytes(data, self._policy.media_type)
        if problem:
            self._warn(name, f"{problem}; the last good bytes stay")
            return None
        self._once.forget(name)
        if page is not None and page.digests[0] == digest:
            return None
        # When it was last written, copied or moved here: unlike the mtime that nobody can set back.
        date = int(max(stat.st_mtime, stat.st_ctime))
        if page is not None:
            date = max(date, _date_of(page) + 1)
        return self._page(name, key.decode("ascii"), data, digest, int(stat.st_mtime), date, now)

    def _require_inside(self, name: str) -> None:
        """Raise ``UnsafePath`` where linked folders lead out of the directory that the declaration names."""
        parent = Path(name).parent
        if str(parent) == self._base:
            return
        base = os.path.realpath(self._base)
        if os.path.commonpath((base, os.path.realpath(parent))) != base:
            raise UnsafePath(
                "a linked folder leads out of the directory",
                path=parent,
                fix="declare the folder it leads to with a hot.directory of its own",
            )

    def _page(self, name: str, key: str, data: bytes, digest: bytes, modified: int, date: int, now: float) -> Page:
        bodies = {"identity": data, **encode_all(data, self._policy.media_type, available())}
        representations = [Representation("identity", name, len(data), digest)]
        for coding, body in bodies.items():
            if coding != "identity":
                representations.append(Representation(coding, "", len(body), hashlib.sha256(body).digest()))
        item = Item(key, self._policy, tuple(representations), date)
        freshness = Freshness(modified + self._policy.lifetime_seconds, now)
        return make_page(item, None, freshness, bodies, now, self._options.headers, generation_header=False)

    def _warn(self, name: str, problem: str) -> None:
        """Once for a file until it is good again, not at every look."""
        self._once.warn(f"hot directory: {name} {problem}", key=name)


class Overlay:
    """The pages of all directories, in front of those of the generation that have the same keys."""

    def __init__(self, declared: Sequence[Directory], options: ReadOptions) -> None:
        self._declared = declared
        self._options = options
        self._directories: list[WatchedDirectory] = []
        self._keys: AbstractSet[bytes] = frozenset()
        # Lines of the generation that something stands in front of: they are back when the file is gone.
        self._covered: dict[bytes, bytes] = {}

    def poll(self, now: float) -> bool:
        """Look at every file once, and at how old each page is; whether any page is another."""
        for declared in self._declared[len(self._directories) :]:
            self._directories.append(WatchedDirectory(declared, self._options))
        changed = [directory.poll(now) for directory in self._directories]
        for directory in self._directories:
            for page in directory.pages.values():
                page.freshness.update(now)
        return any(changed)

    def forget(self) -> None:
        """There is another generation, whose lines nothing was laid over yet."""
        self._covered.clear()
        self._keys = frozenset()

    def lay(self, lines: dict[bytes, bytes]) -> tuple[Mapping[bytes, Page], AbstractSet[bytes]]:
        """Put the keys of all pages among ``lines``; returns the pages, and the keys whose pages are gone."""
        pages = {key: page for directory in self._directories for key, page in directory.pages.items()}
        gone = self._keys - pages.keys()
        for key in gone:
            line = self._covered.pop(key, None)
            if line is None:
                lines.pop(key, None)
            else:
                lines[key] = line
        for key in pages:
            if line := lines.get(key):
                self._covered[key] = line
            lines[key] = _IN_MEMORY
        self._keys = pages.keys()
        return pages, gone


def _date_of(page: Page) -> int:
    identity = page.variants[IDENTITY]
    assert identity is not None  # every page has its identity coding
    return identity.last_modified


def _bytes_of(page: Page) -> int:
    return sum(map(len, page.bodies.values()))


def _signature(stat: os.stat_result) -> tuple[int, int, int, int]:
    # The time of the last change too: unlike that of the last write nobody can set it back.
    return stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size
