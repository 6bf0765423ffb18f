"""Where fronts are found, and what is refused there."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from hotpath.errors import DeclarationError
from hotpath.front import control


def test_the_base_is_this_users_alone(tmp_path: Path) -> None:
    base = control.base_directory({"HOTPATH_RUN": str(tmp_path / "run")})
    assert base.stat().st_mode & 0o777 == 0o700
    assert control.base_directory({"XDG_RUNTIME_DIR": str(tmp_path)}) == tmp_path / "hotpath"


@pytest.mark.parametrize("spoil", ["writable", "link", "file", "missing"])
def test_a_base_that_others_could_change_is_refused(tmp_path: Path, spoil: str) -> None:
    base = tmp_path / "run"
    if spoil == "writable":
        base.mkdir()
        base.chmod(0o777)
    elif spoil == "link":
        base.symlink_to(tmp_path)
    elif spoil == "file":
        base.touch()
    else:
        base = tmp_path / "no" / "such"
    with pytest.raises(DeclarationError, match="set HOTPATH_RUN to a directory of your own"):
        control.base_directory({"HOTPATH_RUN": str(base)})


def test_a_path_that_no_socket_fits_in_is_refused(tmp_path: Path) -> None:
    base = tmp_path / ("x" * 90)
    base.mkdir()
    with pytest.raises(DeclarationError, match="too long for a Unix socket"):
        control.make_directory(base)
    assert [*base.iterdir()] == []


def test_what_dead_fronts_have_left_is_taken_away_and_nothing_else(tmp_path: Path) -> None:
    for name in (f"{2**22 + 5}-abc", f"{os.getppid()}-abc", "notes", f"{2**22 + 6}"):
        (tmp_path / name).mkdir()
    own = control.make_directory(tmp_path)
    assert own.stat().st_mode & 0o777 == 0o700
    assert {path.name for path in tmp_path.iterdir()} == {f"{os.getppid()}-abc", "notes", f"{2**22 + 6}", own.name}


def test_a_front_of_another_container_keeps_its_directory(tmp_path: Path, socket_path: Path) -> None:
    other = tmp_path / f"{2**22 + 5}-abc"
    other.symlink_to(socket_path.parent)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_path))
        listener.listen()
        control.make_directory(tmp_path)
        assert other.exists()
        assert control.find(None, tmp_path) == other / control.SOCKET


@pytest.fixture
def socket_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("s") / control.SOCKET


def hang_up(listener: socket.socket) -> None:
    listener.accept()[0].close()


def test_nobody_and_somebody_who_says_nothing(tmp_path: Path, socket_path: Path) -> None:
    with pytest.raises(control.NoFront, match="no front runs as this user"):
        control.find(None, tmp_path)
    with pytest.raises(control.NoFront, match="no front with process id 7"):
        control.find(7, tmp_path)
    with pytest.raises(control.NoFront, match="the front gave no answer"):
        control.command(socket_path, "/reload")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_path))
        listener.listen()
        thread = threading.Thread(target=hang_up, args=(listener,))
        thread.start()
        with pytest.raises(control.NoFront, match="the front gave no answer"):
            control.command(socket_path, "/reload")
        thread.join()
