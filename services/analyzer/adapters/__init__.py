"""The outside things of the analyzer, one per file."""
