"""A night's work: run the batch, ask the public endpoints, go back where they are wrong, and send alerts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hotpath.batch.failures import FailureGroups
from hotpath.batch.run import Report
from hotpath.errors import PublicAnswerWrong, PublicUnseen, StoreError
from hotpath.ops.alerts.alerts import Alerts
from hotpath.ops.check import CheckOptions, CheckReport, check
from hotpath.options import counted
from hotpath.process.signals import uninterrupted
from hotpath.site import Hotpath


@dataclass(frozen=True, slots=True)
class Night:
    """What a night did; ``check`` where the public endpoints were asked. ``warnings`` are of the alerts."""

    report: Report
    check: CheckReport | None
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        """For ``--json``."""
        facts = self.report.as_dict()
        if self.check is not None:
            facts["check"] = self.check.as_dict()
        facts["alert_warnings"] = list(self.warnings)
        return facts


def run_night(
    hot: Hotpath,
    build: Callable[[], Report],
    *,
    alerts: Alerts,
    check_url: str | None = None,
    options: CheckOptions | None = None,
    warn: Callable[[str], Any],
) -> Night:
    """``build``, then check ``check_url``; a generation that the public gets wrong is rolled back from at once.

    ``warn`` gets the alerts that did not get through, also where the night fails. Raises what ``build`` raises, and
    ``PublicAnswerWrong``; each is alerted of first. A site that could not be looked at (refused by a firewall, silent)
    is alerted of too, and what was published stays: ``check.unseen`` of the result has it. A generation
    that is not served since another is pinned is alerted of too.
    """
    warnings: list[str] = []
    try:
        warnings += alerts.started()
        report = build()
        checked = check(hot, check_url, options) if check_url is not None else None
        if checked is not None and checked.failures:
            _go_back(hot, report.published.generation, checked)
        serving = hot.store.chosen_sequence()
    # A machine without memory raises what is not ours, a supervisor sends SIGTERM: people have to hear of that too.
    except (Exception, KeyboardInterrupt) as error:
        for warning in (*warnings, *alerts.failed(hot.store, error)):
            warn(warning)
        raise
    warnings += _alert_of_what_was_published(hot, report, serving, alerts)
    if checked is not None:
        warnings += _alert_of_what_was_unseen(hot, checked, alerts)
    return Night(report, checked, tuple(warnings))


def _alert_of_what_was_published(hot: Hotpath, report: Report, serving: int, alerts: Alerts) -> list[str]:
    """Alerts of a pin that holds it back and of failed items, or that these are resolved. Returns warnings."""
    warnings: list[str] = []
    published = report.published.generation
    summary = f"generation {published} is published: {counted(report.published.items, 'item')}"
    if serving == published:
        warnings += alerts.resolved(hot.store, "pin", summary)
    else:
        kept = f"generation {published} is published, but {serving} is pinned and stays served until 'hotpath unpin'"
        warnings += [kept, *alerts.wrong(hot.store, "pin.holds", kept)]
        summary = kept
    if report.failures:
        details = [str(group) for group in FailureGroups(report.failures).groups()]
        kept = f"{counted(len(report.failures), 'item')} failed, {len(report.carried)} keep their last good bytes"
        warnings += alerts.wrong(hot.store, "items.failed", kept, details)
    else:
        warnings += alerts.resolved(hot.store, "items", summary)
    return [*warnings, *alerts.succeeded(hot.store, summary)]


def _alert_of_what_was_unseen(hot: Hotpath, checked: CheckReport, alerts: Alerts) -> list[str]:
    """The same for a public site that could not be looked at, by its URL."""
    base = checked.base_url
    if not checked.unseen:
        return alerts.resolved(hot.store, "public", f"{base} answers with what is published", about=base)
    problems = [str(unseen) for unseen in checked.unseen]
    summary = str(PublicUnseen(base, checked.generation, []))
    return alerts.wrong(hot.store, "public.unseen", summary, problems, about=base)


def _go_back(hot: Hotpath, sequence: int, report: CheckReport) -> None:
    """Roll back from a generation that the public sees wrong, where it is to blame, and say so by raising.

    Without a pin: the next generation may be served, unless it is wrong as well.
    """
    problems = [str(failure) for failure in report.failures]
    target, kept = None, None
    if report.generation != sequence:
        kept = f"it is pinned, and {sequence} is published beside it"
    else:
        try:
            with uninterrupted():
                _, target = hot.store.rollback(reason=f"the public endpoints were wrong: {problems[0]}", pin=False)
        except StoreError as error:
            kept = str(error)
    raise PublicAnswerWrong(report.base_url, report.generation, target, problems, kept)
