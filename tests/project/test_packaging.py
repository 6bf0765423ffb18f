"""What is uploaded: both distributions build, and the wheel works where the source tree is out of reach."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tarfile
import textwrap
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("hatchling")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(place)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return place


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_of_its_making(distributions: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src").rglob("*.py")}
    assert sources <= names
    assert "hotpath/py.typed" in names
    templates = (ROOT / "src" / "hotpath" / "ops" / "render" / "templates").rglob("*")
    assert {str(path.relative_to(ROOT / "src")) for path in templates if path.is_file()} <= names
    assert "hotpath/examples/fastapi_app/marketpulse.py" in names
    assert not [name for name in names if "test_" in name or name.endswith((".db", ".pyc", ".sqlite3"))]


def test_the_source_distribution_holds_the_tests_and_the_docs(distributions: Path) -> None:
    (sdist,) = distributions.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "Makefile",
        "tests/project/test_packaging.py",
        "docs/tutorial.md",
    } <= names
    assert not [name for name in names if name.startswith((".venv", "var"))]


def test_the_wheel_builds_and_serves(distributions: Path, tmp_path: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = textwrap.dedent(
        f"""
        import sys
        # Without site, so that an editable install of the source tree is not found.
        sys.path[:0] = [{str(tmp_path / "site")!r}, {sysconfig.get_path("purelib")!r}]
        import asyncio, hotpath
        from hotpath.batch import build
        from hotpath.testing import asgi_get
        assert hotpath.__file__.startswith({str(tmp_path)!r}), hotpath.__file__
        hot = hotpath.Hotpath({str(tmp_path / "hot")!r})
        hot.route("/a/{{n}}", each={{"n": [1, 2]}})(lambda n: [n])
        build(hot)
        async def cold(scope, receive, send):
            raise RuntimeError
        answer = asyncio.run(asgi_get(hotpath.HotpathMiddleware(cold, hot=hot), "/a/2"))
        print(answer.status, answer.body.decode())
        """
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("200 [2]\n", 0), done.stderr


def test_the_command_of_the_wheel_says_what_it_can_do(distributions: Path, tmp_path: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        f"import sys; sys.path[:0] = [{str(tmp_path / 'site')!r}, {sysconfig.get_path('purelib')!r}]\n"
        "sys.argv = ['hotpath', '--help']\nfrom hotpath.cli import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "rollback" in done.stdout
