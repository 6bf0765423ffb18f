"""A door and its server as one process, for tests that start servers by a command line.

python -m tests.front.serve --port 8000 tests.wire.servers.app:application tests.wire.servers.app:hot
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import signal
import socket
from typing import Any

from hotpath.front.door import Door
from hotpath.front.server import FrontServer


def loaded(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


async def serve(app: Any, hot: Any, port: int) -> None:
    server = FrontServer(app, drain_seconds=5)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, server.begin_shutdown)
    with socket.create_server(("127.0.0.1", port), backlog=1024) as listener:
        door = Door(hot, [listener], server.take)
        door.start()
        await server.serve()
        door.stop(1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("app")
    parser.add_argument("hot")
    options = parser.parse_args()
    asyncio.run(serve(loaded(options.app), loaded(options.hot), options.port))


if __name__ == "__main__":
    main()
