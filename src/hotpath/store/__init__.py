"""Generations on disk: written whole, published by one pointer, never changed."""

from hotpath.store.disk import Disk
from hotpath.store.store import Store

__all__ = ["Disk", "Store"]
