"""The ``hotpath`` command."""


def main() -> None:
    """Run the command; loaded only now, so that a part of it can be imported without click."""
    from hotpath.cli.commands import main as command

    command()


__all__ = ["main"]
