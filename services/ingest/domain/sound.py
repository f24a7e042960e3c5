"""Sound that lies in a list of its own: where its bodies are on the media's clock, and what belongs to a picture.

Values and decisions only; requests and FFmpeg live elsewhere.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import accumulate
from math import ceil
from typing import Final, Literal

from ingest.domain.fmp4 import BoxesMalformed, edit_shift_us, has_sound, read_fragment_clock
from ingest.domain.media_body import MediaBody, NotMedia, container_of
from ingest.domain.playlist import MediaPlaylist, MultivariantPlaylist, Rendition, Segment, Variant
from ingest.domain.timeline import clock_step_us
from ingest.domain.ts import is_transport_stream, last_sound, read_clock, read_sound_clock

Demuxer = Literal["mpegts", "mov", "aac", "ac3", "mp3"]
SoundName = tuple[int, str]
_MICROSECONDS: Final = 1_000_000
_CLOCK_HZ: Final = 90_000
_TICK_US: Final = 12  # of the 90 kHz clock, rounded up
_TOLERANCE_US: Final = 1_000
_CLOCKS_APART_US: Final = 10 * _MICROSECONDS
_SEAM_US: Final = 100_000
_ID3_HEADER_BYTES: Final = 10
_ID3_TIME: Final = b"com.apple.streaming.transportStreamTimestamp\x00"
_AAC_FRAME_SAMPLES: Final = 1024
_ADTS_HEADER_BYTES: Final = 7
_ADTS_RATES: Final = (
    96_000,
    88_200,
    64_000,
    48_000,
    44_100,
    32_000,
    24_000,
    22_050,
    16_000,
    12_000,
    11_025,
    8_000,
)


@dataclass(frozen=True, kw_only=True)
class SoundPiece:
    """A segment of sound, whole: `content` is what `demuxer` reads behind `init`.

    It is presented at `pts_us` less `edit_us`. `frame_us` is 0 where it is not known.
    """

    demuxer: Demuxer
    content: bytes
    init: bytes = b""
    pts_us: int | None
    duration_us: int
    frame_us: float = 0.0
    edit_us: int = 0
    wall_at: datetime | None = None

    @property
    def is_packed(self) -> bool:
        """Nothing in the frames themselves tells their time."""
        return self.demuxer not in ("mpegts", "mov")


@dataclass(frozen=True, kw_only=True)
class Span:
    """What a segment of pictures covers on the media's clock, and what its list says of it.

    It is presented at `start_us` less `edit_us`.
    """

    start_us: int
    length_us: int
    sequence: int
    edit_us: int = 0
    discontinuity_sequence: int = 0
    wall_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A piece and where it begins, counted from the start of the span."""

    piece: SoundPiece
    at_us: int

    @property
    def end_us(self) -> int:
        return self.at_us + self.piece.duration_us


@dataclass(frozen=True, kw_only=True)
class SoundPlan:
    """What is here of a span's sound, what to read next, and whether more can come.

    `has_lost`: some of it was given up. `is_whole`: nothing is missing, but where the list ends before the pictures
    do. `is_all`: what is missing will not be listed any more.
    """

    placed: tuple[Placed, ...] = ()
    wanted: tuple[Segment, ...] = ()
    has_lost: bool = False
    is_whole: bool = False
    is_all: bool = False


@dataclass(frozen=True, kw_only=True)
class SoundCut:
    """Sound as one file, and which of its frames belong to a span: those shown in [from_s, to_s) of its own time,
    counted from its first frame. `offset_us` is added to the times that `demuxer` reads."""

    demuxer: Demuxer
    content: bytes
    from_s: float
    to_s: float
    offset_us: int = 0


# -- which rendition -----------------------------------------------------------------------------------


def rendition_of(master: MultivariantPlaylist, variant: Variant) -> Rendition | None:
    """The rendition to be heard with a variant; None where the variant has its sound in itself."""
    group = [each for each in master.renditions if (each.kind, each.group) == ("AUDIO", variant.audio_group)]
    if not group or any(each.location is None for each in group):
        return None
    return max(group, key=lambda each: (not _refusal(each), each.default, each.autoselect))


def _refusal(rendition: Rendition) -> str:
    return rendition.location.refusal if rendition.location else ""


