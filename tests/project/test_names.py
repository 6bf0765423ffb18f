"""One name for one thing, and tests that see of the library what its users see."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "hotpath"

# Public in spite of the underscore.
DOCUMENTED = {"_asdict", "_exit", "_fields", "_replace"}


def trees(folder: Path) -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(folder.rglob("*.py")):
        yield path, ast.parse(path.read_text("utf-8"))


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in DOCUMENTED


def test_no_two_classes_have_the_same_name() -> None:
    names = Counter(node.name for _, tree in trees(SOURCE) for node in tree.body if isinstance(node, ast.ClassDef))
    assert [name for name, count in names.items() if count > 1] == []


def privates_reached(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Attributes of anything but ``self`` and ``cls``, and names that are imported from the library."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")):
                yield node.lineno, node.attr
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "hotpath":
            yield from ((node.lineno, alias.name) for alias in node.names if is_private(alias.name))


def test_no_test_reaches_into_privates() -> None:
    reached = [
        f"{path.relative_to(ROOT)}:{line} {name}"
        for path, tree in trees(ROOT / "tests")
        for line, name in privates_reached(tree)
    ]
    assert reached == []


def test_privates_that_are_reached_are_seen() -> None:
    seen = privates_reached(ast.parse("from hotpath.guard.guard import _run\nguard._state\nself._own\nos._exit(0)"))
    assert list(seen) == [(1, "_run"), (2, "_state")]
