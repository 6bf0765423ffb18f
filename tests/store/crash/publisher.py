"""Publish generations as fast as a server takes them up, for test_swaps: ``python -m tests.store.crash.publisher``.

Takes the root of the store, the port of a server that serves it, and how many; prints a line of JSON for each
generation: its number, and for each key the digest of its body. The next one is published when the server answers with
this one, so that each is a swap.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import sys
import time

from hotpath.pages.policy import Policy
from hotpath.store.publish import staging
from hotpath.store.store import Store

KEYS = tuple(f"/page/{index}" for index in range(5))
POLICY = Policy("/page/{index}", "application/octet-stream", "no-cache", None, 3600)

# So long a server may take to see a new generation before it counts as stuck.
PATIENCE_SECONDS = 30.0


def body_of(key: str, generation: int) -> bytes:
    """A body that names its generation from the first byte to the last, of another length in each."""
    return f"{key} of generation {generation}\n".encode() * (20 + (generation * 7 + len(key)) % 60)


def publish(store: Store) -> tuple[int, dict[str, str]]:
    generation = store.next_sequence()
    with staging(store) as stage:
        for key in KEYS:
            stage.add(key, f"{key[1:]}.txt", body_of(key, generation), POLICY)
        assert stage.publish().generation == generation
    return generation, {key: hashlib.sha256(body_of(key, generation)).hexdigest() for key in KEYS}


def main(root: str, port: int, count: int) -> None:
    store = Store(root, keep=1)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    for _ in range(count):
        generation, digests = publish(store)
        print(json.dumps([generation, digests]), flush=True)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            connection.request("HEAD", KEYS[0])
            answer = connection.getresponse()
            answer.read()
            if answer.getheader("x-hotpath-generation") == str(generation):
                break
            assert time.monotonic() < deadline, f"the server does not see generation {generation}"
            # The server looks every few milliseconds; asking more often than that would only take its time.
            time.sleep(0.002)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
