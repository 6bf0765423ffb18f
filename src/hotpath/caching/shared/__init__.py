"""Cached values that all processes and machines share, in Valkey or Redis."""
