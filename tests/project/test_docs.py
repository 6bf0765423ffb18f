"""What README and docs show is true: Python runs, commands exist with their options, links lead somewhere.

A ```python block runs after the blocks above it in the same file, in one namespace and an empty folder. One that
cannot is preceded by ``<!-- not run: the reason -->``.
"""

from __future__ import annotations

import inspect
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from hotpath import Hotpath, HotpathMiddleware, MemoryGuard
from hotpath.cli.commands import main as command
from tools.first_ten_minutes import files

ROOT = Path(__file__).parents[2]
SECONDS_FOR_A_DOCUMENT = 60

FENCE = re.compile(r"( *)(`{3,}|~{3,}) *(\S*)")
NOT_RUN = re.compile(r" *<!-- not run: *\S.*-->")
OTHER_NAMES = {"py", "python3", "sh", "shell", "bash", "pycon", "shell-session"}
LINK = re.compile(r"!?\[[^\]]*\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)|^\[[^\]]+\]: +<?([^\s>]+)", re.MULTILINE)
HEADING = re.compile(r"#{1,6} +(.*?) *#*")
SHELL_ENDS_HERE = {"|", "||", "&", "&&", ";", ">", ">>", "<", "2>", "2>&1"}


@dataclass(frozen=True)
class Block:
    """A fenced block; ``line`` is the number of its first line inside the fence."""

    language: str
    line: int
    lines: tuple[str, ...]
    not_run: bool


def documents(root: Path) -> list[Path]:
    """The Markdown files at the root and under ``docs/``."""
    return sorted([*root.glob("*.md"), *(root / "docs").rglob("*.md")])


def split(text: str) -> tuple[list[Block], str]:
    """The fenced blocks of a document, and its prose: the same lines with the blocks emptied."""
    blocks: list[Block] = []
    prose: list[str] = []
    inner: list[str] = []
    opened: re.Match[str] | None = None
    before = ""  # the last line of prose that is not empty, since the block above
    for number, line in enumerate(text.splitlines(), 1):
        fence = FENCE.match(line)
        if opened is None and fence is None:
            prose.append(line)
            before = line if line.strip() else before
            continue
        prose.append("")
        if opened is None:
            opened, inner = fence, []
        elif fence and fence[2].startswith(opened[2]) and not fence[3]:
            not_run = bool(NOT_RUN.fullmatch(before))
            blocks.append(Block(opened[3], number - len(inner), tuple(inner), not_run))
            opened, before = None, ""
        else:
            inner.append(line.removeprefix(opened[1]))
    assert opened is None, f"line {len(prose) - len(inner)}: a block that is never closed"
    return blocks, "\n".join(prose)


def unknown_names(text: str) -> list[str]:
    """Blocks under a name by which they would escape these tests."""
    return [
        f"line {block.line - 1}: write ```python or ```console, not ```{block.language}"
        for block in split(text)[0]
        if block.language.lower() in OTHER_NAMES or block.language.lower() in {"python", "console"} - {block.language}
    ]


def script(text: str) -> str:
    """The document's Python, each line at the number it has in the document, so that a traceback points there."""
    lines = [""] * len(text.splitlines())
    for block in split(text)[0]:
        if block.language == "python" and not block.not_run:
            lines[block.line - 1 : block.line - 1 + len(block.lines)] = block.lines
    return "\n".join(lines).rstrip()


def run(text: str, name: str, folder: Path) -> str | None:
    """Runs the document's Python in ``folder``, warnings as errors; what it said when it failed, or None."""
    code = script(text)
    if not code:
        return None
    program = f"import sys; exec(compile(sys.stdin.read(), {name!r}, 'exec'), {{'__name__': 'docs'}})"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        input=code,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS_FOR_A_DOCUMENT,
    )
    return done.stderr if done.returncode else None


def console_commands(text: str) -> Iterator[tuple[int, list[str]]]:
    """The ``$ …`` lines of console blocks as (line, words), continued lines joined, up to the first shell operator."""
    for block in split(text)[0]:
        if block.language != "console":
            continue
        lines = enumerate(block.lines, block.line)
        for number, line in lines:
            if not line.startswith("$ "):
                continue
            whole = line.removeprefix("$ ")
            while whole.endswith("\\"):
                whole = whole[:-1] + next(lines)[1]
            words = shlex.split(whole, comments=True)
            end = next((at for at, word in enumerate(words) if word in SHELL_ENDS_HERE), len(words))
            yield number, words[2:end] if words[1:3] == ["-m", "hotpath"] else words[:end]


