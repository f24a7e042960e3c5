"""The order of I/O around the decisions of `domain`, one module for each use case."""
