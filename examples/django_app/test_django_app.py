"""The Django example, as a user runs it: migrate, fill, check, build, serve with a real server, break its database."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("django")

HERE = Path(__file__).resolve().parent


def manage(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=HERE,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return os.environ | {
        "SCREENER_DATABASE": str(tmp_path / "db.sqlite3"),
        "SCREENER_TEST_DATABASE": str(tmp_path / "test.sqlite3"),
        "SCREENER_STORE": str(tmp_path / "hot"),
        "DJANGO_SETTINGS_MODULE": "mysite.settings",
    }


@pytest.fixture
def project(environment: dict[str, str]) -> dict[str, str]:
    """A database with 40 stocks and one published generation."""
    for arguments in (["migrate", "-v0"], ["make_data", "--stocks", "40"], ["hotpath", "build"]):
        done = manage(environment, *arguments)
        assert done.returncode == 0, done.stderr
    return environment


@pytest.mark.slow
def test_the_command_works_on_the_project(project: dict[str, str]) -> None:
    assert "serving generation 1" in manage(project, "hotpath", "status").stdout
    assert manage(project, "hotpath", "build").returncode == 0
    back = manage(project, "hotpath", "rollback")
    assert back.returncode == 0
    assert "until 'python manage.py hotpath unpin'" in back.stdout
    assert "generation 2" in manage(project, "hotpath", "unpin").stdout + back.stdout
    told = manage(project, "hotpath", "build", "--help").stdout
    assert "TARGET" not in told
    assert "Example: python manage.py hotpath build --check" in told
    assert "serving generation 1" in manage(project, "hotpath", "status").stdout
    refused = manage(project, "hotpath", "pin", "99")
    assert refused.returncode == 1
    assert "99" in refused.stderr
    assert "status" in manage(project, "hotpath").stdout


@pytest.mark.slow
def test_the_project_passes_its_own_tests_and_checks(environment: dict[str, str]) -> None:
    checked = manage(environment, "check", "--fail-level", "WARNING")
    assert checked.returncode == 0, checked.stderr
    tested = manage(environment, "test", "-v0")
    assert tested.returncode == 0, tested.stderr
    assert "Ran 5 tests" in tested.stderr


@pytest.mark.slow
def test_a_hot_py_that_fails_and_a_setting_that_is_none_are_told_in_a_line(
    environment: dict[str, str], tmp_path: Path
) -> None:
    settings = "from mysite.settings import *\nINSTALLED_APPS = [*INSTALLED_APPS, 'broken']\nHOTPATH_STROE = 'x'\n"
    Path(tmp_path, "wrong.py").write_text(settings)
    Path(tmp_path, "broken").mkdir()
    Path(tmp_path, "broken/__init__.py").touch()
    Path(tmp_path, "broken/hot.py").write_text("import nowhere_at_all\n")
    environment |= {"DJANGO_SETTINGS_MODULE": "wrong", "PYTHONPATH": str(tmp_path)}
    for arguments, code in ((["hotpath", "build"], 2), (["check"], 1)):
        done = manage(environment, *arguments)
        assert done.returncode == code
        told = f"{tmp_path}/broken/hot.py:1: a hot.py cannot be imported: ModuleNotFoundError: No module named"
        assert told in done.stderr
        assert "HOTPATH_STROE is no setting of hotpath" in done.stderr
        assert "Traceback" not in done.stderr


OUTSIDE = """
from hotpath import MemoryGuard
from hotpath.contrib.django import get_asgi_application, hot
from hotpath.asgi import HealthEndpoints
guard = MemoryGuard()
seen = []
application = HealthEndpoints(get_asgi_application(guard=guard, observe=seen.append), hot=hot, guard=guard)
"""


@pytest.mark.slow
def test_the_middleware_has_its_options_and_what_stands_outside_of_it_is_no_fault(
    environment: dict[str, str], tmp_path: Path
) -> None:
    Path(tmp_path, "outside.py").write_text(OUTSIDE)
    Path(tmp_path, "wrong.py").write_text("from mysite.settings import *\nASGI_APPLICATION = 'outside.application'\n")
    environment |= {"DJANGO_SETTINGS_MODULE": "wrong", "PYTHONPATH": str(tmp_path)}
    checked = manage(environment, "check", "--fail-level", "WARNING")
    assert checked.returncode == 0, checked.stderr
    ask = """
import asyncio
from outside import application, seen
from hotpath.testing import asgi_get
print(asyncio.run(asgi_get(application, "/nothing")).status, seen[0].result)
"""
    environment["PYTHONPATH"] += f"{os.pathsep}{HERE}"
    command = [sys.executable, "-c", ask]
    done = subprocess.run(command, cwd=HERE, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "404 miss\n", done.stderr


CALL = """
import django
from django.core.management import CommandError, call_command
django.setup()
call_command("hotpath", "pin", "1")
try:
    call_command("hotpath", "rollback", "--to", "77")
except CommandError as error:
    print(error.returncode, error)