def wrong_commands(text: str, group: click.Group, targets: set[str]) -> list[str]:
    """``hotpath`` lines that click would refuse, ``make`` lines whose target is not in the Makefile."""
    wrong = []
    for number, words in console_commands(text):
        problem = None
        if words and Path(words[0]).name == "hotpath":
            problem = _refused(group, words[1:])
        elif words and words[0] == "make":
            unknown = [word for word in words[1:] if "=" not in word and word not in targets]
            problem = f"no such target: {' '.join(unknown)}" if unknown else None
        if problem:
            wrong.append(f"line {number}: {shlex.join(words)}: {problem}")
    return wrong


def _refused(group: click.Group, arguments: list[str]) -> str | None:
    """Why click would not take these arguments. Nothing is run, and no value is looked at: paths need not exist."""
    try:
        context = click.Context(group, info_name="hotpath")
        given, words, _ = group.make_parser(context).parse_args(list(arguments))
        if not words:
            return None if given else "no subcommand"
        subcommand = group.get_command(context, words[0])
        if subcommand is None:
            return f"no such subcommand: {words[0]}"
        inner = click.Context(subcommand, info_name=words[0], parent=context)
        if set(inner.help_option_names) & set(words[1:]):
            return None
        given, left, _ = subcommand.make_parser(inner).parse_args(words[1:])
    except click.UsageError as error:
        return error.format_message()
    if left:
        return f"too many arguments: {' '.join(left)}"
    required = [parameter.name or "" for parameter in subcommand.params if parameter.required]
    missing = [name for name in required if not isinstance(given.get(name), str | tuple)]
    return f"missing: {' '.join(missing)}" if missing else None


def anchors(text: str) -> set[str]:
    """The fragments by which the headings of a document can be reached, as GitHub makes them."""
    found: set[str] = set()
    for line in split(text)[1].splitlines():
        if heading := HEADING.fullmatch(line):
            slug = re.sub(r"[^\w\- ]", "", heading[1].lower()).replace(" ", "-")
            number = next(n for n in range(len(found) + 1) if (f"{slug}-{n}" if n else slug) not in found)
            found.add(f"{slug}-{number}" if number else slug)
    return found


def broken_links(document: Path, root: Path) -> list[str]:
    """Relative links that do not lead to a file of the tree, or not to a heading in it."""
    text = document.read_text("utf-8")
    prose = re.sub(r"`[^`\n]*`", "", split(text)[1])
    broken = []
    for match in LINK.finditer(prose):
        link = match[1] or match[2]
        path, _, fragment = link.partition("#")
        if re.match(r"[a-z][a-z0-9+.-]*:", link, re.IGNORECASE):
            continue
        target = (document.parent / path).resolve() if path else document.resolve()
        if not target.is_relative_to(root.resolve()):
            broken.append(f"{link}: outside the tree")
        elif not target.exists():
            broken.append(f"{link}: no such file")
        elif fragment and target.suffix == ".md" and fragment not in anchors(target.read_text("utf-8")):
            broken.append(f"{link}: no such heading")
    return broken


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


EVERY_DOCUMENT = pytest.mark.parametrize("document", documents(ROOT), ids=lambda path: str(path.relative_to(ROOT)))


@pytest.mark.slow
@EVERY_DOCUMENT
def test_python_blocks_run(document: Path, tmp_path: Path) -> None:
    problem = run(document.read_text("utf-8"), document.name, tmp_path)
    assert problem is None, problem


@EVERY_DOCUMENT
def test_commands_are_ones_that_hotpath_takes(document: Path) -> None:
    assert wrong_commands(document.read_text("utf-8"), command, make_targets()) == []


@EVERY_DOCUMENT
def test_links_resolve(document: Path) -> None:
    assert broken_links(document, ROOT) == []


@EVERY_DOCUMENT
def test_no_block_goes_by_another_name(document: Path) -> None:
    assert unknown_names(document.read_text("utf-8")) == []


# The checks above, on documents with something planted in them.


