"""From bytes on disk to an answer; knows no server."""

from hotpath.serving.reader import Reader, reader_of
from hotpath.serving.snapshot import Snapshot

__all__ = ["Reader", "Snapshot", "reader_of"]
