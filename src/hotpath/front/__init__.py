"""The front: hot pages answered from the bytes of a connection, before or without the app."""
