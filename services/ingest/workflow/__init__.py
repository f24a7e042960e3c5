"""The order of I/O in ingest: taking streams on, following them, fetching, archiving, committing."""
