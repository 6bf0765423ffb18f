"""One root for everything hotpath raises on purpose; facts are attributes, never text to parse.

``exit_code`` is what the ``hotpath`` command ends with when the error reaches it:
1 the thing built or checked is bad, 2 usage, 69 what is published stays, and the public site or the origin could not be
reached (``EX_UNAVAILABLE`` of sysexits(3)), 75 busy (``EX_TEMPFAIL``: try again).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class HotpathError(Exception):
    """Root of all errors of this package."""

    exit_code = 1


class DeclarationError(HotpathError):
    """A hot route, directory or option is declared wrongly.

    ``where`` is ``file:line`` of the declaration where it is known.
    """

    exit_code = 2

    def __init__(self, problem: str, *, where: str | None = None) -> None:
        super().__init__(f"{where}: {problem}" if where else problem)
        self.problem = problem
        self.where = where


class TargetError(HotpathError):
    """``module:attribute`` names nothing that can be used.

    ``where`` is the ``file:line`` at which the import stopped, where there is one.
    """

    exit_code = 2

    def __init__(self, target: str, problem: str, *, where: str | None = None) -> None:
        super().__init__(f"{target}: {problem}")
        self.target = target
        self.problem = problem
        self.where = where


class AppBroken(TargetError):
    """The app raises while it is imported, as it may until somebody has repaired it."""


class ItemError(HotpathError):
    """One item of a batch could not be made into bytes; the run names it and publishes nothing.

    ``where`` is the ``file:line`` in the user's code where there is one, ``path`` the place inside the payload
    (``$.items[3].pe``).
    """

    def __init__(
        self, problem: str, *, key: str | None = None, where: str | None = None, path: str | None = None
    ) -> None:
        super().__init__(f"{key}: {problem}" if key else problem)
        self.problem = problem
        self.key = key
        self.where = where
        self.path = path


class BuildFailed(HotpathError):
    """Too many items of a batch failed; nothing was published and the generation before keeps serving.

    ``reason`` says why it was too many.
    """

    def __init__(self, failures: list[ItemError], total: int, reason: str) -> None:
        noun = "item" if total == 1 else "items"
        counted = f"{len(failures)} of {total} {noun} failed, and {reason}" if failures else reason
        super().__init__(f"{counted}; nothing was published: visitors get what they got before")
        self.failures = failures
        self.total = total
        self.reason = reason


class NothingToRetry(HotpathError):
    """The last run is whole and served: there is nothing that failed in it, and so nothing to do."""

    exit_code = 0


class Implausible(HotpathError):
    """A generation failed validation; it is in quarantine and was never served. ``problems`` has a line for each."""

    def __init__(self, sequence: int, problems: list[str], *, path: Path) -> None:
        super().__init__(
            f"generation {sequence} is not plausible and was put in quarantine: visitors get what they got before\n"
            f"{_listed(problems)}\n"
            f"  see {path}; if it is right after all: hotpath approve TARGET {sequence} --reason …"
        )
        self.sequence = sequence
        self.problems = problems
        self.path = path


class PublicAnswerWrong(HotpathError):
    """What was published is not what the public gets. ``target`` is the generation that was gone back to, if any.

    ``kept`` says why nothing was gone back to.
    """

    def __init__(
        self, base_url: str, sequence: int, target: int | None, problems: list[str], kept: str | None = None
    ) -> None:
        went = (
            f"rolled back to {target}, without a pin: the next build is served"
            if kept is None
            else f"nothing was rolled back: {kept}"
        )
        super().__init__(
            f"{base_url} does not answer with generation {sequence} as it was published; {went}\n{_listed(problems)}"
        )
        self.base_url = base_url
        self.sequence = sequence
        self.target = target
        self.problems = problems
        self.kept = kept


class PublicUnseen(HotpathError):
    """The public site could not be looked at: nothing is known to be wrong, and what was published stays served."""

    exit_code = 69  # EX_UNAVAILABLE of sysexits(3)

    def __init__(self, base_url: str, sequence: int, problems: list[str]) -> None:
        shown = "".join(f"\n  {problem}" for problem in problems[:20])
        super().__init__(
            f"generation {sequence} is published and stays, but {base_url} could not be looked at:"
            f" nothing is known to be wrong{shown}"
        )
        self.base_url = base_url
        self.sequence = sequence
        self.problems = problems


class IsolatedFailure(HotpathError):
    """Code that runs in a process of its own gave no answer: it raised, hung, ran out of memory or was killed."""


class UnusableFile(HotpathError):
    """A file is not there, cannot be read, or makes no sense; ``path`` names it."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem


class UnreadableMemory(UnusableFile):
    """What the kernel says about memory cannot be read or makes no sense."""


class UnusableSlots(UnusableFile):
    """The page that the workers of one service share cannot be used."""


class UnreadableDatabase(UnusableFile):
    """A run could not have its own copy of a database."""


