"""Generations on disk: written whole, published by one pointer, never changed."""

from hotpath.store.store import Store

__all__ = ["Store"]
