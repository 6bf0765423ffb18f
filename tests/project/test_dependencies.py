"""What is declared is imported, and what is imported is declared."""

from __future__ import annotations

import ast
import functools
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "hotpath"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

# Where the libraries of an extra are used. Extras that are not named here are for users: used in the package.
TREES = {"bench": "benchmarks", "plots": "tools", "docs": "tools", "demo": "examples", "dev": "tests"}

# Used without an import in that tree: run as programs, or loaded by one that is imported.
PROGRAMS = {
    "uvicorn": "python -m uvicorn",
    **{name: f"-m {name}" for name in ("hatchling", "mypy", "pyright")},
    **dict.fromkeys(("daphne", "granian", "gunicorn", "hypercorn"), "tests/wire/servers"),
    "httptools": "the parser of uvicorn, which takes h11 without it",
    "itsdangerous": "starlette's SessionMiddleware",
    "mkdocs-material": "the theme of mkdocs.yml",
    "mkdocstrings": "a plugin of mkdocs.yml",
    "locust": "tests/ops/render/test_load.py",
    "ruff": "make lint",
    "sqlalchemy": "docs/how-to/build-from-sqlite.md",
    "types-psutil": "mypy",
    "types-greenlet": "mypy",
    "websockets": "uvicorn --ws websockets-sansio",
}

# Of a module that does not have the name of its distribution.
DISTRIBUTIONS = {"opentelemetry": "opentelemetry-sdk", "xdist": "pytest-xdist"}

# Loaded only where the app of a user runs on it.
OF_THE_APP = {"trio"}


def names(requirements: list[str]) -> set[str]:
    """The distributions that requirements name, without hotpath itself."""
    found = {re.split(r"[^\w.-]", requirement)[0].lower() for requirement in requirements}
    return {name.replace("_", "-") for name in found} - {PROJECT["name"]}


def libraries(path: Path) -> set[str]:
    """The top names of everything that a module imports."""
    nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.partition(".")[0] for name in names}


@functools.cache
def used_in(folder: Path) -> set[str]:
    """The distributions whose modules a tree imports; also by name: ``importlib.import_module``, ``importorskip``."""
    modules: set[str] = set()
    for path in folder.rglob("*.py"):
        text = path.read_text("utf-8")
        modules |= libraries(path)
        modules |= set(re.findall(r"(?:import_module|importorskip|_optional)\(\"(\w+)", text))
    return {
        DISTRIBUTIONS.get(name, name.lower().replace("_", "-"))
        for name in modules - sys.stdlib_module_names - {"hotpath"}
    }


CORE = names(PROJECT["dependencies"])
EXTRAS = {name: names(requirements) for name, requirements in PROJECT["optional-dependencies"].items()}


@pytest.mark.parametrize("library", sorted(CORE))
def test_each_core_dependency_is_imported(library: str) -> None:
    assert library in used_in(SOURCE)


def test_each_import_of_the_package_is_declared() -> None:
    of_users = {library for extra, libraries in EXTRAS.items() if extra not in TREES for library in libraries}
    assert used_in(SOURCE) - CORE - of_users - OF_THE_APP == set()


@pytest.mark.parametrize("extra", sorted(EXTRAS))
def test_each_library_of_an_extra_is_used(extra: str) -> None:
    tree = SOURCE if extra not in TREES else ROOT / TREES[extra]
    assert EXTRAS[extra] - used_in(tree) - set(PROGRAMS) == set()
