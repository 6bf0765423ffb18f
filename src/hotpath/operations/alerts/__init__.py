"""Tell people that a batch failed, still fails, or works again, by whatever way they have configured."""
