"""Modules that decide only compute, and no module is two ideas."""

from __future__ import annotations

from tests.project.test_architecture import SOURCE, imported, modules
from tests.project.test_dependencies import libraries

# Decisions in values: these read no file, no clock and no socket, start nothing, and use only each other.
PURE = (
    *("pages/*.py", "store/manifest.py"),
    *("serving/rfc9110.py", "serving/resolver.py", "serving/snapshot.py"),
    *("batch/plausibility.py", "batch/forecast.py", "batch/measure.py", "batch/packing.py"),
    *("batch/error_payload.py", "batch/failures.py"),
    *("batch/output.py", "batch/rules.py"),
    *(f"asgi/last_good/{name}.py" for name in ("answering", "breaker", "caching", "directives", "requests")),
    *(f"asgi/last_good/{name}.py" for name in ("structured", "updates")),
    *("guard/states.py", "guard/outlook.py", "guard/route_costs.py", "guard/priorities.py", "guard/refusal.py"),
    *("ops/rehearse/outcomes.py", "ops/rehearse/schedule.py", "ops/rehearse/links.py"),
)
READS_OR_STARTS = set(
    "anyio asyncio fcntl http io logging mmap multiprocessing os pathlib psutil select shutil signal socket sqlite3 "
    "subprocess tempfile threading time".split()
)
MAX_LINES = 450


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
