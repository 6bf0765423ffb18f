"""Run what is declared, check it, publish all of it or nothing."""

from hotpath.batch.limits import ItemLimits
from hotpath.batch.progress import Done, Progress
from hotpath.batch.run import Report, build
from hotpath.batch.sqlite import SqliteSnapshot, sqlite_snapshot

__all__ = ["Done", "ItemLimits", "Progress", "Report", "SqliteSnapshot", "build", "sqlite_snapshot"]
