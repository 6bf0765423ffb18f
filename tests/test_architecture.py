"""The table in docs/explanation/architecture.md is true: which modules there are, what each imports, which are pure."""

from __future__ import annotations

import ast
import os
import re
import resource
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "hotpath"
TABLE = ROOT / "docs" / "explanation" / "architecture.md"

MAX_LINES = 500

# What turns values into values. A set names the only parts that do; None stands for the whole module.
PURE_IMPORTS: dict[str, set[str] | None] = {
    "__future__": None,
    "ast": None,
    "base64": None,
    "binascii": None,
    "bisect": None,
    "calendar": None,
    "array": None,
    "collections": None,
    "collections.abc": None,
    "dataclasses": None,
    "datetime": {"date"},
    "enum": None,
    "fractions": None,
    "functools": None,
    "hashlib": None,
    "heapq": None,
    "itertools": None,
    "math": None,
    "operator": None,
    "orjson": None,
    "re": None,
    "statistics": None,
    "string": None,
    "struct": None,
    "types": None,
    "typing": None,
    "urllib.parse": None,
    "uuid": {"UUID"},
    "zlib": None,
}
EXCEPTIONS = {
    ("errors", "pathlib"): "a path is one of the facts an error carries; nothing is done with it",
    ("audit.comments", "tokenize"): "from lines to tokens only",
    ("codings", "gzip"): "from bytes to bytes only",
    ("codings", "importlib"): "looks for the extras brotli and zstd",
    ("measure", "datetime"): "reads a time that is given to it; never asks what time it is",
    ("routes", "inspect"): "the signature of a function that is given to it",
    ("routes", "mimetypes"): "Python's own table of endings; what the machine adds to it is not asked",
    ("semantics", "email.utils"): "writes a time that is given to it; without one it would read the clock",
}
IMPURE_CALLS = {"open", "print", "input", "exec", "eval", "compile", "breakpoint", "__import__"}

NEVER_WITH_THE_ROOT = {
    "multiprocessing",
    "aiohttp",
    "apprise",
    "brotli",
    "click",
    "fastapi",
    "hotpath.cli",
    "obstore",
    "redis",
    "rich",
    "starlette",
    "uvicorn",
    "zstandard",
}


@dataclass(frozen=True)
class Room:
    """One row of the table; ``rank`` is None for a module that stands outside the ranks."""

    rank: int | None
    pure: bool


NOWHERE = Room(None, pure=False)


@dataclass(frozen=True)
class Import:
    """``module`` is the full dotted name; ``name`` what is taken from it, None for all of it."""

    module: str
    name: str | None
    line: int


def read_table(document: str) -> dict[str, Room]:
    """The rooms in the section "Rooms", by module."""
    section = document.partition("\n## Rooms\n")[2].partition("\n## ")[0]
    rooms: dict[str, Room] = {}
    for line in section.splitlines():
        if not line.startswith("|") or line.startswith(("| rank |", "|---")):
            continue
        row = re.fullmatch(r"\| (\d+|–) \| ([○●]) `([\w/]+\.py)` \| .+ \|", line)
        assert row, f"a row that is not '| rank | ○ or ● `module.py` | what it holds |': {line}"
        module = _module_name(Path(row[3]))
        assert module not in rooms, f"{module} has two rows"
        rooms[module] = Room(None if row[1] == "–" else int(row[1]), row[2] == "○")
    return rooms


def _module_name(file: Path) -> str:
    """Below the package: ``keys``, ``operations.status``, ``operations`` for a folder's own file, ``__init__``."""
    return ".".join(file.with_suffix("").parts).removesuffix(".__init__")


def modules(source: Path) -> dict[str, ast.Module]:
    """Every module under ``source``, parsed. A folder's ``__init__.py`` counts when it holds more than a docstring."""
    found = {}
    for file in sorted(source.rglob("*.py")):
        tree = ast.parse(file.read_text("utf-8"), str(file))
        folder = file.name == "__init__.py" and file.parent != source
        if not (folder and len(tree.body) <= bool(ast.get_docstring(tree))):
            found[_module_name(file.relative_to(source))] = tree
    return found


