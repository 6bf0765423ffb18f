"""Hot pages from plain files that another program writes, in place or not: only whole, settled, valid bytes count.

What is guaranteed, with a look every half second (``reader.DIRECTORY_REFRESH_SECONDS``):

- A file is taken when three looks in a row, ``UNCHANGED_SECONDS`` or more from the first to the last, find the same
  inode, size and times, the second and the third read the same bytes, and these parse as what the page is. So a change
  shows one to one and a half seconds after the last write. A file that nobody has written to for ``SETTLED_SECONDS``
  when it is first seen, as at start, is taken at once.
- Until then, and when the file is empty, torn or invalid, the last good bytes stay, however long that lasts.
- A writer that pauses in the middle of a file for less than ``UNCHANGED_SECONDS`` is waited for. After a longer pause
  what is there counts as the file: torn JSON is refused even then, but half of a text, or of a number, is none that
  anybody could tell. Bytes that are changed through mmap(2) change no time at once, so nothing is promised for them.
- A file that two looks in a row do not find is a miss: the app is asked.

A writer that wants certainty writes another name in the same directory (one that the pattern does not match) and
renames it over the old one: then every state that can be seen is whole.
"""

from __future__ import annotations

import glob
import hashlib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson

from hotpath.codings import available, encode_all
from hotpath.disk import Disk
from hotpath.errors import DeclarationError, UnsafePath
from hotpath.keys import Template, make_key, parameter_text
from hotpath.manifest import Item, Policy, Representation
from hotpath.payload import is_json
from hotpath.snapshot import Freshness, Page, make_page

logger = logging.getLogger("hotpath")

# A file whose time is older than this was not touched between two looks, so it need not be seen twice.
SETTLED_SECONDS = 2.0

# How long the same file has to be found: two looks of half a second, less what a clock that is being set may take off.
UNCHANGED_SECONDS = 0.9


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the last look at a file found, ``since`` when; ``digest`` of its first reading since it last changed."""

    signature: tuple[int, int, int, int]
    since: float
    digest: bytes | None


class WatchedDirectory:
    """The files of one ``hot.directory`` declaration, looked at by ``poll``."""

    def __init__(self, path: Template, files: Template, policy: Policy, *, disk: Disk | None = None) -> None:
        self.path = path
        self.files = files
        self.policy = policy
        self.pages: Mapping[bytes, Page] = {}
        self._disk = disk or Disk()
        self._seen: dict[str, _Seen] = {}
        self._missing: set[str] = set()
        self._told: set[str] = set()

    def poll(self, now: float) -> bool:
        """Look at every file once; whether ``pages`` was replaced. ``now`` is seconds since the epoch."""
        pages = dict(self.pages)
        by_file = {page.file: key for key, page in pages.items()}
        present = self._present()
        for name, key in present.items():
            page = self._look(name, key, pages.get(key), now)
            if page is not None:
                pages[key] = page
        for name, key in by_file.items():
            # A program that removes and writes anew leaves a short gap, so a file has to be missing twice.
            if name not in present:
                if name in self._missing:
                    if pages[key].file == name:  # not another file's, whose name is the same with its case folded
                        del pages[key]
                    self._seen.pop(name, None)
                self._missing ^= {name}
            else:
                self._missing.discard(name)
        changed = pages != self.pages
        self.pages = pages
        return changed

    def _present(self) -> dict[str, bytes]:
        pattern = self.files.render(dict.fromkeys(self.files.names, "\0"))
        pattern = glob.escape(pattern).replace("\0", "*")
        found: dict[str, bytes] = {}
        keys: dict[str, str] = {}
        for name in sorted(glob.glob(pattern)):  # noqa: PTH207 (an absolute pattern, which Path.glob refuses)
            values = self.files.match(name)
            if values is None:
                continue
            try:
                key = make_key(
                    self.path, (), {n: parameter_text(v) for n, v in values.items()}, fold_case=self.policy.fold_case
                )
            except (ValueError, DeclarationError) as error:
                self._tell(name, f"cannot be a hot page: {error}")
                continue
            first = keys.setdefault(key, name)
            if first != name:
                self._tell(name, f"has the key of {first} ({key}); rename one of them")
                continue
            found[name] = key.encode("ascii")
        return found

    def _look(self, name: str, key: bytes, page: Page | None, now: float) -> Page | None:
        """The new page of a file, or ``None`` where what is served stays."""
        path = Path(name)
        try:
            found = path.lstat()
            signature = _signature(found)
            seen = self._seen.get(name)
            if seen is None or seen.signature != signature:
                seen = _Seen(signature, now, None)
                self._seen[name] = seen
                if now - found.st_mtime < SETTLED_SECONDS:
                    return None
            elif seen.digest is not None and page is not None and seen.digest == page.digests[0]:
                return None  # nothing new
            data = self._disk.read(path)
            if _signature(path.lstat()) != signature:
                return None  # it was written to meanwhile
        except (OSError, UnsafePath) as error:
            self._tell(name, f"cannot be read: {error}")
            return None
        digest = hashlib.sha256(data).digest()
        if seen.digest != digest:
            self._seen[name] = _Seen(signature, seen.since, digest)
            if now - found.st_mtime < SETTLED_SECONDS:
                return None  # the second reading comes with the next look
        elif 0 <= now - seen.since < UNCHANGED_SECONDS and now - found.st_mtime < SETTLED_SECONDS:
            return None  # looks that come faster than usual make nothing older
        problem = _problem(data, self.policy.media_type)
        if problem:
            self._tell(name, f"{problem}; the last good bytes stay")
            return None
        self._told.discard(name)
        if page is not None and page.digests[0] == digest:
            return None
        return self._page(name, key.decode("ascii"), data, digest, int(found.st_mtime), now)

    def _page(self, name: str, key: str, data: bytes, digest: bytes, modified: int, now: float) -> Page:
        bodies = {"identity": data, **encode_all(data, self.policy.media_type, available())}
        representations = [Representation("identity", name, len(data), digest)]
        for coding, body in bodies.items():
            if coding != "identity":
                representations.append(Representation(coding, "", len(body), hashlib.sha256(body).digest()))
        item = Item(key, self.policy, tuple(representations), modified)
        freshness = Freshness(modified + self.policy.lifetime_seconds, now)
        return make_page(item, None, freshness, bodies, generation_header=False, now=now)

    def _tell(self, name: str, problem: str) -> None:
        """Once for a file until it is good again, not at every look."""
        if name not in self._told:
            self._told.add(name)
            logger.warning("hot directory: %s %s", name, problem)


def _signature(found: os.stat_result) -> tuple[int, int, int, int]:
    # The time of the last change too: unlike that of the last write nobody can set it back.
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size


def _problem(data: bytes, media_type: str) -> str | None:
    if not data:
        return "is empty"
    if is_json(media_type):
        try:
            orjson.loads(data)
        except orjson.JSONDecodeError as error:
            return f"is not JSON ({error})"
    return None
