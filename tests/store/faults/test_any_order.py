"""Commands and damages in any order: a writer works or is told why not, and no process serves a byte that is wrong."""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from hotpath.errors import HotpathError
from hotpath.ops.status import lines as status_lines
from hotpath.ops.status import status
from hotpath.store.prune import prune
from hotpath.store.quarantine import approve
from hotpath.store.repair import repair
from hotpath.store.store import Store
from hotpath.store.verify import lines as verify_lines
from hotpath.store.verify import verify
from tests.store.crash.operations import NumberedDisk
from tests.store.crash.scenarios import CONTENTS, open_store, pages, publish, reading, reject
from tests.store.faults.sites import edit

GOOD = {key.encode("ascii"): {pages(content)[key] for content in CONTENTS} for key in pages(1)}

# How often each command comes.
COMMANDS: dict[str, tuple[int, Callable[[Store, random.Random], object]]] = {
    "publish": (8, lambda store, chance: publish(store, chance.choice(CONTENTS))),
    "repair": (4, lambda store, chance: repair(store)),
    "rollback": (2, lambda store, chance: store.rollback()),
    "unpin": (2, lambda store, chance: store.unpin()),
    "prune": (2, lambda store, chance: prune(store, chance.randint(1, 3))),
    "pin": (1, lambda store, chance: store.pin(chance.choice(store.sequences() or [1]))),
    "reject": (1, lambda store, chance: reject(store, chance.choice(CONTENTS))),
    "approve": (1, lambda store, chance: approve(store, chance.choice(store.quarantined() or [1]), "right")),
    "verify": (1, lambda store, chance: verify_lines(verify(store))),
    "status": (1, lambda store, chance: status_lines(status(store))),
}


def spoil(path: Path, chance: random.Random) -> None:
    """Do something to one file, directory or link of a store that no command of hotpath would do."""
    if path.is_symlink() or not (path.is_dir() or path.is_file()):
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)
        if chance.random() < 0.3:
            path.write_text("in the way")
    else:
        data = path.read_bytes()
        path.unlink()  # another name of the same bytes stays as it was
        flipped = bytes([data[0] ^ 1 << chance.randrange(8)]) + data[1:] if data else b"?"
        chance.choice(
            (
                lambda: None,
                lambda: edit(path, data[: chance.randrange(len(data) + 1)]),
                lambda: edit(path, chance.choice((flipped, flipped[::-1]))),
                path.mkdir,
                lambda: path.symlink_to(chance.choice(("/etc/passwd", "nowhere", ".."))),
                lambda: os.mkfifo(path),
            )
        )()


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "steps"), [(1, 150), *((seed, 1500) for seed in (2, 3))])
def test_commands_and_damages_in_any_order(
    tmp_path: Path, seed: int, steps: int, record_property: Callable[[str, object], None]
) -> None:
    chance = random.Random(seed)
    ended: Counter[tuple[str, bool]] = Counter()
    names, weights = [*COMMANDS], [weight for weight, _ in COMMANDS.values()]
    for step in range(steps):
        store = open_store(tmp_path / "hot", chance.choice((1, 2, 3)), NumberedDisk(base=tmp_path))
        paths = sorted(store.root.rglob("*"))
        if paths and chance.random() < 0.3:
            spoil(chance.choice(paths), chance)
        if chance.random() < 0.02:
            shutil.rmtree(store.root, ignore_errors=True)
        (name,) = chance.choices(names, weights)
        try:
            COMMANDS[name][1](store, chance)
            ended[name, True] += 1
        except HotpathError as error:
            if str(tmp_path) not in str(error):
                raise AssertionError(f"step {step}, {name}: it names no path") from error
            ended[name, False] += 1
        with reading(store) as reader:
            for key in reader.loader.keys:
                page = reader.load_page(key)
                assert page is None or page.bodies["identity"] in GOOD[key], f"step {step}, {name}"
    record_property("cases", steps)
    print(dict(ended))
    assert ended["publish", True] > steps / 10
    assert ended["repair", True]