def imports(module: str, tree: ast.Module) -> Iterator[Import]:
    """All imports of a module wherever they stand, relative ones resolved."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, None, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            package = ["hotpath", *module.split(".")[:-1]]
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            for alias in node.names:
                yield Import(origin, alias.name, node.lineno)


def inside(found: Import, parsed: dict[str, ast.Module]) -> str | None:
    """The module of ours that is imported, "" for the package root; None for an import from elsewhere."""
    if found.module.partition(".")[0] != "hotpath":
        return None
    target = found.module.removeprefix("hotpath").removeprefix(".")
    from_folder = f"{target}.{found.name}"  # from hotpath.operations import status
    return from_folder if from_folder in parsed else target


def wrong_table(source: Path, rooms: dict[str, Room]) -> list[str]:
    """Modules without a row, and rows without a module."""
    there = set(modules(source))
    return [f"{name}: not in the table" for name in sorted(there - set(rooms))] + [
        f"{name}: in the table, but there is no such module" for name in sorted(set(rooms) - there)
    ]


def wrong_imports(source: Path, rooms: dict[str, Room]) -> list[str]:
    """Imports inside the package that do not point down in rank, or name the package root."""
    parsed = modules(source)
    wrong = []
    for module in parsed.keys() & rooms.keys():
        mine = rooms[module].rank
        for found in imports(module, parsed[module]):
            target = inside(found, parsed)
            place = f"{module}:{found.line}"
            if target is None:
                continue
            if not target:
                wrong.append(f"{place}: imports the package root")
            elif target not in parsed:
                wrong.append(f"{place}: imports hotpath.{target}, which is no module")
            elif (theirs := rooms.get(target, NOWHERE).rank) is None:
                wrong.append(f"{place}: imports {target}, which stands outside the ranks")
            elif mine is not None and theirs >= mine:
                wrong.append(f"{place}: rank {mine} imports {target} of rank {theirs}")
    return wrong


def impurities(source: Path, rooms: dict[str, Room]) -> list[str]:
    """What a pure room does that only a ● room may. An exception that nothing needs is wrong as well."""
    wrong = []
    unused = set(EXCEPTIONS)
    parsed = modules(source)
    for module, tree in parsed.items():
        if not rooms.get(module, NOWHERE).pure:
            continue
        for found in imports(module, tree):
            place = f"{module}:{found.line}"
            target = inside(found, parsed)
            if target is not None:
                if not rooms.get(target, NOWHERE).pure:
                    wrong.append(f"{place}: pure, but imports hotpath.{target}, which is not")
            elif (module, found.module) in EXCEPTIONS:
                unused.discard((module, found.module))
            elif found.module not in PURE_IMPORTS:
                wrong.append(f"{place}: pure, but imports {found.module}")
            elif (parts := PURE_IMPORTS[found.module]) is not None and found.name not in parts:
                wrong.append(f"{place}: pure, but imports more of {found.module} than {', '.join(sorted(parts))}")
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS:
                wrong.append(f"{module}:{node.lineno}: pure, but calls {node.func.id}()")
    return wrong + [f"{module}: needs no exception for {name}" for module, name in sorted(unused)]


def too_long(source: Path) -> list[str]:
    counts = {file: len(file.read_text("utf-8").splitlines()) for file in sorted(source.rglob("*.py"))}
    return [f"{file.relative_to(source)}: {count} lines" for file, count in counts.items() if count > MAX_LINES]


def loaded_by(statement: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after ``statement``."""
    code = f"import sys\n{statement}\nprint(*sys.modules, sep='\\n')"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return set(result.stdout.split())


ROOMS = read_table(TABLE.read_text("utf-8"))


def test_every_module_has_its_row_and_every_row_its_module() -> None:
    assert wrong_table(SOURCE, ROOMS) == []


