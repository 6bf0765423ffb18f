"""A shared cache whose purpose is the hour when the app fails (RFC 9111, RFC 5861)."""
