"""Pictures of the status page for the docs and the README, taken in Chromium of pages that really run.

``python tools/dashboard_pictures.py docs/how-to`` writes ``status-light.webp``, ``-dark``, ``-phone``, ``-incident``.
"""

from __future__ import annotations

import base64
import contextlib
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from playwright.sync_api import Browser, expect, sync_playwright  # noqa: E402

from tests.dashboard.serving import CHROMIUM, CHROMIUM_OPTIONS, MISSING, get, leaking, standalone  # noqa: E402
from tests.dashboard.stores import full_store, incident_memory, write_memory  # noqa: E402

WIDTH: Final = 1200
MAX_BYTES: Final = 150_000


def main(folder: Path) -> None:
    """Take the four of them."""
    if CHROMIUM is None:
        raise SystemExit(MISSING)
    with tempfile.TemporaryDirectory() as directory, sync_playwright() as playwright:
        root = Path(directory)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(CHROMIUM_OPTIONS))
        with contextlib.closing(browser):
            now = time.time()
            write_memory(full_store(root / "hot", now, held=False), incident_memory(now, hours=9))
            with standalone("hot", cwd=root) as address:
                take(browser, address, folder / "status-light.webp", "light", WIDTH, 1330)
                take(browser, address, folder / "status-dark.webp", "dark", WIDTH, 1330)
                take(browser, address, folder / "status-phone.webp", "dark", 390, 1500)
            with incident(root / "incident") as address:
                take(browser, address, folder / "status-incident.webp", "light", WIDTH, 1330)


@contextlib.contextmanager
def incident(root: Path) -> Iterator[str]:
    """An app that leaks until its guard refuses cold requests, with a night in quarantine; gives its status page."""
    now = time.time()
    store = full_store(root, now, pages=400)
    write_memory(store, incident_memory(now - 120, hours=3))
    with leaking(store.root) as site:
        get(f"{site}/leak?share=0.8")
        until = time.monotonic() + 60
        while get(f"{site}/state") != "SHED" and time.monotonic() < until:
            time.sleep(0.2)
        time.sleep(3)
        stopping = threading.Event()
        clients = [threading.Thread(target=ask, args=(site, number, stopping)) for number in range(2)]
        for client in clients:
            client.start()
        try:
            time.sleep(12)
            yield f"{site}/status/"
        finally:
            stopping.set()
            for client in clients:
                client.join()


def ask(site: str, start: int, stopping: threading.Event) -> None:
    """Requests of a client: nine hot pages, and one that is cold."""
    number = start
    while not stopping.wait(0.01):
        number += 1
        path = "/cold" if number % 10 == 0 else f"/stocks/T{number * 7 % 400:05d}"
        with contextlib.suppress(OSError):  # the guard refuses some
            get(f"{site}{path}")


def take(browser: Browser, address: str, file: Path, scheme: str, width: int, height: int) -> None:
    """One picture of the upper part, as WebP, which a browser writes by itself."""
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if scheme == "dark" else "light",
        device_scale_factor=1.5 if width < 600 else 1,
    )
    with contextlib.closing(context):
        page = context.new_page()
        page.goto(address)
        expect(page.locator("#live")).to_have_text("Live.")
        picture = context.new_cdp_session(page).send("Page.captureScreenshot", {"format": "webp", "quality": 82})
    content = base64.b64decode(picture["data"])
    if len(content) > MAX_BYTES:
        raise SystemExit(f"{file.name} has {len(content):,} bytes, more than {MAX_BYTES:,}")
    file.write_bytes(content)
    print(f"{file}: {len(content):,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
