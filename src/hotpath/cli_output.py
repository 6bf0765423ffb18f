"""What the commands share: their arguments, and how they print."""

from __future__ import annotations

import json
from collections.abc import Iterable

import click

JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for scripts.")
TARGET = click.argument("target")
STORE = click.argument("target", metavar="TARGET|STORE")


def say(*lines: str) -> None:
    """Lines on stdout."""
    for line in lines:
        click.echo(line)


def warn(warnings: Iterable[str]) -> None:
    """Warnings on stderr."""
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)


def print_json(value: object) -> None:
    """One object on stdout."""
    click.echo(json.dumps(value))
