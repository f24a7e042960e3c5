"""Ingest: follows the playlists of streams, archives their segments, and tells of windows and gaps."""
