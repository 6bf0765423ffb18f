"""The report as one page: no script, nothing fetched from elsewhere, plots drawn as SVG."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from importlib import resources
from string import Template

from hotpath.ops.traffic.report import LogReport, lines
from hotpath.ops.traffic.summary import CLASSES
from hotpath.options import printable

_WIDTH, _HEIGHT = 720, 160


def html(report: LogReport) -> str:
    """A whole document."""
    template = resources.files("hotpath.ops.traffic").joinpath("page.html").read_text(encoding="utf-8")
    return Template(template).substitute(
        span=_text(f"{report.first or 'without times'} to {report.last or ''} UTC"),
        share="no verified crawler" if report.error_share is None else f"{report.error_share:.2%}",
        crawl_plot=_crawl_plot(report),
        crawls=_rows(
            (line.crawler, "yes" if line.verified else "no", line.requests, *line.classes.values())
            for line in report.crawls
        ),
        classes="".join(f"<th scope=col>{name}</th>" for name in CLASSES),
        routes=_rows(
            (route.path, route.requests, route.crawled, route.bytes, "yes" if route.is_hot_set else "")
            for route in report.routes
        ),
        text=_text("\n".join(lines(report))),
    )


def _crawl_plot(report: LogReport) -> str:
    """Requests of verified crawlers by day, and above them in another colour those that got 5xx or no answer."""
    days: dict[str, list[int]] = {}
    for line in report.crawls:
        for day, figures in line.days.items() if line.verified else ():
            total = days.setdefault(day, [0, 0])
            total[0] += figures["requests"]
            total[1] += figures["5xx"] + figures["reset"]
    if not days:
        return "<p>No verified crawler is in this log.</p>"
    most = max(total for total, _ in days.values())
    step = _WIDTH / len(days)
    bars = []
    for place, (day, (asked, wrong)) in enumerate(sorted(days.items())):
        x, width = place * step, max(1.0, step - 2)
        bars += [
            _bar("asked", x, width, asked / most, f"{day}: {asked} requests"),
            _bar("wrong", x, width, wrong / most, f"{day}: {wrong} without a good answer"),
        ]
    label = 'role="img" aria-label="requests of verified crawlers by day"'
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" {label}>{"".join(bars)}</svg>'


def _bar(kind: str, x: float, width: float, share: float, title: str) -> str:
    height = share * (_HEIGHT - 4)
    return (
        f'<rect class="{kind}" x="{x:.1f}" y="{_HEIGHT - height:.1f}" width="{width:.1f}" height="{height:.1f}">'
        f"<title>{_text(title)}</title></rect>"
    )


def _rows(rows: Iterable[tuple[object, ...]]) -> str:
    return "\n".join("<tr>" + "".join(f"<td>{_text(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)


def _text(text: str) -> str:
    return escape(printable(text))
