"""What the ``hotpath`` command can do, one module an operation; each takes values and returns values."""
