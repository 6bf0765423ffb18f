"""Generations by object storage, for several machines: one sends, all follow."""

from hotpath.store.origin.follower import Follower, Look
from hotpath.store.origin.machines import MachineReport
from hotpath.store.origin.objects import Entry, Object, Objects
from hotpath.store.origin.origin import Origin
from hotpath.store.origin.prune import OriginPruned
from hotpath.store.origin.send import SendProgress, Sent
from hotpath.store.origin.site_copy import Copied
from hotpath.store.origin.verify import OriginVerification

__all__ = [
    "Copied",
    "Entry",
    "Follower",
    "Look",
    "MachineReport",
    "Object",
    "Objects",
    "Origin",
    "OriginPruned",
    "OriginVerification",
    "SendProgress",
    "Sent",
]
