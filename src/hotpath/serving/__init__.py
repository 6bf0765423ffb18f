"""From bytes on disk to an answer; knows no server."""

from hotpath.serving.snapshot import Snapshot

__all__ = ["Snapshot"]