def test_imports_point_down_in_rank() -> None:
    assert wrong_imports(SOURCE, ROOMS) == []


def test_pure_modules_import_nothing_that_acts() -> None:
    assert impurities(SOURCE, ROOMS) == []


def test_no_module_is_two_ideas() -> None:
    assert too_long(SOURCE) == []


def test_importing_hotpath_brings_in_no_framework_no_command_and_no_extra() -> None:
    assert loaded_by("import hotpath") & NEVER_WITH_THE_ROOT == set()


# 150 ms is the promise, and no clock is as quick everywhere: with both cores busy `import asyncio` alone took 45 ms of
# processor time, and hotpath with it 2.8 times that. A framework's application class would add another two.
MOST_OF_ASYNCIO = 4.0


def test_importing_hotpath_takes_few_times_what_asyncio_takes(tmp_path: Path) -> None:
    compiled = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    compiled["PYTHONPYCACHEPREFIX"] = str(tmp_path)

    def seconds(statement: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", statement], env=compiled, check=True, timeout=60)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    statements = ("pass", "import asyncio", "import hotpath")
    for statement in statements:
        seconds(statement)  # compiles
    # The least of several, one after the other: what else runs on the machine only adds.
    least = [min(times) for times in zip(*([seconds(one) for one in statements] for _ in range(5)), strict=True)]
    nothing, asyncio, root = least
    assert root - nothing < MOST_OF_ASYNCIO * (asyncio - nothing), least


# The checks above, on trees with something planted in them.


def test_loaded_modules_are_seen() -> None:
    assert {"hotpath.cli", "click"} <= loaded_by("import hotpath.cli") & NEVER_WITH_THE_ROOT


PLANTED_TABLE = """
## Rooms

| rank | module | holds |
|---|---|---|
| 1 | ○ `low.py` | the lowest |
| 1 | ● `act.py` | acts |
| 2 | ○ `mid.py` | above it |
| 3 | ● `family/top.py` | the highest |
| – | ● `__init__.py` | the root |
| – | ● `testing.py` | outside |

## Rooms to come

| 9 | ○ `future.py` | not yet |
"""


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    (tmp_path / "family").mkdir()
    for name in ("__init__", "low", "act", "mid", "family/top", "testing"):
        (tmp_path / f"{name}.py").touch()
    (tmp_path / "family" / "__init__.py").write_text('"""A family."""\n', "utf-8")
    return tmp_path


def plant(source: Path, module: str, code: str) -> None:
    (source / f"{module}.py").write_text(textwrap.dedent(code), "utf-8")


def test_the_table_is_read() -> None:
    assert read_table(PLANTED_TABLE) == {
        "low": Room(1, pure=True),
        "act": Room(1, pure=False),
        "mid": Room(2, pure=True),
        "family.top": Room(3, pure=False),
        "__init__": Room(None, pure=False),
        "testing": Room(None, pure=False),
    }


@pytest.mark.parametrize(
    "row", ["| 2 | `keys.py` | no mark |", "| x | ○ `keys.py` | no rank |", "| 2 | ○ `keys.py` | |"]
)
def test_a_row_out_of_form_is_an_error(row: str) -> None:
    with pytest.raises(AssertionError, match="a row that is not"):
        read_table(f"\n## Rooms\n\n| rank | module | holds |\n|---|---|---|\n{row}\n")


def test_a_module_and_a_row_too_many_are_found(planted: Path) -> None:
    rooms = read_table(PLANTED_TABLE)
    assert wrong_table(planted, rooms) == []
    plant(planted, "stray", "")
    plant(planted, "family/__init__", "from hotpath.family.top import x")
    (planted / "mid.py").unlink()
    assert wrong_table(planted, rooms) == [
        "family: not in the table",
        "stray: not in the table",
        "mid: in the table, but there is no such module",
    ]


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("mid", "from hotpath.low import x"),
        ("mid", "import hotpath.low"),
        ("mid", "from .low import x"),
        ("family/top", "from ..mid import x"),
        ("__init__", "from hotpath.family.top import x"),
        ("testing", "from hotpath.family import top"),
    ],
)
def test_an_import_that_points_down_is_right(planted: Path, module: str, code: str) -> None:
    plant(planted, module, code)
    assert wrong_imports(planted, read_table(PLANTED_TABLE)) == []


