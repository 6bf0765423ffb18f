"""The thread that looks for what is new."""

from __future__ import annotations

import threading

from hotpath.serving.watcher import Watcher


def test_it_pauses_before_the_first_look_and_between_two() -> None:
    """Whoever starts it has looked: ten thousand watched files are not read twice in a row."""
    calls: list[str] = []
    is_over = threading.Event()

    class Site:
        def look(self) -> None:
            calls.append("look")
            if len(calls) == 4:
                watcher.stop()
                is_over.set()

    def pause() -> float:
        calls.append("pause")
        return 0.0

    site = Site()
    watcher = Watcher(site.look, pause)
    watcher.start()
    assert is_over.wait(10)
    assert calls[:4] == ["pause", "look", "pause", "look"]
