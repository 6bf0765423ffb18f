"""How an app with hot pages is tested: build into a temporary store, ask the app without a server, break it."""

from __future__ import annotations

import asyncio
import http.client
import importlib
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType

import pytest

from hotpath.batch import build
from hotpath.serving import reader_of
from hotpath.testing import Response, asgi_get

HERE = Path(__file__).resolve().parent
MODULES = ("marketpulse", "make_data")


@pytest.fixture
def make_data(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(HERE)
    yield importlib.import_module("make_data")
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "marketpulse.db"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with 60 stocks in ``marketpulse.db``, and one generation of them in ``hot``."""
    directory = tmp_path_factory.mktemp("published")
    database = directory / "marketpulse.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(HERE)
        patch.setenv("MARKETPULSE_DATABASE", str(database))
        patch.setenv("MARKETPULSE_STORE", str(directory / "hot"))
        assert (
            importlib.import_module("make_data").main(["--database", str(database), "--tickers", "60", "--days", "3"])
            == 0
        )
        module = importlib.import_module("marketpulse")
        build(module.hot)
        module.guard.close()
    for name in MODULES:
        sys.modules.pop(name, None)
    return directory


@pytest.fixture
def site(
    make_data: ModuleType, published: Path, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ModuleType]:
    """The app, with 60 stocks and one published generation."""
    shutil.copytree(published, tmp_path, symlinks=True, dirs_exist_ok=True)
    monkeypatch.setenv("MARKETPULSE_DATABASE", str(database))
    monkeypatch.setenv("MARKETPULSE_STORE", str(tmp_path / "hot"))
    module = importlib.import_module("marketpulse")
    yield module
    module.guard.close()
    reader_of(module.hot).close()


def get(site: ModuleType, target: str, *, app: bool = False) -> Response:
    """``app``: what the app itself answers, without hotpath in front."""
    return asyncio.run(asgi_get(site.api if app else site.app, target))


def select(database: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(sql).fetchall()


HOT = ["/", "/robots.txt", "/sitemap.xml", "/rankings/KOSPI/market_cap", "/rankings/NASDAQ/pb_ratio"]


def test_every_market_and_metric_is_hot(site: ModuleType) -> None:
    keys = {item.key for item in site.hot.plan()}
    markets = ("KOSPI", "KOSDAQ", "NYSE", "NASDAQ")
    rankings = {
        f"/rankings/{market}/{metric}" for market in markets for metric in ("market_cap", "pe_ratio", "pb_ratio")
    }
    assert keys == rankings | {"/", "/robots.txt", "/sitemap.xml"}


@pytest.mark.parametrize("path", HOT)
def test_a_hot_page_is_what_the_app_would_answer(site: ModuleType, path: str) -> None:
    hot, cold = get(site, path), get(site, path, app=True)
    assert (hot.status, cold.status) == (200, 200)
    assert (hot.header("x-hotpath-generation"), cold.header("x-hotpath-generation")) == ("1", None)
    assert hot.header("content-type") == cold.header("content-type")
    assert hot.body == cold.body


@pytest.mark.parametrize("path", HOT)
def test_hot_pages_need_no_database(site: ModuleType, database: Path, path: str) -> None:
    before = get(site, path)
    database.unlink()
    after = get(site, path)
    assert (after.status, after.body) == (200, before.body)


@pytest.mark.parametrize("target", ["/rankings/KOSPI/market_cap?sector=Energy", "/stocks/{ticker}", "/search?q=corp"])
def test_cold_pages_come_from_the_app_and_fail_with_its_database(site: ModuleType, database: Path, target: str) -> None:
    sector = select(database, "SELECT ticker FROM stocks WHERE market = 'KOSPI' AND sector = 'Energy'")
    if "Energy" in target and not sector:
        pytest.fail("the seed gives KOSPI no energy stock; take another sector")
    path = target.format(ticker=select(database, "SELECT max(ticker) FROM stocks")[0][0])
    answer = get(site, path)
    assert (answer.status, answer.header("x-hotpath-generation")) == (200, None)
    database.unlink()
    with pytest.raises(sqlite3.OperationalError):
        get(site, path)
    assert not database.exists(), "asking made a new, empty database"


@pytest.mark.parametrize("path", ["/rankings/KOSPI/nothing", "/rankings/NOWHERE/pe_ratio", "/stocks/NOPE"])
def test_what_is_unknown_is_404(site: ModuleType, path: str) -> None:
    assert get(site, path).status == 404


def test_a_ticker_may_have_a_slash(site: ModuleType, database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("INSERT INTO stocks VALUES ('BRK/B', 'NYSE', 'Slash', NULL)")
        connection.execute("INSERT INTO valuations VALUES ('BRK/B', '2025-06-30', 1, 1, 1, 1)")
    assert json.loads(get(site, "/stocks/BRK%2FB").body)["latest"]["ticker"] == "BRK/B"


@pytest.mark.parametrize(("metric", "rising"), [("market_cap", False), ("pe_ratio", True), ("pb_ratio", True)])
def test_a_ranking_is_in_order_and_leaves_out_what_has_no_value(site: ModuleType, metric: str, rising: bool) -> None:
    items = json.loads(get(site, f"/rankings/NASDAQ/{metric}").body)["items"]
    values = [item[metric] for item in items]
    assert values == sorted(values, reverse=not rising)
    assert all(value > 0 for value in values)


def test_the_sitemap_names_only_hot_pages(site: ModuleType) -> None:
    paths = [part.partition("</loc>")[0] for part in get(site, "/sitemap.xml").body.decode().split(site.SITE)[1:]]
    assert len(paths) == 13
    assert all(get(site, path).header("x-hotpath-generation") == "1" for path in paths)


def test_a_stock_has_the_median_of_its_sector_which_outlives_the_database(site: ModuleType, database: Path) -> None:
    ticker, market, sector = select(
        database, "SELECT ticker, market, sector FROM valuations JOIN stocks USING (ticker) WHERE pe_ratio > 0"
    )[0]
    answer = json.loads(get(site, f"/stocks/{ticker}").body)
    assert answer["sector_pe"] > 0
    assert len(answer["history"]) == 2
    assert site.median_pe.cache_info().misses == 1
    database.unlink()
    assert site.median_pe(market, sector) == answer["sector_pe"]
    assert site.median_pe.cache_info().hits == 1


def test_ready_when_its_pages_are_warm_and_not_while_it_leaves(
    site: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert get(site, "/healthz").status == 200
    assert get(site, "/readyz").status == 200
    monkeypatch.setattr(site.guard.admission, "is_ready", False)
    assert get(site, "/readyz").status == 503
    assert get(site, "/healthz").status == 200


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def ask(port: int, path: str) -> tuple[int, str | None, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.getheader("x-hotpath-generation"), answer.read()


@pytest.mark.slow
def test_as_the_readme_says_with_a_real_server(tmp_path: Path) -> None:
    """Data, batch, server; the database goes, and the hot pages do not notice."""
    pytest.importorskip("uvicorn")
    database = tmp_path / "marketpulse.db"
    environment = os.environ | {
        "MARKETPULSE_DATABASE": str(database),
        "MARKETPULSE_STORE": str(tmp_path / "hot"),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }

    def python(*arguments: str) -> list[str]:
        return [sys.executable, *arguments]

    for command in (
        python("make_data.py", "--database", str(database), "--tickers", "60", "--days", "3"),
        python("-m", "hotpath", "build", "marketpulse:hot"),
    ):
        done = subprocess.run(command, cwd=HERE, env=environment, capture_output=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
    port = free_port()
    with (tmp_path / "server.log").open("w+b") as log:
        options = ("--port", str(port), "--log-level", "warning")
        server = subprocess.Popen(
            python("-m", "uvicorn", "marketpulse:app", *options), cwd=HERE, env=environment, stdout=log, stderr=log
        )
        try:
            warm = python("-m", "hotpath", "warm", f"http://127.0.0.1:{port}/readyz", "--deadline", "30s")
            done = subprocess.run(warm, env=environment, capture_output=True, check=False, timeout=60)
            assert done.returncode == 0, done.stdout + log.read()
            before = {path: ask(port, path) for path in HOT}
            ticker = json.loads(before["/rankings/KOSPI/market_cap"][2])["items"][0]["ticker"]
            assert ask(port, f"/stocks/{ticker}")[0] == 200
            database.unlink()
            assert {path: ask(port, path) for path in HOT} == before
            assert {answer[:2] for answer in before.values()} == {(200, "1")}
            assert ask(port, f"/stocks/{ticker}")[0] == 500
            metrics = ask(port, "/metrics")[2].decode()
            assert "hotpath_generation 1.0" in metrics
            assert 'hotpath_cache_misses_total{cache="marketpulse.median_pe",slot="none"} 1.0' in metrics
            assert 'state="normal"} 1.0' in metrics
        finally:
            server.terminate()
            server.wait(20)
        log.seek(0)
        assert b"no such table" not in log.read()


# --- make_data.py ---


def test_generated_data_say_so_and_are_the_same_for_one_seed(make_data: ModuleType, tmp_path: Path) -> None:
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        options = ["--tickers", "40", "--days", "2", "--seed", seed]
        assert make_data.main(["--database", str(tmp_path / name), *options]) == 0
    a, b, c = (select(tmp_path / name, "SELECT * FROM valuations") for name in "abc")
    assert a == b
    assert a != c
    assert "Generated data" in str(select(tmp_path / "a", "SELECT text FROM source"))


def test_the_default_size_has_eight_thousand_stocks_and_missing_ratios(make_data: ModuleType) -> None:
    _, stocks, valuations = make_data.generate(8_000, 2, 1)
    rows = list(valuations)
    assert len({ticker for ticker, *_ in stocks}) == 8_000
    assert len(rows) == 16_000
    assert 0.12 < sum(row[4] is None for row in rows) / len(rows) < 0.22
    assert all(row[4] is None or row[4] > 0 for row in rows)


def test_no_ranking_is_empty_however_few_stocks_are_made(make_data: ModuleType) -> None:
    for tickers in range(4, 60):
        _, stocks, valuations = make_data.generate(tickers, 1, 1)
        markets = {ticker: market for ticker, market, *_ in stocks}
        found = {(markets[row[0]], field) for row in valuations for field in (3, 4, 5) if row[field]}
        assert len(found) == 12, f"{tickers} stocks"


def write(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "stocks.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    "content",
    [
        "Symbol,Market Cap,Price/Earnings,Price/Book\nA,10,,2.5\nB,20,7,\n",
        "\ufeffticker,MARKET_CAP,P/E Ratio,pb_ratio\r\nA,10,N/A,2.5\r\n\r\nB,20,7,-\r\n",
        "Code;market cap;PER;PBR\nA;10;NaN;2.5\nB;20;7;\n",
        'Notes\tCode\tMktCap\tpe\tpb\n"two\nlines"\tA\t10\t\t2.5\n\tB\t2e1\t7.0\tnull\n',
    ],
    ids=["comma", "byte order mark, CRLF, blank line", "semicolon", "tab, quoted line break"],
)
def test_columns_are_found_by_name_and_what_is_missing_is_null(
    make_data: ModuleType, tmp_path: Path, database: Path, content: str
) -> None:
    assert make_data.main(["--database", str(database), "--csv", str(write(tmp_path, content))]) == 0
    found = select(
        database, "SELECT ticker, market, name, market_cap, pe_ratio, pb_ratio FROM stocks NATURAL JOIN valuations"
    )
    assert found == [("A", "CSV", "A", 10, None, 2.5), ("B", "CSV", "B", 20, 7.0, None)]


HEADER = "Symbol,Market Cap,P/E,P/B\n"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", ["is empty"]),
        ("\ufeff\n \n", ["is empty"]),
        (HEADER, ["no rows"]),
        ("Symbol,Name\nA,B\n", ["lacks 3", "add market_cap", "'p/e'", "add pb_ratio", "found are 'Symbol', 'Name'"]),
        (HEADER + "A,1,1,1\nB,x,1,1\n\nC,1,inf,1_0\n", ["line 3: Market Cap 'x'", "line 5: P/E 'inf'", "P/B '1_0'"]),
        (HEADER + "A,-1,1,1\n", ["line 2: Market Cap '-1' is below zero"]),
        (HEADER + "A,1e300,1,1\n", ["line 2: Market Cap '1e300' is larger"]),
        (HEADER + 'A,"1,5",1,1\n', ["line 2: Market Cap '1,5' is no number"]),
        (HEADER + "A,1,1,1\nA,1,1,1\n", ["line 3: 'A' is on line 2"]),
        (HEADER + ",1,1,1\n", ["line 2: Symbol is empty"]),
        (HEADER + "A,1,1\n", ["line 2: 3 cells, and the header has 4"]),
        (HEADER + "A,1,,1\n", ["no row has a P/E above zero"]),
        (HEADER + '"A,1,1,1\n', ["line 2: unexpected end of data"]),
        (HEADER.encode() + b"\xe9,1,1,1\n", ["line 2: this is not UTF-8"]),
        (HEADER + "A,x,1,1\n" * 30, ["line 7", "… and 49 more"]),
    ],
)
def test_a_csv_that_cannot_be_used_is_refused_as_a_whole(
    make_data: ModuleType,
    tmp_path: Path,
    database: Path,
    capsys: pytest.CaptureFixture[str],
    content: str | bytes,
    told: list[str],
) -> None:
    database.write_text("what was there before")
    assert make_data.main(["--database", str(database), "--csv", str(write(tmp_path, content))]) == 1
    error = capsys.readouterr().err
    assert [part for part in told if part not in error] == []
    assert database.read_text() == "what was there before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["marketpulse.db", "stocks.csv"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--csv", "no/such.csv"], "no/such.csv: No such file"),
        (["--csv", "."], "Is a directory"),
        (["--tickers", "1"], "--tickers 1"),
        (["--days", "0"], "--days 0"),
    ],
)
def test_options_that_cannot_work_are_named(
    make_data: ModuleType, database: Path, capsys: pytest.CaptureFixture[str], options: list[str], told: str
) -> None:
    assert make_data.main(["--database", str(database), *options]) == 1
    assert told in capsys.readouterr().err
    assert not database.exists()


def test_a_market_must_fit_into_a_url(
    make_data: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, HEADER + "A,1,1,1\n")
    for name in ("a/b", "..", ""):
        assert make_data.main(["--csv", str(path), "--market", name]) == 1
        assert f"--market {name!r}" in capsys.readouterr().err
