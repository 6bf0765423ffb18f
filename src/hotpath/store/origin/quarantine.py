"""Generations that failed validation, at the origin: there for any machine to approve, and never followed."""

from __future__ import annotations

from hotpath.errors import StoreError
from hotpath.store.origin.bucket import Bucket
from hotpath.store.origin.send import Sender
from hotpath.store.store import Store

QUARANTINE = "quarantine/"


def quarantine_key(sequence: int) -> str:
    """The manifest of a generation in quarantine."""
    return f"{QUARANTINE}{sequence:08d}.json"


def report_key(sequence: int) -> str:
    """Why it is there."""
    return f"{QUARANTINE}{sequence:08d}.report.json"


def send_quarantined(bucket: Bucket, store: Store, sequence: int) -> None:
    """Send a generation that is in quarantine on this machine, so that any machine can approve it."""
    directory = store.quarantine_path / str(sequence)
    if sequence not in store.quarantined():
        raise StoreError(f"generation {sequence} is not in quarantine", path=store.quarantine_path)
    sender = Sender(bucket, store, directory)
    sender.send_blobs(bucket.read())
    bucket.objects.put(report_key(sequence), store.disk.read(directory / "report.json"))
    # The last: what is there to be approved is whole. Another machine's with the same number gives way to the newer.
    bucket.objects.put(quarantine_key(sequence), sender.data)


def quarantined(bucket: Bucket) -> list[int]:
    """The numbers that can be approved, oldest first: nothing newer was accepted since."""
    newest = bucket.read().state.newest
    names = [entry.key.removeprefix(QUARANTINE).removesuffix(".json") for entry in bucket.objects.list(QUARANTINE)]
    return sorted(int(name) for name in names if name.isascii() and name.isdigit() and int(name) > newest)
