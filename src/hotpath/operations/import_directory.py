"""``hotpath import STORE DIR``: publish a directory that another program wrote, in any language."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from hotpath.disk import Disk
from hotpath.errors import HotpathError, ImportRefused, ItemError, UnsafePath
from hotpath.keys import canonical_path, parameter_text
from hotpath.manifest import SUFFIXES, Policy
from hotpath.payload import unfit_bytes
from hotpath.publish import Published, Validator, staging
from hotpath.quantities import parse_whole_seconds
from hotpath.routes import MAX_BYTES, file_media_type
from hotpath.site import DEFAULT_CACHE_CONTROL, DEFAULT_CDN_CACHE_CONTROL, DEFAULT_LIFETIME
from hotpath.store import Store

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
    if not directory.is_dir():
        raise HotpathError(f"{directory}: there is no such directory")
    if not prefix.startswith("/"):
        raise HotpathError(f"--prefix {prefix}: a URL path starts with a slash; write /{prefix}")
    if not_path := sorted(set(prefix) & set("%?#")):
        told = f"{' and '.join(not_path)} cannot be in it; write the path alone, not percent-encoded"
        raise HotpathError(f"--prefix {prefix}: {told}")
    problems: list[str] = []
    planned: dict[str, Path] = {}
    folded: dict[str, str] = {}
    for path, unfit in _walk(directory):
        name = path.relative_to(directory).as_posix()
        if unfit is None and path.suffix in _PRECOMPRESSED and path.with_suffix("").is_file():
            continue
        key, problem = (None, unfit) if unfit else _key_of(name, prefix, strip_suffix)
        if key is not None:
            # Two names that differ by case alone cannot both be served where case is folded or the disk folds it.
            other = folded.setdefault(key.lower(), name)
            if other == name:
                planned[key] = path
            else:
                problem = f"has the key of {_shown(other)} ({key}); rename one of them"
        if problem is not None:
            problems.append(f"{_shown(name)}: {problem}")
    if not planned and not problems:
        problems.append("the directory holds no files")
    if problems:
        for path in planned.values():  # all that is wrong at once, also where nothing can be published any more
            _, _, problem = _read(store.disk, path)
            if problem is not None:
                problems.append(f"{_shown(path.relative_to(directory).as_posix())}: {problem}")
        raise ImportRefused(directory, problems)
    return _publish(store, directory, planned, validate)


def _publish(store: Store, directory: Path, planned: dict[str, Path], validate: Validator | None) -> Published:
    problems = []
    with staging(store) as stage:
        for key, path in sorted(planned.items()):
            name = path.relative_to(directory).as_posix()
            data, media_type, problem = _read(store.disk, path)
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


def _read(disk: Disk, path: Path) -> tuple[bytes, str, str | None]:
    """The bytes of a file, what they are, and why they are no page."""
    media_type = file_media_type(path.name)
    try:
        data = disk.read(path)
    except UnsafePath as error:
        return b"", media_type, error.problem
    except OSError as error:
        return b"", media_type, f"cannot be read: {error.strerror or error}"
    problem = unfit_bytes(data, media_type)
    if problem and not path.suffix:
        problem += "; a file without an ending is taken for JSON, so give it one"
    return data, media_type, problem


def _walk(directory: Path) -> Iterator[tuple[Path, str | None]]:
    """Every file below, with what is wrong with it."""
    for entry in sorted(os.scandir(directory), key=lambda one: one.name):
        path = Path(entry.path)
        found = entry.stat(follow_symlinks=False)
        mode = found.st_mode
        if entry.name.startswith(".") and entry.name != ".well-known":
            yield path, "is hidden, so probably not meant for everybody; move it elsewhere or rename it"
        elif stat.S_ISDIR(mode):
            yield from _walk(path)
        elif stat.S_ISLNK(mode):
            yield path, f"is a link to {str(path.readlink())!r}; copy the file in its place"
        elif not stat.S_ISREG(mode):
            yield path, "is no regular file (a FIFO, socket or device); remove it"
        elif found.st_size > MAX_BYTES:
            yield path, f"has {found.st_size:,} bytes, and a hot page at most {MAX_BYTES:,}; leave it to the web server"
        else:
            yield path, None


def _key_of(name: str, prefix: str, strip_suffix: str) -> tuple[str | None, str | None]:
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