@pytest.mark.slow
def test_the_files_of_the_first_ten_minutes_are_a_django_site(tmp_path: Path) -> None:
    pytest.importorskip("django")
    text = (ROOT / "docs" / "how-to" / "first-ten-minutes.md").read_text(encoding="utf-8").partition("## Django")[2]
    assert set(files()) == {"app.py", "site1/hot.py", "site1/urls.py", "site1/asgi.py"}
    declared, urls, asgi = ("\n".join(block.lines) for block in split(text)[0] if block.language == "python")
    site = tmp_path / "site1"
    site.mkdir()
    settings = (
        "from pathlib import Path",
        "BASE_DIR = Path(__file__).parents[2]",
        'INSTALLED_APPS = ["hotpath.contrib.django", "site1"]',
        'HOTPATH_STORE = BASE_DIR / "var/hot"',
        'SECRET_KEY = "for a test"',
        'ROOT_URLCONF = "site1.urls"',
        'ALLOWED_HOSTS = ["*"]',
    )
    written = {"__init__": "", "settings": "\n".join(settings), "hot": declared, "urls": urls, "asgi": asgi}
    for name, content in written.items():
        (site / f"{name}.py").write_text(content, encoding="utf-8")
    ask = (
        "import asyncio; from site1.asgi import application; from hotpath.testing import asgi_get;"
        "print(*(asyncio.run(asgi_get(application, path)).status for path in ('/rankings/kospi', '/stocks/X')))"
    )
    django = ["-m", "django", "hotpath", "build", "--settings", "site1.settings", "--pythonpath", "."]
    for arguments in (django, ["-c", ask]):
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
    assert done.stdout == "200 500\n"


def _names_of(called: Callable[..., object]) -> set[str]:
    return set(inspect.signature(called).parameters) - {"self", "clock"}


