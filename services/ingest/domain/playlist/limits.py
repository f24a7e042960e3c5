"""How much of a playlist is read, whoever sends it."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PlaylistLimits:
    """Caps on hostile or runaway playlists.

    `entries` bounds how many segments (or variants) one parse returns; what lies beyond is not lost but left
    for the next parse (`MediaPlaylist.truncated`).
    """

    entries: int = 10_000
    size_characters: int = 4 * 1024 * 1024
    lines: int = 250_000
