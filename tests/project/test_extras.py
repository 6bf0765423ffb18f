"""Each page that says what to install has a row in ``tools/try_extras.py``, which installs it and tries it."""

from __future__ import annotations

import re

from tools.try_extras import PAGES, ROOT, lines_of


def test_each_install_line_of_the_docs_is_tried() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    with_line = {str(page.relative_to(ROOT)) for page in pages if re.search(r"pip install[^`\n]*\[", page.read_text())}
    rows = {name.partition(" ")[0] for name in PAGES}
    assert {page for page in with_line if not page.startswith("docs/decisions/")} == rows
    assert all(lines_of(page) for page in rows)
