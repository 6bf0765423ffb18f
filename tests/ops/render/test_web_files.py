"""Files of nginx, Caddy and Varnish: what stands in them, awkward paths, and their own checks."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from hotpath.batch.run import build
from hotpath.cli.commands import main
from hotpath.errors import DeclarationError
from hotpath.ops.render.facts import SiteFacts, gather
from hotpath.ops.render.hot_lines import hot_lines
from hotpath.ops.render.whats import WHATS
from hotpath.site import Hotpath
from tests.ops.render.conftest import MakeFacts
from tests.ops.render.programs import checked, served, two_ports
from tests.wire.differential.test_nginx import running
from tests.wire.servers.client import Connection

pytestmark = pytest.mark.usefixtures("items_in_this_process")

PROGRAMS = ("nginx", "caddy", "varnish")
# What each can have in a path: nginx has no escape for a dollar, Caddy none for a backtick, a brace and a star.
AWKWARD = {
    "nginx": "a b \"c\" 'd' 50%n {e} `f` ;\\g #h * é",
    "caddy": "a b \"c\" 'd' 50%n $HOME ; #h é\nj",
    "varnish": "a b \"c\" 'd' 50%n {e} `f` $HOME ;\\g #h * é\nj",
}
REFUSED = {"nginx": ("a$b", "a\nb"), "caddy": ("a`b", "a{b}", "a*b", "a[b]", "a\\b")}

Declare = Callable[[Hotpath], None]


@pytest.fixture
def lines_of(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Patterns with files of one route, as it is declared; empty where the app has to answer."""

    def lines(path: str, *, site: dict[str, object] | None = None, **options: object) -> dict[str, str]:
        hot = Hotpath(tmp_path / "hot", **(site or {}))  # type: ignore[arg-type]
        hot.route(path, each=lambda: (), **options)(lambda **values: values)  # type: ignore[arg-type]
        return {line.pattern: line.file for line in hot_lines(gather(hot, "x:hot")).lines}

    return lines


@pytest.mark.parametrize(
    ("path", "options", "expected"),
    [
        ("/", {}, {"/": "index.json"}),
        ("/a.b", {}, {"/a\\.b": "a.b.json"}),
        ("/robots.txt", {}, {"/robots\\.txt": "robots.txt"}),
        ("/é x", {"file": "e.json"}, {"/%C3%A9%20x": "e.json"}),
        ("/{a}", {}, {"/([A-Za-z0-9_-][A-Za-z0-9_.~-]*)": "${1}.json"}),
        (
            "/{a}",
            {"query": ("n",)},
            {
                "/(V)\\?n=(V)": "${1}@${2}.json",
                "/(V)": "${1}@.json",
            },
        ),
        ("/{a}", {"fold_case": True}, {}),
        ("/{a}", {"query": ("gclid",)}, {}),
        ("/{a}-{b}", {}, {}),
        ("/a", {"file": "a$b.json"}, {}),
        ("/a", {"file": "plain"}, {}),
        ("/a", {"headers": {"X-A": "$b"}}, {}),
        ("/a", {"headers": {"X-A": "{b}"}}, {}),
    ],
)
def test_a_route_is_a_pattern_or_the_apps(
    lines_of: Callable[..., dict[str, str]], path: str, options: dict[str, object], expected: dict[str, str]
) -> None:
    value = "[A-Za-z0-9_-][A-Za-z0-9_.~-]*"
    assert lines_of(path, **options) == {
        pattern.replace("(V)", f"({value})"): file for pattern, file in expected.items()
    }


def test_two_types_with_one_ending_are_not_mixed_up(tmp_path: Path) -> None:
    hot = Hotpath(tmp_path / "hot")
    hot.route("/a", media_type="text/html", file="a.html")(lambda: "a")
    hot.route("/b", media_type="text/plain", file="b.html")(lambda: "b")
    found = hot_lines(gather(hot, "x:hot"))
    assert [line.route for line in found.lines] == ["/a"]
    assert [path for path, _ in found.left_out] == ["/b"]


