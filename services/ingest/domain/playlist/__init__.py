"""HLS playlists: text in, frozen values out, tolerant per line and strict on what is no playlist at all.

Each module imports only those named before it: `values`, `errors`, `limits`; `attributes`, `addresses`, `checkpoint`;
`media`, `multivariant`; `reader`. Fetching, choosing when to reload and judging what changed live elsewhere.
"""

from ingest.domain.playlist.addresses import resolve
from ingest.domain.playlist.attributes import parse_attributes, parse_date_time
from ingest.domain.playlist.errors import NotAPlaylist, NoUsableVariant, PlaylistTooLarge
from ingest.domain.playlist.limits import PlaylistLimits
from ingest.domain.playlist.multivariant import choose_variant
from ingest.domain.playlist.reader import PlaylistReader, parse_playlist
from ingest.domain.playlist.values import (
    MICROSECONDS,
    ByteRange,
    EncryptionKey,
    InitSection,
    Location,
    MediaPlaylist,
    MultivariantPlaylist,
    Rendition,
    Segment,
    Variant,
)

__all__ = [
    "MICROSECONDS",
    "ByteRange",
    "EncryptionKey",
    "InitSection",
    "Location",
    "MediaPlaylist",
    "MultivariantPlaylist",
    "NoUsableVariant",
    "NotAPlaylist",
    "PlaylistLimits",
    "PlaylistReader",
    "PlaylistTooLarge",
    "Rendition",
    "Segment",
    "Variant",
    "choose_variant",
    "parse_attributes",
    "parse_date_time",
    "parse_playlist",
    "resolve",
]
