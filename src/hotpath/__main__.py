"""``python -m hotpath`` is the ``hotpath`` command."""

from hotpath.cli.commands import main

main(prog_name="hotpath")