def test_a_file_of_another_route_is_not_taken_for_a_page(tmp_path: Path) -> None:
    hot = Hotpath(tmp_path / "hot")
    hot.route("/stocks/{name}", each={"name": ["a"]})(lambda name: name)
    hot.route("/other", file="stocks/b.json")(lambda: "b")
    assert [line.route for line in hot_lines(gather(hot, "x:hot")).lines] == ["/other"]


def test_a_store_alone_has_the_lines_of_what_is_published(make_facts: MakeFacts) -> None:
    assert {line.route for line in hot_lines(make_facts(of_store=True)).lines} == {
        "/rankings/{market}",
        "/top/{market}",
        "/about",
    }


@pytest.mark.parametrize("program", PROGRAMS)
def test_written_twice_it_is_the_same(make_facts: MakeFacts, program: str) -> None:
    assert WHATS[program].render(make_facts()) == WHATS[program].render(make_facts())


@pytest.mark.parametrize("program", ["nginx", "caddy"])
def test_a_path_that_the_program_cannot_hold_is_refused_in_one_line(tmp_path: Path, program: str) -> None:
    for name in REFUSED[program]:
        with pytest.raises(DeclarationError, match="use another path") as refused:
            WHATS[program].render(gather(Hotpath(tmp_path / name), "x:hot"))
        assert "\n" not in str(refused.value)


def rich(root: Path) -> Hotpath:
    """A site with everything that changes the files."""
    hot = Hotpath(
        root,
        headers={"X-Frame-Options": "DENY"},
        hosts=("example.org", "*.example.net"),
        ignore_query=("r_*",),
        cdn_cache_control=None,
    )
    hot.route("/", media_type="text/html")(lambda: "<p>home" * 100)
    hot.route(
        "/a/{b}",
        query=("n",),
        each=[{"b": "c", "n": 1}],
        headers={"Link": '</x>; rel="y"'},
        cdn_cache_control="max-age=9",
    )(lambda b, n: {"b": b, "n": n})
    hot.route("/own", cache_control="no-cache")(lambda: ["x" * 500])
    build(hot)
    return hot


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_its_own_check_takes_every_option(tmp_path: Path, program: str) -> None:
    tmp_path.chmod(0o755)
    certificate = made_certificate(tmp_path)
    facts = gather(
        rich(tmp_path / "hot"),
        "x:hot",
        name="a-b",
        trust=("10.0.0.0/8", "::1"),
        cookie="sessionid",
        certificate=certificate if program == "nginx" else None,
        listen="127.0.0.1:18099",
    )
    found = checked(program, facts, tmp_path)
    assert found.returncode == 0, found.stderr


def made_certificate(directory: Path) -> tuple[str, str]:
    trustme = pytest.importorskip("trustme")
    issued = trustme.CA().issue_cert("example.org")
    certificate, key = directory / "c d.pem", directory / "k.pem"
    issued.cert_chain_pems[0].write_to_path(str(certificate))
    issued.private_key_pem.write_to_path(str(key))
    return str(certificate), str(key)


def ask(port: int, target: str, host: str = "example.org", *fields: str) -> tuple[int, dict[str, str], bytes]:
    with Connection(port, timeout_seconds=25) as connection:
        lines = [f"GET {target} HTTP/1.1", f"Host: {host}", *fields, "Connection: close", "", ""]
        answer = connection.ask("\r\n".join(lines).encode("ascii"))
    return answer.status, {n.decode(): v.decode("latin-1") for n, v in answer.headers}, answer.body


def awkward_site(root: Path, program: str) -> tuple[SiteFacts, int]:
    root.chmod(0o755)
    app, front = two_ports()
    hot = rich(root / AWKWARD[program] / "hot")
    listen = f"127.0.0.1:{front}"
    command = f"hotpath render {program} x:hot"
    hosts = ("example.org", "*.example.net")
    return gather(hot, "x:hot", port=app, listen=listen, command=command, hosts=hosts), front


