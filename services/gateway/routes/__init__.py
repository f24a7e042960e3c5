"""The HTTP face: each module turns requests into calls of one use case; nothing is decided here."""
