"""What mkdocs.yml cannot say: the order of the sections, and where a file outside docs/ is to be read.

Run by ``mkdocs build --strict``; a page links to other files of the tree as it does on a code host, and in the built
site such a link leads to a copy of the file.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
SECTIONS = ("Home", "Tutorial", "How to", "Reference", "Explanation", "Decisions")

_LINK = re.compile(r"(?<=\]\()(?P<path>(?:\.\./)+[^)#\s]+)(?P<anchor>#[^)\s]+)?(?=\))")


def on_nav(nav: Any, *, config: Any, files: Any) -> Any:
    """Tutorial, how-to, reference, explanation, decisions, instead of the alphabet."""
    order = {name.lower(): place for place, name in enumerate(SECTIONS)}
    nav.items.sort(key=lambda item: order.get(_title(item).lower(), 0))
    return nav


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Links that leave docs/: the file is copied beside the pages. A link to a folder stays text."""
    here = (ROOT / "docs" / page.file.src_uri).parent

    def inside(found: re.Match[str]) -> str:
        target = (here / found["path"]).resolve()
        docs = ROOT / "docs"
        if target.is_relative_to(docs) or not target.is_relative_to(ROOT) or not target.is_file():
            return found[0]
        name = f"tree/{target.relative_to(ROOT).as_posix()}.txt"
        if files.get_file_from_path(name) is None:
            files.append(File.generated(config, name, content=target.read_bytes()))
        up = "../" * page.file.src_uri.count("/")
        return f"{up}{name}"

    return _LINK.sub(inside, markdown)


def _title(item: Any) -> str:
    return str(item.title or "Home").replace("-", " ")
