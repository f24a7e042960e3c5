"""HLS playlists: text in, frozen values out, tolerant per line and strict on what is no playlist at all.

Fetching, choosing when to reload and judging what changed between two reloads live elsewhere.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Final
from urllib.parse import urljoin, urlsplit

from ingest.domain.cues import Cue, read_cue_continued, read_cue_in, read_cue_out, read_splice_cue
from shared.errors import PermanentError, RetryableError

MICROSECONDS: Final = 1_000_000
_LONGEST_SEGMENT_S: Final = 86_400.0
_LONGEST_TARGET_S: Final = 3_600.0
_FALLBACK_TARGET_S: Final = 6.0  # the target duration that Apple's authoring specification recommends
_KEPT_FAULTS: Final = 20
_KEPT_DATE_RANGES: Final = 1_000
_KEPT_CUES: Final = 8
_WORTH_SKIPPING: Final = 16_384  # characters; a shorter list is read whole each time
_ANCHOR_CHARACTERS: Final = 400
_PLAUSIBLE_YEARS: Final = range(1990, 2200)
_AUDIO_CODECS: Final = ("mp4a", "ac-3", "ec-3", "opus", "flac", "mp3")
_PLAIN_RELATIVE_URI: Final = re.compile(r"(?!\.)[\w.-]+(?:/(?!\.)[\w.-]+)*", re.ASCII)
# A name begins where no name goes on, and is not given back: else a long line costs the square of its length.
_ATTRIBUTE: Final = re.compile(r'(?<![A-Z0-9-])([A-Z0-9-]++)\s*+=\s*+("[^"]*"|[^,]*)\s*(?:,|$)')


class NotAPlaylist(RetryableError):
    """The body is no HLS playlist (an error page with status 200, a truncated head); the next may be one."""

    code = "not_a_playlist"


class PlaylistTooLarge(PermanentError):
    """The body is longer than any playlist that we follow."""

    code = "playlist_too_large"


class NoUsableVariant(PermanentError):
    """A multivariant playlist names no variant that we may fetch."""

    code = "no_usable_variant"


@dataclass(frozen=True, kw_only=True)
class PlaylistLimits:
    """Caps on hostile or runaway playlists.

    `entries` bounds how many segments (or variants) one parse returns; what lies beyond is not lost but left
    for the next parse (`MediaPlaylist.truncated`).
    """

    entries: int = 10_000
    size_characters: int = 4 * 1024 * 1024
    lines: int = 250_000


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


@dataclass(frozen=True, kw_only=True)
class MultivariantPlaylist:
    """The list of variants that a master playlist offers."""

    url: str
    variants: tuple[Variant, ...]
    renditions: tuple[Rendition, ...] = ()
    faults: tuple[str, ...] = ()


def parse_playlist(
    text: str, *, url: str, from_sequence: int = 0, limits: PlaylistLimits | None = None
) -> MediaPlaylist | MultivariantPlaylist:
    """Parse a body fetched from `url` (the final address after redirects, which relative URIs refer to).

    Segments below `from_sequence` are counted but not built, so that reading a long EVENT playlist again
    costs little; when the list ends below it (a reset), all are built. Raises NotAPlaylist or PlaylistTooLarge.
    """
    return PlaylistReader(limits=limits).read(text, url=url, from_sequence=from_sequence)


class PlaylistReader:
    """Reads the reloads of one list: in a long one, what an earlier reload proved is not even looked at again.

    It remembers one place (some hundred characters of text, and what holds there), so memory does not grow.
    """

    def __init__(self, *, limits: PlaylistLimits | None = None) -> None:
        self._limits = limits or PlaylistLimits()
        self._checkpoint: _Checkpoint | None = None

    def read(self, text: str, *, url: str, from_sequence: int = 0) -> MediaPlaylist | MultivariantPlaylist:
        """As `parse_playlist`, with the same errors."""
        _check_head(text, url=url, limits=self._limits)
        return self._resumed(text, url, from_sequence) or self._read_whole(text, url, from_sequence)

    def _read_whole(self, text: str, url: str, from_sequence: int) -> MediaPlaylist | MultivariantPlaylist:
        self._checkpoint = None
        if "#EXT-X-STREAM-INF:" in text:
            return _MultivariantReader(url, self._limits).read(text)
        if "#EXT-X-TARGETDURATION" not in text:
            raise NotAPlaylist(f"neither TARGETDURATION nor STREAM-INF in the playlist at {url}")
        reader = _MediaReader(url, self._limits, from_sequence)
        parsed = reader.read(text)
        if parsed.segments or not parsed.listed_count:
            self._checkpoint = reader.checkpoint
            return parsed
        return _MediaReader(url, self._limits, 0).read(text)

    def _resumed(self, text: str, url: str, from_sequence: int) -> MediaPlaylist | None:
        """The list from the checkpoint on, as far as it is still the same list up to there; else None."""
        known = self._checkpoint
        if known is None or known.url != url or known.sequence > from_sequence:
            return None
        head = _head_of(text)
        at = known.found_in(text, head)
        if at is None:
            return None
        reader = _MediaReader(url, self._limits, from_sequence)
        parsed = reader.read_from(known, text, head=head, at=at)
        if not parsed.segments:
            return None
        self._checkpoint = reader.checkpoint or replace(known, head=head, end=at)
        return parsed


def choose_variant(
    playlist: MultivariantPlaylist, *, target_height: int = 720, excluding: Collection[str] = ()
) -> Variant:
    """The best variant of at most `target_height` lines, else the nearest above it.

    Variants without a resolution count only when none has one: then the best by bandwidth. Names in
    `excluding` (those that failed) are passed over. Raises NoUsableVariant.
    """
    usable = [v for v in playlist.variants if not v.location.refusal and v.name not in excluding]
    if not usable:
        raise NoUsableVariant(f"no variant of {playlist.url} may be fetched")
    seen = [v for v in usable if v.has_video] or usable
    sized = [v for v in seen if v.lines > 0]
    if not sized:
        return max(seen, key=lambda v: v.bandwidth)
    fitting = [v for v in sized if v.lines <= target_height]
    if fitting:
        return max(fitting, key=lambda v: (v.lines, v.bandwidth))
    return min(sized, key=lambda v: (v.lines, -v.bandwidth))


def resolve(uri: str, *, base_url: str) -> Location:
    """The address that `uri` means inside the playlist at `base_url`; anything but http(s) is refused."""
    try:
        url = urljoin(base_url, uri.strip())
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return Location(url=uri, refusal="unreadable address")
    if parts.scheme not in ("http", "https"):
        return Location(url=url, refusal=f"scheme {parts.scheme or 'missing'} is not allowed")
    if not parts.hostname:
        return Location(url=url, refusal="address without a host")
    return Location(url=url)


def parse_date_time(value: str) -> datetime | None:
    """PROGRAM-DATE-TIME as aware UTC; no zone means UTC; None when unreadable or implausible."""
    try:
        parsed = datetime.fromisoformat(value.strip().upper())
        aware = parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return aware if aware.year in _PLAUSIBLE_YEARS else None


def parse_attributes(value: str) -> dict[str, str]:
    """An attribute list (`A=1,B="x,y"`) as a dict, quotes removed; unreadable parts are left out."""
    return {name: raw.strip().strip('"') for name, raw in _ATTRIBUTE.findall(value)}


def _identity(location: Location, byte_range: ByteRange | None) -> str:
    return f"{location.path}@{byte_range.offset}" if byte_range else location.path


def _check_head(text: str, *, url: str, limits: PlaylistLimits) -> None:
    if len(text) > limits.size_characters:
        raise PlaylistTooLarge(
            f"playlist at {url} has {len(text)} characters, more than {limits.size_characters}"
        )
    if text.count("\n") > limits.lines:
        raise PlaylistTooLarge(f"playlist at {url} has more than {limits.lines} lines")
    if not text[:4096].lstrip("\ufeff \t\r\n").startswith("#EXTM3U"):
        raise NotAPlaylist(f"body at {url} does not begin with #EXTM3U")


def _head_of(text: str) -> str:
    """All before the first segment."""
    end = text.find("#EXTINF")
    return text if end < 0 else text[:end]


def _whole(value: str, fallback: int) -> int:
    digits = value.strip()
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 19 else fallback


def _seconds_us(value: str, *, longest_s: float) -> int | None:
    try:
        seconds = float(value.strip())
    except ValueError:
        return None
    return round(seconds * MICROSECONDS) if isfinite(seconds) and 0 < seconds <= longest_s else None


class _Resolver:
    """Resolves against one base; plain relative names, nearly all there are, take a short way."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        plain = base_url.split("#", 1)[0].split("?", 1)[0]
        self._folder = plain.rpartition("/")[0] + "/" if urlsplit(plain).path else ""

    def __call__(self, uri: str) -> Location:
        if self._folder.startswith(("http://", "https://")) and _PLAIN_RELATIVE_URI.fullmatch(uri):
            return Location(url=self._folder + uri)
        return resolve(uri, base_url=self._base_url)


class _Faults:
    """Remembers the first few tolerated faults, for log and metric."""

    def __init__(self) -> None:
        self.kept: list[str] = []

    def add(self, line: str, reason: str) -> None:
        if len(self.kept) < _KEPT_FAULTS:
            self.kept.append(f"{reason}: {line[:80]}")


@dataclass
class _Pending:
    """Tags read since the last URI, which describe the next segment."""

    duration_us: int = 0
    discontinuity: bool = False
    gap: bool = False
    byte_range: str = ""
    cues: list[Cue] = field(default_factory=list)


@dataclass
class _Carried:
    """What outlives a segment: key, init section, clock, byte offset, discontinuity counter."""

    key: EncryptionKey | None = None
    init: InitSection | None = None
    wall_at: datetime | None = None
    range_end: dict[str, int] = field(default_factory=dict)
    discontinuities: int = 0


@dataclass(frozen=True)
class _Checkpoint:
    """A place between two segments of a long list: `text[:end]` holds all below `sequence`."""

    url: str
    sequence: int
    head: str
    anchor: str
    end: int
    carried: _Carried
    discontinuity_sequence: int

    def found_in(self, text: str, head: str) -> int | None:
        """Where the place is in a reload; None when the list below it may be another one.

        A list that only grew has it where it was. One whose window moved on has it further ahead, and as many
        segments before it as the numbers say.
        """
        if "#EXT-X-SKIP" in head:
            return None
        if head == self.head:
            return self.end if text.startswith(self.anchor, self.end - len(self.anchor)) else None
        first = _media_sequence_of(head)
        if first <= _media_sequence_of(self.head) or first >= self.sequence:
            return None
        start = text.rfind(self.anchor)
        end = start + len(self.anchor)
        is_same = start >= 0 and text.count("\n#EXTINF", len(head) - 1, end) == self.sequence - first
        return end if is_same else None


def _media_sequence_of(head: str) -> int:
    _, _, rest = head.partition("#EXT-X-MEDIA-SEQUENCE:")
    return _whole(rest.partition("\n")[0], 0)


class _MediaReader:
    """Reads the lines of one media playlist; one small method per tag, chosen by a table."""

    def __init__(self, url: str, limits: PlaylistLimits, from_sequence: int) -> None:
        self._url = url
        self._limits = limits
        self._from_sequence = from_sequence
        self._resolve = _Resolver(url)
        self._faults = _Faults()
        self._pending = _Pending()
        self._carried = _Carried()
        self._target_us = 0
        self._media_sequence = 0
        self._discontinuity_base: int | None = None
        self._listed = 0
        self._segments: list[Segment] = []
        self._date_ranges: list[str] = []
        self._kind = ""
        self._endlist = self._skipped = self._truncated = self._blocks_reload = False
        self.checkpoint: _Checkpoint | None = None

    def read(self, text: str) -> MediaPlaylist:
        lines = text.lstrip("\ufeff").split("\n")
        self._read_head(lines)
        self._read_lines(lines, text=text, at=len(text) - len(text.lstrip("\ufeff")))
        return self._result()

    def read_from(self, known: _Checkpoint, text: str, *, head: str, at: int) -> MediaPlaylist:
        """The head, then what stands behind the checkpoint, and the date ranges between the two."""
        lines = head.split("\n")
        self._read_head(lines)
        self._read_lines(lines, text="", at=0)
        self._pending = _Pending()
        base = self._discontinuity_base or 0
        self._carried = replace(
            known.carried,
            range_end=dict(known.carried.range_end),
            discontinuities=known.discontinuity_sequence - base,
        )
        self._listed = known.sequence - self._media_sequence
        if head != known.head:
            self._find_date_ranges(text, start=len(head), end=at)
        self._read_lines(text[at:].split("\n"), text=text, at=at)
        return self._result()

    def _read_lines(self, lines: list[str], *, text: str, at: int) -> None:
        """`at` is where the lines begin in `text`, for the checkpoint; without a text there will be none."""
        for raw in lines:
            line = raw.strip()
            at += len(raw) + 1
            if not line:
                continue
            if line[0] != "#":
                self._add_segment(line)
                if text and self._media_sequence + self._listed == self._from_sequence:
                    self._note_checkpoint(text, end=at)
                continue
            tag, _, value = line.partition(":")
            reader = _MEDIA_TAGS.get(tag)
            if reader is not None:
                reader(self, value)

    def _note_checkpoint(self, text: str, *, end: int) -> None:
        """Right before the first segment that was asked for."""
        if len(text) < _WORTH_SKIPPING or end > len(text):
            return
        last_line = end - 1 - text.rfind("\n", 0, end - 1)
        carried = replace(self._carried, range_end=dict(self._carried.range_end))
        self.checkpoint = _Checkpoint(
            url=self._url,
            sequence=self._from_sequence,
            head=_head_of(text),
            anchor=text[max(0, end - last_line - _ANCHOR_CHARACTERS) : end],
            end=end,
            carried=carried,
            discontinuity_sequence=(self._discontinuity_base or 0) + carried.discontinuities,
        )

    def _find_date_ranges(self, text: str, *, start: int, end: int) -> None:
        tag = "\n#EXT-X-DATERANGE:"
        at = text.find(tag, start, end)
        while at >= 0:
            stop = text.find("\n", at + 1)
            self._read_date_range(text[at + len(tag) : stop].strip())
            at = text.find(tag, stop, end)

    def _read_head(self, lines: list[str]) -> None:
        """Sequence and target first: they count for every segment, wherever the server put the tags."""
        for raw in lines:
            line = raw.strip()
            if line.startswith("#EXT-X-TARGETDURATION"):
                self._read_target(line.partition(":")[2])
            elif line.startswith("#EXT-X-MEDIA-SEQUENCE:"):
                self._media_sequence = _whole(line.partition(":")[2], 0)
            elif line.startswith("#EXTINF"):
                return

    def _read_target(self, value: str) -> None:
        if self._target_us:
            return
        read_us = _seconds_us(value, longest_s=_LONGEST_TARGET_S)
        if read_us is None:
            self._faults.add(value, "unreadable TARGETDURATION")
        self._target_us = read_us or 0

    def _read_discontinuity_sequence(self, value: str) -> None:
        self._discontinuity_base = _whole(value, 0)

    def _read_duration(self, value: str) -> None:
        read_us = _seconds_us(value.partition(",")[0], longest_s=_LONGEST_SEGMENT_S)
        if read_us is None:
            self._faults.add(value, "unreadable EXTINF")
        self._pending.duration_us = read_us or 0

    def _read_discontinuity(self, _: str) -> None:
        self._pending.discontinuity = True
        self._carried.discontinuities += 1
        self._carried.wall_at = None

    def _read_date_time(self, value: str) -> None:
        read = parse_date_time(value)
        if read is None:
            self._faults.add(value, "unreadable PROGRAM-DATE-TIME")
            return
        self._carried.wall_at = read

    def _read_gap(self, _: str) -> None:
        self._pending.gap = True

    def _read_cue_out(self, value: str) -> None:
        self._add_cue(read_cue_out(value))

    def _read_cue_continued(self, value: str) -> None:
        self._add_cue(read_cue_continued(value))

    def _read_cue_in(self, value: str) -> None:
        self._add_cue(read_cue_in(value))

    def _read_splice(self, value: str) -> None:
        cue = read_splice_cue(value)
        if cue is not None:
            self._add_cue(cue)

    def _add_cue(self, cue: Cue) -> None:
        if len(self._pending.cues) < _KEPT_CUES:
            self._pending.cues.append(cue)

    def _read_server_control(self, value: str) -> None:
        self._blocks_reload = parse_attributes(value).get("CAN-BLOCK-RELOAD", "").upper() == "YES"

    def _read_byte_range(self, value: str) -> None:
        self._pending.byte_range = value

    def _read_key(self, value: str) -> None:
        attributes = parse_attributes(value)
        method = attributes.get("METHOD", "").upper()
        self._carried.key = None if method == "NONE" else self._key(method, attributes)

    def _key(self, method: str, attributes: dict[str, str]) -> EncryptionKey:
        form = attributes.get("KEYFORMAT", "identity")
        supported = method == "AES-128" and form == "identity"
        return EncryptionKey(
            method=method,
            location=self._resolve(attributes.get("URI", "")) if supported else Location(url=""),
            iv=self._iv(attributes.get("IV", "")),
            unsupported="" if supported else f"{method or 'no method'} ({form})",
        )

    def _iv(self, value: str) -> bytes | None:
        if not value:
            return None
        try:
            number = int(value, 16)
            return number.to_bytes(16, "big")
        except (ValueError, OverflowError):
            self._faults.add(value, "unreadable IV")
            return None

    def _read_map(self, value: str) -> None:
        attributes = parse_attributes(value)
        if not attributes.get("URI"):
            self._faults.add(value, "EXT-X-MAP without URI")
            return
        location = self._resolve(attributes["URI"])
        ranged = self._range(attributes.get("BYTERANGE", ""), location.url, carry=False)
        self._carried.init = InitSection(location=location, byte_range=ranged)

    def _read_date_range(self, value: str) -> None:
        if len(self._date_ranges) < _KEPT_DATE_RANGES:
            self._date_ranges.append(value)

    def _read_kind(self, value: str) -> None:
        self._kind = value.strip().upper()

    def _read_skip(self, value: str) -> None:
        self._skipped = True
        self._listed += _whole(parse_attributes(value).get("SKIPPED-SEGMENTS", ""), 0)

    def _read_endlist(self, _: str) -> None:
        self._endlist = True

    def _range(self, value: str, url: str, *, carry: bool) -> ByteRange | None:
        if not value:
            return None
        length_text, has_offset, offset_text = value.partition("@")
        length = _whole(length_text, 0)
        if not length:
            self._faults.add(value, "unreadable BYTERANGE")
            return None
        start = self._carried.range_end.get(url, 0)
        offset = _whole(offset_text, start) if has_offset else start
        if carry:
            self._carried.range_end = {url: offset + length}
        return ByteRange(offset=offset, length=length)

    def _add_segment(self, uri: str) -> None:
        pending, self._pending = self._pending, _Pending()
        sequence = self._media_sequence + self._listed
        duration_us = pending.duration_us or self._target_us or round(_FALLBACK_TARGET_S * MICROSECONDS)
        wall_at = self._carried.wall_at
        self._listed += 1
        if wall_at is not None:
            self._carried.wall_at = wall_at + timedelta(microseconds=duration_us)
        if len(self._segments) >= self._limits.entries:
            self._truncated = True
            return
        if sequence >= self._from_sequence or pending.byte_range:
            built = self._segment(uri, pending, sequence=sequence, duration_us=duration_us, wall_at=wall_at)
            if sequence >= self._from_sequence:
                self._segments.append(built)

    def _segment(
        self, uri: str, pending: _Pending, *, sequence: int, duration_us: int, wall_at: datetime | None
    ) -> Segment:
        location = self._resolve(uri)
        return Segment(
            sequence=sequence,
            location=location,
            duration_us=duration_us,
            discontinuity=pending.discontinuity,
            discontinuity_sequence=(self._discontinuity_base or 0) + self._carried.discontinuities,
            wall_at=wall_at,
            key=self._carried.key,
            init=self._carried.init,
            byte_range=self._range(pending.byte_range, location.url, carry=True),
            gap=pending.gap,
            cues=tuple(pending.cues),
        )

    def _result(self) -> MediaPlaylist:
        longest_us = max((segment.duration_us for segment in self._segments), default=0)
        return MediaPlaylist(
            url=self._url,
            target_us=self._target_us or longest_us or round(_FALLBACK_TARGET_S * MICROSECONDS),
            media_sequence=self._media_sequence,
            listed_count=self._listed,
            segments=tuple(self._segments),
            has_discontinuity_sequence=self._discontinuity_base is not None,
            ended=self._endlist and not self._truncated,
            truncated=self._truncated,
            kind=self._kind,
            skipped=self._skipped,
            date_ranges=tuple(self._date_ranges),
            faults=tuple(self._faults.kept),
            blocks_reload=self._blocks_reload,
        )


# PART, PRELOAD-HINT and other low-latency tags are absent on purpose: we take whole segments only.
_MEDIA_TAGS: Final[dict[str, Callable[[_MediaReader, str], None]]] = {
    "#EXTINF": _MediaReader._read_duration,
    "#EXT-X-DISCONTINUITY": _MediaReader._read_discontinuity,
    "#EXT-X-DISCONTINUITY-SEQUENCE": _MediaReader._read_discontinuity_sequence,
    "#EXT-X-PROGRAM-DATE-TIME": _MediaReader._read_date_time,
    "#EXT-X-GAP": _MediaReader._read_gap,
    "#EXT-X-BYTERANGE": _MediaReader._read_byte_range,
    "#EXT-X-KEY": _MediaReader._read_key,
    "#EXT-X-MAP": _MediaReader._read_map,
    "#EXT-X-DATERANGE": _MediaReader._read_date_range,
    "#EXT-X-PLAYLIST-TYPE": _MediaReader._read_kind,
    "#EXT-X-SKIP": _MediaReader._read_skip,
    "#EXT-X-ENDLIST": _MediaReader._read_endlist,
    "#EXT-X-CUE-OUT": _MediaReader._read_cue_out,
    "#EXT-X-CUE-OUT-CONT": _MediaReader._read_cue_continued,
    "#EXT-X-CUE-IN": _MediaReader._read_cue_in,
    "#EXT-OATCLS-SCTE35": _MediaReader._read_splice,
    "#EXT-X-SERVER-CONTROL": _MediaReader._read_server_control,
}


class _MultivariantReader:
    """Reads the lines of one multivariant playlist."""

    def __init__(self, url: str, limits: PlaylistLimits) -> None:
        self._url = url
        self._limits = limits
        self._resolve = _Resolver(url)
        self._faults = _Faults()
        self._described: Variant | None = None
        self._variants: list[Variant] = []
        self._renditions: list[Rendition] = []
        self._spares: Counter[str] = Counter()

    def read(self, text: str) -> MultivariantPlaylist:
        for raw in text.lstrip("\ufeff").split("\n"):
            line = raw.strip()
            if line.startswith("#EXT-X-STREAM-INF:"):
                self._described = _described_variant(parse_attributes(line.partition(":")[2]))
            elif line.startswith("#EXT-X-MEDIA:"):
                self._add_rendition(parse_attributes(line.partition(":")[2]))
            elif line and line[0] != "#":
                self._add_variant(line)
        if not self._variants:
            raise NotAPlaylist(f"multivariant playlist at {self._url} names no variant")
        return MultivariantPlaylist(
            url=self._url,
            variants=tuple(self._variants),
            renditions=tuple(self._renditions),
            faults=tuple(self._faults.kept),
        )

    def _add_variant(self, uri: str) -> None:
        described, self._described = self._described, None
        if described is None or len(self._variants) >= self._limits.entries:
            self._faults.add(uri, "address without STREAM-INF or beyond the cap")
            return
        spare, self._spares[described.name] = self._spares[described.name], self._spares[described.name] + 1
        self._variants.append(replace(described, location=self._resolve(uri), ordinal=spare))

    def _add_rendition(self, attributes: dict[str, str]) -> None:
        if len(self._renditions) >= self._limits.entries:
            return
        uri = attributes.get("URI", "")
        rendition = Rendition(
            kind=attributes.get("TYPE", ""),
            group=attributes.get("GROUP-ID", ""),
            name=attributes.get("NAME", ""),
            location=self._resolve(uri) if uri else None,
            language=attributes.get("LANGUAGE", ""),
            default=attributes.get("DEFAULT", "").upper() == "YES",
        )
        self._renditions.append(rendition)


def _described_variant(attributes: dict[str, str]) -> Variant:
    width, _, height = attributes.get("RESOLUTION", "").lower().partition("x")
    return Variant(
        location=Location(url="", refusal="no address"),
        bandwidth=_whole(attributes.get("BANDWIDTH", ""), 0),
        width=_whole(width, 0),
        height=_whole(height, 0),
        codecs=attributes.get("CODECS", ""),
        audio_group=attributes.get("AUDIO", ""),
        subtitles_group=attributes.get("SUBTITLES", ""),
    )
