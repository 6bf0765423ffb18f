"""Draw ``hotpath demo`` as a terminal shows it, into docs/demo.svg: the demo is run, and its output is the picture.

python tools/terminal_picture.py
"""

from __future__ import annotations

import argparse
import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "demo.svg"
COLUMNS = 120
SECONDS = 180

# A reader's browser fetches no font: any monospaced one will do.
_FONTS = re.compile(r"@font-face \{\{.*?\n\s*\}\}", re.DOTALL)
_SCRATCH = re.compile(r"\S*/hotpath-demo-\w+")


def run(command: list[str]) -> str:
    """What the command prints to a terminal of ``COLUMNS`` columns; its progress goes to stderr, which is not shown."""
    master, slave = pty.openpty()
    environment = os.environ | {"COLUMNS": str(COLUMNS), "LINES": "60", "TERM": "xterm-256color"}
    with subprocess.Popen(command, stdout=slave, stderr=subprocess.DEVNULL, env=environment) as running:
        os.close(slave)
        said = bytearray()
        while True:
            try:
                part = os.read(master, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            said += part
        code = running.wait(SECONDS)
    os.close(master)
    if code:
        raise SystemExit(f"{' '.join(command)} ended with {code}:\n{said.decode(errors='replace')}")
    return said.decode("utf-8").replace("\r\n", "\n")


def draw(said: str) -> str:
    """An SVG of what was said, colours and all."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text("$ ", style="bold") + Text("hotpath demo"))
    console.print(Text.from_ansi(_SCRATCH.sub("/tmp/hotpath-demo", said).rstrip()))
    # Otherwise rich makes the names of its classes of the text, and every run would change every line.
    svg = console.export_svg(title="hotpath demo", code_format=_FONTS.sub("", CONSOLE_SVG_FORMAT), unique_id="demo")
    return "\n".join(line.rstrip() for line in svg.splitlines() if line.strip()) + "\n"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=PICTURE, help="another file")
    options = parser.parse_args()
    options.to.write_text(draw(run([sys.executable, "-m", "hotpath", "demo"])), "utf-8")


if __name__ == "__main__":
    main()