@pytest.mark.parametrize(
    ("section", "names"),
    [
        ("## `Hotpath(", _names_of(Hotpath)),
        ("## `@hot.route(", _names_of(Hotpath.route)),
        ("## `hot.directory(", _names_of(Hotpath.directory) - {"path", "files"}),
        ("## `HotpathMiddleware(", _names_of(HotpathMiddleware) - {"app"}),
        ("## `MemoryGuard(", _names_of(MemoryGuard)),
        ("## Commands", {f"hotpath {name}" for name in command.commands}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_reference_names_every_option_and_command(section: str, names: set[str]) -> None:
    text = (ROOT / "docs" / "reference" / "declaring.md").read_text(encoding="utf-8")
    assert text.count(section) == 1
    described = text.partition(section)[2].partition("\n## ")[0]
    assert {name for name in names if not re.search(rf"`{name}\b", described)} == set()


def test_documents_are_found(tmp_path: Path) -> None:
    (tmp_path / "docs" / "how-to").mkdir(parents=True)
    for name in ("README.md", "docs/how-to/x.md", "docs/x.txt"):
        (tmp_path / name).touch()
    assert documents(tmp_path) == [tmp_path / "README.md", tmp_path / "docs" / "how-to" / "x.md"]


TWO_BLOCKS = """\
# Title

```python
x = 1
```

1. In a list:
   ```python
   if x:
       y = x + {number}
   ```

```text
not Python
```

~~~python
assert y == 2
~~~
"""


def test_blocks_of_a_document_share_one_namespace_in_order(tmp_path: Path) -> None:
    assert run(TWO_BLOCKS.format(number=1), "x.md", tmp_path) is None


def test_a_block_that_fails_is_named_by_its_line_in_the_document(tmp_path: Path) -> None:
    problem = run(TWO_BLOCKS.format(number=2), "x.md", tmp_path)
    assert problem is not None
    assert 'File "x.md", line 18' in problem
    assert "AssertionError" in problem


def test_a_block_that_warns_fails(tmp_path: Path) -> None:
    problem = run("```python\nimport warnings\nwarnings.warn('old')\n```", "x.md", tmp_path)
    assert problem is not None
    assert "UserWarning: old" in problem


def test_blocks_run_in_the_folder_they_are_given(tmp_path: Path) -> None:
    assert run("```python\nopen('here', 'w').close()\n```", "x.md", tmp_path) is None
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


@pytest.mark.parametrize(
    ("before", "runs"),
    [
        ("", True),
        ("<!-- not run: needs a server -->\n", False),
        ("<!-- not run: needs a server -->\n\n", False),
        ("<!-- not run: -->\n", True),
        ("<!-- not run: of another block -->\n\nSome text.\n\n", True),
        ("<!-- not run: of another block -->\n```python\n1 / 0\n```\n", True),
    ],
)
def test_only_a_marked_block_with_a_reason_is_left_out(before: str, runs: bool) -> None:
    assert ("raise" in script(f"{before}```python\nraise\n```\n")) is runs


def test_a_block_that_is_never_closed_is_an_error() -> None:
    with pytest.raises(AssertionError, match="line 2: a block that is never closed"):
        split("x\n```python\nx = 1\n")


@pytest.mark.parametrize("language", ["py", "python3", "Python", "bash", "sh", "Console"])
def test_another_name_for_a_checked_language_is_found(language: str) -> None:
    (found,) = unknown_names(f"text\n```{language}\nx\n```\n```python\n```\n```toml\n```")
    assert found.startswith("line 2: write ```python or ```console")


@click.group()
@click.version_option("1")
def planted() -> None: ...


@planted.command()
@click.argument("target")
@click.argument("path", type=click.Path(exists=True), required=False)
@click.option("--json", is_flag=True)
@click.option("--port", type=int)
def build(target: str, path: str, json: bool, port: int) -> None:
    raise AssertionError("a command in the docs was run")


@pytest.mark.parametrize(
    "line",
    [
        "hotpath --version",
        "hotpath build app:hot",
        "hotpath build app:hot not/there --json --port 1",
        "hotpath build --help",
        ".venv/bin/hotpath build app:hot && not-ours --at all",
        "python -m hotpath build app:hot | head",
        "hotpath build app:hot  # every night",
        "hotpath build \\\n    app:hot",
        "pip install asgi-hotpath",
        "make test PYTHON=python3.12",
    ],
)
def test_a_command_that_would_be_taken_is_right(line: str) -> None:
    assert wrong_commands(f"```console\n$ {line}\nits output: hotpath nonsense\n```", planted, {"test"}) == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("hotpath", "no subcommand"),
        ("hotpath bild app:hot", "no such subcommand: bild"),
        ("hotpath build app:hot --jsn", "No such option"),
        ("hotpath --loud build app:hot", "No such option"),
        ("hotpath build app:hot --port", "requires an argument"),
        ("hotpath build", "missing: target"),
        ("hotpath build app:hot there more", "too many arguments: more"),
        ("python -m hotpath bild", "no such subcommand: bild"),
        ("make tset", "no such target: tset"),
    ],
)
def test_a_command_that_would_be_refused_is_found(line: str, said: str) -> None:
    (found,) = wrong_commands(f"text\n```console\n$ {line}\n```", planted, {"test"})
    assert found.startswith("line 3: ")
    assert said in found


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "there.md").write_text("# One `thing`, two\n\n## Again\n\n## Again\n", "utf-8")
    return tmp_path / "docs" / "x.md"


@pytest.mark.parametrize(
    "text",
    [
        "[a](there.md) [b](there.md#one-thing-two) [c](there.md#again-1) [up](../docs/there.md)",
        '# Here\n[a](#here) ![picture](there.md) [t](there.md "title")',
        "[a](https://example.org/x.md) [m](mailto:x@example.org)",
        "`[a](gone.md)`\n```text\n[b](gone.md)\n```",
        "[a][b]\n\n[b]: there.md",
    ],
)
def test_a_link_that_leads_somewhere_is_right(linked: Path, text: str) -> None:
    linked.write_text(text, "utf-8")
    assert broken_links(linked, linked.parents[1]) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[a](gone.md)", "gone.md: no such file"),
        ("![a](gone.png)", "gone.png: no such file"),
        ("[a](there.md#three)", "there.md#three: no such heading"),
        ("# Here\n[a](#there)", "#there: no such heading"),
        ("[a](../../x)", "../../x: outside the tree"),
        ("[a][b]\n\n[b]: gone.md", "gone.md: no such file"),
    ],
)
def test_a_link_that_leads_nowhere_is_found(linked: Path, text: str, said: str) -> None:
    linked.write_text(text, "utf-8")
    assert broken_links(linked, linked.parents[1]) == [said]
