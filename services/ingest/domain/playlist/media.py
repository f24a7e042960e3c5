"""The lines of a media playlist into segments: tolerant per line, one small method per tag.

Which part of a reload has to be read at all is decided in `reader`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from ingest.domain.cues import Cue, read_cue_continued, read_cue_in, read_cue_out, read_splice_cue
from ingest.domain.playlist.addresses import Resolver
from ingest.domain.playlist.attributes import (
    Faults,
    parse_attributes,
    parse_date_time,
    seconds_us,
    whole_number,
)
from ingest.domain.playlist.checkpoint import Carried, Checkpoint, head_of
from ingest.domain.playlist.limits import PlaylistLimits
from ingest.domain.playlist.values import (
    MICROSECONDS,
    ByteRange,
    EncryptionKey,
    InitSection,
    Location,
    MediaPlaylist,
    Segment,
)

_LONGEST_SEGMENT_S: Final = 86_400.0
_LONGEST_TARGET_S: Final = 3_600.0
_FALLBACK_TARGET_S: Final = 6.0  # the target duration that Apple's authoring specification recommends
_KEPT_DATE_RANGES: Final = 1_000
_KEPT_CUES: Final = 8
_WORTH_SKIPPING: Final = 16_384  # characters; a shorter list is read whole each time
_ANCHOR_CHARACTERS: Final = 400


@dataclass
class _Pending:
    """Tags read since the last URI, which describe the next segment."""

    duration_us: int = 0
    discontinuity: bool = False
    gap: bool = False
    byte_range: str = ""
    cues: list[Cue] = field(default_factory=list)


class MediaReader:
    """Reads the lines of one media playlist; one small method per tag, chosen by a table."""

    def __init__(self, url: str, limits: PlaylistLimits, from_sequence: int) -> None:
        self._url = url
        self._limits = limits
        self._from_sequence = from_sequence
        self._resolve = Resolver(url)
        self._faults = Faults()
        self._pending = _Pending()
        self._carried = Carried()
        self._target_us = 0
        self._media_sequence = 0
        self._discontinuity_base: int | None = None
        self._listed = 0
        self._segments: list[Segment] = []
        self._date_ranges: list[str] = []
        self._kind = ""
        self._endlist = self._skipped = self._truncated = self._blocks_reload = False
        self.checkpoint: Checkpoint | None = None

    def read(self, text: str) -> MediaPlaylist:
        lines = text.lstrip("\ufeff").split("\n")
        self._read_head(lines)
        self._read_lines(lines, text=text, at=len(text) - len(text.lstrip("\ufeff")))
        return self._result()

    def read_from(self, known: Checkpoint, text: str, *, head: str, at: int) -> MediaPlaylist:
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
        self.checkpoint = Checkpoint(
            url=self._url,
            sequence=self._from_sequence,
            head=head_of(text),
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
                self._media_sequence = whole_number(line.partition(":")[2], 0)
            elif line.startswith("#EXTINF"):
                return

    def _read_target(self, value: str) -> None:
        if self._target_us:
            return
        read_us = seconds_us(value, longest_s=_LONGEST_TARGET_S)
        if read_us is None:
            self._faults.add(value, "unreadable TARGETDURATION")
        self._target_us = read_us or 0

    def _read_discontinuity_sequence(self, value: str) -> None:
        self._discontinuity_base = whole_number(value, 0)

    def _read_duration(self, value: str) -> None:
        read_us = seconds_us(value.partition(",")[0], longest_s=_LONGEST_SEGMENT_S)
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
        self._listed += whole_number(parse_attributes(value).get("SKIPPED-SEGMENTS", ""), 0)

    def _read_endlist(self, _: str) -> None:
        self._endlist = True

    def _range(self, value: str, url: str, *, carry: bool) -> ByteRange | None:
        if not value:
            return None
        length_text, has_offset, offset_text = value.partition("@")
        length = whole_number(length_text, 0)
        if not length:
            self._faults.add(value, "unreadable BYTERANGE")
            return None
        start = self._carried.range_end.get(url, 0)
        offset = whole_number(offset_text, start) if has_offset else start
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
_MEDIA_TAGS: Final[dict[str, Callable[[MediaReader, str], None]]] = {
    "#EXTINF": MediaReader._read_duration,
    "#EXT-X-DISCONTINUITY": MediaReader._read_discontinuity,
    "#EXT-X-DISCONTINUITY-SEQUENCE": MediaReader._read_discontinuity_sequence,
    "#EXT-X-PROGRAM-DATE-TIME": MediaReader._read_date_time,
    "#EXT-X-GAP": MediaReader._read_gap,
    "#EXT-X-BYTERANGE": MediaReader._read_byte_range,
    "#EXT-X-KEY": MediaReader._read_key,
    "#EXT-X-MAP": MediaReader._read_map,
    "#EXT-X-DATERANGE": MediaReader._read_date_range,
    "#EXT-X-PLAYLIST-TYPE": MediaReader._read_kind,
    "#EXT-X-SKIP": MediaReader._read_skip,
    "#EXT-X-ENDLIST": MediaReader._read_endlist,
    "#EXT-X-CUE-OUT": MediaReader._read_cue_out,
    "#EXT-X-CUE-OUT-CONT": MediaReader._read_cue_continued,
    "#EXT-X-CUE-IN": MediaReader._read_cue_in,
    "#EXT-OATCLS-SCTE35": MediaReader._read_splice,
    "#EXT-X-SERVER-CONTROL": MediaReader._read_server_control,
}
