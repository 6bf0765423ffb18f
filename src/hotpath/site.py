"""``Hotpath``: the declaration of a site's hot pages, shared by the batch and the middleware."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from hotpath.errors import DeclarationError
from hotpath.options import parse_bytes, parse_seconds, parse_whole_seconds
from hotpath.pages.hosts import Hosts
from hotpath.pages.keys import Ignored, Template, parse_file_template, parse_path_template
from hotpath.pages.policy import (
    DEFAULT_CACHE_CONTROL,
    DEFAULT_CDN_CACHE_CONTROL,
    DEFAULT_LIFETIME,
    Policy,
    check_field_value,
    check_headers,
    default_media_type,
    with_charset,
)
from hotpath.pages.routes import (
    MAX_BYTES,
    Each,
    Expectations,
    PlannedItem,
    Route,
    check_expectations,
    check_route,
    default_file,
    location_of,
    plan,
)
from hotpath.pages.site_wide import DeclaredFiles, ReadOptions, SiteWide
from hotpath.store.directories import longest_prefix_bytes
from hotpath.store.sharing import Sharing
from hotpath.store.store import DEFAULT_KEEP, Store

# A look at so many files of one directory takes an eighth of a core.
MAX_FILES = 10_000

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Directory(DeclaredFiles):
    """Files of another program, looked at where they are."""

    @property
    def pattern(self) -> str:
        """The files as a pattern for ``glob``."""
        return glob.escape(self.files.render(dict.fromkeys(self.files.names, "\0"))).replace("\0", "*")

    def count(self) -> int:
        """How many files there are now to look at."""
        # Path.glob refuses an absolute pattern.
        return min(MAX_FILES, sum(1 for _ in glob.iglob(self.pattern)))  # noqa: PTH207

    def problem(self) -> str | None:
        """That there is no file now, for people; ``None`` where there is one."""
        if self.count():
            return None
        return (
            f"no file is {self.files.text}, so the app answers {self.path.text!r} (a relative path counts from the"
            " working directory; Path(__file__).parent / '…' does not)"
        )


def directories_of(site: SiteWide) -> list[Directory]:
    """The directories that a site declares, to be looked at."""
    return [Directory(each.path, each.files, each.policy) for each in site.directories]


class Hotpath:
    """The hot pages of one site and the store they are published to.

    ``root`` is the store's directory, made by the first build; a relative one is relative to the working directory of
    this moment. ``keep`` generations stay on disk. Each process keeps at most ``max_body_bytes`` of bodies in memory
    and looks for a new generation every ``refresh`` seconds. ``lifetime`` is how long a page counts as fresh after its
    batch (a page past it is still served, and says so). ``redirect_slashes`` answers ``/a/`` with a 308 to the hot
    page ``/a`` and the other way round. ``generation_header`` switches ``X-Hotpath-Generation``.

    Hot pages are answered before the app and its middleware, so what those check or add is declared here: ``headers``
    are fields of every page (a route's own win), and ``hosts`` are the names whose requests are answered, as
    ``"example.org"`` or ``"*.example.org"``; any other goes to the app. ``ignore_query`` names parameters of links that
    never choose a page, beside the well-known ones of advertising; ``"ref_*"`` stands for all that begin so.

    Several machines share generations by ``origin``, a place in object storage (``"s3://bucket/site"``), and hear of
    new ones at once by ``hints``, a Valkey or Redis (``"redis://host:6379/0"``). ``HOTPATH_ORIGIN`` and
    ``HOTPATH_HINTS`` win over both. ``site_copy`` keeps the pages at the origin as plain objects too, for a CDN.

    Raises ``DeclarationError`` for options that cannot work.
    """

    # ``module:attribute`` where a fresh interpreter finds this object, once it is known; empty for nowhere.
    target: str | None = None

    # Whether the app's middleware has ``bypass=``, once that is known.
    has_bypass: bool | None = None

    # Whether options and directories are those that the manifest of the served generation names.
    follows_store: bool = False

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        keep: int = DEFAULT_KEEP,
        max_body_bytes: int | str = "64MiB",
        refresh: float = 1.0,
        lifetime: int | str = DEFAULT_LIFETIME,
        cache_control: str = DEFAULT_CACHE_CONTROL,
        cdn_cache_control: str | None = DEFAULT_CDN_CACHE_CONTROL,
        redirect_slashes: bool = False,
        generation_header: bool = True,
        headers: Mapping[str, str] | None = None,
        hosts: Iterable[str] | None = None,
        ignore_query: Iterable[str] = (),
        origin: str | None = None,
        hints: str | None = None,
        site_copy: bool = False,
    ) -> None:
        if not isinstance(refresh, int | float) or not 0.01 <= refresh <= 3600:
            raise DeclarationError(
                f"refresh={refresh!r}: write the seconds between two looks at the store, 0.01 to 3600"
            )
        self.store = Store(_directory(root), keep=keep)
        self.sharing = Sharing(origin, hints, site_copy=site_copy)
        self.routes: list[Route] = []
        self.directories: list[Directory] = []
        self._lifetime_seconds = parse_whole_seconds(lifetime, "lifetime")
        self._cache_control = _required(check_field_value(cache_control, "cache_control"))
        self._cdn_cache_control = check_field_value(cdn_cache_control, "cdn_cache_control")
        self.reading = ReadOptions(
            float(refresh),
            parse_bytes(max_body_bytes, "max_body_bytes"),
            generation_header,
            redirect_slashes,
            Ignored.of(_names(ignore_query, "ignore_query")),
            check_headers(headers),
            None if hosts is None else Hosts.parse(_names(hosts, "hosts")),
        )

    @classmethod
    def of_store(cls, root: str | os.PathLike[str]) -> Hotpath:
        """The hot pages of a store, without the site's code: what holds for all pages is what its manifests say."""
        hot = cls(root)
        hot.follows_store = True
        return hot

    def site_wide(self) -> SiteWide:
        """What is declared for all pages."""
        directories = tuple(DeclaredFiles(each.path, each.files, each.policy) for each in self.directories)
        return SiteWide(self.reading, directories, self.has_bypass)

    def apply(self, site: SiteWide) -> None:
        """Take over what another ``Hotpath`` object declares for all pages."""
        self.reading, self.has_bypass = site.reading, site.has_bypass
        self.directories = directories_of(site)

    def __repr__(self) -> str:
        return f"Hotpath({str(self.store.root)!r}, routes={len(self.routes)})"

    # Longer than functions should be, for its options and what they mean.
    def route(
        self,
        path: str,
        *,
        each: Each | None = None,
        query: Iterable[str] = (),
        file: str | None = None,
        media_type: str | None = None,
        headers: Mapping[str, str] | None = None,
        fold_case: bool = False,
        cache_control: str | None = None,
        cdn_cache_control: str | None = None,
        lifetime: int | str | None = None,
        records: str | None = None,
        required: Iterable[str] = (),
        row_key: str | None = None,
        source_time: str | None = None,
        min_rows: int = 1,
        max_bytes: int | str = MAX_BYTES,
        check: Callable[[Any], object] | None = None,
        critical: bool = False,
        timeout: int | str | None = None,
    ) -> Callable[[F], F]:
        """Declare the decorated function as the source of hot pages; it is returned unchanged.

        ``path`` has ``{parameters}``, one segment each; ``each`` gives their values: a mapping of lists (all
        combinations), an iterable of dicts, or a callable that returns one when the batch runs. ``query`` names the
        query parameters that belong to the key. ``file`` is the name inside a generation, for readers in other
        languages. ``fold_case`` makes ``/Rankings/KOSPI`` the same page as ``/rankings/kospi``. ``headers`` are
        static response fields.

        What the batch holds a payload to: ``records`` is where its rows are, and ``min_rows`` how many there are at
        least; ``required`` are fields of a row that are never null, ``row_key`` the field that tells rows apart,
        ``source_time`` the one that says how new the data is. A body has at most ``max_bytes``. ``check`` gets the
        payload and returns what is wrong with it, or ``None``. An item that fails keeps its last good bytes, unless
        the route is ``critical``: then the run fails and nothing is published. ``timeout`` bounds one item.

        The function is sync or async and returns JSON-able data, str or bytes. Raises ``DeclarationError`` with the
        line to change.
        """
        if callable(path):
            raise DeclarationError(
                "@hot.route stands without a path; write @hot.route('/path')", where=location_of(path)
            )

        def declare(function: F) -> F:
            where = location_of(function)
            with _error_at(where):
                if not callable(function):
                    raise DeclarationError("@hot.route(…) stands above a function")
                template = parse_path_template(path)
                policy = self._policy(
                    path, query, media_type, headers, fold_case, cache_control, cdn_cache_control, lifetime
                )
                expects = Expectations(
                    records=records,
                    required=_names(required, "required"),
                    row_key=row_key,
                    source_time=source_time,
                    min_rows=min_rows,
                    max_bytes=parse_bytes(max_bytes, "max_bytes"),
                    check=check,
                    critical=bool(critical),
                    timeout_seconds=None if timeout is None else parse_seconds(timeout, "timeout"),
                )
                check_expectations(expects)
                file_template = parse_file_template(file or default_file(template, policy.query, policy.media_type))
                route = Route(template, file_template, policy.query, policy, _reusable(each), function, where, expects)
                self._require_new(template)
                check_route(route)
                self.routes.append(route)
            return function

        return declare

    def directory(
        self,
        path: str,
        files: str | os.PathLike[str],
        *,
        media_type: str | None = None,
        headers: Mapping[str, str] | None = None,
        fold_case: bool = False,
        cache_control: str | None = None,
        cdn_cache_control: str | None = None,
        lifetime: int | str | None = None,
    ) -> None:
        """Serve plain files that another program writes.

        ``hot.directory("/indices/{name}", "data/indices/{name}.json")``: each file that matches is a page.

        A change shows within two seconds; a torn, empty or invalid file
        never replaces the last good bytes. Raises ``DeclarationError``.
        """
        caller = sys._getframe(1)
        with _error_at(f"{caller.f_code.co_filename}:{caller.f_lineno}"):
            template = parse_path_template(path)
            file_template = Template.parse(str(Path(files).absolute()))
            if set(template.names) != set(file_template.names):
                raise DeclarationError(
                    f"{path!r} and {os.fspath(files)!r} must hold the same {{fields}}: each file is one page"
                )
            policy = self._policy(path, (), media_type, headers, fold_case, cache_control, cdn_cache_control, lifetime)
            self._require_new(template)
        self.directories.append(Directory(template, file_template, policy))

    def plan(self) -> list[PlannedItem]:
        """Every item the batch has to build. Raises ``DeclarationError`` before any function is run."""
        if self.directories and not self.routes:
            raise DeclarationError("only directories are declared: their files are served as they are, without a build")
        return plan(self.routes, prefix_bytes=longest_prefix_bytes(self.store.root))

    def _require_new(self, template: Template) -> None:
        def shape(template: Template) -> str:
            return template.render(dict.fromkeys(template.names, "{}"))

        for route in self.routes:
            if shape(route.path) == shape(template):
                raise DeclarationError(f"{template.text!r} is declared twice, first at {route.where}; remove one")
        for directory in self.directories:
            if shape(directory.path) == shape(template):
                raise DeclarationError(f"{template.text!r} is declared twice, as a directory too; remove one")

    def _policy(
        self,
        path: str,
        query: Iterable[str],
        media_type: str | None,
        headers: Mapping[str, str] | None,
        fold_case: bool,
        cache_control: str | None,
        cdn_cache_control: str | None,
        lifetime: int | str | None,
    ) -> Policy:
        return Policy(
            route=path,
            media_type=with_charset(check_field_value(media_type, "media_type") or default_media_type(path)),
            cache_control=check_field_value(cache_control, "cache_control") or self._cache_control,
            cdn_cache_control=check_field_value(cdn_cache_control, "cdn_cache_control") or self._cdn_cache_control,
            lifetime_seconds=self._lifetime_seconds if lifetime is None else parse_whole_seconds(lifetime, "lifetime"),
            query=_names(query, "query"),
            fold_case=fold_case,
            headers=check_headers(headers),
        )


@contextmanager
def _error_at(where: str) -> Iterator[None]:
    """Say in a ``DeclarationError`` which line of the user's to change."""
    try:
        yield
    except DeclarationError as error:
        raise error if error.where else DeclarationError(error.problem, where=where) from None


def _reusable(each: Each | None) -> Each | None:
    """What ``each`` gives at every build: a generator would be empty at the second."""
    if each is None or callable(each) or isinstance(each, Mapping):
        return each
    if isinstance(each, str | bytes) or not isinstance(each, Iterable):
        raise DeclarationError(f"each={each!r}: write a dict of lists, a list of dicts, or a function")
    return list(each)


def _names(names: Iterable[str], option: str) -> tuple[str, ...]:
    if isinstance(names, str):
        raise DeclarationError(f"{option}={names!r} is text; write {option}=({names!r},)")
    listed = tuple(names)
    for name in listed:
        if not isinstance(name, str) or not name.strip("*"):
            raise DeclarationError(f"{option} holds {name!r}; write names")
    return listed


def _directory(root: str | os.PathLike[str]) -> str:
    """The path of a store as it was meant, or ``DeclarationError``: what a shell would expand, nobody does here."""
    path = os.fspath(root) if isinstance(root, str | os.PathLike) else None
    if not isinstance(path, str) or not path or "\0" in path:
        raise DeclarationError(f"root={root!r} is no directory; write where generations live, Hotpath('var/hot')")
    if path[0] in "~$":
        how = f"Path({path!r}).expanduser()" if path[0] == "~" else f"os.path.expandvars({path!r})"
        raise DeclarationError(f"root={path!r} would be a directory of just this name; write Hotpath({how})")
    return path


def _required(value: str | None) -> str:
    if value is None:
        raise DeclarationError("cache_control=None: write 'no-cache' where nothing may be kept")
    return value
