"""Tell the caches at the edge which of their copies are no longer right."""
