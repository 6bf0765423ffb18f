"""``hotpath import STORE DIR``: publish a directory that another program wrote, in any language."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from hotpath.errors import HotpathError, ImportRefused, ItemError
from hotpath.options import parse_whole_seconds
from hotpath.pages.codings import SUFFIXES
from hotpath.pages.keys import canonical_path, parameter_text
from hotpath.pages.payload import unfit_bytes
from hotpath.pages.policy import (
    DEFAULT_CACHE_CONTROL,
    DEFAULT_CDN_CACHE_CONTROL,
    DEFAULT_LIFETIME,
    Policy,
    file_media_type,
)
from hotpath.pages.routes import MAX_BYTES
from hotpath.store.publish import Published, Validator, staging
from hotpath.store.store import Store

_PRECOMPRESSED = tuple(suffix for suffix in SUFFIXES.values() if suffix)


def import_directory(
    store: Store, directory: Path, *, prefix: str = "/", strip_suffix: str = "", validate: Validator | None = None
) -> Published:
    """Publish every file below ``directory`` as one generation; its path below it is its URL below ``prefix``.

    ``strip_suffix`` (``.json``) is taken off the URL, not off the file. ``index.html`` is the page of its directory.
    Precompressed neighbours (``.gz``, ``.br``, ``.zst``) are passed over: hotpath makes its own and proves them.
    Hidden files are refused, as nobody means to publish a ``.env``, a ``.git`` or what rsync has half written; only
    ``.well-known`` (RFC 8615) is none.
    ``validate`` is asked before anybody can see the result, as in ``Stage.publish``. Links are refused, also those that
    stay inside: what they lead to may change while it is read. Raises ``ImportRefused`` with every file that could not
    be served, or ``Implausible``; then nothing was published.
    """
    _check_options(store, directory, prefix)
    problems: list[str] = []
    planned: dict[str, str] = {}
    folded: dict[str, str] = {}
    for path, unfit in _walk(directory):
        name = path.relative_to(directory).as_posix()
        if unfit is None and path.suffix in _PRECOMPRESSED and path.with_suffix("").is_file():
            continue
        key, problem = (None, unfit) if unfit else key_of_file(name, prefix, strip_suffix)
        if key is not None:
            # Two names that differ by case alone cannot both be served where case is folded or the disk folds it.
            other = folded.setdefault(key.lower(), name)
            if other == name:
                planned[key] = name
            else:
                problem = f"has the key of {_shown(other)} ({key}); rename one of them"
        if problem is not None:
            problems.append(f"{_shown(name)}: {problem}")
    if not planned and not problems:
        raise HotpathError(f"{directory}: the directory holds no files, so there is nothing to publish")
    if problems:
        for name in planned.values():  # all that is wrong at once, also where nothing can be published any more
            _, _, problem = _read(directory, name)
            if problem is not None:
                problems.append(f"{_shown(name)}: {problem}")
        raise ImportRefused(directory, problems)
    return _publish(store, directory, planned, validate)


def _check_options(store: Store, directory: Path, prefix: str) -> None:
    if not directory.is_dir():
        raise HotpathError(f"{directory}: there is no such directory")
    if not prefix.startswith("/"):
        raise HotpathError(f"--prefix {prefix}: a URL path starts with a slash; write /{prefix}")
    if not_path := sorted(set(prefix) & set("%?#")):
        advice = f"{' and '.join(not_path)} cannot be in it; write the path alone, not percent-encoded"
        raise HotpathError(f"--prefix {prefix}: {advice}")
    if store.root.resolve().is_relative_to(directory.resolve()):
        raise HotpathError(
            f"{directory}: the store {store.root} is inside of it and would be imported; put it elsewhere"
        )


def _publish(store: Store, directory: Path, planned: dict[str, str], validate: Validator | None) -> Published:
    problems = []
    with staging(store) as stage:
        for key, name in sorted(planned.items()):
            data, media_type, problem = _read(directory, name)
            if problem is None:
                policy = Policy(
                    "(imported)",
                    media_type,
                    DEFAULT_CACHE_CONTROL,
                    DEFAULT_CDN_CACHE_CONTROL,
                    parse_whole_seconds(DEFAULT_LIFETIME, "lifetime"),
                )
                try:
                    stage.add(key, name, data, policy)
                except ItemError as error:
                    problem = error.problem
            if problem is not None:
                problems.append(f"{_shown(name)}: {problem}")
        if problems:
            raise ImportRefused(directory, problems)
        return stage.publish(validate)


def _read(directory: Path, name: str) -> tuple[bytes, str, str | None]:
    """The bytes of a file, what they are, and why they are no page."""
    media_type = file_media_type(name)
    try:
        with os.fdopen(_open_below(directory, name), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return b"", media_type, "is no regular file any more; import again"
            data = file.read()
    except OSError as error:
        return b"", media_type, f"cannot be read: {error.strerror or error}"
    problem = unfit_bytes(data, media_type)
    if problem and "." not in name.rpartition("/")[2]:
        problem += "; a file without an ending is taken for JSON, so give it one"
    return data, media_type, problem


def _open_below(directory: Path, name: str) -> int:
    """A descriptor of a file, reached step by step: a folder that has become a link meanwhile leads nowhere."""
    *folders, last = name.split("/")
    at = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in folders:
            below = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
            os.close(at)
            at = below
        return os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=at)
    finally:
        os.close(at)


def _walk(directory: Path) -> Iterator[tuple[Path, str | None]]:
    """Every file below, with what is wrong with it."""
    waiting = [directory]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            names = sorted(entries, key=lambda entry: entry.name)
        for entry in names:
            is_folder, problem = _classify(entry)
            if is_folder:
                waiting.append(Path(entry.path))
            else:
                yield Path(entry.path), problem


def _classify(entry: os.DirEntry[str]) -> tuple[bool, str | None]:
    """(whether it is a folder to look into, why it cannot be served)."""
    state = entry.stat(follow_symlinks=False)
    mode = state.st_mode
    if entry.name.startswith(".") and entry.name != ".well-known":
        return False, "is hidden, so probably not meant for everybody; move it elsewhere or rename it"
    if stat.S_ISDIR(mode):
        return True, None
    if stat.S_ISLNK(mode):
        return False, f"is a link to {str(Path(entry.path).readlink())!r}; copy the file in its place"
    if not stat.S_ISREG(mode):
        return False, "is no regular file (a FIFO, socket or device); remove it"
    if state.st_size > MAX_BYTES:
        size = f"{state.st_size:,} bytes, and a hot page at most {MAX_BYTES:,}"
        return False, f"has {size}; leave it to the web server"
    return False, None


def key_of_file(name: str, prefix: str, strip_suffix: str) -> tuple[str | None, str | None]:
    """(key, problem) of a file name."""
    for part in name.split("/"):
        if not part.isprintable():  # bytes that are no UTF-8 come as lone surrogates, which are not printable
            return None, "the name is not UTF-8 or holds control characters; rename it in UTF-8"
        try:
            parameter_text(part)
        except ValueError as error:
            return None, f"{error}; rename it"
    url = prefix.rstrip("/") + "/" + name
    if url.endswith("/index.html"):
        url = url.removesuffix("index.html")
    elif strip_suffix:
        url = url.removesuffix(strip_suffix)
    key = canonical_path(quote(url, safe="/!$&'()*+,;=:@").encode("ascii"))
    return (key.decode("ascii"), None) if key else (None, f"its URL {url!r} is none that a client may send")


def _shown(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "backslashreplace")
