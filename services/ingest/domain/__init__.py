"""Pure rules of ingest: playlists, tracking, media time, analysis windows. No I/O, clock or randomness."""
