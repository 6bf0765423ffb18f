"""The command that reads access logs."""

from __future__ import annotations

from pathlib import Path

import click

from hotpath.cli.output import JSON, show
from hotpath.cli.targets import load
from hotpath.errors import DeclarationError
from hotpath.options import parse_seconds


@click.command(epilog="Example: hotpath logs /var/log/nginx/access.log* myapp:hot --window 15m")
@click.argument("sources", nargs=-1, required=True, metavar="FILE… [TARGET]")
@click.option("--days", default=30, show_default=True, help="Days, up to the newest line, that the crawl table counts.")
@click.option("--window", default="10m", show_default=True, help="How long a deploy takes, for the quiet hour.")
@click.option("--unit", help="The systemd unit of the app: its restarts are shown beside the errors.")
@click.option(
    "--ranges",
    multiple=True,
    metavar="CRAWLER=FILE",
    help="Newer addresses of a crawler, as its owner publishes them: Googlebot=googlebot.json",
)
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write a page with plots too.")
@JSON
def logs(
    sources: tuple[str, ...],
    days: int,
    window: str,
    unit: str | None,
    ranges: tuple[str, ...],
    html: Path | None,
    as_json: bool,
) -> None:
    """Read access logs: what crawlers saw, and what to make hot.

    FILE is a log, plain or gzip, of nginx, Apache, Caddy, gunicorn, uvicorn or hotpath; - reads standard input. With
    TARGET it also says what is hot already.
    """
    from hotpath.ops.traffic import logs as access_logs
    from hotpath.ops.traffic import page, report

    files = [source for source in sources if not _is_target(source)]
    targets = [source for source in sources if _is_target(source)]
    if len(targets) > 1:
        raise DeclarationError(f"{' and '.join(targets)}: give one TARGET")
    if not files:
        raise DeclarationError("no log: give the access logs of the site, or - to read them from standard input")
    newer = {}
    for given in ranges:
        crawler, equals, path = given.partition("=")
        if not equals or not path:
            raise DeclarationError(f"--ranges {given}: write CRAWLER=FILE, Googlebot=googlebot.json")
        newer[crawler] = Path(path)
    found = access_logs.read(
        files,
        declared=[route.path.text for route in load(targets[0]).routes] if targets else None,
        days=days,
        window_minutes=max(1, round(parse_seconds(window, "--window") / 60)),
        unit=unit,
        ranges=newer,
    )
    if html is not None:
        html.write_text(page.html(found), encoding="utf-8")
    show(found, report.lines(found), as_json)


def _is_target(source: str) -> bool:
    """``module:attribute``, unless there is a file of that name."""
    module, colon, attribute = source.partition(":")
    return (
        bool(colon)
        and module.replace(".", "_").isidentifier()
        and attribute.isidentifier()
        and not Path(source).exists()
    )