class Unreachable(HotpathError):
    """A server gave no answer, or none that could be read to its end. ``url`` is shown without what is secret in it."""

    def __init__(self, url: str, problem: str) -> None:
        super().__init__(f"{url}: {problem}")
        self.url = url
        self.problem = problem


class StoreError(HotpathError):
    """The store cannot do what was asked; ``path`` is where, ``fix`` what to do about it."""

    def __init__(self, problem: str, *, path: Path | str, fix: str | None = None) -> None:
        super().__init__(f"{path}: {problem}" + (f"; {fix}" if fix else ""))
        self.problem = problem
        self.path = Path(path)
        self.fix = fix


class StoreBusy(StoreError):
    """Another process is publishing, rolling back or repairing; ``pid`` is the holder of the lock where it is known."""

    exit_code = 75

    def __init__(self, *, path: Path | str, pid: int | None) -> None:
        who = f"process {pid}" if pid else "another process"
        super().__init__(
            f"{who} is changing this store", path=path, fix="try again when it is done (nothing was changed)"
        )
        self.pid = pid


class NothingPublished(StoreError):
    """The store holds no generation that could be served."""


class Corrupt(StoreError):
    """Bytes on disk are not what their manifest or pointer says."""


class NewerFormat(Corrupt):
    """A newer version of hotpath wrote this, and can read it."""


class UnsafePath(StoreError):
    """A path in the store is not what it must be: a link, a device, something outside the root."""


class OriginError(HotpathError):
    """The object storage that machines share did not do what was asked; nothing that is served has changed.

    ``url`` is the origin without anything secret, ``key`` the object (``None``: the whole), ``operation`` what was
    tried, ``status`` the HTTP status where there was one, ``reason`` the engine's own code (``SlowDown``). With
    ``is_transient`` the same may work a little later; ``exit_code`` is 75 then.
    """

    def __init__(
        self,
        problem: str,
        *,
        url: str,
        operation: str,
        key: str | None = None,
        status: int | None = None,
        reason: str | None = None,
        fix: str | None = None,
        is_transient: bool = False,
    ) -> None:
        super().__init__(f"{url}: {operation}{f' {key}' if key else ''}: {problem}" + (f"; {fix}" if fix else ""))
        self.problem = problem
        self.url = url
        self.operation = operation
        self.key = key
        self.status = status
        self.reason = reason
        self.fix = fix
        self.is_transient = is_transient
        if is_transient:
            self.exit_code = 75


class OriginConflict(OriginError):
    """Another machine was first: an object at the origin is not what it was when this began. Try again."""

    exit_code = 75


class NotSent(HotpathError):
    """A generation is published and served on this machine, and the origin does not have it.

    ``generation`` is its number, ``target`` what to send it with, ``reason`` why it was not sent.
    """

    exit_code = 69

    def __init__(self, generation: int, target: str, reason: HotpathError) -> None:
        super().__init__(
            f"generation {generation} is published on this machine and was not sent, so no other machine serves it:"
            f" {reason}; then run 'hotpath push {target}', or the build again"
        )
        self.generation = generation
        self.target = target
        self.reason = str(reason)


class NotCopied(HotpathError):
    """A generation is at the origin, and the copy of the site for a CDN was not brought up to it.

    ``generation`` is its number, ``target`` what to copy it with, ``reason`` why it was not copied.
    """

    exit_code = 69

    def __init__(self, generation: int, target: str, reason: HotpathError) -> None:
        super().__init__(
            f"generation {generation} was sent, and the site copy was not brought up to it: {reason};"
            f" then run 'hotpath push {target} --site-copy'"
        )
        self.generation = generation
        self.target = target
        self.reason = str(reason)


class ImportRefused(HotpathError):
    """A directory holds files that could not be served; nothing was published. ``problems`` has a line for each."""

    def __init__(self, directory: Path, problems: list[str]) -> None:
        noun = "file" if len(problems) == 1 else "files"
        super().__init__(f"{directory}: {len(problems)} {noun} cannot be served\n{_listed(problems)}")
        self.directory = directory
        self.problems = problems


class ImportWouldDrop(HotpathError):
    """An import would take pages away that nobody said to drop; nothing was published.

    ``sequence`` is the generation they are in, ``pages`` how many of it would go.
    """

    def __init__(self, problem: str, *, sequence: int, pages: int) -> None:
        super().__init__(problem)
        self.sequence = sequence
        self.pages = pages


class NothingToAudit(HotpathError):
    """There is no Python file under the paths that were given, so that nothing found would say nothing."""

    exit_code = 2

    def __init__(self, paths: Sequence[Path]) -> None:
        super().__init__(f"{', '.join(map(str, paths))}: no Python files; name the folder that your code is in")
        self.paths = tuple(paths)


def _listed(problems: Sequence[str]) -> str:
    """The first of them, a line each."""
    more = [f"… and {len(problems) - 20} more"] if len(problems) > 20 else []
    return "\n".join(f"  {line}" for line in [*problems[:20], *more])
