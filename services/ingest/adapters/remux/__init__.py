"""Sources that are no playlist by nature, made into one: files and pushed streams, through FFmpeg behind a relay."""
