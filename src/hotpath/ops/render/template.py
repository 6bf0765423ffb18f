"""Templates: files beside this module, with ``<<names>>`` where a value goes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Final

# ``$``, ``%``, ``@`` and braces mean something in these files, two angle brackets in none.
_NAME: Final = re.compile(r"<<([a-z_]+)>>")
_NAME_ALONE: Final = re.compile(r"^<<([a-z_]+)>>\n", re.MULTILINE)


def fill(name: str, values: Mapping[str, object]) -> str:
    """The template of this name with ``values``, which are escaped already.

    A line that has only a name is left out where its value is empty. Raises ``KeyError`` for a name without a value.
    """
    text = (resources.files("hotpath.ops.render") / "templates" / name).read_text("utf-8")
    text = _NAME_ALONE.sub(lambda found: "" if values[found[1]] == "" else found[0], text)
    return _NAME.sub(lambda found: str(values[found[1]]), text)


def commented(lines: Iterable[str], mark: str = "#") -> str:
    """Lines as a comment, without the last line's end."""
    return "\n".join(f"{mark} {line}".rstrip() for line in lines)
