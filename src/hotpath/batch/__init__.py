"""Run what is declared, judge it, publish all of it or nothing."""

from hotpath.batch.run import Report, build
from hotpath.batch.sqlite import SqliteSnapshot, sqlite_snapshot

__all__ = ["Report", "SqliteSnapshot", "build", "sqlite_snapshot"]
