"""What grows without a bound: in code that is only read (``hotpath audit``), and in this process while it runs."""

from hotpath.audit.live import Grown, Reading, growth

__all__ = ["Grown", "Reading", "growth"]
