"""The picture in docs/explanation/architecture.md is true: which room may use which, and no circle anywhere."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.project.test_dependencies import libraries

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
    "ops": "pages store serving site batch guard",
}
GROUND = {"errors", "log", "options", "process", "text", "types"}
READ_SIDE = ("hotpath.serving", "hotpath.asgi")
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


def loaded_by(code: str, cwd: Path | None = None) -> set[str]:
    """The modules that a new process has loaded when ``code`` ends."""
    printing = f"import sys\n{code}\nprint('LOADED', *sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", printing], cwd=cwd, capture_output=True, text=True, check=True, timeout=60
    )
    return {*done.stdout.rpartition("LOADED ")[2].split()}


@pytest.mark.parametrize("code", ["import hotpath", "from hotpath import *", "import hotpath.asgi"])
def test_importing_hotpath_brings_in_no_framework_no_command_and_no_extra(code: str) -> None:
    assert NEVER_WITH_THE_ROOT.isdisjoint(loaded_by(code))


def test_declaring_and_building_load_no_read_side(tmp_path: Path) -> None:
    code = """
import hotpath.batch, hotpath.site
hot = hotpath.site.Hotpath("hot")
hot.route("/a")(lambda: [1])
hot.directory("/live/{name}", "live/{name}.json")
hotpath.batch.build(hot)
"""
    assert not {module for module in loaded_by(code, cwd=tmp_path) if module.startswith(READ_SIDE)}


COMMANDS = [
    "build site_of:hot",
    "status site_of:hot",
    "verify site_of:hot",
    "rollback hot --reason test",
    "pin hot 1",
    "unpin hot",
    "prune hot",
]


def test_commands_load_no_read_side(tmp_path: Path) -> None:
    (tmp_path / "site_of.py").write_text(
        "from hotpath import Hotpath\nhot = Hotpath('hot')\nhot.route('/a')(lambda: [1])\n", "utf-8"
    )
    code = f"""
from hotpath.batch import build
from hotpath.cli.commands import main
sys.path.insert(0, "")
from site_of import hot
build(hot)
for command in {COMMANDS}:
    main(command.split(), standalone_mode=False)
"""
    assert not {module for module in loaded_by(code, cwd=tmp_path) if module.startswith(READ_SIDE)}


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
