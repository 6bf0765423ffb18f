"""``hotpath init``: asks what matters, and writes the files of a small machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hotpath.cli.output import say
from hotpath.cli.targets import load_site_or_store
from hotpath.errors import DeclarationError
from hotpath.ops.render.facts import BATCH_TIME, SiteFacts, gather
from hotpath.ops.render.setup import commands, files_of, memory_shares, read_record, write_setup
from hotpath.ops.render.whats import WHATS

_WEB = tuple(name for name in ("nginx", "caddy") if name in WHATS)
_QUESTIONS = {
    "target": "The Hotpath object (module:attribute), or the path of a store",
    "base_url": "Address of the public site",
    "machine_memory": "Memory of the machine",
    "batch_time": "When the batch runs, in the machine's time zone",
    "mail": "Who gets mail of failures (empty: nobody)",
}
_DEFAULTS = {"base_url": "https://example.org", "machine_memory": "2GiB", "batch_time": BATCH_TIME, "mail": ""}


@click.command(epilog="Example: hotpath init myapp:hot --base-url https://example.org")
@click.argument("target", metavar="TARGET|STORE", required=False)
@click.option("--base-url", help="Address of the public site: https://example.org")
@click.option("--machine-memory", help="Memory of the machine: 2GiB. The app and the batch get limits of it.")
@click.option("--batch-time", help="When the batch runs: 02:30, in the machine's time zone.")
@click.option("--mail", help="Who gets mail of failures; empty for nobody.")
@click.option("--name", help="Name of units and files.")
@click.option("--app", metavar="MODULE:APP", help="The ASGI app, where it is not beside the Hotpath object.")
@click.option("--user", help="User that the site runs as.")
@click.option("--web", type=click.Choice([*_WEB, "none"]), help="The web server in front of it.")
@click.option("--prometheus/--no-prometheus", default=None, help="Rules for Prometheus too.")
@click.option(
    "--to",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("deploy"),
    show_default=True,
    help="Directory of the project to write to.",
)
@click.option("--yes", is_flag=True, help="Ask nothing: the answers of the last run, or the defaults.")
@click.option("--force", is_flag=True, help="Write over files that were changed since.")
def init(target: str | None, to: Path, yes: bool, force: bool, **options: Any) -> None:
    """Write the files of a small machine: units, timers, web server.

    Asks for what matters, and prints the commands that install it. A second run asks with the answers of the first,
    and writes over no file that somebody has changed.
    """
    remembered = read_record(to).answers
    given = {name: value for name, value in {"target": target, **options}.items() if value is not None}
    answers = {**_DEFAULTS, **remembered, **given}
    if not yes:
        for name, question in _QUESTIONS.items():
            if name not in given:
                answers[name] = click.prompt(question, default=answers.get(name), show_default=bool(answers.get(name)))
    if not answers.get("target"):
        raise DeclarationError("which site? write 'hotpath init myapp:hot', or the path of a store")
    facts = _facts(answers)
    web = answers.get("web") or (_WEB or ("none",))[0]
    whats = ["systemd", *([web] if web != "none" else ()), *(["prometheus"] if answers.get("prometheus") else ())]
    written, kept = write_setup(files_of(facts, whats), to, answers, force=force)
    say(*(f"{path} written" for path in written), *(f"{path} kept as you changed it" for path in kept))
    if not written and not kept:
        say(f"{to}: everything is as it was")
    say("", "install it, as root:", "", *(f"  {line}" for line in commands(facts, to, whats)))


def _facts(answers: dict[str, Any]) -> SiteFacts:
    target = answers["target"]
    app, batch = memory_shares(answers["machine_memory"])
    given = {
        "base_url": answers["base_url"],
        "batch_time": answers["batch_time"],
        "mail": answers["mail"] or None,
        **{name: answers.get(name) for name in ("name", "app", "user")},
        "memory_bytes": app,
        "batch_memory_bytes": batch,
    }
    return gather(load_site_or_store(target), target, **given)
