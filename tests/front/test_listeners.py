"""Sockets that are bound here or come from systemd."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hotpath.front.listeners import NoSocket, address_of, bind, bind_unix, from_systemd


@pytest.fixture
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("s") / "x.sock"


def test_a_port_is_taken_once_unless_it_is_shared() -> None:
    says = "another process listens there; end it, or write another --port"
    with bind("127.0.0.1", 0) as listener, pytest.raises(NoSocket, match=says):
        bind("127.0.0.1", listener.getsockname()[1])
    with bind("127.0.0.1", 0, reuse_port=True) as first:
        bind("127.0.0.1", first.getsockname()[1], reuse_port=True).close()
        assert address_of(first) == f"http://127.0.0.1:{first.getsockname()[1]}"


def test_ipv6() -> None:
    with bind("::1", 0) as listener:
        assert address_of(listener) == f"http://[::1]:{listener.getsockname()[1]}"


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host", "999.1.1.1"])
def test_a_host_that_is_none_is_one_line(host: str) -> None:
    with pytest.raises(NoSocket, match=rf"^{host}:80: "):
        bind(host, 80)


def test_a_unix_socket_replaces_what_a_dead_process_left_and_nothing_else(path: Path) -> None:
    bind_unix(path).close()
    with bind_unix(path, 0o600) as listener:
        assert path.stat().st_mode & 0o777 == 0o600
        assert address_of(listener) == f"unix:{path}"
        with pytest.raises(NoSocket, match="another process listens there"):
            bind_unix(path)
    path.unlink()
    path.write_text("mine")
    with pytest.raises(NoSocket, match="there is something else than a socket"):
        bind_unix(path)
    assert path.read_text() == "mine"
    with pytest.raises(NoSocket, match="too long"):
        bind_unix(path.with_name("x" * 120))


@pytest.fixture
def given() -> Iterator[int]:
    """A descriptor of a listening socket, as systemd would leave it, and a next one that is none."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        descriptor = os.dup(listener.fileno())
        os.set_inheritable(descriptor, True)
        yield descriptor


def told(count: int, pid: int | None = None) -> dict[str, str]:
    return {"LISTEN_FDS": str(count), "LISTEN_PID": str(pid or os.getpid())}


def test_systemd_gives_sockets_that_no_child_inherits(given: int) -> None:
    (listener,) = from_systemd(told(1), first=given)
    assert not os.get_inheritable(listener.fileno())
    assert listener.family == socket.AF_INET
    listener.close()


@pytest.mark.parametrize(
    "environ", [{}, told(1, 1), {"LISTEN_PID": str(os.getpid())}, told(0), {**told(1), "LISTEN_FDS": "x"}]
)
def test_what_is_not_for_this_process_is_nobodys(environ: dict[str, str], given: int) -> None:
    assert from_systemd(environ, first=given) == []
    os.close(given)


def test_what_is_no_listening_socket_is_named(given: int) -> None:
    os.close(given)
    with pytest.raises(NoSocket, match=f"descriptor {given} of systemd is no socket"):
        from_systemd(told(1), first=given)
    one, other = socket.socketpair()
    with other, pytest.raises(NoSocket, match="does not listen; write ListenStream= and Accept=no"):
        from_systemd(told(1), first=os.dup(one.detach()))