@pytest.mark.parametrize(
    ("module", "code", "said"),
    [
        ("low", "from hotpath.mid import x", "low:1: rank 1 imports mid of rank 2"),
        ("low", "import hotpath.mid as m", "low:1: rank 1 imports mid of rank 2"),
        ("low", "from .mid import x", "low:1: rank 1 imports mid of rank 2"),
        ("low", "from hotpath.act import x", "low:1: rank 1 imports act of rank 1"),
        ("mid", "from hotpath.family import top", "mid:1: rank 2 imports family.top of rank 3"),
        ("mid", "def f():\n    from hotpath.family.top import x", "mid:2: rank 2 imports family.top of rank 3"),
        (
            "low",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import hotpath.mid",
            "low:3: rank 1 imports mid of",
        ),
        ("family/top", "from hotpath import x", "family.top:1: imports the package root"),
        ("family/top", "import hotpath", "family.top:1: imports the package root"),
        ("family/top", "from .. import x", "family.top:1: imports the package root"),
        ("mid", "from hotpath import low", "mid:1: imports the package root"),
        ("mid", "from hotpath.testing import x", "mid:1: imports testing, which stands outside the ranks"),
        ("mid", "from hotpath.gone import x", "mid:1: imports hotpath.gone, which is no module"),
    ],
)
def test_a_planted_import_is_found(planted: Path, module: str, code: str, said: str) -> None:
    plant(planted, module, code)
    (found,) = wrong_imports(planted, read_table(PLANTED_TABLE))
    assert found.startswith(said)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os", "imports os"),
        ("import os.path", "imports os.path"),
        ("def f():\n    import time", "imports time"),
        ("from asyncio import Lock", "imports asyncio"),
        ("from pathlib import Path", "imports pathlib"),
        ("from concurrent.futures import Executor", "imports concurrent.futures"),
        ("import anyio", "imports anyio"),
        ("from datetime import datetime", "imports more of datetime than date"),
        ("import uuid", "imports more of uuid than UUID"),
        ("from hotpath.act import x", "imports hotpath.act, which is not"),
        ("from hotpath.family import top", "imports hotpath.family.top, which is not"),
        ("open('x')", "calls open()"),
        ("def f():\n    print('x')", "calls print()"),
    ],
)
def test_a_planted_impurity_is_found(planted: Path, code: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "EXCEPTIONS", {})
    rooms = read_table(PLANTED_TABLE)
    plant(
        planted,
        "mid",
        "import re\nfrom collections.abc import Mapping\nfrom hotpath.low import x\nfrom uuid import UUID",
    )
    plant(planted, "act", code)  # allowed where things are done
    assert impurities(planted, rooms) == []
    plant(planted, "mid", code)
    (found,) = impurities(planted, rooms)
    assert found.startswith("mid:")
    assert found.endswith(said)


def test_an_exception_holds_for_its_module_only_and_must_be_needed(
    planted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "EXCEPTIONS", {("mid", "os"): "for this test"})
    rooms = read_table(PLANTED_TABLE)
    assert impurities(planted, rooms) == ["mid: needs no exception for os"]
    plant(planted, "mid", "import os")
    plant(planted, "low", "import os")
    assert impurities(planted, rooms) == ["low:1: pure, but imports os"]


def test_a_long_module_is_found(planted: Path) -> None:
    plant(planted, "family/top", "x = 1\n" * MAX_LINES)
    assert too_long(planted) == []
    plant(planted, "family/top", "x = 1\n" * (MAX_LINES + 1))
    assert too_long(planted) == ["family/top.py: 501 lines"]
