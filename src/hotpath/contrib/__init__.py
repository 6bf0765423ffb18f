"""Integrations with web frameworks that have ways of their own."""