"""


@pytest.mark.slow
def test_the_command_can_be_called_from_code(project: dict[str, str]) -> None:
    command = [sys.executable, "-c", CALL]
    done = subprocess.run(command, cwd=HERE, env=project, capture_output=True, text=True, timeout=60, check=False)
    pinned, ended = done.stdout.splitlines()
    assert pinned == "generation 1 is pinned: builds publish beside it until 'python manage.py hotpath unpin'"
    assert ended == "1 hotpath rollback ended with 1", done.stderr


CHECKS = (
    ("HOTPATH_KEPE = 3", "hotpath.E001", "HOTPATH_KEEP"),
    ('MIDDLEWARE = ["hotpath.asgi.middleware.HotpathMiddleware"]', "hotpath.E002", "get_asgi_application"),
    ("HOTPATH_KEEP = 0", "hotpath.E003", "keep"),
    ('ASGI_APPLICATION = "nowhere.application"', "hotpath.E004", "nowhere"),
    ('INSTALLED_APPS = ["hotpath.contrib.django"]\nROOT_URLCONF = "wrong"\nurlpatterns = []', "hotpath.W001", "hot.py"),
    ('HOTPATH_STORE = "var/hot"', "hotpath.W002", "BASE_DIR"),
    ('ASGI_APPLICATION = "django.core.asgi.get_asgi_application"', "hotpath.W003", "get_asgi_application"),
)


# Each starts Django: one quick one of each kind, an error and a warning.
QUICK_CHECKS = {"hotpath.E002", "hotpath.W001"}


@pytest.mark.parametrize(
    ("setting", "identifier", "told"),
    [pytest.param(*row, marks=[pytest.mark.slow] * (row[1] not in QUICK_CHECKS), id=row[1]) for row in CHECKS],
)
def test_a_wrong_set_up_is_explained(
    setting: str, identifier: str, told: str, environment: dict[str, str], tmp_path: Path
) -> None:
    Path(tmp_path, "wrong.py").write_text(f"from mysite.settings import *\n{setting}\n")
    environment |= {"DJANGO_SETTINGS_MODULE": "wrong", "PYTHONPATH": str(tmp_path)}
    done = manage(environment, "check", "--fail-level", "WARNING")
    assert done.returncode == 1
    assert identifier in done.stderr
    assert told in done.stderr


ASK = """
from django.core.{0} import get_{0}_application
application = get_{0}_application()
"""
ASK_WSGI = """
from wsgiref.util import setup_testing_defaults
environ = {"PATH_INFO": "/nothing"}
setup_testing_defaults(environ)
for _ in range(2):
    b"".join(application(dict(environ), lambda status, headers: None))
"""
ASK_ASGI = """
import asyncio
from hotpath.testing import asgi_get
for _ in range(2):
    assert asyncio.run(asgi_get(application, "/nothing")).status == 404
"""


@pytest.mark.parametrize(
    ("way", "ask", "warnings"), [("wsgi", ASK_WSGI, 1), pytest.param("asgi", ASK_ASGI, 0, marks=pytest.mark.slow)]
)
def test_a_process_that_serves_no_hot_page_says_so_once(
    way: str, ask: str, warnings: int, environment: dict[str, str]
) -> None:
    command = [sys.executable, "-c", ASK.format(way) + ask]
    done = subprocess.run(command, cwd=HERE, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("answers through WSGI, where hotpath serves no page") == warnings


@pytest.mark.slow
def test_runserver_says_that_it_has_no_hot_pages(project: dict[str, str]) -> None:
    with subprocess.Popen(
        [sys.executable, "-u", "manage.py", "runserver", "--noreload", "127.0.0.1:0"],
        cwd=HERE,
        env=project,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        killer = threading.Timer(60, server.kill)  # one that says nothing is not waited for
        killer.start()
        assert server.stderr is not None
        told = []
        for line in server.stderr:  # it serves from then on, or ends
            told.append(line)
            if "HINT" in line:
                break
        server.kill()
        killer.cancel()
    assert "hotpath.W004" in "".join(told)
    assert "uvicorn" in told[-1]


@pytest.fixture
def port(project: dict[str, str], tmp_path: Path) -> Iterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "mysite.asgi:application", "--port", str(number)]
    with (
        (tmp_path / "server.log").open("wb") as log,
        subprocess.Popen(command, cwd=HERE, env=project, stdout=log, stderr=log) as server,
    ):
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and server.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", number), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield number
        server.terminate()
        try:
            server.wait(20)
        finally:
            server.kill()


def get(port: int, path: str) -> tuple[int, str | None, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    found = answer.status, answer.getheader("x-hotpath-generation"), answer.read()
    connection.close()
    return found


@pytest.mark.slow
def test_hot_pages_of_a_real_server_survive_their_database(port: int, project: dict[str, str]) -> None:
    before = {path: get(port, path) for path in ("/", "/rankings/KOSPI/pe_ratio")}
    assert {status for status, _, _ in before.values()} == {200}
    assert {generation for _, generation, _ in before.values()} == {"1"}
    assert get(port, "/stocks/K00000")[0] == 200
    Path(project["SCREENER_DATABASE"]).unlink()
    assert get(port, "/stocks/K00000")[0] == 500
    assert {path: get(port, path) for path in before} == before
