"""The picture in docs/explanation/architecture.md is true: which room may use which, and no circle anywhere."""

from __future__ import annotations

import ast
import functools
import graphlib
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "hotpath"

# Each room, and the rooms it may use beside the ground. The root, testing, cli and contrib may use all.
MAY_USE = {
    "caching": "",
    "audit": "",
    "pages": "",
    "store": "pages",
    "site": "pages store",
    "serving": "pages store site",
    "batch": "pages store site",
    "guard": "caching",
    "asgi": "pages serving site guard",
    "metrics": "serving site guard caching",
    "front": "pages serving site store guard caching metrics asgi dashboard",
    "ops": "pages store serving site batch guard caching asgi",
    "dashboard": "pages store serving site guard caching metrics asgi batch ops",
}
GROUND = {"errors", "log", "options", "process", "types"}
FREE = {"", "testing", "cli", "contrib", "__main__"}


def modules() -> dict[str, Path]:
    names = {path: ".".join(path.relative_to(SOURCE).with_suffix("").parts) for path in SOURCE.rglob("*.py")}
    return {name.removesuffix("__init__").rstrip("."): path for path, name in names.items()}


@functools.cache
def imports() -> dict[str, set[str]]:
    """Each module by its name in the package, and those of the package that it imports."""
    known = modules()
    return {module: {*imported(path, known)} for module, path in known.items()}


def imported(path: Path, known: dict[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "hotpath":
            module = (node.module or "").removeprefix("hotpath").lstrip(".")
            for alias in node.names:
                inner = f"{module}.{alias.name}".lstrip(".")
                yield inner if inner in known else module


def room(module: str) -> str:
    return module.partition(".")[0]


def test_a_room_uses_only_the_rooms_below_it() -> None:
    wrong = [
        f"{module} imports {target}"
        for module, targets in imports().items()
        if room(module) not in FREE | GROUND
        for target in targets
        if room(target) not in {room(module), *GROUND, *MAY_USE[room(module)].split()}
    ]
    assert wrong == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {module: targets - {module} for module, targets in imports().items()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle
