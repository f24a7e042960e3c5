"""What a playlist says, as frozen values: addresses, keys, segments, variants. No text is read here."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

from ingest.domain.cues import Cue

MICROSECONDS: Final = 1_000_000
_AUDIO_CODECS: Final = ("mp4a", "ac-3", "ec-3", "opus", "flac", "mp3")


@dataclass(frozen=True, kw_only=True)
class Location:
    """A resolved address; `refusal` says why it must not be fetched and is empty when it may."""

    url: str
    refusal: str = ""

    @property
    def path(self) -> str:
        """Path without host and query, which change with edges and tokens while the resource does not."""
        return urlsplit(self.url).path if not self.refusal else self.url


@dataclass(frozen=True, kw_only=True)
class ByteRange:
    """`length` bytes from `offset` of a resource."""

    offset: int
    length: int

    @property
    def header(self) -> str:
        """Value of an HTTP `Range` header."""
        return f"bytes={self.offset}-{self.offset + self.length - 1}"


@dataclass(frozen=True, kw_only=True)
class EncryptionKey:
    """How a segment is encrypted; `unsupported` names a method that we cannot decrypt and is else empty."""

    method: str
    location: Location
    iv: bytes | None = None
    unsupported: str = ""

    def iv_for(self, sequence: int) -> bytes:
        """The 16-byte IV: as given, else the media sequence number (RFC 8216 section 5.2)."""
        return self.iv if self.iv is not None else sequence.to_bytes(16, "big")


@dataclass(frozen=True, kw_only=True)
class InitSection:
    """`EXT-X-MAP`: what a decoder needs before the first segment (fMP4)."""

    location: Location
    byte_range: ByteRange | None = None

    @property
    def identity(self) -> str:
        """Same for the same bytes, whatever the host and query."""
        return _identity(self.location, self.byte_range)


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One media segment as a playlist lists it; `wall_at` is its PROGRAM-DATE-TIME, carried forward."""

    sequence: int
    location: Location
    duration_us: int
    discontinuity: bool = False
    discontinuity_sequence: int = 0
    wall_at: datetime | None = None
    key: EncryptionKey | None = None
    init: InitSection | None = None
    byte_range: ByteRange | None = None
    gap: bool = False
    cues: tuple[Cue, ...] = ()

    @property
    def identity(self) -> str:
        """Same for the same bytes of one epoch and sequence, whatever the host and query."""
        return _identity(self.location, self.byte_range)

    @property
    def refusal(self) -> str:
        """Why the segment, its key or its init section must not be fetched; empty when they may."""
        places = (self.location, self.key and self.key.location, self.init and self.init.location)
        return next((place.refusal for place in places if place and place.refusal), "")

    @property
    def unsupported(self) -> str:
        """Encryption that we cannot undo; empty when there is none."""
        return self.key.unsupported if self.key else ""


@dataclass(frozen=True, kw_only=True)
class MediaPlaylist:
    """A media playlist; `segments` may begin after `media_sequence` (what the caller knows was skipped).

    `ended` is ENDLIST with everything parsed; `truncated` says that entries beyond the cap were left out.
    `variant` and `has_other_variants` say which of several renditions it is; the text itself does not know.
    """

    url: str
    target_us: int
    media_sequence: int
    listed_count: int
    segments: tuple[Segment, ...]
    has_discontinuity_sequence: bool = False
    ended: bool = False
    truncated: bool = False
    kind: str = ""
    skipped: bool = False
    date_ranges: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    blocks_reload: bool = False
    variant: str = ""
    has_other_variants: bool = False

    @property
    def last_sequence(self) -> int:
        """Sequence of the newest parsed segment; one below `media_sequence` when there is none."""
        return self.segments[-1].sequence if self.segments else self.media_sequence - 1


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One rendition of the whole; width and height are 0 and codecs empty where the playlist says nothing."""

    location: Location
    bandwidth: int = 0
    width: int = 0
    height: int = 0
    codecs: str = ""
    audio_group: str = ""
    subtitles_group: str = ""
    ordinal: int = 0

    @property
    def name(self) -> str:
        """Same for the same rendition, whatever its address and token are by now; spares count from 0."""
        return f"{self.width}x{self.height}@{self.bandwidth}.{self.ordinal}"

    @property
    def lines(self) -> int:
        """The short side, so that a portrait 720x1280 counts as 720."""
        return min(self.width, self.height)

    @property
    def has_video(self) -> bool:
        """False only when the playlist says that there is none."""
        names = [name.strip() for name in self.codecs.split(",") if name.strip()]
        return self.height > 0 or not names or not all(name.startswith(_AUDIO_CODECS) for name in names)


@dataclass(frozen=True, kw_only=True)
class Rendition:
    """`EXT-X-MEDIA`: alternate audio, subtitles, captions; without a location it is muxed in."""

    kind: str
    group: str
    name: str
    location: Location | None = None
    language: str = ""
    default: bool = False
    autoselect: bool = False


@dataclass(frozen=True, kw_only=True)
class MultivariantPlaylist:
    """The list of variants that a master playlist offers."""

    url: str
    variants: tuple[Variant, ...]
    renditions: tuple[Rendition, ...] = ()
    faults: tuple[str, ...] = ()


def _identity(location: Location, byte_range: ByteRange | None) -> str:
    return f"{location.path}@{byte_range.offset}" if byte_range else location.path