def carries_sound(body: bytes, media: MediaBody, *, init: bytes | None) -> bool:
    """Whether a segment of the variant has a track of sound, whatever the list of variants says."""
    if media.container == "mpegts":
        clock = read_clock(body)
        return clock is not None and clock.has_audio
    try:
        return has_sound(body if init is None else init)
    except BoxesMalformed:
        return False


def span_of(segment: Segment, media: MediaBody, *, init: bytes | None) -> Span:
    """Of a segment whose clock was read."""
    try:
        edit_us = edit_shift_us(init) if init is not None else 0
    except BoxesMalformed:
        edit_us = 0
    return Span(
        start_us=media.pts_us or 0,
        length_us=media.duration_us or segment.duration_us,
        sequence=segment.sequence,
        edit_us=edit_us,
        discontinuity_sequence=segment.discontinuity_sequence,
        wall_at=segment.wall_at,
    )


# -- what a body is ------------------------------------------------------------------------------------


def examine_sound(body: bytes, *, segment: Segment, init: bytes | None = None) -> SoundPiece:
    """Raises NotMedia, also where there is no sound in it."""
    if is_transport_stream(body):
        return _from_transport_stream(body, segment)
    content, time_us = _without_id3(body)
    demuxer = _packed(content)
    if demuxer is not None:
        return _from_frames(content, demuxer, segment, time_us=time_us)
    container_of(body)
    return _from_fragments(body, segment, init=init)


def _from_transport_stream(body: bytes, segment: Segment) -> SoundPiece:
    clock = read_sound_clock(body)
    if clock is None:
        raise NotMedia(f"no sound in a body of {len(body)} bytes")
    last_us, last = last_sound(body) or (clock.pts_us, b"")
    frames, frame_us = _frames(last)
    exact_us = clock_step_us(last_us, clock.pts_us) + round(frames * frame_us)
    return SoundPiece(
        demuxer="mpegts",
        content=body,
        pts_us=clock.pts_us,
        duration_us=exact_us
        if frames
        else min(clock.duration_us or segment.duration_us, segment.duration_us),
        frame_us=frame_us,
        wall_at=segment.wall_at,
    )


def _from_fragments(body: bytes, segment: Segment, *, init: bytes | None) -> SoundPiece:
    try:
        clock = read_fragment_clock(body, init=init)
        edit_us = edit_shift_us(body if init is None else init)
    except BoxesMalformed as error:
        raise NotMedia(f"fragmented MP4 of {len(body)} bytes: {error}") from error
    if clock is None:
        raise NotMedia(f"no sound in a body of {len(body)} bytes")
    return SoundPiece(
        demuxer="mov",
        content=body,
        init=init or b"",
        pts_us=clock.pts_us,
        duration_us=clock.duration_us or segment.duration_us,
        edit_us=edit_us,
        wall_at=segment.wall_at,
    )


def _from_frames(content: bytes, demuxer: Demuxer, segment: Segment, *, time_us: int | None) -> SoundPiece:
    frames, frame_us = _frames(content) if demuxer == "aac" else (0, 0.0)
    return SoundPiece(
        demuxer=demuxer,
        content=content,
        pts_us=time_us,
        duration_us=round(frames * frame_us) or segment.duration_us,
        frame_us=frame_us,
        wall_at=segment.wall_at,
    )


def _without_id3(body: bytes) -> tuple[bytes, int | None]:
    """Packed audio (RFC 8216, 3.4): the frames, and the time that the tags before them tell (microseconds)."""
    at, time_us = 0, None
    while body[at : at + 3] == b"ID3" and len(body) >= at + _ID3_HEADER_BYTES:
        a, b, c, d = (each & 0x7F for each in body[at + 6 : at + _ID3_HEADER_BYTES])
        end = at + _ID3_HEADER_BYTES + (a << 21 | b << 14 | c << 7 | d)
        _, name, rest = body[at:end].partition(_ID3_TIME)
        if name and len(rest) >= 8:
            time_us = int.from_bytes(rest[:8], "big") % 2**33 * _MICROSECONDS // _CLOCK_HZ
        at = end
    return body[at:], time_us


