"""Caches that cannot grow without a bound."""

from hotpath.caching.lru import LRUCache
from hotpath.caching.memoize import cached
from hotpath.caching.shared.valkey import Valkey
from hotpath.caching.ttl import TTLCache

__all__ = ["LRUCache", "TTLCache", "Valkey", "cached"]
