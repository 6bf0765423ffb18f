"""Fixtures of the real S3 server and of the proxy in front of it."""

from __future__ import annotations

from tests.store.origin.engine import credentials, engine, start_engine
from tests.store.origin.proxy import start_proxy

__all__ = ["credentials", "engine", "start_engine", "start_proxy"]