def _packed(content: bytes) -> Demuxer | None:
    if len(content) < _ADTS_HEADER_BYTES:
        return None
    if content[:2] == b"\x0b\x77":
        return "ac3"
    if content[0] != 0xFF:
        return None
    if content[1] & 0xF6 == 0xF0:
        return "aac"
    return "mp3" if content[1] & 0xE0 == 0xE0 else None


def _frames(content: bytes) -> tuple[int, float]:
    """How many frames of AAC there are (ADTS, ISO 14496-3, 1.A.2.2), and how long each is in microseconds."""
    at = count = 0
    frame_us = 0.0
    while at + _ADTS_HEADER_BYTES <= len(content) and _packed(content[at : at + _ADTS_HEADER_BYTES]) == "aac":
        rate = content[at + 2] >> 2 & 0x0F
        size = (content[at + 3] & 0x03) << 11 | content[at + 4] << 3 | content[at + 5] >> 5
        if rate >= len(_ADTS_RATES) or size < _ADTS_HEADER_BYTES:
            break
        frame_us = _AAC_FRAME_SAMPLES * _MICROSECONDS / _ADTS_RATES[rate]
        count += 1 + (content[at + 6] & 0x03)
        at += size
    return count, frame_us


# -- what belongs to a span ----------------------------------------------------------------------------


def name_of(segment: Segment) -> SoundName:
    """Same for the same sound within an epoch."""
    return segment.sequence, segment.identity


def plan_sound(
    playlist: MediaPlaylist,
    known: Mapping[SoundName, SoundPiece],
    span: Span,
    *,
    lost: Collection[SoundName] = (),
) -> SoundPlan:
    """What to do for a span; what is `lost` is not asked for any more.

    Where segments lie is estimated from the nearest one that is known, by its clock; else by their dates; else by
    their numbers.
    """
    segments = _of_same_run(playlist.segments, span)
    if not segments:
        return SoundPlan(is_all=playlist.ended)
    places = _places(segments, known, span)
    near = [
        (segment, at_us)
        for segment, at_us in zip(segments, places, strict=True)
        if at_us < span.length_us - _TOLERANCE_US and at_us + _length_us(segment, known) > _TOLERANCE_US
    ]
    missing = tuple(segment for segment, _ in near if name_of(segment) not in known)
    wanted = tuple(segment for segment in missing if name_of(segment) not in lost)
    placed = tuple(
        Placed(piece=known[name_of(segment)], at_us=at_us)
        for segment, at_us in near
        if name_of(segment) in known
    )
    end_us = places[-1] + _length_us(segments[-1], known)
    is_last = playlist.ended and bool(near) and near[-1][0] is segments[-1]
    is_covered = is_last or (bool(placed) and placed[-1].end_us >= span.length_us - _TOLERANCE_US)
    begins = bool(placed) and placed[0].at_us <= _SEAM_US
    return SoundPlan(
        placed=placed,
        wanted=wanted,
        has_lost=missing != wanted,
        is_whole=not missing and is_covered and begins,
        is_all=not wanted and (playlist.ended or end_us >= span.length_us),
    )


def cut_sound(placed: Sequence[Placed], span: Span) -> SoundCut | None:
    """Whole frames that begin within the span; None where there is nothing to cut."""
    fitting = _joinable(placed)
    if not fitting:
        return None
    first = fitting[0]
    piece = first.piece
    clock_us = 0 if piece.is_packed or piece.pts_us is None else piece.pts_us
    return SoundCut(
        demuxer=piece.demuxer,
        content=b"".join((piece.init, *(each.piece.content for each in fitting))),
        from_s=(_edge_us(0, fitting) - first.at_us) / _MICROSECONDS,
        to_s=(_edge_us(span.length_us, fitting) - first.at_us) / _MICROSECONDS,
        offset_us=clock_step_us(span.start_us + first.at_us, clock_us),
    )


def _joinable(placed: Sequence[Placed]) -> tuple[Placed, ...]:
    """Those that are one file when they follow each other; frames without times must be without a hole."""
    joined: list[Placed] = []
    for each in placed:
        last = joined[-1] if joined else each
        is_same = (last.piece.demuxer, last.piece.init) == (each.piece.demuxer, each.piece.init)
        has_hole = each is not last and each.piece.is_packed and abs(each.at_us - last.end_us) > _SEAM_US
        if not is_same or has_hole:
            break
        joined.append(each)
    return tuple(joined)


