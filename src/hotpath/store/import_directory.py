"""``hotpath import STORE DIR``: publish a directory that another program wrote, in any language."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from urllib.parse import quote

from hotpath.errors import HotpathError, ImportRefused, ImportWouldDrop, ItemError
from hotpath.options import counted, parse_whole_seconds
from hotpath.pages.file_names import PRECOMPRESSED, is_secret, length_problem
from hotpath.pages.keys import canonical_path, parameter_text
from hotpath.pages.media_types import has_ending
from hotpath.pages.payload import unfit_bytes
from hotpath.pages.policy import (
    DEFAULT_CACHE_CONTROL,
    DEFAULT_CDN_CACHE_CONTROL,
    DEFAULT_LIFETIME,
    IMPORTED,
    Policy,
    file_media_type,
)
from hotpath.store.directories import longest_prefix_bytes
from hotpath.store.manifest import Manifest
from hotpath.store.publish import Published, Validator, staging
from hotpath.store.source_directory import read, reading_problem, walk
from hotpath.store.store import Store

# A crawler asks for it by this name, whether or not the plain one is there too (sitemaps.org, "Sitemap file location").
_PACKED_SITEMAP = re.compile(r"(?:.*/)?sitemap[^/]*\.xml\.gz", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Imported(Published):
    """What an import did: what was published, and the files of the directory that are no pages, by reason.

    ``left_behind`` are backups, half-written files and notes of a desktop, ``precompressed`` copies of other files
    (``.gz``, ``.br``, ``.zst``), which hotpath makes itself.
    """

    left_behind: tuple[str, ...]
    precompressed: tuple[str, ...]


@dataclass(slots=True)
class _Sources:
    """The files to publish by key, each with its name in the generation; what is skipped, and what is wrong."""

    pages: dict[str, tuple[str, str]]
    left_behind: list[str]
    precompressed: list[str]
    problems: list[str]


# Longer than a screen by its docstring.
def import_directory(
    store: Store,
    directory: Path,
    *,
    prefix: str = "/",
    strip_suffix: str = "",
    keep_precompressed: bool = False,
    replace: bool = False,
    allow: Iterable[str] = (),
    validate: Validator | None = None,
) -> Imported:
    """Publish every file below ``directory`` as one generation; its path below it is its URL below ``prefix``.

    ``strip_suffix`` (``.json``) is taken off the URL, not off the file. ``index.html`` is the page of its directory.
    Skipped, and named in the result: backups and half-written files (``page.html~``, ``.swp``, ``.tmp``), and files
    with the name of a coding of another (``app.js.gz`` beside ``app.js``), since hotpath makes its own and proves them.
    ``keep_precompressed`` publishes the latter as pages of their own; a ``sitemap.xml.gz`` always is one.
    Hidden files are refused, as nobody means to publish a ``.env``, a ``.git`` or what rsync has half written; only
    ``.well-known`` (RFC 8615) is none. So are files with the name of a secret (``hotpath.env``, ``site.key``,
    ``id_rsa``, ``app.sqlite``), unless ``allow`` holds their path below the directory. Links are refused, also those
    that stay inside: what they lead to may change while it is read.

    ``replace`` allows an import to drop pages that a build made, or more than half of all pages.
    ``validate`` is called before anybody can see the result, as in ``Stage.publish``. Raises ``ImportRefused`` with
    every file that could not be served, ``ImportWouldDrop`` without ``replace``, or ``Implausible``; then nothing was
    published.
    """
    _check_options(store, directory, prefix)
    plan = _plan(store, directory, prefix, strip_suffix, keep_precompressed, frozenset(allow))
    if plan.problems:
        for name, _ in plan.pages.values():  # all that is wrong at once, also where nothing can be published any more
            _, _, problem = _page(directory, name)
            if problem is not None:
                plan.problems.append(f"{_shown(name)}: {problem}")
        raise ImportRefused(directory, plan.problems)
    if not plan.pages:
        skipped = len(plan.left_behind) + len(plan.precompressed)
        but = f" but {counted(skipped, 'file')} to skip" if skipped else ""
        raise HotpathError(f"{directory}: the directory holds no files{but}, so there is nothing to publish")
    published = _publish(store, directory, plan, validate, replace=replace)
    facts = {field.name: getattr(published, field.name) for field in fields(published)}
    serving = store.chosen_sequence()
    if serving != published.generation:
        kept = f"generation {published.generation} is published, but {serving} is pinned and stays served until"
        facts["warnings"] = (*published.warnings, f"{kept} 'hotpath unpin {store.root}'")
    return Imported(**facts, left_behind=(*plan.left_behind,), precompressed=(*plan.precompressed,))


def _plan(
    store: Store, directory: Path, prefix: str, strip_suffix: str, keep_precompressed: bool, allowed: frozenset[str]
) -> _Sources:
    files = list(walk(directory))
    names = {file.name for file in files if not file.is_left_behind}
    if missing := sorted(allowed - names):
        raise HotpathError(f"--allow {missing[0]}: there is no such file; write its path below {directory}")
    plan = _Sources({}, [_shown(file.name) for file in files if file.is_left_behind], [], [])
    folded: dict[str, str] = {}
    prefix_bytes = longest_prefix_bytes(store.root)
    for file in files:
        if file.is_left_behind:
            continue
        name, target = file.name, file.name
        if name.endswith(PRECOMPRESSED) and name.rpartition(".")[0] in names and file.problem is None:
            if not keep_precompressed and not _PACKED_SITEMAP.fullmatch(name):
                plan.precompressed.append(_shown(name))
                continue
            # The coding that hotpath makes of the other file has its name.
            target = "@packed.".join(name.rpartition(".")[::2])
        key, problem = (None, file.problem) if file.problem else key_of_file(name, prefix, strip_suffix)
        if problem is None and is_secret(name.rpartition("/")[2]) and name not in allowed:
            problem = (
                f"looks like a secret by its name; move it elsewhere, or write --allow {shlex.quote(_shown(name))}"
            )
        problem = problem or length_problem(target, prefix_bytes=prefix_bytes)
        if key is not None and problem is None:
            # Two names that differ by case alone cannot both be served where case is folded or the disk folds it.
            other = folded.setdefault(key.lower(), name)
            if other == name:
                plan.pages[key] = (name, target)
            else:
                problem = f"has the key of {_shown(other)} ({key}); rename one of them"
        if problem is not None:
            plan.problems.append(f"{_shown(name)}: {problem}")
    return plan


def _check_options(store: Store, directory: Path, prefix: str) -> None:
    try:
        is_directory = directory.is_dir()
    except OSError as error:  # a folder above that this user may not enter
        raise HotpathError(f"{directory}: {reading_problem(error)}") from error
    if not is_directory:
        raise HotpathError(f"{directory}: there is no such directory")
    if not prefix.startswith("/"):
        raise HotpathError(f"--prefix {prefix}: a URL path starts with a slash; write /{prefix}")
    if not_path := sorted(set(prefix) & set("%?#")):
        advice = f"{' and '.join(not_path)} cannot be in it; write the path alone, not percent-encoded"
        raise HotpathError(f"--prefix {prefix}: {advice}")
    if Path(os.path.realpath(store.root)).is_relative_to(os.path.realpath(directory)):
        raise HotpathError(
            f"{directory}: the store {store.root} is inside of it and would be imported; put it elsewhere"
        )


def _publish(store: Store, directory: Path, plan: _Sources, validate: Validator | None, *, replace: bool) -> Published:
    problems = []
    with staging(store) as stage:
        if stage.previous is not None and not replace:
            _require_nothing_dropped(store, stage.previous, plan.pages.keys())
        for key, (name, target) in sorted(plan.pages.items()):
            data, media_type, problem = _page(directory, name)
            if problem is None:
                policy = Policy(
                    IMPORTED,
                    media_type,
                    DEFAULT_CACHE_CONTROL,
                    DEFAULT_CDN_CACHE_CONTROL,
                    parse_whole_seconds(DEFAULT_LIFETIME, "lifetime"),
                )
                try:
                    stage.add(key, target, data, policy)
                except ItemError as error:
                    problem = error.problem
            if problem is not None:
                problems.append(f"{_shown(name)}: {problem}")
        if problems:
            raise ImportRefused(directory, problems)
        return stage.publish(validate)


def _require_nothing_dropped(store: Store, previous: Manifest, keys: Iterable[str]) -> None:
    """Raises ``ImportWouldDrop``: a store that a build fills, or a directory that lost most of its files."""
    new = set(keys)
    dropped = sum(key not in new for key in previous.items)
    total = counted(len(previous.items), "page")
    was = f"{store.root}: generation {previous.sequence}"
    if any(policy.route != IMPORTED for policy in previous.head.policies):
        raise ImportWouldDrop(
            f"{was} was made by a build: of its {total}, {dropped:,} would go, and the next build would drop what is"
            " imported now; import into a store of its own, or write --replace (replace=True) if the import takes its"
            " place",
            sequence=previous.sequence,
            pages=dropped,
        )
    if 2 * len(new) < len(previous.items):
        raise ImportWouldDrop(
            f"{was} has {total}, and {len(new):,} would be left: {dropped:,} would go; see whether the directory is"
            " complete, or write --replace (replace=True) if it is",
            sequence=previous.sequence,
            pages=dropped,
        )


def _page(directory: Path, name: str) -> tuple[bytes, str, str | None]:
    """The bytes of a file, what they are, and why they are no page."""
    media_type = file_media_type(name)
    data, problem = read(directory, name)
    if problem is None:
        problem = unfit_bytes(data, media_type)
        if problem and not has_ending(name):
            problem += "; a file without an ending is taken for JSON, so give it one"
    return data, media_type, problem


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
