"""The steps of a recovery, each of which can be killed and run again."""
