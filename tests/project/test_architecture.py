"""The picture in docs/explanation/architecture.md is true: which room may use which, and no circle anywhere."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.project.test_dependencies import libraries

SOURCE = Path(__file__).parents[2] / "src" / "hotpath"

# Each room, and the rooms it may use beside the ground. The root, testing, cli and contrib may use all.
MAY_USE = {
    "caching": "",
    "audit": "",
    "pages": "",
    "store": "pages",
    "serving": "pages store",
    "site": "pages store serving",
    "batch": "pages store site",
    "guard": "caching",
    "asgi": "pages serving site guard",
    "metrics": "site guard caching",
    "ops": "pages store serving site batch guard",
}
GROUND = {"errors", "log", "options", "process", "types"}
FREE = {"", "testing", "cli", "contrib", "__main__"}
NEVER_WITH_THE_ROOT = set("apprise brotli click django fastapi prometheus_client rich starlette zstandard".split())

# Decisions in values: these read no file, no clock and no socket, start nothing, and use only each other.
PURE = (
    *("pages/*.py", "store/manifest.py"),
    *("serving/rfc9110.py", "serving/resolver.py", "serving/snapshot.py"),
    *("batch/plausibility.py", "batch/forecast.py", "batch/measure.py", "batch/packing.py"),
    *("batch/output.py", "batch/rules.py"),
    *("guard/states.py", "guard/outlook.py", "guard/route_costs.py", "guard/priorities.py", "guard/refusal.py"),
)
READS_OR_STARTS = set(
    "anyio asyncio fcntl http io logging mmap multiprocessing os pathlib psutil select shutil signal socket sqlite3 "
    "subprocess tempfile threading time".split()
)
MAX_LINES = 500


def modules() -> dict[str, Path]:
    names = {path: ".".join(path.relative_to(SOURCE).with_suffix("").parts) for path in SOURCE.rglob("*.py")}
    return {name.removesuffix("__init__").rstrip("."): path for path, name in names.items()}


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
    known = modules()
    wrong = [
        f"{module} imports {target}"
        for module, path in known.items()
        if room(module) not in FREE | GROUND
        for target in imported(path, known)
        if room(target) not in {room(module), *GROUND, *MAY_USE[room(module)].split()}
    ]
    assert wrong == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    known = modules()
    graph = {module: {*imported(path, known)} - {module} for module, path in known.items()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_importing_hotpath_brings_in_no_framework_no_command_and_no_extra() -> None:
    code = "import sys, hotpath; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert NEVER_WITH_THE_ROOT.isdisjoint(loaded.split())


def test_pure_modules_only_compute() -> None:
    known = modules()
    pure = {path for pattern in PURE for path in SOURCE.glob(pattern)}
    assert [pattern for pattern in PURE if not [*SOURCE.glob(pattern)]] == []
    allowed = {name for name, path in known.items() if path in pure} | {"errors", "options", "types"}
    wrong = [
        f"{path.relative_to(SOURCE)} imports {name}"
        for path in sorted(pure)
        for name in {*libraries(path) & READS_OR_STARTS, *set(imported(path, known)) - allowed}
    ]
    assert wrong == []


def test_a_module_is_one_idea() -> None:
    lines = {str(path.relative_to(SOURCE)): path.read_text("utf-8").count("\n") for path in modules().values()}
    assert {name: count for name, count in lines.items() if count > MAX_LINES} == {}