def _edge_us(edge_us: int, placed: Sequence[Placed]) -> float:
    """Half a frame before the first frame at or after an edge: both its sides find the same, however times are
    rounded. Where frames are not known, a little before the edge."""
    before = next((each for each in reversed(placed) if each.at_us <= edge_us + _TICK_US), None)
    if before is None or not before.piece.frame_us:
        return edge_us - _TICK_US / 2
    frames = ceil((edge_us - before.at_us - _TICK_US) / before.piece.frame_us)
    return before.at_us + (frames - 0.5) * before.piece.frame_us


def _of_same_run(segments: Sequence[Segment], span: Span) -> Sequence[Segment]:
    same = [each for each in segments if each.discontinuity_sequence == span.discontinuity_sequence]
    return same or segments


def _length_us(segment: Segment, known: Mapping[SoundName, SoundPiece]) -> int:
    piece = known.get(name_of(segment))
    return piece.duration_us if piece else segment.duration_us


def _places(
    segments: Sequence[Segment], known: Mapping[SoundName, SoundPiece], span: Span
) -> tuple[int, ...]:
    """Starts of the segments, counted from the start of the span."""
    listed_us = tuple(accumulate((each.duration_us for each in segments), initial=0))[:-1]
    read = {
        n: place_us
        for n, each in enumerate(segments)
        if name_of(each) in known and (place_us := _place_us(known[name_of(each)], span)) is not None
    }
    if read:
        near = min(read, key=lambda n: abs(read[n]))
        guess = (near, read[near])
    else:
        guess = _guess(segments, span)
    return tuple(
        read.get(n, guess[1] + start_us - listed_us[guess[0]]) for n, start_us in enumerate(listed_us)
    )


def _place_us(piece: SoundPiece, span: Span) -> int | None:
    """By the clocks; by the dates where there is no clock, or the clocks are not the same."""
    by_date = _apart_us(piece.wall_at, span.wall_at)
    if piece.pts_us is None:
        return by_date
    by_clock = clock_step_us(piece.pts_us - piece.edit_us, span.start_us - span.edit_us)
    if by_date is not None and abs(by_clock - by_date) > _CLOCKS_APART_US:
        return by_date
    return by_clock


def _guess(segments: Sequence[Segment], span: Span) -> tuple[int, int]:
    """The number in the list of one of them, and where it may lie."""
    dated = {
        n: apart_us
        for n, each in enumerate(segments)
        if (apart_us := _apart_us(each.wall_at, span.wall_at)) is not None
    }
    if dated:
        near = min(dated, key=lambda n: abs(dated[n]))
        return near, dated[near]
    same = (n for n, each in enumerate(segments) if each.sequence == span.sequence)
    return next(same, len(segments) - 1), 0


def _apart_us(wall_at: datetime | None, origin: datetime | None) -> int | None:
    if wall_at is None or origin is None:
        return None
    return round((wall_at - origin) / timedelta(microseconds=1))


class Seams:
    """Where one span ends and the next begins, told alike to both: the length of a last picture is an estimate.

    Keeps the last few.
    """

    def __init__(self, *, most: int = 64) -> None:
        self._most = most
        self._edges_us: dict[int, int] = {}

    def begin(self, span: Span) -> None:
        """As soon as a start is read, for it is worth more than an estimated end."""
        self._told(span.sequence, span.start_us)

    def settled(self, span: Span) -> Span:
        start_us = self._told(span.sequence, span.start_us)
        end_us = self._told(span.sequence + 1, span.start_us + span.length_us)
        return replace(span, start_us=start_us, length_us=clock_step_us(end_us, start_us))

    def _told(self, sequence: int, edge_us: int) -> int:
        known_us = self._edges_us.get(sequence)
        if known_us is None or abs(clock_step_us(known_us, edge_us)) > _SEAM_US:
            self._edges_us[sequence] = known_us = edge_us
        if len(self._edges_us) > self._most:
            del self._edges_us[next(iter(self._edges_us))]
        return known_us
