"""``python -m hotpath`` is the ``hotpath`` command."""

from hotpath.cli import main

main(prog_name="hotpath")
