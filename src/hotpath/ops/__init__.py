"""What the ``hotpath`` command does: one module for each thing to do, none of which knows the command line."""
