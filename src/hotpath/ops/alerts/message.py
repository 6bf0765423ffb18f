"""What an alert says, and which failures are the same."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from hotpath.batch.failures import FailureGroups
from hotpath.errors import BuildFailed, Implausible, NothingToRetry, PublicAnswerWrong, StoreBusy, StoreError
from hotpath.options import human_seconds

FAILED, REMINDER, RESOLVED, TEST = "failed", "reminder", "resolved", "test"

_WORDS = {FAILED: "FAILED", REMINDER: "STILL FAILING", RESOLVED: "resolved", TEST: "test"}

_NAMES = (
    (BuildFailed, "failed"),
    (Implausible, "quarantined"),
    (PublicAnswerWrong, "public"),
    (StoreError, "store"),
    (KeyboardInterrupt, "interrupted"),
)

# Maximum characters of a subject and lines of a list; the log has all of it.
MAX_SUMMARY = 150
MAX_DETAILS = 30


@dataclass(frozen=True, slots=True)
class Message:
    """One alert. ``site`` says whose it is, ``kind`` names the failure (``build.quarantined``).

    ``about`` is what failed where there are several such things, a base URL. ``seconds`` is how long it has lasted, 0
    for a new one; ``time`` is seconds since the epoch.
    """

    site: str
    event: str
    kind: str
    summary: str
    time: int
    details: tuple[str, ...] = ()
    seconds: int = 0
    about: str = ""

    @property
    def subject(self) -> str:
        """One line."""
        since = f" since {human_seconds(self.seconds)}" if self.event == REMINDER else ""
        return f"hotpath {self.site}: {_WORDS[self.event]}{since}: {' '.join(self.summary.split())[:MAX_SUMMARY]}"

    @property
    def text(self) -> str:
        """The whole message as plain text."""
        lines = [self.subject, ""]
        if self.event == RESOLVED and self.seconds:
            lines += [f"It had failed for {human_seconds(self.seconds)}.", ""]
        lines += [f"  {detail}" for detail in self.details[:MAX_DETAILS]]
        if len(self.details) > MAX_DETAILS:
            lines.append(f"  … and {len(self.details) - MAX_DETAILS} more")
        return "\n".join([*lines, "", f"({self.kind})", ""])

    def as_dict(self) -> dict[str, object]:
        """As a webhook gets it."""
        return {**asdict(self), "details": self.details[:MAX_DETAILS], "text": self.text}


def kind_of(error: BaseException, area: str = "build") -> str | None:
    """The kind of a failure, which is sent once while it lasts. ``None`` for no failure: another run is at work."""
    if isinstance(error, StoreBusy | NothingToRetry):
        return None
    for kind, name in _NAMES:
        if isinstance(error, kind):
            return f"{area}.{name}"
    return f"{area}.error"


def details_of(error: BaseException) -> tuple[str, ...]:
    """What a person needs to know of a failure, a line for each item or rule."""
    if isinstance(error, BuildFailed):
        return tuple(str(group) for group in FailureGroups(error.failures).groups())
    if isinstance(error, Implausible):
        return (*error.problems, f"see {error.path}")
    if isinstance(error, PublicAnswerWrong):
        return tuple(error.problems)
    return ()