@pytest.mark.slow
@pytest.mark.parametrize("program", ["nginx", "caddy"])
def test_pages_come_from_a_store_with_an_awkward_path_with_their_own_fields(tmp_path: Path, program: str) -> None:
    """The app is not there at all."""
    facts, front = awkward_site(tmp_path, program)
    with served(program, facts, tmp_path, front):
        status, fields, body = ask(front, "/a/c?n=1")
        assert (status, body) == (200, b'{"b":"c","n":1}')
        assert fields["link"] == '</x>; rel="y"'
        assert fields["cdn-cache-control"] == "max-age=9"
        assert fields["x-frame-options"] == "DENY"
        status, fields, _ = ask(front, "/own?r_1=2")
        assert (status, fields["cache-control"]) == (200, "no-cache")
        assert "cdn-cache-control" not in fields
        assert "link" not in fields


@pytest.mark.slow
def test_varnish_takes_a_file_for_a_store_with_an_awkward_path(tmp_path: Path) -> None:
    facts, _ = awkward_site(tmp_path, "varnish")
    assert checked("varnish", facts, tmp_path).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("program", ["nginx"])
def test_only_declared_hosts_have_hot_pages(tmp_path: Path, program: str) -> None:
    tmp_path.chmod(0o755)
    app, front = two_ports()
    facts = gather(rich(tmp_path / "hot"), "x:hot", port=app, listen=f"127.0.0.1:{front}")
    nothing = [sys.executable, "-m", "http.server", "--directory", str(tmp_path / "none"), "--bind", "127.0.0.1"]
    with running([*nothing, str(app)], app, dict(os.environ)), served(program, facts, tmp_path, front):
        assert ask(front, "/own")[0] == 200
        assert ask(front, "/own", "a.example.net:80")[0] == 200
        assert ask(front, "/own", "evil.example")[0] == 404


@pytest.mark.parametrize("what", [*PROGRAMS, "prometheus", "grafana"])
def test_the_command_writes_it_compares_it_and_says_how_to_make_it_again(tmp_path: Path, what: str) -> None:
    store = rich(tmp_path / AWKWARD.get(what, AWKWARD["varnish"]) / "hot").store.root
    options = ["render", what, str(store), "--trust", "10.0.0.0/8", "--certificate", "c d", "k", "--cookie", "sid"]
    written = CliRunner().invoke(main, [*options, "--to", str(tmp_path / "root")])
    assert written.exit_code == 0, written.output
    assert CliRunner().invoke(main, [*options, "--check", str(tmp_path / "root")]).exit_code == 0
    files = [path for path in (tmp_path / "root").rglob("*") if path.is_file()]
    for path in files:
        text = path.read_text()
        (made,) = [line for line in text.splitlines() if "Made by 'hotpath render" in line]
        assert "--certificate 'c d' k --trust 10.0.0.0/8 --cookie sid" in made
        path.write_text(text.replace("hotpath", "HOTPATH", 1))
    assert CliRunner().invoke(main, [*options, "--check", str(tmp_path / "root")]).exit_code == 1


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(rich(tmp_path_factory.mktemp("built") / "hot").store.root)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--trust", "example.org"], "write a network"),
        (["--trust", "10.0.0.1/8"], "write a network"),
        (["--cookie", "a b"], "letters, digits and _"),
        (["--listen", "here:80"], "a port, or an address and a port"),
        (["--interval", "soon"], "--interval"),
    ],
)
def test_a_wrong_option_is_one_line(built: str, options: list[str], problem: str) -> None:
    result = CliRunner().invoke(main, ["render", "nginx", built, *options])
    assert result.exit_code != 0
    assert problem in result.output + str(result.exception)
