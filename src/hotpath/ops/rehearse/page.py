"""A rehearsal as one page: no script, nothing fetched from elsewhere, plots drawn as SVG, a row for each run."""

from __future__ import annotations

from html import escape
from importlib import resources
from string import Template

from hotpath.ops.rehearse.rehearsal import Rehearsal
from hotpath.ops.rehearse.runs import RunResult
from hotpath.ops.rehearse.table import rows, summary
from hotpath.options import human_bytes, printable

_WIDTH, _HEIGHT = 960, 150


def html(rehearsal: Rehearsal) -> str:
    """A whole document."""
    template = resources.files("hotpath.ops.rehearse").joinpath("page.html").read_text(encoding="utf-8")
    head, *table = rows(rehearsal)
    most = max(max(run.peak_bytes, run.limit_bytes) for run in rehearsal.runs)
    return Template(template).substitute(
        app=_text(rehearsal.app),
        days=f"{rehearsal.days:g}",
        head="".join(f"<th scope=col>{_text(cell)}</th>" for cell in head),
        rows="\n".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in table),
        text="\n".join(f"<p>{_text(line)}</p>" for line in summary(rehearsal)),
        plots="\n".join(f"<h3>{_text(run.way.title)}</h3>\n{plot(run, most)}" for run in rehearsal.runs),
    )


def plot(run: RunResult, most_bytes: int) -> str:
    """Memory as a line, and bars of the share of requests that failed; ``most_bytes`` is the top of the plot."""
    moments = run.record.moments
    step = _WIDTH / len(moments)
    bars, points = [], []
    for place, moment in enumerate(moments):
        if moment.memory_bytes:
            points.append(f"{place * step + step / 2:.1f},{_HEIGHT * (1 - moment.memory_bytes / most_bytes):.1f}")
        low = float(_HEIGHT)
        for kind, errors in (("hot", moment.hot_errors), ("cold", moment.cold_errors)):
            if errors:
                height = _HEIGHT * errors / moment.requests
                low -= height
                title = f"{errors} of {moment.requests} requests: {kind}"
                bars.append(
                    f'<rect class="{kind}" x="{place * step:.1f}" y="{low:.1f}" width="{step:.1f}"'
                    f' height="{height:.1f}"><title>{title}</title></rect>'
                )
    limit = _HEIGHT * (1 - run.limit_bytes / most_bytes)
    label = _text(
        f"{run.way.title}: memory up to {human_bytes(run.peak_bytes)}, {run.record.hot.errors} hot and"
        f" {run.record.cold.errors} cold pages failed"
    )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">{"".join(bars)}'
        f'<line class="limit" x1="0" x2="{_WIDTH}" y1="{limit:.1f}" y2="{limit:.1f}"/>'
        f'<polyline class="memory" points="{" ".join(points)}"/></svg>'
    )


def _text(text: str) -> str:
    return escape(printable(text))
