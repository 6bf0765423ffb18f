"""Become the app's server: what a new process does to itself before its program begins.

Run by its path, with ``python -I -S``, so that nothing of the site and little of Python is loaded:
``launch.py PARENT SIGNAL SCORE GROUP… -- COMMAND…``. A function between fork and exec would do the same, but not
safely in a process with threads.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Die with the parent, be the first that the kernel kills, join the groups, and become the command."""
    split = arguments.index("--")
    parent, number, score, *groups = arguments[:split]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number))
        if os.getppid() != int(parent):
            os._exit(1)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:  # noqa: PTH123
        file.write(score)
    for group in groups:
        with open(group, "w", encoding="ascii") as file:  # noqa: PTH123
            file.write(str(os.getpid()))
    command = arguments[split + 1 :]
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
