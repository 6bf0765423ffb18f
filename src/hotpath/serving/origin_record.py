"""What this machine's follower saw last of the origin, whichever process that is."""

from __future__ import annotations

from hotpath.site import Hotpath
from hotpath.store.follow_record import FollowRecord, read_record


def origin_record(hot: Hotpath) -> FollowRecord | None:
    """The record in the store; ``None`` where nothing follows."""
    return read_record(hot.store)
